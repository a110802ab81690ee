//! `pegasus count-data`: how many rows a table has, and how large they are.

use super::sizes::{Sizes, Top, row_bytes};
use crate::connect::Connect;
use crate::filters::{Selection, passes};
use crate::output::{Output, Style, bytes, count, note, table};
use crate::progress::Progress;
use crate::text;
use crate::walk::{Met, RowKey, walk};
use clap::Args;
use pegasus_client::{FullScan, Row, Table};
use serde_json::json;
use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

#[derive(Debug, Args)]
#[command(after_help = "\
Without --sizes, --hash-keys, --top and filters on values the servers count and no row leaves them. Rows written meanwhile
may or may not be counted.

Examples:
  pegasus count-data demo
  pegasus count-data demo --sizes --hash-keys --top 10
  pegasus count-data demo --partition 0 --sizes          a sample of a large table")]
pub(crate) struct CountData {
    /// Name of the table
    table: String,
    #[command(flatten)]
    selection: Selection,
    /// How large keys and values are
    #[arg(long)]
    sizes: bool,
    /// Count hash keys, too
    #[arg(long)]
    hash_keys: bool,
    /// The largest rows; with --hash-keys also the hash keys of most rows
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=10_000))]
    top: u32,
    /// Stop after this time
    #[arg(long, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    seconds: Option<u64>,
}

/// What is known of the rows so far.
struct Tally {
    rows: u64,
    bytes: u64,
    hash_keys: u64,
    sizes: Sizes,
    largest: Top<RowKey>,
    crowded: Top<Vec<u8>>,
    /// The hash key that each partition is at, and how many rows of it have passed.
    open: HashMap<u32, (Vec<u8>, u64)>,
}

pub(crate) async fn run(
    options: &CountData,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let table = connect.table(&options.table).await?;
    let tally = RefCell::new(Tally::new(options.top as usize));
    let counting = async {
        match options.looks_at_rows() {
            true => look(options, &table, &tally).await,
            false => ask(options, &table, &tally).await,
        }
    };
    let limit = options.seconds.map_or(Duration::MAX, Duration::from_secs);
    let is_complete = match tokio::time::timeout(limit, counting).await {
        Ok(counted) => counted.map(|()| true)?,
        Err(_) => false,
    };
    tell(options, tally.into_inner(), is_complete, out)
}

impl CountData {
    fn looks_at_rows(&self) -> bool {
        let filters = self.selection.value();
        self.sizes || self.hash_keys || self.top > 0 || !matches!(filters, Ok(None))
    }
}

/// The servers count.
async fn ask(options: &CountData, table: &Table, tally: &RefCell<Tally>) -> anyhow::Result<()> {
    let scan: FullScan = options.selection.scan(true)?;
    let progress = Progress::new("counted", None);
    for partition in options.selection.partitions(table)? {
        let rows = table.partition_count_rows(partition, &scan).await?;
        let mut tally = tally.borrow_mut();
        tally.rows += rows;
        progress.update(tally.rows, 0);
    }
    progress.finish();
    Ok(())
}

/// Rows are looked at here.
async fn look(options: &CountData, table: &Table, tally: &RefCell<Tally>) -> anyhow::Result<()> {
    let filter = options.selection.value()?;
    let needs_values = filter.is_some() || options.sizes || options.top > 0;
    let scan = options.selection.scan(!needs_values)?;
    let progress = Progress::new("counted", None);
    let each = async |partition, met| {
        let mut tally = tally.borrow_mut();
        match met {
            Met::Rows(rows) => {
                let rows = rows.iter().filter(|row| passes(row, filter.as_ref()));
                rows.for_each(|row| tally.add(partition, row));
            }
            Met::End => tally.end(partition),
        }
        progress.update(tally.rows, tally.bytes);
        Ok(())
    };
    let partitions = options.selection.partitions(table)?;
    walk(table, partitions, &scan, |_| None, each).await?;
    progress.finish();
    Ok(())
}

impl Tally {
    fn new(top: usize) -> Self {
        Self {
            rows: 0,
            bytes: 0,
            hash_keys: 0,
            sizes: Sizes::new(),
            largest: Top::new(top),
            crowded: Top::new(top),
            open: HashMap::new(),
        }
    }

    fn add(&mut self, partition: u32, row: &Row) {
        self.rows += 1;
        let bytes = row_bytes(row) as u64;
        self.bytes += bytes;
        self.sizes.add(row);
        let key = || (row.hash_key.to_vec(), row.sort_key.to_vec());
        self.largest.add(bytes, key);
        match self.open.get_mut(&partition) {
            Some((hash_key, rows)) if hash_key[..] == row.hash_key[..] => *rows += 1,
            _ => {
                self.end(partition);
                self.hash_keys += 1;
                self.open.insert(partition, (row.hash_key.to_vec(), 1));
            }
        }
    }

    /// The hash key that the partition is at has no more rows.
    fn end(&mut self, partition: u32) {
        if let Some((hash_key, rows)) = self.open.remove(&partition) {
            self.crowded.add(rows, || hash_key);
        }
    }
}

fn tell(
    options: &CountData,
    mut tally: Tally,
    is_complete: bool,
    out: &mut Output,
) -> anyhow::Result<()> {
    let open: Vec<u32> = tally.open.keys().copied().collect();
    open.into_iter().for_each(|partition| tally.end(partition));
    match out.style {
        Style::Json => tell_json(options, tally, is_complete, out)?,
        Style::People => tell_people(options, tally, out)?,
    }
    if !is_complete {
        note("stopped by --seconds: there are more");
    }
    Ok(())
}

fn tell_json(
    options: &CountData,
    tally: Tally,
    is_complete: bool,
    out: &mut Output,
) -> anyhow::Result<()> {
    let mut shown = json!({ "rows": tally.rows, "complete": is_complete });
    if options.hash_keys {
        shown["hash_keys"] = json!(tally.hash_keys);
    }
    if options.sizes {
        shown["sizes"] = tally.sizes.json();
    }
    if options.top > 0 {
        let largest = tally.largest.sorted().into_iter();
        let row = |(bytes, (hash_key, sort_key)): (u64, RowKey)| {
            json!({
                "bytes": bytes,
                "hash_key": text::to_json(&hash_key), "sort_key": text::to_json(&sort_key),
            })
        };
        shown["largest_rows"] = largest.map(row).collect();
    }
    if options.top > 0 && options.hash_keys {
        let crowded = tally.crowded.sorted().into_iter();
        let key = |(rows, hash_key): (u64, Vec<u8>)| json!({ "rows": rows, "hash_key": text::to_json(&hash_key) });
        shown["hash_keys_of_most_rows"] = crowded.map(key).collect();
    }
    out.json(&shown)
}

fn tell_people(options: &CountData, tally: Tally, out: &mut Output) -> anyhow::Result<()> {
    out.line(format!("rows: {}", count(tally.rows)))?;
    if options.hash_keys {
        out.line(format!("hash keys: {}", count(tally.hash_keys)))?;
    }
    if options.sizes {
        out.table(&tally.sizes.table())?;
    }
    if options.top > 0 {
        let mut rows = table(&["largest rows", "hash key", "sort key"], &[0]);
        for (size, (hash_key, sort_key)) in tally.largest.sorted() {
            let key = |key: &[u8]| text::escape_short(key, 60);
            rows.add_row([bytes(size), key(&hash_key), key(&sort_key)]);
        }
        out.table(&rows)?;
    }
    if options.top > 0 && options.hash_keys {
        let mut rows = table(&["most rows", "hash key"], &[0]);
        for (number, hash_key) in tally.crowded.sorted() {
            rows.add_row([count(number), text::escape_short(&hash_key, 60)]);
        }
        out.table(&rows)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_keys_are_counted_once_each_also_when_pages_of_partitions_mix() {
        let row = |hash_key: &'static str, sort_key: &'static str| Row {
            hash_key: hash_key.into(),
            sort_key: sort_key.into(),
            ..Row::default()
        };
        let mut tally = Tally::new(2);
        tally.add(0, &row("a", "1"));
        tally.add(1, &row("b", "1"));
        tally.add(0, &row("a", "2"));
        tally.add(0, &row("c", "1"));
        tally.add(1, &row("b", "2"));
        tally.add(1, &row("b", "3"));
        tally.end(0);
        tally.end(1);
        assert_eq!((tally.rows, tally.hash_keys), (6, 3));
        let crowded = tally.crowded.sorted();
        assert_eq!(crowded, [(3, b"b".to_vec()), (2, b"a".to_vec())]);
    }
}

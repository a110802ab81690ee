//! `pegasus scan`: the rows of one hash key in the order of their sort keys, or those of a whole table.

use crate::connect::Connect;
use crate::filters::{Between, HashFilter, SortFilter, ValueFilter, check_partition, passes};
use crate::output::{Output, Style, count, note};
use crate::rows::{argument_bytes, row_json, seconds_left};
use crate::text;
use clap::Args;
use pegasus_client::{FullScan, HashScan, Row, Scanner};
use std::ffi::OsString;
use std::time::SystemTime;

#[derive(Debug, Args)]
#[command(after_help = "\
A line is: hash key, sort key, value, between tabs, with C-style escapes (a tab inside a key is \\t).
With --json each row is one JSON object on a line of its own. Without --limit the first 1000 rows are printed;
the end says if there are more.

Examples:
  pegasus scan demo user-1                          all rows of the hash key user-1
  pegasus scan demo user-1 --from 2026-01 --to 2026-02
  pegasus scan demo --hash-prefix user- --no-value  keys of the whole table that start so
  pegasus scan demo --count                         how many rows there are")]
pub(crate) struct Scan {
    /// Name of the table
    table: String,
    /// Only this hash key [default: the whole table, partition by partition]
    #[arg(allow_negative_numbers = true, conflicts_with_all = ["HashFilter", "partition"])]
    hash_key: Option<OsString>,
    #[command(flatten)]
    between: Between,
    #[command(flatten)]
    hash_filter: HashFilter,
    #[command(flatten)]
    sort_filter: SortFilter,
    #[command(flatten)]
    value_filter: ValueFilter,
    /// Only this partition, from 0
    #[arg(long, value_name = "INDEX")]
    partition: Option<u32>,
    /// Stop after this many rows; 0 = no limit [default: 1000; with --count no limit]
    #[arg(long, value_name = "ROWS", allow_negative_numbers = true)]
    limit: Option<u64>,
    /// Print keys only
    #[arg(long)]
    no_value: bool,
    /// Print sizes and times to live too
    #[arg(long, conflicts_with_all = ["count", "json"])]
    detailed: bool,
    /// Print only how many rows there are
    #[arg(long)]
    count: bool,
    /// Keys and patterns are written with C-style escapes: \\ \t \n \r \0 \xHH
    #[arg(long, short)]
    escaped: bool,
}

pub(crate) async fn run(scan: &Scan, connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    let table = connect.table(&scan.table).await?;
    let mut scanner = match (&scan.hash_key, scan.partition) {
        (Some(hash_key), _) => table.hash_scan(
            &argument_bytes(hash_key, scan.escaped)?,
            &scan.hash_options()?,
        )?,
        (None, None) => table.full_scan(&scan.full_options()?),
        (None, Some(partition)) => {
            check_partition(&table, partition)?;
            table.partition_scan(partition, &scan.full_options()?)
        }
    };
    let (rows, more) = print_rows(scan, &mut scanner, out).await?;
    match (out.style, scan.count) {
        (Style::Json, true) => out.json(&serde_json::json!({ "count": rows, "more": more }))?,
        (Style::People, true) => out.line(rows.to_string())?,
        (Style::People, false) => out.flush()?,
        (Style::Json, false) => {}
    }
    if more {
        note(format!(
            "stopped after {} rows, there are more; --limit 0 has no limit",
            count(rows)
        ));
    }
    Ok(())
}

/// How many rows passed, and whether the limit cut the rest.
async fn print_rows(
    scan: &Scan,
    scanner: &mut Scanner,
    out: &mut Output,
) -> anyhow::Result<(u64, bool)> {
    let limit = match scan.limit {
        Some(0) => u64::MAX,
        Some(limit) => limit,
        None if scan.count => u64::MAX,
        None => 1000,
    };
    let value_filter = scan.value_filter.pattern(scan.escaped)?;
    let shape = Shape {
        no_value: scan.no_value,
        detailed: scan.detailed,
    };
    let mut rows = 0;
    while let Some(row) = scanner.next().await.transpose()? {
        if !passes(&row, value_filter.as_ref()) {
            continue;
        }
        if rows == limit {
            return Ok((rows, true));
        }
        rows += 1;
        if !scan.count {
            print_row(&row, shape, out)?;
        }
    }
    Ok((rows, false))
}

/// How a row is shown.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shape {
    pub(crate) no_value: bool,
    /// Sizes and times to live behind each row.
    pub(crate) detailed: bool,
}

/// Hash key, sort key and value between tabs, or a JSON object on a line.
pub(crate) fn print_row(row: &Row, shape: Shape, out: &mut Output) -> anyhow::Result<()> {
    match (out.style, shape.no_value) {
        (Style::Json, false) => out.json_line(&row_json(row)),
        (Style::Json, true) => out.json_line(&serde_json::json!({
            "hash_key": text::to_json(&row.hash_key), "sort_key": text::to_json(&row.sort_key),
        })),
        (Style::People, no_value) => {
            let mut line = format!(
                "{}\t{}",
                out.escape(&row.hash_key),
                out.escape(&row.sort_key)
            );
            if !no_value {
                line.push('\t');
                line.push_str(&out.escape(&row.value));
            }
            if shape.detailed {
                line.push_str(&detail(row));
            }
            Ok(out.line(line)?)
        }
    }
}

/// `\t(hash key 6, sort key 4, value 3 bytes; 59 s left)`
fn detail(row: &Row) -> String {
    let (hash_key, sort_key) = (row.hash_key.len(), row.sort_key.len());
    let value = row.value.len();
    let expiry = match row.expires() {
        None => "never expires".to_owned(),
        Some(at) => format!("{} s left", seconds_left(at, SystemTime::now())),
    };
    format!("\t(hash key {hash_key}, sort key {sort_key}, value {value} bytes; {expiry})")
}

impl Scan {
    fn hash_options(&self) -> anyhow::Result<HashScan> {
        Ok(HashScan {
            range: self.between.range(self.escaped)?,
            filter: self.sort_filter.pattern(self.escaped)?,
            no_value: self.without_values(),
            ..HashScan::default()
        })
    }

    fn full_options(&self) -> anyhow::Result<FullScan> {
        Ok(FullScan {
            hash_filter: self.hash_filter.pattern(self.escaped)?,
            sort_filter: self.sort_filter.pattern(self.escaped)?,
            no_value: self.without_values(),
            ..FullScan::default()
        })
    }

    /// Values that are not shown are fetched only to be filtered, or measured.
    fn without_values(&self) -> bool {
        (self.no_value || self.count) && self.value_filter.is_empty() && !self.detailed
    }
}

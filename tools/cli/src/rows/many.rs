//! `pegasus multi-set|multi-get|multi-del|del-range|count`: rows of one hash key together.

use super::{TTL_SECONDS_MAX, argument_bytes};
use crate::confirm::confirm;
use crate::connect::Connect;
use crate::exit::Failed;
use crate::filters::{Between, HashFilter, SortFilter, ValueFilter, check_partition, passes};
use crate::output::{Output, Style, count as shown, note};
use crate::scan::{Shape, print_row};
use crate::text;
use clap::Args;
use pegasus_client::{FullScan, HashScan, MultiGet, Row, Scanner, Table};
use serde_json::json;
use std::ffi::OsString;
use std::time::Duration;

#[derive(Debug, Args)]
#[command(after_help = "\
All rows are written or none.

Examples:
  pegasus multi-set demo user-1 name Ada city London
  pegasus multi-set demo user-1 token 8f14 code 45f --ttl 3600")]
pub(crate) struct MultiSet {
    /// Name of the table
    table: String,
    /// The hash key, which decides where the rows live
    #[arg(allow_negative_numbers = true)]
    hash_key: OsString,
    /// Sort key and value of each row
    #[arg(
        required = true,
        value_name = "SORT_KEY VALUE",
        allow_negative_numbers = true
    )]
    rows: Vec<OsString>,
    /// Seconds until the rows expire [default: never]
    #[arg(long, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=TTL_SECONDS_MAX))]
    ttl: Option<u32>,
    /// Keys and values are written with C-style escapes: \\ \t \n \r \0 \xHH
    #[arg(long, short)]
    escaped: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
With one request, which reads 3,000 rows at most; `scan` reads any number.

Examples:
  pegasus multi-get demo user-1                       all rows of the hash key
  pegasus multi-get demo user-1 name city             these
  pegasus multi-get demo user-1 --from a --to b --no-value
  pegasus multi-get demo log-7 --reverse --limit 10   the last ten")]
pub(crate) struct MultiGetArgs {
    /// Name of the table
    table: String,
    /// The hash key, which decides where the rows live
    #[arg(allow_negative_numbers = true)]
    hash_key: OsString,
    /// Only these rows [default: all]
    #[arg(value_name = "SORT_KEY", allow_negative_numbers = true)]
    sort_keys: Vec<OsString>,
    #[command(flatten)]
    between: Between,
    #[command(flatten)]
    sort_filter: SortFilter,
    /// At most so many rows
    #[arg(long, value_name = "ROWS")]
    limit: Option<u32>,
    /// Keep the last rows instead of the first if not all are read
    #[arg(long)]
    reverse: bool,
    /// Print keys only
    #[arg(long)]
    no_value: bool,
    /// Keys and patterns are written with C-style escapes: \\ \t \n \r \0 \xHH
    #[arg(long, short)]
    escaped: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
All of them are deleted, or none. Rows that do not exist are no error.

Examples:
  pegasus multi-del demo user-1 name city")]
pub(crate) struct MultiDel {
    /// Name of the table
    table: String,
    /// The hash key, which decides where the rows live
    #[arg(allow_negative_numbers = true)]
    hash_key: OsString,
    /// The rows
    #[arg(
        required = true,
        value_name = "SORT_KEY",
        allow_negative_numbers = true
    )]
    sort_keys: Vec<OsString>,
    /// Keys are written with C-style escapes: \\ \t \n \r \0 \xHH
    #[arg(long, short)]
    escaped: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Rows are found and deleted a hundred at a time: who reads meanwhile may see some of them. Without a range and a filter,
which deletes the whole hash key, it asks.

Examples:
  pegasus del-range demo log-7 --to 2026-01
  pegasus del-range demo user-1 --sort-prefix tmp- 
  pegasus del-range demo user-1 --yes                 all its rows")]
pub(crate) struct DelRange {
    /// Name of the table
    table: String,
    /// The hash key, which decides where the rows live
    #[arg(allow_negative_numbers = true)]
    hash_key: OsString,
    #[command(flatten)]
    between: Between,
    #[command(flatten)]
    sort_filter: SortFilter,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Keys and patterns are written with C-style escapes: \\ \t \n \r \0 \xHH
    #[arg(long, short)]
    escaped: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pegasus count demo user-1                           rows of a hash key
  pegasus count demo                                  rows of the table, counted by the servers
  pegasus count demo --hash-prefix user-")]
pub(crate) struct Count {
    /// Name of the table
    table: String,
    /// Only this hash key [default: the whole table]
    #[arg(allow_negative_numbers = true, conflicts_with_all = ["HashFilter", "partition"])]
    hash_key: Option<OsString>,
    #[command(flatten)]
    hash_filter: HashFilter,
    #[command(flatten)]
    sort_filter: SortFilter,
    #[command(flatten)]
    value_filter: ValueFilter,
    /// Only this partition, from 0
    #[arg(long, value_name = "INDEX")]
    partition: Option<u32>,
    /// Keys and patterns are written with C-style escapes: \\ \t \n \r \0 \xHH
    #[arg(long, short)]
    escaped: bool,
}

pub(crate) async fn multi_set(
    options: &MultiSet,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let bytes = |argument: &OsString| argument_bytes(argument, options.escaped);
    let (pairs, rest) = options.rows.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Failed::usage("a value is missing for the last sort key"));
    }
    let pairs = pairs.iter();
    let rows = pairs
        .map(|[key, value]| Ok((bytes(key)?, bytes(value)?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let hash_key = bytes(&options.hash_key)?;
    let table = connect.table(&options.table).await?;
    match options.ttl {
        None => table.multi_put(&hash_key, &rows).await?,
        Some(seconds) => {
            let ttl = Duration::from_secs(seconds.into());
            table.multi_put_with_ttl(&hash_key, &rows, ttl).await?;
        }
    }
    tell("written", rows.len() as u64, &hash_key, out)
}

pub(crate) async fn multi_get(
    options: &MultiGetArgs,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let escaped = options.escaped;
    let keys = options.sort_keys.iter();
    let keys = keys.map(|key| Ok(argument_bytes(key, escaped)?.into()));
    let wanted = MultiGet {
        sort_keys: keys.collect::<anyhow::Result<_>>()?,
        range: options.between.range(escaped)?,
        filter: options.sort_filter.pattern(escaped)?,
        reverse: options.reverse,
        no_value: options.no_value,
        max_rows: options.limit.unwrap_or(0),
        max_bytes: 0,
    };
    let hash_key = argument_bytes(&options.hash_key, escaped)?;
    let table = connect.table(&options.table).await?;
    let found = table.multi_get(&hash_key, &wanted).await?;
    let shape = Shape {
        no_value: options.no_value,
        detailed: false,
    };
    let count = found.rows.len();
    for row in found.rows {
        let row = Row {
            hash_key: hash_key.clone().into(),
            ..row
        };
        print_row(&row, shape, out)?;
    }
    let more = if found.complete {
        ""
    } else {
        ", and there may be more"
    };
    if out.style == Style::People || !found.complete {
        note(format!("{} rows{more}", shown(count as u64)));
    }
    Ok(())
}

pub(crate) async fn multi_del(
    options: &MultiDel,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let keys = options.sort_keys.iter();
    let keys = keys.map(|key| argument_bytes(key, options.escaped));
    let keys = keys.collect::<anyhow::Result<Vec<_>>>()?;
    let hash_key = argument_bytes(&options.hash_key, options.escaped)?;
    let table = connect.table(&options.table).await?;
    let named = table.multi_remove(&hash_key, &keys).await?;
    tell("removed", named, &hash_key, out)
}

pub(crate) async fn del_range(
    options: &DelRange,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let filter = options.sort_filter.pattern(options.escaped)?;
    let hash_key = argument_bytes(&options.hash_key, options.escaped)?;
    if options.between.is_all() && filter.is_none() && !options.yes {
        let (key, table) = (text::escape_short(&hash_key, 100), &options.table);
        confirm(&format!(
            "Delete all rows of hash key '{key}' of table {table}?"
        ))?;
    }
    let wanted = HashScan {
        range: options.between.range(options.escaped)?,
        filter,
        no_value: true,
        ..HashScan::default()
    };
    let table = connect.table(&options.table).await?;
    let mut scanner = table.hash_scan(&hash_key, &wanted)?;
    let mut removed = 0;
    while let Some(page) = scanner.next_page().await.transpose()? {
        removed += remove_all(&table, &hash_key, &page).await?;
    }
    tell("removed", removed, &hash_key, out)
}

/// Removes rows of one hash key, a hundred with each request; how many.
pub(crate) async fn remove_all(
    table: &Table,
    hash_key: &[u8],
    rows: &[Row],
) -> pegasus_client::Result<u64> {
    const AT_ONCE: usize = 100;
    if hash_key.is_empty() {
        // Without a hash key each row lives on its own.
        for row in rows {
            table.remove(hash_key, &row.sort_key).await?;
        }
        return Ok(rows.len() as u64);
    }
    let mut removed = 0;
    for some in rows.chunks(AT_ONCE) {
        let keys: Vec<_> = some.iter().map(|row| row.sort_key.clone()).collect();
        removed += table.multi_remove(hash_key, &keys).await?;
    }
    Ok(removed)
}

pub(crate) async fn count(
    options: &Count,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let table = connect.table(&options.table).await?;
    if let Some(partition) = options.partition {
        check_partition(&table, partition)?;
    }
    let rows = match &options.hash_key {
        Some(hash_key) => {
            let hash_key = argument_bytes(hash_key, options.escaped)?;
            count_of_hash_key(options, &hash_key, &table).await?
        }
        None => count_of_table(options, &table).await?,
    };
    match out.style {
        Style::Json => out.json(&json!({ "count": rows })),
        Style::People => Ok(out.line(rows.to_string())?),
    }
}

async fn count_of_hash_key(options: &Count, hash_key: &[u8], table: &Table) -> anyhow::Result<u64> {
    let filter = options.sort_filter.pattern(options.escaped)?;
    if filter.is_none() && options.value_filter.is_empty() {
        return Ok(table.sortkey_count(hash_key).await?);
    }
    let wanted = HashScan {
        filter,
        no_value: options.value_filter.is_empty(),
        ..HashScan::default()
    };
    count_here(options, table.hash_scan(hash_key, &wanted)?).await
}

async fn count_of_table(options: &Count, table: &Table) -> anyhow::Result<u64> {
    let wanted = FullScan {
        hash_filter: options.hash_filter.pattern(options.escaped)?,
        sort_filter: options.sort_filter.pattern(options.escaped)?,
        ..FullScan::default()
    };
    match (options.value_filter.is_empty(), options.partition) {
        (true, None) => Ok(table.count(&wanted).await?),
        (true, Some(partition)) => Ok(table.partition_count_rows(partition, &wanted).await?),
        (false, None) => count_here(options, table.full_scan(&wanted)).await,
        (false, Some(partition)) => {
            count_here(options, table.partition_scan(partition, &wanted)).await
        }
    }
}

/// Of rows whose values have to be looked at.
async fn count_here(options: &Count, mut scanner: Scanner) -> anyhow::Result<u64> {
    let filter = options.value_filter.pattern(options.escaped)?;
    let mut rows = 0;
    while let Some(page) = scanner.next_page().await.transpose()? {
        rows += page
            .iter()
            .filter(|row| passes(row, filter.as_ref()))
            .count() as u64;
    }
    Ok(rows)
}

fn tell(what: &str, rows: u64, hash_key: &[u8], out: &mut Output) -> anyhow::Result<()> {
    match out.style {
        Style::Json => out.json(&json!({ "hash_key": text::to_json(hash_key), what: rows })),
        Style::People => Ok(out.line(format!("{what}: {} rows", shown(rows)))?),
    }
}

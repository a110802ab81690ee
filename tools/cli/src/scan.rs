//! `pegasus scan`: the rows of one hash key in the order of their sort keys, or those of a whole table.

use crate::connect::Connect;
use crate::output::{Output, Style, count, note};
use crate::rows::{argument_bytes, row_json};
use crate::text;
use clap::Args;
use pegasus_client::{FullScan, HashScan, Pattern, Row, Scanner, SortKeyRange};
use std::ffi::OsString;

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
    #[arg(allow_negative_numbers = true)]
    hash_key: Option<OsString>,
    /// Sort keys from this one on (it included)
    #[arg(long, value_name = "SORT_KEY", requires = "hash_key")]
    from: Option<OsString>,
    /// Sort keys up to this one (it not included)
    #[arg(long, value_name = "SORT_KEY", requires = "hash_key")]
    to: Option<OsString>,
    #[command(flatten)]
    hash_filter: HashFilter,
    #[command(flatten)]
    sort_filter: SortFilter,
    /// Stop after this many rows; 0 = no limit [default: 1000; with --count no limit]
    #[arg(long, value_name = "ROWS", allow_negative_numbers = true)]
    limit: Option<u64>,
    /// Print keys only
    #[arg(long)]
    no_value: bool,
    /// Print only how many rows there are
    #[arg(long)]
    count: bool,
    /// Keys and patterns are written with C-style escapes: \\ \t \n \r \0 \xHH
    #[arg(long, short)]
    escaped: bool,
}

#[derive(Debug, Args)]
#[group(multiple = false, conflicts_with = "hash_key")]
struct HashFilter {
    /// Only hash keys that start with this
    #[arg(long, value_name = "TEXT")]
    hash_prefix: Option<OsString>,
    /// Only hash keys that end with this
    #[arg(long, value_name = "TEXT")]
    hash_postfix: Option<OsString>,
    /// Only hash keys that contain this
    #[arg(long, value_name = "TEXT")]
    hash_contains: Option<OsString>,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct SortFilter {
    /// Only sort keys that start with this
    #[arg(long, value_name = "TEXT")]
    sort_prefix: Option<OsString>,
    /// Only sort keys that end with this
    #[arg(long, value_name = "TEXT")]
    sort_postfix: Option<OsString>,
    /// Only sort keys that contain this
    #[arg(long, value_name = "TEXT")]
    sort_contains: Option<OsString>,
}

pub(crate) async fn run(scan: &Scan, connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    let table = connect.table(&scan.table).await?;
    let mut scanner = match &scan.hash_key {
        Some(hash_key) => table.hash_scan(
            &argument_bytes(hash_key, scan.escaped)?,
            &scan.hash_options()?,
        )?,
        None => table.full_scan(&scan.full_options()?),
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
    let mut rows = 0;
    while let Some(row) = scanner.next().await.transpose()? {
        if rows == limit {
            return Ok((rows, true));
        }
        rows += 1;
        if !scan.count {
            print(scan, &row, out)?;
        }
    }
    Ok((rows, false))
}

fn print(scan: &Scan, row: &Row, out: &mut Output) -> anyhow::Result<()> {
    match (out.style, scan.no_value) {
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
            Ok(out.line(line)?)
        }
    }
}

impl Scan {
    fn hash_options(&self) -> anyhow::Result<HashScan> {
        Ok(HashScan {
            range: SortKeyRange {
                start: self.bytes(self.from.as_ref())?.into(),
                stop: self.bytes(self.to.as_ref())?.into(),
                ..SortKeyRange::default()
            },
            filter: self.sort_pattern()?,
            no_value: self.without_values(),
            ..HashScan::default()
        })
    }

    fn full_options(&self) -> anyhow::Result<FullScan> {
        let filter = &self.hash_filter;
        Ok(FullScan {
            hash_filter: self.pattern(
                &filter.hash_prefix,
                &filter.hash_postfix,
                &filter.hash_contains,
            )?,
            sort_filter: self.sort_pattern()?,
            no_value: self.without_values(),
            ..FullScan::default()
        })
    }

    fn without_values(&self) -> bool {
        self.no_value || self.count
    }

    fn sort_pattern(&self) -> anyhow::Result<Option<Pattern>> {
        let filter = &self.sort_filter;
        self.pattern(
            &filter.sort_prefix,
            &filter.sort_postfix,
            &filter.sort_contains,
        )
    }

    /// At most one of them is given.
    fn pattern(
        &self,
        prefix: &Option<OsString>,
        postfix: &Option<OsString>,
        contains: &Option<OsString>,
    ) -> anyhow::Result<Option<Pattern>> {
        Ok(match (prefix, postfix, contains) {
            (Some(text), _, _) => Some(Pattern::prefix(self.bytes(Some(text))?)),
            (_, Some(text), _) => Some(Pattern::postfix(self.bytes(Some(text))?)),
            (_, _, Some(text)) => Some(Pattern::anywhere(self.bytes(Some(text))?)),
            (None, None, None) => None,
        })
    }

    fn bytes(&self, argument: Option<&OsString>) -> anyhow::Result<Vec<u8>> {
        argument.map_or(Ok(Vec::new()), |argument| {
            argument_bytes(argument, self.escaped)
        })
    }
}

//! `pegasus hotkeys`: the keys and the partitions that clients ask for most, as the cores themselves know them.
//!
//! Reading order: this file; `rank` turns what cores say into rows.

pub(crate) mod rank;

use crate::connect::Connect;
use crate::cores::source::{Places, Where};
use crate::exit::{Exit, Failed};
use crate::output::{Output, Style, note, rate, wide_table};
use clap::Args;
use rank::{HotKeyRow, HotPartition};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Between the two readings of the partitions' counters.
const INTERVAL: Duration = Duration::from_secs(1);
/// Letters of a key in a table; JSON has what the cores keep.
pub(crate) const KEY_LETTERS_MAX: usize = 48;

#[derive(Debug, Args)]
pub(crate) struct HotKeys {
    /// Only keys and partitions of this table
    #[arg(long, value_name = "TABLE")]
    table: Option<String>,
    /// Show so many of each, 1 to 1000
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    top: u16,
    /// Only what the cores of this node are asked for
    #[arg(long, value_name = "NUMBER")]
    node: Option<u32>,
}

/// All of it in JSON.
#[derive(Debug, Serialize)]
struct Report {
    keys: Vec<HotKeyRow>,
    partitions: Vec<HotPartition>,
    /// Cores that gave no answer, and why.
    silent: Vec<String>,
}

pub(crate) async fn run(
    options: &HotKeys,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let places = Places::find(&Where::auto(), connect, options.node).await?;
    let Some(client) = places.client() else {
        return Err(Failed::usage("hot keys are asked from running nodes"));
    };
    let tables: BTreeMap<u32, String> = client
        .list_tables()
        .await?
        .into_iter()
        .map(|table| (table.table_id, table.name))
        .collect();
    if let Some(name) = &options.table
        && !tables.values().any(|it| it == name)
    {
        let known: Vec<&str> = tables.values().map(String::as_str).collect();
        let message = format!(
            "table {name}: no such table; there are: {}",
            known.join(", ")
        );
        return Err(Failed::error(Exit::NotFound, message));
    }
    let (earlier, _) = places.read().await;
    tokio::time::sleep(INTERVAL).await;
    let (now, _) = places.read().await;
    let (told, silent) = rank::ask(client, places.nodes()).await;
    let is_wanted = |table: &str| options.table.as_deref().is_none_or(|only| only == table);
    let top = usize::from(options.top);
    let mut keys = rank::keys(&told, &tables);
    keys.retain(|row| is_wanted(&row.table));
    keys.truncate(top);
    let mut partitions = rank::partitions(&earlier, &now, &tables);
    partitions.retain(|row| is_wanted(&row.table));
    partitions.truncate(top);
    let report = Report {
        keys,
        partitions,
        silent,
    };
    match out.style {
        Style::Json => out.json(&report),
        Style::People => show(&report, out),
    }
}

fn show(report: &Report, out: &mut Output) -> anyhow::Result<()> {
    for silent in &report.silent {
        note(format!("pegasus: {silent}"));
    }
    if report.keys.is_empty() {
        out.line("no key stands out in the last half minute")?;
    } else {
        let header = [
            "table.partition",
            "core",
            "kind",
            "requests/s",
            "of the core's",
            "key",
        ];
        let mut rows = wide_table(&header, &[3, 4]);
        for row in &report.keys {
            rows.add_row([
                format!("{}.{}", row.table, row.partition),
                row.core.clone(),
                row.kind.to_owned(),
                rate(row.per_second),
                format!("{:.1} % of {}s", row.share * 100.0, row.kind),
                row.shown(KEY_LETTERS_MAX),
            ]);
        }
        out.table(&rows)?;
    }
    if report.partitions.is_empty() {
        return Ok(out.line("no requests in the last second")?);
    }
    let header = [
        "table.partition",
        "core",
        "requests/s",
        "reads/s",
        "writes/s",
        "of its table",
        "x mean",
        "of its core",
    ];
    let mut rows = wide_table(&header, &[2, 3, 4, 5, 6, 7]);
    for row in &report.partitions {
        rows.add_row([
            format!("{}.{}", row.table, row.partition),
            row.core.clone(),
            rate(row.requests_per_second),
            rate(row.reads_per_second),
            rate(row.writes_per_second),
            format!("{:.1} %", row.share_of_table * 100.0),
            format!("{:.1}", row.times_mean),
            format!("{:.1} %", row.share_of_core * 100.0),
        ]);
    }
    Ok(out.table(&rows)?)
}

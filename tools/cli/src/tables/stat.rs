//! `pegasus table stat`: what tables are asked for, or the partitions of one.

use crate::connect::Connect;
use crate::cores::source::{Places, Reading, Where};
use crate::exit::{Exit, Failed};
use crate::output::{Output, Style, bytes_short, note, rate, wide_table};
use clap::Args;
use pegasus_fbs::stats_page::{PartitionCounter, PartitionStats};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Debug, Args)]
pub(crate) struct Stat {
    /// By partition, of this table [default: of all tables]
    #[arg(value_name = "TABLE")]
    name: Option<String>,
    /// Seconds between the two readings
    #[arg(long, value_name = "SECONDS", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
}

/// A second's worth of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
struct Rates {
    reads: f64,
    writes: f64,
    failures: f64,
    throttled: f64,
    rows_read: f64,
    rows_written: f64,
    bytes_read: f64,
    bytes_written: f64,
}

/// A table, or a partition of it.
type Which = (u32, Option<u32>);

pub(super) async fn run(options: &Stat, connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    let places = Places::find(&Where::auto(), connect, None).await?;
    let tables = connect.client().await?.list_tables().await?;
    let names: BTreeMap<u32, String> =
        (tables.into_iter().map(|it| (it.table_id, it.name))).collect();
    let only = match &options.name {
        None => None,
        Some(name) => Some(number(&names, name)?),
    };
    let (earlier, _) = places.read().await;
    tokio::time::sleep(Duration::from_secs(options.interval)).await;
    let (now, problems) = places.read().await;
    for problem in problems.iter().take(5) {
        note(format!("pegasus: {problem}"));
    }
    let rates = sum(&earlier, &now, only);
    match out.style {
        Style::Json => out.json(&shown_json(&rates, &names)),
        Style::People => show(&rates, &names, out),
    }
}

fn number(names: &BTreeMap<u32, String>, name: &str) -> anyhow::Result<u32> {
    let found = names.iter().find(|(_, it)| *it == name);
    found
        .map(|(number, _)| *number)
        .ok_or_else(|| Failed::error(Exit::NotFound, format!("table {name}: no such table")))
}

type Readings = BTreeMap<(u32, u32), Reading>;

fn sum(earlier: &Readings, now: &Readings, only: Option<u32>) -> BTreeMap<Which, Rates> {
    let mut rates: BTreeMap<Which, Rates> = BTreeMap::new();
    for (core, reading) in now {
        let earlier = earlier.get(core).and_then(|it| it.page.as_ref().ok());
        let (Ok(page), Some(earlier)) = (&reading.page, earlier) else {
            continue;
        };
        let interval = page.since(earlier);
        let seconds = interval.elapsed().as_secs_f64().max(0.001);
        for counted in interval.partitions() {
            let which = match only {
                None => (counted.table, None),
                Some(only) if only == counted.table => (only, Some(counted.partition)),
                Some(_) => continue,
            };
            rates.entry(which).or_default().add(counted, seconds);
        }
    }
    rates
}

impl Rates {
    fn add(&mut self, counted: &PartitionStats, seconds: f64) {
        let per_second = |count: u64| count as f64 / seconds;
        let counter = |counter| per_second(counted.counter(counter));
        self.reads += per_second(counted.reads());
        self.writes += per_second(counted.writes());
        self.failures += counter(PartitionCounter::Failures);
        self.throttled += counter(PartitionCounter::Throttled);
        self.rows_read += counter(PartitionCounter::RowsRead);
        self.rows_written += counter(PartitionCounter::RowsWritten);
        self.bytes_read += counter(PartitionCounter::BytesRead);
        self.bytes_written += counter(PartitionCounter::BytesWritten);
    }

    fn cells(&self) -> Vec<String> {
        let mut cells = vec![
            rate(self.reads),
            rate(self.writes),
            rate(self.failures),
            rate(self.throttled),
            rate(self.rows_read),
            rate(self.rows_written),
        ];
        cells.extend([self.bytes_read, self.bytes_written].map(bytes_rate));
        cells
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate for people; the cast saturates"
)]
fn bytes_rate(per_second: f64) -> String {
    bytes_short(per_second.round() as u64)
}

fn named(which: Which, names: &BTreeMap<u32, String>) -> String {
    match which {
        (_, Some(partition)) => partition.to_string(),
        (table, None) => names
            .get(&table)
            .cloned()
            .unwrap_or_else(|| format!("number {table}")),
    }
}

fn show(
    rates: &BTreeMap<Which, Rates>,
    names: &BTreeMap<u32, String>,
    out: &mut Output,
) -> anyhow::Result<()> {
    let by_partition = rates.keys().any(|(_, partition)| partition.is_some());
    let first = if by_partition { "partition" } else { "table" };
    let header = [
        first,
        "reads/s",
        "writes/s",
        "failed/s",
        "throttled/s",
        "rows read/s",
        "rows written/s",
        "B read/s",
        "B written/s",
    ];
    let mut rows = wide_table(&header, &[1, 2, 3, 4, 5, 6, 7, 8]);
    for (which, rates) in rates {
        let mut row = vec![named(*which, names)];
        row.extend(rates.cells());
        rows.add_row(row);
    }
    Ok(out.table(&rows)?)
}

fn shown_json(
    rates: &BTreeMap<Which, Rates>,
    names: &BTreeMap<u32, String>,
) -> Vec<serde_json::Value> {
    let shown = rates.iter().map(|((table, partition), rates)| {
        let mut shown = serde_json::json!({
            "table": names.get(table), "table_id": table, "per_second": rates,
        });
        if let Some(partition) = partition {
            shown["partition"] = (*partition).into();
        }
        shown
    });
    shown.collect()
}

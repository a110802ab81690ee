//! `pegasus core list`: one line for each core, and its latencies by kind of request.

use super::numbers::{Latency, Numbers};
use super::source::{Places, Reading, Way, Where};
use super::state::State;
use crate::connect::Connect;
use crate::exit::{Exit, Failed};
use crate::output::{Output, Style, bytes_short, count, note, rate, wide_table};
use clap::Args;
use pegasus_fbs::stats_page::Timing;
use serde::Serialize;
use std::time::Duration;

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only the cores of this node
    #[arg(long, value_name = "NUMBER")]
    node: Option<u32>,
    /// Seconds between the two readings, 0.1 to 3600
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, allow_negative_numbers = true, value_parser = super::interval)]
    interval: f64,
    /// Go on until Ctrl-C, one table (or with --json one line) for each interval
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    from: Where,
}

/// One core in JSON.
#[derive(Clone, Debug, Serialize)]
struct Core {
    node: u32,
    core: u32,
    state: State,
    over: Way,
    /// Why there are no numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(flatten)]
    numbers: Option<Numbers>,
}

pub(super) async fn run(list: &List, connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    let places = Places::find(&list.from, connect, list.node).await?;
    let (mut earlier, _) = places.read().await;
    loop {
        tokio::time::sleep(Duration::from_secs_f64(list.interval)).await;
        let (mut now, problems) = places.read().await;
        now.retain(|(node, _), _| list.node.is_none_or(|only| *node == only));
        tell(&problems);
        let cores: Vec<Core> = now
            .values()
            .map(|reading| Core::new(reading, earlier.get(&(reading.node, reading.core))))
            .collect();
        if cores.is_empty() {
            return Err(Failed::error(
                Exit::NotFound,
                "no core found: no node has registered with meta yet, or the directory holds no statistics page",
            ));
        }
        match (out.style, list.watch) {
            (Style::Json, false) => out.json(&cores)?,
            (Style::Json, true) => out.json_line(&cores)?,
            (Style::People, watch) => {
                if watch {
                    out.clear_screen()?;
                }
                show(&cores, out)?;
            }
        }
        if !list.watch {
            return Ok(());
        }
        out.flush()?;
        earlier = now;
    }
}

/// Names some of what could not be read: a wrong directory may hold very many files.
fn tell(problems: &[String]) {
    const NAMED_MAX: usize = 5;
    for problem in problems.iter().take(NAMED_MAX) {
        note(format!("pegasus: {problem}"));
    }
    if problems.len() > NAMED_MAX {
        note(format!(
            "pegasus: {} more files could not be read",
            problems.len() - NAMED_MAX
        ));
    }
}

impl Core {
    /// Without an earlier reading everything since the start counts.
    fn new(now: &Reading, earlier: Option<&Reading>) -> Self {
        let numbers = now.page.as_ref().ok().map(|page| {
            let interval = match earlier.and_then(|earlier| earlier.page.as_ref().ok()) {
                Some(earlier) => page.since(earlier),
                None => page.since_start(),
            };
            Numbers::new(&interval, page)
        });
        Self {
            node: now.node,
            core: now.core,
            state: now.state,
            over: now.way,
            error: now.page.as_ref().err().cloned(),
            numbers,
        }
    }

    fn name(&self) -> String {
        format!("{}/{}", self.node, self.core)
    }

    fn cells(&self) -> Vec<String> {
        let Some(numbers) = &self.numbers else {
            return vec![self.name(), self.state.name().to_owned()];
        };
        vec![
            self.name(),
            self.state.name().to_owned(),
            rate(numbers.requests_per_second),
            rate(numbers.failures_per_second),
            rate(numbers.flushes_per_second),
            numbers.replicas.to_string(),
            numbers.primaries.to_string(),
            numbers.queues.requests_inflight.to_string(),
            numbers.queues.prepares_inflight.to_string(),
            numbers.queues.apply_queue.to_string(),
            numbers.queues.read_queue.to_string(),
            bytes_short(numbers.queues.log_pending_bytes),
            numbers.cache_hits(),
            numbers.stalls.to_string(),
        ]
    }
}

fn show(cores: &[Core], out: &mut Output) -> anyhow::Result<()> {
    let header = [
        "core",
        "\nstate",
        "requests\n/s",
        "failed\n/s",
        "flushes\n/s",
        "repli-\ncas",
        "prima-\nries",
        "in\nwork",
        "pre-\npares",
        "to\napply",
        "disk\nreads",
        "log\nqueue",
        "cache\nhits",
        "\nstalls",
    ];
    let mut loads = wide_table(&header, &[0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
    for core in cores {
        loads.add_row(core.cells());
    }
    out.table(&loads)?;
    for core in cores {
        if let Some(error) = &core.error {
            out.line(format!("{}: {error}", core.name()))?;
        }
    }
    latencies(cores, out)
}

fn latencies(cores: &[Core], out: &mut Output) -> anyhow::Result<()> {
    let header = [
        "core", "request", "count", "p50 us", "p99 us", "p99.9 us", "max us",
    ];
    let mut rows = wide_table(&header, &[0, 2, 3, 4, 5, 6]);
    for core in cores {
        for (kind, latency) in operations(core) {
            let name = [core.name(), kind.to_owned(), count(latency.count)];
            rows.add_row(name.into_iter().chain(latency.cells()));
        }
    }
    if rows.row_count() == 0 {
        out.line("no requests in the interval")?;
    } else {
        out.table(&rows)?;
    }
    Ok(())
}

/// Whole operations, in the order of the page; JSON has the stages, too.
fn operations(core: &Core) -> impl Iterator<Item = (&'static str, &Latency)> {
    let latencies = core.numbers.as_ref().map(|numbers| &numbers.latencies);
    Timing::operations()
        .iter()
        .filter_map(move |timing| Some((timing.name(), latencies?.get(timing.name())?)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::super::fake::snapshot;
    use super::*;

    fn reading(page: Result<u64, &str>) -> Reading {
        Reading {
            node: 3,
            core: 1,
            way: Way::Wire,
            state: State::Running,
            page: page
                .map(|published| snapshot(3, 1, published))
                .map_err(str::to_owned),
        }
    }

    #[test]
    fn a_core_that_could_not_be_read_is_listed_with_the_reason() {
        let json = serde_json::to_value(Core::new(&reading(Err("gone")), None)).unwrap();
        let expected = serde_json::json!({
            "node": 3, "core": 1, "state": "running", "over": "wire", "error": "gone",
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn a_core_seen_for_the_first_time_counts_from_its_start() {
        let later = reading(Ok(8_000_000));
        let first = Core::new(&later, Some(&reading(Err("starting"))));
        assert_eq!(first.numbers.unwrap().interval_seconds, 8.0);
        let second = Core::new(&later, Some(&reading(Ok(6_000_000))));
        assert_eq!(second.numbers.unwrap().interval_seconds, 2.0);
    }
}

//! `pegasus core list`: what each core does, from two readings of its statistics page.
//!
//! The pages are files of the nodes (`stats_dir` of `node list`); reading them asks the servers nothing. So this shows
//! the nodes of this machine only, and says which others there are.

use crate::connect::Connect;
use crate::exit::{Exit, Failed};
use crate::local::process;
use crate::output::{Output, Style, bytes, count, rate, table};
use clap::{Args, Subcommand};
use pegasus_fbs::stats_page::{Counter, Gauge, Histogram, Interval, Snapshot, Timing, read_at};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show requests, latencies, flushes and queues of each core
    #[command(after_help = "\
Latencies are those of the interval, from a request's last byte to its answer, measured in the node.
A core is running, stopped (it has ended as it should), dead (its process is gone) or stuck (its process is there, and the
core has published nothing for three seconds). Cache hits are the reads that needed no disk. Stalls count how often a core
did not return to its loop within 10 ms.

Examples:
  pegasus core list
  pegasus core list --interval 10 --json
  pegasus core list --stats-dir /data/node-1/stats    without asking meta")]
    List(List),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Seconds between the two readings
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    interval: f64,
    /// Read the pages in this directory instead of those of all nodes (may be given several times)
    #[arg(long, value_name = "DIR")]
    stats_dir: Vec<PathBuf>,
}

/// One core over the interval.
#[derive(Clone, Debug, Serialize)]
struct Core {
    node: u32,
    core: u32,
    pid: u32,
    state: State,
    interval_seconds: f64,
    requests_per_second: f64,
    failures_per_second: f64,
    flushes_per_second: f64,
    replicas: u64,
    primaries: u64,
    queues: Queues,
    memtable_bytes: u64,
    block_cache_bytes: u64,
    /// Share of the reads of the interval that needed no disk; none without reads.
    cache_hit_ratio: Option<f64>,
    stalls: u64,
    /// Requests answered with busy in the interval, by the bound they ran into.
    rejects: BTreeMap<&'static str, u64>,
    /// By kind of operation and stage; only what happened in the interval.
    latencies: BTreeMap<&'static str, Latency>,
}

/// What a core does, as far as its page and process tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Running,
    Stopped,
    Dead,
    Stuck,
}

#[derive(Clone, Debug, Serialize)]
struct Queues {
    requests_inflight: u64,
    prepares_inflight: u64,
    apply_queue: u64,
    read_queue: u64,
    engine_queue: u64,
    log_pending_bytes: u64,
}

#[derive(Clone, Debug, Serialize)]
struct Latency {
    count: u64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
}

pub(crate) async fn run(
    command: &Command,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let Command::List(options) = command;
    if !(0.1..=3600.0).contains(&options.interval) {
        return Err(Failed::error(
            Exit::Usage,
            format!(
                "--interval {}: 0.1 to 3600 seconds are allowed",
                options.interval
            ),
        ));
    }
    let directories = directories(options, connect).await?;
    let (first, _) = read_pages(&directories);
    tokio::time::sleep(Duration::from_secs_f64(options.interval)).await;
    let (second, unreadable) = read_pages(&directories);
    for problem in &unreadable {
        eprintln!("pegasus: {problem}");
    }
    let now_us = unix_us(SystemTime::now());
    let cores: Vec<Core> = second
        .iter()
        .filter_map(|(path, now)| {
            let state = State::of(now, now_us, process::age(now.identity().pid));
            Some(Core::new(&now.since(first.get(path)?), now, state))
        })
        .collect();
    if cores.is_empty() {
        return Err(Failed::error(
            Exit::NotFound,
            "no statistics page found: the nodes run elsewhere, or have never run; --stats-dir names a directory of pages",
        ));
    }
    match out.style {
        Style::Json => out.json(&cores),
        Style::People => show(&cores, out),
    }
}

async fn directories(options: &List, connect: &Connect) -> anyhow::Result<Vec<PathBuf>> {
    if !options.stats_dir.is_empty() {
        return Ok(options.stats_dir.clone());
    }
    let nodes = connect.nodes().await?;
    let directories = nodes
        .iter()
        .filter(|node| !node.stats_dir.is_empty())
        .map(|node| PathBuf::from(&node.stats_dir));
    Ok(directories.collect())
}

/// Every page in the directories, by path, and what could not be read.
fn read_pages(directories: &[PathBuf]) -> (BTreeMap<PathBuf, Snapshot>, Vec<String>) {
    let mut pages = BTreeMap::new();
    let mut problems = Vec::new();
    for directory in directories {
        match files(directory) {
            Ok(files) => {
                for path in files {
                    match read_at(&path) {
                        Ok(snapshot) => drop(pages.insert(path, snapshot)),
                        Err(error) => problems.push(error.to_string()),
                    }
                }
            }
            Err(error) => problems.push(format!("{}: {error}", directory.display())),
        }
    }
    (pages, problems)
}

fn files(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            files.push(entry.path());
        }
    }
    Ok(files)
}

impl State {
    /// `process_age`: how long the process of the page's number has been running, `None` if there is none.
    fn of(page: &Snapshot, now_us: u64, process_age: Option<Duration>) -> Self {
        const STUCK_AFTER_US: u64 = 3_000_000;
        /// A process is older than its page; the clocks of the two readings may differ by this much.
        const SLACK: Duration = Duration::from_secs(10);
        if page.is_stopped() {
            return Self::Stopped;
        }
        let Some(process_age) = process_age else {
            return Self::Dead;
        };
        if now_us.saturating_sub(page.published_unix_us()) < STUCK_AFTER_US {
            return Self::Running;
        }
        let page_age_us = now_us.saturating_sub(page.identity().started_unix_us);
        if process_age + SLACK < Duration::from_micros(page_age_us) {
            // Another process has got its number.
            Self::Dead
        } else {
            Self::Stuck
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Dead => "dead",
            Self::Stuck => "stuck",
        }
    }
}

impl Core {
    fn new(interval: &Interval, now: &Snapshot, state: State) -> Self {
        let identity = now.identity();
        Self {
            node: identity.node,
            core: identity.core,
            pid: identity.pid,
            state,
            interval_seconds: interval.elapsed().as_secs_f64(),
            requests_per_second: interval.rate_of(Counter::requests()),
            failures_per_second: interval.rate_of(Counter::failures()),
            flushes_per_second: interval.rate(Counter::LogFlushes),
            replicas: now.gauge(Gauge::Replicas),
            primaries: now.gauge(Gauge::Primaries),
            queues: Queues::new(now),
            memtable_bytes: now.gauge(Gauge::MemtableBytes),
            block_cache_bytes: now.gauge(Gauge::BlockCacheBytes),
            cache_hit_ratio: cache_hit_ratio(interval),
            stalls: interval.count(Counter::Stalls),
            rejects: Counter::rejects()
                .iter()
                .map(|reject| (reject.name(), interval.count(*reject)))
                .filter(|(_, count)| *count > 0)
                .collect(),
            latencies: Timing::ALL
                .iter()
                .filter_map(|timing| {
                    Some((timing.name(), Latency::new(interval.histogram(*timing))?))
                })
                .collect(),
        }
    }
}

fn cache_hit_ratio(interval: &Interval) -> Option<f64> {
    let hits = interval.count(Counter::ReadsFromMemory);
    let reads = hits + interval.count(Counter::ReadsFromDisk);
    #[allow(clippy::cast_precision_loss, reason = "a ratio for people")]
    (reads > 0).then(|| hits as f64 / reads as f64)
}

impl Queues {
    fn new(now: &Snapshot) -> Self {
        Self {
            requests_inflight: now.gauge(Gauge::RequestsInflight),
            prepares_inflight: now.gauge(Gauge::PreparesInflight),
            apply_queue: now.gauge(Gauge::ApplyQueue),
            read_queue: now.gauge(Gauge::ReadQueue),
            engine_queue: now.gauge(Gauge::EngineQueue),
            log_pending_bytes: now.gauge(Gauge::LogPendingBytes),
        }
    }
}

impl Latency {
    /// `None` when nothing was recorded.
    fn new(histogram: &Histogram) -> Option<Self> {
        let at = |quantile| histogram.quantile(quantile).map(microseconds);
        Some(Self {
            count: histogram.count(),
            p50_us: at(0.5)?,
            p99_us: at(0.99)?,
            p999_us: at(0.999)?,
            max_us: microseconds(histogram.max()?),
        })
    }
}

fn microseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e7).round() / 10.0
}

fn unix_us(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

fn show(cores: &[Core], out: &mut Output) -> anyhow::Result<()> {
    let mut loads = table(
        &[
            "node",
            "core",
            "state",
            "requests/s",
            "failures/s",
            "flushes/s",
            "replicas",
            "primaries",
            "in flight",
            "prepares",
            "apply",
            "reads",
            "log pending",
            "cache hits",
            "stalls",
        ],
        &[0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14],
    );
    for core in cores {
        loads.add_row([
            core.node.to_string(),
            core.core.to_string(),
            core.state.name().to_owned(),
            rate(core.requests_per_second),
            rate(core.failures_per_second),
            rate(core.flushes_per_second),
            core.replicas.to_string(),
            core.primaries.to_string(),
            core.queues.requests_inflight.to_string(),
            core.queues.prepares_inflight.to_string(),
            core.queues.apply_queue.to_string(),
            core.queues.read_queue.to_string(),
            bytes(core.queues.log_pending_bytes),
            core.cache_hit_ratio
                .map_or("-".to_owned(), |ratio| format!("{:.1} %", ratio * 100.0)),
            core.stalls.to_string(),
        ]);
    }
    out.table(&loads)?;
    let mut latencies = table(
        &[
            "node",
            "core",
            "operation",
            "count",
            "p50 us",
            "p99 us",
            "p99.9 us",
            "max us",
        ],
        &[0, 1, 3, 4, 5, 6, 7],
    );
    for core in cores {
        for (kind, latency) in shown(core) {
            latencies.add_row([
                core.node.to_string(),
                core.core.to_string(),
                kind.to_owned(),
                count(latency.count),
                format!("{:.1}", latency.p50_us),
                format!("{:.1}", latency.p99_us),
                format!("{:.1}", latency.p999_us),
                format!("{:.1}", latency.max_us),
            ]);
        }
    }
    if latencies.row_count() == 0 {
        out.line("no requests in the interval")?;
    } else {
        out.line("")?;
        out.table(&latencies)?;
    }
    Ok(())
}

/// Whole operations, in the order of the page, then what durable writes wait for; JSON has all stages.
fn shown(core: &Core) -> impl Iterator<Item = (&'static str, &Latency)> {
    Timing::operations()
        .iter()
        .chain(&[Timing::LogFlush, Timing::LogAppend, Timing::SecondaryAck])
        .filter_map(|timing| Some((timing.name(), core.latencies.get(timing.name())?)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use pegasus_fbs::stats_page::{PAGE_WORDS, Writer};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Page(Vec<AtomicU64>);

    impl AsRef<[AtomicU64]> for Page {
        fn as_ref(&self) -> &[AtomicU64] {
            &self.0
        }
    }

    #[test]
    fn a_core_is_described_by_the_growth_between_two_readings() {
        let mut writer = Writer::new(
            Page((0..PAGE_WORDS).map(|_| AtomicU64::new(0)).collect()),
            2,
            1,
            77,
            0,
        );
        writer.publish(1_000_000);
        let earlier = writer.snapshot();
        writer.add(Counter::RequestPut, 500);
        writer.add(Counter::LogFlushes, 50);
        writer.add(Counter::ReadsFromMemory, 3);
        writer.add(Counter::ReadsFromDisk, 1);
        writer.add(Counter::RejectLogFull, 2);
        writer.set(Gauge::Primaries, 4);
        writer.record(Timing::Put, Duration::from_micros(200));
        writer.publish(3_000_000);
        let now = writer.snapshot();
        let core = Core::new(&now.since(&earlier), &now, State::Running);
        assert_eq!((core.node, core.core, core.primaries), (2, 1, 4));
        assert_eq!(core.cache_hit_ratio, Some(0.75));
        assert_eq!(
            core.rejects.into_iter().collect::<Vec<_>>(),
            [("reject_log_full", 2)]
        );
        assert!((core.requests_per_second - 250.0).abs() < 1e-6);
        assert!((core.flushes_per_second - 25.0).abs() < 1e-6);
        assert_eq!(core.latencies.keys().copied().collect::<Vec<_>>(), ["put"]);
        assert!((core.latencies["put"].p50_us - 200.0).abs() < 5.0);
    }

    #[test]
    fn a_core_is_running_stopped_dead_or_stuck() {
        let page: Arc<[AtomicU64]> = (0..PAGE_WORDS).map(|_| AtomicU64::new(0)).collect();
        let mut writer = Writer::new(Arc::clone(&page), 2, 1, 77, 0);
        writer.publish(1_000_000);
        let now = writer.snapshot();
        let old = Some(Duration::from_secs(3_600));
        assert_eq!(State::of(&now, 2_000_000, old), State::Running);
        assert_eq!(State::of(&now, 4_000_000, old), State::Stuck);
        assert_eq!(State::of(&now, 2_000_000, None), State::Dead);
        let young = Some(Duration::from_secs(5));
        assert_eq!(State::of(&now, 90_000_000, young), State::Dead);
        writer.stop(5_000_000);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("page");
        let words = page.iter().map(|word| word.load(Ordering::Relaxed));
        std::fs::write(&path, words.flat_map(u64::to_le_bytes).collect::<Vec<u8>>()).unwrap();
        let stopped = read_at(&path).unwrap();
        assert_eq!(State::of(&stopped, 99_000_000, None), State::Stopped);
    }

    #[test]
    fn files_that_are_no_pages_are_named_and_do_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("notes"), "x").unwrap();
        let (pages, problems) = read_pages(&[dir.path().to_owned(), dir.path().join("absent")]);
        assert!(pages.is_empty());
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("notes") && problems[1].contains("absent"));
    }
}

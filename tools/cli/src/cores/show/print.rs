//! A report for people.

use super::replicas::TableShare;
use super::slow::{self, Slow};
use super::stages::{Stages, of_the_slowest};
use super::{Report, Way};
use crate::cores::numbers::Latency;
use crate::cores::state::State;
use crate::output::{Output, bytes, count, rate, wide_table};
use pegasus_fbs::stats_page::{Class, Counter, Gauge, Interval, Snapshot, Timing};

/// Slow requests of each class that are printed; JSON has all.
const SLOW_SHOWN: usize = 10;

pub(super) fn report(
    report: &Report,
    page: &Snapshot,
    interval: &Interval,
    out: &mut Output,
) -> anyhow::Result<()> {
    head(report, interval, out)?;
    facts(report, page, interval, out)?;
    replicas(report.replicas_by_table.as_deref(), out)?;
    requests(report, out)?;
    for (class, stages) in [(Class::Write, &report.writes), (Class::Read, &report.reads)] {
        explain(class, stages, report, out)?;
    }
    if !report.measures_stages {
        out.line("\nThis node does not measure stages (its settings say so): no table of stages, no slow requests.")?;
    } else if report.writes.requests + report.reads.requests == 0 {
        out.line(no_requests(report))?;
    }
    core_work(report, out)
}

fn head(report: &Report, interval: &Interval, out: &mut Output) -> anyhow::Result<()> {
    let place = match (report.host.as_str(), report.address.as_str()) {
        ("", _) => String::new(),
        (host, address) => format!(", {address} on {host}"),
    };
    let way = match report.over {
        Way::Page => "from its page",
        Way::Wire => "told by its node",
    };
    out.line(format!(
        "core {}/{}: {} (process {}{place}; {way})",
        report.node,
        report.core,
        report.state.name(),
        report.numbers.pid
    ))?;
    if report.state != State::Running {
        out.line(format!("{}.", report.state.meaning()))?;
    }
    let seconds = interval.elapsed().as_secs_f64();
    out.line(match report.since_start {
        true => format!("Numbers since its start, {}.", span(seconds)),
        false => format!("Numbers of {seconds:.1} s."),
    })?;
    if report.torn {
        out.line("Its process died while it wrote the page: counters may be of two moments.")?;
    }
    Ok(out.line("")?)
}

/// `3 h 12 min`.
fn span(seconds: f64) -> String {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole seconds; the cast saturates"
    )]
    let whole = seconds as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3_600 => format!("{} min {} s", whole / 60, whole % 60),
        3_600..172_800 => format!("{} h {} min", whole / 3_600, whole % 3_600 / 60),
        _ => format!("{} days", whole / 86_400),
    }
}

fn facts(
    report: &Report,
    page: &Snapshot,
    interval: &Interval,
    out: &mut Output,
) -> anyhow::Result<()> {
    let numbers = &report.numbers;
    let gauge = |gauge| count(page.gauge(gauge));
    let size = |gauge| bytes(page.gauge(gauge));
    let per_second = |counter| rate(interval.rate(counter));
    let bytes_per_second = |counter| format!("{}/s", bytes(whole(interval.rate(counter))));
    let mean_flush = interval
        .count(Counter::LogBytes)
        .checked_div(interval.count(Counter::LogFlushes));
    let mean_flush = mean_flush.map_or(String::new(), |mean| format!(" of {}", bytes(mean)));
    let lines = [
        (
            "requests",
            format!(
                "{}/s, {} failed/s{}; {} in work",
                rate(numbers.requests_per_second),
                rate(numbers.failures_per_second),
                failures(interval),
                gauge(Gauge::RequestsInflight)
            ),
        ),
        (
            "replicas",
            format!(
                "{}: {} primaries, {} secondaries, {} out of service",
                gauge(Gauge::Replicas),
                gauge(Gauge::Primaries),
                gauge(Gauge::Secondaries),
                gauge(Gauge::ReplicasOutOfService)
            ),
        ),
        (
            "queues",
            format!(
                "{} prepares not committed, {} writes to apply, {} disk reads, {} slow engine calls",
                gauge(Gauge::PreparesInflight),
                gauge(Gauge::ApplyQueue),
                gauge(Gauge::ReadQueue),
                gauge(Gauge::EngineQueue)
            ),
        ),
        (
            "log",
            format!(
                "{} flushes/s{mean_flush}, {}; {} not yet durable, {} in use",
                per_second(Counter::LogFlushes),
                bytes_per_second(Counter::LogBytes),
                size(Gauge::LogPendingBytes),
                size(Gauge::LogUsedBytes)
            ),
        ),
        (
            "memory",
            format!(
                "memtables {}, block cache {}, rows {}, answers not yet taken {}; cache hits {}, of point reads in the row cache {}",
                size(Gauge::MemtableBytes),
                size(Gauge::BlockCacheBytes),
                size(Gauge::RowCacheBytes),
                size(Gauge::NetBufferBytes),
                numbers.cache_hits(),
                numbers.row_cache_hits()
            ),
        ),
        (
            "connections",
            format!(
                "{} of clients, {} links to peers; clients: {} received, {} sent",
                gauge(Gauge::Connections),
                gauge(Gauge::PeerLinks),
                bytes_per_second(Counter::NetBytesReceived),
                bytes_per_second(Counter::NetBytesSent)
            ),
        ),
        (
            "loop",
            format!(
                "{} stalls (not back within 10 ms), slept {} times/s, {} requests/s passed on to other cores",
                count(numbers.stalls),
                per_second(Counter::Sleeps),
                per_second(Counter::MeshForwarded)
            ),
        ),
        (
            "disk",
            format!(
                "{} free of {}{}",
                size(Gauge::DiskFreeBytes),
                size(Gauge::DiskTotalBytes),
                match page.gauge(Gauge::DiskFull) {
                    0 => "",
                    _ => ": FULL, writes are refused",
                }
            ),
        ),
    ];
    for (name, text) in lines {
        out.line(format!("{name:<12} {text}"))?;
    }
    Ok(())
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate for people; the cast saturates"
)]
fn whole(rate: f64) -> u64 {
    rate.round() as u64
}

/// ` (answer_busy 3, reject_log_full 3)`; empty without failures.
fn failures(interval: &Interval) -> String {
    let counters = Counter::failures().iter().chain(Counter::rejects());
    let counts: Vec<String> = counters
        .map(|counter| (counter.name(), interval.count(*counter)))
        .filter(|(_, count)| *count > 0)
        .map(|(name, number)| format!("{name} {}", count(number)))
        .collect();
    match counts.is_empty() {
        true => String::new(),
        false => format!(" ({})", counts.join(", ")),
    }
}

fn replicas(tables: Option<&[TableShare]>, out: &mut Output) -> anyhow::Result<()> {
    let indexes = |indexes: &[u32]| {
        const SHOWN: usize = 12;
        let shown: Vec<String> = indexes.iter().take(SHOWN).map(u32::to_string).collect();
        let more = if indexes.len() > SHOWN { " .." } else { "" };
        format!("{} ({}{more})", indexes.len(), shown.join(" "))
    };
    for table in tables.unwrap_or_default() {
        let mut text = format!("table {}:", table.table);
        if !table.primaries.is_empty() {
            text += &format!(" primary of {}", indexes(&table.primaries));
        }
        if !table.secondaries.is_empty() {
            text += &format!(" secondary of {}", indexes(&table.secondaries));
        }
        out.line(format!("{:<12} {text}", ""))?;
        for trouble in &table.troubled {
            out.line(format!("{:<12}   {trouble}", ""))?;
        }
    }
    Ok(())
}

/// Whole operations.
fn requests(report: &Report, out: &mut Output) -> anyhow::Result<()> {
    out.line("")?;
    latencies(report, "request", Timing::operations(), out)
}

/// Work that belongs to no one request.
fn core_work(report: &Report, out: &mut Output) -> anyhow::Result<()> {
    out.line("\nWork of the core, whoever it is for:")?;
    latencies(report, "work", Timing::of_core(), out)
}

fn latencies(
    report: &Report,
    what: &str,
    timings: &[Timing],
    out: &mut Output,
) -> anyhow::Result<()> {
    let header = [what, "count", "p50 us", "p99 us", "p99.9 us", "max us"];
    let mut rows = wide_table(&header, &[1, 2, 3, 4, 5]);
    for timing in timings {
        if let Some(latency) = report.numbers.latencies.get(timing.name()) {
            rows.add_row(cells(timing.name(), latency));
        }
    }
    if rows.row_count() > 0 {
        out.table(&rows)?;
    }
    Ok(())
}

fn cells(name: &str, latency: &Latency) -> Vec<String> {
    let mut cells = vec![name.to_owned(), count(latency.count)];
    cells.extend(latency.cells());
    cells
}

/// The stages of a class, what dominates, and its slowest requests.
fn explain(class: Class, stages: &Stages, report: &Report, out: &mut Output) -> anyhow::Result<()> {
    if let Some(explanation) = &stages.explanation {
        out.line(format!(
            "\n{} {}s, {:.1} us each on average:",
            count(stages.requests),
            class.name(),
            stages.mean_us
        ))?;
        let header = [
            "stage", "count", "p50 us", "p99 us", "p99.9 us", "max us", "share",
        ];
        let mut rows = wide_table(&header, &[1, 2, 3, 4, 5, 6]);
        for row in &stages.stages {
            let mark = if stages.largest == Some(row.stage) {
                "* "
            } else {
                "  "
            };
            let mut cells = cells(&format!("{mark}{}", row.stage), &row.latency);
            cells.push(format!("{:.1} %", row.share * 100.0));
            rows.add_row(cells);
        }
        out.table(&rows)?;
        out.line(wrapped(explanation))?;
    }
    let slowest: Vec<&Slow> = report
        .slow_requests
        .iter()
        .filter(|slow| slow.request.class() == class)
        .collect();
    if slowest.is_empty() {
        return Ok(());
    }
    let dominating: Vec<_> = slowest
        .iter()
        .map(|slow| slow::largest(&slow.request))
        .collect();
    let sentence = format!("{} (marked *):", of_the_slowest(class, &dominating));
    out.line(format!("\n{}", wrapped(&sentence)))?;
    let shown = &slowest[..slowest.len().min(SLOW_SHOWN)];
    Ok(out.table(&slow::table(class, shown, report.published_unix_us))?)
}

fn no_requests(report: &Report) -> &'static str {
    match report.since_start {
        true => "\nNo requests since its start.",
        false => {
            "\nNo requests in the interval: --interval 30 waits longer, --since-start shows all there were."
        }
    }
}

/// Broken into lines that fit a terminal.
fn wrapped(text: &str) -> String {
    const WIDTH: usize = 118;
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_sentence_is_broken_between_words() {
        let text = "word ".repeat(60);
        let shown = wrapped(&text);
        assert!(shown.lines().all(|line| line.len() <= 118));
        assert_eq!(shown.split_whitespace().count(), 60);
        assert_eq!(wrapped("short"), "short");
    }

    #[test]
    fn a_span_reads_well() {
        let shown = [5.25, 61.0, 7_260.0, 200_000.0].map(span);
        assert_eq!(shown, ["5.2 s", "1 min 1 s", "2 h 1 min", "2 days"]);
    }
}

//! Numbers of one core over an interval, as JSON has them.

use pegasus_fbs::stats_page::{Counter, Gauge, Histogram, Interval, Snapshot, Timing};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// One core over an interval.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Numbers {
    pub(super) pid: u32,
    pub(super) interval_seconds: f64,
    pub(super) requests_per_second: f64,
    pub(super) failures_per_second: f64,
    pub(super) flushes_per_second: f64,
    pub(super) replicas: u64,
    pub(super) primaries: u64,
    pub(super) queues: Queues,
    pub(super) memtable_bytes: u64,
    pub(super) block_cache_bytes: u64,
    pub(super) row_cache_bytes: u64,
    /// Share of the reads of the interval that needed no disk; none without reads.
    pub(super) cache_hit_ratio: Option<f64>,
    /// Share of the point reads of the interval that the row cache answered; none without reads.
    pub(super) row_cache_hit_ratio: Option<f64>,
    pub(super) stalls: u64,
    /// Requests answered with busy in the interval, by the bound they ran into.
    pub(super) rejects: BTreeMap<&'static str, u64>,
    /// By kind of operation and stage; only what happened in the interval.
    pub(super) latencies: BTreeMap<&'static str, Latency>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Queues {
    pub(super) requests_inflight: u64,
    pub(super) prepares_inflight: u64,
    pub(super) apply_queue: u64,
    pub(super) read_queue: u64,
    pub(super) engine_queue: u64,
    pub(super) log_pending_bytes: u64,
}

/// Percentiles in microseconds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Latency {
    pub(super) count: u64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
    pub(super) max_us: f64,
}

impl Numbers {
    pub(super) fn new(interval: &Interval, now: &Snapshot) -> Self {
        Self {
            pid: now.identity().pid,
            interval_seconds: interval.elapsed().as_secs_f64(),
            requests_per_second: interval.rate_of(Counter::requests()),
            failures_per_second: interval.rate_of(Counter::failures()),
            flushes_per_second: interval.rate(Counter::LogFlushes),
            replicas: now.gauge(Gauge::Replicas),
            primaries: now.gauge(Gauge::Primaries),
            queues: Queues::new(now),
            memtable_bytes: now.gauge(Gauge::MemtableBytes),
            block_cache_bytes: now.gauge(Gauge::BlockCacheBytes),
            row_cache_bytes: now.gauge(Gauge::RowCacheBytes),
            cache_hit_ratio: cache_hit_ratio(interval),
            row_cache_hit_ratio: row_cache_hit_ratio(interval),
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

    /// `99.5 %`, or `-` without reads.
    pub(super) fn cache_hits(&self) -> String {
        percent(self.cache_hit_ratio)
    }

    /// Likewise of point reads.
    pub(super) fn row_cache_hits(&self) -> String {
        percent(self.row_cache_hit_ratio)
    }
}

fn percent(ratio: Option<f64>) -> String {
    ratio.map_or("-".to_owned(), |ratio| format!("{:.1} %", ratio * 100.0))
}

fn cache_hit_ratio(interval: &Interval) -> Option<f64> {
    hit_ratio(interval, Counter::ReadsFromMemory, Counter::ReadsFromDisk)
}

fn row_cache_hit_ratio(interval: &Interval) -> Option<f64> {
    hit_ratio(interval, Counter::RowCacheHits, Counter::RowCacheMisses)
}

fn hit_ratio(interval: &Interval, hits: Counter, misses: Counter) -> Option<f64> {
    let hits = interval.count(hits);
    let reads = hits.saturating_add(interval.count(misses));
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
    pub(super) fn new(histogram: &Histogram) -> Option<Self> {
        let at = |quantile| histogram.quantile(quantile).map(microseconds);
        Some(Self {
            count: histogram.count(),
            p50_us: at(0.5)?,
            p99_us: at(0.99)?,
            p999_us: at(0.999)?,
            max_us: microseconds(histogram.max()?),
        })
    }

    /// The four percentiles as cells of a table.
    pub(super) fn cells(&self) -> [String; 4] {
        [self.p50_us, self.p99_us, self.p999_us, self.max_us].map(|us| format!("{us:.1}"))
    }
}

/// To the nearest tenth.
pub(super) fn microseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e7).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::super::fake::writer;
    use super::*;

    #[test]
    fn a_core_is_described_by_the_growth_between_two_readings() {
        let mut writer = writer(2, 1);
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
        let numbers = Numbers::new(&now.since(&earlier), &now);
        assert_eq!(numbers.primaries, 4);
        assert_eq!(numbers.cache_hits(), "75.0 %");
        assert_eq!(
            numbers.rejects.into_iter().collect::<Vec<_>>(),
            [("reject_log_full", 2)]
        );
        assert!((numbers.requests_per_second - 250.0).abs() < 1e-6);
        assert!((numbers.flushes_per_second - 25.0).abs() < 1e-6);
        assert_eq!(
            numbers.latencies.keys().copied().collect::<Vec<_>>(),
            ["put"]
        );
        assert!((numbers.latencies["put"].p50_us - 200.0).abs() < 5.0);
    }
}

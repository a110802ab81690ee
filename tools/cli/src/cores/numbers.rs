//! Numbers of one core over an interval, as JSON has them.

use super::traffic::Traffic;
use pegasus_fbs::stats_page::{Counter, Gauge, Histogram, Interval, Snapshot, Timing};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// One core over an interval.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Numbers {
    pub(crate) pid: u32,
    pub(crate) interval_seconds: f64,
    pub(crate) requests_per_second: f64,
    pub(crate) failures_per_second: f64,
    pub(crate) flushes_per_second: f64,
    pub(crate) replicas: u64,
    pub(crate) primaries: u64,
    pub(crate) queues: Queues,
    pub(crate) memtable_bytes: u64,
    pub(crate) block_cache_bytes: u64,
    pub(crate) row_cache_bytes: u64,
    /// Share of the reads of the interval that needed no disk; none without reads.
    pub(crate) cache_hit_ratio: Option<f64>,
    /// Share of the point reads of the interval that the row cache answered; none without reads.
    pub(crate) row_cache_hit_ratio: Option<f64>,
    pub(crate) stalls: u64,
    /// Requests answered with busy in the interval, by the bound they ran into.
    pub(crate) rejects: BTreeMap<&'static str, u64>,
    /// When the core last published: what follows is of then, microseconds since 1970.
    pub(crate) published_unix_us: u64,
    /// Requests by kind.
    pub(crate) traffic: Traffic,
    /// Answers of whole operations, whatever they are.
    pub(crate) latency: Option<Latency>,
    /// Compactions and flushes of memtables of the interval.
    pub(crate) compactions: u64,
    pub(crate) memtable_flushes: u64,
    /// Of the replica that has most of them.
    pub(crate) level0_files: u64,
    /// Why new writes are refused, if they are.
    pub(crate) writes_refused: Option<&'static str>,
    pub(crate) memory: Memory,
    pub(crate) connections: u64,
    pub(crate) bytes_received_per_second: f64,
    pub(crate) bytes_sent_per_second: f64,
    /// Replicas that the page has no room for: they are in no list of partitions.
    pub(crate) partitions_untold: u64,
    /// By kind of operation and stage; only what happened in the interval.
    pub(crate) latencies: BTreeMap<&'static str, Latency>,
}

/// Bytes in use and their bounds; see `memory.*` in the settings of a node.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Memory {
    /// Blocks and rows.
    pub(crate) cache: Part,
    pub(crate) memtables: Part,
    pub(crate) requests: Part,
    pub(crate) network: Part,
}

/// One kind of memory.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Part {
    pub(crate) bytes: u64,
    pub(crate) bytes_max: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Queues {
    pub(crate) requests_inflight: u64,
    pub(crate) prepares_inflight: u64,
    pub(crate) apply_queue: u64,
    pub(crate) read_queue: u64,
    pub(crate) engine_queue: u64,
    pub(crate) log_pending_bytes: u64,
}

/// Percentiles in microseconds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
}

impl Numbers {
    pub(crate) fn new(interval: &Interval, now: &Snapshot) -> Self {
        Self {
            pid: now.identity().pid,
            interval_seconds: interval.elapsed().as_secs_f64(),
            requests_per_second: interval.rate_of(Counter::requests()),
            failures_per_second: interval.rate_of(Counter::failures()),
            flushes_per_second: interval.rate(Counter::LogFlushes),
            published_unix_us: now.published_unix_us(),
            traffic: Traffic::of_core(interval),
            latency: latency_of_all(interval),
            compactions: interval.count(Counter::EngineCompactions),
            memtable_flushes: interval.count(Counter::EngineFlushes),
            level0_files: now.gauge(Gauge::Level0Files),
            writes_refused: match now.gauge(Gauge::WritesRefused) {
                0 => None,
                1 => Some("engine behind"),
                _ => Some("disk full"),
            },
            memory: Memory::new(now),
            connections: now.gauge(Gauge::Connections),
            bytes_received_per_second: interval.rate(Counter::NetBytesReceived),
            bytes_sent_per_second: interval.rate(Counter::NetBytesSent),
            partitions_untold: now.gauge(Gauge::PartitionsUntold),
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
    pub(crate) fn cache_hits(&self) -> String {
        percent(self.cache_hit_ratio)
    }

    /// Likewise of point reads.
    pub(crate) fn row_cache_hits(&self) -> String {
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

/// All whole operations together.
fn latency_of_all(interval: &Interval) -> Option<Latency> {
    let mut all = Histogram::default();
    for operation in Timing::operations() {
        all.merge(interval.histogram(*operation));
    }
    Latency::new(&all)
}

impl Memory {
    fn new(now: &Snapshot) -> Self {
        let part = |used: &[Gauge], max| Part {
            bytes: used
                .iter()
                .fold(0, |sum, gauge| now.gauge(*gauge).saturating_add(sum)),
            bytes_max: now.gauge(max),
        };
        Self {
            cache: part(
                &[Gauge::BlockCacheBytes, Gauge::RowCacheBytes],
                Gauge::CacheBytesMax,
            ),
            memtables: part(&[Gauge::MemtableBytes], Gauge::MemtableBytesMax),
            requests: part(&[Gauge::RequestBytes], Gauge::RequestBytesMax),
            network: part(&[Gauge::NetBufferBytes], Gauge::NetBufferBytesMax),
        }
    }

    /// With the names that settings have.
    pub(crate) const fn parts(&self) -> [(&'static str, Part); 4] {
        [
            ("cache", self.cache),
            ("memtables", self.memtables),
            ("requests", self.requests),
            ("network", self.network),
        ]
    }

    /// All of it.
    pub(crate) fn total(&self) -> Part {
        let parts = self.parts();
        let sum = |of: fn(&Part) -> u64| {
            parts
                .iter()
                .fold(0, |sum: u64, (_, part)| sum.saturating_add(of(part)))
        };
        Part {
            bytes: sum(|part| part.bytes),
            bytes_max: sum(|part| part.bytes_max),
        }
    }
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
    pub(crate) fn new(histogram: &Histogram) -> Option<Self> {
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
    pub(crate) fn cells(&self) -> [String; 4] {
        [self.p50_us, self.p99_us, self.p999_us, self.max_us].map(|us| format!("{us:.1}"))
    }
}

/// To the nearest tenth.
pub(crate) fn microseconds(duration: Duration) -> f64 {
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

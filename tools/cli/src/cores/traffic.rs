//! Requests per second by kind, of a core or of a partition.

use pegasus_fbs::stats_page::{Counter, Interval, PartitionCounter, PartitionStats, Role};
use serde::Serialize;
use std::time::Duration;

/// Requests per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Traffic {
    /// Single rows that are read: get, exist, ttl.
    pub(crate) get: f64,
    /// Single rows that are written: put, remove.
    pub(crate) put: f64,
    /// Several rows: multi get, multi put, multi remove, batch get.
    pub(crate) multi: f64,
    /// Scans and counts of sort keys.
    pub(crate) scan: f64,
    /// Increments, check and set, check and mutate.
    pub(crate) atomic: f64,
    /// Commands of Redis clients; each of their keys is among the others, too, where its partition is.
    pub(crate) redis: f64,
}

impl Traffic {
    /// The names of the kinds.
    pub(crate) const KINDS: [&'static str; 6] = ["get", "put", "multi", "scan", "atomic", "redis"];

    pub(crate) fn of_core(interval: &Interval) -> Self {
        let rate = |counters: &[Counter]| interval.rate_of(counters);
        Self {
            get: rate(&[
                Counter::RequestGet,
                Counter::RequestExist,
                Counter::RequestTtl,
            ]),
            put: rate(&[Counter::RequestPut, Counter::RequestRemove]),
            multi: rate(&[
                Counter::RequestMultiGet,
                Counter::RequestMultiPut,
                Counter::RequestMultiRemove,
                Counter::RequestBatchGet,
            ]),
            scan: rate(&[Counter::RequestScan, Counter::RequestSortKeyCount]),
            atomic: rate(&[
                Counter::RequestIncr,
                Counter::RequestCheckAndSet,
                Counter::RequestCheckAndMutate,
            ]),
            redis: rate(&[Counter::RequestRedis]),
        }
    }

    /// Of what a replica has counted within a time.
    pub(crate) fn of_partition(counted: &PartitionStats, elapsed: Duration) -> Self {
        use PartitionCounter as Of;
        let rate = |counters: &[Of]| per_second(counted.sum(counters), elapsed);
        Self {
            get: rate(&[Of::Get, Of::Exist, Of::Ttl]),
            put: rate(&[Of::Put, Of::Remove]),
            multi: rate(&[Of::MultiGet, Of::MultiPut, Of::MultiRemove, Of::BatchGet]),
            scan: rate(&[Of::Scan, Of::SortKeyCount]),
            atomic: rate(&[Of::Incr, Of::CheckAndSet, Of::CheckAndMutate]),
            redis: 0.0,
        }
    }

    /// All requests of partitions: Redis commands are among them by their keys.
    pub(crate) fn total(&self) -> f64 {
        self.get + self.put + self.multi + self.scan + self.atomic
    }

    /// In the order of [`Self::KINDS`].
    pub(crate) const fn kinds(&self) -> [f64; 6] {
        [
            self.get,
            self.put,
            self.multi,
            self.scan,
            self.atomic,
            self.redis,
        ]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.get += other.get;
        self.put += other.put;
        self.multi += other.multi;
        self.scan += other.scan;
        self.atomic += other.atomic;
        self.redis += other.redis;
    }
}

/// What a replica was asked for and did within an interval.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct PartitionNumbers {
    pub(crate) table_id: u32,
    pub(crate) partition: u32,
    /// primary, secondary, learner, out_of_service or none.
    #[serde(serialize_with = "name_of")]
    pub(crate) role: Role,
    pub(crate) traffic: Traffic,
    pub(crate) requests_per_second: f64,
    /// Of these, those that read.
    pub(crate) reads_per_second: f64,
    pub(crate) failures_per_second: f64,
    pub(crate) throttled_per_second: f64,
    pub(crate) rows_read_per_second: f64,
    pub(crate) bytes_read_per_second: f64,
    pub(crate) bytes_written_per_second: f64,
    /// Mutations put into the engine, on secondaries too.
    pub(crate) applied_per_second: f64,
    pub(crate) ballot: u64,
    pub(crate) committed: u64,
    pub(crate) prepares_inflight: u64,
    pub(crate) unflushed_bytes: u64,
}

impl PartitionNumbers {
    pub(crate) fn new(counted: &PartitionStats, elapsed: Duration) -> Self {
        use PartitionCounter as Of;
        use pegasus_fbs::stats_page::PartitionGauge as Gauge;
        let rate = |counter| per_second(counted.counter(counter), elapsed);
        let traffic = Traffic::of_partition(counted, elapsed);
        Self {
            table_id: counted.table,
            partition: counted.partition,
            role: counted.role(),
            requests_per_second: traffic.total(),
            reads_per_second: per_second(counted.reads(), elapsed),
            traffic,
            failures_per_second: rate(Of::Failures),
            throttled_per_second: rate(Of::Throttled),
            rows_read_per_second: rate(Of::RowsRead),
            bytes_read_per_second: rate(Of::BytesRead),
            bytes_written_per_second: rate(Of::BytesWritten),
            applied_per_second: rate(Of::Applied),
            ballot: counted.gauge(Gauge::Ballot),
            committed: counted.gauge(Gauge::Committed),
            prepares_inflight: counted.gauge(Gauge::PreparesInflight),
            unflushed_bytes: counted.gauge(Gauge::UnflushedBytes),
        }
    }

    /// Of all replicas of a core.
    pub(crate) fn of(interval: &Interval) -> Vec<Self> {
        let elapsed = interval.elapsed();
        let all = interval.partitions().iter();
        all.map(|counted| Self::new(counted, elapsed)).collect()
    }
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "the form that serde calls"
)]
fn name_of<S: serde::Serializer>(role: &Role, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(role.name())
}

/// 0 when no time has passed.
fn per_second(count: u64, elapsed: Duration) -> f64 {
    let seconds = elapsed.as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    let count = count as f64;
    if seconds > 0.0 { count / seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::super::fake::writer;
    use super::*;
    use pegasus_fbs::stats_page::PartitionGauge;

    #[test]
    fn requests_count_by_kind_on_the_core_and_in_the_partition() {
        let mut writer = writer(1, 0);
        let slot = writer.take_partition(3, 5);
        writer.set_of(slot, PartitionGauge::Role, Role::Primary as u64);
        writer.publish(1_000_000);
        let earlier = writer.snapshot();
        writer.add(Counter::RequestGet, 20);
        writer.add(Counter::RequestCheckAndSet, 4);
        writer.add(Counter::RequestRedis, 2);
        writer.add_of(slot, PartitionCounter::Get, 20);
        writer.add_of(slot, PartitionCounter::CheckAndSet, 4);
        writer.add_of(slot, PartitionCounter::BytesRead, 100);
        writer.publish(3_000_000);
        let interval = writer.snapshot().since(&earlier);
        let core = Traffic::of_core(&interval);
        assert_eq!(core.kinds(), [10.0, 0.0, 0.0, 0.0, 2.0, 1.0]);
        assert!((core.total() - 12.0).abs() < 1e-9);
        let partitions = PartitionNumbers::of(&interval);
        let [it] = &partitions[..] else {
            panic!("there is one")
        };
        assert_eq!((it.table_id, it.partition), (3, 5));
        assert!((it.requests_per_second - 12.0).abs() < 1e-9);
        assert!((it.bytes_read_per_second - 50.0).abs() < 1e-9);
        let json = serde_json::to_value(it).expect("JSON");
        assert_eq!(json["role"], "primary");
        assert_eq!(json["traffic"]["atomic"], 2.0);
    }
}

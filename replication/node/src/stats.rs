//! The statistics of one core: a shared file that tools read without asking (layout: `pegasus_fbs::stats_page`).
//!
//! Counting is an add in the core's own memory, timing an add in place; every few milliseconds the numbers are published.
//! `traces` follows the requests in work through their stages, `relay` answers clients that ask for a page.

mod groups;
mod hot_keys;
#[allow(
    unsafe_code,
    reason = "mapping a file into memory; each block says why it may"
)]
mod page_map;
pub mod relay;
mod traces;

pub use traces::TraceId;

use crate::clock;
use crate::config::StagesConfig;
use crate::directory::Directory;
use crate::slow::{SlowLog, SlowReporter};
use groups::Groups;
use hot_keys::HotKeys;
use page_map::PageMap;
use pegasus_fbs::code::Code;
use pegasus_fbs::stats_page::{
    Counter, Gauge, PartitionCounter, PartitionGauge, PartitionSlot, PartitionStats, Stage, Timing,
    Writer,
};
use pegasus_net::request::{Operation, Request};
use pegasus_net::{Arrival, Sent};
use pegasus_replication::ids::{CoreId, Instant, NodeId, PartitionId, TableId};
use relay::{CorePage, Pages};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use traces::{Subject, Traces};

/// How often counters and gauges are copied into the page.
const PUBLISH_PERIOD: Duration = Duration::from_millis(20);

/// The statistics of one core, written by its thread alone.
#[derive(Debug)]
pub struct Stats {
    writer: Writer<PageMap>,
    page: PageMap,
    traces: Traces,
    groups: Groups,
    hot_keys: HotKeys,
    slow: SlowReporter,
    publish_at: Instant,
    /// Answers were given since the last publication.
    has_news: bool,
}

impl Stats {
    /// Makes the page of `core` at `path`, or takes over the one an earlier life left. `stages`: whether the stages of
    /// requests are measured.
    ///
    /// # Errors
    /// The file cannot be made, sized or mapped.
    pub fn create(
        path: &Path,
        node: NodeId,
        core: CoreId,
        started_unix_us: u64,
        stages: StagesConfig,
    ) -> io::Result<Self> {
        let page = PageMap::create(path)?;
        let mut writer = Writer::new(
            page.clone(),
            node.0,
            core.0,
            std::process::id(),
            started_unix_us,
        );
        let is_on = stages == StagesConfig::On;
        writer.set_stages_measured(is_on);
        Ok(Self {
            writer,
            page,
            traces: Traces::new(is_on),
            groups: Groups::default(),
            hot_keys: HotKeys::new(clock::now()),
            slow: SlowLog::default().reporter(Duration::ZERO),
            publish_at: Instant::default(),
            has_news: false,
        })
    }

    /// The mapped page and the board of hot keys, for the threads that answer questions about them.
    #[must_use]
    pub fn page(&self) -> Pages {
        Pages(vec![CorePage {
            page: self.page.clone(),
            hot_keys: self.hot_keys.board(),
        }])
    }

    pub fn count(&mut self, counter: Counter) {
        self.writer.add(counter, 1);
    }

    pub fn add(&mut self, counter: Counter, amount: u64) {
        self.writer.add(counter, amount);
    }

    /// Of a counter of nanoseconds.
    pub fn add_time(&mut self, counter: Counter, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.writer.add(counter, nanos);
    }

    pub fn set_counter(&mut self, counter: Counter, value: u64) {
        self.writer.set_counter(counter, value);
    }

    pub fn set(&mut self, gauge: Gauge, value: u64) {
        self.writer.set(gauge, value);
    }

    pub fn record(&mut self, timing: Timing, duration: Duration) {
        self.writer.record(timing, duration);
    }

    /// A client asks this replica for something: counted where the replica is known, found again by the slot.
    #[inline]
    pub fn count_request(
        &mut self,
        partition: PartitionId,
        operation: Option<Timing>,
    ) -> PartitionSlot {
        let Some(counter) = operation.and_then(PartitionCounter::request) else {
            return PartitionSlot::NONE;
        };
        let slot = self
            .writer
            .find_partition(partition.table.0, partition.index);
        self.writer.add_of(slot, counter, 1);
        slot
    }

    /// Adds to a counter of a replica; of none, nothing.
    #[inline]
    pub fn add_of(&mut self, slot: PartitionSlot, counter: PartitionCounter, amount: u64) {
        self.writer.add_of(slot, counter, amount);
    }

    /// The slot of a replica of this core, if it has one.
    #[inline]
    #[must_use]
    pub fn slot_of(&self, partition: PartitionId) -> PartitionSlot {
        self.writer
            .find_partition(partition.table.0, partition.index)
    }

    /// A replica is on this core: it gets a slot, or none where all are taken.
    pub fn keep_partition(&mut self, partition: PartitionId) -> PartitionSlot {
        self.writer
            .take_partition(partition.table.0, partition.index)
    }

    /// Gives back the slots of all replicas for which `is_here` does not hold.
    pub fn forget_partitions(&mut self, is_here: impl Fn(PartitionId) -> bool) {
        self.writer.retain_partitions(|table, index| {
            is_here(PartitionId {
                table: TableId(table),
                index,
            })
        });
    }

    pub fn set_of(&mut self, slot: PartitionSlot, gauge: PartitionGauge, value: u64) {
        self.writer.set_of(slot, gauge, value);
    }

    /// All that was counted for a replica since it is on this core.
    #[must_use]
    pub fn partition(&self, partition: PartitionId) -> Option<PartitionStats> {
        self.writer.partition(partition.table.0, partition.index)
    }

    /// A client asks for a key of this replica. `name`: hash key and sort key. One of many requests is looked at, to know
    /// the keys that are asked for most.
    #[inline]
    pub fn note_key(
        &mut self,
        partition: PartitionId,
        is_write: bool,
        hash: u64,
        name: (&[u8], &[u8]),
    ) {
        if self.hot_keys.is_sampled(is_write) {
            let key = if name.0.is_empty() { name.1 } else { name.0 };
            self.hot_keys.look_at(partition, is_write, key, hash);
        }
    }

    /// The loop begins a turn.
    pub const fn begin_turn(&mut self) {
        self.traces.begin_turn();
    }

    /// A request has been decoded, and waits for the right to be served. `key_hash`: of the key that it is about. Operations
    /// without a histogram are not traced.
    pub fn begin(
        &mut self,
        operation: Option<Timing>,
        request: &Request,
        key_hash: Option<u64>,
        arrival: &Arrival,
        now: Instant,
    ) -> TraceId {
        operation.map_or(TraceId::NONE, |operation| {
            let subject = Subject {
                operation,
                table: request.table,
                partition: request.partition,
                key_hash: key_hash.unwrap_or_default(),
            };
            self.traces.begin(subject, arrival, now.0)
        })
    }

    /// As `begin`, of a part of a Redis command that came at `received`.
    pub fn begin_part(
        &mut self,
        operation: Timing,
        partition: PartitionId,
        key_hash: u64,
        received: Instant,
        now: Instant,
    ) -> TraceId {
        let subject = Subject {
            operation,
            table: partition.table.0,
            partition: partition.index,
            key_hash,
        };
        let arrival = Arrival {
            received_ns: received.0,
            looked_at_ns: received.0,
            decoded_ns: received.0,
        };
        self.traces.begin(subject, &arrival, now.0)
    }

    /// Bytes of rows that a request has written or read.
    pub fn set_bytes(&mut self, trace: TraceId, bytes: u64) {
        self.traces.set_bytes(trace, bytes);
    }

    /// A request enters its next stage.
    pub fn enter(&mut self, trace: TraceId, stage: Stage, now: Instant) {
        self.traces.enter(trace, stage, now.0);
    }

    /// A request waits for the right to be answered.
    pub fn wait_for_right(&mut self, trace: TraceId, now: Instant) {
        self.traces.wait_for_right(trace, now.0);
    }

    /// A request may be served, and goes on with `stage`.
    pub fn admitted(&mut self, trace: TraceId, stage: Stage, now: Instant) {
        self.traces.pass(trace, Stage::Queue, stage, now.0);
    }

    /// An answer to a client of this core is about to be encoded: the receipt to give along, if its request is traced.
    pub fn answered(&mut self, trace: TraceId, code: Code, now: Instant) -> Option<u32> {
        self.has_news = true;
        self.writer.add(Counter::answer(code), 1);
        self.traces.release(trace, code, now.0)
    }

    /// An answer goes back to the core that handed the request over.
    pub fn handed_back(&mut self, trace: TraceId, code: Code, now: Instant) {
        self.has_news = true;
        self.writer.add(Counter::answer(code), 1);
        if let Some(trace) = self.traces.hand_back(trace, code, now.0) {
            self.writer.record_request(&trace.times(), clock::wall_us);
            if self.slow.may_be_slow(trace.total_ns()) {
                self.slow.answered(None, trace.times(), clock::wall_us());
            }
        }
    }

    /// Where requests go that took too long.
    pub fn report_slow(&mut self, reporter: SlowReporter) {
        self.slow = reporter;
    }

    /// Settings of tables may have changed.
    pub fn update_slow(&mut self, directory: &Directory) {
        self.slow.update(directory);
    }

    /// Whether a request that came at `received` may be slow, so that it is worth knowing who asks: one comparison.
    #[inline]
    #[must_use]
    pub const fn may_be_slow(&self, received: Instant, now: Instant) -> bool {
        self.slow.may_be_slow(now.0.saturating_sub(received.0))
    }

    /// Who asked for the answer with this receipt.
    pub fn note_client(&mut self, receipt: u32, client: Option<SocketAddr>) {
        self.slow.note_client(receipt, client);
    }

    /// Whether answers have been encoded since `end_encoding`.
    #[must_use]
    pub const fn has_encoded(&self) -> bool {
        self.traces.has_encoded()
    }

    /// All answers of this phase of the turn are encoded.
    pub fn end_encoding(&mut self, now: Instant) {
        self.traces.end_encoding(now.0);
    }

    /// Answers have left.
    pub fn sent(&mut self, sent: &mut Vec<Sent>) {
        self.has_news |= !sent.is_empty();
        let (traces, writer, slow) = (&mut self.traces, &mut self.writer, &mut self.slow);
        self.groups
            .record(sent, traces, writer, slow, clock::wall_us);
        sent.clear();
    }

    /// Whether the stages of requests are measured.
    #[must_use]
    pub const fn measures_stages(&self) -> bool {
        self.traces.is_on()
    }

    /// Whether `publish` is due; gauges are only gathered then.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        now >= self.publish_at
    }

    /// The last publication of a core that ends as it should.
    pub fn stop(self, wall_us: u64) {
        self.writer.stop(wall_us);
    }

    /// When a core with nothing to do should publish: a reader that comes later must not take requests of long ago for
    /// new ones.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.has_news.then_some(self.publish_at)
    }

    pub fn publish(&mut self, now: Instant, wall_us: u64) {
        self.has_news = false;
        self.publish_at = now.after(PUBLISH_PERIOD);
        self.writer.publish(wall_us);
        if self.hot_keys.is_due(now) {
            self.hot_keys.tell(now);
        }
    }
}

/// The counter and the histogram of an operation.
#[must_use]
pub const fn of_operation(operation: &Operation) -> (Counter, Option<Timing>) {
    match operation {
        Operation::Get(_) => (Counter::RequestGet, Some(Timing::Get)),
        Operation::Put(_) => (Counter::RequestPut, Some(Timing::Put)),
        Operation::Remove(_) => (Counter::RequestRemove, Some(Timing::Remove)),
        Operation::Exist(_) => (Counter::RequestExist, Some(Timing::Exist)),
        Operation::Ttl(_) => (Counter::RequestTtl, Some(Timing::Ttl)),
        Operation::MultiPut(_) => (Counter::RequestMultiPut, Some(Timing::MultiPut)),
        Operation::MultiGet(_) => (Counter::RequestMultiGet, Some(Timing::MultiGet)),
        Operation::MultiRemove(_) => (Counter::RequestMultiRemove, Some(Timing::MultiRemove)),
        Operation::Incr(_) => (Counter::RequestIncr, Some(Timing::Incr)),
        Operation::CheckAndSet(_) => (Counter::RequestCheckAndSet, Some(Timing::CheckAndSet)),
        Operation::CheckAndMutate(_) => {
            (Counter::RequestCheckAndMutate, Some(Timing::CheckAndMutate))
        }
        Operation::BatchGet(_) => (Counter::RequestBatchGet, Some(Timing::BatchGet)),
        Operation::SortKeyCount { .. } => {
            (Counter::RequestSortKeyCount, Some(Timing::SortKeyCount))
        }
        Operation::Scan(_) | Operation::OpenScanner(_) | Operation::NextPage { .. } => {
            (Counter::RequestScan, Some(Timing::Scan))
        }
        Operation::Redis(_) => (Counter::RequestRedis, None),
        Operation::Route { .. } => (Counter::RequestRoute, None),
        Operation::Ping => (Counter::RequestPing, None),
        Operation::CoreStats { .. }
        | Operation::HotKeys { .. }
        | Operation::Scrub { .. }
        | Operation::Compact { .. }
        | Operation::RemoteCommand { .. }
        | Operation::Http(_)
        | Operation::CloseScanner { .. }
        | Operation::Invalid(_) => (Counter::RequestCoreStats, None),
    }
}

#[cfg(test)]
mod cost;

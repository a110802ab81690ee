//! The statistics page: one file per core, written by the core that owns it, read by tools without asking the server.
//!
//! The file is an array of little-endian 64-bit words. The node maps it and hands the words to a [`Writer`]; tools read
//! it with [`read_at`], by ordinary file reads, while the node is busy and after it has died; other machines ask any core
//! of the node for it, which answers with a copy ([`copy_of`], [`compact`]).
//!
//! | words | contents |
//! |---|---|
//! | 0 | magic, `PGSSTATS` read as a little-endian number |
//! | 1 | format version |
//! | 2 | node (low 32 bits), core (high 32 bits) |
//! | 3 | process id |
//! | 4 | start of the process, microseconds since 1970 |
//! | 5 | number of counters (low 32 bits), of gauges (high 32 bits) |
//! | 6 | number of histograms (low 32 bits), words of each (high 32 bits) |
//! | 7 | sequence: odd while the words 8 up to the histograms are being written |
//! | 8 | time of the last publication, microseconds since 1970 |
//! | 9 | 1: the core has ended as it should; 0: it runs, or has died |
//! | 10 | number of slow slots (low 32 bits), words of each (high 32 bits) |
//! | 11 | 1: the stages of requests are measured; 0: they are switched off |
//! | 12 | number of partition slots (low 32 bits), words of each (high 32 bits) |
//! | 13 | number of counters of a partition (low 32 bits), of gauges (high 32 bits) |
//! | 14 | partition slots that have been used: those behind are empty |
//! | 15 | 0 |
//! | 16.. | counters, in the order of [`Counter`] |
//! | then | gauges, in the order of [`Gauge`] |
//! | then | histograms, in the order of [`Timing`]; see [`Histogram`] |
//! | then | slots of the slowest requests of the last minutes; see [`SlowRequest`] |
//! | then | slots of the replicas of the core; see [`PartitionStats`] |
//!
//! Counters and gauges change in the writer's own memory and are copied into the page by [`Writer::publish`], under the
//! sequence: a reader sees one moment. Histogram words only grow, each by itself, so they need no sequence and recording
//! is one add in place; a reader may see a few recordings more than the counters say. Each slow slot has a sequence of
//! its own: a reader takes whole records only. So has each partition slot, for whose it is; its counters only grow, each by
//! itself.
//!
//! Histograms of stages count every request, and their sums have every request's time; but where many requests are
//! answered together, one of them stands for a few in the buckets and in the longest duration
//! ([`Writer::record_stages`]). Whole operations and slow slots leave nothing out.

mod compact;
mod histogram;
mod names;
mod partitions;
mod reader;
mod slow;

pub use compact::{COMPACT_WORDS_MAX, compact, expand};
pub use histogram::{HISTOGRAM_WORDS, Histogram};
pub use names::{Class, Counter, Gauge, PartitionCounter, PartitionGauge, Role, Stage, Timing};
pub use partitions::{PARTITION_WORDS, PARTITIONS_MAX, PartitionSlot, PartitionStats};
pub use reader::{Identity, Interval, PageError, ReadError, Snapshot, copy_of, read_at};
pub use slow::{MINUTES_KEPT, RequestTimes, SLOW_PER_MINUTE, SLOW_SLOTS, SLOW_WORDS, SlowRequest};

use partitions::PartitionSlots;
use slow::SlowSlots;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

/// `PGSSTATS` as a little-endian word.
pub const MAGIC: u64 = u64::from_le_bytes(*b"PGSSTATS");
/// The layout above. Readers refuse another.
pub const VERSION: u64 = 7;
/// Words of a page; the file has eight times as many bytes.
pub const PAGE_WORDS: usize = PARTITIONS_AT + PARTITIONS_MAX * PARTITION_WORDS;
/// Bytes of a page: what the node gives the file before mapping it.
pub const PAGE_BYTES: usize = PAGE_WORDS * 8;

const SEQUENCE_AT: usize = 7;
const PUBLISHED_AT: usize = 8;
const STOPPED_AT: usize = 9;
const STAGES_ON_AT: usize = 11;
const PARTITIONS_USED_AT: usize = 14;
const COUNTERS_AT: usize = 16;
const GAUGES_AT: usize = COUNTERS_AT + Counter::COUNT;
const HISTOGRAMS_AT: usize = GAUGES_AT + Gauge::COUNT;
const SLOW_AT: usize = HISTOGRAMS_AT + Timing::COUNT * HISTOGRAM_WORDS;
const PARTITIONS_AT: usize = SLOW_AT + SLOW_SLOTS * SLOW_WORDS;

/// What words 5, 6, 10, 12 and 13 have to say for a reader of this version.
const SHAPE: [(usize, u64); 5] = [
    (5, pair(Counter::COUNT as u64, Gauge::COUNT as u64)),
    (6, pair(Timing::COUNT as u64, HISTOGRAM_WORDS as u64)),
    (10, pair(SLOW_SLOTS as u64, SLOW_WORDS as u64)),
    (12, pair(PARTITIONS_MAX as u64, PARTITION_WORDS as u64)),
    (
        13,
        pair(PartitionCounter::COUNT as u64, PartitionGauge::COUNT as u64),
    ),
];

/// The writing side: the one thread that owns the core. Recording costs a few nanoseconds and never blocks.
///
/// `P` is the mapped page: at least [`PAGE_WORDS`] words that nobody else writes.
pub struct Writer<P> {
    page: P,
    values: Box<[u64; HISTOGRAMS_AT - COUNTERS_AT]>,
    sequence: u64,
    slow: SlowSlots,
    partitions: PartitionSlots,
}

impl<P: AsRef<[AtomicU64]>> Writer<P> {
    /// Takes over a page: sets all of it to zero and writes the header, the magic last. `started_unix_us` together with
    /// the process id tells readers one life of a core from the next.
    ///
    /// # Panics
    /// If the page is shorter than [`PAGE_WORDS`].
    #[must_use]
    pub fn new(page: P, node: u32, core: u16, pid: u32, started_unix_us: u64) -> Self {
        let words = page.as_ref();
        assert!(
            words.len() >= PAGE_WORDS,
            "statistics page of {} words, {PAGE_WORDS} needed",
            words.len()
        );
        for word in words {
            store(word, 0);
        }
        let header = [
            VERSION,
            pair(node.into(), core.into()),
            pid.into(),
            started_unix_us,
        ];
        for (word, value) in words[1..].iter().zip(header) {
            store(word, value);
        }
        for (at, value) in SHAPE {
            store(&words[at], value);
        }
        let mut slow = SlowSlots::default();
        slow.turn_over(&words[SLOW_AT..PARTITIONS_AT], started_unix_us);
        store(&words[PUBLISHED_AT], started_unix_us);
        fence(Ordering::Release);
        store(&words[0], MAGIC);
        Self {
            page,
            values: Box::new([0; HISTOGRAMS_AT - COUNTERS_AT]),
            sequence: 0,
            slow,
            partitions: PartitionSlots::default(),
        }
    }

    /// Says whether [`Writer::record_request`] will be called, so that readers tell "switched off" from "no requests".
    pub fn set_stages_measured(&mut self, is_measured: bool) {
        store(&self.page.as_ref()[STAGES_ON_AT], is_measured.into());
    }

    /// Adds to a counter; visible to readers after the next [`Writer::publish`].
    pub fn add(&mut self, counter: Counter, amount: u64) {
        let value = &mut self.values[counter as usize];
        *value = value.wrapping_add(amount);
    }

    /// Sets a counter that somebody else adds up, for example a RocksDB ticker. It must not go back.
    pub fn set_counter(&mut self, counter: Counter, value: u64) {
        self.values[counter as usize] = value;
    }

    /// Sets a gauge; visible to readers after the next [`Writer::publish`].
    pub fn set(&mut self, gauge: Gauge, value: u64) {
        self.values[Counter::COUNT + gauge as usize] = value;
    }

    /// Records one duration, visible to readers at once.
    pub fn record(&mut self, timing: Timing, duration: Duration) {
        self.record_ns(
            timing,
            u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX),
        );
    }

    /// Records one duration in nanoseconds, visible to readers at once.
    pub fn record_ns(&mut self, timing: Timing, nanos: u64) {
        self.record_equal(timing, nanos, 1);
    }

    /// Records `count` equal durations in nanoseconds, visible to readers at once.
    pub fn record_equal(&mut self, timing: Timing, nanos: u64, count: u64) {
        let sum_ns = nanos.wrapping_mul(count);
        histogram::record(self.histogram(timing), nanos, sum_ns, count);
    }

    /// Records an answered request that stands for itself: its total at its operation, each stage, and the whole of it if
    /// it is among the slowest of the minute; only then `wall_us` (microseconds since 1970) is asked. Without allocation.
    pub fn record_request(&mut self, request: &RequestTimes, wall_us: impl FnOnce() -> u64) {
        let total_ns = request.total_ns();
        self.record_ns(request.operation, total_ns);
        self.record_stages(request.class(), &request.stages, &request.stages, 1);
        if self.is_slow(total_ns) {
            self.keep_slow(request, wall_us());
        }
    }

    /// Records the stages of `count` answered requests of one class: `sums` has the time of all of them by [`Stage`], in
    /// nanoseconds; `sample`, that of one of them, stands for each in the buckets and in the longest duration.
    pub fn record_stages(
        &mut self,
        class: Class,
        sample: &[u64; Stage::COUNT],
        sums: &[u64; Stage::COUNT],
        count: u64,
    ) {
        let words = &self.page.as_ref()[HISTOGRAMS_AT..SLOW_AT];
        for (stage, timing) in class.stages() {
            let (stage, start) = (stage as usize, timing as usize * HISTOGRAM_WORDS);
            let words = &words[start..start + HISTOGRAM_WORDS];
            histogram::record(words, sample[stage], sums[stage], count);
        }
    }

    /// Whether a request of this total, in nanoseconds, is among the slowest of the minute: one comparison.
    pub const fn is_slow(&self, total_ns: u64) -> bool {
        self.slow.wants(total_ns)
    }

    /// Keeps a request for which [`Writer::is_slow`] holds. `wall_us`: microseconds since 1970.
    pub fn keep_slow(&mut self, request: &RequestTimes, wall_us: u64) {
        let words = &self.page.as_ref()[SLOW_AT..PARTITIONS_AT];
        self.slow.keep(words, request, wall_us);
    }

    /// The slot of a replica, found or taken: a few nanoseconds. [`PartitionSlot::NONE`] when all are taken.
    #[inline]
    pub fn take_partition(&mut self, table: u32, partition: u32) -> PartitionSlot {
        if let Some(slot) = self.partitions.find(table, partition) {
            return slot;
        }
        let words = self.page.as_ref();
        let slot = self
            .partitions
            .take(&words[PARTITIONS_AT..PAGE_WORDS], table, partition);
        let used = self.partitions.used();
        store(&words[PARTITIONS_USED_AT], used as u64);
        slot
    }

    /// The slot of a replica, if it has one.
    #[inline]
    pub fn find_partition(&self, table: u32, partition: u32) -> PartitionSlot {
        let slot = self.partitions.find(table, partition);
        slot.unwrap_or(PartitionSlot::NONE)
    }

    /// The replica is gone: its slot is for others. Costs some microseconds.
    pub fn release_partition(&mut self, table: u32, partition: u32) {
        self.retain_partitions(|one, other| (one, other) != (table, partition));
    }

    /// Gives back the slots of all replicas for which `is_kept`, given table and partition, does not hold. Some microseconds
    /// if there are such, however many.
    pub fn retain_partitions(&mut self, is_kept: impl FnMut(u32, u32) -> bool) {
        let words = &self.page.as_ref()[PARTITIONS_AT..PAGE_WORDS];
        self.partitions.retain(words, is_kept);
    }

    /// Adds to a counter of a replica, visible to readers at once; of none, nothing.
    #[inline]
    pub fn add_of(&mut self, slot: PartitionSlot, counter: PartitionCounter, amount: u64) {
        if let Some(word) = self.partition_word(slot, partitions::place_of(counter)) {
            store(word, load(word).wrapping_add(amount));
        }
    }

    /// Sets a gauge of a replica, visible to readers at once; of none, nothing.
    pub fn set_of(&mut self, slot: PartitionSlot, gauge: PartitionGauge, value: u64) {
        if let Some(word) = self.partition_word(slot, partitions::place_of_gauge(gauge)) {
            store(word, value);
        }
    }

    /// What the page says of a replica now, for whoever owns the core.
    pub fn partition(&self, table: u32, partition: u32) -> Option<PartitionStats> {
        let slot = self.partitions.find(table, partition)?;
        let words = self.page.as_ref()[PARTITIONS_AT..PAGE_WORDS].iter();
        let words = words.skip(slot.start()).take(PARTITION_WORDS);
        PartitionStats::of_words(&words.map(load).collect::<Vec<_>>())
    }

    #[inline]
    fn partition_word(&self, slot: PartitionSlot, place: usize) -> Option<&AtomicU64> {
        self.page.as_ref()[PARTITIONS_AT..PAGE_WORDS].get(slot.start() + place)
    }

    /// Copies counters and gauges into the page, about 1 KiB. Call it at the end of a turn of the loop, at most every
    /// few milliseconds, and at least once a second when idle: an older time of publication means a stuck or dead core.
    pub fn publish(&mut self, now_unix_us: u64) {
        let words = self.page.as_ref();
        store(&words[SEQUENCE_AT], self.sequence + 1);
        fence(Ordering::Release);
        store(&words[PUBLISHED_AT], now_unix_us);
        for (word, value) in words[COUNTERS_AT..HISTOGRAMS_AT]
            .iter()
            .zip(self.values.iter())
        {
            store(word, *value);
        }
        fence(Ordering::Release);
        self.sequence += 2;
        store(&words[SEQUENCE_AT], self.sequence);
        self.slow
            .turn_over(&words[SLOW_AT..PARTITIONS_AT], now_unix_us);
    }

    /// Publishes for the last time and says that the core has ended as it should, so that tools can tell a stop from a
    /// crash.
    pub fn stop(mut self, now_unix_us: u64) {
        self.publish(now_unix_us);
        store(&self.page.as_ref()[STOPPED_AT], 1);
    }

    /// The value of a counter, published or not.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.values[counter as usize]
    }

    /// The value of a gauge, published or not.
    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.values[Counter::COUNT + gauge as usize]
    }

    /// A copy of the page as a reader sees it now, for `/metrics` of the same core.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of_words(&copy_of(self.page.as_ref()))
            .expect("the writer itself has written the header")
    }

    fn histogram(&self, timing: Timing) -> &[AtomicU64] {
        let start = HISTOGRAMS_AT + timing as usize * HISTOGRAM_WORDS;
        &self.page.as_ref()[start..start + HISTOGRAM_WORDS]
    }
}

impl<P> std::fmt::Debug for Writer<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

#[inline]
fn store(word: &AtomicU64, value: u64) {
    word.store(value.to_le(), Ordering::Relaxed);
}

#[inline]
fn load(word: &AtomicU64) -> u64 {
    u64::from_le(word.load(Ordering::Relaxed))
}

const fn pair(low: u64, high: u64) -> u64 {
    low | (high << 32)
}

fn halves(word: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = word.to_le_bytes();
    (
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    )
}

#[cfg(test)]
mod tests;

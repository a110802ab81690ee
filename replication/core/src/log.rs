//! The log of one core, shared by its replicas: a plain state machine that turns records into writes.
//!
//! ```text
//!   append(record) -> pending -> next_write() -> in flight -> on_durable(id) -> stamps, in order
//! ```
//!
//! * Everything pending when a write becomes possible goes into it (group commit); no timer delays a write.
//! * Completions may come in any order; durability is told in order, because a record counts only if
//!   everything before it is there too.
//! * A failed write is final: the log then takes nothing, writes nothing and reports nothing.
//! * A segment is freed when no replica needs it *and* a durable batch says so, so that recovery can tell
//!   a freed segment from a lost one.
//!
//! After a crash [`recover()`] reads the segments and gives the [`LogStart`] of the next life.
//! Reading order: `options`, `record`, `batch`, `segment`, `index`, this file, `recover`. Bytes: docs/formats.md.
//! What it has to keep, and why: docs/replication.md, "Ballots and adoption", "Reconciliation", "Restart"; docs/formats.md,
//! "Recovery".

mod batch;
mod index;
mod options;
mod record;
pub mod recover;
mod segment;
#[cfg(test)]
mod tests;

pub use batch::BatchItem;
pub use index::{Blocker, REAPPEND_BYTES_MAX, Remedy};
pub use options::LogOptions;
pub use record::{
    LogIdentity, LogIncarnation, PAYLOAD_BYTES_MAX, Record, RecordError, RecordKind, Stamp,
};
pub use recover::{
    Damage, Marker, RecoverError, RecoveredReplica, Recovery, SegmentSource, recover,
};
pub use segment::{LOG_FORMAT_VERSION, UnexpectedSegment};

use crate::ids::{Ballot, Decree, PartitionId, ReplicaIncarnation};
use batch::{BLOCK, BatchHeader, BatchPlan};
use index::{Pins, SegmentIndex};
use record::{NumberedRecord, Seal};
use segment::{CurrentSegment, NextSegment, SegmentHeader};
use std::collections::{BTreeMap, VecDeque};

/// Bytes of records appended again that may wait, and that one batch takes: they yield to clients.
const REAPPEND_PENDING_BYTES_MAX: usize = 1 << 20;
const REAPPEND_BATCH_BYTES_MAX: usize = 64 << 10;

/// Number of a log segment of this core, from 1, growing; numbers are skipped after a recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u64);

/// Number of a log write of this core in this life, from 1, growing by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogWriteId(pub u64);

/// A place in the log. Ordered: later places are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub segment: SegmentId,
    /// Bytes from the start of the segment.
    pub offset: u64,
}

impl Position {
    /// Before everything.
    pub const START: Self = Self {
        segment: SegmentId(0),
        offset: 0,
    };
}

/// One write: `bytes` (a multiple of 4,096) go to `offset` (a multiple of 4,096) of `segment`, then a flush.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogWrite {
    pub id: LogWriteId,
    pub segment: SegmentId,
    pub offset: u64,
    pub bytes: Vec<u8>,
}

/// How full the log is, against its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogFill {
    Low,
    /// Over half: relieve the `blockers`.
    Half,
    /// At the budget: refuse new writes until segments are freed.
    Full,
}

/// What the log repeats about a replica in every segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReplicaNote {
    pub(crate) incarnation: ReplicaIncarnation,
    pub(crate) adopted: Ballot,
    pub(crate) committed: Decree,
    /// Highest decree of its entries.
    pub(crate) prepared: Decree,
    /// Number of its last record.
    pub(crate) records: u64,
    pub(crate) is_suspect: bool,
}

impl ReplicaNote {
    const fn new(incarnation: ReplicaIncarnation) -> Self {
        Self {
            incarnation,
            adopted: Ballot::NONE,
            committed: Decree::ZERO,
            prepared: Decree::ZERO,
            records: 0,
            is_suspect: false,
        }
    }
}

/// Where the next life of a log begins; made by [`recover()`], also for a log that does not exist yet.
#[derive(Debug)]
pub struct LogStart {
    identity: LogIdentity,
    incarnation: LogIncarnation,
    next_segment: SegmentId,
    /// End of what survived; the first segment of this life names it. `Position::START`: nothing before.
    predecessor: Position,
    next_sequence: u64,
    previous_items: Vec<BatchItem>,
    index: SegmentIndex,
    replicas: BTreeMap<PartitionId, ReplicaNote>,
    oldest_needed: SegmentId,
    /// Segments that are no part of the log: freed once the first header of this life is durable.
    void_segments: Vec<SegmentId>,
}

impl LogStart {
    #[must_use]
    pub const fn incarnation(&self) -> LogIncarnation {
        self.incarnation
    }

    #[must_use]
    pub const fn next_segment(&self) -> SegmentId {
        self.next_segment
    }

    /// Last segment of the log and its final length, as the next segment's header will name them.
    #[must_use]
    pub const fn predecessor(&self) -> Position {
        self.predecessor
    }

    /// Segments on disk that are no part of the log: unused, cut off or already freed.
    #[must_use]
    pub fn void_segments(&self) -> &[SegmentId] {
        &self.void_segments
    }
}

/// A write under way.
#[derive(Debug)]
struct InFlight {
    id: LogWriteId,
    end: Position,
    is_done: bool,
    stamps: Vec<Stamp>,
    /// Bytes of its records, for `pending_bytes`.
    record_bytes: usize,
    /// The segments below are free once this is durable.
    oldest_needed: SegmentId,
}

/// The log of one shard. See the module's page.
#[derive(Debug)]
pub struct ShardLog {
    options: LogOptions,
    identity: LogIdentity,
    incarnation: LogIncarnation,
    next_sequence: u64,
    next_write_id: LogWriteId,
    next_segment: NextSegment,
    current: Option<CurrentSegment>,
    /// End of the last batch of this or an earlier life.
    end: Position,
    previous_items: Vec<BatchItem>,

    /// Repeats the state of every replica in the segment just opened; goes before `pending`.
    carried: VecDeque<Record>,
    pending: VecDeque<Record>,
    pending_bytes: usize,
    /// Records that [`Self::append`] has queued in this life.
    appended: u64,
    reappended: VecDeque<Record>,
    reappended_bytes: usize,
    inflight: VecDeque<InFlight>,

    /// Everything before is on stable storage.
    durable_upto: Position,
    /// The same, as far as a batch or a header under way says so.
    durable_recorded: Position,
    /// End of the last batch with records, which a trailer has to vouch for.
    records_end: Position,
    /// What the last batch says about the oldest segment needed.
    oldest_recorded: SegmentId,

    index: SegmentIndex,
    replicas: BTreeMap<PartitionId, ReplicaNote>,
    void_segments: Vec<SegmentId>,
    freed: Vec<SegmentId>,
    failed: Option<String>,
}

impl ShardLog {
    /// The log as recovery left it. Writes begin when the first segment is ready.
    ///
    /// # Panics
    /// If `options` do not pass [`LogOptions::check`].
    #[must_use]
    pub fn new(options: LogOptions, start: LogStart) -> Self {
        options.check().expect("options are checked at start");
        assert!(
            start.next_segment > start.predecessor.segment,
            "never appends to an old segment"
        );
        Self {
            options,
            identity: start.identity,
            incarnation: start.incarnation,
            next_sequence: start.next_sequence,
            next_write_id: LogWriteId(1),
            next_segment: NextSegment::new(start.next_segment),
            current: None,
            end: start.predecessor,
            previous_items: start.previous_items,
            carried: VecDeque::new(),
            pending: VecDeque::new(),
            pending_bytes: 0,
            appended: 0,
            reappended: VecDeque::new(),
            reappended_bytes: 0,
            inflight: VecDeque::new(),
            durable_upto: start.predecessor,
            durable_recorded: start.predecessor,
            records_end: start.predecessor,
            oldest_recorded: start.oldest_needed,
            index: start.index,
            replicas: start.replicas,
            void_segments: start.void_segments,
            freed: Vec::new(),
            failed: None,
        }
    }

    /// Queues a record for the next write. On a failed log it is dropped, and never becomes durable.
    ///
    /// # Panics
    /// If the payload is over [`LogOptions::payload_bytes_max`], or an entry has decree 0: admission's mistake.
    pub fn append(&mut self, record: Record) {
        self.check_record(&record);
        self.withdraw_voided(&record);
        if self.failed.is_none() {
            self.appended += 1;
            self.pending_bytes += record.encoded_bytes();
            self.pending.push_back(record);
        }
    }

    /// Entries that wait to be written again and that `record` voids: behind it they would count as the newer copy.
    fn withdraw_voided(&mut self, record: &Record) {
        let (stamp, bytes) = (record.stamp(), &mut self.reappended_bytes);
        let voids = |old: &Stamp| match stamp.kind {
            RecordKind::Entry => old.decree >= stamp.decree && old.ballot < stamp.ballot,
            RecordKind::Cut => old.decree > stamp.decree,
            RecordKind::Removed => true,
            _ => false,
        };
        self.reappended.retain(|waiting| {
            let old = waiting.stamp();
            let is_void = old.partition == stamp.partition && voids(&old);
            *bytes -= if is_void { waiting.encoded_bytes() } else { 0 };
            !is_void
        });
    }

    /// Queues an entry again, in decree order, so that the oldest segment can be freed; it yields to
    /// everything appended. `false`: too many wait already (or the log has failed), try after the next write.
    pub fn reappend(&mut self, record: Record) -> bool {
        self.check_record(&record);
        let bytes = record.encoded_bytes();
        let is_full = !self.reappended.is_empty()
            && self.reappended_bytes + bytes > REAPPEND_PENDING_BYTES_MAX;
        if is_full || self.failed.is_some() {
            return false;
        }
        self.reappended_bytes += bytes;
        self.reappended.push_back(record);
        true
    }

    /// Whether records of this partition wait to be written again.
    #[must_use]
    pub fn is_reappending(&self, partition: PartitionId) -> bool {
        let mut waiting = self.reappended.iter();
        waiting.any(|record| record.stamp().partition == partition)
    }

    /// The next write, if there is anything to write, a segment to write to and room in flight.
    /// Ask again until `None`; then again after every append, `on_durable` and `on_segment_ready`.
    pub fn next_write(&mut self) -> Option<LogWrite> {
        self.write(Trailer::No)
    }

    /// Is the log idle with something at its end that no header vouches for? Then, 10 ms after the last
    /// completion, ask for [`Self::next_trailer`].
    #[must_use]
    pub fn wants_trailer(&self) -> bool {
        let is_idle = self.inflight.is_empty() && !self.has_records();
        let is_unrecorded = self.durable_recorded < self.records_end;
        let has_news = self
            .index
            .oldest_needed(self.pins())
            .is_some_and(|oldest| oldest > self.oldest_recorded);
        self.failed.is_none() && self.current.is_some() && is_idle && (is_unrecorded || has_news)
    }

    /// An empty batch that records how far the log is flushed and which segments are free.
    pub fn next_trailer(&mut self) -> Option<LogWrite> {
        if self.wants_trailer() {
            self.write(Trailer::Yes)
        } else {
            None
        }
    }

    /// A write and its flush have completed. Returns what has become durable, in log order; nothing while
    /// an earlier write is still under way, nothing on a failed log.
    ///
    /// # Panics
    /// If no write `id` is under way.
    pub fn on_durable(&mut self, id: LogWriteId) -> Vec<Stamp> {
        if self.failed.is_some() {
            return Vec::new();
        }
        let write = self.inflight.iter_mut().find(|write| write.id == id);
        let write = write.expect("only a write under way completes");
        assert!(!write.is_done, "a write completes once");
        write.is_done = true;

        let mut stamps = Vec::new();
        while self.inflight.front().is_some_and(|write| write.is_done) {
            let write = self.inflight.pop_front().expect("just seen");
            self.on_durable_in_order(&write);
            stamps.extend(write.stamps);
        }
        stamps
    }

    /// A write or flush has failed: final. Nothing pending or in flight ever becomes durable in this life.
    pub fn fail(&mut self, error: String) {
        self.failed.get_or_insert(error);
        self.carried.clear();
        self.pending.clear();
        self.reappended.clear();
        self.inflight.clear();
        self.pending_bytes = 0;
        self.reappended_bytes = 0;
    }

    /// The segment to prepare now (`Effect::PrepareSegment`), told once; ask after every `next_write`.
    pub fn segment_to_prepare(&mut self) -> Option<SegmentId> {
        if self.failed.is_some() {
            None
        } else {
            self.next_segment.request()
        }
    }

    /// The file of this segment has its full length and written blocks; its contents do not matter.
    ///
    /// # Errors
    /// If it was not asked for, or has been reported before; nothing changes.
    pub fn on_segment_ready(&mut self, segment: SegmentId) -> Result<(), UnexpectedSegment> {
        self.next_segment.on_ready(segment)
    }

    /// The engine's marker says: everything of this partition up to `decree` is durable there.
    /// Nothing else moves truncation. Freed segments come from [`Self::take_freed_segments`], later.
    pub fn set_durable_in_engine(&mut self, partition: PartitionId, decree: Decree) {
        self.index.set_durable(partition, decree);
    }

    /// Gives up what the log holds of a quarantined replica, so that it no longer holds back segments.
    pub fn forget(&mut self, partition: PartitionId) {
        self.index.forget(partition);
    }

    /// Keeps entries of this partition from `decree` on for a learner, unless the log gets three quarters full. Replaces an
    /// earlier pin of the partition.
    pub fn pin(&mut self, partition: PartitionId, decree: Decree) {
        self.index.pin(partition, decree);
    }

    pub fn unpin(&mut self, partition: PartitionId) {
        self.index.unpin(partition);
    }

    /// The first decree from which on the log holds everything of this partition, as far as is known: reading it may still
    /// say otherwise. `None`: nothing.
    #[must_use]
    pub fn first_held(&self, partition: PartitionId) -> Option<Decree> {
        self.index.first_held(partition, self.oldest_recorded)
    }

    fn pins(&self) -> Pins {
        if self.used_bytes() * 4 >= self.options.budget_bytes * 3 {
            Pins::Broken
        } else {
            Pins::Count
        }
    }

    /// Segments that nobody needs any more (`Effect::FreeSegment`), each told once; ask after `on_durable`.
    pub fn take_freed_segments(&mut self) -> Vec<SegmentId> {
        std::mem::take(&mut self.freed)
    }

    /// Bytes of records appended and not yet durable: bound them at admission.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
            + self
                .inflight
                .iter()
                .map(|write| write.record_bytes)
                .sum::<usize>()
    }

    /// Records queued by [`Self::append`] in this life; the first is number 1.
    #[must_use]
    pub const fn appended_count(&self) -> u64 {
        self.appended
    }

    /// How many of them, in order, writes have taken.
    #[must_use]
    pub fn taken_count(&self) -> u64 {
        self.appended - self.pending.len() as u64
    }

    /// Whether records wait for a write of theirs.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.has_records()
    }

    /// Writes under way.
    #[must_use]
    pub fn writes_inflight(&self) -> usize {
        self.inflight.len()
    }

    /// Replicas that hold back the oldest segment, with what to do about each; none if it is the one being written.
    #[must_use]
    pub fn blockers(&self) -> Vec<Blocker> {
        self.index.blockers()
    }

    /// Bytes of the segments in use.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.index.segment_count() as u64 * self.options.segment_bytes
    }

    #[must_use]
    pub fn fill(&self) -> LogFill {
        let used = self.used_bytes();
        if used >= self.options.budget_bytes {
            LogFill::Full
        } else if used * 2 >= self.options.budget_bytes {
            LogFill::Half
        } else {
            LogFill::Low
        }
    }

    /// Why the log has failed, if it has.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    #[must_use]
    pub const fn options(&self) -> &LogOptions {
        &self.options
    }

    fn check_record(&self, record: &Record) {
        if let Record::Entry { entry, .. } = record {
            assert!(entry.decree > Decree::ZERO, "decrees start at 1");
            assert!(
                entry.mutation.payload.len() <= self.options.payload_bytes_max(),
                "payload over the log's bound"
            );
        }
    }

    fn has_records(&self) -> bool {
        !(self.carried.is_empty() && self.pending.is_empty() && self.reappended.is_empty())
    }

    fn write(&mut self, trailer: Trailer) -> Option<LogWrite> {
        if self.failed.is_some() || self.inflight.len() >= self.options.writes_inflight_max {
            return None;
        }
        let Some(current) = self.current else {
            return self.open_segment();
        };
        if !current.is_open || !(self.has_records() || trailer == Trailer::Yes) {
            return None;
        }
        let plan = self.plan_batch(&current);
        if plan.has_room() && (!plan.records.is_empty() || trailer == Trailer::Yes) {
            Some(self.build_batch(current, plan))
        } else {
            self.open_segment()
        }
    }

    /// Writes the header block of the next segment, if that is ready. Batches wait until it is durable.
    fn open_segment(&mut self) -> Option<LogWrite> {
        assert!(
            self.current.is_none_or(|current| current.is_open),
            "one segment opens at a time"
        );
        let id = self.next_segment.take()?;
        let predecessor = self.end;
        let header = SegmentHeader {
            identity: self.identity,
            incarnation: self.incarnation,
            segment: id,
            segment_bytes: self.options.segment_bytes,
            predecessor,
            flushed_upto: self.durable_upto,
            next_sequence: self.next_sequence,
        };
        self.durable_recorded = self.durable_upto;
        self.current = Some(CurrentSegment::opening(id, predecessor));
        self.index.add_segment(id);
        assert!(
            self.carried.is_empty(),
            "a segment holds at least what it repeats"
        );
        self.carried = self
            .replicas
            .iter()
            .flat_map(|(partition, note)| carried(*partition, note))
            .collect();
        let end = Position {
            segment: id,
            offset: BLOCK,
        };
        Some(self.submit(
            Position {
                segment: id,
                offset: 0,
            },
            end,
            header.encode(),
            Vec::new(),
            0,
        ))
    }

    /// Takes as many waiting records as one batch holds in what is left of the segment.
    fn plan_batch(&mut self, current: &CurrentSegment) -> BatchPlan {
        let room = self.options.segment_bytes - current.offset;
        let wanted = self.options.batch_bytes_max;
        let mut plan = BatchPlan::new(
            self.previous_items.len(),
            self.options.items_max(),
            wanted,
            room,
        );
        take_fitting(&mut self.carried, &mut plan, usize::MAX);
        if self.carried.is_empty() {
            self.pending_bytes -= take_fitting(&mut self.pending, &mut plan, usize::MAX);
        }
        if self.carried.is_empty() && self.pending.is_empty() {
            let taken = take_fitting(&mut self.reappended, &mut plan, REAPPEND_BATCH_BYTES_MAX);
            self.reappended_bytes -= taken;
        }
        plan
    }

    fn build_batch(&mut self, current: CurrentSegment, plan: BatchPlan) -> LogWrite {
        let mut stamps = Vec::with_capacity(plan.records.len());
        let mut record_bytes = 0;
        let items = plan.items();
        let batch_bytes = plan.batch_bytes();
        let mut records = Vec::with_capacity(plan.records.len());
        for record in plan.records {
            record_bytes += record.encoded_bytes();
            stamps.push(record.stamp());
            records.push(NumberedRecord {
                number: self.note(&record),
                record,
            });
        }
        if self.carried.is_empty() {
            let oldest = self
                .index
                .oldest_needed(self.pins())
                .expect("the current segment is in the index");
            self.oldest_recorded = self.oldest_recorded.max(oldest);
        }
        let header = BatchHeader {
            incarnation: self.incarnation,
            at: current.end(),
            sequence: self.next_sequence,
            flushed_upto: self.durable_upto,
            oldest_needed: self.oldest_recorded,
            predecessor: current.predecessor,
            items: items.clone(),
            previous_items: std::mem::replace(&mut self.previous_items, items),
            record_count: 0,
            header_bytes: 0,
            records_bytes: 0,
            batch_bytes: 0,
        };
        let seal = Seal::new(&self.identity, self.incarnation, current.id);
        let bytes = header.encode(&records, &seal);
        assert_eq!(bytes.len(), batch_bytes);
        let end = Position {
            segment: current.id,
            offset: current.offset + bytes.len() as u64,
        };
        assert!(end.offset <= self.options.segment_bytes);

        self.next_sequence += 1;
        self.durable_recorded = self.durable_upto;
        if !records.is_empty() {
            self.records_end = end;
        }
        self.current = Some(CurrentSegment {
            offset: end.offset,
            ..current
        });
        self.submit(current.end(), end, bytes, stamps, record_bytes)
    }

    fn submit(
        &mut self,
        at: Position,
        end: Position,
        bytes: Vec<u8>,
        stamps: Vec<Stamp>,
        record_bytes: usize,
    ) -> LogWrite {
        assert_eq!(at.offset % BLOCK, 0);
        assert_eq!(bytes.len() as u64, end.offset - at.offset);
        let id = self.next_write_id;
        self.next_write_id = LogWriteId(id.0 + 1);
        self.end = end;
        let oldest_needed = self.oldest_recorded;
        self.inflight.push_back(InFlight {
            id,
            end,
            is_done: false,
            stamps,
            record_bytes,
            oldest_needed,
        });
        assert!(self.inflight.len() <= self.options.writes_inflight_max);
        LogWrite {
            id,
            segment: at.segment,
            offset: at.offset,
            bytes,
        }
    }

    /// Brings index and repeated state up to a record that takes its place in the log now, and numbers it.
    fn note(&mut self, record: &Record) -> u64 {
        let stamp = record.stamp();
        let note = self.replicas.get(&stamp.partition);
        let note = note.filter(|note| note.incarnation == stamp.incarnation);
        let number = note.map_or(0, |note| note.records) + 1;
        self.index.note(&stamp, record.encoded_bytes() as u64);
        apply_note(&mut self.replicas, number, record);
        number
    }

    fn on_durable_in_order(&mut self, write: &InFlight) {
        assert!(write.end > self.durable_upto, "the log grows");
        self.durable_upto = write.end;
        if let Some(current) = &mut self.current
            && !current.is_open
            && write.end.segment == current.id
        {
            current.is_open = true;
            self.freed.append(&mut self.void_segments);
        }
        let oldest_needed = if planted!(SegmentFreedTooEarly) {
            write.end.segment
        } else {
            write.oldest_needed
        };
        self.freed.extend(self.index.free_below(oldest_needed));
    }
}

/// Should a batch be written although there is no record?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trailer {
    Yes,
    No,
}

/// Moves records from `queue` into `plan` while they fit, at most `bytes_max` of them; returns their bytes.
fn take_fitting(queue: &mut VecDeque<Record>, plan: &mut BatchPlan, bytes_max: usize) -> usize {
    let mut taken = 0;
    while let Some(record) = queue.front() {
        let bytes = record.encoded_bytes();
        let is_over = taken > 0 && taken + bytes > bytes_max;
        if is_over || !plan.may_add(record) {
            break;
        }
        taken += bytes;
        plan.add(queue.pop_front().expect("just seen"));
    }
    taken
}

/// What a new segment repeats of a replica. That it is suspect comes first: no prefix may clear it.
fn carried(partition: PartitionId, note: &ReplicaNote) -> impl Iterator<Item = Record> {
    let incarnation = note.incarnation;
    let suspect = note.is_suspect.then_some(Record::Suspect {
        partition,
        incarnation,
    });
    let state = Record::Carried {
        partition,
        incarnation,
        ballot: note.adopted,
        committed: note.committed,
        prepared: note.prepared,
    };
    suspect.into_iter().chain([state])
}

/// What `record` changes about its replica: adopted ballot and commit point only grow within one incarnation.
/// Used when a record is placed and when it is read back, so that both sides agree.
pub(crate) fn apply_note(
    replicas: &mut BTreeMap<PartitionId, ReplicaNote>,
    number: u64,
    record: &Record,
) {
    let stamp = record.stamp();
    if stamp.kind == RecordKind::Removed {
        if replicas
            .get(&stamp.partition)
            .is_some_and(|note| note.incarnation == stamp.incarnation)
        {
            replicas.remove(&stamp.partition);
        }
        return;
    }
    let note = replicas
        .entry(stamp.partition)
        .or_insert(ReplicaNote::new(stamp.incarnation));
    if note.incarnation != stamp.incarnation {
        *note = ReplicaNote::new(stamp.incarnation);
    }
    note.records = number;
    note.prepared = match record {
        Record::Entry { entry, .. } => note.prepared.max(entry.decree),
        Record::Carried { prepared, .. } => note.prepared.max(*prepared),
        Record::Cut { decree, .. } => note.prepared.min(*decree),
        _ => note.prepared,
    };
    note.is_suspect |= stamp.kind == RecordKind::Suspect;
    note.adopted = note.adopted.max(stamp.ballot);
    let committed = match record {
        Record::Entry { committed, .. } | Record::Carried { committed, .. } => *committed,
        Record::Cut { decree, .. } | Record::Committed { decree, .. } => *decree,
        Record::Adopt { .. } | Record::Removed { .. } | Record::Suspect { .. } => Decree::ZERO,
    };
    note.committed = note.committed.max(committed);
}

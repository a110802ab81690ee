//! The log of one core, shared by its replicas: a plain state machine that turns records into writes.
//!
//! ```text
//!   append(record) -> pending -> next_write() -> in flight -> on_durable(id) -> stamps, in order
//! ```
//!
//! * Everything pending when a write becomes possible goes into it (group commit); no timer delays a write. Beside another
//!   write it becomes possible when as many records wait as that one holds.
//! * Completions may come in any order; durability is told in order, because a record counts only if
//!   everything before it is there too.
//! * A failed write is final: the log then takes nothing, writes nothing and reports nothing.
//! * A segment is freed when no replica needs it *and* a durable batch says so, so that recovery can tell
//!   a freed segment from a lost one.
//!
//! After a crash [`recover()`] reads the segments and gives the [`LogStart`] of the next life.
//! Reading order: `options`, `record`, `batch`, `segment`, `index`, `note`, this file, `append`, `write`, `space`, `recover`. Bytes: docs/formats.md.
//! What it has to keep, and why: docs/replication.md, "Ballots and adoption", "Reconciliation", "Restart"; docs/formats.md,
//! "Recovery".

mod append;
mod batch;
mod index;
mod note;
mod options;
mod record;
pub mod recover;
mod segment;
mod space;
mod start;
#[cfg(test)]
mod tests;
mod write;

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
pub use start::LogStart;

pub(crate) use note::{ReplicaNote, apply_note};

use crate::ids::PartitionId;
use index::SegmentIndex;
use segment::{CurrentSegment, NextSegment};
use std::collections::{BTreeMap, VecDeque};

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

    /// Writes under way.
    #[must_use]
    pub fn writes_inflight(&self) -> usize {
        self.inflight.len()
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
}

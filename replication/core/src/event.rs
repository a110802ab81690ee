//! What goes into a shard and what comes out of it. Effects are data: the node, or the simulator, carries them out in order.

use crate::config::{Configuration, Member, Proposal};
use crate::ids::{
    Ballot, CoreAddress, Decree, Instant, PartitionId, ReplicaIncarnation, RequestId, Ticket,
};
use crate::log::{LogWrite, LogWriteId, SegmentId};
use crate::message::{Entry, Message};
use bytes::Bytes;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A client wants `payload` written. Answered once by `Reply` or `Reject` with the same ticket.
    Write {
        partition: PartitionId,
        ticket: Ticket,
        request_id: RequestId,
        /// The hash of its hash key: writes of one hash key have the same. Behind an atomic operation that is being computed
        /// it waits.
        gate: u64,
        /// Wall clock now, Unix microseconds; the shard makes it monotonic per partition.
        wall_us: u64,
        payload: Bytes,
        deadline: Instant,
    },
    /// A client wants a mutation that depends on the rows of one hash key, or one that must not be done twice. When it is its
    /// turn [`Shard::next_compute`](crate::shard::Shard::next_compute) hands it out. Answered once by `Reply` or `Reject`.
    Atomic {
        partition: PartitionId,
        ticket: Ticket,
        request_id: RequestId,
        /// As of `Write`.
        gate: u64,
        /// As of `Write`.
        wall_us: u64,
        deadline: Instant,
    },
    /// What the atomic operation of this ticket has come to; follows each [`Compute`], at once or later.
    Computed {
        partition: PartitionId,
        ticket: Ticket,
        gate: u64,
        outcome: Computed,
    },
    /// A client wants to read; the engine is asked by `Effect::Read`.
    Read {
        partition: PartitionId,
        ticket: Ticket,
        deadline: Instant,
    },
    /// The engine has answered the read of this ticket; the right to answer is checked again, and the read counts as done at
    /// `now`. The caller therefore reads the clock *after* the engine has answered, never before: a pause in between would
    /// otherwise go unseen, and the answer could be older than a write that another primary has acknowledged.
    ReadDone {
        partition: PartitionId,
        ticket: Ticket,
    },
    Message {
        from: CoreAddress,
        message: Message,
    },
    /// The link to a peer core is up: anything sent before on an earlier link may be lost.
    PeerUp {
        peer: CoreAddress,
    },
    PeerDown {
        peer: CoreAddress,
    },
    /// A dial to this core was refused: nobody listens there.
    PeerRefused {
        peer: CoreAddress,
    },
    /// The clocks of this core cannot be trusted over the last moments (boottime and wall disagree by more than 50 ms, or it
    /// missed its own deadline by more than a beacon period): leases are void until a beacon sent from now on is acknowledged.
    Fence,
    /// The log write and its flush have completed.
    LogDurable {
        write: LogWriteId,
    },
    /// A log write or flush failed: final for this core (never retried).
    LogFailed {
        error: String,
    },
    /// A new segment file is ready (zero-filled, header durable).
    SegmentReady {
        segment: SegmentId,
    },
    /// Meta's configuration, in ballot order.
    Configured {
        configuration: Configuration,
    },
    /// Meta's word on who learns this partition: told to the primary and to the target. `None`: the assignment has been
    /// taken back, durably. `configuration` is the one that holds now.
    LearnerAssigned {
        configuration: Configuration,
        learner: Option<Member>,
        /// The learner is to be made, empty. Otherwise the copy of its incarnation is here; if it is gone by now it is not made
        /// anew: the log may still speak of it.
        is_fresh: bool,
    },
    /// Meta wants the primary of this ballot to hand over to this secondary.
    HandOver {
        partition: PartitionId,
        ballot: Ballot,
        to: Member,
    },
    /// Answer to `Effect::FetchLog`: entries from its `from` on, at least one, in order, without a gap, none beyond its `to`;
    /// up to about 1 MiB. All are committed. The rest is asked for by another `FetchLog`.
    LogFetched {
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
        entries: Vec<Entry>,
    },
    /// Answer to `Effect::FetchCheckpoint`: the storage has been replaced, durably, and its marker says this decree.
    CheckpointInstalled {
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
        decree: Decree,
        ballot: Ballot,
    },
    /// Answer to `Effect::FetchLog` or `Effect::FetchCheckpoint`; the storage is as it was. `is_missing`: the source was
    /// heard, and its log does not hold what was wanted; otherwise it was busy, or not to be reached.
    FetchFailed {
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
        is_missing: bool,
    },
    /// Answer to `Effect::Create`: the storage of this replica is there and durable. It is empty, or holds everything up to
    /// `decree` of a backup: then the order goes on from there.
    Created {
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
        decree: Decree,
    },
    /// Answer to `Effect::Create`, or found later: this replica must not serve (corrupt, unreadable).
    ReplicaFailed {
        partition: PartitionId,
        error: String,
    },
    /// The engine holds everything up to `decree` (in memory at least).
    Applied {
        partition: PartitionId,
        decree: Decree,
    },
    /// The engine's marker says: durable up to `decree`. Moves log truncation, nothing else does.
    Flushed {
        partition: PartitionId,
        decree: Decree,
    },
    /// Meta has dropped the table; forget the replica of this incarnation.
    Dropped {
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
    },
    /// Storage pressure as the node sees it; acts at admission of new writes only.
    Pressure {
        pressure: Pressure,
    },
    /// `Shard::deadline()` has passed.
    Timeout,
}

/// An atomic operation whose turn it is. The caller looks its request id up in the engine's window, reads the rows it needs
/// as they are prepared (the newest of [`Shard::inflight`](crate::shard::Shard::inflight) that names the row, else the
/// engine), works it out and says [`Event::Computed`]. Until then no other mutation of its gate gets a decree.
///
/// What is in flight has to be looked at when this is handed out, before the engine is asked: it may be applied meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compute {
    pub partition: PartitionId,
    pub ticket: Ticket,
    pub gate: u64,
    /// Unix microseconds as of which rows are expired; not before the stamp of any mutation prepared.
    pub wall_us: u64,
}

/// See [`Event::Computed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Computed {
    /// This is to be written; answered when it is applied.
    Write { payload: Bytes },
    /// Nothing is to be written. Answered as a read is, when everything that it saw is applied.
    Answer,
    /// The engine holds the mutation of this request id already: answered at once.
    Remembered,
    /// The engine may have forgotten this request id. Never executed again; its outcome is unknown.
    Forgotten,
}

/// Why new writes are refused before they get a decree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Pressure {
    #[default]
    None,
    /// Memtables, level 0 or the apply queue are over their bound: `Busy`.
    Engine,
    /// Free disk space is below the reserve: `DiskFull`.
    DiskFull,
}

/// The caller's buffer: `Shard::handle` appends to it, the caller carries the effects out in order and clears it.
pub type Effects = Vec<Effect>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write these bytes at this place of this segment, then flush; answer with `LogDurable` or `LogFailed`.
    WriteLog(LogWrite),
    /// The log will soon need this segment: make it ready off the core.
    PrepareSegment { segment: SegmentId },
    /// Nothing in this segment is needed any more: recycle or delete it.
    FreeSegment { segment: SegmentId },
    /// Send over the link to `to`; dropped if the link is down (a `PeerDown` has been or will be told).
    Send { to: CoreAddress, message: Message },
    /// Apply to the engine in decree order; `Applied` follows, at once or later.
    Apply {
        partition: PartitionId,
        entry: Entry,
    },
    /// Read for this ticket; `ReadDone` follows.
    Read {
        partition: PartitionId,
        ticket: Ticket,
    },
    /// The mutation is committed and applied, or the read may be answered.
    Reply { ticket: Ticket, decree: Decree },
    /// Tell the client why not.
    Reject { ticket: Ticket, reason: Reject },
    /// Ask meta for a change, against this ballot; repeated until a newer configuration comes or the wish is gone.
    Propose {
        partition: PartitionId,
        /// Of the replica that asks.
        incarnation: ReplicaIncarnation,
        ballot: Ballot,
        proposal: Proposal,
    },
    /// Get committed entries `from..=to` of this partition from the log of the replica `source`; `LogFetched` or `FetchFailed`
    /// follows. One at a time for a replica, none together with `FetchCheckpoint`.
    FetchLog {
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
        source: Member,
        from: Decree,
        to: Decree,
    },
    /// Get a checkpoint of the replica `source` and put it in the place of the storage of this replica;
    /// `CheckpointInstalled` or `FetchFailed` follows. Its decree is at least what the source had applied when it was asked.
    FetchCheckpoint {
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
        source: Member,
    },
    /// Make the storage of this replica off the core, empty or from a backup; `Created` or `ReplicaFailed` follows.
    Create {
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
    },
    /// Flush the memtable of this replica: it holds the log back. `Flushed` follows.
    Flush { partition: PartitionId },
    /// Remove the storage of this dropped replica.
    Remove {
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
    },
    /// The replica is out of service until it is rebuilt; tell meta and the operator.
    Quarantine {
        partition: PartitionId,
        reason: String,
    },
    /// The primary here has found that this member lacks mutations it had acknowledged, or cannot be matched:
    /// it counts as out of service until a newer ballot. Tell meta and the operator.
    MemberLost {
        partition: PartitionId,
        member: Member,
        reason: String,
    },
}

/// Which bound a request ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BusyReason {
    /// Memtables or level 0 of the engine ([`Pressure::Engine`]).
    Engine,
    /// Mutations of the partition that are prepared and not committed.
    PreparesInflight,
    /// Mutations of the partition that are committed and not applied.
    ApplyQueue,
    /// Bytes of the log that are not durable.
    LogPending,
    /// The disk budget of the log.
    LogFull,
    /// Bytes under way to a secondary.
    PeerWindow,
    /// Reads in the engine, or waiting for the partition to serve.
    Reads,
    /// The partition is being handed over to another core.
    HandOver,
    /// Requests that wait for an atomic operation of their hash key, or for what it saw.
    Gate,
}

/// Why a request was not served. `Unknown` alone leaves open whether it was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reject {
    /// No replica of this partition here.
    NotHere,
    /// Not the primary; the hint is the one known here.
    NotPrimary { primary: Option<CoreAddress> },
    /// The primary is not ready yet (opening, reconciling, waiting for meta): try again.
    NotServing,
    /// Over a bound: try again after this many milliseconds. Never executed.
    Busy {
        reason: BusyReason,
        retry_after_ms: u32,
    },
    /// Fewer members than writes need, or one cannot be reached. Never executed.
    NotEnoughMembers,
    /// The disk reserve is used up. Never executed.
    DiskFull,
    /// This replica is quarantined or its core's log has failed. Never executed.
    OutOfService,
    /// The deadline passed before anything was done. Never executed.
    Expired,
    /// The payload is over `LogOptions::payload_bytes_max`. Never executed.
    TooLarge,
    /// A prepare left or an append was queued, and the outcome is not known.
    Unknown,
}

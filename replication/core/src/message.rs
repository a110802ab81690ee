//! What the cores of a group tell each other: plain structs, no bytes.

use crate::config::Configuration;
use crate::ids::{Ballot, Decree, PartitionId, ReplicaIncarnation, RequestId};
use bytes::Bytes;

/// One client batch: blind puts and deletes, the unit that gets a decree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// Stamped by the primary: Unix microseconds, monotonic within a partition.
    pub timestamp_us: u64,
    /// Identity for exactly-once retries; client 0 = none.
    pub request_id: RequestId,
    /// The encoded batch (docs/formats.md, "Batch"); opaque to replication. Empty = a no-op.
    pub payload: Bytes,
}

/// A mutation with its place in the order. `(ballot, decree)` names at most one mutation, ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub ballot: Ballot,
    pub decree: Decree,
    pub mutation: Mutation,
}

/// From core to core; a link delivers in order, at most once, and says when it breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Primary to secondary: append this.
    Prepare(Prepare),
    /// Secondary to primary: everything up to `prepared` is durable here.
    PrepareAck(PrepareAck),
    /// Secondary to primary: not appended, and why.
    PrepareReject(PrepareReject),
    /// Primary to secondary: liveness and commit points of all partitions the two cores share that way.
    Beacon(Beacon),
    /// Secondary to primary.
    BeaconAck(BeaconAck),
    /// Learner to primary: where do I go on?
    LearnRequest(LearnRequest),
    /// Primary to learner.
    LearnReply(LearnReply),
    /// Primary to the secondary that it hands over to: it will not serve in this ballot any more.
    Yield(Yield),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepare {
    /// The ballot under which it is sent, with its members: a higher one than known is adopted from here.
    pub configuration: Configuration,
    pub entry: Entry,
    /// Ballot of the entry at `entry.decree - 1` (NONE for decree 1): equal stamps mean equal prefixes.
    pub previous: Ballot,
    /// The primary's commit point.
    pub committed: Decree,
    /// `Some`: the receiver is addressed as the learner of this incarnation, not as a secondary.
    pub learner: Option<ReplicaIncarnation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrepareAck {
    pub partition: PartitionId,
    pub ballot: Ballot,
    pub prepared: Decree,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrepareReject {
    pub partition: PartitionId,
    /// The ballot of the refused prepare.
    pub ballot: Ballot,
    pub decree: Decree,
    pub state: ReplicaState,
    pub reason: RejectReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectReason {
    /// The sender's ballot is older than `state.ballot`.
    StaleBallot,
    /// Not the next decree, or its predecessor has another stamp: send again from `state.prepared + 1`.
    Gap,
    /// No replica, or one that is quarantined or still opening.
    OutOfService,
    /// It does not act under the ballot of the beacon yet: send the configuration, or wait until its adoption is durable.
    Adopting,
    /// It has asked to take over and acknowledges nothing of this ballot any more.
    Promised,
}

/// What a replica says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaState {
    pub partition: PartitionId,
    /// Adopted, durable.
    pub ballot: Ballot,
    /// Last decree durable in the log, without a gap before it.
    pub prepared: Decree,
    pub prepared_ballot: Ballot,
    pub committed: Decree,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beacon {
    /// Grows by one for each beacon of the sender to this core.
    pub number: u64,
    /// A periodic beacon has all partitions that the sender covers here; one in between only those it has to ask about.
    pub entries: Vec<BeaconEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeaconEntry {
    pub partition: PartitionId,
    pub ballot: Ballot,
    pub committed: Decree,
    /// Until the receiver has acknowledged the ballot, and when its state is wanted: an entry with a configuration is
    /// answered with a state.
    pub configuration: Option<Configuration>,
    /// As in [`Prepare`].
    pub learner: Option<ReplicaIncarnation>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeaconAck {
    /// 0: answers no beacon; `disk_full` has changed.
    pub number: u64,
    /// Only the partitions of `states` are acknowledged; otherwise all that the beacon covered and `excluded` does not name.
    pub partial: bool,
    /// Partitions that were asked about, as they are here.
    pub states: Vec<ReplicaState>,
    /// Partitions of the beacon that this core does not acknowledge, with the ballot it knows.
    pub excluded: Vec<(PartitionId, Ballot, RejectReason)>,
    /// This core's disk reserve is used up: its primaries are to take no more writes. Told unasked when it changes.
    pub disk_full: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LearnRequest {
    pub partition: PartitionId,
    /// Grows with each request of this copy in this life: only the answer to the last one counts.
    pub number: u64,
    /// The learner's ballot.
    pub ballot: Ballot,
    pub incarnation: ReplicaIncarnation,
    pub state: ReplicaState,
    /// The primary's log was asked, more than once, and does not hold what follows `state`.
    pub misses_log: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LearnReply {
    pub partition: PartitionId,
    /// Of the request; 0: unasked, the learner is not served any more.
    pub number: u64,
    pub ballot: Ballot,
    pub incarnation: ReplicaIncarnation,
    pub step: LearnStep,
}

/// What a learner does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LearnStep {
    /// Prepares follow, from this decree on.
    Attach { from: Decree },
    /// Get `from..=to` from the primary's log: all of it is committed. Then ask again.
    FetchLog { from: Decree, to: Decree },
    /// The log does not reach back that far: get a checkpoint, then ask again.
    FetchCheckpoint,
    /// Not now: not assigned here, not serving, another ballot, or fallen behind. Ask again later.
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Yield {
    pub partition: PartitionId,
    /// The ballot in which the sender will never serve again.
    pub ballot: Ballot,
    pub committed: Decree,
}

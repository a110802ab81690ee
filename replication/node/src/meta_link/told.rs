//! What meta is told of replicas.

use pegasus_replication::config::{Configuration, Proposal};
use pegasus_replication::ids::{Ballot, Decree, PartitionId, ReplicaIncarnation};

/// One copy of a partition on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaKey {
    pub partition: PartitionId,
    pub incarnation: ReplicaIncarnation,
}

/// What a replica does, as meta is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Removed on order.
    Gone,
    Opening,
    /// There and durable.
    Ready,
    /// Primary, and answers clients.
    Serving,
    OutOfService,
}

/// The last words of one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub ballot: Ballot,
    pub committed: Decree,
    pub prepared: Decree,
    pub health: Health,
    /// Of `OutOfService`.
    pub reason: String,
    /// Stamp of the last prepared entry.
    pub prepared_ballot: Ballot,
    pub applied: Decree,
    /// The newest known to the replica: what meta is rebuilt from if its store is lost.
    pub configuration: Option<Configuration>,
    pub load: ReplicaLoad,
}

/// What a replica has to do, smoothed over a minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplicaLoad {
    /// Requests a second that it answers without a log.
    pub reads: u32,
    /// Mutations a second that it applies.
    pub writes: u32,
}

/// A change that a replica asks meta for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    pub key: ReplicaKey,
    /// The ballot that it wants to leave.
    pub ballot: Ballot,
    pub proposal: Proposal,
}

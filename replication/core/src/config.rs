//! Configurations of partitions, as meta decides them, and the options of replication.

use crate::ids::{Ballot, CoreAddress, NodeId, PartitionId, ReplicaIncarnation};
use std::time::Duration;

/// One member of a partition's group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    pub address: CoreAddress,
    pub incarnation: ReplicaIncarnation,
}

/// Whether meta still waits for the members to create their empty replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Members create an empty replica of the named incarnation and report it; nobody serves.
    Creating,
    /// Every member has reported its replica once. From here on a member without one has lost it and never makes a new one.
    Active,
}

/// Who holds a partition, under which ballot. Made and persisted by meta, never by a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    pub partition: PartitionId,
    pub ballot: Ballot,
    pub stage: Stage,
    /// `None`: nobody may serve.
    pub primary: Option<Member>,
    pub secondaries: Vec<Member>,
    /// The table's wanted number of replicas.
    pub replica_count: u8,
    /// Members, the primary included, that a write needs; below it writes get `NotEnoughMembers`.
    pub min_replicas: u8,
}

impl Configuration {
    /// Primary first, then secondaries in order.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.primary.iter().chain(self.secondaries.iter())
    }

    #[must_use]
    pub fn member_on(&self, node: NodeId) -> Option<&Member> {
        self.members().find(|member| member.address.node == node)
    }
}

/// Knobs of one shard's replication. Each is a bound: at it the client is pushed back with `Busy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicationOptions {
    /// How often a primary sends its commit points when no prepare carries them. Default 100 ms, 10 ms to 10 s.
    pub beacon_period: Duration,
    /// Prepares of one partition without an answer yet. Default 256.
    pub prepare_inflight_max: usize,
    /// Bytes appended and not yet durable, per core. Default 32 MiB.
    pub log_pending_bytes_max: usize,
    /// Committed and not yet applied, per partition, in mutations. Default 1,024.
    pub apply_queue_max: usize,
    /// Bytes of prepares sent to one peer core and not yet acknowledged: its credit window. Default 16 MiB.
    pub peer_window_bytes_max: usize,
}

impl Default for ReplicationOptions {
    fn default() -> Self {
        Self {
            beacon_period: Duration::from_millis(100),
            prepare_inflight_max: 256,
            log_pending_bytes_max: 32 << 20,
            apply_queue_max: 1024,
            peer_window_bytes_max: 16 << 20,
        }
    }
}

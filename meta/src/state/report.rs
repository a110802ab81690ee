//! What nodes say of their replicas.

use super::command::TableInfo;
use pegasus_replication::config::{Configuration, Proposal};
use pegasus_replication::ids::{Ballot, CoreId, Decree, PartitionId, ReplicaIncarnation};

/// Longest reason kept, in bytes; the rest is cut.
pub const REASON_BYTES_MAX: usize = 256;

/// One copy of a partition, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaKey {
    pub partition: PartitionId,
    pub incarnation: ReplicaIncarnation,
}

/// What a replica does, as its node says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaHealth {
    /// Not there: removed on order, or never made.
    Gone,
    /// Being made or recovered.
    Opening,
    /// There, durable, and follows its primary.
    Ready,
    /// Primary, and answers clients.
    Serving,
    /// There and kept out of use; the reason says why.
    OutOfService,
    /// On the node, but in none of its configurations.
    Unknown,
}

/// The last words of one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// The ballot it has adopted.
    pub ballot: Ballot,
    pub committed: Decree,
    pub prepared: Decree,
    /// Stamp of the last prepared entry; NONE if the node does not say.
    pub prepared_ballot: Ballot,
    pub applied: Decree,
    /// That holds it; `None` if the node does not say.
    pub core: Option<CoreId>,
    pub health: ReplicaHealth,
    /// Of `OutOfService`, at most [`REASON_BYTES_MAX`] bytes.
    pub reason: String,
    /// Of its files; 0 = not said.
    pub bytes: u64,
    /// Requests that it answered without a log, and mutations that it applied, a second, smoothed.
    pub reads_per_second: u32,
    pub writes_per_second: u32,
    /// The newest configuration that it has adopted, if the node says. For rebuilding meta only; the state lets go of it.
    pub configuration: Option<Box<Configuration>>,
}

impl ReplicaStatus {
    /// The replica exists on disk, so that a partition may count on it.
    #[must_use]
    pub const fn is_created(&self) -> bool {
        matches!(self.health, ReplicaHealth::Ready | ReplicaHealth::Serving)
    }

    /// A copy outside of the configuration that may catch up by log. One of which the node says nothing better than that it is
    /// there is tried: it says what is wrong once it is to learn.
    pub(crate) const fn may_return(&self) -> bool {
        self.is_created() || matches!(self.health, ReplicaHealth::Unknown)
    }
}

/// Of a replica that was never reported and may yet be there.
pub(crate) const UNREPORTED: ReplicaStatus = ReplicaStatus {
    ballot: Ballot::NONE,
    committed: Decree::ZERO,
    prepared: Decree::ZERO,
    prepared_ballot: Ballot::NONE,
    applied: Decree::ZERO,
    core: None,
    health: ReplicaHealth::Opening,
    reason: String::new(),
    bytes: 0,
    reads_per_second: 0,
    writes_per_second: 0,
    configuration: None,
};

/// A heartbeat's contents.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Report {
    /// Digest of the last Sync that the node has taken over.
    pub digest: u64,
    /// `replicas` names all there are; others are gone.
    pub full: bool,
    pub replicas: Vec<(ReplicaKey, ReplicaStatus)>,
    pub disk_total: u64,
    pub disk_free: u64,
    /// That the node knows, in a full report. For rebuilding meta only.
    pub tables: Vec<TableInfo>,
    pub words: NodeWords,
}

/// What a node says of itself in each heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct NodeWords {
    /// It was told to stop: what it leads is to be handed over.
    pub is_leaving: bool,
    /// Its disk is too full for writes.
    pub refuses_writes: bool,
    /// Its wall clock less that of meta when this arrived, in milliseconds; `None` if it does not say.
    pub clock_ahead_ms: Option<i64>,
    /// In a full report.
    pub program: Option<Program>,
}

/// What runs on a node.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Program {
    /// Of the release, at most [`VERSION_BYTES_MAX`] bytes.
    pub version: String,
    /// Of the wire.
    pub protocol: u16,
    /// Of the data directory.
    pub disk_format: u16,
    /// Unix milliseconds on the node's own clock.
    pub started_ms: u64,
}

/// Longest version kept, in bytes; the rest is cut.
pub const VERSION_BYTES_MAX: usize = 64;

/// What one replica wants changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// Who asks.
    pub replica: ReplicaKey,
    /// The ballot it wants to leave: any other than the current one is only answered.
    pub ballot: Ballot,
    pub proposal: Proposal,
}

/// Cuts `reason` to [`REASON_BYTES_MAX`] at a character's end.
pub(crate) fn bounded_reason(reason: String) -> String {
    bounded(reason, REASON_BYTES_MAX)
}

/// Cuts `text` to `bytes_max` at a character's end.
pub(crate) fn bounded(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let end = (0..=bytes_max)
            .rev()
            .find(|&end| text.is_char_boundary(end))
            .unwrap_or(0);
        text.truncate(end);
    }
    text
}

//! Recovery: reads what a crash left (filled in below).
use super::{LogIdentity, LogStart, Position, SegmentId};
use crate::ids::{Ballot, Decree, PartitionId, ReplicaIncarnation};
use crate::message::Entry;
use bytes::Bytes;
use std::collections::BTreeMap;
use thiserror::Error;

/// Where recovery reads segments from. Whatever it returns must survive a further crash: the node flushes
/// every segment file before it recovers.
pub trait SegmentSource {
    /// Every segment on disk with its length in bytes, in any order.
    fn segments(&self) -> Vec<(SegmentId, u64)>;

    /// Exactly `length` bytes from `offset`; never asked beyond the segment's length. At most 64 MiB at once.
    ///
    /// # Errors
    /// What the disk said. Blocks that cannot be read count as bad, they do not stop recovery.
    fn read(&mut self, segment: SegmentId, offset: u64, length: usize) -> Result<Bytes, String>;
}

/// What the engine says of a replica it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    pub incarnation: ReplicaIncarnation,
    /// Durable in the engine up to here.
    pub decree: Decree,
}

/// What the log knows of one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredReplica {
    pub incarnation: ReplicaIncarnation,
    /// Highest ballot adopted.
    pub adopted: Ballot,
    /// Highest commit point known, the marker included.
    pub committed: Decree,
    /// Surviving entries above the marker, contiguous, in decree order; of a suspect replica those before the damage.
    pub entries: Vec<Entry>,
    /// Why this replica must not serve before it is rebuilt: the log has lost something of it.
    pub suspect: Option<String>,
}

/// What was wrong with the log. A torn tail is normal after a crash; everything else is for an operator's eyes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The log ends here, with an unfinished write that was never acknowledged.
    TornTail { at: Position },
    /// A batch below the flushed position is not readable; the lists say what was in it, `None`: unknown.
    Corrupt {
        at: Position,
        lost: Option<Vec<super::BatchItem>>,
    },
    /// The header block of a segment is bad; its batches vouch for it.
    SegmentHeader { segment: SegmentId },
    /// A segment that is needed is not there.
    SegmentMissing { segment: SegmentId },
}

/// Why a log cannot be used at all.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecoverError {
    #[error("segment {segment}: belongs to cluster {:032x} node {} shard {}", .found.cluster, .found.node, .found.shard)]
    Foreign { segment: u64, found: LogIdentity },
    #[error("segment {segment}: log format {found} is not known here")]
    Version { segment: u64, found: u32 },
}

/// What recovery found.
#[derive(Debug)]
pub struct Recovery {
    /// Replicas with a marker or with records; one that is only in the log has no storage any more.
    pub replicas: BTreeMap<PartitionId, RecoveredReplica>,
    pub damage: Vec<Damage>,
    /// For `ShardLog::new`.
    pub start: LogStart,
}

/// Reads the whole log of `identity`. `markers`: the replicas the engine holds.
///
/// # Errors
/// If a segment belongs to somebody else or is of another format: the directory must not be used.
pub fn recover<S: SegmentSource + ?Sized>(
    _source: &mut S,
    _identity: LogIdentity,
    _markers: &BTreeMap<PartitionId, Marker>,
) -> Result<Recovery, RecoverError> {
    unreachable!()
}

//! Where a life of the log begins.

use super::batch::BatchItem;
use super::index::SegmentIndex;
use super::note::ReplicaNote;
use super::record::{LogIdentity, LogIncarnation};
use super::{Position, SegmentId};
use crate::ids::PartitionId;
use std::collections::BTreeMap;

/// Where the next life of a log begins; made by [`recover()`](super::recover()), also for a log that does not exist yet.
#[derive(Debug)]
pub struct LogStart {
    pub(super) identity: LogIdentity,
    pub(super) incarnation: LogIncarnation,
    pub(super) next_segment: SegmentId,
    /// End of what survived; the first segment of this life names it. `Position::START`: nothing before.
    pub(super) predecessor: Position,
    pub(super) next_sequence: u64,
    pub(super) previous_items: Vec<BatchItem>,
    pub(super) index: SegmentIndex,
    pub(super) replicas: BTreeMap<PartitionId, ReplicaNote>,
    pub(super) oldest_needed: SegmentId,
    /// Segments that are no part of the log: freed once the first header of this life is durable.
    pub(super) void_segments: Vec<SegmentId>,
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

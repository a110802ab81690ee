//! How much the log holds, who needs it, and what is free.

use super::index::{Blocker, Pins};
use super::recover::SuffixRange;
use super::{LogFill, Position, SegmentId, ShardLog};
use crate::ids::{Decree, PartitionId};

impl ShardLog {
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

    /// Where to begin to read for these learners: no entry that any of them wants is before it. The end of the log if it holds
    /// nothing of them.
    #[must_use]
    pub fn suffix_start(&self, ranges: &[SuffixRange]) -> Position {
        let starts = ranges
            .iter()
            .filter_map(|range| self.index.begin_behind(range.partition, range.after));
        starts.min().unwrap_or(self.end)
    }

    pub(super) fn pins(&self) -> Pins {
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

    /// What is kept for learners alone does not count for half: flushing would not free it, and it goes at three quarters.
    #[must_use]
    pub fn fill(&self) -> LogFill {
        let needed = self.index.needed_count() as u64 * self.options.segment_bytes;
        if self.used_bytes() >= self.options.budget_bytes {
            LogFill::Full
        } else if needed * 2 >= self.options.budget_bytes {
            LogFill::Half
        } else {
            LogFill::Low
        }
    }
}

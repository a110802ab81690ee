//! Who waits until when, over all replicas of a shard: the earliest is the shard's deadline.

use crate::ids::{Decree, Instant, PartitionId, Ticket};
use std::collections::BTreeSet;

/// What happens when the time comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// The client of this pending mutation gives up; the mutation does not.
    Write(Decree),
    /// A parked read is told that nobody serves.
    Read(Ticket),
    /// The proposal of the next ballot is repeated.
    Propose,
}

/// Bounded by the pending writes and parked reads, which are.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    due: BTreeSet<(Instant, PartitionId, Due)>,
}

impl Deadlines {
    pub(crate) fn insert(&mut self, at: Instant, partition: PartitionId, due: Due) {
        let fresh = self.due.insert((at, partition, due));
        assert!(fresh, "{partition}: {due:?} waits twice");
    }

    pub(crate) fn remove(&mut self, at: Instant, partition: PartitionId, due: Due) {
        let found = self.due.remove(&(at, partition, due));
        assert!(found, "{partition}: {due:?} did not wait");
    }

    /// Takes the earliest that is due by `now`.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<(PartitionId, Due)> {
        let (at, _, _) = self.due.first()?;
        if *at > now {
            return None;
        }
        self.due
            .pop_first()
            .map(|(_, partition, due)| (partition, due))
    }

    pub(crate) fn earliest(&self) -> Option<Instant> {
        self.due.first().map(|(at, _, _)| *at)
    }
}

//! Who waits until when, over all replicas of a shard: the earliest is the shard's deadline.

use crate::ids::{Decree, Instant, PartitionId, Ticket};
use crate::shard::turn::Turn;
use std::collections::BTreeSet;

/// What happens when the time comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// The client of this pending mutation gives up; the mutation does not.
    Write(Decree),
    /// A parked read is told that nobody serves.
    Read(Ticket),
    /// A request has waited long enough for the atomic operation before it.
    Gate(Ticket),
    /// A request has waited long enough for this decree to be applied.
    Follower(Decree, Ticket),
    Timer(Timer),
}

/// What a replica waits for by itself, each at most once at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The proposal to meta is repeated.
    Propose,
    /// A secondary has not heard of its primary for the grace period.
    Suspect,
    /// No earlier primary can serve any more.
    Wait,
    /// A learner asks again where to go on.
    Learn,
    /// A hand-over has taken too long.
    Drain,
    /// Copies that have left are not waited for any more.
    Keep,
}

/// Bounded by the pending writes, the parked reads and who waits at gates, which are.
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

/// The timers of one replica that are set, and for when.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    at: [Option<Instant>; Timer::ALL.len()],
}

impl Timer {
    const ALL: [Self; 6] = [
        Self::Propose,
        Self::Suspect,
        Self::Wait,
        Self::Learn,
        Self::Drain,
        Self::Keep,
    ];

    const fn index(self) -> usize {
        self as usize
    }
}

impl Timers {
    pub(crate) fn is_set(&self, timer: Timer) -> bool {
        self.at(timer).is_some()
    }

    /// Sets `timer` for `at`, whatever it was set for before.
    pub(crate) fn set(
        &mut self,
        timer: Timer,
        at: Instant,
        partition: PartitionId,
        turn: &mut Turn<'_>,
    ) {
        self.clear(timer, partition, turn);
        turn.desk.deadlines.insert(at, partition, Due::Timer(timer));
        *self.slot(timer) = Some(at);
    }

    pub(crate) fn clear(&mut self, timer: Timer, partition: PartitionId, turn: &mut Turn<'_>) {
        if let Some(at) = self.slot(timer).take() {
            turn.desk.deadlines.remove(at, partition, Due::Timer(timer));
        }
    }

    pub(crate) fn clear_all(&mut self, partition: PartitionId, turn: &mut Turn<'_>) {
        for timer in Timer::ALL {
            self.clear(timer, partition, turn);
        }
    }

    /// It has gone off: its deadline is no longer among the shard's.
    pub(crate) fn on_due(&mut self, timer: Timer) {
        let was_set = self.slot(timer).take();
        assert!(was_set.is_some(), "{timer:?} went off and was not set");
    }

    fn at(&self, timer: Timer) -> Option<Instant> {
        self.at.get(timer.index()).copied().flatten()
    }

    fn slot(&mut self, timer: Timer) -> &mut Option<Instant> {
        self.at
            .get_mut(timer.index())
            .expect("as many slots as timers")
    }
}

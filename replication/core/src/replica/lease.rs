//! Leases between replicas: when a primary may answer reads, and when a secondary may ask to take its place.
//!
//! ```text
//!   primary    beacon sent (from) ---------- lease_period ---------> reads stop
//!   secondary      acknowledged (heard_at) ------------ grace_period ------------> asks meta, acknowledges no more
//! ```
//!
//! The beacon is acknowledged after it was sent, so the secondary's period begins later, and it is longer by more than what
//! two clocks may differ (docs/replication.md, "Lease arithmetic").

use super::primary::{Phase, Primary};
use super::progress::Progress;
use super::{Replica, Role, Timer};
use crate::config::{Configuration, Stage};
use crate::event::Reject;
use crate::ids::{CoreAddress, Instant};
use crate::message::Yield;
use crate::shard::links::SentBeacon;
use crate::shard::turn::{Desk, Turn};

/// A beacon of ours that a member has acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    /// When the beacon was sent.
    from: Instant,
    /// The fence at that time.
    fence: u64,
}

impl Progress {
    /// Whether this member lets us serve at `now`.
    pub(crate) fn grants_lease(&self, now: Instant, desk: &Desk) -> bool {
        self.lease.is_some_and(|lease| {
            lease.fence == desk.fence.number && now < lease.from.after(desk.options.lease_period)
        })
    }

    /// It has acknowledged this beacon, or cannot ask to take over before it has started again.
    pub(crate) fn note_heard(&mut self, beacon: SentBeacon, now: Instant) {
        let (from, fence) = (beacon.at, beacon.fence);
        if self.lease.is_none_or(|lease| lease.from <= from) {
            self.lease = Some(Lease { from, fence });
        }
        self.heard_at = now;
    }
}

impl Primary {
    /// Every member has acknowledged a beacon sent within the lease period; alone we have nobody to ask.
    pub(crate) fn holds_lease(&self, now: Instant, desk: &Desk) -> bool {
        let mut counted = self.peers.iter().filter(|peer| peer.is_counted());
        counted.all(|peer| peer.grants_lease(now, desk))
    }
}

impl Replica {
    /// Whether a read may be answered at `now`.
    pub(crate) fn may_read(&self, now: Instant, desk: &Desk) -> Result<(), Reject> {
        let primary = self.serving_primary()?;
        if primary.holds_lease(now, desk) {
            Ok(())
        } else {
            Err(Reject::NotServing)
        }
    }

    /// The core `from` has acknowledged `beacon`, and did not except this partition.
    pub(crate) fn handle_beacon_acknowledged(
        &mut self,
        from: CoreAddress,
        beacon: SentBeacon,
        turn: &mut Turn<'_>,
    ) {
        let Some(progress) = self.leading_progress(from) else {
            return;
        };
        if beacon.number < progress.covered_from {
            return;
        }
        progress.note_heard(beacon, turn.now);
        progress.knows_ballot = true;
        self.consider_counting(from, turn);
        self.admit_parked_reads(turn);
    }

    /// A beacon of our primary is acknowledged now.
    pub(crate) fn note_heard_primary(&mut self, now: Instant) {
        assert!(
            !self.promised,
            "{}: acknowledges a primary it asks to replace",
            self.partition
        );
        self.heard_at = self.heard_at.max(now);
    }

    /// Begins to watch the primary; taking the role counts as having heard of it.
    pub(crate) fn watch_primary(&mut self, turn: &mut Turn<'_>) {
        self.heard_at = self.heard_at.max(turn.now);
        let at = self.suspicion_due(turn);
        self.timers.set(Timer::Suspect, at, self.partition, turn);
    }

    /// When the primary's silence becomes a reason. After a pause of ours, what waits in the socket is read first.
    fn suspicion_due(&self, turn: &Turn<'_>) -> Instant {
        let options = &turn.desk.options;
        let after_fence = turn.desk.fence.at.after(options.beacon_period * 2);
        self.heard_at.after(options.grace_period).max(after_fence)
    }

    /// `Timer::Suspect`: asks to take over, if nothing has been heard. That is a promise: until a newer ballot nothing of
    /// this one is acknowledged any more, whatever meta answers.
    pub(crate) fn on_suspect(&mut self, turn: &mut Turn<'_>) {
        if !matches!(self.role, Role::Secondary) {
            return;
        }
        let due = self.suspicion_due(turn);
        if due > turn.now {
            self.timers.set(Timer::Suspect, due, self.partition, turn);
            return;
        }
        self.promised = true;
        self.propose(turn);
    }

    /// Until when an earlier primary may be answering reads, seen from the configuration that makes us primary. `None`:
    /// nobody can.
    pub(super) fn earlier_primary_may_serve_until(
        &self,
        configuration: &Configuration,
        turn: &Turn<'_>,
    ) -> Option<Instant> {
        if self.yielded.map(|yielded| yielded.next()) == Some(configuration.ballot) {
            return None;
        }
        let wait = self.heard_at.after(turn.desk.options.grace_period);
        let Some(before) = &self.configuration else {
            return Some(wait);
        };
        let is_first = before.stage == Stage::Creating && before.ballot == configuration.ballot;
        if is_first {
            return None;
        }
        let was_ours = before
            .primary
            .is_some_and(|member| member.address == turn.desk.identity);
        let follows = before.ballot == self.ballot && before.ballot.next() == configuration.ballot;
        if !(was_ours && follows) {
            return Some(wait);
        }
        // The ballot before was ours, and its record is in our log: that was written after its own wait.
        match &self.role {
            Role::Primary(primary) if primary.phase() == Phase::Waiting => primary.wait_until,
            _ => None,
        }
    }

    /// `Timer::Wait`, or the earlier primary has yielded: the ballot is adopted now.
    pub(crate) fn end_wait(&mut self, turn: &mut Turn<'_>) {
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        if primary.phase() != Phase::Waiting {
            return;
        }
        primary.end_wait();
        self.timers.clear(Timer::Wait, self.partition, turn);
        self.append_adoption(turn);
    }

    /// The primary of an earlier ballot will not serve again.
    pub(crate) fn handle_yield(&mut self, from: CoreAddress, it: &Yield, turn: &mut Turn<'_>) {
        let known = self.configuration.as_ref();
        let of_known = known
            .filter(|known| known.ballot == it.ballot)
            .is_none_or(|known| known.primary.is_some_and(|primary| primary.address == from));
        if !of_known
            || it.ballot < self.ballot_installed.min(self.ballot) && self.ballot != it.ballot.next()
        {
            return;
        }
        self.yielded = self.yielded.max(Some(it.ballot));
        if it.ballot.next() == self.ballot {
            self.end_wait(turn);
        }
    }
}

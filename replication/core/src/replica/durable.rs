//! What becomes durable in the log, and what that lets the role do: entries in order, entries prepared again, adoptions.

use super::{Replica, Restamp, Role};
use crate::ids::{Ballot, Decree};
use crate::log::{RecordKind, Stamp};
use crate::shard::turn::Turn;

impl Replica {
    /// A record about this replica is durable.
    pub(crate) fn on_durable(&mut self, stamp: Stamp, turn: &mut Turn<'_>) {
        match stamp.kind {
            RecordKind::Entry => self.on_entry_durable(stamp.ballot, stamp.decree, turn),
            RecordKind::Adopt => self.on_adoption_durable(stamp.ballot, turn),
            RecordKind::Cut => self.on_cut_durable(turn),
            RecordKind::Committed
            | RecordKind::Removed
            | RecordKind::Carried
            | RecordKind::Suspect => {}
        }
    }

    pub(super) fn on_entry_durable(&mut self, ballot: Ballot, decree: Decree, turn: &mut Turn<'_>) {
        if !self.on_restamp_durable(ballot, decree) {
            // Void by now, prepared again under a newer ballot, or appended a second time to free a segment.
            if decree <= self.durable || self.list.stamp(decree) != Some(ballot) {
                return;
            }
            // Prepared again, the highest first. A run whose ballot was overtaken before the run was durable counts for nothing:
            // no member has acknowledged more than `durable` of it, so the newer ballot prepares it once more.
            let is_of_run =
                ballot < self.ballot || self.restamp.is_some_and(|restamp| decree <= restamp.high);
            if decree > self.durable.next() && is_of_run {
                return;
            }
            assert_eq!(
                decree,
                self.durable.next(),
                "{}: the log became durable out of order",
                self.partition
            );
            self.durable = decree;
        }
        match self.role {
            Role::Primary(_) => self.advance_commit_point(turn),
            Role::Secondary => self.owe_acknowledgement(turn),
            Role::Learner(_) => {
                self.owe_acknowledgement(turn);
                self.commit_fetched(turn);
            }
            Role::Creating { .. } | Role::Idle | Role::OutOfService { .. } => {}
        }
    }

    /// Whether the lowest entry that is prepared again has become durable, which is appended last: then all have.
    pub(super) fn on_restamp_durable(&mut self, ballot: Ballot, decree: Decree) -> bool {
        let Some(restamp) = self.restamp else {
            return false;
        };
        let is_done = restamp.is_appended && ballot == self.ballot && decree == restamp.low;
        if is_done {
            self.durable = self.durable.max(restamp.high);
            self.restamp = None;
        }
        is_done
    }

    /// Gives the entries of `restamp` the stamp of our ballot, in the log the highest first. A newer stamp in the log voids
    /// the older ones above it, so that in this order no crash in between loses one: some of them may be committed.
    pub(super) fn append_restamp(&mut self, restamp: Restamp, turn: &mut Turn<'_>) {
        assert!(
            restamp.low > self.committed,
            "{}: prepares again what is committed",
            self.partition
        );
        let mut decree = restamp.high;
        while decree >= restamp.low {
            self.list.restamp(decree, self.ballot);
            let entry = self
                .list
                .entry(decree)
                .expect("only held entries are prepared again");
            self.append_record(entry, turn);
            decree = decree.previous();
        }
        self.restamp = Some(Restamp {
            is_appended: true,
            ..restamp
        });
    }

    /// Durable here under the stamp of our ballot, or committed.
    pub(super) fn settled(&self) -> Decree {
        self.restamp.map_or(self.durable, |restamp| {
            self.durable.min(restamp.low.previous())
        })
    }

    pub(super) fn on_adoption_durable(&mut self, ballot: Ballot, turn: &mut Turn<'_>) {
        assert!(
            ballot <= self.ballot,
            "{}: durable before it was adopted",
            self.partition
        );
        assert!(
            ballot > self.ballot_durable,
            "{}: adopted twice",
            self.partition
        );
        self.ballot_durable = ballot;
        if ballot < self.ballot {
            return;
        }
        match self.role {
            Role::Primary(_) => self.reconcile(turn),
            Role::Secondary => self.answer_owed_beacon(turn),
            Role::Learner(_) => {
                self.answer_owed_beacon(turn);
                self.go_on_learning(turn);
            }
            Role::Creating { .. } | Role::Idle | Role::OutOfService { .. } => {}
        }
    }
}

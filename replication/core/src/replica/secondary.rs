//! The secondary: appends what its primary sends, in order, and acknowledges what is durable.

use super::{Replica, Restamp, Role};
use crate::config::{Configuration, Stage};
use crate::event::{Effect, Pressure};
use crate::ids::{Ballot, CoreAddress, Decree, ReplicaIncarnation};
use crate::message::{
    BeaconAck, BeaconEntry, Entry, Message, Prepare, PrepareAck, PrepareReject, RejectReason,
};
use crate::shard::turn::Turn;

/// What the answer to one entry of a beacon says of this partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BeaconAnswer {
    Acknowledged,
    /// Acknowledged, and its state is wanted.
    State,
    Excluded(RejectReason),
}

impl Replica {
    pub(crate) fn handle_prepare(
        &mut self,
        from: CoreAddress,
        prepare: Prepare,
        turn: &mut Turn<'_>,
    ) {
        let Prepare {
            configuration,
            entry,
            previous,
            committed,
            learner,
        } = prepare;
        let (ballot, decree) = (configuration.ballot, entry.decree);
        // A primary sends under its own ballot only, and decrees begin at 1; anything else is not one of us.
        if entry.ballot != ballot || decree == Decree::ZERO {
            return;
        }
        let mut refused = match self.follow(from, configuration, learner, turn) {
            Err(reason) => Some(reason),
            Ok(()) if !self.fits(decree, previous, committed) => Some(RejectReason::Gap),
            Ok(()) => None,
        };
        if refused.is_none() {
            self.accept(entry, turn);
            if planted!(SecondaryAcknowledgesBeforeFlush) {
                self.durable = self.last();
                turn.desk.acknowledgements.insert(self.partition);
            }
            self.learn_commit_point(committed, turn);
            // It contradicted what we hold.
            refused = self
                .is_out_of_service()
                .then_some(RejectReason::OutOfService);
        }
        if let Some(reason) = refused {
            let (partition, state) = (self.partition, self.state());
            let reject = PrepareReject {
                partition,
                ballot,
                decree,
                state,
                reason,
            };
            turn.effects.push(Effect::Send {
                to: from,
                message: Message::PrepareReject(reject),
            });
        }
    }

    /// The order up to `decree - 1` is the primary's: we know it already, or our stamp there says so. A newer stamp than the
    /// primary's says so too where the primary has committed: whoever prepared it again later held the same mutation.
    fn fits(&self, decree: Decree, previous: Ballot, committed: Decree) -> bool {
        let before = decree.previous();
        before <= self.matched.max(self.committed)
            || self
                .list
                .stamp(before)
                .is_some_and(|stamp| stamp == previous || (stamp > previous && before <= committed))
    }

    /// Takes an entry that fits. Afterwards our order equals the primary's up to it.
    fn accept(&mut self, entry: Entry, turn: &mut Turn<'_>) {
        let decree = entry.decree;
        assert_eq!(
            entry.ballot, self.ballot,
            "{}: an entry of another ballot than the adopted one",
            self.partition
        );
        if decree <= self.committed {
            self.matched = self.matched.max(self.committed);
            turn.desk.acknowledgements.insert(self.partition);
            return;
        }
        let Some(held) = self.list.entry(decree) else {
            self.finish_restamp(turn);
            self.append(entry, turn);
            self.matched = decree;
            return;
        };
        let (is_same_stamp, is_same_mutation) =
            (held.ballot == entry.ballot, held.mutation == entry.mutation);
        if is_same_stamp && !is_same_mutation {
            let reason = format!(
                "two different mutations have ballot {} and decree {decree}",
                entry.ballot
            );
            self.quarantine(reason, turn);
            return;
        }
        if planted!(DuplicatePrepareAppliedTwice) && is_same_stamp {
            let decree = self.last().next();
            self.append(Entry { decree, ..entry }, turn);
        } else if is_same_stamp {
            turn.desk.acknowledgements.insert(self.partition);
        } else if is_same_mutation {
            self.widen_restamp(decree, turn);
            turn.desk.acknowledgements.insert(self.partition);
        } else {
            self.finish_restamp(turn);
            self.list.void_from(decree);
            self.durable = self.durable.min(decree.previous());
            self.append(entry, turn);
        }
        self.matched = self.matched.max(decree);
    }

    /// The primary prepares again, unchanged, what we hold under an older ballot. Our records of it wait until all of the
    /// old tail has come, or something else in its place: what follows in the tail may be committed, and a newer stamp
    /// before it in the log would void it.
    fn widen_restamp(&mut self, decree: Decree, turn: &mut Turn<'_>) {
        let before = self.restamp.unwrap_or(Restamp {
            low: decree,
            high: decree,
            is_appended: false,
        });
        assert!(
            !before.is_appended,
            "{}: prepared again after the old tail was done",
            self.partition
        );
        let (low, high) = (before.low.min(decree), before.high.max(decree));
        self.restamp = Some(Restamp {
            low,
            high,
            is_appended: false,
        });
        if decree == self.last() {
            self.finish_restamp(turn);
        }
    }

    fn finish_restamp(&mut self, turn: &mut Turn<'_>) {
        if let Some(restamp) = self.restamp.filter(|restamp| !restamp.is_appended) {
            self.append_restamp(restamp, turn);
        }
    }

    /// The primary of our ballot says that every member has everything up to `committed`.
    pub(super) fn learn_commit_point(&mut self, committed: Decree, turn: &mut Turn<'_>) {
        // Only what is known to be the primary's order can be what it has committed.
        let known = committed.min(self.matched).min(self.settled());
        if !self.is_follower() || known <= self.committed {
            return;
        }
        self.committed = known;
        self.issue_applies(turn);
    }

    /// One entry of beacon `number` from our primary's core.
    pub(crate) fn handle_beacon_entry(
        &mut self,
        from: CoreAddress,
        number: u64,
        entry: BeaconEntry,
        turn: &mut Turn<'_>,
    ) -> BeaconAnswer {
        let is_asked = entry.configuration.is_some();
        let follows = match entry.configuration {
            Some(configuration) => self.follow(from, configuration, entry.learner, turn),
            None => self.still_follows(from, entry.ballot, entry.learner),
        };
        if let Err(reason) = follows {
            return BeaconAnswer::Excluded(reason);
        }
        self.learn_commit_point(entry.committed, turn);
        if self.ballot_durable != self.ballot {
            self.beacon_owed = Some((from, number));
            return BeaconAnswer::Excluded(RejectReason::Adopting);
        }
        self.note_heard_primary(turn.now);
        if is_asked {
            BeaconAnswer::State
        } else {
            BeaconAnswer::Acknowledged
        }
    }

    /// Whether `from` is our primary by `configuration`; a newer one is adopted from its word.
    fn follow(
        &mut self,
        from: CoreAddress,
        configuration: Configuration,
        learner: Option<ReplicaIncarnation>,
        turn: &mut Turn<'_>,
    ) -> Result<(), RejectReason> {
        if matches!(self.role, Role::Creating { .. } | Role::OutOfService { .. }) {
            return Err(RejectReason::OutOfService);
        }
        if configuration.ballot < self.ballot {
            return Err(RejectReason::StaleBallot);
        }
        let sender_is_primary = configuration
            .primary
            .is_some_and(|primary| primary.address == from);
        let own = configuration
            .secondaries
            .iter()
            .find(|member| member.address == turn.desk.identity);
        let names_us = match learner {
            None => own.is_some_and(|member| member.incarnation == self.incarnation),
            Some(incarnation) => {
                own.is_none() && incarnation == self.incarnation && self.may_attach()
            }
        };
        if !sender_is_primary || !names_us || configuration.stage != Stage::Active {
            return Err(RejectReason::OutOfService);
        }
        if configuration.ballot > self.ballot || self.ballot_installed < self.ballot {
            self.install(configuration, turn);
        }
        self.still_follows(from, self.ballot, learner)?;
        if learner.is_some() {
            self.on_attached(turn);
        }
        Ok(())
    }

    /// The same for a ballot whose configuration is known.
    fn still_follows(
        &self,
        from: CoreAddress,
        ballot: Ballot,
        learner: Option<ReplicaIncarnation>,
    ) -> Result<(), RejectReason> {
        if matches!(self.role, Role::Creating { .. } | Role::OutOfService { .. }) {
            return Err(RejectReason::OutOfService);
        }
        if planted!(StaleConfigurationAccepted) && ballot < self.ballot {
            return Ok(());
        }
        if ballot < self.ballot {
            return Err(RejectReason::StaleBallot);
        }
        if ballot > self.ballot || self.ballot_installed < self.ballot {
            return Err(RejectReason::Adopting);
        }
        let is_meant = match learner {
            None => matches!(self.role, Role::Secondary),
            Some(incarnation) => incarnation == self.incarnation && self.may_attach(),
        };
        if !is_meant || self.primary_hint() != Some(from) {
            Err(RejectReason::OutOfService)
        } else if self.promised {
            Err(RejectReason::Promised)
        } else {
            Ok(())
        }
    }

    /// The adoption is durable: answers the beacon that brought it.
    pub(crate) fn answer_owed_beacon(&mut self, turn: &mut Turn<'_>) {
        if let Some((to, number)) = self.beacon_owed.take() {
            if self.promised {
                return;
            }
            self.note_heard_primary(turn.now);
            let ack = BeaconAck {
                number,
                partial: true,
                states: vec![self.state()],
                excluded: Vec::new(),
                disk_full: turn.desk.pressure == Pressure::DiskFull,
            };
            turn.effects.push(Effect::Send {
                to,
                message: Message::BeaconAck(ack),
            });
        }
        self.owe_acknowledgement(turn);
    }

    /// Acknowledges at the end of the turn if there is something new to say.
    pub(crate) fn owe_acknowledgement(&mut self, turn: &mut Turn<'_>) {
        if self.acknowledgeable(turn.desk.options.apply_queue_max) > self.acknowledged {
            turn.desk.acknowledgements.insert(self.partition);
        }
    }

    /// Durable here and equal to the primary's order. A secondary whose engine lags behind holds its acknowledgements, so
    /// that the primary's bound on prepares in flight bounds its queue too.
    fn acknowledgeable(&self, apply_queue_max: usize) -> Decree {
        if self.apply_queue() >= apply_queue_max {
            return self.committed;
        }
        self.matched.max(self.committed).min(self.durable)
    }

    /// The end of the turn: one acknowledgement for everything since the last.
    pub(crate) fn take_acknowledgement(
        &mut self,
        apply_queue_max: usize,
    ) -> Option<(CoreAddress, PrepareAck)> {
        if !self.is_follower() || self.promised || self.ballot_durable != self.ballot {
            return None;
        }
        let to = self.primary_hint()?;
        let prepared = self.acknowledgeable(apply_queue_max);
        assert!(
            prepared <= self.durable,
            "{}: acknowledges what is not durable",
            self.partition
        );
        self.acknowledged = self.acknowledged.max(prepared);
        Some((
            to,
            PrepareAck {
                partition: self.partition,
                ballot: self.ballot,
                prepared,
            },
        ))
    }
}

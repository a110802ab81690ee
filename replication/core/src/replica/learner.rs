//! The learner: a copy outside of the configuration that catches up. It pulls; the primary says where to go on.
//!
//! ```text
//!            ask --> FetchLog ---pieces, each durable---> ask
//!   Asking --------> FetchCheckpoint ---installed, cut--> ask
//!            \-----> Attached: prepares and beacons, as a secondary ----meta adds it----> Secondary
//! ```
//!
//! What it holds beyond its commit point may be of another order. If the primary cannot match it, it is voided by a `Cut`
//! record before anything else is taken; what matches is kept, because it may be acknowledged already.

use super::{PreparedList, Replica, Role, Timer, Unflushed};
use crate::config::{Configuration, Member};
use crate::event::Effect;
use crate::ids::{Ballot, CoreAddress, Decree};
use crate::log::Record;
use crate::message::{Entry, LearnReply, LearnRequest, LearnStep, Message};
use crate::shard::turn::Turn;

/// How far a learner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LearnStage {
    /// It wants to know where to go on; the question goes out when all it holds is durable.
    Asking {
        is_sent: bool,
    },
    /// What does not match is void when the record of it is durable.
    Cutting,
    /// It gets the primary's log up to `to`, piece by piece.
    FetchingLog {
        to: Decree,
        is_under_way: bool,
    },
    FetchingCheckpoint,
    /// It gets prepares.
    Attached,
}

/// What the engine is getting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fetch {
    Log,
    Checkpoint,
}

#[derive(Debug)]
pub(crate) struct Learner {
    stage: LearnStage,
    /// All entries up to here are committed, as the primary has said.
    known: Decree,
    /// How often a log did not hold what follows this decree, though its primary had said so.
    misses: (Decree, u32),
}

/// So many misses are believed: a log may be read while it is being cut.
const MISSES_MAX: u32 = 3;

impl Replica {
    /// Meta's word on who learns this partition. The configuration comes with it.
    pub(crate) fn handle_learner_assigned(
        &mut self,
        configuration: Configuration,
        learner: Option<Member>,
        turn: &mut Turn<'_>,
    ) {
        let known = self.configuration.as_ref().map(|known| known.ballot);
        if configuration.ballot < self.ballot || Some(configuration.ballot) < known {
            return;
        }
        self.learner = learner;
        self.handle_configured(configuration, turn);
        match self.role {
            Role::Primary(_) => self.on_assignment(turn),
            Role::Idle if self.is_assigned(turn) && self.ballot_installed == self.ballot => {
                self.become_learner(turn)
            }
            Role::Learner(_) if !self.is_assigned(turn) => {
                self.timers.clear(Timer::Learn, self.partition, turn);
                self.role = Role::Idle;
            }
            _ => {}
        }
    }

    /// Whether this copy is the one that meta wants to learn.
    pub(super) fn is_assigned(&self, turn: &Turn<'_>) -> bool {
        self.learner.is_some_and(|learner| {
            learner.address == turn.desk.identity && learner.incarnation == self.incarnation
        })
    }

    pub(super) fn become_learner(&mut self, turn: &mut Turn<'_>) {
        self.append_again(turn);
        let stage = LearnStage::Asking { is_sent: false };
        self.role = Role::Learner(Learner {
            stage,
            known: Decree::ZERO,
            misses: (Decree::ZERO, 0),
        });
        self.ask_where_to_go_on(turn);
    }

    /// What was prepared again, and overtaken by a newer ballot before it was durable, does not count as durable though it
    /// is in the log ("Reconciliation"). A member gets it once more from its primary; a learner would wait for it for ever.
    fn append_again(&mut self, turn: &mut Turn<'_>) {
        assert!(
            self.restamp.is_none(),
            "{}: learns in the middle of a reconciliation",
            self.partition
        );
        let mut decree = self.durable.next();
        while decree <= self.last() {
            let entry = self.list.entry(decree).expect("held until it is applied");
            self.append_record(entry, turn);
            decree = decree.next();
        }
    }

    /// How far it has learned, if it is a learner.
    pub fn learn_stage(&self) -> Option<LearnStage> {
        match &self.role {
            Role::Learner(learner) => Some(learner.stage),
            _ => None,
        }
    }

    /// Asks the primary, now or as soon as all that is held is durable; again and again until there is an answer.
    pub(super) fn ask_where_to_go_on(&mut self, turn: &mut Turn<'_>) {
        let at = turn.now.after(turn.desk.options.beacon_period * 5);
        self.set_stage(LearnStage::Asking { is_sent: false });
        self.timers.set(Timer::Learn, at, self.partition, turn);
        self.go_on_learning(turn);
    }

    fn note_missing(&mut self) {
        let last = self.last();
        if let Role::Learner(learner) = &mut self.role {
            let before = if learner.misses.0 == last {
                learner.misses.1
            } else {
                0
            };
            learner.misses = (last, before + 1);
        }
    }

    /// The primary's log does not hold what the primary says: another step is needed.
    fn misses_log(&self) -> bool {
        matches!(&self.role, Role::Learner(learner)
            if learner.misses.0 == self.last() && learner.misses.1 >= MISSES_MAX)
    }

    fn set_stage(&mut self, stage: LearnStage) {
        if let Role::Learner(learner) = &mut self.role {
            learner.stage = stage;
        }
    }

    /// `Timer::Learn`: no answer has come.
    pub(crate) fn on_learn_timer(&mut self, turn: &mut Turn<'_>) {
        if matches!(
            self.learn_stage(),
            Some(LearnStage::Asking { .. } | LearnStage::Attached)
        ) {
            self.ask_where_to_go_on(turn);
        }
    }

    /// Something has become durable or applied: does what waited for it.
    pub(super) fn go_on_learning(&mut self, turn: &mut Turn<'_>) {
        let is_settled = self.durable == self.last()
            && self.restamp.is_none()
            && self.ballot_durable == self.ballot;
        if !is_settled
            || self.fetch.is_some()
            || self.apply_queue() >= turn.desk.options.apply_queue_max
        {
            return;
        }
        match self.learn_stage() {
            Some(LearnStage::Asking { is_sent: false }) => self.send_learn_request(turn),
            Some(LearnStage::FetchingLog {
                to,
                is_under_way: false,
            }) if self.last() >= to => self.ask_where_to_go_on(turn),
            Some(LearnStage::FetchingLog {
                to,
                is_under_way: false,
            }) => self.fetch_log(to, turn),
            _ => {}
        }
    }

    fn send_learn_request(&mut self, turn: &mut Turn<'_>) {
        let Some(to) = self.primary_hint() else {
            return;
        };
        self.learn_number += 1;
        self.set_stage(LearnStage::Asking { is_sent: true });
        turn.effects.push(Effect::Send {
            to,
            message: Message::LearnRequest(LearnRequest {
                partition: self.partition,
                number: self.learn_number,
                ballot: self.ballot,
                incarnation: self.incarnation,
                state: self.state(),
                misses_log: self.misses_log(),
            }),
        });
    }

    /// The primary's answer.
    pub(crate) fn handle_learn_reply(
        &mut self,
        from: CoreAddress,
        reply: &LearnReply,
        turn: &mut Turn<'_>,
    ) {
        let is_ours = self.primary_hint() == Some(from)
            && reply.ballot == self.ballot
            && reply.incarnation == self.incarnation
            && (reply.number == 0 || reply.number == self.learn_number);
        let Some(stage) = self.learn_stage().filter(|_| is_ours) else {
            return;
        };
        match (stage, reply.step) {
            // The primary keeps nothing for us any more.
            (LearnStage::Attached, LearnStep::Refused) => self.ask_where_to_go_on(turn),
            (LearnStage::Asking { is_sent: true }, LearnStep::Attach { from })
                if from == self.last().next() =>
            {
                self.on_attached(turn)
            }
            (LearnStage::Asking { is_sent: true }, LearnStep::FetchLog { from, to })
                if from == self.last().next() && to >= from =>
            {
                self.timers.clear(Timer::Learn, self.partition, turn);
                self.fetch_log(to, turn);
            }
            (LearnStage::Asking { is_sent: true }, LearnStep::FetchCheckpoint)
                if self.last() == self.committed =>
            {
                self.fetch_checkpoint(turn)
            }
            (
                LearnStage::Asking { is_sent: true },
                LearnStep::Attach { .. } | LearnStep::FetchLog { .. } | LearnStep::FetchCheckpoint,
            ) if self.last() > self.committed => self.cut(turn),
            _ => {}
        }
    }

    /// Whether what a primary sends can be taken: not while the storage may be replaced at any moment.
    pub(super) fn may_attach(&self) -> bool {
        matches!(self.role, Role::Learner(_)) && self.fetch != Some(Fetch::Checkpoint)
    }

    /// The primary sends to us as its learner.
    pub(super) fn on_attached(&mut self, turn: &mut Turn<'_>) {
        self.set_stage(LearnStage::Attached);
        let at = turn.now.after(turn.desk.options.grace_period);
        self.timers.set(Timer::Learn, at, self.partition, turn);
    }

    /// Voids everything that is not known committed, in the log too: behind what comes instead it must not come back.
    fn cut(&mut self, turn: &mut Turn<'_>) {
        let (partition, incarnation, decree) = (self.partition, self.incarnation, self.committed);
        self.list.void_from(decree.next());
        self.durable = decree;
        self.matched = decree;
        self.acknowledged = Decree::ZERO;
        turn.desk.log.append(Record::Cut {
            partition,
            incarnation,
            ballot: self.ballot,
            decree,
        });
        self.timers.clear(Timer::Learn, partition, turn);
        self.set_stage(LearnStage::Cutting);
    }

    pub(super) fn on_cut_durable(&mut self, turn: &mut Turn<'_>) {
        if self.learn_stage() == Some(LearnStage::Cutting) {
            self.ask_where_to_go_on(turn);
        }
    }

    fn fetch_log(&mut self, to: Decree, turn: &mut Turn<'_>) {
        let Some(source) = self.primary_member() else {
            return;
        };
        self.fetch = Some(Fetch::Log);
        self.set_stage(LearnStage::FetchingLog {
            to,
            is_under_way: true,
        });
        turn.effects.push(Effect::FetchLog {
            partition: self.partition,
            incarnation: self.incarnation,
            source,
            from: self.last().next(),
            to,
        });
    }

    /// A copy that was here before is not overwritten: meta has it dropped when the partition can do without it.
    fn fetch_checkpoint(&mut self, turn: &mut Turn<'_>) {
        if !self.is_fresh {
            let reason = "too old to catch up by log".to_owned();
            turn.effects.push(Effect::Quarantine {
                partition: self.partition,
                reason: reason.clone(),
            });
            self.leave_service(reason, turn);
            return;
        }
        let Some(source) = self.primary_member() else {
            return;
        };
        self.timers.clear(Timer::Learn, self.partition, turn);
        self.fetch = Some(Fetch::Checkpoint);
        self.set_stage(LearnStage::FetchingCheckpoint);
        turn.effects.push(Effect::FetchCheckpoint {
            partition: self.partition,
            incarnation: self.incarnation,
            source,
        });
    }

    /// A piece of the primary's log: all of it is committed.
    pub(crate) fn handle_log_fetched(&mut self, entries: Vec<Entry>, turn: &mut Turn<'_>) {
        self.fetch = None;
        let Some(LearnStage::FetchingLog { to, .. }) = self.learn_stage() else {
            self.go_on_learning(turn);
            return;
        };
        let before = self.last();
        for entry in entries {
            let is_fitting = entry.decree == self.last().next()
                && entry.decree <= to
                && entry.ballot <= self.ballot
                && entry.mutation.payload.len() <= turn.desk.log.options().payload_bytes_max();
            if is_fitting {
                self.append_fetched(entry, turn);
            }
        }
        self.matched = self.last();
        if self.last() == before {
            self.note_missing();
            self.ask_where_to_go_on(turn);
            return;
        }
        if let Role::Learner(learner) = &mut self.role {
            learner.known = self.list.last();
        }
        self.set_stage(LearnStage::FetchingLog {
            to,
            is_under_way: false,
        });
    }

    /// A committed mutation may stand in the primary's log under an older stamp than its predecessor has here, if it was
    /// prepared again while the primary held it as committed. A newer stamp names the same mutation.
    fn append_fetched(&mut self, mut entry: Entry, turn: &mut Turn<'_>) {
        entry.ballot = entry.ballot.max(self.list.last_ballot());
        self.timestamp_us = self.timestamp_us.max(entry.mutation.timestamp_us);
        self.append_record(&entry, turn);
        self.list.push(entry);
    }

    /// What was fetched has become durable: it is committed here too.
    pub(super) fn commit_fetched(&mut self, turn: &mut Turn<'_>) {
        if let Role::Learner(learner) = &self.role {
            let known = learner.known;
            self.learn_commit_point(known, turn);
        }
        self.go_on_learning(turn);
    }

    /// The storage has been replaced, whatever we are by now.
    pub(crate) fn handle_checkpoint_installed(
        &mut self,
        decree: Decree,
        ballot: Ballot,
        turn: &mut Turn<'_>,
    ) {
        self.fetch = None;
        if self.is_out_of_service() || self.is_creating() {
            return;
        }
        let decree = if planted!(CheckpointWithoutItsDecree) {
            decree.next()
        } else {
            decree
        };
        if decree < self.committed {
            let reason = format!(
                "the checkpoint ends at decree {decree}, below the commit point {}",
                self.committed
            );
            self.quarantine(reason, turn);
            return;
        }
        if ballot > self.ballot {
            self.enter_ballot(ballot);
            self.append_adoption(turn);
        }
        self.list = PreparedList::new(decree, ballot);
        self.unflushed = Unflushed::default();
        (self.flushed, self.applied, self.issued) = (decree, decree, decree);
        (self.committed, self.durable, self.matched) = (decree, decree, decree);
        self.retained_bytes = 0;
        turn.desk.log.set_durable_in_engine(self.partition, decree);
        self.cut(turn);
    }

    pub(crate) fn handle_fetch_failed(&mut self, is_missing: bool, turn: &mut Turn<'_>) {
        let is_fetching = matches!(
            self.learn_stage(),
            Some(LearnStage::FetchingLog { .. } | LearnStage::FetchingCheckpoint)
        );
        self.fetch = None;
        if !is_fetching {
            self.go_on_learning(turn);
            return;
        }
        if is_missing {
            self.note_missing();
        }
        // Not at once: what failed may fail again.
        let at = turn.now.after(turn.desk.options.beacon_period * 5);
        self.set_stage(LearnStage::Asking { is_sent: true });
        self.timers.set(Timer::Learn, at, self.partition, turn);
    }

    /// The link to the primary is new or broken: what it keeps for us is gone.
    pub(crate) fn learner_peer_changed(&mut self, peer: CoreAddress, turn: &mut Turn<'_>) {
        let waits = matches!(
            self.learn_stage(),
            Some(LearnStage::Asking { .. } | LearnStage::Attached)
        );
        if waits && self.primary_hint() == Some(peer) {
            self.ask_where_to_go_on(turn);
        }
    }
}

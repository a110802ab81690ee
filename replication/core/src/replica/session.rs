//! The primary's side of learning: tells the learner where to go on, keeps what it will need, and counts it when it has
//! caught up.
//!
//! Members are added to the acknowledgement set before meta, and removed after meta: from the moment a learner is counted
//! every commit waits for it, until meta has made it a secondary, or grown the ballot without it.

use super::progress::{Kind, Progress, Reach};
use super::{Phase, Replica, Role, Timer};
use crate::config::{Configuration, Member, Stage};
use crate::event::Effect;
use crate::ids::{CoreAddress, Decree, Instant, ReplicaIncarnation};
use crate::message::{LearnReply, LearnRequest, LearnStep, Message};
use crate::shard::turn::Turn;

/// What a primary keeps for the learner that it has given a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Session {
    member: Member,
    /// Entries above this one stay in memory.
    pub(super) retain_after: Option<Decree>,
    /// The log is kept from here on.
    log_from: Option<Decree>,
}

/// What a primary keeps of its log for copies that were members and may come back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    from: Decree,
    until: Instant,
}

impl Progress {
    /// How a prepare or beacon addresses this peer.
    pub(super) fn learner_tag(&self) -> Option<ReplicaIncarnation> {
        (self.kind != Kind::Secondary).then_some(self.member.incarnation)
    }
}

impl Replica {
    pub(crate) fn handle_learn_request(
        &mut self,
        from: CoreAddress,
        request: &LearnRequest,
        turn: &mut Turn<'_>,
    ) {
        let member = Member {
            address: from,
            incarnation: request.incarnation,
        };
        let Some(step) = self.next_step(member, request, turn) else {
            return;
        };
        self.send_step(member, request.number, step, turn);
        let is_attached = matches!(step, LearnStep::Attach { .. });
        if let Some(index) = self.progress_index(from).filter(|_| is_attached) {
            self.send_prepares(index, turn);
        }
    }

    fn send_step(&self, member: Member, number: u64, step: LearnStep, turn: &mut Turn<'_>) {
        turn.effects.push(Effect::Send {
            to: member.address,
            message: Message::LearnReply(LearnReply {
                partition: self.partition,
                number,
                ballot: self.ballot,
                incarnation: member.incarnation,
                step,
            }),
        });
    }

    /// `None`: it is counted already, and asked by a beacon.
    fn next_step(
        &mut self,
        member: Member,
        request: &LearnRequest,
        turn: &mut Turn<'_>,
    ) -> Option<LearnStep> {
        let state = &request.state;
        let (serves, floor) = match &self.role {
            Role::Primary(primary) => (
                primary.phase == Phase::Serving,
                primary.floor.max(self.list.base()),
            ),
            _ => (false, Decree::ZERO),
        };
        let is_assigned = self.learner == Some(member) && request.ballot == self.ballot;
        let is_known = state.ballot == self.ballot && state.committed <= self.committed;
        let is_up = turn.desk.links.is_up(member.address);
        if !(serves && is_assigned && is_known && is_up) {
            return Some(LearnStep::Refused);
        }
        if self.asks_though_counted(member, turn) {
            return None;
        }
        // What is kept for it stays in memory until it is settled what it needs next.
        self.remove_peer(|peer| peer.kind == Kind::Learner, turn);
        self.end_session(turn);
        let matches = state.prepared <= self.last()
            && self.list.stamp_ever(state.prepared) == Some(state.prepared_ballot);
        let held = if matches {
            state.prepared
        } else {
            state.committed
        };
        let from = held.next();
        let is_in_log = turn
            .desk
            .log
            .first_held(self.partition)
            .is_some_and(|first| first <= from);
        let step = if held >= floor {
            self.attach(member, held, turn);
            LearnStep::Attach { from }
        } else if is_in_log && !request.misses_log {
            let to = self.committed;
            self.session = Some(Session {
                member,
                retain_after: Some(to),
                log_from: Some(from),
            });
            LearnStep::FetchLog { from, to }
        } else {
            self.session = Some(Session {
                member,
                retain_after: None,
                log_from: Some(self.applied.next()),
            });
            LearnStep::FetchCheckpoint
        };
        self.keep_log(turn);
        self.release_to(self.releasable(self.applied));
        Some(step)
    }

    /// A counted learner has lost its link: what it holds is what its answer to a beacon says.
    fn asks_though_counted(&mut self, member: Member, turn: &mut Turn<'_>) -> bool {
        let partition = self.partition;
        let Some(progress) = self.acting_progress(member.address) else {
            return false;
        };
        if progress.kind != Kind::Counted {
            return false;
        }
        if progress.reach == Reach::Steady {
            progress.reach = Reach::Probing;
            progress.restart_after(progress.sent, &mut turn.desk.links);
        }
        progress.fresh_from = turn.desk.links.probe(member.address, partition);
        true
    }

    /// Prepares go to it from now on, beginning behind `held`.
    fn attach(&mut self, member: Member, held: Decree, turn: &mut Turn<'_>) {
        let (partition, peer, last) = (self.partition, member.address, self.last());
        let due = turn.now.after(turn.desk.options.beacon_period);
        let mut progress = Progress::new(member, Kind::Learner);
        progress.sent = held;
        progress.target = last;
        progress.reach = Reach::Steady;
        progress.heard_at = turn.now;
        progress.covered_from = turn.desk.links.cover(peer, partition, due);
        progress.fresh_from = turn.desk.links.probe(peer, partition);
        if let Role::Primary(primary) = &mut self.role {
            primary.peers.push(progress);
        }
        self.session = Some(Session {
            member,
            retain_after: Some(held),
            log_from: None,
        });
    }

    /// Everything up to which entries may leave memory, `applied` at most.
    pub(super) fn releasable(&self, applied: Decree) -> Decree {
        let retained = self.session.and_then(|session| session.retain_after);
        retained.map_or(applied, |retained| retained.min(applied))
    }

    /// Releases what nobody needs any more; a learner that would need more than the bound starts over.
    pub(super) fn release(&mut self, turn: &mut Turn<'_>) {
        self.release_to(self.releasable(self.applied));
        let options = &turn.desk.options;
        let retained = self.applied.0 - self.list.base().0;
        if retained <= options.learner_entries_max as u64
            && self.retained_bytes <= options.learner_bytes_max
        {
            return;
        }
        let attached = self.attached_learner().is_some();
        if attached {
            self.detach_learner(turn);
        } else if let Some(session) = &mut self.session {
            session.retain_after = None;
        }
        self.release_to(self.releasable(self.applied));
    }

    fn release_to(&mut self, decree: Decree) {
        let (flushed, unflushed) = (self.flushed, &mut self.unflushed);
        let retained_bytes = &mut self.retained_bytes;
        self.list.release_to(decree, |entry| {
            *retained_bytes -= entry.mutation.payload.len();
            if entry.decree > flushed {
                unflushed.push(entry);
            }
        });
    }

    fn attached_learner(&self) -> Option<&Progress> {
        match &self.role {
            Role::Primary(primary) => primary.peers.iter().find(|peer| peer.kind == Kind::Learner),
            _ => None,
        }
    }

    /// It has acknowledged something, or answered: keeps less for it, and counts it if it has caught up and answers beacons.
    ///
    /// Safe as soon as it holds everything that is committed: what is not has been sent to it and will wait for it.
    pub(super) fn consider_counting(&mut self, from: CoreAddress, turn: &mut Turn<'_>) {
        let committed = self.committed;
        let can_take = turn.desk.links.is_up(from) && !turn.desk.links.is_disk_full(from);
        let Some(progress) = self.acting_progress(from) else {
            return;
        };
        if progress.kind != Kind::Learner {
            return;
        }
        let acknowledged = progress.acknowledged;
        let has_caught_up = acknowledged >= progress.target
            && acknowledged >= committed
            && progress.reach == Reach::Steady
            && progress.grants_lease(turn.now, turn.desk);
        if (has_caught_up || planted!(LearnerCountedTooEarly)) && can_take {
            progress.kind = Kind::Counted;
            self.session = None;
            self.release(turn);
            self.propose(turn);
        } else if let Some(session) = &mut self.session {
            session.retain_after = session.retain_after.max(Some(acknowledged));
            self.release(turn);
        }
    }

    /// Stops sending to a learner that is not counted, and tells it.
    pub(super) fn detach_learner(&mut self, turn: &mut Turn<'_>) {
        if let Some(member) = self.drop_learner(turn) {
            self.send_step(member, 0, LearnStep::Refused, turn);
        }
    }

    /// Forgets a learner that nobody waits for. Returns it if it was attached.
    fn drop_learner(&mut self, turn: &mut Turn<'_>) -> Option<Member> {
        let dropped = self.remove_peer(|peer| peer.kind == Kind::Learner, turn);
        self.end_session(turn);
        self.release_to(self.releasable(self.applied));
        dropped
    }

    fn remove_peer(
        &mut self,
        is_meant: impl Fn(&Progress) -> bool,
        turn: &mut Turn<'_>,
    ) -> Option<Member> {
        let partition = self.partition;
        let Role::Primary(primary) = &mut self.role else {
            return None;
        };
        let position = primary.peers.iter().position(is_meant)?;
        let mut progress = primary.peers.remove(position);
        let sent = progress.sent;
        progress.restart_after(sent, &mut turn.desk.links);
        turn.desk.links.leave(progress.member.address, partition);
        Some(progress.member)
    }

    pub(super) fn end_session(&mut self, turn: &mut Turn<'_>) {
        if self.session.take().is_some() {
            self.keep_log(turn);
        }
    }

    /// Has the log kept from where the learner or a lost copy goes on, whichever is first.
    fn keep_log(&mut self, turn: &mut Turn<'_>) {
        let learner = self.session.and_then(|session| session.log_from);
        let lost = self.kept.map(|kept| kept.from);
        match learner.into_iter().chain(lost).min() {
            Some(from) => turn.desk.log.pin(self.partition, from),
            None => turn.desk.log.unpin(self.partition),
        }
    }

    /// Somebody who was a member in the configuration before is none in `next`.
    pub(super) fn lacks_members_of_before(&self, next: &Configuration) -> bool {
        let before = self.configuration.as_ref();
        before
            .filter(|before| before.stage == Stage::Active)
            .is_some_and(|before| {
                before
                    .members()
                    .any(|member| !next.members().any(|other| other == member))
            })
    }

    /// The role is new. A copy that has left may come back, and what it lacks then begins about where we are: it holds all that
    /// we know committed, though it may know that of less, by what was in flight.
    pub(super) fn keep_for_the_lost(&mut self, has_lost: bool, turn: &mut Turn<'_>) {
        let options = &turn.desk.options;
        let inflight = options.prepare_inflight_max as u64;
        let until = turn.now.after(options.log_keep_period);
        let from = Decree(self.committed.0.saturating_sub(inflight)).next();
        let before = self.kept.take();
        if matches!(self.role, Role::Primary(_)) {
            let from = before.map_or(from, |before| before.from);
            self.kept = if has_lost {
                Some(Kept { from, until })
            } else {
                before
            };
        }
        if let Some(kept) = self.kept {
            self.timers
                .set(Timer::Keep, kept.until, self.partition, turn);
        }
        if self.kept.is_some() || before.is_some() {
            self.keep_log(turn);
        }
    }

    /// `Timer::Keep`: nobody has come back.
    pub(crate) fn end_keeping(&mut self, turn: &mut Turn<'_>) {
        self.kept = None;
        self.keep_log(turn);
    }

    /// The link to `peer` is broken: a learner there that was fetching asks again, if it comes back.
    pub(super) fn forget_learner_on(&mut self, peer: CoreAddress, turn: &mut Turn<'_>) {
        let is_its = self
            .session
            .is_some_and(|session| session.member.address == peer);
        if is_its && self.attached_learner().is_none() {
            self.drop_learner(turn);
        }
    }

    /// Meta has assigned another learner or none. One that is counted is waited for all the same until a newer ballot: the
    /// proposal to add it may be under way, and the same copy be assigned again when it arrives.
    pub(super) fn on_assignment(&mut self, turn: &mut Turn<'_>) {
        let learner = self.learner;
        let is_other = |peer: &Progress| peer.kind == Kind::Learner && Some(peer.member) != learner;
        if self
            .session
            .is_some_and(|session| Some(session.member) != learner)
        {
            self.end_session(turn);
        }
        self.remove_peer(is_other, turn);
        self.release_to(self.releasable(self.applied));
        self.propose(turn);
    }
}

//! What a primary and its secondaries say to each other, seen from the primary: prepares and their acknowledgements, gaps,
//! states, links that break.

use super::primary::{PREPARE_FIXED_BYTES, Phase};
use super::progress::{Kind, Progress, Reach};
use super::{Replica, Role, Timer};
use crate::event::Effect;
use crate::ids::{Ballot, CoreAddress};
use crate::message::{
    BeaconEntry, Message, Prepare, PrepareAck, PrepareReject, RejectReason, ReplicaState,
};
use crate::shard::turn::Turn;

impl Replica {
    pub(super) fn send_prepares_to_all(&mut self, turn: &mut Turn<'_>) {
        let count = match &self.role {
            Role::Primary(primary) => primary.peers.len(),
            _ => 0,
        };
        for index in 0..count {
            self.send_prepares(index, turn);
        }
    }

    /// Sends everything that this secondary has not been sent yet and that fits the window of its link.
    pub(super) fn send_prepares(&mut self, index: usize, turn: &mut Turn<'_>) {
        let Self {
            role: Role::Primary(primary),
            list,
            configuration: Some(configuration),
            ..
        } = self
        else {
            return;
        };
        let Some(progress) = primary.peers.get_mut(index) else {
            return;
        };
        let to = progress.member.address;
        if progress.reach != Reach::Steady || !turn.desk.links.is_up(to) {
            return;
        }
        turn.desk.links.link(to).backlog.remove(&self.partition);
        while progress.sent < list.last() {
            let decree = progress.sent.next();
            let entry = list
                .entry(decree)
                .expect("entries stay until every member has them")
                .clone();
            assert_eq!(
                entry.ballot, self.ballot,
                "{}: a prepare of another ballot",
                self.partition
            );
            let bytes = entry.mutation.payload.len() + PREPARE_FIXED_BYTES;
            // A learner must not take the window from partitions that somebody waits for.
            let window = match progress.kind {
                Kind::Learner => turn.desk.options.peer_window_bytes_max / 2,
                Kind::Secondary | Kind::Counted => turn.desk.options.peer_window_bytes_max,
            };
            if !turn.desk.links.has_room(to, bytes, window) {
                turn.desk.links.link(to).backlog.insert(self.partition);
                return;
            }
            let previous = list
                .stamp(decree.previous())
                .expect("the base's stamp is kept");
            progress.note_sent(decree, bytes, turn.now, &mut turn.desk.links);
            let prepare = Prepare {
                configuration: configuration.clone(),
                entry,
                previous,
                committed: self.committed,
                learner: progress.learner_tag(),
            };
            turn.effects.push(Effect::Send {
                to,
                message: Message::Prepare(prepare),
            });
        }
    }

    /// The window of the link to `peer` has room again.
    pub(crate) fn resume_prepares(&mut self, peer: CoreAddress, turn: &mut Turn<'_>) {
        if let Some(index) = self.progress_index(peer) {
            self.send_prepares(index, turn);
        } else {
            turn.desk.links.leave(peer, self.partition);
        }
    }

    pub(crate) fn handle_prepare_ack(
        &mut self,
        from: CoreAddress,
        ack: &PrepareAck,
        turn: &mut Turn<'_>,
    ) {
        // An acknowledgement of an older ballot proves nothing about this one; one of a longer order is not ours.
        if ack.ballot != self.ballot || ack.prepared > self.last() {
            return;
        }
        let Some(progress) = self.acting_progress(from) else {
            return;
        };
        if progress.note_acknowledged(ack.prepared, &mut turn.desk.links) {
            self.consider_counting(from, turn);
            self.advance_commit_point(turn);
            self.may_yield(turn);
        }
    }

    pub(crate) fn handle_prepare_reject(
        &mut self,
        from: CoreAddress,
        reject: &PrepareReject,
        turn: &mut Turn<'_>,
    ) {
        if reject.ballot != self.ballot {
            return;
        }
        match reject.reason {
            RejectReason::StaleBallot if reject.state.ballot > self.ballot => {
                self.on_superseded(from, turn)
            }
            RejectReason::StaleBallot => {}
            RejectReason::Gap => self.on_gap(from, turn),
            RejectReason::OutOfService => self.on_member_out(from, turn),
            RejectReason::Adopting | RejectReason::Promised => {}
        }
    }

    /// A secondary could not append: asks it where it is. Later gaps of the same burst are answered by the same question.
    fn on_gap(&mut self, from: CoreAddress, turn: &mut Turn<'_>) {
        let partition = self.partition;
        let Some(progress) = self.acting_progress(from) else {
            return;
        };
        if progress.reach != Reach::Steady {
            return;
        }
        if !progress.note_gap() {
            self.on_member_lost(
                from,
                "its order does not match the primary's".to_owned(),
                turn,
            );
            return;
        }
        progress.reach = Reach::Probing;
        progress.fresh_from = turn.desk.links.probe(from, partition);
    }

    fn on_member_out(&mut self, from: CoreAddress, turn: &mut Turn<'_>) {
        let Some(progress) = self.acting_progress(from) else {
            return;
        };
        if progress.kind == Kind::Learner {
            self.detach_learner(turn);
            return;
        }
        if progress.reach != Reach::Lost {
            progress.reach = Reach::OutOfService;
            // Nobody acknowledges what is under way, and the link's window is for the other partitions too.
            progress.restart_after(progress.sent, &mut turn.desk.links);
            self.propose(turn);
        }
    }

    fn on_member_lost(&mut self, from: CoreAddress, reason: String, turn: &mut Turn<'_>) {
        let partition = self.partition;
        let Some(progress) = self.acting_progress(from) else {
            return;
        };
        if progress.kind == Kind::Learner {
            self.detach_learner(turn);
            return;
        }
        progress.reach = Reach::Lost;
        let (member, sent) = (progress.member, progress.sent);
        // Beacons go on: what it lacks must not become the primary's order before meta has removed it.
        progress.restart_after(sent, &mut turn.desk.links);
        turn.effects.push(Effect::MemberLost {
            partition,
            member,
            reason,
        });
        self.propose(turn);
    }

    /// Somebody has adopted a newer ballot: nothing can be committed under ours any more.
    fn on_superseded(&mut self, from: CoreAddress, turn: &mut Turn<'_>) {
        if self.leading_progress(from).is_none() {
            return;
        }
        self.leave_links(turn);
        if let Role::Primary(primary) = &mut self.role {
            primary.phase = Phase::Superseded;
        }
        // Perhaps it is our own next ballot; then those who wait go on. Asks only if it does not come by itself.
        let at = turn.now.after(Self::PROPOSE_PERIOD);
        self.timers.set(Timer::Propose, at, self.partition, turn);
    }

    /// A secondary answers beacon `number` with its state.
    pub(crate) fn handle_state(
        &mut self,
        from: CoreAddress,
        number: u64,
        state: &ReplicaState,
        turn: &mut Turn<'_>,
    ) {
        if state.ballot != self.ballot {
            return;
        }
        let (committed, last) = (self.committed, self.last());
        let matches = self.list.stamp(state.prepared) == Some(state.prepared_ballot);
        let beacon = turn.desk.links.sent_beacon(from, number);
        let Some(progress) = self.leading_progress(from) else {
            return;
        };
        if number < progress.fresh_from {
            return;
        }
        if let Some(beacon) = beacon.filter(|beacon| beacon.number >= progress.covered_from) {
            progress.note_heard(beacon, turn.now);
            progress.knows_ballot = true;
        }
        let Some(progress) = self.acting_progress(from) else {
            return;
        };
        if progress.reach == Reach::Lost {
            return;
        }
        if progress.kind == Kind::Learner && progress.reach != Reach::Steady {
            // Only it can say where to go on: what it has committed may be far behind.
            self.detach_learner(turn);
            return;
        }
        let promised = progress.acknowledged.max(committed);
        if state.prepared < promised && progress.is_counted() {
            let reason = format!(
                "it had acknowledged decree {promised} and now holds only {}",
                state.prepared
            );
            self.on_member_lost(from, reason, turn);
            return;
        }
        if progress.kind == Kind::Learner && matches {
            // All it holds is our order, perhaps by older stamps, and durable: it is only asked when there is nothing to send.
            progress.note_acknowledged(state.prepared.min(last), &mut turn.desk.links);
        }
        if progress.reach != Reach::Steady {
            // Equal stamps mean equal prefixes; otherwise everything that may differ is sent again.
            let sent = if matches && state.prepared <= last {
                state.prepared
            } else {
                committed
            };
            progress.reach = Reach::Steady;
            progress.restart_after(sent.max(committed), &mut turn.desk.links);
            // What it holds under our ballot is acknowledged by its state: no prepare will ask for it again.
            if matches && state.prepared_ballot == state.ballot {
                progress.note_acknowledged(state.prepared.min(last), &mut turn.desk.links);
            }
            if let Some(index) = self.progress_index(from) {
                self.send_prepares(index, turn);
            }
            self.advance_commit_point(turn);
            self.may_yield(turn);
        }
        self.consider_counting(from, turn);
        self.admit_parked_reads(turn);
    }

    /// A secondary does not acknowledge this partition in its answer to beacon `number`.
    pub(crate) fn handle_excluded(
        &mut self,
        from: CoreAddress,
        number: u64,
        ballot: Ballot,
        reason: RejectReason,
        turn: &mut Turn<'_>,
    ) {
        let own = self.ballot;
        let beacon = turn.desk.links.sent_beacon(from, number);
        let Some(progress) = self.leading_progress(from) else {
            return;
        };
        if number < progress.fresh_from {
            return;
        }
        match reason {
            RejectReason::StaleBallot if ballot > own => self.on_superseded(from, turn),
            RejectReason::Adopting => progress.knows_ballot = false,
            RejectReason::StaleBallot | RejectReason::Gap | RejectReason::Promised => {}
            RejectReason::OutOfService => {
                // Out of service it cannot ask to take over before it has started again, and then it waits first. That is
                // so while it stands in our ballot: a copy that is gone, or in another, may have been primary since.
                let of_us = beacon.filter(|it| ballot == own && it.number >= progress.covered_from);
                if let Some(beacon) = of_us {
                    progress.note_heard(beacon, turn.now);
                }
                self.on_member_out(from, turn);
                self.admit_parked_reads(turn);
            }
        }
    }

    /// The link is new: what was sent on the last one may be lost, so the secondary is asked where it is.
    pub(crate) fn handle_peer_up(&mut self, peer: CoreAddress, turn: &mut Turn<'_>) {
        self.learner_peer_changed(peer, turn);
        let partition = self.partition;
        let Some(progress) = self.acting_progress(peer) else {
            return;
        };
        if progress.kind == Kind::Learner {
            self.detach_learner(turn);
        } else if progress.reach != Reach::Lost {
            progress.reach = Reach::Probing;
            progress.restart_after(progress.sent, &mut turn.desk.links);
            progress.fresh_from = turn.desk.links.probe(peer, partition);
        }
    }

    pub(crate) fn handle_peer_down(&mut self, peer: CoreAddress, turn: &mut Turn<'_>) {
        self.learner_peer_changed(peer, turn);
        self.forget_learner_on(peer, turn);
        let partition = self.partition;
        let Some(progress) = self.acting_progress(peer) else {
            return;
        };
        if progress.kind == Kind::Learner {
            self.detach_learner(turn);
        } else if progress.reach != Reach::Lost {
            progress.reach = Reach::Probing;
            progress.restart_after(progress.sent, &mut turn.desk.links);
            // The attempt makes the node dial at once.
            turn.desk.links.probe(peer, partition);
        }
    }

    /// What the next beacon to `peer` says of this partition.
    pub(crate) fn beacon_entry(&self, peer: CoreAddress) -> Option<BeaconEntry> {
        let Role::Primary(primary) = &self.role else {
            return None;
        };
        let of_peer = |progress: &&Progress| progress.member.address == peer;
        let progress = primary.peers.iter().find(of_peer)?;
        if !primary.leads() {
            return None;
        }
        let configuration = self
            .configuration
            .as_ref()
            .filter(|_| progress.is_asked())
            .cloned();
        Some(BeaconEntry {
            partition: self.partition,
            ballot: self.ballot,
            committed: self.committed,
            configuration,
            learner: progress.learner_tag(),
        })
    }

    /// Gives back what a primary holds of the shared things: window bytes, places in beacons, the log kept for a learner.
    pub(crate) fn leave_links(&mut self, turn: &mut Turn<'_>) {
        let partition = self.partition;
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        for progress in &mut primary.peers {
            let sent = progress.sent;
            progress.restart_after(sent, &mut turn.desk.links);
            turn.desk.links.leave(progress.member.address, partition);
        }
        self.end_session(turn);
    }

    pub(super) fn progress_index(&self, peer: CoreAddress) -> Option<usize> {
        let Role::Primary(primary) = &self.role else {
            return None;
        };
        primary
            .peers
            .iter()
            .position(|progress| progress.member.address == peer)
    }

    /// The peer on `from`, while we may commit. Answers to an earlier life of ours find nobody here.
    pub(super) fn acting_progress(&mut self, from: CoreAddress) -> Option<&mut Progress> {
        match &self.role {
            Role::Primary(primary) if primary.acts() => self.leading_progress(from),
            _ => None,
        }
    }

    /// The peer on `from`, while it gets beacons of us.
    pub(super) fn leading_progress(&mut self, from: CoreAddress) -> Option<&mut Progress> {
        let Role::Primary(primary) = &mut self.role else {
            return None;
        };
        if !primary.leads() {
            return None;
        }
        let mut peers = primary.peers.iter_mut();
        peers.find(|progress| progress.member.address == from)
    }
}

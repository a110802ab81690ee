//! The primary: gives decrees, prepares everywhere in parallel, commits when every member holds a mutation durably.

use super::deadline::Due;
use super::prepared_list::Waiter;
use super::progress::{Progress, Reach};
use super::{Replica, Restamp, Role};
use crate::config::{Configuration, Proposal};
use crate::event::{BusyReason, Effect, Pressure, Reject};
use crate::ids::{Ballot, CoreAddress, Decree, Instant, RequestId, Ticket};
use crate::log::LogFill;
use crate::message::{
    Entry, Message, Mutation, Prepare, PrepareAck, PrepareReject, RejectReason, ReplicaState,
};
use crate::shard::turn::Turn;
use bytes::Bytes;

/// A client's mutation on its way in.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) ticket: Ticket,
    pub(crate) request_id: RequestId,
    pub(crate) wall_us: u64,
    pub(crate) payload: Bytes,
    pub(crate) deadline: Instant,
}

/// How far a primary is on its way to serving.
///
/// ```text
///   WaitingForBallot --a newer configuration--> Adopting --its record durable--> Reconciling --no-op applied--> Serving
///                                                                                     |                            |
///                                                                                     +---- a newer ballot seen ---+--> Superseded
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It acted as primary of this ballot in an earlier life and asks for the next one (docs/replication.md,
    /// "Ballots and adoption").
    WaitingForBallot,
    /// No prepare leaves before the adoption is durable: after a crash we must know that we may have sent some.
    Adopting,
    /// Everything above the commit point is prepared again, then a no-op.
    Reconciling,
    Serving,
    /// A member knows a newer ballot; ours gives nothing any more. Meta's configuration is on its way.
    Superseded,
    /// Everything is committed and handed over; it never serves again in this ballot.
    Yielded,
}

#[derive(Debug)]
pub(crate) struct Primary {
    phase: Phase,
    /// The last decree that has to be applied before we serve.
    noop: Decree,
    /// When the proposal of the next ballot is repeated.
    propose_at: Option<Instant>,
    secondaries: Vec<Progress>,
}

/// Bytes that a prepare takes beside its payload, roughly; for the window of a link.
const PREPARE_FIXED_BYTES: usize = 160;

impl Primary {
    pub(crate) fn new(phase: Phase, configuration: &Configuration) -> Self {
        let secondaries = configuration
            .secondaries
            .iter()
            .copied()
            .map(Progress::new)
            .collect();
        Self {
            phase,
            noop: Decree::ZERO,
            propose_at: None,
            secondaries,
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    pub(crate) fn secondaries(&self) -> &[Progress] {
        &self.secondaries
    }

    /// Whether it may assign decrees and commit.
    pub(crate) fn acts(&self) -> bool {
        matches!(self.phase, Phase::Reconciling | Phase::Serving)
    }
}

impl Replica {
    pub(crate) fn handle_write(&mut self, write: Write, turn: &mut Turn<'_>) {
        if let Err(reason) = self.admit(&write, turn) {
            turn.effects.push(Effect::Reject {
                ticket: write.ticket,
                reason,
            });
            return;
        }
        let waiter = Waiter {
            ticket: write.ticket,
            deadline: write.deadline,
        };
        let mutation = Mutation {
            timestamp_us: write.wall_us.max(self.timestamp_us.saturating_add(1)),
            request_id: write.request_id,
            payload: write.payload,
        };
        turn.desk.deadlines.insert(
            waiter.deadline,
            self.partition,
            Due::Write(self.last().next()),
        );
        self.assign(mutation, Some(waiter), turn);
    }

    /// Whether a new mutation gets a decree. Everything refused here has left no trace.
    fn admit(&self, write: &Write, turn: &Turn<'_>) -> Result<(), Reject> {
        let primary = self.serving_primary()?;
        let desk = &turn.desk;
        if write.deadline <= turn.now {
            return Err(Reject::Expired);
        }
        if write.payload.len() > desk.log.options().payload_bytes_max() {
            return Err(Reject::TooLarge);
        }
        match desk.pressure {
            Pressure::None => {}
            Pressure::Engine => {
                return Err(Reject::Busy {
                    reason: BusyReason::Engine,
                    retry_after_ms: Self::RETRY_ENGINE_MS,
                });
            }
            Pressure::DiskFull => return Err(Reject::DiskFull),
        }
        let is_full = |progress: &Progress| desk.links.is_disk_full(progress.member.address);
        if primary.secondaries.iter().any(is_full) {
            return Err(Reject::DiskFull);
        }
        let configuration = self
            .configuration
            .as_ref()
            .expect("a primary has a configuration");
        if configuration.members().count() < usize::from(configuration.min_replicas) {
            return Err(Reject::NotEnoughMembers);
        }
        let takes_part =
            |progress: &Progress| desk.links.is_up(progress.member.address) && !progress.is_out();
        if !primary.secondaries.iter().all(takes_part) {
            return Err(Reject::NotEnoughMembers);
        }
        match self.full_queue(primary, write.payload.len(), turn) {
            None => Ok(()),
            Some(reason) => Err(Reject::Busy {
                reason,
                retry_after_ms: Self::RETRY_QUEUE_MS,
            }),
        }
    }

    /// The bound that one more mutation would go over.
    fn full_queue(
        &self,
        primary: &Primary,
        payload_bytes: usize,
        turn: &Turn<'_>,
    ) -> Option<BusyReason> {
        let desk = &turn.desk;
        let bytes = payload_bytes + PREPARE_FIXED_BYTES;
        let window = desk.options.peer_window_bytes_max;
        let has_room =
            |progress: &Progress| desk.links.has_room(progress.member.address, bytes, window);
        if self.inflight() >= desk.options.prepare_inflight_max {
            Some(BusyReason::PreparesInflight)
        } else if self.apply_queue() >= desk.options.apply_queue_max {
            Some(BusyReason::ApplyQueue)
        } else if desk.log.pending_bytes() >= desk.options.log_pending_bytes_max {
            Some(BusyReason::LogPending)
        } else if desk.log.fill() == LogFill::Full {
            Some(BusyReason::LogFull)
        } else if !primary.secondaries.iter().all(has_room) {
            Some(BusyReason::PeerWindow)
        } else {
            None
        }
    }

    /// About the time in which a queue of prepares or log bytes empties: a few flushes.
    const RETRY_QUEUE_MS: u32 = 2;
    /// About the time of a memtable flush.
    const RETRY_ENGINE_MS: u32 = 50;

    /// The primary that may answer clients now, or why there is none here.
    pub(crate) fn serving_primary(&self) -> Result<&Primary, Reject> {
        match &self.role {
            Role::Primary(primary) if primary.phase == Phase::Serving => Ok(primary),
            // What is in the prepared list cannot be committed before that member is rebuilt.
            Role::Primary(primary) if primary.secondaries.iter().any(Progress::is_out) => {
                Err(Reject::NotEnoughMembers)
            }
            Role::Primary(_) | Role::Creating { .. } => Err(Reject::NotServing),
            Role::OutOfService { .. } => Err(Reject::OutOfService),
            Role::Idle if self.configuration.is_none() => Err(Reject::NotServing),
            Role::Idle | Role::Secondary => Err(Reject::NotPrimary {
                primary: self.primary_hint(),
            }),
        }
    }

    /// Gives a mutation the next decree, appends it and sends it to every secondary.
    fn assign(&mut self, mutation: Mutation, waiter: Option<Waiter>, turn: &mut Turn<'_>) {
        assert_eq!(
            self.ballot, self.ballot_installed,
            "{}: a decree in a ballot of an earlier life",
            self.partition
        );
        assert_eq!(
            self.ballot, self.ballot_durable,
            "{}: a decree before the adoption is durable",
            self.partition
        );
        let entry = Entry {
            ballot: self.ballot,
            decree: self.last().next(),
            mutation,
        };
        self.append(entry, waiter, turn);
        self.send_prepares_to_all(turn);
    }

    /// The adoption is durable: prepares again what is above the commit point, then a no-op.
    pub(crate) fn reconcile(&mut self, turn: &mut Turn<'_>) {
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        assert_eq!(
            primary.phase,
            Phase::Adopting,
            "{}: reconciles once per ballot",
            self.partition
        );
        primary.phase = Phase::Reconciling;
        primary.noop = self.list.last().next();
        for progress in &mut primary.secondaries {
            let peer = progress.member.address;
            progress.sent = self.committed;
            progress.fresh_from = turn.desk.links.link(peer).beacon_number + 1;
            if turn.desk.links.is_up(peer) {
                progress.reach = Reach::Steady;
            } else {
                turn.desk.links.mention(
                    peer,
                    self.partition,
                    turn.now.after(turn.desk.options.beacon_period),
                );
            }
        }
        if self.last() > self.committed {
            let restamp = Restamp {
                low: self.committed.next(),
                high: self.last(),
                is_appended: false,
            };
            self.append_restamp(restamp, turn);
        }
        let noop = Mutation {
            timestamp_us: self.timestamp_us,
            request_id: RequestId::default(),
            payload: Bytes::new(),
        };
        self.assign(noop, None, turn);
    }

    pub(crate) fn may_start_serving(&mut self, turn: &mut Turn<'_>) {
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        if primary.phase == Phase::Reconciling && self.applied >= primary.noop {
            assert!(
                self.committed >= primary.noop,
                "{}: applied before the commit",
                self.partition
            );
            primary.phase = Phase::Serving;
            self.admit_parked_reads(turn);
        }
    }

    /// Own log and every secondary: the smallest of what they hold is committed.
    pub(crate) fn advance_commit_point(&mut self, turn: &mut Turn<'_>) {
        let Role::Primary(primary) = &self.role else {
            return;
        };
        if !primary.acts() {
            return;
        }
        let acknowledged = primary
            .secondaries
            .iter()
            .map(|progress| progress.acknowledged);
        let committed = acknowledged.fold(self.settled(), Decree::min);
        // Entries of older ballots are committed together with the no-op behind them, never before: by then every member has
        // them under our ballot, in its log too. Until then a member may acknowledge what it holds by its old stamp.
        if committed < primary.noop {
            return;
        }
        if committed <= self.committed {
            return;
        }
        assert_eq!(
            self.list.stamp(committed),
            Some(self.ballot),
            "{}: commits under its own ballot only",
            self.partition
        );
        self.committed = committed;
        let due = turn.now.after(turn.desk.options.beacon_period);
        for progress in &primary.secondaries {
            turn.desk
                .links
                .mention(progress.member.address, self.partition, due);
        }
        self.issue_applies(turn);
    }

    fn send_prepares_to_all(&mut self, turn: &mut Turn<'_>) {
        let count = match &self.role {
            Role::Primary(primary) => primary.secondaries.len(),
            _ => 0,
        };
        for index in 0..count {
            self.send_prepares(index, turn);
        }
    }

    /// Sends everything that this secondary has not been sent yet and that fits the window of its link.
    fn send_prepares(&mut self, index: usize, turn: &mut Turn<'_>) {
        let Self {
            role: Role::Primary(primary),
            list,
            configuration: Some(configuration),
            ..
        } = self
        else {
            return;
        };
        let Some(progress) = primary.secondaries.get_mut(index) else {
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
            if !turn
                .desk
                .links
                .has_room(to, bytes, turn.desk.options.peer_window_bytes_max)
            {
                turn.desk.links.link(to).backlog.insert(self.partition);
                return;
            }
            let previous = list
                .stamp(decree.previous())
                .expect("the base's stamp is kept");
            progress.note_sent(decree, bytes, &mut turn.desk.links);
            turn.desk.links.forget_mention(to, self.partition);
            let prepare = Prepare {
                configuration: configuration.clone(),
                entry,
                previous,
                committed: self.committed,
                learner: None,
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
            self.advance_commit_point(turn);
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
        let partition = self.partition;
        let Some(progress) = self.acting_progress(from) else {
            return;
        };
        if progress.reach == Reach::Lost {
            return;
        }
        progress.reach = Reach::OutOfService;
        // Nobody acknowledges what is under way, and the link's window is for the other partitions too.
        progress.restart_after(progress.sent, &mut turn.desk.links);
        let due = turn.now.after(turn.desk.options.beacon_period);
        turn.desk.links.mention(from, partition, due);
    }

    fn on_member_lost(&mut self, from: CoreAddress, reason: String, turn: &mut Turn<'_>) {
        let partition = self.partition;
        let Some(progress) = self.acting_progress(from) else {
            return;
        };
        progress.reach = Reach::Lost;
        let (member, sent) = (progress.member, progress.sent);
        progress.restart_after(sent, &mut turn.desk.links);
        turn.desk.links.leave(from, partition);
        turn.effects.push(Effect::MemberLost {
            partition,
            member,
            reason,
        });
    }

    /// Somebody has adopted a newer ballot: nothing of ours can be committed by proof any more.
    fn on_superseded(&mut self, from: CoreAddress, turn: &mut Turn<'_>) {
        if self.acting_progress(from).is_none() {
            return;
        }
        self.refuse_everybody(Reject::NotServing, turn);
        self.leave_links(turn);
        if let Role::Primary(primary) = &mut self.role {
            primary.phase = Phase::Superseded;
        }
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
        let Some(progress) = self.acting_progress(from) else {
            return;
        };
        if number < progress.fresh_from || progress.reach == Reach::Lost {
            return;
        }
        let promised = progress.acknowledged.max(committed);
        if state.prepared < promised {
            let reason = format!(
                "it had acknowledged decree {promised} and now holds only {}",
                state.prepared
            );
            self.on_member_lost(from, reason, turn);
            return;
        }
        if progress.reach == Reach::Steady {
            return;
        }
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
        let Some(progress) = self.acting_progress(from) else {
            return;
        };
        if number < progress.fresh_from {
            return;
        }
        match reason {
            RejectReason::StaleBallot if ballot > own => self.on_superseded(from, turn),
            RejectReason::StaleBallot
            | RejectReason::Gap
            | RejectReason::Adopting
            | RejectReason::Promised => {}
            RejectReason::OutOfService => self.on_member_out(from, turn),
        }
    }

    /// The link is new: what was sent on the last one may be lost, so the secondary is asked where it is.
    pub(crate) fn handle_peer_up(&mut self, peer: CoreAddress, turn: &mut Turn<'_>) {
        let partition = self.partition;
        let Some(progress) = self.acting_progress(peer) else {
            return;
        };
        if progress.reach != Reach::Lost {
            progress.reach = Reach::Probing;
            progress.restart_after(progress.sent, &mut turn.desk.links);
            progress.fresh_from = turn.desk.links.probe(peer, partition);
        }
    }

    pub(crate) fn handle_peer_down(&mut self, peer: CoreAddress, turn: &mut Turn<'_>) {
        let partition = self.partition;
        let Some(progress) = self.acting_progress(peer) else {
            return;
        };
        if progress.reach != Reach::Lost {
            progress.reach = Reach::Probing;
            progress.restart_after(progress.sent, &mut turn.desk.links);
            let due = turn.now.after(turn.desk.options.beacon_period);
            turn.desk.links.mention(peer, partition, due);
        }
    }

    /// Whether the next periodic beacon to `peer` has to ask about this partition again.
    pub(crate) fn still_asks(&self, peer: CoreAddress) -> bool {
        let Role::Primary(primary) = &self.role else {
            return false;
        };
        let of_peer = |progress: &&Progress| progress.member.address == peer;
        let progress = primary.secondaries.iter().find(of_peer);
        primary.acts()
            && progress.is_some_and(|progress| {
                matches!(progress.reach, Reach::Probing | Reach::OutOfService)
            })
    }

    /// Whether `peer` is a secondary of ours and beacons go to it.
    pub(crate) fn may_beacon(&self, peer: CoreAddress) -> bool {
        let Role::Primary(primary) = &self.role else {
            return false;
        };
        primary.acts()
            && primary
                .secondaries
                .iter()
                .any(|progress| progress.member.address == peer)
    }

    /// `Due::Propose`: asks meta for the next ballot, again and again until a newer configuration comes.
    pub(crate) fn propose_next_ballot(&mut self, turn: &mut Turn<'_>) {
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        assert_eq!(
            primary.phase,
            Phase::WaitingForBallot,
            "{}: proposes while it acts",
            self.partition
        );
        let at = turn.now.after(Self::PROPOSE_PERIOD);
        primary.propose_at = Some(at);
        turn.desk.deadlines.insert(at, self.partition, Due::Propose);
        turn.effects.push(Effect::Propose {
            partition: self.partition,
            incarnation: self.incarnation,
            ballot: self.ballot,
            proposal: Proposal::NextBallot,
        });
    }

    const PROPOSE_PERIOD: std::time::Duration = std::time::Duration::from_millis(500);

    /// `Due::Write`: the client gives up; the mutation stays pending and may be committed later.
    pub(crate) fn on_write_deadline(&mut self, decree: Decree, turn: &mut Turn<'_>) {
        let slot = self
            .list
            .slot_mut(decree)
            .expect("a waiter keeps its entry");
        let waiter = slot.waiter.take().expect("its deadline is removed with it");
        turn.effects.push(Effect::Reject {
            ticket: waiter.ticket,
            reason: Reject::Unknown,
        });
    }

    /// Gives back what the role holds of the shared things: window bytes, places in beacons, the proposal.
    pub(crate) fn leave_links(&mut self, turn: &mut Turn<'_>) {
        let partition = self.partition;
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        for progress in &mut primary.secondaries {
            let sent = progress.sent;
            progress.restart_after(sent, &mut turn.desk.links);
            turn.desk.links.leave(progress.member.address, partition);
        }
        if let Some(at) = primary.propose_at.take() {
            turn.desk.deadlines.remove(at, partition, Due::Propose);
        }
    }

    fn progress_index(&self, peer: CoreAddress) -> Option<usize> {
        let Role::Primary(primary) = &self.role else {
            return None;
        };
        primary
            .secondaries
            .iter()
            .position(|progress| progress.member.address == peer)
    }

    /// The secondary on `peer`, while we may commit. Answers to an earlier life of ours find nobody here.
    fn acting_progress(&mut self, peer: CoreAddress) -> Option<&mut Progress> {
        let Role::Primary(primary) = &mut self.role else {
            return None;
        };
        if !primary.acts() {
            return None;
        }
        primary
            .secondaries
            .iter_mut()
            .find(|progress| progress.member.address == peer)
    }
}

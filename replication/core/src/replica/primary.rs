//! The primary: gives decrees, prepares everywhere in parallel, commits when every member holds a mutation durably.

use super::deadline::Due;
use super::prepared_list::Waiter;
use super::progress::{Kind, Progress, Reach};
use super::{Replica, Restamp, Role};
use crate::config::{Configuration, Member};
use crate::event::{BusyReason, Effect, Pressure, Reject};
use crate::ids::{Ballot, Decree, Instant, RequestId, Ticket};
use crate::log::LogFill;
use crate::message::{Entry, Mutation};
use crate::shard::turn::{Desk, Turn};
use bytes::Bytes;

/// A client's mutation on its way in.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) ticket: Ticket,
    pub(crate) request_id: RequestId,
    pub(crate) gate: u64,
    pub(crate) wall_us: u64,
    pub(crate) payload: Bytes,
    pub(crate) deadline: Instant,
}

/// How far a primary is on its way to serving.
///
/// ```text
///   WaitingForBallot --a newer configuration--> Waiting --no earlier primary can serve--> Adopting --its record durable-->
///     Reconciling --no-op applied--> Serving --everything committed and handed over--> Yielded
///          |                            |
///          +---- a newer ballot seen ---+--> Superseded
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It acted as primary of this ballot in an earlier life and asks for the next one (docs/replication.md,
    /// "Ballots and adoption").
    WaitingForBallot,
    /// The primary of an earlier ballot may still be answering reads. The ballot is adopted when that is over, so that one
    /// that is adopted in our log has no wait before it.
    Waiting,
    /// No prepare leaves before the adoption is durable: after a crash we must know that we may have sent some.
    Adopting,
    /// Everything above the commit point is prepared again, then a no-op.
    Reconciling,
    /// It takes writes; it answers reads while it holds its lease.
    Serving,
    /// A member knows a newer ballot; ours gives nothing any more. Meta's configuration is on its way.
    Superseded,
    /// Everything is committed and handed over; it never serves again in this ballot.
    Yielded,
}

#[derive(Debug)]
pub(crate) struct Primary {
    pub(super) phase: Phase,
    /// The first ballot since when we have been primary without a break.
    pub(super) reign: Ballot,
    /// While `Waiting`, and `None` otherwise.
    pub(super) wait_until: Option<Instant>,
    /// The last decree that has to be applied before we serve.
    pub(super) noop: Decree,
    /// Entries above this one have been prepared under our ballot.
    pub(super) floor: Decree,
    /// The secondaries, then the learner that follows, if any.
    pub(super) peers: Vec<Progress>,
    /// Meta wants the role to go to this secondary; no new writes meanwhile.
    pub(super) hand_over: Option<HandOver>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct HandOver {
    pub(super) to: Member,
    /// Since when everything is committed and the role given up.
    pub(super) yielded_at: Option<Instant>,
}

/// Bytes that a prepare takes beside its payload, roughly; for the window of a link.
pub(super) const PREPARE_FIXED_BYTES: usize = 160;

impl Primary {
    pub(super) fn new(phase: Phase, reign: Ballot, configuration: &Configuration) -> Self {
        let peers = configuration
            .secondaries
            .iter()
            .map(|member| Progress::new(*member, Kind::Secondary))
            .collect();
        Self {
            phase,
            reign,
            wait_until: None,
            noop: Decree::ZERO,
            floor: Decree::ZERO,
            peers,
            hand_over: None,
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    pub(crate) fn peers(&self) -> &[Progress] {
        &self.peers
    }

    /// Those that commits wait for.
    pub(super) fn counted(&self) -> impl Iterator<Item = &Progress> {
        self.peers.iter().filter(|peer| peer.is_counted())
    }

    pub(crate) fn secondary_count(&self) -> usize {
        let secondaries = self.peers.iter();
        secondaries
            .filter(|peer| peer.kind == Kind::Secondary)
            .count()
    }

    /// Whether it may assign decrees and commit.
    pub(crate) fn acts(&self) -> bool {
        matches!(self.phase, Phase::Reconciling | Phase::Serving)
    }

    /// Whether its members hear beacons of it, so that they wait for it.
    pub(crate) fn leads(&self) -> bool {
        self.acts() || matches!(self.phase, Phase::Waiting | Phase::Adopting)
    }

    pub(super) fn end_wait(&mut self) {
        assert_eq!(self.phase, Phase::Waiting, "waits once per ballot");
        self.phase = Phase::Adopting;
        self.wait_until = None;
    }
}

impl Replica {
    pub(crate) fn handle_write(&mut self, write: Write, turn: &mut Turn<'_>) {
        if let Some(write) = self.pass_gate(write, turn) {
            self.write(write, turn);
        }
    }

    /// Gives it a decree, or refuses it.
    pub(super) fn write(&mut self, write: Write, turn: &mut Turn<'_>) {
        if let Err(reason) = self.admit(write.deadline, write.payload.len(), turn) {
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
        self.assign(mutation, Some(waiter), write.gate, turn);
    }

    /// Whether a new mutation gets a decree. Everything refused here has left no trace.
    pub(super) fn admit(
        &self,
        deadline: Instant,
        payload_bytes: usize,
        turn: &Turn<'_>,
    ) -> Result<(), Reject> {
        let primary = self.serving_primary()?;
        let desk = &turn.desk;
        if deadline <= turn.now {
            return Err(Reject::Expired);
        }
        if payload_bytes > desk.log.options().payload_bytes_max() {
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
        if primary.hand_over.is_some() {
            return Err(Reject::Busy {
                reason: BusyReason::HandOver,
                retry_after_ms: Self::RETRY_QUEUE_MS,
            });
        }
        let is_full = |progress: &Progress| desk.links.is_disk_full(progress.member.address);
        if primary.counted().any(is_full) {
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
        if !primary.counted().all(takes_part) {
            return Err(Reject::NotEnoughMembers);
        }
        match self.full_queue(primary, payload_bytes, desk) {
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
        desk: &Desk,
    ) -> Option<BusyReason> {
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
        } else if !primary.counted().all(has_room) {
            Some(BusyReason::PeerWindow)
        } else {
            None
        }
    }

    /// Whether a write of so many bytes that comes now would be refused as busy, if not at once then when what is at the
    /// gates has been computed. A replica that refuses it for another reason is not busy.
    pub(crate) fn is_busy(&self, payload_bytes: usize, desk: &Desk) -> bool {
        let Ok(primary) = self.serving_primary() else {
            return false;
        };
        desk.pressure == Pressure::Engine
            || primary.hand_over.is_some()
            || self.inflight() + self.at_gates() >= desk.options.prepare_inflight_max
            || self.full_queue(primary, payload_bytes, desk).is_some()
    }

    /// About the time in which a queue of prepares or log bytes empties: a few flushes.
    pub(super) const RETRY_QUEUE_MS: u32 = 2;
    /// About the time of a memtable flush.
    const RETRY_ENGINE_MS: u32 = 50;

    /// The primary that may answer clients now, or why there is none here.
    pub(crate) fn serving_primary(&self) -> Result<&Primary, Reject> {
        match &self.role {
            Role::Primary(primary) if primary.phase == Phase::Serving => Ok(primary),
            // What is in the prepared list cannot be committed before that member is removed.
            Role::Primary(primary) if primary.counted().any(Progress::is_out) => {
                Err(Reject::NotEnoughMembers)
            }
            Role::Primary(Primary {
                phase: Phase::Yielded,
                hand_over: Some(hand_over),
                ..
            }) => Err(Reject::NotPrimary {
                primary: Some(hand_over.to.address),
            }),
            Role::Primary(_) | Role::Creating { .. } => Err(Reject::NotServing),
            Role::OutOfService { .. } => Err(Reject::OutOfService),
            Role::Idle if self.configuration.is_none() => Err(Reject::NotServing),
            Role::Idle | Role::Secondary | Role::Learner(_) => Err(Reject::NotPrimary {
                primary: self.primary_hint(),
            }),
        }
    }

    /// Gives a mutation the next decree, appends it and sends it to every secondary.
    fn assign(
        &mut self,
        mutation: Mutation,
        waiter: Option<Waiter>,
        gate: u64,
        turn: &mut Turn<'_>,
    ) {
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
        self.append_from_client(entry, waiter, gate, turn);
        self.send_prepares_to_all(turn);
        if planted!(AcknowledgeBeforeFlush) {
            self.durable = self.last();
            self.advance_commit_point(turn);
        }
    }

    /// Beacons begin with the ballot: they keep the members waiting for us, and their answers are our lease. They assign no
    /// decree, so that they need not wait for the adoption to be durable.
    pub(super) fn cover_members(&mut self, turn: &mut Turn<'_>) {
        let (partition, due) = (
            self.partition,
            turn.now.after(turn.desk.options.beacon_period),
        );
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        if !primary.leads() {
            return;
        }
        for progress in &mut primary.peers {
            let peer = progress.member.address;
            progress.heard_at = turn.now;
            progress.covered_from = turn.desk.links.cover(peer, partition, due);
            progress.fresh_from = turn.desk.links.probe(peer, partition);
        }
    }

    /// The adoption is durable: prepares again what is above the commit point, then a no-op.
    pub(crate) fn reconcile(&mut self, turn: &mut Turn<'_>) {
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        // A member may have told of a newer ballot meanwhile.
        if primary.phase != Phase::Adopting {
            return;
        }
        primary.phase = Phase::Reconciling;
        primary.noop = self.list.last().next();
        primary.floor = self.committed;
        for progress in &mut primary.peers {
            let peer = progress.member.address;
            progress.sent = self.committed;
            progress.heard_at = turn.now;
            progress.fresh_from = turn.desk.links.probe(peer, self.partition);
            // Prepares do not wait for an answer.
            if turn.desk.links.is_up(peer) {
                progress.reach = Reach::Steady;
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
            // No two no-ops are the same mutation: a member that holds an older one must not keep it under its old stamp, or
            // what it acknowledges with this one would not be under our ballot in its log.
            request_id: RequestId {
                client: 0,
                sequence: self.ballot.0,
            },
            payload: Bytes::new(),
        };
        self.assign(noop, None, 0, turn);
        self.propose(turn);
        if planted!(ServeBeforeReconciling)
            && let Role::Primary(primary) = &mut self.role
        {
            primary.phase = Phase::Serving;
        }
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
        let acknowledged = primary.counted().map(|progress| progress.acknowledged);
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
        self.issue_applies(turn);
        self.may_yield(turn);
    }

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
}

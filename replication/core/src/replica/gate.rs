//! Gates: mutations that depend on what the rows of their hash key are.
//!
//! Such an operation is computed by the caller, from the newest prepared values: decree order makes them what the rows will be
//! when it is applied, so it does not wait for the writes in flight before it. It only must be alone meanwhile: from its turn
//! until its outcome nothing else of its gate gets a decree, and what comes waits behind it, in order. A gate is the hash
//! of a hash key; two keys with one hash share it, which costs waiting and nothing else.
//!
//! ```text
//!   Atomic --admitted--> turn? --no--> behind the holder, until it is its turn or its deadline
//!                          |yes
//!                          +-- its id is prepared --> follows that mutation, then computes: the engine knows the id by then
//!                          +-- holds the gate --Computed--> Write: a decree at once
//!                                                           Answer: follows what it saw, then a read's rules
//!                                                           Remembered, Forgotten: answered
//! ```
//!
//! Only a serving primary computes, and it has applied the no-op of its ballot: what was prepared before it served is in
//! the engine, and everything above was prepared by itself, so that it knows the gates of all that is in flight.

use super::deadline::Due;
use super::primary::Write;
use super::{Replica, Role};
use crate::event::{BusyReason, Compute, Computed, Effect, Reject};
use crate::ids::{Decree, Instant, RequestId, Ticket};
use crate::shard::turn::Turn;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// Requests that wait behind one atomic operation.
const GATE_QUEUE_MAX: usize = 1024;
/// Requests of a partition that wait for a decree which is not their own.
const FOLLOWERS_MAX: usize = 4096;

/// An atomic operation on its way in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Atomic {
    pub(crate) ticket: Ticket,
    pub(crate) request_id: RequestId,
    pub(crate) gate: u64,
    pub(crate) wall_us: u64,
    pub(crate) deadline: Instant,
    /// A mutation of its id is, or was, prepared here: whatever becomes of this request, it may have been executed.
    pub(crate) is_twin: bool,
}

#[derive(Debug, Default)]
pub(super) struct Gates {
    /// Boxed, because a map of one is made and dropped for nearly every operation, and its first node has room for eleven.
    held: BTreeMap<u64, Box<Holder>>,
    /// By the decree that they wait for.
    followers: BTreeMap<(Decree, Ticket), Follower>,
}

/// The operation that is being computed, and who waits behind it.
#[derive(Debug)]
struct Holder {
    atomic: Atomic,
    queue: VecDeque<Waiting>,
}

#[derive(Debug)]
enum Waiting {
    Atomic(Atomic),
    Write(Write),
}

#[derive(Clone, Copy, Debug)]
enum Follower {
    /// Has its answer, made of what was prepared up to that decree.
    Answer { deadline: Instant },
    /// That decree is its own mutation, come before.
    Twin(Atomic),
}

impl Waiting {
    const fn ticket(&self) -> Ticket {
        match self {
            Self::Atomic(atomic) => atomic.ticket,
            Self::Write(write) => write.ticket,
        }
    }

    const fn deadline(&self) -> Instant {
        match self {
            Self::Atomic(atomic) => atomic.deadline,
            Self::Write(write) => write.deadline,
        }
    }

    const fn refusal(&self, reason: Reject) -> Reject {
        match self {
            Self::Atomic(atomic) => atomic.refusal(reason),
            Self::Write(_) => reason,
        }
    }
}

impl Atomic {
    /// What to say instead of `reason`, which claims that nothing was executed.
    const fn refusal(&self, reason: Reject) -> Reject {
        if self.is_twin {
            Reject::Unknown
        } else {
            reason
        }
    }
}

impl Follower {
    const fn deadline(&self) -> Instant {
        match self {
            Self::Answer { deadline } => *deadline,
            Self::Twin(atomic) => atomic.deadline,
        }
    }

    const fn refusal(&self, reason: Reject) -> Reject {
        match self {
            Self::Answer { .. } => reason,
            Self::Twin(_) => Reject::Unknown,
        }
    }
}

impl Gates {
    fn is_open(&self) -> bool {
        self.held.is_empty()
    }
}

impl Replica {
    pub(crate) fn handle_atomic(&mut self, atomic: Atomic, turn: &mut Turn<'_>) {
        if self.gates.held.contains_key(&atomic.gate) {
            self.wait_behind(atomic.gate, Waiting::Atomic(atomic), turn);
        } else if self.begin_compute(atomic, turn) {
            let queue = VecDeque::new();
            let holder = Box::new(Holder { atomic, queue });
            self.gates.held.insert(atomic.gate, holder);
        }
    }

    /// Hands a blind write back if nothing of its gate is being computed; otherwise it waits.
    pub(super) fn pass_gate(&mut self, write: Write, turn: &mut Turn<'_>) -> Option<Write> {
        if self.is_gate_open(write.gate) {
            return Some(write);
        }
        self.wait_behind(write.gate, Waiting::Write(write), turn);
        None
    }

    fn wait_behind(&mut self, gate: u64, waiting: Waiting, turn: &mut Turn<'_>) {
        let (ticket, deadline) = (waiting.ticket(), waiting.deadline());
        let admitted = match &waiting {
            Waiting::Atomic(atomic) => self.admit_atomic(atomic, turn),
            Waiting::Write(write) => self.admit(deadline, write.payload.len(), turn),
        };
        let partition = self.partition;
        let holder = self.gates.held.get_mut(&gate).expect("seen by the caller");
        let refused = match admitted {
            Ok(()) if holder.queue.len() < GATE_QUEUE_MAX => {
                holder.queue.push_back(waiting);
                let deadlines = &mut turn.desk.deadlines;
                deadlines.insert(deadline, partition, Due::Gate(ticket));
                return;
            }
            Ok(()) => GATE_BUSY,
            Err(reason) => reason,
        };
        let reason = waiting.refusal(refused);
        turn.effects.push(Effect::Reject { ticket, reason });
    }

    /// The rules of a write. A twin only asks the engine what it remembers: it is refused nothing that a write would be.
    fn admit_atomic(&self, atomic: &Atomic, turn: &Turn<'_>) -> Result<(), Reject> {
        if atomic.is_twin {
            return Ok(());
        }
        self.admit(atomic.deadline, 0, turn)?;
        let Role::Primary(primary) = &self.role else {
            unreachable!("{}: admitted and no primary", self.partition)
        };
        assert!(
            self.applied >= primary.noop,
            "{}: would compute on what an earlier primary has prepared",
            self.partition
        );
        Ok(())
    }

    /// True if the gate is this operation's now; otherwise it waits elsewhere or is refused.
    fn begin_compute(&mut self, atomic: Atomic, turn: &mut Turn<'_>) -> bool {
        let ticket = atomic.ticket;
        if let Err(reason) = self.admit_atomic(&atomic, turn) {
            let reason = atomic.refusal(reason);
            turn.effects.push(Effect::Reject { ticket, reason });
            return false;
        }
        if !planted!(TwinComputedAgain)
            && let Some(decree) = self.prepared_under(atomic.request_id)
        {
            let atomic = Atomic {
                is_twin: true,
                ..atomic
            };
            self.wait_for(decree, ticket, Follower::Twin(atomic), turn);
            return false;
        }
        turn.desk.computes.push_back(Compute {
            partition: self.partition,
            ticket,
            gate: atomic.gate,
            wall_us: atomic.wall_us.max(self.timestamp_us),
        });
        true
    }

    /// The operation that holds the gate has been computed.
    pub(crate) fn handle_computed(
        &mut self,
        ticket: Ticket,
        gate: u64,
        outcome: Computed,
        turn: &mut Turn<'_>,
    ) {
        let held = self.gates.held.get(&gate);
        if held.is_none_or(|holder| holder.atomic.ticket != ticket) {
            // We have given up the role meanwhile, and whoever waited has been told.
            return;
        }
        let Some(holder) = self.gates.held.remove(&gate) else {
            return;
        };
        let Holder { atomic, queue } = *holder;
        match outcome {
            Computed::Write { payload } if !atomic.is_twin => {
                let write = Write {
                    ticket,
                    request_id: atomic.request_id,
                    gate,
                    wall_us: atomic.wall_us,
                    payload,
                    deadline: atomic.deadline,
                };
                self.write(write, turn);
            }
            Computed::Answer => {
                let deadline = atomic.deadline;
                match self.newest_inflight_of(gate) {
                    Some(decree) => {
                        self.wait_for(decree, ticket, Follower::Answer { deadline }, turn)
                    }
                    None => self.answer_read(ticket, deadline, turn),
                }
            }
            // What the engine has applied here is committed: no lease is needed to say so.
            Computed::Remembered => turn.effects.push(Effect::Reply {
                ticket,
                decree: self.applied,
            }),
            // The mutation of a twin was applied here: an engine that does not know it has forgotten it.
            Computed::Forgotten | Computed::Write { .. } => turn.effects.push(Effect::Reject {
                ticket,
                reason: Reject::Unknown,
            }),
        }
        self.let_queue_go_on(gate, queue, turn);
    }

    /// Those behind a free gate go on, up to the next that has to be computed.
    fn let_queue_go_on(&mut self, gate: u64, mut queue: VecDeque<Waiting>, turn: &mut Turn<'_>) {
        while let Some(waiting) = queue.pop_front() {
            let (ticket, deadline) = (waiting.ticket(), waiting.deadline());
            let deadlines = &mut turn.desk.deadlines;
            deadlines.remove(deadline, self.partition, Due::Gate(ticket));
            match waiting {
                Waiting::Write(write) => self.write(write, turn),
                Waiting::Atomic(atomic) => {
                    if self.begin_compute(atomic, turn) {
                        let holder = Box::new(Holder { atomic, queue });
                        self.gates.held.insert(gate, holder);
                        return;
                    }
                }
            }
        }
    }

    fn wait_for(&mut self, decree: Decree, ticket: Ticket, who: Follower, turn: &mut Turn<'_>) {
        assert!(
            decree > self.applied,
            "{}: waits for decree {decree}, which is applied",
            self.partition
        );
        if self.gates.followers.len() >= FOLLOWERS_MAX {
            let reason = who.refusal(GATE_BUSY);
            turn.effects.push(Effect::Reject { ticket, reason });
            return;
        }
        let (at, due) = (who.deadline(), Due::Follower(decree, ticket));
        turn.desk.deadlines.insert(at, self.partition, due);
        self.gates.followers.insert((decree, ticket), who);
    }

    /// What some have waited for is applied.
    pub(super) fn let_followers_go_on(&mut self, turn: &mut Turn<'_>) {
        while let Some(first) = self.gates.followers.first_entry()
            && first.key().0 <= self.applied
        {
            let ((decree, ticket), follower) = first.remove_entry();
            let (at, due) = (follower.deadline(), Due::Follower(decree, ticket));
            turn.desk.deadlines.remove(at, self.partition, due);
            match follower {
                Follower::Answer { deadline } => self.answer_read(ticket, deadline, turn),
                Follower::Twin(atomic) => self.handle_atomic(atomic, turn),
            }
        }
    }

    /// `Due::Gate`: the operation before it takes too long.
    pub(crate) fn on_gate_deadline(&mut self, ticket: Ticket, turn: &mut Turn<'_>) {
        for holder in self.gates.held.values_mut() {
            let mut queue = holder.queue.iter();
            let Some(position) = queue.position(|waiting| waiting.ticket() == ticket) else {
                continue;
            };
            let waiting = holder.queue.remove(position).expect("just found");
            let reason = waiting.refusal(Reject::Expired);
            turn.effects.push(Effect::Reject { ticket, reason });
            return;
        }
        unreachable!("{}: {ticket} waits at no gate", self.partition);
    }

    /// `Due::Follower`: what it waits for is not applied in time.
    pub(crate) fn on_follower_deadline(
        &mut self,
        decree: Decree,
        ticket: Ticket,
        turn: &mut Turn<'_>,
    ) {
        let follower = self.gates.followers.remove(&(decree, ticket));
        let follower = follower.expect("its deadline is removed with it");
        let reason = follower.refusal(Reject::Expired);
        turn.effects.push(Effect::Reject { ticket, reason });
    }

    /// The role, or the right to what was prepared in it, is lost.
    pub(super) fn refuse_at_gates(&mut self, reason: Reject, turn: &mut Turn<'_>) {
        let gates = std::mem::take(&mut self.gates);
        let partition = self.partition;
        for holder in gates.held.into_values() {
            let Holder { atomic, queue } = *holder;
            let (ticket, refused) = (atomic.ticket, atomic.refusal(reason));
            turn.effects.push(Effect::Reject {
                ticket,
                reason: refused,
            });
            for waiting in queue {
                let (ticket, deadline) = (waiting.ticket(), waiting.deadline());
                let deadlines = &mut turn.desk.deadlines;
                deadlines.remove(deadline, partition, Due::Gate(ticket));
                let reason = waiting.refusal(reason);
                turn.effects.push(Effect::Reject { ticket, reason });
            }
        }
        for ((decree, ticket), follower) in gates.followers {
            let (at, due) = (follower.deadline(), Due::Follower(decree, ticket));
            turn.desk.deadlines.remove(at, partition, due);
            let reason = follower.refusal(reason);
            turn.effects.push(Effect::Reject { ticket, reason });
        }
    }

    /// Whether nothing of this gate is being computed: a write of it that comes now gets its decree at once.
    pub(crate) fn is_gate_open(&self, gate: u64) -> bool {
        self.gates.is_open() || !self.gates.held.contains_key(&gate)
    }

    /// Requests that are being computed, or wait for one that is.
    pub(super) fn at_gates(&self) -> usize {
        let held = self.gates.held.values();
        held.map(|holder| 1 + holder.queue.len()).sum()
    }

    /// Payloads of this gate's mutations that may not be applied, the newest first. A walk over all that is in flight: it
    /// is bounded, and so blind writes pay nothing for it.
    pub(crate) fn inflight_of(&self, gate: u64) -> impl Iterator<Item = &Bytes> {
        let slots = self.list.newest_above(self.applied);
        slots
            .filter(move |slot| slot.gate == gate && !planted!(AtomicOnAppliedRows))
            .map(|slot| &slot.entry.mutation.payload)
    }

    /// Of these those above `decree`, with their decrees.
    pub(crate) fn inflight_above(
        &self,
        gate: u64,
        decree: Decree,
    ) -> impl Iterator<Item = (Decree, &Bytes)> {
        let slots = self.list.newest_above(self.applied.max(decree));
        slots
            .filter(move |slot| slot.gate == gate)
            .map(|slot| (slot.entry.decree, &slot.entry.mutation.payload))
    }

    fn newest_inflight_of(&self, gate: u64) -> Option<Decree> {
        let mut slots = self.list.newest_above(self.applied);
        slots
            .find(|slot| slot.gate == gate)
            .map(|slot| slot.entry.decree)
    }

    /// Checks what must hold at the gates.
    pub(super) fn check_gates(&self) {
        let is_primary = matches!(self.role, Role::Primary(_));
        assert!(
            is_primary || self.gates.is_open(),
            "{}: computes and is no primary",
            self.partition
        );
        assert!(
            is_primary || self.gates.followers.is_empty(),
            "{}: an answer waits for a decree of a replica that is no primary",
            self.partition
        );
        for (decree, ticket) in self.gates.followers.keys() {
            assert!(
                *decree > self.applied,
                "{}: {ticket} waits for what is applied",
                self.partition
            );
            assert!(
                *decree <= self.list.last(),
                "{}: {ticket} waits for what nobody prepares",
                self.partition
            );
        }
    }
}

const GATE_BUSY: Reject = Reject::Busy {
    reason: BusyReason::Gate,
    retry_after_ms: Replica::RETRY_QUEUE_MS,
};

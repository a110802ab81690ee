//! The right to read: checked before the engine is asked and again when it has answered.

use super::{Due, Phase, Replica, Role};
use crate::event::{BusyReason, Effect, Reject};
use crate::ids::{Instant, Ticket};
use crate::shard::turn::Turn;
use std::time::Duration;

/// Reads of one partition that wait for it to serve.
const PARKED_READS_MAX: usize = 256;
/// Longest that a read waits for that.
const PARK_PERIOD: Duration = Duration::from_millis(200);
/// Reads in the engine, per core.
const READS_INFLIGHT_MAX: usize = 65_536;
const RETRY_READ_MS: u32 = 2;

impl Replica {
    pub(crate) fn handle_read(&mut self, ticket: Ticket, deadline: Instant, turn: &mut Turn<'_>) {
        let refused = match self.serving_primary() {
            Ok(_) if deadline <= turn.now => Reject::Expired,
            Ok(_) if turn.desk.reads_inflight >= READS_INFLIGHT_MAX => Reject::Busy {
                reason: BusyReason::Reads,
                retry_after_ms: RETRY_READ_MS,
            },
            Ok(_) => {
                self.start_read(ticket, turn);
                return;
            }
            Err(Reject::NotServing) if matches!(self.role, Role::Primary(_)) => {
                self.park_read(ticket, deadline, turn);
                return;
            }
            Err(reason) => reason,
        };
        turn.effects.push(Effect::Reject {
            ticket,
            reason: refused,
        });
    }

    fn start_read(&mut self, ticket: Ticket, turn: &mut Turn<'_>) {
        let before = self.reads.insert(ticket, self.ballot);
        assert!(
            before.is_none(),
            "{}: ticket {ticket} reads twice",
            self.partition
        );
        turn.desk.reads_inflight += 1;
        turn.effects.push(Effect::Read {
            partition: self.partition,
            ticket,
        });
    }

    fn park_read(&mut self, ticket: Ticket, deadline: Instant, turn: &mut Turn<'_>) {
        let reason = if deadline <= turn.now {
            Reject::Expired
        } else if self.parked.len() >= PARKED_READS_MAX {
            Reject::Busy {
                reason: BusyReason::Reads,
                retry_after_ms: RETRY_READ_MS,
            }
        } else {
            let until = deadline.min(turn.now.after(PARK_PERIOD));
            turn.desk
                .deadlines
                .insert(until, self.partition, Due::Read(ticket));
            self.parked.push_back((ticket, until));
            return;
        };
        turn.effects.push(Effect::Reject { ticket, reason });
    }

    pub(crate) fn admit_parked_reads(&mut self, turn: &mut Turn<'_>) {
        debug_assert!(
            matches!(&self.role, Role::Primary(primary) if primary.phase() == Phase::Serving)
        );
        while let Some((ticket, until)) = self.parked.pop_front() {
            turn.desk
                .deadlines
                .remove(until, self.partition, Due::Read(ticket));
            self.start_read(ticket, turn);
        }
    }

    pub(crate) fn refuse_parked_reads(&mut self, reason: Reject, turn: &mut Turn<'_>) {
        while let Some((ticket, until)) = self.parked.pop_front() {
            turn.desk
                .deadlines
                .remove(until, self.partition, Due::Read(ticket));
            turn.effects.push(Effect::Reject { ticket, reason });
        }
    }

    /// `Due::Read`: nobody serves, and the read has waited long enough.
    pub(crate) fn on_read_deadline(&mut self, ticket: Ticket, turn: &mut Turn<'_>) {
        self.parked.retain(|(parked, _)| *parked != ticket);
        turn.effects.push(Effect::Reject {
            ticket,
            reason: Reject::NotServing,
        });
    }

    /// The engine has answered. The answer counts if we have been the serving primary of one ballot all the while.
    pub(crate) fn handle_read_done(&mut self, ticket: Ticket, turn: &mut Turn<'_>) {
        let admitted = self.reads.remove(&ticket);
        if admitted.is_some() {
            turn.desk.reads_inflight = turn
                .desk
                .reads_inflight
                .checked_sub(1)
                .expect("counted when it started");
        }
        let effect = match self.serving_primary() {
            Ok(_) if admitted == Some(self.ballot) => Effect::Reply {
                ticket,
                decree: self.applied,
            },
            Ok(_) => Effect::Reject {
                ticket,
                reason: Reject::NotServing,
            },
            Err(reason) => Effect::Reject { ticket, reason },
        };
        turn.effects.push(effect);
    }

    /// Reads still in the engine when the replica goes away.
    pub(crate) fn reads_inflight(&self) -> usize {
        self.reads.len()
    }
}

//! The right to read: checked before the engine is asked and again when it has answered.

use super::{Due, Replica, Role};
use crate::event::{BusyReason, Effect, Reject};
use crate::ids::{Ballot, Instant, Ticket};
use crate::shard::turn::Turn;
use std::time::Duration;

/// Reads of one partition that wait for it to serve.
const PARKED_READS_MAX: usize = 256;
/// Longest that a read waits for that.
const PARK_PERIOD: Duration = Duration::from_millis(200);
/// Reads in the engine, per core.
const READS_INFLIGHT_MAX: usize = 65_536;
const RETRY_READ_MS: u32 = 2;

/// A read that waits for us to serve, or for our lease.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parked {
    ticket: Ticket,
    until: Instant,
    /// The engine has answered already. The answer is good for as long as we have been primary without a break: if we may
    /// read now, nobody else has served since.
    is_read: bool,
}

impl Replica {
    pub(crate) fn handle_read(&mut self, ticket: Ticket, deadline: Instant, turn: &mut Turn<'_>) {
        let refused = match self.may_read(turn.now, turn.desk) {
            Ok(()) if deadline <= turn.now => Reject::Expired,
            Ok(()) if turn.desk.reads_inflight >= READS_INFLIGHT_MAX => Reject::Busy {
                reason: BusyReason::Reads,
                retry_after_ms: RETRY_READ_MS,
            },
            Ok(()) => {
                self.start_read(ticket, deadline, turn);
                return;
            }
            Err(Reject::NotServing) if matches!(self.role, Role::Primary(_)) => {
                match self.park_read(ticket, deadline, false, turn) {
                    Ok(()) => return,
                    Err(reason) => reason,
                }
            }
            Err(reason) => reason,
        };
        turn.effects.push(Effect::Reject {
            ticket,
            reason: refused,
        });
    }

    fn start_read(&mut self, ticket: Ticket, deadline: Instant, turn: &mut Turn<'_>) {
        let reign = self.reign().expect("only a primary reads");
        let before = self.reads.insert(ticket, (reign, deadline));
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

    /// Since which ballot we have been primary without a break.
    fn reign(&self) -> Option<Ballot> {
        match &self.role {
            Role::Primary(primary) => Some(primary.reign),
            _ => None,
        }
    }

    fn park_read(
        &mut self,
        ticket: Ticket,
        deadline: Instant,
        is_read: bool,
        turn: &mut Turn<'_>,
    ) -> Result<(), Reject> {
        if deadline <= turn.now {
            return Err(Reject::Expired);
        }
        if self.parked.len() >= PARKED_READS_MAX {
            return Err(Reject::Busy {
                reason: BusyReason::Reads,
                retry_after_ms: RETRY_READ_MS,
            });
        }
        let until = deadline.min(turn.now.after(PARK_PERIOD));
        turn.desk
            .deadlines
            .insert(until, self.partition, Due::Read(ticket));
        self.parked.push_back(Parked {
            ticket,
            until,
            is_read,
        });
        Ok(())
    }

    /// Something has changed for the better: lets reads go on, if we may answer them.
    pub(crate) fn admit_parked_reads(&mut self, turn: &mut Turn<'_>) {
        if self.parked.is_empty() || self.may_read(turn.now, turn.desk).is_err() {
            return;
        }
        while let Some(parked) = self.parked.pop_front() {
            let ticket = parked.ticket;
            turn.desk
                .deadlines
                .remove(parked.until, self.partition, Due::Read(ticket));
            if parked.is_read {
                turn.effects.push(Effect::Reply {
                    ticket,
                    decree: self.applied,
                });
            } else {
                self.start_read(ticket, parked.until, turn);
            }
        }
    }

    pub(crate) fn refuse_parked_reads(&mut self, reason: Reject, turn: &mut Turn<'_>) {
        while let Some(Parked { ticket, until, .. }) = self.parked.pop_front() {
            turn.desk
                .deadlines
                .remove(until, self.partition, Due::Read(ticket));
            turn.effects.push(Effect::Reject { ticket, reason });
        }
    }

    /// `Due::Read`: nobody serves, and the read has waited long enough.
    pub(crate) fn on_read_deadline(&mut self, ticket: Ticket, turn: &mut Turn<'_>) {
        self.parked.retain(|parked| parked.ticket != ticket);
        turn.effects.push(Effect::Reject {
            ticket,
            reason: Reject::NotServing,
        });
    }

    /// The engine has answered. The answer counts if we have been primary without a break since the read was admitted and may
    /// read now. Without a lease it waits for one, as reads do.
    pub(crate) fn handle_read_done(&mut self, ticket: Ticket, turn: &mut Turn<'_>) {
        let admitted = self.reads.remove(&ticket);
        if admitted.is_some() {
            turn.desk.reads_inflight = turn
                .desk
                .reads_inflight
                .checked_sub(1)
                .expect("counted when it started");
        }
        let may_read = if planted!(NoLeaseRecheck) {
            self.serving_primary().map(|_| ())
        } else {
            self.may_read(turn.now, turn.desk)
        };
        let same_reign = admitted.filter(|(reign, _)| Some(*reign) == self.reign());
        let refused = match (may_read, same_reign) {
            (Ok(()), Some(_)) => {
                turn.effects.push(Effect::Reply {
                    ticket,
                    decree: self.applied,
                });
                return;
            }
            (Err(Reject::NotServing), Some((_, deadline))) => {
                match self.park_read(ticket, deadline, true, turn) {
                    Ok(()) => return,
                    Err(_) => Reject::NotServing,
                }
            }
            (Ok(()), None) => Reject::NotServing,
            (Err(reason), _) => reason,
        };
        turn.effects.push(Effect::Reject {
            ticket,
            reason: refused,
        });
    }

    /// An answer that was made of what is applied by now, in this reign: may it be given?
    pub(super) fn answer_read(&mut self, ticket: Ticket, deadline: Instant, turn: &mut Turn<'_>) {
        let refused = match self.may_read(turn.now, turn.desk) {
            Ok(()) => {
                let decree = self.applied;
                turn.effects.push(Effect::Reply { ticket, decree });
                return;
            }
            Err(Reject::NotServing) => match self.park_read(ticket, deadline, true, turn) {
                Ok(()) => return,
                Err(_) => Reject::NotServing,
            },
            Err(reason) => reason,
        };
        let reason = refused;
        turn.effects.push(Effect::Reject { ticket, reason });
    }

    /// Reads still in the engine when the replica goes away.
    pub(crate) fn reads_inflight(&self) -> usize {
        self.reads.len()
    }
}

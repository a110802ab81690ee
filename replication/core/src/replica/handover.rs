//! Planned hand-over: the primary takes no new writes, lets everything commit, gives up the ballot and says so.

use super::primary::{HandOver, Phase, Primary};
use super::progress::Kind;
use super::{Replica, Role, Timer};
use crate::config::{Member, Proposal};
use crate::event::{Effect, Reject};
use crate::ids::Ballot;
use crate::message::{Message, Yield};
use crate::shard::turn::Turn;

impl Primary {
    /// Having yielded: meta is asked to make the other one primary, then for anything newer at all.
    pub(super) fn wanted_after_yield(&self, turn: &Turn<'_>) -> Proposal {
        let hand_over = self.hand_over.expect("only a hand-over yields");
        let since = hand_over.yielded_at.expect("it has yielded");
        if turn.now.since(since) < turn.desk.options.lease_period {
            Proposal::HandOver { to: hand_over.to }
        } else {
            Proposal::NextBallot
        }
    }
}

impl Replica {
    /// Meta wants the role to go to `to`. Refused in silence if this is not the ballot, or nothing can be handed over now:
    /// meta says it again.
    pub(crate) fn handle_hand_over(&mut self, ballot: Ballot, to: Member, turn: &mut Turn<'_>) {
        let own = self.ballot;
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        let is_secondary = primary
            .peers
            .iter()
            .any(|peer| peer.kind == Kind::Secondary && peer.member == to && !peer.is_out());
        let may_begin = ballot == own
            && primary.phase == Phase::Serving
            && primary.hand_over.is_none()
            && is_secondary
            && turn.desk.links.is_up(to.address);
        if !may_begin {
            return;
        }
        primary.hand_over = Some(HandOver {
            to,
            yielded_at: None,
        });
        let at = turn.now.after(turn.desk.options.lease_period);
        self.timers.set(Timer::Drain, at, self.partition, turn);
        self.may_yield(turn);
    }

    /// `Timer::Drain`: what is pending does not commit; writes are taken again.
    pub(crate) fn give_up_hand_over(&mut self) {
        if let Role::Primary(primary) = &mut self.role
            && primary.phase == Phase::Serving
        {
            primary.hand_over = None;
        }
    }

    /// Everything prepared is committed and applied, so that the other one holds it too: gives up the ballot for good.
    pub(crate) fn may_yield(&mut self, turn: &mut Turn<'_>) {
        let (last, committed) = (self.last(), self.committed);
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        let Some(hand_over) = &mut primary.hand_over else {
            return;
        };
        if primary.phase != Phase::Serving || committed < last || self.applied < committed {
            return;
        }
        hand_over.yielded_at = Some(turn.now);
        let to = hand_over.to.address;
        primary.phase = Phase::Yielded;
        self.timers.clear(Timer::Drain, self.partition, turn);
        let reason = Reject::NotPrimary { primary: Some(to) };
        self.refuse_at_gates(reason, turn);
        self.refuse_parked_reads(reason, turn);
        turn.effects.push(Effect::Send {
            to,
            message: Message::Yield(Yield {
                partition: self.partition,
                ballot: self.ballot,
                committed,
            }),
        });
        self.leave_links(turn);
        self.propose(turn);
    }
}

//! What a replica asks meta for, and when: the one proposal that its state calls for now, repeated until a newer ballot
//! comes or the reason is gone.

use super::primary::{Phase, Primary};
use super::progress::{Kind, Progress, Reach};
use super::{Replica, Role, Timer};
use crate::config::{Proposal, RemovalCause};
use crate::event::Effect;
use crate::ids::{Ballot, Instant};
use crate::shard::turn::Turn;
use std::time::Duration;

impl Replica {
    /// How often a proposal is repeated: meta may be away, or its answer lost.
    pub(super) const PROPOSE_PERIOD: Duration = Duration::from_millis(200);

    /// How many grace periods of its life a primary waits for members of which it has not heard in it: 2.2 s by default. Longer:
    /// a start beside a dead node stops writes for longer; shorter: nodes that start later are removed, and have to come back.
    const START_PATIENCE_GRACES: u32 = 4;

    /// Proposes what is wanted now, unless that has just been done.
    pub(crate) fn propose(&mut self, turn: &mut Turn<'_>) {
        let wanted = self.wanted_proposal(turn);
        let is_waiting = self.timers.is_set(Timer::Propose);
        if wanted == self.proposed && (is_waiting || wanted.is_none()) {
            return;
        }
        self.proposed = wanted;
        let Some(proposal) = wanted else {
            self.timers.clear(Timer::Propose, self.partition, turn);
            return;
        };
        let at = turn.now.after(Self::PROPOSE_PERIOD);
        self.timers.set(Timer::Propose, at, self.partition, turn);
        turn.effects.push(Effect::Propose {
            partition: self.partition,
            incarnation: self.incarnation,
            ballot: self.ballot,
            proposal,
        });
    }

    fn wanted_proposal(&self, turn: &Turn<'_>) -> Option<Proposal> {
        match &self.role {
            Role::Primary(primary) => self.wanted_by_primary(primary, turn),
            Role::Secondary if self.promised => Some(Proposal::TakeOver {
                prepared: self.durable,
                prepared_ballot: self.list.stamp(self.durable).unwrap_or(Ballot::NONE),
            }),
            Role::Secondary
            | Role::Creating { .. }
            | Role::Idle
            | Role::Learner(_)
            | Role::OutOfService { .. } => None,
        }
    }

    fn wanted_by_primary(&self, primary: &Primary, turn: &Turn<'_>) -> Option<Proposal> {
        match primary.phase {
            // A newer ballot than ours is known: meta refuses this, and tells what holds.
            Phase::WaitingForBallot | Phase::Superseded => Some(Proposal::NextBallot),
            Phase::Yielded => Some(primary.wanted_after_yield(turn)),
            Phase::Waiting | Phase::Adopting => None,
            Phase::Reconciling | Phase::Serving if self.may_be_cut_off(primary, turn) => None,
            Phase::Reconciling | Phase::Serving => {
                let secondaries = primary.peers.iter();
                let removal = secondaries
                    .filter(|peer| peer.kind == Kind::Secondary)
                    .find_map(|peer| Some((peer, self.removal_cause(peer, turn)?)));
                if let Some((peer, cause)) = removal {
                    let member = peer.member;
                    return Some(Proposal::Remove { member, cause });
                }
                let learner = primary
                    .peers
                    .iter()
                    .find(|peer| peer.kind == Kind::Counted)?;
                let member = learner.member;
                let is_assigned = self.learner == Some(member);
                Some(match self.removal_cause(learner, turn) {
                    None if is_assigned => Proposal::Add { member },
                    Some(_) if is_assigned => Proposal::WithdrawLearner { member },
                    // Its assignment is gone; under the next ballot nobody can add it by an older proposal.
                    _ => Proposal::NextBallot,
                })
            }
        }
    }

    /// Why this member should be waited for no longer.
    fn removal_cause(&self, peer: &Progress, turn: &Turn<'_>) -> Option<RemovalCause> {
        let options = &turn.desk.options;
        // What we did not hear while we were not there ourselves is no sign against anybody.
        let silence = |since: Instant| turn.now.since(since.max(turn.desk.fence.at));
        if peer.reach == Reach::Lost {
            return Some(RemovalCause::Lost);
        }
        if peer.reach == Reach::OutOfService {
            return Some(RemovalCause::OutOfService);
        }
        let is_gone = turn.desk.links.is_gone(peer.member.address);
        // Before the member can ask to take over: a primary that lives removes who is silent, and not the other way round.
        let is_silent = is_gone || silence(peer.heard_at) >= options.lease_period;
        if is_silent && !Self::may_be_starting(peer, turn) {
            return Some(RemovalCause::Down);
        }
        let lags = peer
            .lags_since()
            .is_some_and(|since| silence(since) > options.slow_lag);
        let (slow, lately) = (options.slow_own_flush, options.slow_lag);
        let is_ours = turn.desk.log_pace.is_slow(turn.now, slow, lately);
        (lags && !is_ours && self.may_remove_slow(peer)).then_some(RemovalCause::Slow)
    }

    /// Whether the member's node may be on its way up, as ours has just been: where all nodes are started one after the other, who
    /// is first would else remove the others one by one.
    fn may_be_starting(peer: &Progress, turn: &Turn<'_>) -> bool {
        let patience = turn.desk.options.grace_period * Self::START_PATIENCE_GRACES;
        !turn.desk.links.was_up(peer.member.address)
            && turn.now.since(turn.desk.started_at) < patience
    }

    /// Whether we, and not the members, may be the one that the network has left: some are silent, none of several has been heard
    /// for two beacons, and no host has said that its process is gone. Then they are given time to take over together; removing
    /// them one by one would end with us alone, unable to write, beside healthy copies.
    fn may_be_cut_off(&self, primary: &Primary, turn: &Turn<'_>) -> bool {
        let options = &turn.desk.options;
        let (lately, patience) = (options.beacon_period * 2, options.grace_period * 2);
        let fence = turn.desk.fence.at;
        let members = || {
            let peers = primary.peers.iter();
            peers.filter(|peer| peer.kind == Kind::Secondary)
        };
        let silence = |peer: &Progress| turn.now.since(peer.heard_at.max(fence));
        let is_down = |peer| self.removal_cause(peer, turn) == Some(RemovalCause::Down);
        let is_unheard = |peer: &Progress| silence(peer) > lately && silence(peer) < patience;
        let is_refused = |peer: &Progress| turn.desk.links.is_refused(peer.member.address);
        primary.secondary_count() > 1
            && members().any(is_down)
            && members().all(is_unheard)
            && !members().any(is_refused)
    }

    /// A member that is merely slow is kept where writes need it.
    fn may_remove_slow(&self, peer: &Progress) -> bool {
        let configuration = self
            .configuration
            .as_ref()
            .expect("a primary has a configuration");
        peer.kind == Kind::Counted
            || configuration.members().count() > usize::from(configuration.min_replicas)
    }
}

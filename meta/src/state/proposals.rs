//! What replicas want changed, judged against the ballot that holds (PacificA 3.2): one ballot has one configuration, so of
//! two that want to leave it only the first succeeds, and everybody else is told what came of it.

use super::command::{Answer, Refusal};
use super::group::OldPrimary;
use super::heal::key_of;
use super::report::{Proposed, ReplicaHealth, ReplicaKey};
use super::table::{Partition, Table};
use super::{Level, State, Work};
use pegasus_replication::config::{Member, Proposal, RemovalCause, Stage};
use pegasus_replication::ids::{Decree, NodeId, NodeIncarnation, PartitionId};

/// Counts removals of slow members, so that a moment in which everything is slow does not take all clusters apart.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SlowRemovals {
    second: u64,
    count: u32,
}

impl SlowRemovals {
    /// Whether one more is allowed now.
    fn take(&mut self, now_ms: u64, max: u32) -> bool {
        if self.second != now_ms / 1_000 {
            *self = Self {
                second: now_ms / 1_000,
                count: 0,
            };
        }
        self.count += 1;
        self.count <= max
    }
}

impl State {
    /// At most one step of each partition for each proposal. A proposal that was sent twice does no harm: the second one names
    /// a ballot that is gone.
    pub(super) fn handle_proposals(
        &mut self,
        node: NodeId,
        incarnation: NodeIncarnation,
        proposals: &[Proposed],
        work: &mut Work,
    ) -> Result<Answer, Refusal> {
        self.expect_life(node, incarnation)?;
        for proposed in proposals {
            let id = proposed.replica.partition;
            if self.has_to_yield(node, proposed) {
                // It asks again, and is heard then if nobody else has taken over.
                continue;
            }
            // An operator wants configurations to stay as they are, whatever happens.
            let verdict = if self.durable.level() < Level::Freezed {
                Verdict::TellAgain
            } else {
                self.judge(node, proposed)
            };
            if let Verdict::Grant(Step::TakeOver(_)) = verdict
                && let Some(primary) = self.partition(id).and_then(|(_, it)| it.primary)
            {
                self.note_silence(node, primary.address.node);
            }
            match verdict {
                Verdict::Grant(step) => {
                    let now_ms = self.now_ms;
                    let before = self.partition(id).map(|(_, it)| it.clone());
                    if self.regroup(id, |it| take_step(it, step, now_ms), work) {
                        before
                            .iter()
                            .for_each(|before| self.note_losses(id, before, proposed));
                    } else {
                        self.tell_again(node, id, work);
                    }
                }
                Verdict::TellAgain => self.tell_again(node, id, work),
                Verdict::Ignore => {}
            }
        }
        Ok(Answer::Done)
    }

    /// Who has gone with a damaged copy is replaced without waiting for it; once that is done, others may come back again.
    fn note_losses(&mut self, id: PartitionId, before: &Partition, proposed: &Proposed) {
        let is_named = matches!(
            proposed.proposal,
            Proposal::Remove {
                cause: RemovalCause::OutOfService,
                ..
            }
        );
        let Some((_, now)) = self.partition(id) else {
            return;
        };
        let is_damaged = |member: &Member| {
            let status = self.status(member.address.node, key_of(id, member));
            status.is_some_and(|it| it.health == ReplicaHealth::OutOfService)
        };
        let mut gone = before.members().filter(|member| !now.is_member(member));
        // A copy that came back takes the place of another one than the lost.
        let fresh = before.learner.filter(|learner| learner.is_fresh);
        let is_replaced = fresh.is_some_and(|learner| now.is_member(&learner.member));
        if gone.any(|member| is_named || is_damaged(member)) {
            self.heal.hurry.insert(id);
        } else if is_replaced {
            self.heal.hurry.remove(&id);
        }
    }

    fn judge(&mut self, node: NodeId, proposed: &Proposed) -> Verdict {
        let Some((table, partition)) = self.partition(proposed.replica.partition) else {
            return Verdict::Ignore;
        };
        let is_current = partition.ballot == proposed.ballot && partition.stage == Stage::Active;
        let is_it = |member: &&Member| {
            member.address.node == node && member.incarnation == proposed.replica.incarnation
        };
        let Some(&proposer) = partition.members().find(is_it).filter(|_| is_current) else {
            return Verdict::TellAgain;
        };
        if let Proposal::TakeOver { prepared, .. } = proposed.proposal {
            return self.judge_takeover(table, partition, &proposer, proposed, prepared);
        }
        if partition.primary != Some(proposer) {
            return Verdict::TellAgain;
        }
        let id = proposed.replica.partition;
        if matches!(proposed.proposal, Proposal::NextBallot)
            && self.has_lost(node, proposed.replica)
            && self.has_better(id, partition, &proposer)
        {
            // It was restored from an old image; as long as it has no ballot its secondaries take over.
            return Verdict::Ignore;
        }
        match proposed.proposal {
            Proposal::Remove {
                member,
                cause: RemovalCause::Slow,
            } => self.judge_slow(proposed, member),
            Proposal::Remove {
                member,
                cause: RemovalCause::Down,
            } => self.judge_down(proposed, &proposer, member),
            other => judge_primary(partition, other),
        }
    }

    /// Any secondary may lead: each holds everything that was acknowledged. One that itself says that it does not has lost
    /// something, and goes instead if others are left.
    fn judge_takeover(
        &self,
        table: &Table,
        partition: &Partition,
        proposer: &Member,
        proposed: &Proposed,
        prepared: Decree,
    ) -> Verdict {
        if !partition.is_secondary(proposer) {
            return Verdict::TellAgain;
        }
        let committed = self.committed(partition, proposed.replica);
        let has_lost = self.has_lost(proposer.address.node, proposed.replica);
        if prepared >= committed && !has_lost {
            return Verdict::Grant(Step::TakeOver(*proposer));
        }
        tracing::error!(
            partition = %proposed.replica.partition, ballot = %proposed.ballot, node = %proposer.address.node,
            %prepared, %committed, table = table.name,
            "a secondary that lacks committed mutations wants to take over; refused"
        );
        if partition.secondaries.len() > 1 {
            Verdict::Grant(Step::Remove(*proposer))
        } else {
            Verdict::TellAgain
        }
    }

    /// The highest commit point that any member has told of: all members have prepared everything up to it.
    fn committed(&self, partition: &Partition, replica: ReplicaKey) -> Decree {
        let told = partition.members().map(|member| {
            let incarnation = member.incarnation;
            let key = ReplicaKey {
                incarnation,
                ..replica
            };
            self.highest_committed(member.address.node, key)
        });
        told.max().unwrap_or_default()
    }

    /// Who is not heard goes, but not while meta hears it and nobody could write without it.
    fn judge_down(&mut self, proposed: &Proposed, proposer: &Member, member: Member) -> Verdict {
        let id = proposed.replica.partition;
        let is_secondary = |it: &Partition| it.is_secondary(&member);
        if !self.partition(id).is_some_and(|(_, it)| is_secondary(it)) {
            return Verdict::TellAgain;
        }
        self.note_silence(proposer.address.node, member.address.node);
        if self.has_to_stay(id, &member) {
            Verdict::Ignore
        } else {
            Verdict::Grant(Step::Remove(member))
        }
    }

    /// A slow member is worth more than none: never below what writes need, and only so many at a time.
    fn judge_slow(&mut self, proposed: &Proposed, member: Member) -> Verdict {
        let Some((table, partition)) = self.partition(proposed.replica.partition) else {
            return Verdict::Ignore;
        };
        let left = partition.member_count().saturating_sub(1);
        if !partition.is_secondary(&member) || left < usize::from(table.min_replicas) {
            return Verdict::TellAgain;
        }
        let max = self.options.slow_removals_per_second_max;
        if self.slow_removals.take(self.now_ms, max) {
            Verdict::Grant(Step::RemoveSlow(member))
        } else {
            Verdict::Ignore
        }
    }
}

fn judge_primary(partition: &Partition, proposal: Proposal) -> Verdict {
    let learner = partition.learner.map(|learner| learner.member);
    match proposal {
        Proposal::NextBallot => Verdict::Grant(Step::NextBallot),
        Proposal::Remove { member, .. } if partition.is_secondary(&member) => {
            Verdict::Grant(Step::Remove(member))
        }
        Proposal::Add { member } if learner == Some(member) => Verdict::Grant(Step::Add),
        Proposal::HandOver { to } if partition.is_secondary(&to) => {
            Verdict::Grant(Step::HandOver(to))
        }
        Proposal::WithdrawLearner { member } if learner == Some(member) => {
            Verdict::Grant(Step::WithdrawLearner(member))
        }
        _ => Verdict::TellAgain,
    }
}

enum Verdict {
    Grant(Step),
    /// The proposer does not know what holds, or asks for what it does not get.
    TellAgain,
    /// Of nothing that is there, or to be asked again later: proposals are repeated.
    Ignore,
}

#[derive(Clone, Copy)]
enum Step {
    NextBallot,
    TakeOver(Member),
    Remove(Member),
    RemoveSlow(Member),
    Add,
    HandOver(Member),
    WithdrawLearner(Member),
}

fn take_step(partition: &mut Partition, step: Step, now_ms: u64) {
    match step {
        Step::NextBallot => partition.ballot = partition.next_ballot().unwrap_or(partition.ballot),
        Step::TakeOver(member) => partition.lead(member, OldPrimary::Goes),
        Step::Remove(member) => partition.remove(&member),
        Step::RemoveSlow(member) => {
            partition.remove(&member);
            partition.back_off(member.address.node, now_ms);
        }
        Step::Add => partition.add_learner(),
        Step::HandOver(member) => partition.lead(member, OldPrimary::Follows),
        Step::WithdrawLearner(member) => {
            partition.learner = None;
            partition.back_off(member.address.node, now_ms);
        }
    }
}

//! How the group of a partition changes: who may follow whom, who learns, who has to wait.

use super::table::{Partition, REPLICA_COUNT_MAX};
use pegasus_replication::config::{Member, Stage};
use pegasus_replication::ids::{Ballot, CoreAddress, NodeId};
use std::collections::BTreeSet;

/// First back-off of a node, in milliseconds; each further one is twice as long.
pub const BACKOFF_MIN_MS: u64 = 30_000;
/// Longest back-off, in milliseconds. After as long again without a failure the next one is the first again.
pub const BACKOFF_MAX_MS: u64 = 600_000;
/// The highest counter that a ballot can have.
const COUNTER_MAX: u64 = (1 << 47) - 1;

/// A replica that catches up with the primary beside the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learner {
    pub member: Member,
    /// A new, empty replica; otherwise a copy that is there and catches up by log only.
    pub is_fresh: bool,
    /// Unix milliseconds of the assignment.
    pub since_ms: u64,
}

/// A node that failed as a member or learner of a partition and gets no replica of it for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub node: NodeId,
    /// How many there were, one after the other; from 1.
    pub step: u8,
    /// Unix milliseconds.
    pub until_ms: u64,
}

/// What an operator wants of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intent {
    pub goal: Goal,
    /// Given up at this time, in Unix milliseconds.
    pub until_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// This secondary shall be primary.
    Lead { to: Member },
    /// A new replica at `to` shall take the place of `from`.
    Move { from: Member, to: CoreAddress },
}

impl Partition {
    /// The next ballot; `None` once all are used up.
    pub(crate) fn next_ballot(&self) -> Option<Ballot> {
        (self.ballot.counter() < COUNTER_MAX).then(|| self.ballot.next())
    }

    pub(crate) fn is_member(&self, member: &Member) -> bool {
        self.members().any(|it| it == member)
    }

    pub(crate) fn is_secondary(&self, member: &Member) -> bool {
        self.secondaries.contains(member)
    }

    /// The secondary `to` leads, the primary follows or goes.
    pub(crate) fn lead(&mut self, to: Member, old: OldPrimary) {
        let before = self.primary.replace(to);
        self.secondaries.retain(|member| *member != to);
        if old == OldPrimary::Follows {
            self.secondaries.extend(before);
        }
    }

    /// Takes a secondary out.
    pub(crate) fn remove(&mut self, member: &Member) {
        self.secondaries.retain(|it| it != member);
    }

    /// The learner becomes a secondary, in the place of the replica that it was to replace.
    pub(crate) fn add_learner(&mut self) {
        let Some(learner) = self.learner.take() else {
            return;
        };
        if let Some(Goal::Move { from, to }) = self.goal()
            && to == learner.member.address
            && self.is_secondary(&from)
        {
            self.remove(&from);
        }
        self.secondaries.push(learner.member);
    }

    pub(crate) fn goal(&self) -> Option<Goal> {
        self.intent.map(|intent| intent.goal)
    }

    /// Keeps `node` away for a while, longer each time.
    pub(crate) fn back_off(&mut self, node: NodeId, now_ms: u64) {
        let forgotten = |it: &Backoff| it.until_ms.saturating_add(BACKOFF_MAX_MS) < now_ms;
        self.backoffs.retain(|it| !forgotten(it));
        let before = self.backoffs.iter().find(|it| it.node == node);
        let step = before.map_or(1, |it| it.step.saturating_add(1));
        let length = BACKOFF_MIN_MS << u32::from(step - 1).min(8);
        let until_ms = now_ms.saturating_add(length.min(BACKOFF_MAX_MS));
        self.backoffs.retain(|it| it.node != node);
        self.backoffs.push(Backoff {
            node,
            step,
            until_ms,
        });
        self.backoffs.sort_by_key(|it| it.node);
    }

    /// What follows from who is a member now: since when it is degraded, whether the order and the learner still make sense.
    pub(crate) fn settle(&mut self, replica_count: u8, now_ms: u64) {
        if self.member_count() < usize::from(replica_count) {
            self.degraded_ms.get_or_insert(now_ms);
        } else {
            self.degraded_ms = None;
        }
        let is_void = match self.goal() {
            Some(Goal::Lead { to }) => !self.is_secondary(&to),
            Some(Goal::Move { from, .. }) => !self.is_member(&from),
            None => false,
        };
        if is_void {
            self.intent = None;
        }
        if self
            .learner
            .is_some_and(|learner| self.is_in_the_way(&learner.member))
        {
            self.learner = None;
        }
    }

    /// Another member stands on the learner's node, and it is not the one that makes room for it.
    fn is_in_the_way(&self, learner: &Member) -> bool {
        let makes_room = |member: &Member| {
            let goal = self.goal();
            matches!(goal, Some(Goal::Move { from, to }) if from == *member && to == learner.address)
                && self.is_secondary(member)
        };
        self.members()
            .any(|it| it.address.node == learner.address.node && !makes_room(it))
    }

    /// What is wrong with it on its own, if anything. There may be more members than wanted while replicas move, and while
    /// fewer are wanted than before.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let nodes: BTreeSet<_> = self.members().map(|member| member.address.node).collect();
        let incarnations: BTreeSet<_> = self.holders().map(|it| it.incarnation).collect();
        let learner = self.learner.as_ref().map(|learner| &learner.member);
        match self {
            _ if self.ballot == Ballot::NONE => Some("a partition has no ballot"),
            _ if self.member_count() == 0 => Some("a partition has no members"),
            _ if self.member_count() > usize::from(REPLICA_COUNT_MAX) + 1 => {
                Some("a partition has too many members")
            }
            _ if nodes.len() != self.member_count() => {
                Some("two members of a partition share a node")
            }
            _ if self.holders().any(|member| member.incarnation.0 == 0) => {
                Some("a replica has incarnation 0")
            }
            _ if incarnations.len() != self.holders().count() => {
                Some("two replicas of a partition have one incarnation")
            }
            _ if learner.is_some_and(|it| self.is_in_the_way(it)) => {
                Some("a learner shares a node with a member")
            }
            _ if learner.is_some() && self.stage == Stage::Creating => {
                Some("a partition has a learner before it was made")
            }
            _ if self.backoffs.iter().any(|it| it.step == 0) => Some("a back-off has step 0"),
            _ if !self.backoffs.is_sorted_by(|a, b| a.node < b.node) => {
                Some("back-offs are not in the order of nodes")
            }
            _ => None,
        }
    }

    /// Whether `next` has another learner, or none, without this one having become a member.
    pub(crate) fn gives_up_learner(&self, next: &Self) -> bool {
        let now = next.learner.map(|learner| learner.member);
        let leaves =
            |learner: &Learner| now != Some(learner.member) && !next.is_member(&learner.member);
        self.learner.as_ref().is_some_and(leaves)
    }

    /// Why `next` must not follow this, if so: here it is made sure that no acknowledged write is lost whatever was asked
    /// (PacificA 3.2). Each member holds everything acknowledged, and so does a learner that its primary wants added. Before it was
    /// made nothing was.
    pub(crate) fn succession_fault(&self, next: &Self) -> Option<&'static str> {
        let is_same = self.primary == next.primary && self.secondaries == next.secondaries;
        let may_join = |member: &Member| {
            self.is_member(member) || self.learner.is_some_and(|it| it.member == *member)
        };
        match next {
            _ if next.stage != self.stage => Some("its stage changes with its group"),
            _ if next.ballot < self.ballot => Some("its ballot falls"),
            _ if next.ballot == self.ballot && self.gives_up_learner(next) => {
                Some("its learner is given up without a new ballot")
            }
            _ if is_same => None,
            _ if next.ballot == self.ballot => Some("its members change without a new ballot"),
            // Nothing has been written to it.
            _ if self.stage == Stage::Creating => None,
            _ if !next.primary.is_some_and(|it| self.is_member(&it)) => {
                Some("its primary was not a member")
            }
            _ if !next.members().all(may_join) => {
                Some("a member was neither a member nor the learner")
            }
            _ => None,
        }
    }
}

/// What becomes of the primary that is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OldPrimary {
    Follows,
    Goes,
}

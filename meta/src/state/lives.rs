//! What nodes said in earlier lives, held against what they say now: a disk that was restored from an old image comes back
//! with less than it had acknowledged.
//!
//! A member has on disk everything that it ever called committed. One that comes back with less has lost it; while its
//! primary lives that is found there (the member holds less than it acknowledged), here it is found when the primary is gone
//! too. What cannot be seen: what was committed after the last heartbeat, and anything before a restart of meta. For that
//! case a member that has just started yields to one that the primary has had in its group since.

use super::State;
use super::heal::key_of;
use super::node::Live;
use super::report::{Proposed, ReplicaKey};
use super::table::Partition;
use pegasus_replication::config::{Member, Proposal};
use pegasus_replication::ids::{Decree, NodeId, PartitionId};
use std::collections::{BTreeMap, BTreeSet};

/// A primary that was heard of so long after a member has started has had the time to find out what the member lacks, in
/// milliseconds: a heartbeat and several beacons.
const PROOF_MS: u64 = 1_000;
/// For how long a member that has just started is kept from taking over while another one could, in milliseconds.
const YIELD_MS: u64 = 2_000;

/// What is remembered of a node's lives before this one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Past {
    /// The highest commit point that each replica has told of.
    committed: BTreeMap<ReplicaKey, Decree>,
    /// Members that came back with less.
    lost: BTreeSet<ReplicaKey>,
    /// When this life began, if meta was there.
    pub(super) began_ms: Option<u64>,
}

impl Past {
    /// Of the life after `before`.
    pub(super) fn after(before: Option<Live>, now_ms: u64) -> Self {
        let Some(before) = before else {
            return Self::default();
        };
        let mut committed = before.past.committed;
        committed.retain(|key, _| before.replicas.contains_key(key));
        for (key, status) in before.replicas {
            let known = committed.entry(key).or_default();
            *known = status.committed.max(*known);
        }
        Self {
            committed,
            lost: BTreeSet::new(),
            began_ms: Some(now_ms),
        }
    }
}

impl State {
    /// Compares what members on `node` have with what they had. Returns those that lack something while a primary is there to
    /// go on without them.
    pub(super) fn note_losses_of(
        &mut self,
        node: NodeId,
        named: &BTreeSet<PartitionId>,
    ) -> Vec<(PartitionId, Member)> {
        let mut lost = Vec::new();
        for &id in named {
            let Some((_, partition)) = self.partition(id) else {
                continue;
            };
            let here = partition.members().find(|it| it.address.node == node);
            let Some(member) = here.copied() else {
                continue;
            };
            let primary = partition.primary.map(|it| it.address.node);
            let key = key_of(id, &member);
            let has = self
                .status(node, key)
                .filter(|it| it.is_created())
                .map(|it| it.prepared);
            let had = self
                .live
                .get(&node)
                .and_then(|live| live.past.committed.get(&key))
                .copied();
            let (Some(has), Some(had)) = (has, had) else {
                continue;
            };
            let Some(live) = self.live.get_mut(&node) else {
                continue;
            };
            if has >= had {
                live.past.lost.remove(&key);
            } else if live.past.lost.insert(key) {
                tracing::error!(partition = %id, %node, prepared = %has, committed = %had,
                    "a member has less than it had before it was started again; was its disk restored from an old image?");
                if primary.is_some_and(|it| it != node && self.is_heard(it)) {
                    lost.push((id, member));
                }
            }
        }
        lost
    }

    /// This replica came back with less than it had.
    pub(super) fn has_lost(&self, node: NodeId, key: ReplicaKey) -> bool {
        let live = self.live.get(&node);
        live.is_some_and(|live| live.past.lost.contains(&key))
    }

    /// Another member of the group is heard of and has not lost anything.
    pub(super) fn has_better(&self, id: PartitionId, partition: &Partition, than: &Member) -> bool {
        partition.members().any(|it| {
            it != than
                && self.is_heard(it.address.node)
                && !self.has_lost(it.address.node, key_of(id, it))
        })
    }

    /// The highest commit point that a replica has ever told of, in this life of its node or one before.
    pub(super) fn highest_committed(&self, node: NodeId, key: ReplicaKey) -> Decree {
        let now = self.status(node, key).map(|it| it.committed);
        let live = self.live.get(&node);
        let before = live.and_then(|live| live.past.committed.get(&key).copied());
        now.max(before).unwrap_or_default()
    }

    /// Whether a member that wants to take over and has just started has to leave that to another secondary.
    pub(super) fn has_to_yield(&mut self, node: NodeId, proposed: &Proposed) -> bool {
        let id = proposed.replica.partition;
        let wants = matches!(proposed.proposal, Proposal::TakeOver { .. });
        let Some((_, partition)) = self.partition(id).filter(|_| wants) else {
            return false;
        };
        let Some(primary) = partition.primary.map(|it| it.address.node) else {
            return false;
        };
        if partition.ballot != proposed.ballot || self.is_proven(node, primary) {
            return false;
        }
        let is_known = |it: &Member| {
            let other = it.address.node;
            other != node && self.is_proven(other, primary) && self.is_heard(other)
        };
        if !partition.secondaries.iter().any(is_known) {
            return false;
        }
        let now_ms = self.now_ms;
        let first = self.reach.first_yield(id, proposed.ballot, now_ms);
        now_ms.saturating_sub(first) < YIELD_MS
    }

    /// The primary was heard of a while after this member's node had started: it has had the member in its group since.
    fn is_proven(&self, node: NodeId, primary: NodeId) -> bool {
        let began_ms = self.live.get(&node).and_then(|live| live.past.began_ms);
        let heard_ms = self.live.get(&primary).map_or(0, |live| live.heard_ms);
        began_ms.is_none_or(|began_ms| heard_ms >= began_ms.saturating_add(PROOF_MS))
    }
}

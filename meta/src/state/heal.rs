//! Partitions get back the replicas they lack: from copies that come back, or by new ones; and what is too much goes, once
//! nothing is missing.
//!
//! ```text
//! a member is removed --a live node has a copy--> that copy learns, by log only
//!                     --nobody for heal_delay---> a new replica learns on the lightest core
//! learner --caught up, its primary proposes Add--> secondary
//!         --fails, or falls silent--------------> withdrawn, and its node has to wait
//! complete, and all members say so --> copies elsewhere are deleted
//! ```
//!
//! Nothing here takes anything from a partition whose primary does not serve: as long as nobody serves, any copy may be the
//! last good one.

mod learners;
mod strays;

pub(super) use learners::Slots;

use super::report::ReplicaKey;
use super::table::{Partition, Table};
use super::{Level, State, Work};
use pegasus_replication::config::Member;
use pegasus_replication::ids::{Ballot, CoreId, Decree, NodeId, PartitionId};
use std::collections::{BTreeMap, BTreeSet};

/// A learner whose node meta has not heard of for this long is given up, in milliseconds.
pub(super) const LEARNER_SILENCE_MS: u64 = 30_000;
/// A copy that comes back by log and says the same for this long is given up, in milliseconds.
pub(super) const LEARNER_STALL_MS: u64 = 300_000;
/// The same if another copy could come back instead, in milliseconds: the primary may not reach this one.
pub(super) const LEARNER_TURN_MS: u64 = 3_000;
/// A new replica that is not there after this long is given up, in milliseconds: another place may be better. Enough for two
/// terabytes at 50 MB/s.
pub(super) const LEARNER_FRESH_MS: u64 = 43_200_000;
/// An order that was not carried out is repeated after this long, in milliseconds.
pub(super) const REPEAT_MS: u64 = 1_000;

/// What healing remembers and may forget: all of it follows again from reports.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// Partitions of which a node has a copy that it should not have, as far as reports tell.
    pub(super) strays: BTreeSet<PartitionId>,
    /// Orders to delete strays, with the time of the last one. Such a copy never learns.
    pub(super) ordered: BTreeMap<(NodeId, ReplicaKey), u64>,
    /// Copies of these are known to be of no use, damaged or too old: there is nothing to wait for. Until a new one is added.
    pub(super) hurry: BTreeSet<PartitionId>,
    /// When the members of a partition changed last. A copy comes back only if its node was heard of after that: what it said
    /// before may be from before it died.
    pub(super) changed: BTreeMap<PartitionId, u64>,
    /// What a copy that comes back by log last said, and since when it has said the same.
    pub(super) progress: BTreeMap<PartitionId, (Position, u64)>,
    /// Hand-overs asked for, with the ballot that they are to end, and the time of the last push.
    pub(super) handovers: BTreeMap<PartitionId, (Ballot, u64, Member)>,
}

/// How far a copy is: ballot adopted, last prepared decree, last applied one.
pub(super) type Position = (Member, Ballot, Decree, Decree);

impl State {
    /// Looks after the partitions that need it, or after those of `only` that do.
    pub(super) fn heal(&mut self, only: Option<&BTreeSet<PartitionId>>, work: &mut Work) {
        let chosen = |id: &&PartitionId| only.is_none_or(|only| only.contains(id));
        // An operator wants everything to stay where it is.
        if self.durable.level() <= Level::Freezed {
            return;
        }
        let ailing: Vec<PartitionId> = match only {
            Some(only) => only.intersection(&self.ailing).copied().collect(),
            None => self.ailing.iter().copied().collect(),
        };
        if !ailing.is_empty() {
            let mut slots = Slots::of(self);
            for id in ailing {
                self.drive(id, &mut slots, work);
                self.heal_partition(id, &mut slots, work);
            }
        }
        let strays: Vec<PartitionId> = self.heal.strays.iter().filter(chosen).copied().collect();
        for id in strays {
            self.drop_strays(id, work);
        }
    }

    fn heal_partition(&mut self, id: PartitionId, slots: &mut Slots, work: &mut Work) {
        self.withdraw_failed(id, slots, work);
        self.trim(id, slots, work);
        let Some((table, partition)) = self.partition(id) else {
            return;
        };
        let is_complete = partition.member_count() >= usize::from(table.replica_count);
        if is_complete {
            self.heal.hurry.remove(&id);
            self.heal.changed.remove(&id);
            return;
        }
        if partition.learner.is_none() && self.serves(id) {
            self.find_learner(id, slots, work);
        }
    }

    /// Its primary serves under the ballot that holds.
    pub(super) fn serves(&self, id: PartitionId) -> bool {
        self.partition(id)
            .is_some_and(|(table, it)| self.is_serving(table, id.index, it))
    }

    /// Every wanted member is there, alive and under the ballot that holds, and its primary serves.
    pub(super) fn is_whole(&self, id: PartitionId) -> bool {
        let Some((table, partition)) = self.partition(id) else {
            return false;
        };
        let is_complete = partition.member_count() >= usize::from(table.replica_count);
        is_complete
            && self.serves(id)
            && partition
                .members()
                .all(|member| self.follows(id, partition, member))
    }

    /// `member` has adopted the ballot that holds, and its node was heard of lately.
    pub(super) fn follows(&self, id: PartitionId, partition: &Partition, member: &Member) -> bool {
        let node = member.address.node;
        let status = self.status(node, key_of(id, member));
        self.is_alive(node)
            && status.is_some_and(|it| it.is_created() && it.ballot == partition.ballot)
    }

    /// The node as it last joined has this core.
    pub(super) fn has_core(&self, node: NodeId, core: CoreId) -> bool {
        let node = self.durable.nodes().get(&node);
        node.is_some_and(|node| node.core(core).is_some())
    }

    /// Since when it lacks members, on the clock of this life: a time of an earlier one that lies ahead means a clock that was
    /// set back, and counts from the start.
    pub(super) fn degraded_since(&self, table: &Table, partition: &Partition) -> u64 {
        let recorded = partition.degraded_ms.unwrap_or(table.created_ms);
        if recorded > self.now_ms {
            self.started_ms
        } else {
            recorded
        }
    }
}

pub(super) const fn key_of(partition: PartitionId, member: &Member) -> ReplicaKey {
    ReplicaKey {
        partition,
        incarnation: member.incarnation,
    }
}

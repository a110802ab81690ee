//! A partition whose members cannot all make their replicas. Nothing was ever written to it, because nobody serves before all
//! have; so whoever fails may be left out, and if nobody is left, somebody else may take the place.

use super::heal::Slots;
use super::report::{ReplicaHealth, ReplicaKey, ReplicaStatus};
use super::table::{Partition, Table};
use super::{State, Work};
use pegasus_replication::config::{Member, Stage};
use pegasus_replication::ids::{PartitionId, ReplicaIncarnation};
use std::collections::BTreeSet;

/// A node that meta has not heard of for this long makes no replica, in milliseconds.
const SILENCE_MS: u64 = 10_000;
/// A node that is heard of and does not speak of a replica for this long will not make it, in milliseconds.
const UNMADE_MS: u64 = 30_000;
/// How often partitions in creation are looked at without anything having been said of them, in milliseconds.
const LOOK_MS: u64 = 1_000;

impl State {
    /// Time has passed while partitions are being made.
    pub(super) fn look_at_creations(&mut self, work: &mut Work) {
        if self.creating.is_empty() || self.now_ms.saturating_sub(self.creating_seen_ms) < LOOK_MS {
            return;
        }
        self.creating_seen_ms = self.now_ms;
        let due = |id: &&PartitionId| {
            let table = self.durable.tables().get(&id.table);
            table.is_some_and(|it| self.now_ms.saturating_sub(it.created_ms) >= SILENCE_MS)
        };
        let late: BTreeSet<PartitionId> = self.creating.iter().filter(due).copied().collect();
        self.leave_out(&late, work);
        self.activate(&late, work);
    }

    /// Takes members that cannot make their replicas out of those of `partitions` that are being made.
    pub(super) fn leave_out(&mut self, partitions: &BTreeSet<PartitionId>, work: &mut Work) {
        let concerned = partitions.intersection(&self.creating).copied();
        for id in concerned.collect::<Vec<_>>() {
            let Some((table, partition)) = self.partition(id) else {
                continue;
            };
            let failed: Vec<Member> = partition
                .members()
                .filter(|it| self.has_failed_to_make(id, table, it))
                .copied()
                .collect();
            if failed.is_empty() {
                continue;
            }
            let left = partition.members().filter(|it| !failed.contains(it));
            let left: Vec<Member> = left.copied().collect();
            let members = if left.is_empty() {
                self.substitute(id)
            } else {
                left
            };
            if !members.is_empty() {
                tracing::warn!(partition = %id, failed = failed.len(), "members could not make their replicas, going on without them");
                self.heal.hurry.insert(id);
                self.regroup(id, |it| it.consist_of(&members), work);
            }
        }
    }

    /// The replica is damaged, or its node is gone, or does not make it.
    fn has_failed_to_make(&self, id: PartitionId, table: &Table, member: &Member) -> bool {
        let since = |at_ms: u64| self.now_ms.saturating_sub(at_ms.max(self.started_ms));
        let incarnation = member.incarnation;
        let partition = id;
        let key = ReplicaKey {
            partition,
            incarnation,
        };
        let live = self.live.get(&member.address.node);
        match self.status(member.address.node, key) {
            Some(status) if status.health == ReplicaHealth::OutOfService => true,
            status if since(live.map_or(0, |live| live.heard_ms)) >= SILENCE_MS => {
                !status.is_some_and(ReplicaStatus::is_created)
                    || !self.is_alive(member.address.node)
            }
            Some(_) => false,
            None => {
                live.is_some_and(|live| live.has_told_all) && since(table.created_ms) >= UNMADE_MS
            }
        }
    }

    /// One new member elsewhere, if there is room.
    fn substitute(&self, id: PartitionId) -> Vec<Member> {
        let mut slots = Slots::of(self);
        let incarnation = self.durable.counters().next_incarnation;
        let address = self.target(id, &mut slots);
        let member = address
            .filter(|_| incarnation < u64::MAX)
            .map(|address| Member {
                address,
                incarnation: ReplicaIncarnation(incarnation),
            });
        member.into_iter().collect()
    }
}

impl Partition {
    /// Exactly these are members, the first leads.
    fn consist_of(&mut self, members: &[Member]) {
        debug_assert!(self.stage == Stage::Creating, "rows would be left behind");
        let mut members = members.iter().copied();
        self.primary = members.next();
        self.secondaries = members.collect();
    }
}

//! Who learns, and who has failed to.

use super::super::group::{BACKOFF_MAX_MS, Goal, Learner};
use super::super::report::{ReplicaHealth, ReplicaKey};
use super::super::table::Partition;
use super::super::{State, Work};
use super::{LEARNER_FRESH_MS, LEARNER_SILENCE_MS, LEARNER_STALL_MS, LEARNER_TURN_MS, key_of};
use crate::place;
use pegasus_replication::config::Member;
use pegasus_replication::ids::{
    Ballot, CoreAddress, Decree, NodeId, PartitionId, ReplicaIncarnation,
};
use std::collections::{BTreeMap, BTreeSet};

/// How many learn where, and who may.
#[derive(Debug)]
pub(in crate::state) struct Slots {
    fresh: BTreeMap<NodeId, usize>,
    fresh_total: usize,
    returning: BTreeMap<NodeId, usize>,
    /// Nodes that may get replicas.
    open: BTreeSet<NodeId>,
    /// What cores carry; counted once it is needed.
    loads: Option<BTreeMap<CoreAddress, place::Load>>,
    /// Members that have left because there were too many.
    trimmed: usize,
}

/// Within this time every node that lives has been heard: one and a half times the period of heartbeats.
const HEARTBEAT_MS: u64 = 1_500;
/// Members that leave at a time because there are too many.
const TRIMS_MAX: usize = 64;

impl Slots {
    pub(in crate::state) fn of(state: &State) -> Self {
        let mut slots = Self {
            fresh: BTreeMap::new(),
            fresh_total: 0,
            returning: BTreeMap::new(),
            open: state.open_nodes().collect(),
            loads: None,
            trimmed: 0,
        };
        let learners = state
            .ailing
            .iter()
            .filter_map(|id| state.partition(*id)?.1.learner);
        learners.for_each(|learner| slots.take(&learner));
        slots
    }

    fn take(&mut self, learner: &Learner) {
        let node = learner.member.address.node;
        if learner.is_fresh {
            *self.fresh.entry(node).or_default() += 1;
            self.fresh_total += 1;
        } else {
            *self.returning.entry(node).or_default() += 1;
        }
    }

    /// One more member that is too much may leave now.
    pub(in crate::state) const fn may_trim(&self) -> bool {
        self.trimmed < TRIMS_MAX
    }

    /// Counts what cores carry, if that was not done yet.
    pub(in crate::state) fn count_loads(&mut self, state: &State) {
        self.loads.get_or_insert_with(|| state.loads());
    }

    /// Replicas on this core, once they are counted.
    pub(in crate::state) fn replicas_on(&self, core: CoreAddress) -> u64 {
        let load = self.loads.as_ref().and_then(|loads| loads.get(&core));
        load.map_or(0, |load| load.replicas)
    }

    pub(in crate::state) fn note_trim(&mut self, core: CoreAddress) {
        self.trimmed += 1;
        if let Some(load) = self.loads.as_mut().and_then(|loads| loads.get_mut(&core)) {
            load.replicas = load.replicas.saturating_sub(1);
        }
    }

    fn has_fresh(&self, state: &State, node: NodeId) -> bool {
        self.fresh_total < state.options.learners_max
            && self.fresh.get(&node).copied().unwrap_or(0) < state.options.learners_per_node_max
    }

    fn has_returning(&self, state: &State, node: NodeId) -> bool {
        self.returning.get(&node).copied().unwrap_or(0) < state.options.returning_per_node_max
    }
}

/// Why a learner is given up.
#[derive(Debug)]
enum Failure {
    /// It is not needed any more, or its node is being emptied.
    NotWanted,
    /// A copy that came back is not there, or too old to catch up by log.
    TooOld,
    /// It failed: its node has to wait.
    Failed,
}

impl State {
    /// Nodes that may get new replicas: alive, not being emptied, not about to stop.
    pub(in crate::state) fn open_nodes(&self) -> impl Iterator<Item = NodeId> {
        self.alive_nodes().filter(|node| !self.is_closed(*node))
    }

    /// Gives a learner up that cannot become a member. Its primary, which may already wait for it, need not do so under the
    /// ballot that comes with this.
    pub(super) fn withdraw_failed(&mut self, id: PartitionId, slots: &Slots, work: &mut Work) {
        let Some((table, partition)) = self.partition(id) else {
            return;
        };
        let Some(learner) = partition.learner else {
            self.heal.progress.remove(&id);
            return;
        };
        let node = learner.member.address.node;
        let has_room = partition.member_count() < usize::from(table.replica_count);
        let is_moving =
            matches!(partition.goal(), Some(Goal::Move { to, .. }) if to == learner.member.address);
        let wanted = (has_room || is_moving) && !self.is_closed(node);
        let failure = if wanted {
            let stalled = self.is_stalled(id, &learner, slots);
            let stalled = stalled.then_some(Failure::Failed);
            self.failure(id, &learner).or(stalled)
        } else {
            Some(Failure::NotWanted)
        };
        let now_ms = self.now_ms;
        let Some(failure) = failure else {
            return;
        };
        tracing::warn!(partition = %id, %node, fresh = learner.is_fresh, ?failure, "giving up a learner");
        if matches!(failure, Failure::TooOld) {
            self.heal.hurry.insert(id);
        }
        let give_up = |it: &mut Partition| {
            it.learner = None;
            if matches!(failure, Failure::Failed) {
                it.back_off(node, now_ms);
            }
        };
        self.regroup(id, give_up, work);
    }

    /// A copy that came back by log has not moved for a long time. A new replica says nothing until it has everything, and may
    /// take as long as its data need, within reason.
    fn is_stalled(&mut self, id: PartitionId, learner: &Learner, slots: &Slots) -> bool {
        let status = self.status(learner.member.address.node, key_of(id, &learner.member));
        if learner.is_fresh {
            return self.now_ms.saturating_sub(learner.since_ms) >= LEARNER_FRESH_MS;
        }
        let Some(status) = status else {
            return false;
        };
        let seen = (
            learner.member,
            status.ballot,
            status.prepared,
            status.applied,
        );
        match self.heal.progress.get(&id) {
            Some((known, since_ms)) if *known == seen => {
                let stalled_ms = self.now_ms.saturating_sub(*since_ms);
                let is_replaceable = || self.returning(id, slots).is_some();
                stalled_ms >= LEARNER_STALL_MS
                    || (stalled_ms >= LEARNER_TURN_MS && is_replaceable())
            }
            _ => {
                self.heal.progress.insert(id, (seen, self.now_ms));
                false
            }
        }
    }

    fn failure(&self, id: PartitionId, learner: &Learner) -> Option<Failure> {
        let node = learner.member.address.node;
        let live = self.live.get(&node);
        let heard_ms = live.map_or(self.started_ms, |live| live.heard_ms);
        if self.now_ms.saturating_sub(heard_ms) >= LEARNER_SILENCE_MS {
            return Some(Failure::Failed);
        }
        let status = self.status(node, key_of(id, &learner.member));
        match status {
            Some(it) if it.health == ReplicaHealth::OutOfService && learner.is_fresh => {
                Some(Failure::Failed)
            }
            Some(it) if it.health == ReplicaHealth::OutOfService => Some(Failure::TooOld),
            None if !learner.is_fresh && live.is_some_and(|live| live.has_told_all) => {
                Some(Failure::TooOld)
            }
            // It was to be made, and was not.
            None if live.is_some_and(|live| live.has_told_all) => {
                let waited_ms = self.now_ms.saturating_sub(learner.since_ms);
                (waited_ms >= LEARNER_SILENCE_MS).then_some(Failure::Failed)
            }
            _ => None,
        }
    }

    /// Assigns a copy that has come back, or else a new replica once it is time.
    pub(super) fn find_learner(&mut self, id: PartitionId, slots: &mut Slots, work: &mut Work) {
        if let Some(member) = self.returning(id, slots) {
            if !self.awaits_better(id, member.address.node, slots) {
                self.assign(id, member, false, slots, work);
            }
            return;
        }
        let Some((table, partition)) = self.partition(id) else {
            return;
        };
        let waited_ms = self
            .now_ms
            .saturating_sub(self.degraded_since(table, partition));
        let is_time = waited_ms >= self.options.heal_delay_ms || self.heal.hurry.contains(&id);
        if is_time && let Some(address) = self.target(id, slots) {
            self.assign_fresh(id, address, slots, work);
        }
    }

    /// The copy that is farthest along on a node without a member; one that the primary may not hear only if there is no other.
    fn returning(&self, id: PartitionId, slots: &Slots) -> Option<Member> {
        let (_, partition) = self.partition(id)?;
        let primary = partition.primary?.address.node;
        let mut best: Option<((bool, Ballot, Decree), Member)> = None;
        let changed_ms = self.heal.changed.get(&id).copied().unwrap_or(0);
        for &node in &slots.open {
            let is_back = self
                .live
                .get(&node)
                .is_some_and(|live| live.heard_ms > changed_ms);
            let may = is_back && slots.has_returning(self, node);
            if !may || !self.may_join_group(partition, node) {
                continue;
            }
            for (key, status) in self.copies(id, node) {
                let Some(core) = status.core.filter(|_| status.may_return()) else {
                    continue;
                };
                let is_leaving = self.heal.ordered.contains_key(&(node, *key));
                let is_ahead = status.ballot > partition.ballot;
                // No such core; or never given by us, or to another node: a copied directory, or meta has lost something.
                let is_foreign = !self.has_core(node, core)
                    || key.incarnation.0 == 0
                    || key.incarnation.0 >= self.durable.counters().next_incarnation
                    || partition
                        .holders()
                        .any(|it| it.incarnation == key.incarnation);
                if is_leaving || is_ahead || is_foreign {
                    continue;
                }
                let reaches = self.may_hear(primary, node);
                let rank = (reaches, status.prepared_ballot, status.prepared);
                let member = Member {
                    address: CoreAddress { node, core },
                    incarnation: key.incarnation,
                };
                if best.is_none_or(|(known, _)| known < rank) {
                    best = Some((rank, member));
                }
            }
        }
        best.map(|(_, member)| member)
    }

    /// The copy on `found` is one that the primary may not hear, and a node that it may hear has one too, of which nothing was
    /// heard yet since the members changed: its next heartbeat is waited for. A primary that was cut off, removed a member and was
    /// replaced itself would else get the place of the learner, fail, and keep the healthy copy waiting.
    fn awaits_better(&self, id: PartitionId, found: NodeId, slots: &Slots) -> bool {
        let Some((_, partition)) = self.partition(id) else {
            return false;
        };
        let Some(primary) = partition.primary.map(|it| it.address.node) else {
            return false;
        };
        let changed_ms = self.heal.changed.get(&id).copied().unwrap_or(0);
        if self.may_hear(primary, found) || self.now_ms.saturating_sub(changed_ms) >= HEARTBEAT_MS {
            return false;
        }
        slots.open.iter().any(|&node| {
            let is_unheard = self
                .live
                .get(&node)
                .is_some_and(|live| live.heard_ms <= changed_ms);
            is_unheard
                && self.may_join_group(partition, node)
                && self.may_hear(primary, node)
                && self.copies(id, node).any(|(_, copy)| copy.may_return())
        })
    }

    /// No member on the node, and it does not have to wait.
    fn may_join_group(&self, partition: &Partition, node: NodeId) -> bool {
        let is_there = partition.members().any(|it| it.address.node == node);
        !is_there && !self.has_to_wait(partition, node)
    }

    /// `node` has failed with this partition not long ago.
    pub(in crate::state) fn has_to_wait(&self, partition: &Partition, node: NodeId) -> bool {
        // As with `degraded_since`: a time too far ahead is that of another clock.
        let latest_ms = self.now_ms.max(self.started_ms + BACKOFF_MAX_MS);
        let backoff = partition.backoffs.iter().find(|it| it.node == node);
        backoff.is_some_and(|it| it.until_ms.min(latest_ms) > self.now_ms)
    }

    /// A new replica of it may be made at `to` at once.
    pub(in crate::state) fn may_learn_at(
        &self,
        id: PartitionId,
        to: CoreAddress,
        slots: &Slots,
    ) -> bool {
        let joins = |(_, it): (_, &Partition)| self.may_join_group(it, to.node);
        self.partition(id).is_some_and(joins)
            && slots.has_fresh(self, to.node)
            && self.copies(id, to.node).next().is_none()
    }

    /// The lightest core that may get a new replica; one whose node has an old copy only if there is no other.
    pub(in crate::state) fn target(
        &self,
        id: PartitionId,
        slots: &mut Slots,
    ) -> Option<CoreAddress> {
        let (_, partition) = self.partition(id)?;
        // A node that has not told all it has may have an old copy, which has to go first.
        let may = |node: &NodeId| {
            let has_told_all = self.live.get(node).is_some_and(|live| live.has_told_all);
            has_told_all && slots.has_fresh(self, *node) && self.may_join_group(partition, *node)
        };
        let nodes: BTreeSet<NodeId> = slots.open.iter().copied().filter(may).collect();
        let clean: BTreeSet<NodeId> = nodes
            .iter()
            .copied()
            .filter(|&node| self.copies(id, node).next().is_none())
            .collect();
        let chosen = if clean.is_empty() { nodes } else { clean };
        if chosen.is_empty() {
            return None;
        }
        let members: Vec<CoreAddress> = partition.members().map(|it| it.address).collect();
        let loads = slots.loads.get_or_insert_with(|| self.loads());
        place::join(loads, &members, &chosen)
    }

    /// Assigns a new replica at `address`. What else the node has of the partition is deleted first, which waits for the
    /// node's word that it is gone. Returns whether it was assigned.
    pub(in crate::state) fn assign_fresh(
        &mut self,
        id: PartitionId,
        address: CoreAddress,
        slots: &mut Slots,
        work: &mut Work,
    ) {
        if !slots.has_fresh(self, address.node) || !self.make_room(id, address, work) {
            return;
        }
        let incarnation = self.durable.counters().next_incarnation;
        if incarnation == u64::MAX {
            return;
        }
        let member = Member {
            address,
            incarnation: ReplicaIncarnation(incarnation),
        };
        self.assign(id, member, true, slots, work);
    }

    fn assign(
        &mut self,
        id: PartitionId,
        member: Member,
        is_fresh: bool,
        slots: &mut Slots,
        work: &mut Work,
    ) {
        let learner = Learner {
            member,
            is_fresh,
            since_ms: self.now_ms,
        };
        if self.regroup(id, |it| it.learner = Some(learner), work) {
            slots.take(&learner);
            let load = slots
                .loads
                .as_mut()
                .and_then(|loads| loads.get_mut(&member.address));
            if let Some(load) = load {
                load.replicas += 1;
            }
        }
    }

    /// What `node` has of partition `id` without being a member or the learner.
    pub(in crate::state) fn copies(
        &self,
        id: PartitionId,
        node: NodeId,
    ) -> impl Iterator<Item = (&ReplicaKey, &super::super::ReplicaStatus)> {
        let first = ReplicaKey {
            partition: id,
            incarnation: ReplicaIncarnation(0),
        };
        let last = ReplicaKey {
            partition: id,
            incarnation: ReplicaIncarnation(u64::MAX),
        };
        let held: Vec<ReplicaIncarnation> = self
            .partition(id)
            .map(|(_, it)| {
                let here = it.holders().filter(|it| it.address.node == node);
                here.map(|it| it.incarnation).collect()
            })
            .unwrap_or_default();
        let reported = self
            .live
            .get(&node)
            .map(|live| live.replicas.range(first..=last));
        reported
            .into_iter()
            .flatten()
            .filter(move |(key, _)| !held.contains(&key.incarnation))
    }
}

//! Nodes join, report and fall silent.

use super::command::{Answer, Refusal};
use super::lives::Past;
use super::node::{Live, NODES_MAX, Node};
use super::report::{
    NodeWords, ReplicaHealth, ReplicaKey, ReplicaStatus, Report, UNREPORTED, bounded_reason,
};
use super::sync::drops_of;
use super::table::Partition;
use super::{ALIVE_MS, Change, SYNC_SETTLE_MS, State, Work};
use pegasus_replication::config::Stage;
use pegasus_replication::ids::{NodeId, NodeIncarnation, PartitionId, TableId};
use std::collections::{BTreeMap, BTreeSet};

impl State {
    /// Whether a node could join as `node` now.
    ///
    /// # Errors
    /// Why not.
    pub fn may_join(&self, node: &Node) -> Result<(), Refusal> {
        if node.id.0 == 0 || node.id.0 >= self.durable.counters().next_node {
            return Err(Refusal::UnknownNode(node.id));
        }
        if let Some(fault) = node.fault() {
            return Err(Refusal::BadNode {
                node: node.id,
                fault,
            });
        }
        let known = self.durable.nodes().get(&node.id);
        if self.durable.is_forgotten(node.id) {
            return Err(Refusal::Forgotten(node.id));
        }
        if known.is_none() && self.durable.nodes().len() >= NODES_MAX {
            return Err(Refusal::TooManyNodes(NODES_MAX));
        }
        if let Some(known) = known.filter(|known| !is_newer(node, known)) {
            let (incarnation, known) = (node.incarnation, known.incarnation);
            return Err(Refusal::StaleIncarnation {
                node: node.id,
                incarnation,
                known,
            });
        }
        match self.highest_core(node.id) {
            Some(used) if usize::from(used) >= node.cores.len() => Err(Refusal::CoresMissing {
                node: node.id,
                cores: node.cores.len(),
                used,
            }),
            _ => Ok(()),
        }
    }

    pub(super) fn handle_number(&mut self, work: &mut Work) -> Result<Answer, Refusal> {
        if self.durable.nodes().len() >= NODES_MAX {
            return Err(Refusal::TooManyNodes(NODES_MAX));
        }
        let node = NodeId(self.durable.counters().next_node);
        if node.0 == u32::MAX {
            return Err(Refusal::NumbersExhausted);
        }
        self.change(Change::NodeNumbered { node }, work);
        Ok(Answer::NodeNumbered(node))
    }

    pub(super) fn handle_join(
        &mut self,
        node: Node,
        now_ms: u64,
        work: &mut Work,
    ) -> Result<Answer, Refusal> {
        self.may_join(&node)?;
        let known = self.durable.nodes().get(&node.id);
        let is_new = known != Some(&node);
        let moved = known.is_none_or(|known| !known.has_same_addresses(&node));
        let id = node.id;
        // A connection made anew by the same process keeps what the node said before.
        let same = self
            .live
            .get(&id)
            .filter(|live| live.incarnation == node.incarnation)
            .is_some();
        if !same {
            let mut live = Live::new(node.incarnation, now_ms);
            live.past = Past::after(self.live.remove(&id), now_ms);
            live.replicas
                .extend(self.drops_on(id).map(|key| (key, UNREPORTED)));
            self.live.insert(id, live);
        }
        if is_new {
            self.change(Change::NodeJoined(node), work);
        }
        if let Some(live) = self.live.get_mut(&id) {
            live.heard_ms = now_ms;
            live.alive = true;
            live.is_connected = true;
        }
        if !same {
            self.backup.forget_node(id);
            self.reach.forget(id);
            self.note_disturbance();
        }
        if moved {
            self.tell_address(id, work);
        }
        // What this store says of tables may be too old for it.
        if self.behind.is_none() {
            *work.pushes.to(id) = self.full_sync(id);
        }
        Ok(Answer::Done)
    }

    /// Replicas of dropped tables that `node` has still to delete.
    fn drops_on(&self, node: NodeId) -> impl Iterator<Item = ReplicaKey> {
        let dropped = self
            .durable
            .tables()
            .values()
            .filter(|table| table.is_condemned());
        dropped
            .flat_map(drops_of)
            .filter(move |&(on, _)| on == node)
            .map(|(_, key)| key)
    }

    /// Tells everybody where a node is now.
    fn tell_address(&self, id: NodeId, work: &mut Work) {
        let Some(node) = self.durable.nodes().get(&id) else {
            return;
        };
        let address = self.node_address(node);
        for other in self.listening() {
            work.pushes.to(other).nodes.push(address.clone());
        }
    }

    pub(super) fn handle_report(
        &mut self,
        node: NodeId,
        incarnation: NodeIncarnation,
        report: Report,
        now_ms: u64,
        work: &mut Work,
    ) -> Result<Answer, Refusal> {
        self.expect_life(node, incarnation)?;
        let (digest, full) = (report.digest, report.full);
        let words = report.words.clone();
        self.look_for_proof(node, &report);
        self.take_words(node, words, work);
        let named = self.take_report(node, report, now_ms, work);
        if self.behind.is_some() {
            work.pushes = super::sync::Pushes::default();
            return Ok(Answer::Done);
        }
        let touched = if full {
            self.partitions_on(node)
        } else {
            named
        };
        for (id, member) in self.note_losses_of(node, &touched) {
            // It comes back by log, or is made anew. A primary does not act before it has been given a ballot, see there.
            self.regroup(id, |it| it.remove(&member), work);
        }
        self.leave_out(&touched, work);
        self.activate(&touched, work);
        if full {
            self.forget_dropped(work);
        }
        self.heal(Some(&touched), work);
        self.drive_leaving(Some(&touched), work);
        self.sync_if_behind(node, digest, now_ms, work);
        Ok(Answer::Done)
    }

    /// Who was not heard of lately counts as dead.
    pub(super) fn note_silent(&mut self, now_ms: u64) {
        for live in self.live.values_mut() {
            live.alive = now_ms.saturating_sub(live.heard_ms) < ALIVE_MS;
        }
    }

    pub(super) fn handle_tick(&mut self, now_ms: u64, work: &mut Work) -> Result<Answer, Refusal> {
        self.note_silent(now_ms);
        if self.recheck {
            self.recheck = false;
            let creating = self.creating.clone();
            self.activate(&creating, work);
            self.forget_dropped(work);
        }
        self.look_at_creations(work);
        self.forget_refusals();
        self.expire_kept(work);
        self.drive_replica_counts(work);
        self.heal(None, work);
        self.drive_drains(work);
        self.drive_leaving(None, work);
        self.forget_emptied(work);
        self.drive_balance(work);
        self.drive_backups(work);
        Ok(Answer::Done)
    }

    /// Only the life of a node that joined last is heard.
    pub(super) fn expect_life(
        &self,
        node: NodeId,
        incarnation: NodeIncarnation,
    ) -> Result<(), Refusal> {
        let live = self.live.get(&node).ok_or(Refusal::NotJoined { node })?;
        if live.incarnation != incarnation {
            return Err(Refusal::StaleIncarnation {
                node,
                incarnation,
                known: live.incarnation,
            });
        }
        Ok(())
    }

    /// Stores what a node says of itself.
    fn take_words(&mut self, node: NodeId, words: NodeWords, work: &mut Work) {
        let begins_to_leave = words.is_leaving && !self.is_leaving(node);
        if let Some(live) = self.live.get_mut(&node) {
            let program = words.program.clone().or(live.words.program.take());
            live.words = NodeWords { program, ..words };
        }
        if begins_to_leave && self.behind.is_none() {
            tracing::info!(%node, "a node leaves, what it leads is handed over");
            self.note_disturbance();
            self.hand_over_from(node, work);
        }
    }

    /// Stores what a node says; returns the partitions that it said something new of.
    fn take_report(
        &mut self,
        node: NodeId,
        report: Report,
        now_ms: u64,
        work: &mut Work,
    ) -> BTreeSet<PartitionId> {
        let mut known = BTreeMap::new();
        let mut unknown = 0;
        let mut gone = BTreeSet::new();
        let mut strays = BTreeSet::new();
        for (key, status) in report.replicas {
            match self.standing(node, key) {
                _ if status.health == ReplicaHealth::Gone => {
                    gone.insert(key);
                }
                Standing::Stray => {
                    let is_news = self
                        .status(node, key)
                        .is_none_or(|it| it.health != status.health);
                    if status.health == ReplicaHealth::OutOfService && is_news {
                        self.heal.hurry.insert(key.partition);
                    }
                    strays.insert(key.partition);
                    known.insert(key, bounded(status));
                }
                Standing::Member | Standing::Kept => {
                    known.insert(key, bounded(status));
                }
                Standing::Dropped => {
                    work.pushes.drop_replica(node, key);
                    known.insert(key, bounded(status));
                }
                Standing::Unknown => unknown += 1,
            }
        }
        self.heal.strays.extend(strays);
        let touched = known.keys().chain(&gone).map(|key| key.partition).collect();
        let Some(live) = self.live.get_mut(&node) else {
            return touched;
        };
        live.heard_ms = live.heard_ms.max(now_ms);
        live.alive = true;
        (live.disk_total, live.disk_free) = (report.disk_total, report.disk_free);
        note_changes(live, &known, report.full, now_ms);
        if report.full {
            live.replicas = known;
            live.unknown_replicas = unknown;
            live.has_told_all = true;
        } else {
            live.replicas.extend(known);
            live.replicas.retain(|key, _| !gone.contains(key));
            live.since_ms.retain(|key, _| !gone.contains(key));
        }
        if report.full || !gone.is_empty() {
            self.forget_orders(node);
        }
        let dropped = gone.iter().any(|key| self.is_dropped(key.partition.table));
        if dropped && self.behind.is_none() {
            self.forget_dropped(work);
        }
        touched
    }

    /// What a replica that a node names is to the tables.
    fn standing(&self, node: NodeId, key: ReplicaKey) -> Standing {
        let Some(table) = self.durable.tables().get(&key.partition.table) else {
            return Standing::Unknown;
        };
        if table.is_kept() {
            return Standing::Kept;
        }
        if table.is_dropped() {
            return Standing::Dropped;
        }
        let Some(partition) = table.partition(key.partition.index) else {
            return Standing::Unknown;
        };
        let is_held = partition
            .holders()
            .any(|it| it.address.node == node && it.incarnation == key.incarnation);
        if is_held {
            Standing::Member
        } else {
            Standing::Stray
        }
    }

    fn is_dropped(&self, table: TableId) -> bool {
        self.durable
            .tables()
            .get(&table)
            .is_some_and(super::Table::is_dropped)
    }

    /// Moves those of `touched` on whose members have all created their replicas.
    pub(super) fn activate(&mut self, touched: &BTreeSet<PartitionId>, work: &mut Work) {
        let mut ready: BTreeMap<TableId, Vec<u32>> = BTreeMap::new();
        for id in touched.iter().filter(|id| self.creating.contains(id)) {
            if self.is_created(*id) {
                ready.entry(id.table).or_default().push(id.index);
            }
        }
        for (table, partitions) in ready {
            for &index in &partitions {
                self.creating.remove(&PartitionId { table, index });
            }
            self.change(
                Change::PartitionsActivated {
                    table,
                    partitions: partitions.clone(),
                },
                work,
            );
            self.note_disturbance();
            for &index in &partitions {
                self.watch(PartitionId { table, index });
            }
            let Some(table) = self.durable.tables().get(&table) else {
                continue;
            };
            let configurations = partitions
                .iter()
                .filter_map(|&index| table.configuration(index));
            configurations.for_each(|configuration| work.pushes.configuration(&configuration));
        }
    }

    /// Every member has reported its replica.
    fn is_created(&self, id: PartitionId) -> bool {
        let Some(table) = self.durable.tables().get(&id.table) else {
            return false;
        };
        let Some(partition) = table
            .partition(id.index)
            .filter(|it| it.stage == Stage::Creating)
        else {
            return false;
        };
        partition.members().all(|member| {
            let key = ReplicaKey {
                partition: id,
                incarnation: member.incarnation,
            };
            self.status(member.address.node, key)
                .is_some_and(ReplicaStatus::is_created)
        })
    }

    /// What `node` last said of a replica.
    #[must_use]
    pub fn status(&self, node: NodeId, key: ReplicaKey) -> Option<&ReplicaStatus> {
        self.live.get(&node)?.replicas.get(&key)
    }

    /// Lets go of dropped tables whose replicas are gone everywhere.
    fn forget_dropped(&mut self, work: &mut Work) {
        let dropped = self
            .durable
            .tables()
            .values()
            .filter(|table| table.is_condemned() && !table.partitions.is_empty());
        let gone =
            dropped.filter(|table| drops_of(table).all(|(node, key)| self.is_gone(node, key)));
        let gone: Vec<(TableId, BTreeSet<NodeId>)> =
            gone.map(|table| (table.id, table.nodes())).collect();
        for (table, nodes) in gone {
            self.change(Change::TableForgotten { table }, work);
            // The digests of its nodes have changed; there is nothing else for them to do.
            nodes.into_iter().for_each(|node| _ = work.pushes.to(node));
        }
    }

    /// The node has said so, or has told everything it has and this was not among it.
    fn is_gone(&self, node: NodeId, key: ReplicaKey) -> bool {
        self.live
            .get(&node)
            .is_some_and(|live| !live.replicas.contains_key(&key))
    }

    /// A node whose digest differs gets everything, unless a push is still on its way.
    fn sync_if_behind(&mut self, node: NodeId, digest: u64, now_ms: u64, work: &mut Work) {
        let Some(live) = self.live.get(&node) else {
            return;
        };
        let settled = now_ms.saturating_sub(live.synced_ms) >= SYNC_SETTLE_MS;
        if digest != self.durable.digest(node) && settled {
            *work.pushes.to(node) = self.full_sync(node);
        }
    }

    fn partitions_on(&self, node: NodeId) -> BTreeSet<PartitionId> {
        self.live
            .get(&node)
            .map(|live| live.replicas.keys().map(|key| key.partition).collect())
            .unwrap_or_default()
    }

    /// The highest core of `node` that holds a replica.
    fn highest_core(&self, node: NodeId) -> Option<u16> {
        let members = self
            .durable
            .tables()
            .values()
            .flat_map(|table| &table.partitions)
            .flat_map(Partition::holders);
        members
            .filter(|member| member.address.node == node)
            .map(|member| member.address.core.0)
            .max()
    }
}

enum Standing {
    /// Of a member or a learner, by node and incarnation.
    Member,
    /// A copy of a partition that is there, in nobody's plan.
    Stray,
    /// Of a table that may be recalled.
    Kept,
    /// Of a table that is dropped for good.
    Dropped,
    /// Of nothing we know.
    Unknown,
}

/// Remembers since when each replica is as healthy as it says.
fn note_changes(
    live: &mut Live,
    told: &BTreeMap<ReplicaKey, ReplicaStatus>,
    is_full: bool,
    now_ms: u64,
) {
    for (key, status) in told {
        let before = live.replicas.get(key).map(|it| it.health);
        if before != Some(status.health) {
            live.since_ms.insert(*key, now_ms);
        }
    }
    if is_full {
        live.since_ms.retain(|key, _| told.contains_key(key));
    }
}

fn bounded(status: ReplicaStatus) -> ReplicaStatus {
    ReplicaStatus {
        reason: bounded_reason(status.reason),
        configuration: None,
        ..status
    }
}

/// A later start, or a new connection of the same process.
fn is_newer(node: &Node, known: &Node) -> bool {
    node.incarnation > known.incarnation || node.is_same_process(known)
}

//! Assembles what nodes are told.

use super::State;
use super::backup::BackupOrder;
use super::command::{Assignment, HandOver, NodeAddress, Push, Sync, TableInfo};
use super::node::Node;
use super::report::ReplicaKey;
use super::table::Table;
use pegasus_replication::config::Configuration;
use pegasus_replication::ids::{NodeId, PartitionId, TableId};
use std::collections::{BTreeMap, BTreeSet};

/// Gathers pushes while a command is carried out; digests are filled in at its end.
#[derive(Debug, Default)]
pub(super) struct Pushes(BTreeMap<NodeId, Sync>);

impl Pushes {
    /// What `node` will be told, empty so far.
    pub(super) fn to(&mut self, node: NodeId) -> &mut Sync {
        self.0.entry(node).or_insert_with(Sync::nothing)
    }

    /// Tells every member of `configuration`.
    pub(super) fn configuration(&mut self, configuration: &Configuration) {
        for member in configuration.members() {
            let sync = self.to(member.address.node);
            if !sync.full {
                sync.configurations.push(configuration.clone());
            }
        }
    }

    /// Tells these nodes of a configuration.
    pub(super) fn configuration_to(
        &mut self,
        nodes: impl IntoIterator<Item = NodeId>,
        configuration: &Configuration,
    ) {
        for node in nodes {
            let sync = self.to(node);
            if !sync.full && !sync.configurations.contains(configuration) {
                sync.configurations.push(configuration.clone());
            }
        }
    }

    /// Tells `node` who learns; what was to be said of that partition before is out of date.
    pub(super) fn assignment(&mut self, node: NodeId, assignment: Assignment) {
        let sync = self.to(node);
        if !sync.full {
            let partition = assignment.configuration.partition;
            sync.assignments
                .retain(|it| it.configuration.partition != partition);
            sync.assignments.push(assignment);
        }
    }

    /// Asks a primary to hand over.
    pub(super) fn hand_over(&mut self, node: NodeId, handover: HandOver) {
        let sync = self.to(node);
        if !sync.handovers.contains(&handover) {
            sync.handovers.push(handover);
        }
    }

    /// Orders `node` to back up a replica, or not to any more.
    pub(super) fn backup(&mut self, node: NodeId, order: BackupOrder) {
        let sync = self.to(node);
        let is_same = |it: &BackupOrder| it.backup == order.backup && it.key == order.key;
        sync.backups.retain(|it| !is_same(it));
        sync.backups.push(order);
    }

    /// Orders `node` to delete a replica.
    pub(super) fn drop_replica(&mut self, node: NodeId, key: ReplicaKey) {
        let sync = self.to(node);
        if !sync.full && !sync.drops.contains(&key) {
            sync.drops.push(key);
        }
    }

    /// Everything for nodes that are listening, with the digests of `state` as it is now.
    pub(super) fn finish(self, state: &State) -> Vec<Push> {
        let listening = self
            .0
            .into_iter()
            .filter(|(node, _)| state.live.contains_key(node));
        listening
            .map(|(node, sync)| {
                let told = sync.configurations.iter();
                let restores = told.filter_map(|it| state.restore_order(node, it));
                Push {
                    node,
                    sync: Sync {
                        digest: state.durable.digest(node),
                        restores: restores.collect(),
                        ..sync
                    },
                }
            })
            .collect()
    }
}

impl Sync {
    /// A push that changes nothing. A node answers it with a heartbeat.
    #[must_use]
    pub const fn nothing() -> Self {
        Self {
            full: false,
            digest: 0,
            nodes: Vec::new(),
            tables: Vec::new(),
            configurations: Vec::new(),
            drops: Vec::new(),
            assignments: Vec::new(),
            handovers: Vec::new(),
            backups: Vec::new(),
            restores: Vec::new(),
        }
    }
}

impl State {
    /// Everything that `node` is to know. Costs a walk over all partitions.
    #[must_use]
    pub fn full_sync(&self, node: NodeId) -> Sync {
        let mut sync = Sync {
            full: true,
            digest: self.durable.digest(node),
            ..Sync::nothing()
        };
        sync.nodes = self
            .durable
            .nodes()
            .values()
            .map(|other| self.node_address(other))
            .collect();
        // Nothing is deleted before its node has said how far it is: that may prove this store to be too old.
        let has_told = self.live(node).is_some_and(|live| live.has_told_all);
        for table in self.durable.tables().values().filter(|it| !it.is_kept()) {
            if table.is_dropped() && !has_told {
                continue;
            }
            if table.is_dropped() {
                sync.drops.extend(
                    drops_of(table)
                        .filter(|&(on, _)| on == node)
                        .map(|(_, key)| key),
                );
            } else {
                sync.tables.push(table_info(table));
                sync.configurations.extend(configurations_on(table, node));
                sync.assignments.extend(assignments_on(table, node));
            }
        }
        sync
    }

    pub(super) fn node_address(&self, node: &Node) -> NodeAddress {
        NodeAddress {
            node: node.id,
            peer_addresses: node
                .cores
                .iter()
                .map(|core| core.peer_address.clone())
                .collect(),
            client_addresses: node
                .cores
                .iter()
                .map(|core| core.client_address.clone())
                .collect(),
            alive: self.is_alive(node.id),
        }
    }

    /// Nodes that have joined since this state was made: those that can be told anything.
    pub(super) fn listening(&self) -> BTreeSet<NodeId> {
        self.live.keys().copied().collect()
    }
}

pub(super) fn table_info(table: &Table) -> TableInfo {
    TableInfo {
        table: table.id,
        name: table.name.clone(),
        partition_count: table.partition_count,
        dropped: table.is_dropped(),
        replica_count: table.replica_count,
        min_replicas: table.min_replicas,
        default_ttl_seconds: table.default_ttl_seconds(),
        // Of a table that is gone nobody needs them.
        envs: if table.is_dropped() {
            BTreeMap::new()
        } else {
            table.envs.clone()
        },
    }
}

fn assignments_on(table: &Table, node: NodeId) -> impl Iterator<Item = Assignment> {
    let all = table.indexed().filter_map(move |(index, partition)| {
        let learner = partition.learner?;
        let primary = partition.primary.map(|it| it.address.node);
        let concerns = primary == Some(node) || learner.member.address.node == node;
        concerns.then_some((index, learner))
    });
    all.filter_map(|(index, learner)| {
        Some(Assignment {
            configuration: table.configuration(index)?,
            learner: Some(learner.member),
            is_fresh: learner.is_fresh,
        })
    })
}

/// Every replica of a table that is dropped for good, as an order to delete it, with its node.
pub(super) fn drops_of(table: &Table) -> impl Iterator<Item = (NodeId, ReplicaKey)> {
    let condemned = table.indexed().filter(|_| table.is_condemned());
    condemned.flat_map(move |(index, partition)| {
        partition.holders().map(move |member| {
            (
                member.address.node,
                key(table.id, index, member.incarnation),
            )
        })
    })
}

fn configurations_on(table: &Table, node: NodeId) -> impl Iterator<Item = Configuration> {
    let here = table
        .indexed()
        .filter(move |(_, it)| it.members().any(|member| member.address.node == node));
    here.filter_map(|(index, _)| table.configuration(index))
}

pub(super) const fn key(
    table: TableId,
    index: u32,
    incarnation: pegasus_replication::ids::ReplicaIncarnation,
) -> ReplicaKey {
    ReplicaKey {
        partition: PartitionId { table, index },
        incarnation,
    }
}

//! A node that follows its pushes.

use pegasus_meta::state::{Assignment, Sync};
use pegasus_replication::config::Configuration;
use pegasus_replication::ids::{NodeId, PartitionId, TableId};
use std::collections::{BTreeMap, BTreeSet};

/// What a node knows that follows its pushes.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    pub(crate) digest: u64,
    pub(crate) nodes: BTreeMap<NodeId, Vec<String>>,
    pub(crate) tables: BTreeSet<TableId>,
    /// Those that name it.
    pub(crate) configurations: BTreeMap<PartitionId, Configuration>,
    pub(crate) assignments: BTreeMap<PartitionId, Assignment>,
}

impl Follower {
    pub(crate) fn take(&mut self, me: NodeId, sync: &Sync) {
        if sync.full {
            *self = Self::default();
        }
        self.digest = sync.digest;
        self.nodes.extend(
            sync.nodes
                .iter()
                .map(|it| (it.node, it.peer_addresses.clone())),
        );
        for table in &sync.tables {
            if table.dropped {
                self.tables.remove(&table.table);
                self.configurations.retain(|id, _| id.table != table.table);
                self.assignments.retain(|id, _| id.table != table.table);
            } else {
                self.tables.insert(table.table);
            }
        }
        for configuration in &sync.configurations {
            self.take_configuration(me, configuration);
        }
        for assignment in &sync.assignments {
            let id = assignment.configuration.partition;
            let before = self.assignments.remove(&id);
            let known = before.map(|it| it.configuration.ballot);
            assert!(
                known <= Some(assignment.configuration.ballot),
                "a ballot fell"
            );
            if assignment.learner.is_some() {
                self.assignments.insert(id, assignment.clone());
            }
        }
        for handover in &sync.handovers {
            let known = &self.configurations[&handover.partition];
            assert!(known.secondaries.contains(&handover.to));
            assert_eq!(known.primary.map(|it| it.address.node), Some(me));
        }
    }

    /// A newer one ends what was learned under an older one, and one that does not name this node takes the partition away.
    fn take_configuration(&mut self, me: NodeId, configuration: &Configuration) {
        let id = configuration.partition;
        let before = self.configurations.remove(&id);
        assert!(
            before.is_none_or(|before| before.ballot <= configuration.ballot),
            "a ballot fell"
        );
        if configuration.member_on(me).is_some() {
            self.configurations.insert(id, configuration.clone());
        }
        let is_old = |it: &Assignment| it.configuration.ballot < configuration.ballot;
        if self.assignments.get(&id).is_some_and(is_old) {
            self.assignments.remove(&id);
        }
    }
}

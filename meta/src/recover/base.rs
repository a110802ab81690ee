//! What an older copy of the store adds: names, settings, tables that are dropped and kept, what operators have set. Never who
//! holds what: that is decided from what replicas say, as without it.

use super::{Case, NamedTable, Plan};
use crate::state::{Change, Counters, Durable, Table};
use pegasus_replication::ids::{NodeId, TableId};
use std::collections::BTreeSet;

impl Case {
    /// Nothing that the copy has ever given is given again.
    pub(super) fn counters_of_base(&self) -> Option<Counters> {
        self.base.as_ref().map(Durable::counters)
    }

    /// A table that the copy knows and that was not dropped for good then.
    pub(super) fn table_of_base(&self, id: TableId) -> Option<&Table> {
        let table = self.base.as_ref()?.tables().get(&id)?;
        (!table.is_condemned()).then_some(table)
    }

    /// Tables that are in the copy and were not dropped for good then.
    pub(super) fn ids_of_base(&self) -> impl Iterator<Item = TableId> {
        let tables = self.base.iter().flat_map(|base| base.tables().values());
        tables.filter(|it| !it.is_condemned()).map(|it| it.id)
    }

    /// Tables that the copy says are gone, with whatever of them may be left somewhere.
    pub(super) fn is_gone_in_base(&self, id: TableId) -> bool {
        let table = self.base.as_ref().and_then(|base| base.tables().get(&id));
        table.is_some_and(Table::is_condemned)
    }

    /// Nodes that the copy knows and the operator has not counted.
    pub(super) fn uncounted_of_base(&self) -> Vec<NodeId> {
        let nodes = self.base.iter().flat_map(|base| base.nodes().keys());
        nodes
            .filter(|it| !self.nodes.contains(it))
            .copied()
            .collect()
    }

    /// What operators had set when the copy was made, as far as it fits what there is now.
    pub(super) fn take_settings(&self, plan: &mut Plan) {
        let Some(base) = &self.base else {
            return;
        };
        let known: BTreeSet<NodeId> = plan.durable.nodes().keys().copied().collect();
        for change in base.snapshot() {
            let is_wanted = match &change {
                Change::LevelSet(_) | Change::BalanceSet(_) | Change::NodeForgotten { .. } => true,
                Change::NodeDrained { node, .. } => known.contains(node),
                Change::Backup(_) => true,
                _ => false,
            };
            if is_wanted && let Err(error) = plan.durable.apply(&change) {
                plan.warnings
                    .push(format!("not taken over from the base: {change:?}: {error}"));
            }
        }
    }
}

/// As the copy knows it.
pub(super) fn named(table: &Table) -> NamedTable {
    NamedTable {
        id: table.id,
        name: table.name.clone(),
        partition_count: table.partition_count,
        replica_count: table.replica_count,
        envs: table.envs.clone(),
    }
}

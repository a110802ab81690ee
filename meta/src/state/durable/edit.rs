//! Changes of tables and partitions that keep the digests in step.

use super::Durable;
use crate::state::digest;
use crate::state::table::{Partition, Table};
use pegasus_replication::ids::{NodeId, TableId};

impl Durable {
    /// Digest of the whole assignment of `node`, as every Sync carries it.
    #[must_use]
    pub fn digest(&self, node: NodeId) -> u64 {
        digest::finish(
            self.cluster.id,
            self.shared,
            self.assignments.get(&node).copied().unwrap_or(0),
        )
    }

    /// Changes one partition and its members' digests with it.
    pub(super) fn edit_partition(
        &mut self,
        id: TableId,
        index: u32,
        edit: impl FnOnce(&mut Partition),
    ) {
        self.toggle_partition(id, index);
        if let Some(partition) = self
            .tables
            .get_mut(&id)
            .and_then(|table| table.partition_mut(index))
        {
            edit(partition);
        }
        self.toggle_partition(id, index);
    }

    /// Changes what a table is, and all digests that follow from it.
    pub(super) fn edit_table(&mut self, id: TableId, edit: impl FnOnce(&mut Table)) {
        self.toggle_table(id);
        if let Some(table) = self.tables.get_mut(&id) {
            edit(table);
        }
        self.toggle_table(id);
    }

    /// Adds a table to the digests, or takes it out of them: they are sums without carry.
    pub(super) fn toggle_table(&mut self, id: TableId) {
        let Some(table) = self.tables.get(&id) else {
            return;
        };
        if !table.is_dropped() {
            self.shared ^= digest::of_table(table);
        }
        (0..table.partition_count).for_each(|index| self.toggle_partition(id, index));
    }

    fn toggle_partition(&mut self, id: TableId, index: u32) {
        let Some(table) = self.tables.get(&id) else {
            return;
        };
        let Some(partition) = table.partition(index) else {
            return;
        };
        // Nobody is told anything of a table that is only kept.
        if table.is_kept() {
            return;
        }
        let mut toggle = |node: NodeId, own: u64| {
            let digest = self.assignments.entry(node).or_default();
            *digest ^= own;
            // As if there had never been anything: a snapshot comes to the same.
            if *digest == 0 {
                self.assignments.remove(&node);
            }
        };
        if table.is_dropped() {
            for member in partition.holders() {
                toggle(member.address.node, digest::of_drop(id, index, member));
            }
            return;
        }
        let common = digest::of_partition(table, index, partition);
        for member in partition.members() {
            toggle(member.address.node, common);
        }
        if let Some(learner) = partition.learner {
            let primary = partition.primary.map(|it| it.address.node);
            for node in primary.into_iter().chain([learner.member.address.node]) {
                toggle(node, digest::of_learner(table, index, partition, node));
            }
        }
    }
}

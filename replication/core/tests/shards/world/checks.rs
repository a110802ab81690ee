//! What must hold of all nodes together.

use super::World;
use bytes::Bytes;
use pegasus_replication::ids::{Decree, PartitionId};
use pegasus_replication::{Replica, Shard, check_group};
use std::collections::BTreeSet;

impl World {
    /// Invariants across the cluster, and that nothing acknowledged is missing where it has to be.
    pub(super) fn check(&mut self) {
        let partitions: BTreeSet<PartitionId> = self.configurations.keys().copied().collect();
        for partition in partitions {
            let sound = |node: &&u32| !self.damaged.contains(node);
            let replicas: Vec<&Replica> = self
                .nodes
                .keys()
                .filter(sound)
                .filter_map(|node| self.replica(*node, partition))
                .collect();
            check_group(&replicas);
            let readers: Vec<u32> = self
                .nodes
                .iter()
                .filter(|(node, one)| {
                    let shard = one.shard.as_ref();
                    shard.is_some_and(|shard| shard.may_read(partition, self.local(**node)))
                })
                .map(|(node, _)| *node)
                .collect();
            assert!(readers.len() <= 1, "{partition}: {readers:?} serve");
        }
        for node in self.nodes.values_mut() {
            for replica in node.shard.iter().flat_map(Shard::replicas) {
                let seen = node
                    .committed
                    .entry((replica.partition(), replica.incarnation()))
                    .or_default();
                assert!(replica.committed() >= *seen, "a commit point went back");
                *seen = replica.committed();
            }
        }
    }

    /// Every acknowledged write is where every member of the newest configuration says its order is.
    pub(crate) fn check_acknowledged(&self) {
        for acknowledged in &self.acknowledged {
            let Some(configuration) = self.configurations.get(&acknowledged.partition) else {
                continue;
            };
            for member in configuration.members() {
                let node = member.address.node.0;
                if self.damaged.contains(&node) || !self.is_alive(node) {
                    continue;
                }
                let held = self.held(node, acknowledged.partition, acknowledged.decree);
                assert_eq!(
                    held.as_ref(),
                    Some(&acknowledged.payload),
                    "node {node} lacks acknowledged decree {} of {}",
                    acknowledged.decree,
                    acknowledged.partition
                );
            }
        }
    }

    fn held(&self, node: u32, partition: PartitionId, decree: Decree) -> Option<Bytes> {
        let applied = &self.nodes.get(&node)?.engine.get(&partition)?.applied;
        let position = usize::try_from(decree.0).unwrap() - 1;
        if let Some(entry) = applied.get(position) {
            return Some(entry.mutation.payload.clone());
        }
        let replica = self.replica(node, partition)?;
        replica
            .entries()
            .find(|entry| entry.decree == decree)
            .map(|entry| entry.mutation.payload.clone())
    }
}

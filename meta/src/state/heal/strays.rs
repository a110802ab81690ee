//! Copies that nobody needs are deleted, but only by name, and only once nothing is missing.

use super::super::report::ReplicaKey;
use super::super::{State, Work};
use super::REPEAT_MS;
use pegasus_replication::ids::{CoreAddress, NodeId, PartitionId};

impl State {
    /// Orders every node to delete what it has of a partition that is whole without it.
    pub(super) fn drop_strays(&mut self, id: PartitionId, work: &mut Work) {
        let nodes: Vec<NodeId> = self.live.keys().copied().collect();
        let strays: Vec<(NodeId, ReplicaKey)> = nodes
            .into_iter()
            .flat_map(|node| self.copies(id, node).map(move |(key, _)| (node, *key)))
            .collect();
        if strays.is_empty() {
            self.heal.strays.remove(&id);
        } else if self.is_whole(id) {
            for (node, key) in strays {
                self.order_drop(node, key, work);
            }
        }
    }

    /// Whether `address` is free for a new replica: if its node has an old copy, that is deleted first. The primary serves, so
    /// that the copy is not the last good one.
    pub(super) fn make_room(
        &mut self,
        id: PartitionId,
        address: CoreAddress,
        work: &mut Work,
    ) -> bool {
        let keys: Vec<ReplicaKey> = self.copies(id, address.node).map(|(key, _)| *key).collect();
        if !keys.is_empty() && self.serves(id) {
            for &key in &keys {
                self.order_drop(address.node, key, work);
            }
        }
        keys.is_empty()
    }

    /// Never a copy that knows a later ballot than meta does: then it is meta that has lost something.
    fn order_drop(&mut self, node: NodeId, key: ReplicaKey, work: &mut Work) {
        let Some((_, partition)) = self.partition(key.partition) else {
            return;
        };
        let is_held = partition
            .holders()
            .any(|it| it.address.node == node && it.incarnation == key.incarnation);
        assert!(!is_held, "a replica that is wanted would be deleted");
        let known = self.status(node, key).map(|it| it.ballot);
        if known.is_some_and(|ballot| ballot > partition.ballot) {
            return;
        }
        let last = self.heal.ordered.get(&(node, key));
        if last.is_none_or(|last| self.now_ms.saturating_sub(*last) >= REPEAT_MS) {
            self.heal.ordered.insert((node, key), self.now_ms);
            work.pushes.drop_replica(node, key);
        }
    }

    /// A node says that it has no such replica any more.
    pub(in crate::state) fn forget_orders(&mut self, node: NodeId) {
        let live = self.live.get(&node);
        let is_there = |key: &ReplicaKey| live.is_some_and(|live| live.replicas.contains_key(key));
        self.heal
            .ordered
            .retain(|(on, key), _| *on != node || is_there(key));
    }
}

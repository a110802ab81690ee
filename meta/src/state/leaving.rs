//! A node that was told to stop goes without anybody noticing: what it leads is handed over and it is let go of as a secondary
//! while it still works, so that no write ever waits for it.
//!
//! ```text
//! heartbeat says `leaving` --> its primaries are handed over, a few at a time
//!                          --> it leaves each group as a secondary, as long as writes have enough members without it
//!                          --> the answers count what can still be taken off it; at 0 it stops
//! ```
//!
//! Nothing of it is durable. A life of the node that starts later has not said that it leaves, and its copies come back by log.

use super::table::{Partition, Table};
use super::{Level, State, Work};
use pegasus_replication::config::Member;
use pegasus_replication::ids::{NodeId, PartitionId};
use std::collections::BTreeSet;

impl State {
    /// Whether `node` was told to stop, as it says itself.
    #[must_use]
    pub fn is_leaving(&self, node: NodeId) -> bool {
        let live = self.live.get(&node);
        live.is_some_and(|live| live.alive && live.words.is_leaving)
    }

    /// Whether `node` gets no replicas and leads nothing more: it is being emptied, or leaves.
    #[must_use]
    pub fn is_closed(&self, node: NodeId) -> bool {
        self.durable.drain(node).is_some() || self.is_leaving(node)
    }

    /// Partitions that can still be taken off `node`, which leaves. What nobody else can take is not among them: the node
    /// need not wait for that.
    #[must_use]
    pub fn held_by_leaving(&self, node: NodeId) -> u32 {
        let held = self.active_partitions().filter(|(id, table, it)| {
            self.may_be_handed_over(it, node) || self.may_go(*id, table, it, node).is_some()
        });
        u32::try_from(held.count()).unwrap_or(u32::MAX)
    }

    /// Takes what can be taken off nodes that leave: of `only` these partitions, or of all.
    pub(super) fn drive_leaving(&mut self, only: Option<&BTreeSet<PartitionId>>, work: &mut Work) {
        let live = self.live.keys().copied();
        let leaving: Vec<NodeId> = live.filter(|node| self.is_leaving(*node)).collect();
        if self.durable.level() <= Level::Freezed {
            return;
        }
        for node in leaving {
            if only.is_none() {
                self.hand_over_from(node, work);
            }
            self.let_go(node, only, work);
        }
    }

    /// Removes `node` as a secondary wherever the others are enough.
    fn let_go(&mut self, node: NodeId, only: Option<&BTreeSet<PartitionId>>, work: &mut Work) {
        let chosen = |id: &PartitionId| only.is_none_or(|only| only.contains(id));
        let going: Vec<(PartitionId, Member)> = self
            .active_partitions()
            .filter(|(id, _, _)| chosen(id))
            .filter_map(|(id, table, it)| Some((id, self.may_go(id, table, it, node)?)))
            .collect();
        for (id, member) in going {
            self.regroup(id, |it| it.remove(&member), work);
        }
    }

    /// The secondary on `node`, if the group is better off without it when it stops: somebody else serves, and writes have
    /// enough members that stay.
    fn may_go(
        &self,
        id: PartitionId,
        table: &Table,
        partition: &Partition,
        node: NodeId,
    ) -> Option<Member> {
        let member = *partition
            .secondaries
            .iter()
            .find(|it| it.address.node == node)?;
        let stay = partition.members().filter(|it| {
            let other = it.address.node;
            other != node && self.is_alive(other) && !self.is_leaving(other)
        });
        let are_enough = stay.count() >= usize::from(table.min_replicas).max(1);
        (are_enough && self.serves(id)).then_some(member)
    }

    /// It is led from `node`, and a secondary stays that could lead it.
    fn may_be_handed_over(&self, partition: &Partition, node: NodeId) -> bool {
        let leads = partition.primary.is_some_and(|it| it.address.node == node);
        let may_lead = |it: &Member| {
            let other = it.address.node;
            other != node && self.is_alive(other) && !self.is_closed(other)
        };
        leads && partition.secondaries.iter().any(may_lead)
    }
}

//! What the planner is told of nodes and partitions.

use super::State;
use crate::place::balance::{Freedom, NodeFacts, PartitionLoad, Standing};
use crate::state::change::Drain;
use crate::state::heal::key_of;
use crate::state::table::Partition;
use pegasus_replication::ids::{NodeId, PartitionId};

/// What was moved stays for so long, unless it has more or less to do, in milliseconds: an hour.
const SETTLED_MS: u64 = 3_600_000;

impl State {
    pub(super) fn node_facts(&self) -> Vec<NodeFacts> {
        let nodes = self.durable().nodes().iter();
        let facts = nodes.map(|(&node, it)| {
            let live = self.live(node);
            let total = live.map_or(0, |live| live.disk_total);
            let free = live.map_or(0, |live| live.disk_free);
            NodeFacts {
                node,
                cores: u16::try_from(it.cores.len()).unwrap_or(u16::MAX),
                standing: self.standing_of(node),
                disk_total: total,
                disk_used: total.saturating_sub(free),
            }
        });
        facts.collect()
    }

    /// What leaves a node that is being emptied is moved by its drain, not here.
    fn standing_of(&self, node: NodeId) -> Standing {
        let has_told_all = self.live(node).is_some_and(|live| live.has_told_all);
        match self.durable().drain(node) {
            _ if !self.is_alive(node) || !has_told_all => Standing::Down,
            Some(Drain::Primaries | Drain::Replicas | Drain::Decommission) => Standing::Resting,
            None if self.is_closed(node) => Standing::Resting,
            None => Standing::Open,
        }
    }

    pub(super) fn forget_settled(&mut self) {
        let now_ms = self.now_ms();
        let is_recent = |at_ms: u64| now_ms.saturating_sub(at_ms) < SETTLED_MS;
        self.balance
            .settled
            .retain(|_, (_, at_ms)| is_recent(*at_ms));
    }

    /// Reads are told by whoever answered them, before and after a hand-over; writes by the primary.
    pub(super) fn load_of(&self, id: PartitionId, partition: &Partition) -> PartitionLoad {
        let mut load = PartitionLoad::default();
        for (place, member) in partition.members().enumerate() {
            let Some(status) = self.status(member.address.node, key_of(id, member)) else {
                continue;
            };
            load.reads = load.reads.saturating_add(status.reads_per_second);
            load.bytes = load.bytes.max(status.bytes);
            if place == 0 {
                load.writes = status.writes_per_second;
            }
        }
        load
    }

    pub(super) fn freedom(
        &self,
        id: PartitionId,
        partition: &Partition,
        load: &PartitionLoad,
    ) -> Freedom {
        // A node that has failed with it would be chosen again, in vain.
        let mut failed = partition.backoffs.iter();
        let is_moving = partition.intent.is_some()
            || partition.learner.is_some()
            || failed.any(|it| self.has_to_wait(partition, it.node));
        let settled = self.balance.settled.get(&id);
        let is_recent = |at_ms: u64| self.now_ms().saturating_sub(at_ms) < SETTLED_MS;
        match settled {
            _ if is_moving => Freedom::Fixed,
            Some(&(then, at_ms)) if is_recent(at_ms) && is_like(then, requests(load)) => {
                Freedom::Settled
            }
            _ => Freedom::Free,
        }
    }
}

/// Of a partition, all together.
pub(super) fn requests(load: &PartitionLoad) -> u64 {
    u64::from(load.reads) + u64::from(load.writes)
}

/// Neither half as much nor twice as much.
const fn is_like(then: u64, now: u64) -> bool {
    now * 2 > then && now < then * 2
}

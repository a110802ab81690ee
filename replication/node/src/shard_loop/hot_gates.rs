//! Gates with much in flight: what their mutations make of rows is kept, so that each operation on a hot key looks at the
//! mutations since the last one, and not at all of them.

use pegasus_engine::atomic::Prepared;
use pegasus_replication::ids::{Ballot, Decree, PartitionId};
use pegasus_replication::replica::Replica;
use pegasus_replication::shard::Shard;

/// Gates whose rows are kept. Each keeps the payloads in flight a little longer than they are.
const HOT_GATES_MAX: usize = 8;
/// Mutations of one gate in flight that make it a hot one.
pub(super) const HOT_FROM: usize = 8;

/// The hot gates of a core, the one used last at the end.
#[derive(Debug, Default)]
pub(super) struct HotGates {
    gates: Vec<HotGate>,
}

#[derive(Debug)]
struct HotGate {
    partition: PartitionId,
    gate: u64,
    /// Decrees mean something within one ballot of one primary.
    ballot: Ballot,
    /// Everything up to this decree is in `prepared`, or applied.
    seen: Decree,
    prepared: Prepared,
}

impl HotGates {
    /// What is in flight of a hot gate; `None`: it is not hot.
    pub(super) fn rows(
        &mut self,
        shard: &Shard,
        partition: PartitionId,
        gate: u64,
    ) -> Option<&Prepared> {
        let mut gates = self.gates.iter();
        let at = gates.position(|hot| hot.gate == gate && hot.partition == partition)?;
        let mut hot = self.gates.remove(at);
        let replica = shard.replica(partition)?;
        if replica.ballot() != hot.ballot {
            return None;
        }
        hot.follow(shard, replica);
        self.gates.push(hot);
        self.gates.last().map(|hot| &hot.prepared)
    }

    /// A gate has turned out to be hot.
    pub(super) fn add(&mut self, shard: &Shard, partition: PartitionId, gate: u64) {
        let Some(replica) = shard.replica(partition) else {
            return;
        };
        if self.gates.len() >= HOT_GATES_MAX {
            self.gates.remove(0);
        }
        self.gates.push(HotGate {
            partition,
            gate,
            ballot: replica.ballot(),
            seen: replica.applied(),
            prepared: Prepared::default(),
        });
    }

    /// Lets go of those of partitions with nothing in flight.
    pub(super) fn cool(&mut self, shard: &Shard) {
        let is_in_flight = |replica: &Replica| replica.last() > replica.applied();
        self.gates
            .retain(|hot| shard.replica(hot.partition).is_some_and(is_in_flight));
    }
}

impl HotGate {
    /// Takes over what has been prepared since the last time.
    fn follow(&mut self, shard: &Shard, replica: &Replica) {
        self.prepared.set_applied(replica.applied());
        let newer = shard.inflight_above(self.partition, self.gate, self.seen);
        let newer: Vec<_> = newer.collect();
        for (decree, payload) in newer.into_iter().rev() {
            self.prepared.add(decree, payload);
        }
        self.seen = replica.last();
    }
}

//! What must hold after every event, seen from outside: the protocol's invariants over all replicas of a partition, and
//! what was applied and acknowledged under each decree, in every life of every replica.

use crate::action::{Operation, RequestNumber};
use crate::clients::partition_of;
use crate::history::Violation;
use crate::world::{Judges, World};
use pegasus_replication::ids::{CoreAddress, Decree, PartitionId};
use pegasus_replication::message::Entry;
use pegasus_replication::replica::{Replica, check_group};
use pegasus_replication::shard::Shard;
use std::collections::BTreeSet;

/// What has become of the decrees of one partition.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Checksum of the mutation applied first under each decree, from decree 1.
    applied: Vec<Option<u32>>,
    /// Decrees that clients were told of.
    acknowledged: BTreeSet<Decree>,
}

impl Ledger {
    /// False if another mutation was applied under this decree before.
    fn note_applied(&mut self, decree: Decree, checksum: u32) -> bool {
        let index = usize::try_from(decree.0).expect("decrees of a run are few");
        if self.applied.len() <= index {
            self.applied.resize(index + 1, None);
        }
        *self.applied[index].get_or_insert(checksum) == checksum
    }
}

impl World {
    /// Notes which partitions the last event of this core can have changed.
    pub(crate) fn note_touched(&mut self, address: CoreAddress) {
        let index = self.node_index(address.node);
        let core = &self.nodes[index].cores[usize::from(address.core.0)];
        let replicas = core.shard.iter().flat_map(|shard| shard.replicas());
        self.touched.extend(replicas.map(Replica::partition));
    }

    /// The invariants of docs/replication.md over all replicas of each touched partition.
    pub(crate) fn check_touched(&mut self) -> Result<(), Violation> {
        let mut touched = std::mem::take(&mut self.touched);
        if self.judges == Judges::History {
            return Ok(());
        }
        for &partition in &touched {
            self.check_partition(partition)?;
        }
        touched.clear();
        self.touched = touched;
        Ok(())
    }

    fn check_partition(&self, partition: PartitionId) -> Result<(), Violation> {
        let cores = self.nodes.iter().flat_map(|node| &node.cores);
        let replicas: Vec<&Replica> = cores
            .filter_map(|core| core.shard.as_ref()?.replica(partition))
            .collect();
        check_group(&replicas);
        let Some(reader) = self.check_readers(partition)? else {
            return Ok(());
        };
        let ledger = self.ledgers.get(&partition);
        let acknowledged = ledger.and_then(|it| it.acknowledged.last().copied());
        let replica = self.core(reader).shard.as_ref();
        let committed = replica
            .and_then(|shard| shard.replica(partition))
            .map(Replica::committed);
        if committed < acknowledged {
            return Err(Violation::invariant(format!(
                "{partition}: {reader} serves at {committed:?}, and a client was told of {acknowledged:?}"
            )));
        }
        Ok(())
    }

    /// At most one core may answer reads, each by its own clock. Returns it.
    fn check_readers(&self, partition: PartitionId) -> Result<Option<CoreAddress>, Violation> {
        let mut readers = Vec::new();
        for node in &self.nodes {
            let now = node.clock.local(self.now);
            let shards = node.cores.iter().filter_map(|core| core.shard.as_ref());
            let may_read = shards.filter(|shard| shard.may_read(partition, now));
            readers.extend(may_read.map(Shard::identity));
        }
        if let [one, other, ..] = readers.as_slice() {
            return Err(Violation::invariant(format!(
                "{partition}: {one} and {other} may both answer reads"
            )));
        }
        Ok(readers.first().copied())
    }

    /// The same decree is the same mutation on every replica, in every life.
    pub(crate) fn check_applied(
        &mut self,
        address: CoreAddress,
        partition: PartitionId,
        entry: &Entry,
    ) -> Result<(), Violation> {
        let timestamp = entry.mutation.timestamp_us.to_le_bytes();
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&entry.mutation.payload), &timestamp);
        let ledger = self.ledgers.entry(partition).or_default();
        if ledger.note_applied(entry.decree, checksum) {
            return Ok(());
        }
        self.judge(Err(Violation::invariant(format!(
            "{address} applies another mutation as decree {} of {partition}",
            entry.decree
        ))))
    }

    /// A core says that a request is done: a write under a decree of its own.
    pub(crate) fn note_reply(
        &mut self,
        address: CoreAddress,
        request: RequestNumber,
        decree: Decree,
    ) -> Result<(), Violation> {
        let request = self.requests.get(&request);
        let Some(Operation::Write { key, .. }) = request.map(|request| request.operation) else {
            return Ok(());
        };
        let partition = partition_of(key);
        let ledger = self.ledgers.entry(partition).or_default();
        if ledger.acknowledged.insert(decree) {
            return Ok(());
        }
        self.judge(Err(Violation::invariant(format!(
            "{address}: decree {decree} of {partition} is acknowledged for a second write"
        ))))
    }
}

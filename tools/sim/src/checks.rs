//! What must hold: after every event, and at the end.

use crate::clients::{decode, raw_key};
use crate::history::Violation;
use crate::world::World;
use pegasus_engine::{Engine, Tier};
use pegasus_replication::config::Configuration;
use pegasus_replication::ids::{CoreAddress, PartitionId};
use pegasus_replication::message::Entry;
use pegasus_replication::replica::{Health, Replica, check_group};

impl World {
    /// Notes which partitions the last event of this core can have changed.
    pub(crate) fn note_touched(&mut self, address: CoreAddress) {
        let shard = self.core(address).shard.as_ref();
        let partitions: Vec<PartitionId> = shard
            .into_iter()
            .flat_map(|shard| shard.replicas())
            .map(Replica::partition)
            .collect();
        self.touched.extend(partitions);
    }

    /// The protocol's invariants (docs/replication.md) over all replicas of each touched partition.
    pub(crate) fn check_touched(&mut self) {
        for partition in std::mem::take(&mut self.touched) {
            check_group(&self.replicas_of(partition));
        }
    }

    fn replicas_of(&self, partition: PartitionId) -> Vec<&Replica> {
        let cores = self.nodes.iter().flat_map(|node| &node.cores);
        cores
            .filter_map(|core| core.shard.as_ref()?.replica(partition))
            .collect()
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
        let known = self.applied.entry(partition).or_default();
        let first = *known.entry(entry.decree.0).or_insert(checksum);
        if first == checksum {
            return Ok(());
        }
        Err(Violation(format!(
            "{address} applies another mutation as decree {} of {partition}",
            entry.decree
        )))
    }

    fn configurations(&self) -> Vec<Configuration> {
        let Some(table) = self.table() else {
            return Vec::new();
        };
        let table = &self.meta.state.durable().tables()[&table];
        (0..self.scenario.partitions)
            .filter_map(|index| table.configuration(index))
            .collect()
    }

    /// Every primary serves, every member has applied everything committed, and nothing is left of dropped tables.
    pub(crate) fn is_at_rest(&self) -> bool {
        let configurations = self.configurations();
        !configurations.is_empty()
            && self.left_over().is_none()
            && configurations
                .iter()
                .all(|configuration| self.is_settled(configuration))
    }

    /// Storage or a replica of a table that was dropped.
    fn left_over(&self) -> Option<(CoreAddress, PartitionId)> {
        let table = self.table();
        let mut cores = self.nodes.iter().flat_map(|node| &node.cores);
        cores.find_map(|core| {
            let stored = core.engine.replicas().map(|(partition, _)| partition);
            let held = core.shard.iter().flat_map(|shard| shard.replicas());
            let mut all = stored.chain(held.map(Replica::partition));
            let found = all.find(|partition| Some(partition.table) != table)?;
            Some((core.address, found))
        })
    }

    fn is_settled(&self, configuration: &Configuration) -> bool {
        let partition = configuration.partition;
        let replica = |address: CoreAddress| self.core(address).shard.as_ref()?.replica(partition);
        let Some(primary) = configuration
            .primary
            .and_then(|member| replica(member.address))
        else {
            return false;
        };
        let applied = |address: CoreAddress| {
            self.core(address)
                .engine
                .last_applied(partition)
                .map(|it| it.decree)
        };
        let committed = primary.committed();
        primary.health() == Health::Serving
            && primary.prepared() == committed
            && configuration
                .members()
                .all(|member| applied(member.address) == Some(committed))
    }

    /// Why it is not, for the failure message.
    pub(crate) fn unrest(&self) -> String {
        let unsettled = self
            .configurations()
            .into_iter()
            .filter(|configuration| !self.is_settled(configuration));
        let lines = unsettled.map(|configuration| {
            let partition = configuration.partition;
            let members = configuration.members().map(|member| {
                let core = self.core(member.address);
                let replica = core
                    .shard
                    .as_ref()
                    .and_then(|shard| shard.replica(partition));
                let state = replica.map_or_else(
                    || "missing".to_owned(),
                    |it| {
                        format!(
                            "{:?} ballot {} committed {} prepared {} {:?}",
                            it.health(),
                            it.ballot(),
                            it.committed(),
                            it.prepared(),
                            it.reason()
                        )
                    },
                );
                let applied = core.engine.last_applied(partition).map(|it| it.decree.0);
                format!("{}: {state}, applied {applied:?}", member.address)
            });
            format!(
                "{partition} ballot {}: {}",
                configuration.ballot,
                members.collect::<Vec<_>>().join("; ")
            )
        });
        let left_over = self
            .left_over()
            .map(|(core, partition)| format!("{core} still holds {partition}, which was dropped"));
        lines.chain(left_over).collect::<Vec<_>>().join("\n")
    }

    /// All members of a partition hold the same rows, byte for byte.
    pub(crate) fn compare_replicas(&self) -> Result<(), Violation> {
        for configuration in self.configurations() {
            let partition = configuration.partition;
            let rows = |address: CoreAddress| self.core(address).engine.stored(partition);
            let Some(primary) = configuration.primary else {
                continue;
            };
            for secondary in &configuration.secondaries {
                if !rows(primary.address).eq(rows(secondary.address)) {
                    return Err(Violation(format!(
                        "{partition}: {} and {} hold different rows at rest",
                        primary.address, secondary.address
                    )));
                }
            }
        }
        Ok(())
    }

    /// Every acknowledged write is there, and nothing that was refused.
    pub(crate) fn compare_with_history(&self) -> Result<(), Violation> {
        for configuration in self.configurations() {
            let Some(primary) = configuration.primary else {
                continue;
            };
            let core = self.core(primary.address);
            for key in self
                .history
                .keys()
                .filter(|key| key.table == configuration.partition.table)
                .filter(|key| key.partition == configuration.partition.index)
            {
                let row = core
                    .engine
                    .get(configuration.partition, &raw_key(key), 1, Tier::Full)
                    .map_err(|error| Violation(error.to_string()))?;
                self.history
                    .check_final(key, row.map(|row| decode(&row.data)))?;
            }
        }
        Ok(())
    }
}

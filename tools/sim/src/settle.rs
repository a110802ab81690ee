//! The end of a run: faults are over, everything must become whole, and what was acknowledged must be there.

use crate::clients::{partition_of, raw_key};
use crate::history::Violation;
use crate::node::applied;
use crate::world::World;
use pegasus_engine::{Engine, Tier};
use pegasus_replication::config::Configuration;
use pegasus_replication::ids::{CoreAddress, Instant, PartitionId};
use pegasus_replication::replica::{Health, Replica};
use std::time::Duration;

/// Within this time after the last fault, and after the last node may have replicas again that had failed with them,
/// everything is whole.
const REST: Duration = Duration::from_secs(60);

impl World {
    /// Faults are over; the cluster must become whole, and every acknowledged write must be there.
    pub(crate) fn end(&mut self) -> Result<(), Violation> {
        self.ending = true;
        self.heal_everything()?;
        let begun = self.now;
        while !self.is_at_rest() {
            if self.now >= self.last_back_off().max(begun).after(REST) {
                let unrest = format!(
                    "not at rest {REST:?} after the last fault and the last back-off: {}",
                    self.unrest()
                );
                self.judge(Err(Violation::liveness(unrest)))?;
                break;
            }
            self.run_until(self.now.after(Duration::from_millis(200)))?;
        }
        self.judge(self.compare_replicas())?;
        self.read_everything()?;
        self.history.check()?;
        self.totals.acknowledged = self.history.acknowledged;
        self.totals.reads = self.history.read_count;
        Ok(())
    }

    /// When the last node that failed with replicas of the table may have some again.
    fn last_back_off(&self) -> Instant {
        let tables = self.meta.state.durable().tables();
        let table = self.table().and_then(|table| tables.get(&table));
        let partitions = table.iter().flat_map(|table| &table.partitions);
        let until_ms = partitions
            .flat_map(|partition| &partition.backoffs)
            .map(|it| it.until_ms)
            .max();
        Instant(until_ms.unwrap_or_default() * 1_000_000)
    }

    pub(crate) fn configurations(&self) -> Vec<Configuration> {
        let Some(table) = self.table() else {
            return Vec::new();
        };
        (0..self.scenario.partitions)
            .filter_map(|index| self.configuration(PartitionId { table, index }))
            .collect()
    }

    /// Every partition has all its members, its primary serves, every member has applied everything committed, and nothing is
    /// left of dropped tables or of copies that are not wanted any more.
    fn is_at_rest(&self) -> bool {
        let configurations = self.configurations();
        !configurations.is_empty()
            && self.left_over().is_none()
            && configurations
                .iter()
                .all(|configuration| self.is_settled(configuration))
    }

    /// Storage or a replica that belongs to no configuration: of a table that was dropped, or of a former member.
    fn left_over(&self) -> Option<(CoreAddress, PartitionId)> {
        let is_wanted = |core: CoreAddress, partition: PartitionId| {
            if self.meta.left.contains(&partition.table) {
                return true;
            }
            let configuration = self.configuration(partition);
            configuration.is_some_and(|it| it.members().any(|member| member.address == core))
        };
        let mut cores = self.nodes.iter().flat_map(|node| &node.cores);
        cores.find_map(|core| {
            let stored = core.engine.replicas().map(|(partition, _)| partition);
            let held = core.shard.iter().flat_map(|shard| shard.replicas());
            let mut all = stored.chain(held.map(Replica::partition));
            let found = all.find(|partition| !is_wanted(core.address, *partition))?;
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
        let committed = primary.committed();
        let has_all = |address: CoreAddress| {
            applied(self.core(address), partition).map(|it| it.decree) == Some(committed)
        };
        let count = configuration.members().count();
        count == usize::from(configuration.replica_count)
            && primary.health() == Health::Serving
            && primary.prepared() == committed
            && configuration
                .members()
                .all(|member| has_all(member.address))
    }

    /// Why it is not, for the failure message.
    fn unrest(&self) -> String {
        let configurations = self.configurations();
        let unsettled = configurations
            .iter()
            .filter(|configuration| !self.is_settled(configuration));
        let lines = unsettled.map(|configuration| self.unsettled(configuration));
        let left_over = self.left_over().map(|(core, partition)| {
            format!("{core} still holds {partition}, where it does not belong")
        });
        let meta = self.meta.is_lost.then(|| "meta is lost".to_owned());
        let lines = lines.chain(left_over).chain(meta);
        lines.collect::<Vec<_>>().join("\n")
    }

    fn unsettled(&self, configuration: &Configuration) -> String {
        let partition = configuration.partition;
        let cores = self.nodes.iter().flat_map(|node| &node.cores);
        let copies = cores.filter_map(|core| {
            let replica = core.shard.as_ref()?.replica(partition)?;
            let stored = applied(core, partition).map(|it| it.decree.0);
            Some(format!(
                "\n    {} {:?} {:?} incarnation {} ballot {} committed {} prepared {} applied {stored:?} {:?}",
                core.address,
                replica.role(),
                replica.health(),
                replica.incarnation(),
                replica.ballot(),
                replica.committed(),
                replica.prepared(),
                replica.reason()
            ))
        });
        let members: Vec<String> = configuration
            .members()
            .map(|member| format!("{} incarnation {}", member.address, member.incarnation))
            .collect();
        format!(
            "{partition} ballot {}: [{}]{}",
            configuration.ballot,
            members.join(", "),
            copies.collect::<String>()
        )
    }

    /// All members of a partition hold the same rows, byte for byte.
    fn compare_replicas(&self) -> Result<(), Violation> {
        for configuration in self.configurations() {
            let partition = configuration.partition;
            let rows = |address: CoreAddress| self.core(address).engine.stored(partition);
            let Some(primary) = configuration.primary else {
                continue;
            };
            for secondary in &configuration.secondaries {
                if !rows(primary.address).eq(rows(secondary.address)) {
                    return Err(Violation::invariant(format!(
                        "{partition}: {} and {} hold different rows at rest",
                        primary.address, secondary.address
                    )));
                }
            }
        }
        Ok(())
    }

    /// A last read of every row, as one more client's.
    fn read_everything(&mut self) -> Result<(), Violation> {
        let keys = self.history.keys().into_iter();
        for key in keys.chain(self.history.ordered_keys()) {
            let partition = partition_of(key);
            let Some(configuration) = self.configuration(partition) else {
                continue;
            };
            let Some(primary) = configuration.primary else {
                continue;
            };
            let engine = &self.core(primary.address).engine;
            let row = engine
                .get(partition, &raw_key(key), 1, Tier::Full)
                .map_err(|error| Violation::invariant(error.to_string()))?;
            let begun = self.history.begin_read(self.now);
            self.end_read(key, begun, row.map(|row| row.data));
        }
        Ok(())
    }
}

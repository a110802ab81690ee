//! What meta has assigned to a simulated node, and how its cores hear of it, as the link to meta of a node does it.

use crate::history::Violation;
use crate::world::World;
use pegasus_meta::state::{Assignment, HandOver, ReplicaKey, Sync, TableInfo};
use pegasus_replication::config::{Configuration, Member};
use pegasus_replication::event::Event;
use pegasus_replication::ids::{CoreAddress, PartitionId, TableId};
use std::collections::{BTreeMap, BTreeSet};

/// Everything meta has pushed in this life of a node.
#[derive(Debug, Default)]
pub(crate) struct Known {
    configurations: BTreeMap<PartitionId, Configuration>,
    /// Learners of partitions led from here, or learning here, with the configuration they came with.
    learners: BTreeMap<PartitionId, (Configuration, Member)>,
    /// Tables; for rebuilding meta only.
    pub(crate) tables: BTreeMap<TableId, TableInfo>,
}

impl World {
    /// Orders to delete first, then configurations, learners, orders to hand over.
    pub(crate) fn take_assignment(&mut self, index: usize, sync: Sync) -> Result<(), Violation> {
        self.nodes[index].digest = sync.digest;
        if sync.full {
            self.nodes[index].known.tables.clear();
        }
        let tables = sync.tables.into_iter().map(|table| (table.table, table));
        self.nodes[index].known.tables.extend(tables);
        for key in sync.drops {
            self.take_drop(index, key)?;
        }
        if sync.full {
            let named: BTreeSet<PartitionId> =
                sync.configurations.iter().map(|it| it.partition).collect();
            let known = &mut self.nodes[index].known.configurations;
            known.retain(|partition, _| named.contains(partition));
        }
        for configuration in sync.configurations {
            self.take_configuration(index, configuration)?;
        }
        if sync.full {
            self.withdraw_all_but(index, &sync.assignments)?;
        }
        for assignment in sync.assignments {
            let Assignment {
                configuration,
                learner,
                is_fresh,
            } = assignment;
            self.take_learner(index, configuration, learner, is_fresh)?;
        }
        for order in sync.handovers {
            self.take_handover(index, order)?;
        }
        Ok(())
    }

    fn take_drop(&mut self, index: usize, key: ReplicaKey) -> Result<(), Violation> {
        let cores = self.nodes[index].cores.iter();
        let cores: Vec<CoreAddress> = cores.map(|core| core.address).collect();
        for core in cores {
            let (partition, incarnation) = (key.partition, key.incarnation);
            let dropped = Event::Dropped {
                partition,
                incarnation,
            };
            self.core_event(core, dropped)?;
        }
        Ok(())
    }

    fn take_configuration(
        &mut self,
        index: usize,
        configuration: Configuration,
    ) -> Result<(), Violation> {
        let node = &mut self.nodes[index];
        let (id, known) = (node.id, &mut node.known.configurations);
        let before = known.get(&configuration.partition).cloned();
        if before
            .as_ref()
            .is_some_and(|before| before.ballot > configuration.ballot)
        {
            return Err(Violation::invariant(format!(
                "meta tells node {id} of ballot {} of {} after a newer one",
                configuration.ballot, configuration.partition
            )));
        }
        known.insert(configuration.partition, configuration.clone());
        let remembered = &mut self.nodes[index].remembered;
        remembered.insert(configuration.partition, configuration.clone());
        let concerned: BTreeSet<CoreAddress> = before
            .iter()
            .chain([&configuration])
            .filter_map(|known| known.member_on(id))
            .map(|member| member.address)
            .collect();
        for core in concerned {
            let configuration = configuration.clone();
            self.core_event(core, Event::Configured { configuration })?;
        }
        Ok(())
    }

    /// A full push names all learners that concern this node.
    fn withdraw_all_but(&mut self, index: usize, named: &[Assignment]) -> Result<(), Violation> {
        let known = &self.nodes[index].known;
        let is_named = |partition: &PartitionId| {
            named
                .iter()
                .any(|it| it.configuration.partition == *partition)
        };
        let gone = known.learners.iter().filter(|(id, _)| !is_named(id));
        let gone: Vec<Configuration> = gone
            .map(|(id, (came_with, _))| {
                let newest = known.configurations.get(id);
                newest.unwrap_or(came_with).clone()
            })
            .collect();
        for configuration in gone {
            self.take_learner(index, configuration, None, false)?;
        }
        Ok(())
    }

    fn take_learner(
        &mut self,
        index: usize,
        configuration: Configuration,
        learner: Option<Member>,
        is_fresh: bool,
    ) -> Result<(), Violation> {
        let partition = configuration.partition;
        let node = &mut self.nodes[index];
        let learners = &mut node.known.learners;
        let before = match learner {
            Some(member) => learners.insert(partition, (configuration.clone(), member)),
            None => learners.remove(&partition),
        };
        let before = before.map(|(_, member)| member);
        let concerned = configuration.primary.iter().chain(&before).chain(&learner);
        let cores: BTreeSet<CoreAddress> = concerned
            .map(|member| member.address)
            .filter(|address| address.node == node.id)
            .collect();
        for core in cores {
            let configuration = configuration.clone();
            let assigned = Event::LearnerAssigned {
                configuration,
                learner,
                is_fresh,
            };
            self.core_event(core, assigned)?;
        }
        Ok(())
    }

    fn take_handover(&mut self, index: usize, order: HandOver) -> Result<(), Violation> {
        let node = &self.nodes[index];
        let configuration = node.known.configurations.get(&order.partition);
        let primary = configuration.and_then(|configuration| configuration.primary);
        let Some(primary) = primary.filter(|member| member.address.node == node.id) else {
            return Ok(());
        };
        let told = Event::HandOver {
            partition: order.partition,
            ballot: order.ballot,
            to: order.to,
        };
        self.core_event(primary.address, told)
    }
}

//! Tables are made and dropped.

use super::command::{Answer, CreateTable, Refusal};
use super::report::UNREPORTED;
use super::sync::{drops_of, table_info};
use super::table::{
    PARTITIONS_MAX, Partition, REPLICA_COUNT_MAX, TABLES_MAX, Table, may_count_partitions,
};
use super::{Change, State, Work, may_name};
use crate::place::{self, Load, Request};
use pegasus_replication::config::Member;
use pegasus_replication::ids::{
    Ballot, CoreAddress, CoreId, NodeId, PartitionId, ReplicaIncarnation, TableId,
};
use std::collections::{BTreeMap, BTreeSet};

impl State {
    pub(super) fn handle_create(
        &mut self,
        request: CreateTable,
        work: &mut Work,
    ) -> Result<Answer, Refusal> {
        self.may_create(&request)?;
        let open: BTreeSet<NodeId> = self.open_nodes().collect();
        let replicas = usize::from(request.replica_count).min(open.len());
        let mut loads = self.loads();
        loads.retain(|address, _| open.contains(&address.node));
        let placement = place::place(&Request {
            partition_count: request.partition_count,
            replicas,
            cores: &loads,
        });
        let table = self.new_table(request, &placement)?;
        assert!(
            table.fault().is_none(),
            "placement made a table with a fault: {:?}",
            table.fault()
        );
        let (id, degraded) = (table.id, table.is_degraded());
        let indices = 0..table.partition_count;
        self.creating
            .extend(indices.map(|index| PartitionId { table: id, index }));
        self.change(Change::TableCreated(table), work);
        self.tell_table(id, work);
        Ok(Answer::TableCreated {
            table: id,
            degraded,
        })
    }

    fn may_create(&self, request: &CreateTable) -> Result<(), Refusal> {
        let alive = self.open_nodes().count();
        let degraded = alive < usize::from(request.replica_count);
        let live = self.durable.names().len();
        let partitions: u64 = self
            .durable
            .names()
            .values()
            .filter_map(|id| self.durable.tables().get(id))
            .map(|it| u64::from(it.partition_count))
            .sum();
        match request {
            _ if !may_name(&request.name) => {
                Err(Refusal::BadName(request.name.chars().take(256).collect()))
            }
            _ if !may_count_partitions(request.partition_count) => {
                Err(Refusal::BadPartitionCount(request.partition_count))
            }
            _ if !(1..=REPLICA_COUNT_MAX).contains(&request.replica_count) => {
                Err(Refusal::BadReplicaCount(request.replica_count))
            }
            _ if self.durable.table_named(&request.name).is_some() => {
                Err(Refusal::TableExists(request.name.clone()))
            }
            _ if live >= TABLES_MAX => Err(Refusal::TooManyTables),
            _ if partitions + u64::from(request.partition_count) > PARTITIONS_MAX => {
                Err(Refusal::TooManyPartitions(PARTITIONS_MAX))
            }
            _ if alive == 0 => Err(Refusal::NoNodes),
            _ if degraded && !request.allow_degraded => Err(Refusal::NotEnoughNodes {
                replica_count: request.replica_count,
                alive,
            }),
            _ => Ok(()),
        }
    }

    /// Gives numbers to a placement.
    fn new_table(
        &self,
        request: CreateTable,
        placement: &[Vec<CoreAddress>],
    ) -> Result<Table, Refusal> {
        let counters = self.durable.counters();
        let replicas: u64 = placement.iter().map(|members| members.len() as u64).sum();
        if counters.next_table == u32::MAX
            || counters.next_incarnation.checked_add(replicas).is_none()
        {
            return Err(Refusal::NumbersExhausted);
        }
        let ballot = Ballot::new(self.durable.cluster().epoch, 1);
        let mut incarnations = (counters.next_incarnation..).map(ReplicaIncarnation);
        let partitions = placement
            .iter()
            .map(|addresses| new_partition(ballot, addresses, &mut incarnations))
            .collect();
        Ok(Table {
            id: TableId(counters.next_table),
            name: request.name,
            replica_count: request.replica_count,
            min_replicas: Table::default_min_replicas(request.replica_count),
            created_ms: request.now_ms,
            dropped_ms: None,
            partition_count: request.partition_count,
            partitions,
        })
    }

    /// Tells every node of a new table, and the members of their replicas.
    fn tell_table(&self, id: TableId, work: &mut Work) {
        let Some(table) = self.durable.tables().get(&id) else {
            return;
        };
        for node in self.listening() {
            work.pushes.to(node).tables.push(table_info(table));
        }
        let configurations =
            (0..table.partition_count).filter_map(|index| table.configuration(index));
        configurations.for_each(|configuration| work.pushes.configuration(&configuration));
    }

    pub(super) fn handle_drop(
        &mut self,
        name: &str,
        now_ms: u64,
        work: &mut Work,
    ) -> Result<Answer, Refusal> {
        let unknown = || Refusal::UnknownTable(name.chars().take(256).collect());
        let table = self.durable.table_named(name).ok_or_else(unknown)?.id;
        self.change(
            Change::TableDropped {
                table,
                at_ms: now_ms,
            },
            work,
        );
        self.creating.retain(|partition| partition.table != table);
        self.ailing.retain(|partition| partition.table != table);
        let Some(dropped) = self.durable.tables().get(&table) else {
            return Err(unknown());
        };
        for node in self.live.keys() {
            work.pushes.to(*node).tables.push(table_info(dropped));
        }
        for (node, key) in drops_of(dropped) {
            work.pushes.drop_replica(node, key);
            // Until the node says that it is gone it counts as there, also if it was never reported.
            if let Some(live) = self.live.get_mut(&node) {
                live.replicas.entry(key).or_insert(UNREPORTED);
            }
        }
        Ok(Answer::TableDropped { table })
    }

    /// Nodes that were heard of lately.
    pub(super) fn alive_nodes(&self) -> impl Iterator<Item = NodeId> {
        self.live
            .iter()
            .filter(|(_, live)| live.alive)
            .map(|(node, _)| *node)
    }

    /// What each core of each node carries, over all tables that are not dropped.
    #[must_use]
    pub fn loads(&self) -> BTreeMap<CoreAddress, Load> {
        let mut loads: BTreeMap<CoreAddress, Load> = self
            .durable
            .nodes()
            .values()
            .flat_map(cores_of)
            .map(|address| (address, Load::default()))
            .collect();
        let live = self
            .durable
            .tables()
            .values()
            .filter(|table| !table.is_dropped());
        for partition in live.flat_map(|table| &table.partitions) {
            for member in partition.holders() {
                loads.entry(member.address).or_default().replicas += 1;
            }
            if let Some(primary) = partition.primary {
                loads.entry(primary.address).or_default().primaries += 1;
            }
        }
        loads
    }
}

fn new_partition(
    ballot: Ballot,
    addresses: &[CoreAddress],
    incarnations: &mut impl Iterator<Item = ReplicaIncarnation>,
) -> Partition {
    let members = addresses
        .iter()
        .zip(incarnations)
        .map(|(&address, incarnation)| Member {
            address,
            incarnation,
        });
    Partition::creating(ballot, members)
}

fn cores_of(node: &super::Node) -> impl Iterator<Item = CoreAddress> {
    let id = node.id;
    (0u16..).zip(&node.cores).map(move |(core, _)| CoreAddress {
        node: id,
        core: CoreId(core),
    })
}

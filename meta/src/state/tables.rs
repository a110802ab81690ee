//! Tables are made.

use super::command::{Answer, CreateTable, Refusal};
use super::sync::table_info;
use super::table::{Partition, REPLICA_COUNT_MAX, Table, may_count_partitions};
use super::{Change, Level, State, Work, envs, may_name};
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
        if let Some(table) = self.same_table(&request) {
            return Ok(Answer::TableCreated {
                table: table.id,
                degraded: table.is_degraded(),
            });
        }
        self.may_create(&request)?;
        let envs = request.envs.clone();
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
        if !envs.is_empty() {
            self.change(Change::TableEnvs { table: id, envs }, work);
        }
        self.tell_table(id, work);
        Ok(Answer::TableCreated {
            table: id,
            degraded,
        })
    }

    /// The table that is there already, if it is just what is asked for and that is good enough.
    fn same_table(&self, request: &CreateTable) -> Option<&Table> {
        let table = self.durable.table_named(&request.name)?;
        let is_same = request.may_exist
            && table.partition_count == request.partition_count
            && table.replica_count == request.replica_count
            && table.envs == request.envs;
        is_same.then_some(table)
    }

    pub(super) fn may_create(&self, request: &CreateTable) -> Result<(), Refusal> {
        let alive = self.open_nodes().count();
        let degraded = alive < usize::from(request.replica_count);
        let level = self.durable.level();
        if level <= Level::Freezed {
            return Err(Refusal::Frozen(level));
        }
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
            _ if self.durable.table_named(&request.name).is_some() => Err(if request.may_exist {
                Refusal::TableDiffers(request.name.clone())
            } else {
                Refusal::TableExists(request.name.clone())
            }),
            _ if alive == 0 => Err(Refusal::NoNodes),
            _ if degraded && !request.allow_degraded => Err(Refusal::NotEnoughNodes {
                replica_count: request.replica_count,
                alive,
            }),
            _ => {
                envs::check_at_creation(&request.envs)?;
                self.expect_room_for_envs(None, &request.envs)?;
                self.expect_room(request.partition_count)
            }
        }
    }

    /// Gives numbers to a placement.
    pub(super) fn new_table(
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
            kept_until_ms: None,
            envs: BTreeMap::new(),
            partition_count: request.partition_count,
            partitions,
        })
    }

    /// Tells every node of a new table, and the members of their replicas.
    pub(super) fn tell_table(&self, id: TableId, work: &mut Work) {
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

//! Which tables there are: from what nodes were told, or from the operator.

use super::{Case, Plan, RecoverError, Undecided};
use crate::state::{Change, REPLICA_COUNT_MAX, Table, TableInfo, may_count_partitions, may_name};
use pegasus_replication::ids::{PartitionId, TableId};
use std::collections::{BTreeMap, BTreeSet};

/// A table as an operator names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedTable {
    pub id: TableId,
    pub name: String,
    /// A power of two from 2 to 65,536: another one than before would hide rows.
    pub partition_count: u32,
    pub replica_count: u8,
    /// Settings by key, as far as nodes were told.
    pub envs: BTreeMap<String, String>,
}

impl Case {
    /// Every table of which there is a trace, and that is not to be left, by number.
    pub(super) fn tables(&self) -> Vec<Result<NamedTable, Undecided>> {
        let mut told: BTreeMap<TableId, Vec<&TableInfo>> = BTreeMap::new();
        for info in self.witnesses.values().flat_map(|it| &it.tables) {
            told.entry(info.table).or_default().push(info);
        }
        let seen = self.statuses().map(|(_, key, _)| key.partition.table);
        let named = self.tables.iter().map(|it| it.id);
        let ids: BTreeSet<TableId> = seen.chain(named).chain(told.keys().copied()).collect();
        let wanted = ids.into_iter().filter(|id| !self.leave.contains(id));
        let found = wanted.filter_map(|id| {
            let told = told.get(&id).map_or(&[][..], Vec::as_slice);
            self.table(id, told).transpose()
        });
        let mut names = BTreeSet::new();
        found
            .map(|found| {
                let table = found?;
                let reason = format!("another table is called {:?} too", table.name);
                if names.insert(table.name.clone()) {
                    Ok(table)
                } else {
                    Err(Undecided::Table {
                        table: table.id,
                        reason,
                    })
                }
            })
            .collect()
    }

    /// `None`: it was dropped.
    fn table(&self, id: TableId, told: &[&TableInfo]) -> Result<Option<NamedTable>, Undecided> {
        let undecided = |reason: &str| Undecided::Table {
            table: id,
            reason: reason.to_owned(),
        };
        let named = self.tables.iter().find(|it| it.id == id).cloned();
        let table = match (named, told) {
            (Some(named), _) => named,
            (None, []) => {
                return Err(undecided(
                    "no node knows its name and its number of partitions; say --table ID=NAME:PARTITIONS:REPLICAS, or --leave-table ID",
                ));
            }
            (None, told) if told.iter().any(|it| it.dropped) => return Ok(None),
            (None, [first, ..]) => {
                let is_same = |it: &&TableInfo| {
                    (&it.name, it.partition_count) == (&first.name, first.partition_count)
                };
                if !told.iter().all(is_same) {
                    return Err(undecided(
                        "nodes know it by different names or sizes; say --table",
                    ));
                }
                NamedTable {
                    id,
                    name: first.name.clone(),
                    partition_count: first.partition_count,
                    replica_count: self.replica_count(id, told),
                    envs: first.envs.clone(),
                }
            }
        };
        let fits = may_name(&table.name)
            && may_count_partitions(table.partition_count)
            && (1..=REPLICA_COUNT_MAX).contains(&table.replica_count);
        if !fits {
            return Err(undecided(
                "its name, number of partitions or number of replicas is not possible or not known; say --table",
            ));
        }
        let is_beyond = |index: u32| index >= table.partition_count;
        if self
            .statuses()
            .any(|(_, key, _)| key.partition.table == id && is_beyond(key.partition.index))
        {
            return Err(undecided(
                "it has copies of more partitions than it is said to have",
            ));
        }
        Ok(Some(table))
    }

    /// As nodes were told, or as the newest configuration says; 0 if nobody knows.
    fn replica_count(&self, id: TableId, told: &[&TableInfo]) -> u8 {
        let told = told
            .iter()
            .map(|it| it.replica_count)
            .find(|count| *count > 0);
        let configurations = self
            .statuses()
            .filter(|(_, key, _)| key.partition.table == id);
        let known = configurations.filter_map(|(_, _, status)| {
            let configuration = status.configuration.as_ref()?;
            Some((configuration.ballot, configuration.replica_count))
        });
        told.or_else(|| known.max().map(|(_, count)| count))
            .unwrap_or(0)
    }

    /// Adds a table to the plan if all its partitions are decided, else what is missing.
    pub(super) fn decide_table(
        &self,
        table: &NamedTable,
        plan: &mut Plan,
    ) -> Result<(), RecoverError> {
        plan.partitions += u64::from(table.partition_count);
        let mut partitions = Vec::new();
        let mut next = plan.durable.counters().next_incarnation;
        for index in 0..table.partition_count {
            let id = PartitionId {
                table: table.id,
                index,
            };
            match self.decide(id, table, plan.durable.cluster().epoch, &mut next) {
                Ok(partition) => partitions.push(partition),
                Err(reason) => plan.undecided.push(Undecided::Partition {
                    partition: id,
                    reason,
                }),
            }
        }
        if u32::try_from(partitions.len()) != Ok(table.partition_count) {
            return Ok(());
        }
        let change = Change::TableCreated(Table {
            id: table.id,
            name: table.name.clone(),
            replica_count: table.replica_count,
            min_replicas: Table::default_min_replicas(table.replica_count),
            created_ms: self.now_ms,
            dropped_ms: None,
            kept_until_ms: None,
            envs: BTreeMap::new(),
            partition_count: table.partition_count,
            partitions,
        });
        plan.durable.apply(&change)?;
        let envs = Change::TableEnvs {
            table: table.id,
            envs: table.envs.clone(),
        };
        Ok(plan.durable.apply(&envs)?)
    }
}

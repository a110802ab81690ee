//! Which tables there are: from what nodes were told, or from the operator.

use super::{Case, Plan, RecoverError, Undecided, base};
use crate::state::{
    Change, KEEP_SECONDS, REPLICA_COUNT_MAX, Table, TableInfo, may_count_partitions, may_name,
};
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

/// A table that there was.
#[derive(Debug)]
pub(super) struct FoundTable {
    named: NamedTable,
    /// Dropped, and to be recalled until then, in Unix milliseconds.
    kept_until_ms: Option<u64>,
}

impl Case {
    /// Every table of which there is a trace, and that is not to be left, by number.
    pub(super) fn tables(&self) -> Vec<Result<FoundTable, Undecided>> {
        let mut told: BTreeMap<TableId, Vec<&TableInfo>> = BTreeMap::new();
        for info in self.witnesses.values().flat_map(|it| &it.tables) {
            told.entry(info.table).or_default().push(info);
        }
        let seen = self.statuses().map(|(_, key, _)| key.partition.table);
        let named = self.tables.iter().map(|it| it.id);
        let ids: BTreeSet<TableId> = seen
            .chain(named)
            .chain(told.keys().copied())
            .chain(self.ids_of_base())
            .collect();
        let wanted = ids.into_iter().filter(|id| !self.leave.contains(id));
        let found = wanted.filter_map(|id| {
            let told = told.get(&id).map_or(&[][..], Vec::as_slice);
            self.table(id, told).transpose()
        });
        let mut names = BTreeSet::new();
        found
            .map(|found| {
                let table = found?;
                let NamedTable { id, name, .. } = &table.named;
                let reason = format!("another table is called {name:?} too");
                if table.kept_until_ms.is_some() || names.insert(name.clone()) {
                    Ok(table)
                } else {
                    Err(Undecided::Table { table: *id, reason })
                }
            })
            .collect()
    }

    /// `None`: it was dropped.
    fn table(&self, id: TableId, told: &[&TableInfo]) -> Result<Option<FoundTable>, Undecided> {
        let undecided = |reason: &str| Undecided::Table {
            table: id,
            reason: reason.to_owned(),
        };
        let named = self.tables.iter().find(|it| it.id == id).cloned();
        let mut kept_until_ms = None;
        let table = match (named, told) {
            (Some(named), _) => named,
            (None, []) if self.is_gone_in_base(id) => return Ok(None),
            (None, []) if self.table_of_base(id).is_some() => {
                let Some((named, until_ms)) = self.forgotten(id) else {
                    return Err(undecided(
                        "only the base knows it, and no node has a copy: it was dropped since, or its nodes have not reported; --leave-table leaves it",
                    ));
                };
                kept_until_ms = Some(until_ms);
                named
            }
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
        Ok(Some(FoundTable {
            named: table,
            kept_until_ms,
        }))
    }

    /// A table of the base that no node knows any more and of which there are copies: nodes forget the name of what is dropped.
    /// It can be recalled for as long as a table that is dropped now, and nothing of it is deleted before.
    fn forgotten(&self, id: TableId) -> Option<(NamedTable, u64)> {
        let table = self.table_of_base(id)?;
        let has_copy = self.statuses().any(|(_, key, _)| key.partition.table == id);
        let until_ms = self.now_ms.saturating_add(KEEP_SECONDS * 1_000);
        let until_ms = until_ms.max(table.kept_until_ms.unwrap_or(0));
        has_copy.then(|| (base::named(table), until_ms))
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
        found: &FoundTable,
        plan: &mut Plan,
    ) -> Result<(), RecoverError> {
        let table = &found.named;
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
            created_ms: self
                .table_of_base(table.id)
                .map_or(self.now_ms, |it| it.created_ms),
            dropped_ms: found.kept_until_ms.map(|_| self.now_ms),
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
        plan.durable.apply(&envs)?;
        if let Some(until_ms) = found.kept_until_ms {
            let (table, at_ms) = (table.id, self.now_ms);
            plan.durable.apply(&Change::TableKept {
                table,
                at_ms,
                until_ms,
            })?;
            let name = &found.named.name;
            plan.warnings.push(format!(
                "table {table} {name}: no node knows it any more, so that it counts as dropped; `pegasus table recall {table}` brings it back, within 7 days"
            ));
        }
        Ok(())
    }
}

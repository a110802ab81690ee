//! Tables that are made from backups: each partition begins with one member, which makes its replica from the backup; then
//! the table heals like any other.

use super::book::{BackupChange, Restore};
use super::progress::{ATTEMPTS_MAX, RestoreWork, rest_ms};
use super::words::{BackupRefusal, ProgressState, ReplicaRestore, RestoreOrder, RestoreTable};
use crate::place::{self, Request};
use crate::state::command::{Answer, CreateTable, Refusal};
use crate::state::heal::key_of;
use crate::state::report::bounded_reason;
use crate::state::{Change, State, Work};
use pegasus_replication::config::{Configuration, Stage};
use pegasus_replication::ids::{NodeId, PartitionId, TableId};
use std::collections::BTreeSet;

/// For so long after a restore what is missing gets replicas without the usual delay, in milliseconds: no copy can come back.
const HURRY_MS: u64 = 3_600_000;

impl State {
    pub(super) fn handle_restore(
        &mut self,
        restore: RestoreTable,
        work: &mut Work,
    ) -> Result<Answer, Refusal> {
        let RestoreTable {
            name,
            partition_count,
            replica_count,
            allow_degraded,
            envs,
            source,
            skips_bad,
        } = restore;
        if let Some(fault) = source.site.fault() {
            return Err(BackupRefusal::BadSite(fault).into());
        }
        let request = CreateTable {
            name,
            partition_count,
            replica_count,
            allow_degraded,
            may_exist: false,
            envs,
            now_ms: self.now_ms,
        };
        self.may_create(&request)?;
        let envs = request.envs.clone();
        let open: BTreeSet<NodeId> = self.open_nodes().collect();
        let mut loads = self.loads();
        loads.retain(|address, _| open.contains(&address.node));
        let placement = place::place(&Request {
            partition_count,
            replicas: 1,
            cores: &loads,
        });
        let table = self.new_table(request, &placement)?;
        let (id, degraded) = (table.id, table.is_degraded());
        let indices = 0..table.partition_count;
        self.creating
            .extend(indices.map(|index| PartitionId { table: id, index }));
        tracing::info!(
            table = table.name,
            backup = source.backup,
            of = source.table_name,
            "a table is being restored"
        );
        self.change(Change::TableCreated(table), work);
        if !envs.is_empty() {
            self.change(Change::TableEnvs { table: id, envs }, work);
        }
        let restore = Restore {
            table: id,
            source,
            skips_bad,
            started_ms: self.now_ms,
            ended_ms: None,
            skipped: std::collections::BTreeMap::new(),
            failure: String::new(),
        };
        self.set_restore(restore, work);
        self.tell_table(id, work);
        Ok(Answer::TableCreated {
            table: id,
            degraded,
        })
    }

    fn set_restore(&mut self, restore: Restore, work: &mut Work) {
        let change = BackupChange::Restore(Box::new(restore));
        self.change(Change::Backup(change), work);
    }

    /// The restore that made a table, or makes it.
    #[must_use]
    pub fn restore_of(&self, table: TableId) -> Option<&Restore> {
        self.backups().restores().get(&table)
    }

    /// What comes with a configuration that is told to `node`: where its replica is to be made from. Nothing once it is made.
    pub(in crate::state) fn restore_order(
        &self,
        node: NodeId,
        configuration: &Configuration,
    ) -> Option<RestoreOrder> {
        if configuration.stage != Stage::Creating {
            return None;
        }
        let id = configuration.partition;
        let restore = self.restore_of(id.table)?;
        let mut members = configuration.members();
        let member = members.find(|it| it.address.node == node)?;
        let known = self.backup.restores.get(&id);
        Some(RestoreOrder {
            key: key_of(id, member),
            source: restore.source.clone(),
            is_skipped: restore.skipped.contains_key(&id.index),
            attempt: known.map_or(1, |known| known.attempt),
        })
    }

    /// What a node says of one partition that it restores.
    pub(super) fn take_restore(&mut self, node: NodeId, told: ReplicaRestore, work: &mut Work) {
        let id = told.key.partition;
        let Some(restore) = self.durable.backups().restores().get(&id.table) else {
            return;
        };
        let is_its = self.partition(id).is_some_and(|(_, it)| {
            let mut members = it.members();
            members.any(|it| it.address.node == node && key_of(id, it) == told.key)
        });
        let known = self.backup.restores.get(&id);
        let before = known.filter(|known| known.key == told.key);
        let is_late = before.is_some_and(|before| told.attempt < before.attempt);
        if !is_its || is_late || restore.skipped.contains_key(&id.index) {
            return;
        }
        let has_failed = told.state == ProgressState::Failed
            && before.is_none_or(|before| {
                before.state != ProgressState::Failed || before.attempt < told.attempt
            });
        let error = bounded_reason(told.error);
        let next = RestoreWork {
            key: told.key,
            state: told.state,
            attempt: told.attempt.max(1),
            bytes_total: told.bytes_total,
            bytes_done: told.bytes_done,
            error: error.clone(),
            retry_ms: if has_failed {
                self.now_ms.saturating_add(rest_ms(told.attempt))
            } else {
                before.map_or(0, |before| before.retry_ms)
            },
        };
        let restore = restore.clone();
        self.backup.restores.insert(id, next);
        if !has_failed {
            return;
        }
        tracing::warn!(partition = %id, %node, error, attempt = told.attempt, "a partition could not be restored");
        if told.is_permanent && restore.skips_bad {
            self.skip(id, restore, error, work);
        } else if told.is_permanent || told.attempt >= ATTEMPTS_MAX {
            self.fail_restore(id, restore, &error, node, work);
        }
    }

    /// Its backup is bad: the replica is made empty.
    fn skip(&mut self, id: PartitionId, mut restore: Restore, error: String, work: &mut Work) {
        restore.skipped.insert(id.index, error);
        self.set_restore(restore, work);
        self.tell_creating(id, work);
    }

    fn fail_restore(
        &mut self,
        id: PartitionId,
        mut restore: Restore,
        error: &str,
        node: NodeId,
        work: &mut Work,
    ) {
        if restore.failure.is_empty() {
            restore.failure = format!("partition {} on node {node}: {error}", id.index);
            self.set_restore(restore, work);
        }
    }

    fn tell_creating(&self, id: PartitionId, work: &mut Work) {
        let Some((table, partition)) = self.partition(id) else {
            return;
        };
        let nodes: Vec<NodeId> = partition.members().map(|it| it.address.node).collect();
        if let Some(configuration) = table.configuration(id.index) {
            work.pushes.configuration_to(nodes, &configuration);
        }
    }

    /// Tries again what has failed, and notes what has ended; has what was restored healed at once.
    pub(super) fn drive_restores(&mut self, work: &mut Work) {
        self.retry_restores(work);
        let restores = self.backups().restores().values();
        let looked_after: Vec<Restore> = restores
            .filter(|it| {
                let ended_ms = it.ended_ms.unwrap_or(u64::MAX);
                self.now_ms < ended_ms.saturating_add(HURRY_MS)
            })
            .cloned()
            .collect();
        for mut restore in looked_after {
            let Some(table) = self.durable.tables().get(&restore.table) else {
                continue;
            };
            if table.is_dropped() {
                continue;
            }
            if restore.ended_ms.is_none() && !table.is_creating() {
                tracing::info!(%table.id, name = table.name, "a table is restored");
                restore.ended_ms = Some(self.now_ms);
                restore.failure = String::new();
                let table = restore.table;
                self.backup.restores.retain(|id, _| id.table != table);
                self.set_restore(restore.clone(), work);
            }
            let of_table = self.ailing.iter().filter(|id| id.table == restore.table);
            let of_table: Vec<PartitionId> = of_table.copied().collect();
            self.heal.hurry.extend(of_table);
        }
    }

    fn retry_restores(&mut self, work: &mut Work) {
        let now_ms = self.now_ms;
        let is_due = |it: &RestoreWork| {
            it.state == ProgressState::Failed && it.retry_ms <= now_ms && it.attempt < ATTEMPTS_MAX
        };
        let due = self.backup.restores.iter().filter(|(_, it)| is_due(it));
        let due: Vec<PartitionId> = due.map(|(id, _)| *id).collect();
        for id in due {
            let restore = self.durable.backups().restores().get(&id.table);
            let is_over = restore.is_none_or(|it| !it.failure.is_empty());
            if is_over || self.partition(id).is_none() {
                self.backup.restores.remove(&id);
                continue;
            }
            if let Some(known) = self.backup.restores.get_mut(&id) {
                known.attempt += 1;
                known.state = ProgressState::Running;
            }
            self.tell_creating(id, work);
        }
    }
}

//! Backups begin, are carried out by nodes, and end.

use super::book::{BackupChange, Phase, Run};
use super::policies::TableRef;
use super::progress::{ATTEMPTS_MAX, PartitionWork, rest_ms};
use super::words::{BackupOrder, BackupRefusal, ProgressState, ReplicaBackup, Site, StartBackup};
use crate::state::command::{Answer, Refusal};
use crate::state::heal::key_of;
use crate::state::report::ReplicaKey;
use crate::state::table::{Partition, Table};
use crate::state::{Change, State, Work};
use pegasus_replication::config::{Member, Stage};
use pegasus_replication::ids::{NodeId, PartitionId};
use std::collections::BTreeMap;

/// Orders that one node works on at a time; it takes them one after the other.
const ORDERS_PER_NODE_MAX: usize = 64;
/// An order of which nothing was heard is given again after this long, in milliseconds.
const REPEAT_MS: u64 = 5_000;
/// A backup that comes no step further for this long has failed, in milliseconds.
const STALL_MS: u64 = 1_800_000;

impl State {
    pub(super) fn handle_backup_start(
        &mut self,
        start: &StartBackup,
        work: &mut Work,
    ) -> Result<Answer, Refusal> {
        let site = self.site(&start.target, &start.root)?;
        let table = self.table_meant(&start.table)?.id;
        let id = self.begin_run(table, &site, String::new(), start.bytes_per_second, work)?;
        Ok(Answer::BackupStarted { id })
    }

    /// A place that may be one. An empty root is the name of the cluster, as in Apache Pegasus' shipped configuration; one that
    /// ends in a slash has it after that.
    pub(super) fn site(&self, target: &str, root: &str) -> Result<Site, Refusal> {
        let cluster = &self.durable.cluster().name;
        let root = match root {
            _ if root.is_empty() || root.ends_with('/') => format!("{root}{cluster}"),
            _ => root.to_owned(),
        };
        let site = Site {
            target: target.to_owned(),
            root,
        };
        match site.fault() {
            Some(fault) => Err(BackupRefusal::BadSite(fault).into()),
            None => Ok(site),
        }
    }

    pub(super) fn table_meant(&self, table: &TableRef) -> Result<&Table, Refusal> {
        match table {
            TableRef::Name(name) => self.expect_table(name),
            TableRef::Id(id) => {
                let table = self.durable.tables().get(id).filter(|it| !it.is_dropped());
                table.ok_or_else(|| Refusal::UnknownTable(format!("#{id}")))
            }
        }
    }

    /// Records a new backup and gives the first orders.
    pub(super) fn begin_run(
        &mut self,
        table: pegasus_replication::ids::TableId,
        site: &Site,
        policy: String,
        bytes_per_second: u64,
        work: &mut Work,
    ) -> Result<u64, Refusal> {
        let Some(table) = self
            .durable
            .tables()
            .get(&table)
            .filter(|it| !it.is_dropped())
        else {
            return Err(Refusal::UnknownTable(format!("#{table}")));
        };
        if let Some(run) = self.backups().under_way(table.id) {
            let table = table.name.clone();
            return Err(BackupRefusal::IsRunning { table, id: run.id }.into());
        }
        if table.is_creating() {
            return Err(BackupRefusal::IsCreating(table.name.clone()).into());
        }
        let last = self.backups().runs().last_key_value();
        let after_last = last.map_or(1, |(id, _)| id.saturating_add(1));
        let id = self.now_ms.max(after_last);
        let base = self.backups().newest_complete(table.id, site);
        let run = Run {
            id,
            table: table.id,
            table_name: table.name.clone(),
            partition_count: table.partition_count,
            site: site.clone(),
            policy,
            base: base.map(|run| run.id),
            bytes_per_second,
            phase: Phase::Running,
            phase_ms: self.now_ms,
            message: String::new(),
            copies: BTreeMap::new(),
            copies_count: 0,
            bytes_total: 0,
            bytes_sent: 0,
        };
        tracing::info!(
            backup = id,
            table = table.name,
            target = site.target,
            root = site.root,
            base = run.base,
            "a backup begins"
        );
        self.change(Change::Backup(BackupChange::Run(Box::new(run))), work);
        self.order_partitions(id, work);
        Ok(id)
    }

    pub(super) fn handle_backup_cancel(
        &mut self,
        id: u64,
        work: &mut Work,
    ) -> Result<Answer, Refusal> {
        let phase = self.run_named(id)?.phase;
        if phase != Phase::Running {
            return Err(BackupRefusal::NotCancellable { id, phase }.into());
        }
        self.discard(
            id,
            Phase::DiscardingCancelled,
            "an operator has cancelled it",
            work,
        );
        Ok(Answer::Done)
    }

    pub(super) fn handle_backup_delete(
        &mut self,
        id: u64,
        work: &mut Work,
    ) -> Result<Answer, Refusal> {
        let run = self.run_named(id)?;
        match run.phase {
            Phase::Deleting => return Ok(Answer::Done),
            // Nothing of it is at the target.
            Phase::Failed | Phase::Cancelled => {
                self.change(Change::Backup(BackupChange::Forgotten { id }), work);
                return Ok(Answer::Done);
            }
            Phase::Complete => {}
            phase => return Err(BackupRefusal::NotDeletable { id, phase }.into()),
        }
        if let Some(by) = self.built_on(id) {
            return Err(BackupRefusal::IsBase { id, by }.into());
        }
        self.step(id, Phase::Deleting, String::new(), work);
        Ok(Answer::Done)
    }

    fn run_named(&self, id: u64) -> Result<&Run, Refusal> {
        let run = self.backups().runs().get(&id);
        run.ok_or_else(|| BackupRefusal::NoSuchBackup(id).into())
    }

    /// The running backup that builds on this one.
    pub(super) fn built_on(&self, id: u64) -> Option<u64> {
        let mut running = self.backups().runs().values();
        let by = running.find(|run| run.phase.is_under_way() && run.base == Some(id));
        by.map(|run| run.id)
    }

    pub(super) fn step(&mut self, id: u64, phase: Phase, message: String, work: &mut Work) {
        let at_ms = self.now_ms;
        tracing::info!(
            backup = id,
            phase = phase.name(),
            message,
            "a backup goes on"
        );
        let change = BackupChange::Phase {
            id,
            phase,
            at_ms,
            message,
        };
        self.change(Change::Backup(change), work);
        self.backup.chores.remove(&id);
        if phase.is_over() {
            self.backup.forget_run(id);
        }
    }

    /// Ends a running backup: whoever works on it is told to stop, and its files go.
    pub(super) fn discard(&mut self, id: u64, phase: Phase, message: &str, work: &mut Work) {
        let works = self.backup.works.range((id, 0)..=(id, u32::MAX));
        let orders: Vec<(NodeId, ReplicaKey)> =
            works.map(|(_, work)| (work.node, work.key)).collect();
        self.step(id, phase, message.to_owned(), work);
        for (node, key) in orders {
            self.push_order(id, node, key, true, work);
        }
        self.backup.works.retain(|(run, _), _| *run != id);
        self.backup.heard_ms.insert(id, self.now_ms);
    }

    /// A node works for a backup that is over.
    pub(super) fn cancel_on(&self, node: NodeId, told: &ReplicaBackup, work: &mut Work) {
        let order = BackupOrder {
            backup: told.backup,
            key: told.key,
            table_name: String::new(),
            site: Site {
                target: String::new(),
                root: String::new(),
            },
            base: None,
            bytes_per_second: 0,
            is_cancelled: true,
        };
        work.pushes.backup(node, order);
    }

    pub(super) fn finish_if_all_there(&mut self, id: u64, work: &mut Work) {
        let run = self.backups().runs().get(&id);
        let is_all = run.is_some_and(|run| {
            run.phase == Phase::Running && run.copies_count == run.partition_count
        });
        if is_all {
            self.step(id, Phase::Recording, String::new(), work);
        }
    }

    /// Goes on with what is running.
    pub(super) fn drive_runs(&mut self, work: &mut Work) {
        let running = self.backups().runs().values();
        let running = running.filter(|run| run.phase == Phase::Running);
        let running: Vec<u64> = running.map(|run| run.id).collect();
        for id in running {
            match self.fault_of_run(id) {
                Some(fault) => self.discard(id, Phase::DiscardingFailed, &fault, work),
                None => self.order_partitions(id, work),
            }
        }
    }

    /// Why a running backup cannot be finished.
    fn fault_of_run(&mut self, id: u64) -> Option<String> {
        let run = self.durable.backups().runs().get(&id)?;
        let table = self.durable.tables().get(&run.table);
        if table.is_none_or(Table::is_dropped) {
            return Some("the table was dropped".to_owned());
        }
        let works = self.backup.works.range((id, 0)..=(id, u32::MAX));
        let mut given_up = works.filter(|(_, work)| work.failures >= ATTEMPTS_MAX);
        if let Some(((_, index), work)) = given_up.next() {
            return Some(format!(
                "partition {index} on node {}: {}",
                work.node, work.error
            ));
        }
        let now_ms = self.now_ms;
        let moved_ms = self.backup.moved_ms.entry(id).or_insert(now_ms);
        let minutes = STALL_MS / 60_000;
        (now_ms.saturating_sub(*moved_ms) >= STALL_MS)
            .then(|| format!("nothing has moved for {minutes} minutes"))
    }

    /// Orders what is not there yet, as much at a time as nodes may work on, and again what was not heard of.
    fn order_partitions(&mut self, id: u64, work: &mut Work) {
        let Some(run) = self.durable.backups().runs().get(&id) else {
            return;
        };
        let table = run.table;
        let mut busy: BTreeMap<NodeId, usize> = BTreeMap::new();
        for it in self.backup.works.values() {
            *busy.entry(it.node).or_default() += 1;
        }
        let missing: Vec<u32> = (0..run.partition_count)
            .filter(|index| !run.copies.contains_key(index))
            .collect();
        for index in missing {
            let partition = PartitionId { table, index };
            if let Some((node, key, failures)) = self.due_order(id, partition, &busy) {
                let known = self.backup.works.get(&(id, index));
                if known.is_none_or(|known| known.node != node) {
                    *busy.entry(node).or_default() += 1;
                }
                let ordered = PartitionWork {
                    error: known.map(|it| it.error.clone()).unwrap_or_default(),
                    ..PartitionWork::ordered(key, node, self.now_ms, failures)
                };
                match known.filter(|known| known.node == node && known.key == key) {
                    // Asked again: what it has said holds until it says something else.
                    Some(same) if same.state == ProgressState::Running => {
                        let again = PartitionWork {
                            spoken_ms: self.now_ms,
                            ..same.clone()
                        };
                        self.backup.works.insert((id, index), again);
                    }
                    _ => _ = self.backup.works.insert((id, index), ordered),
                }
                self.push_order(id, node, key, false, work);
            }
        }
    }

    /// Whom to order now: whoever works on it as long as it may, else the primary. With the failures so far.
    fn due_order(
        &self,
        id: u64,
        partition: PartitionId,
        busy: &BTreeMap<NodeId, usize>,
    ) -> Option<(NodeId, ReplicaKey, u32)> {
        let (_, it) = self.partition(partition)?;
        let known = self.backup.works.get(&(id, partition.index));
        let failures = known.map_or(0, |known| known.failures);
        if let Some(known) = known {
            let silent_ms = self.now_ms.saturating_sub(known.spoken_ms);
            let is_failed = known.state != ProgressState::Running;
            let rests = is_failed && silent_ms < rest_ms(known.failures);
            if rests {
                return None;
            }
            let stays = !is_failed && self.may_go_on(partition, it, known);
            if stays {
                return (silent_ms >= REPEAT_MS).then_some((known.node, known.key, failures));
            }
        }
        let (node, key) = self.chosen(partition, it)?;
        let has_room = busy.get(&node).copied().unwrap_or(0) < ORDERS_PER_NODE_MAX;
        let is_same = known.is_some_and(|known| known.node == node);
        (has_room || is_same).then_some((node, key, failures))
    }

    /// Whoever has begun goes on while it is a member and alive, also when somebody else leads now.
    fn may_go_on(&self, id: PartitionId, partition: &Partition, known: &PartitionWork) -> bool {
        let is_it = |it: &Member| it.address.node == known.node && key_of(id, it) == known.key;
        self.is_alive(known.node) && partition.members().any(is_it)
    }

    /// The primary that serves.
    fn chosen(&self, id: PartitionId, partition: &Partition) -> Option<(NodeId, ReplicaKey)> {
        let primary = partition
            .primary
            .filter(|_| partition.stage == Stage::Active)?;
        let node = primary.address.node;
        (self.is_alive(node) && self.serves(id)).then(|| (node, key_of(id, &primary)))
    }

    fn push_order(
        &self,
        id: u64,
        node: NodeId,
        key: ReplicaKey,
        is_cancelled: bool,
        work: &mut Work,
    ) {
        let Some(run) = self.backups().runs().get(&id) else {
            return;
        };
        let order = BackupOrder {
            backup: id,
            key,
            table_name: run.table_name.clone(),
            site: run.site.clone(),
            base: run.base,
            bytes_per_second: run.bytes_per_second,
            is_cancelled,
        };
        work.pushes.backup(node, order);
    }
}

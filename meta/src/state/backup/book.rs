//! What survives of backups: the fold of [`BackupChange`]s.

use super::words::{RestoreSource, Site};
use super::{BACKUPS_KEPT_MAX, COPIES_KEPT_MAX};
use crate::state::change::may_name;
use crate::state::table::Table;
use pegasus_replication::ids::{NodeId, TableId};
use std::collections::BTreeMap;

/// Policies at most.
pub(super) const POLICIES_MAX: usize = 100;
/// Tables of one policy at most.
pub(super) const POLICY_TABLES_MAX: usize = 1_000;

/// How far a backup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Nodes bring their partitions to the target.
    Running,
    /// All are there; its metadata is being written.
    Recording,
    Complete,
    /// A partition could not be backed up; what is there is being deleted.
    DiscardingFailed,
    /// The same because it was cancelled.
    DiscardingCancelled,
    Failed,
    Cancelled,
    /// Complete until now, and being deleted.
    Deleting,
}

impl Phase {
    pub const ALL: [Self; 8] = [
        Self::Running,
        Self::Recording,
        Self::Complete,
        Self::DiscardingFailed,
        Self::DiscardingCancelled,
        Self::Failed,
        Self::Cancelled,
        Self::Deleting,
    ];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Recording => "being finished",
            Self::Complete => "complete",
            Self::DiscardingFailed => "failed, its files are being deleted",
            Self::DiscardingCancelled => "cancelled, its files are being deleted",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Deleting => "being deleted",
        }
    }

    /// Nothing will happen to it by itself.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Complete | Self::Failed | Self::Cancelled)
    }

    /// It keeps its table from being backed up again.
    #[must_use]
    pub const fn is_under_way(self) -> bool {
        matches!(self, Self::Running | Self::Recording)
    }

    const fn may_become(self, next: Self) -> bool {
        use Phase::{
            Cancelled, Complete, Deleting, DiscardingCancelled, DiscardingFailed, Failed,
            Recording, Running,
        };
        matches!(
            (self, next),
            (Running, Recording | DiscardingFailed | DiscardingCancelled)
                | (Recording, Complete | DiscardingFailed)
                | (Complete, Deleting)
                | (DiscardingFailed, Failed)
                | (DiscardingCancelled, Cancelled)
        )
    }
}

/// One backup of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Unix milliseconds of its start; no two have the same.
    pub id: u64,
    pub table: TableId,
    /// As it was called at the start.
    pub table_name: String,
    pub partition_count: u32,
    pub site: Site,
    /// That ordered it; empty: an operator.
    pub policy: String,
    /// The complete backup that it builds on.
    pub base: Option<u64>,
    /// Of each node; 0 = as it is configured.
    pub bytes_per_second: u64,
    pub phase: Phase,
    /// Unix milliseconds of the last step from phase to phase; its start before the first.
    pub phase_ms: u64,
    /// Why it failed, or where files of it are left; empty if there is nothing to say.
    pub message: String,
    /// Partitions that are at the target; once it has ended only of small tables.
    pub copies: BTreeMap<u32, PartitionCopy>,
    /// Sums over all copies, also over those that are not remembered.
    pub copies_count: u32,
    pub bytes_total: u64,
    pub bytes_sent: u64,
}

/// One partition of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionCopy {
    /// That made it.
    pub node: NodeId,
    /// Everything up to it is in the backup.
    pub decree: u64,
    /// Unix milliseconds of the node's clock.
    pub timestamp_ms: u64,
    /// At the target.
    pub bytes_total: u64,
    /// That left the node for it.
    pub bytes_sent: u64,
}

/// Backups by the clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub name: String,
    pub site: Site,
    /// Seconds.
    pub interval_s: u64,
    /// Minute of the day, UTC, at which the first one begins; `None`: as soon as it is made.
    pub start_minute: Option<u16>,
    /// Complete backups of each table that are kept; at least 1.
    pub keep_count: u32,
    /// Of each node; 0 = as it is configured.
    pub bytes_per_second: u64,
    pub is_enabled: bool,
    /// Unix milliseconds; intervals are counted from this day on.
    pub created_ms: u64,
    pub tables: BTreeMap<TableId, PolicyTable>,
}

/// What a policy has done for a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PolicyTable {
    /// Unix milliseconds of the last time that was due and has been served; 0: none.
    pub served_ms: u64,
    /// The last backup that was begun; 0: none.
    pub last_backup: u64,
}

/// A table that is being made from a backup, or was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restore {
    pub table: TableId,
    pub source: RestoreSource,
    pub skips_bad: bool,
    /// Unix milliseconds.
    pub started_ms: u64,
    /// All partitions serve; Unix milliseconds.
    pub ended_ms: Option<u64>,
    /// Partitions that came up empty because their backup is bad, and what is wrong with it.
    pub skipped: BTreeMap<u32, String>,
    /// Why it will not end; empty if it has or may yet.
    pub failure: String,
}

/// One durable step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupChange {
    /// A backup begins; in a snapshot, one as it is.
    Run(Box<Run>),
    /// These partitions are at the target, by ascending index.
    Copies {
        id: u64,
        copies: Vec<(u32, PartitionCopy)>,
    },
    Phase {
        id: u64,
        phase: Phase,
        at_ms: u64,
        message: String,
    },
    /// It was deleted, or is too old to be remembered.
    Forgotten {
        id: u64,
    },
    /// A policy is now this.
    Policy(Box<Policy>),
    PolicyRemoved {
        name: String,
    },
    /// A restore is now this.
    Restore(Box<Restore>),
}

/// Everything about backups that is durable.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Book {
    runs: BTreeMap<u64, Run>,
    policies: BTreeMap<String, Policy>,
    restores: BTreeMap<TableId, Restore>,
}

impl Book {
    pub(crate) const fn new() -> Self {
        Self {
            runs: BTreeMap::new(),
            policies: BTreeMap::new(),
            restores: BTreeMap::new(),
        }
    }

    /// Takes one step. On an error nothing has changed.
    pub(crate) fn apply(
        &mut self,
        change: &BackupChange,
        tables: &BTreeMap<TableId, Table>,
    ) -> Result<(), &'static str> {
        match change {
            BackupChange::Run(run) => self.on_run(run),
            BackupChange::Copies { id, copies } => self.on_copies(*id, copies),
            BackupChange::Phase {
                id,
                phase,
                at_ms,
                message,
            } => self.on_phase(*id, *phase, *at_ms, message),
            BackupChange::Forgotten { id } => match self.runs.remove(id) {
                Some(_) => Ok(()),
                None => Err("a backup that is not there is forgotten"),
            },
            BackupChange::Policy(policy) => self.on_policy(policy),
            BackupChange::PolicyRemoved { name } => match self.policies.remove(name) {
                Some(_) => Ok(()),
                None => Err("a policy that is not there is removed"),
            },
            BackupChange::Restore(restore) => self.on_restore(restore, tables),
        }
    }

    fn on_run(&mut self, run: &Run) -> Result<(), &'static str> {
        if let Some(fault) = run.fault() {
            return Err(fault);
        }
        if self.runs.contains_key(&run.id) {
            return Err("the number of a backup is taken");
        }
        self.runs.insert(run.id, run.clone());
        Ok(())
    }

    fn on_copies(&mut self, id: u64, copies: &[(u32, PartitionCopy)]) -> Result<(), &'static str> {
        let run = self
            .runs
            .get_mut(&id)
            .filter(|run| run.phase == Phase::Running)
            .ok_or("a copy is of no running backup")?;
        let is_new =
            |(index, _): &(u32, _)| *index < run.partition_count && !run.copies.contains_key(index);
        if !copies.is_sorted_by(|(a, _), (b, _)| a < b) || !copies.iter().all(is_new) {
            return Err("copies of a backup are not new ones in order");
        }
        for (index, copy) in copies {
            run.copies.insert(*index, *copy);
            run.copies_count += 1;
            run.bytes_total = run.bytes_total.saturating_add(copy.bytes_total);
            run.bytes_sent = run.bytes_sent.saturating_add(copy.bytes_sent);
        }
        Ok(())
    }

    fn on_phase(
        &mut self,
        id: u64,
        phase: Phase,
        at_ms: u64,
        message: &str,
    ) -> Result<(), &'static str> {
        let run = self.runs.get_mut(&id).ok_or("no such backup")?;
        if !run.phase.may_become(phase) {
            return Err("a backup takes a step that there is not");
        }
        if phase == Phase::Recording && run.copies_count != run.partition_count {
            return Err("a backup is finished before all its partitions are there");
        }
        run.phase = phase;
        run.phase_ms = at_ms;
        message.clone_into(&mut run.message);
        if phase.is_over() && run.partition_count > COPIES_KEPT_MAX {
            run.copies.clear();
        }
        Ok(())
    }

    fn on_policy(&mut self, policy: &Policy) -> Result<(), &'static str> {
        if let Some(fault) = policy.fault() {
            return Err(fault);
        }
        self.policies.insert(policy.name.clone(), policy.clone());
        Ok(())
    }

    fn on_restore(
        &mut self,
        restore: &Restore,
        tables: &BTreeMap<TableId, Table>,
    ) -> Result<(), &'static str> {
        let table = tables.get(&restore.table).ok_or("no such table")?;
        let has = |index: &u32| *index < table.partition_count;
        if restore.source.site.fault().is_some() || !restore.skipped.keys().all(has) {
            return Err("a restore that cannot be");
        }
        self.restores.insert(restore.table, restore.clone());
        Ok(())
    }

    /// The table is gone for good.
    pub(crate) fn forget_restore(&mut self, table: TableId) {
        self.restores.remove(&table);
    }

    /// The shortest list of changes with this fold; after the tables.
    pub(crate) fn snapshot(&self) -> impl Iterator<Item = BackupChange> {
        let runs = self.runs.values().cloned().map(Box::new);
        let policies = self.policies.values().cloned().map(Box::new);
        let restores = self.restores.values().cloned().map(Box::new);
        let changes = runs
            .map(BackupChange::Run)
            .chain(policies.map(BackupChange::Policy));
        changes.chain(restores.map(BackupChange::Restore))
    }

    /// By number, which is the time of their start.
    #[must_use]
    pub const fn runs(&self) -> &BTreeMap<u64, Run> {
        &self.runs
    }

    /// By name.
    #[must_use]
    pub const fn policies(&self) -> &BTreeMap<String, Policy> {
        &self.policies
    }

    /// By the table that is made.
    #[must_use]
    pub const fn restores(&self) -> &BTreeMap<TableId, Restore> {
        &self.restores
    }

    /// The backup of this table that is under way.
    #[must_use]
    pub fn under_way(&self, table: TableId) -> Option<&Run> {
        let of_table = |run: &&Run| run.table == table && run.phase.is_under_way();
        self.runs.values().find(of_table)
    }

    /// The newest complete backup of a table at a place: what the next one builds on.
    #[must_use]
    pub fn newest_complete(&self, table: TableId, site: &Site) -> Option<&Run> {
        let fits =
            |run: &&Run| run.table == table && run.site == *site && run.phase == Phase::Complete;
        self.runs.values().rev().find(fits)
    }

    /// The newest complete backup that a policy has made of a table.
    #[must_use]
    pub fn newest_of_policy(&self, policy: &str, table: TableId) -> Option<&Run> {
        let fits =
            |run: &&Run| run.table == table && run.policy == policy && run.phase == Phase::Complete;
        self.runs.values().rev().find(fits)
    }

    /// Those that are over and too many, the oldest first. Of each table and place the newest complete one stays, so that the next
    /// one need not begin anew.
    pub(super) fn too_old(&self) -> Vec<u64> {
        // What a policy keeps goes by its count: forgotten before that, its files would stay for ever.
        let is_kept =
            |run: &Run| run.phase == Phase::Complete && self.policies.contains_key(&run.policy);
        let over = self.runs.values();
        let over = over.filter(|run| run.phase.is_over() && !is_kept(run));
        let excess = over.clone().count().saturating_sub(BACKUPS_KEPT_MAX);
        let is_needed = |run: &Run| {
            let newest = self.newest_complete(run.table, &run.site);
            newest.is_some_and(|newest| newest.id == run.id)
        };
        let mut oldest = Vec::new();
        for run in over {
            if oldest.len() == excess {
                break;
            }
            if !is_needed(run) {
                oldest.push(run.id);
            }
        }
        oldest
    }
}

impl Run {
    /// What is wrong with it on its own, if anything.
    fn fault(&self) -> Option<&'static str> {
        let all = |index: &u32| *index < self.partition_count;
        match self {
            _ if self.id == 0 => Some("a backup has number 0"),
            _ if self.site.fault().is_some() => Some("a backup is nowhere"),
            _ if !may_name(&self.table_name) => Some("a backup is of a table without a name"),
            _ if self.partition_count == 0 => Some("a backup has no partitions"),
            _ if !self.copies.keys().all(all) => Some("a backup has a partition too many"),
            _ if self.copies_count > self.partition_count => Some("a backup has too many copies"),
            _ => None,
        }
    }
}

impl Policy {
    fn fault(&self) -> Option<&'static str> {
        match self {
            _ if !may_name(&self.name) => Some("a policy without a name"),
            _ if self.site.fault().is_some() => Some("a policy backs up to nowhere"),
            _ if self.interval_s == 0 => Some("a policy without an interval"),
            _ if self.start_minute.is_some_and(|it| it >= 1_440) => {
                Some("a policy begins at no time of the day")
            }
            _ if self.keep_count == 0 => Some("a policy keeps nothing"),
            _ if self.tables.len() > POLICY_TABLES_MAX => Some("a policy has too many tables"),
            _ => None,
        }
    }
}

//! Backups by the clock: when one is due, and how many are kept. Times of day are UTC.
//!
//! A time that is due and missed, because meta was down or the table was being backed up, is served once, late; not once for
//! each time that was missed.

use super::book::{BackupChange, POLICIES_MAX, POLICY_TABLES_MAX, Phase, Policy, PolicyTable};
use super::words::BackupRefusal;
use crate::state::change::may_name;
use crate::state::command::{Answer, Refusal};
use crate::state::{Change, State, Work};
use pegasus_replication::ids::TableId;
use std::collections::BTreeMap;

/// Seconds between two backups of a policy: from a minute ..
pub const BACKUP_INTERVAL_MIN_S: u64 = 60;
/// .. to ten years.
pub const BACKUP_INTERVAL_MAX_S: u64 = 10 * 366 * 86_400;
/// Complete backups of a table that a policy keeps, at most.
pub const KEEP_COUNT_MAX: u32 = 1_000;

const DAY_MS: u64 = 86_400_000;
const MINUTE_MS: u64 = 60_000;

/// A table as somebody names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableRef {
    Name(String),
    Id(TableId),
}

/// When the first backup of a policy begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// At this minute of the day, UTC; 0 to 1439.
    Minute(u16),
    /// As soon as the policy is there.
    AtOnce,
}

/// What an operator wants of a policy. `None` leaves a property as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyOrder {
    Add {
        target: String,
        /// Empty: the name of the cluster.
        root: String,
        tables: Vec<TableRef>,
        interval_s: u64,
        timing: Timing,
        keep_count: u32,
        bytes_per_second: u64,
    },
    Modify {
        add: Vec<TableRef>,
        remove: Vec<TableRef>,
        interval_s: Option<u64>,
        timing: Option<Timing>,
        keep_count: Option<u32>,
        bytes_per_second: Option<u64>,
    },
    Enable,
    /// `force`: what is running is cancelled; otherwise refused while something is.
    Disable {
        force: bool,
    },
    /// Its backups stay where they are.
    Remove {
        force: bool,
    },
}

impl Policy {
    /// The last time at or before `now_ms` at which a backup is due, in Unix milliseconds; `None` before the first.
    fn last_due_ms(&self, now_ms: u64) -> Option<u64> {
        let passed_ms = now_ms.checked_sub(self.first_ms())?;
        let interval_ms = self.interval_s * 1_000;
        Some(self.first_ms() + passed_ms / interval_ms * interval_ms)
    }

    /// From which intervals are counted. With a time of day it may lie before the policy was made: that one is not due.
    fn first_ms(&self) -> u64 {
        match self.start_minute {
            None => self.created_ms,
            Some(minute) => self.created_ms / DAY_MS * DAY_MS + u64::from(minute) * MINUTE_MS,
        }
    }

    /// When a table that was last served at `served_ms` is due next, in Unix milliseconds; in the past if it is due now.
    #[must_use]
    pub fn next_due_ms(&self, served_ms: u64, now_ms: u64) -> u64 {
        match self.last_due_ms(now_ms) {
            None => self.first_ms(),
            Some(last) if last > served_ms => last,
            Some(last) => last.saturating_add(self.interval_s * 1_000),
        }
    }

    /// What a table begins with: with a time of day, what lies behind now is not made up for.
    fn new_table(&self, now_ms: u64) -> PolicyTable {
        let served_ms = if self.start_minute.is_some() {
            now_ms
        } else {
            0
        };
        PolicyTable {
            served_ms,
            last_backup: 0,
        }
    }
}

impl State {
    pub(super) fn handle_backup_policy(
        &mut self,
        name: &str,
        order: PolicyOrder,
        work: &mut Work,
    ) -> Result<Answer, Refusal> {
        let policy = match order {
            PolicyOrder::Add { .. } => self.new_policy(name, order)?,
            PolicyOrder::Modify { .. } => self.modified_policy(name, order)?,
            PolicyOrder::Enable => self.enabled_policy(name)?,
            PolicyOrder::Disable { force } => {
                let mut policy = self.policy_named(name)?.clone();
                self.stop_policy(name, force, work)?;
                policy.is_enabled = false;
                policy
            }
            PolicyOrder::Remove { force } => {
                self.policy_named(name)?;
                self.stop_policy(name, force, work)?;
                let name = name.to_owned();
                self.change(Change::Backup(BackupChange::PolicyRemoved { name }), work);
                return Ok(Answer::Done);
            }
        };
        self.set_policy(policy, work);
        self.begin_due_backups(work);
        Ok(Answer::Done)
    }

    fn set_policy(&mut self, policy: Policy, work: &mut Work) {
        let change = BackupChange::Policy(Box::new(policy));
        self.change(Change::Backup(change), work);
    }

    fn policy_named(&self, name: &str) -> Result<&Policy, Refusal> {
        let shown = || name.chars().take(256).collect();
        let policy = self.backups().policies().get(name);
        policy.ok_or_else(|| BackupRefusal::NoSuchPolicy(shown()).into())
    }

    fn new_policy(&self, name: &str, order: PolicyOrder) -> Result<Policy, Refusal> {
        let PolicyOrder::Add {
            target,
            root,
            tables,
            interval_s,
            timing,
            keep_count,
            bytes_per_second,
        } = order
        else {
            return self.policy_named(name).cloned();
        };
        if !may_name(name) {
            return Err(BackupRefusal::BadPolicyName(name.chars().take(256).collect()).into());
        }
        let policies = self.backups().policies();
        if policies.contains_key(name) {
            return Err(BackupRefusal::PolicyExists(name.to_owned()).into());
        }
        if policies.len() >= POLICIES_MAX {
            return Err(BackupRefusal::TooManyPolicies(POLICIES_MAX).into());
        }
        let mut policy = Policy {
            name: name.to_owned(),
            site: self.site(&target, &root)?,
            interval_s,
            start_minute: minute_of(timing),
            keep_count,
            bytes_per_second,
            is_enabled: true,
            created_ms: self.now_ms,
            tables: BTreeMap::new(),
        };
        self.add_tables(&mut policy, &tables)?;
        if policy.tables.is_empty() {
            return Err(bad(name, "it names no table"));
        }
        checked(policy)
    }

    fn modified_policy(&self, name: &str, order: PolicyOrder) -> Result<Policy, Refusal> {
        let mut policy = self.policy_named(name)?.clone();
        let PolicyOrder::Modify {
            add,
            remove,
            interval_s,
            timing,
            keep_count,
            bytes_per_second,
        } = order
        else {
            return Ok(policy);
        };
        policy.interval_s = interval_s.unwrap_or(policy.interval_s);
        policy.keep_count = keep_count.unwrap_or(policy.keep_count);
        policy.bytes_per_second = bytes_per_second.unwrap_or(policy.bytes_per_second);
        if let Some(timing) = timing {
            policy.start_minute = minute_of(timing);
            let now_ms = self.now_ms;
            // What would have been due by the new time of day before now is not made up for.
            for table in policy.tables.values_mut() {
                table.served_ms = table.served_ms.max(now_ms);
            }
        }
        for table in &remove {
            let id = self.table_of_policy(&policy, table)?;
            policy.tables.remove(&id);
        }
        self.add_tables(&mut policy, &add)?;
        checked(policy)
    }

    /// A table of the policy, which may be dropped meanwhile.
    fn table_of_policy(&self, policy: &Policy, table: &TableRef) -> Result<TableId, Refusal> {
        let tables = self.durable.tables();
        let is_meant = |id: &&TableId| match table {
            TableRef::Id(meant) => meant == *id,
            TableRef::Name(name) => tables.get(id).is_some_and(|it| it.name == *name),
        };
        let found = policy.tables.keys().find(is_meant).copied();
        found.ok_or_else(|| match table {
            TableRef::Name(table) => {
                let table: String = table.chars().take(256).collect();
                bad(
                    &policy.name,
                    &format!("it does not back up table {table:?}"),
                )
            }
            TableRef::Id(id) => bad(&policy.name, &format!("it does not back up table {id}")),
        })
    }

    fn add_tables(&self, policy: &mut Policy, tables: &[TableRef]) -> Result<(), Refusal> {
        for table in tables {
            let id = self.table_meant(table)?.id;
            let new = policy.new_table(self.now_ms);
            policy.tables.entry(id).or_insert(new);
        }
        Ok(())
    }

    /// The next time that is due is the next one, not one that has gone by.
    fn enabled_policy(&self, name: &str) -> Result<Policy, Refusal> {
        let mut policy = self.policy_named(name)?.clone();
        if !policy.is_enabled {
            policy.is_enabled = true;
            for table in policy.tables.values_mut() {
                table.served_ms = table.served_ms.max(self.now_ms);
            }
        }
        Ok(policy)
    }

    /// Nothing of the policy is running then.
    fn stop_policy(&mut self, name: &str, force: bool, work: &mut Work) -> Result<(), Refusal> {
        let runs = self.backups().runs().values();
        let mine = runs.filter(|run| run.policy == name && run.phase.is_under_way());
        let mine: Vec<(u64, Phase)> = mine.map(|run| (run.id, run.phase)).collect();
        if let Some((id, _)) = mine.first().filter(|_| !force) {
            let (id, name) = (*id, name.to_owned());
            return Err(BackupRefusal::PolicyIsRunning { name, id }.into());
        }
        // One whose partitions are all there is finished.
        for (id, _) in mine.iter().filter(|(_, phase)| *phase == Phase::Running) {
            let why = "its policy was disabled or removed";
            self.discard(*id, Phase::DiscardingCancelled, why, work);
        }
        Ok(())
    }

    /// Begins what is due by the clock and can be begun.
    pub(super) fn begin_due_backups(&mut self, work: &mut Work) {
        let now_ms = self.now_ms;
        let mut due = Vec::new();
        for policy in self
            .backups()
            .policies()
            .values()
            .filter(|it| it.is_enabled)
        {
            let Some(last) = policy.last_due_ms(now_ms) else {
                continue;
            };
            for (table, it) in &policy.tables {
                let is_free = self.backups().under_way(*table).is_none();
                let known = self.durable.tables().get(table);
                let can = known.is_some_and(|it| !it.is_dropped() && !it.is_creating());
                if last > it.served_ms && is_free && can {
                    due.push((policy.name.clone(), *table));
                }
            }
        }
        for (name, table) in due {
            self.begin_due(&name, table, work);
        }
    }

    fn begin_due(&mut self, name: &str, table: TableId, work: &mut Work) {
        let Some(mut policy) = self.backups().policies().get(name).cloned() else {
            return;
        };
        let budget = policy.bytes_per_second;
        let begun = self.begin_run(table, &policy.site, name.to_owned(), budget, work);
        let Ok(id) = begun else {
            // Another policy has begun one of this table just now: it is due again when that is over.
            return;
        };
        if let Some(it) = policy.tables.get_mut(&table) {
            it.served_ms = self.now_ms;
            it.last_backup = id;
        }
        self.set_policy(policy, work);
    }

    /// Deletes what policies keep too many of, and forgets what ended long ago.
    pub(super) fn retire_backups(&mut self, work: &mut Work) {
        for id in self.surplus() {
            self.step(id, Phase::Deleting, String::new(), work);
        }
        for id in self.backups().too_old() {
            self.change(Change::Backup(BackupChange::Forgotten { id }), work);
        }
    }

    /// Complete backups of policies beyond the newest ones that are to be kept. None that a running one builds on.
    fn surplus(&self) -> Vec<u64> {
        let mut by_table: BTreeMap<(&str, TableId), Vec<u64>> = BTreeMap::new();
        let complete = self.backups().runs().values();
        for run in complete.filter(|run| run.phase == Phase::Complete && !run.policy.is_empty()) {
            let key = (run.policy.as_str(), run.table);
            by_table.entry(key).or_default().push(run.id);
        }
        let mut surplus = Vec::new();
        for ((name, _), ids) in by_table {
            let Some(policy) = self.backups().policies().get(name) else {
                continue;
            };
            let keep = usize::try_from(policy.keep_count).unwrap_or(usize::MAX);
            let too_many = ids.len().saturating_sub(keep);
            let oldest = ids.into_iter().take(too_many);
            surplus.extend(oldest.filter(|id| self.built_on(*id).is_none()));
        }
        surplus
    }
}

const fn minute_of(timing: Timing) -> Option<u16> {
    match timing {
        Timing::Minute(minute) => Some(minute),
        Timing::AtOnce => None,
    }
}

fn bad(name: &str, fault: &str) -> Refusal {
    BackupRefusal::BadPolicy {
        name: name.to_owned(),
        fault: fault.to_owned(),
    }
    .into()
}

/// Refuses properties out of range, with a sentence.
fn checked(policy: Policy) -> Result<Policy, Refusal> {
    let name = policy.name.as_str();
    match &policy {
        _ if !(BACKUP_INTERVAL_MIN_S..=BACKUP_INTERVAL_MAX_S).contains(&policy.interval_s) => {
            Err(bad(
                name,
                &format!(
                    "an interval of {} s is not {BACKUP_INTERVAL_MIN_S} to {BACKUP_INTERVAL_MAX_S}",
                    policy.interval_s
                ),
            ))
        }
        _ if policy.start_minute.is_some_and(|it| it >= 1_440) => {
            Err(bad(name, "a start time is 00:00 to 23:59 (UTC)"))
        }
        _ if !(1..=KEEP_COUNT_MAX).contains(&policy.keep_count) => Err(bad(
            name,
            &format!(
                "{} backups to keep is not 1 to {KEEP_COUNT_MAX}",
                policy.keep_count
            ),
        )),
        _ if policy.tables.len() > POLICY_TABLES_MAX => Err(bad(
            name,
            &format!("it would have more than {POLICY_TABLES_MAX} tables"),
        )),
        _ => Ok(policy),
    }
}

//! The bytes of changes of backups, in the notation of [`mod@super::change`].
//!
//! | kind | change | fields |
//! |---|---|---|
//! | 21 | Run | id (8), table (4), table name, partition count (4), target, root, policy, optional base (8), bytes per second (8), phase (1), phase ms (8), message, list of copies: index (4), copy; count of copies (4), bytes total (8), bytes sent (8) |
//! | 22 | Copies | id (8), list of: index (4), copy |
//! | 23 | Phase | id (8), phase (1), at ms (8), message |
//! | 24 | Forgotten | id (8) |
//! | 25 | Policy | name, target, root, interval s (8), optional start minute (8), keep count (4), bytes per second (8), is enabled (1), created ms (8), list of tables: table (4), served ms (8), last backup (8) |
//! | 26 | PolicyRemoved | name |
//! | 27 | Restore | table (4), target, root, backup (8), old table name, old table (4), skips bad (1), started ms (8), optional ended ms (8), list of skipped partitions: index (4), why; failure |
//!
//! A copy is node (4), decree (8), timestamp ms (8), bytes total (8), bytes sent (8). Phases: 1 running, 2 recording, 3 complete,
//! 4 discarding after a failure, 5 discarding after a cancel, 6 failed, 7 cancelled, 8 deleting.

use super::change::{Reader, put_list, put_optional, put_text};
use crate::state::{
    BackupChange, PartitionCopy, Phase, Policy, PolicyTable, Restore, RestoreSource, Run, Site,
};
use pegasus_replication::ids::{NodeId, TableId};
use std::collections::BTreeMap;

pub(super) fn put(out: &mut Vec<u8>, change: &BackupChange) {
    match change {
        BackupChange::Run(run) => {
            out.push(21);
            put_run(out, run);
        }
        BackupChange::Copies { id, copies } => {
            out.push(22);
            out.extend(id.to_le_bytes());
            put_list(out, copies, put_copy);
        }
        BackupChange::Phase {
            id,
            phase,
            at_ms,
            message,
        } => {
            out.push(23);
            out.extend(id.to_le_bytes());
            out.push(number(*phase));
            out.extend(at_ms.to_le_bytes());
            put_text(out, message);
        }
        BackupChange::Forgotten { id } => {
            out.push(24);
            out.extend(id.to_le_bytes());
        }
        BackupChange::Policy(policy) => {
            out.push(25);
            put_policy(out, policy);
        }
        BackupChange::PolicyRemoved { name } => {
            out.push(26);
            put_text(out, name);
        }
        BackupChange::Restore(restore) => {
            out.push(27);
            put_restore(out, restore);
        }
    }
}

const fn number(phase: Phase) -> u8 {
    match phase {
        Phase::Running => 1,
        Phase::Recording => 2,
        Phase::Complete => 3,
        Phase::DiscardingFailed => 4,
        Phase::DiscardingCancelled => 5,
        Phase::Failed => 6,
        Phase::Cancelled => 7,
        Phase::Deleting => 8,
    }
}

fn put_site(out: &mut Vec<u8>, site: &Site) {
    put_text(out, &site.target);
    put_text(out, &site.root);
}

fn put_copy(out: &mut Vec<u8>, (index, copy): &(u32, PartitionCopy)) {
    out.extend(index.to_le_bytes());
    out.extend(copy.node.0.to_le_bytes());
    for number in [
        copy.decree,
        copy.timestamp_ms,
        copy.bytes_total,
        copy.bytes_sent,
    ] {
        out.extend(number.to_le_bytes());
    }
}

fn put_run(out: &mut Vec<u8>, run: &Run) {
    out.extend(run.id.to_le_bytes());
    out.extend(run.table.0.to_le_bytes());
    put_text(out, &run.table_name);
    out.extend(run.partition_count.to_le_bytes());
    put_site(out, &run.site);
    put_text(out, &run.policy);
    put_optional(out, run.base);
    out.extend(run.bytes_per_second.to_le_bytes());
    out.push(number(run.phase));
    out.extend(run.phase_ms.to_le_bytes());
    put_text(out, &run.message);
    let copies: Vec<(u32, PartitionCopy)> = run.copies.iter().map(|(i, it)| (*i, *it)).collect();
    put_list(out, &copies, put_copy);
    out.extend(run.copies_count.to_le_bytes());
    out.extend(run.bytes_total.to_le_bytes());
    out.extend(run.bytes_sent.to_le_bytes());
}

fn put_policy(out: &mut Vec<u8>, policy: &Policy) {
    put_text(out, &policy.name);
    put_site(out, &policy.site);
    out.extend(policy.interval_s.to_le_bytes());
    put_optional(out, policy.start_minute.map(u64::from));
    out.extend(policy.keep_count.to_le_bytes());
    out.extend(policy.bytes_per_second.to_le_bytes());
    out.push(u8::from(policy.is_enabled));
    out.extend(policy.created_ms.to_le_bytes());
    let tables: Vec<(TableId, PolicyTable)> =
        policy.tables.iter().map(|(id, it)| (*id, *it)).collect();
    put_list(out, &tables, |out, (table, it)| {
        out.extend(table.0.to_le_bytes());
        out.extend(it.served_ms.to_le_bytes());
        out.extend(it.last_backup.to_le_bytes());
    });
}

fn put_restore(out: &mut Vec<u8>, restore: &Restore) {
    out.extend(restore.table.0.to_le_bytes());
    put_site(out, &restore.source.site);
    out.extend(restore.source.backup.to_le_bytes());
    put_text(out, &restore.source.table_name);
    out.extend(restore.source.table.0.to_le_bytes());
    out.push(u8::from(restore.skips_bad));
    out.extend(restore.started_ms.to_le_bytes());
    put_optional(out, restore.ended_ms);
    let skipped: Vec<(&u32, &String)> = restore.skipped.iter().collect();
    put_list(out, &skipped, |out, (index, why)| {
        out.extend(index.to_le_bytes());
        put_text(out, why);
    });
    put_text(out, &restore.failure);
}

impl Reader<'_> {
    pub(super) fn backup(&mut self, kind: u8) -> Option<BackupChange> {
        Some(match kind {
            21 => BackupChange::Run(Box::new(self.run()?)),
            22 => BackupChange::Copies {
                id: self.u64()?,
                copies: self.list(Self::copy)?,
            },
            23 => BackupChange::Phase {
                id: self.u64()?,
                phase: self.phase()?,
                at_ms: self.u64()?,
                message: self.text()?,
            },
            24 => BackupChange::Forgotten { id: self.u64()? },
            25 => BackupChange::Policy(Box::new(self.policy()?)),
            26 => BackupChange::PolicyRemoved { name: self.text()? },
            27 => BackupChange::Restore(Box::new(self.restore()?)),
            _ => return None,
        })
    }

    fn phase(&mut self) -> Option<Phase> {
        let found = self.u8()?;
        Phase::ALL.into_iter().find(|it| number(*it) == found)
    }

    fn site(&mut self) -> Option<Site> {
        Some(Site {
            target: self.text()?,
            root: self.text()?,
        })
    }

    fn copy(&mut self) -> Option<(u32, PartitionCopy)> {
        let index = self.u32()?;
        let copy = PartitionCopy {
            node: NodeId(self.u32()?),
            decree: self.u64()?,
            timestamp_ms: self.u64()?,
            bytes_total: self.u64()?,
            bytes_sent: self.u64()?,
        };
        Some((index, copy))
    }

    fn run(&mut self) -> Option<Run> {
        Some(Run {
            id: self.u64()?,
            table: TableId(self.u32()?),
            table_name: self.text()?,
            partition_count: self.u32()?,
            site: self.site()?,
            policy: self.text()?,
            base: self.optional()?,
            bytes_per_second: self.u64()?,
            phase: self.phase()?,
            phase_ms: self.u64()?,
            message: self.text()?,
            copies: ascending(self.list(Self::copy)?)?,
            copies_count: self.u32()?,
            bytes_total: self.u64()?,
            bytes_sent: self.u64()?,
        })
    }

    fn policy(&mut self) -> Option<Policy> {
        Some(Policy {
            name: self.text()?,
            site: self.site()?,
            interval_s: self.u64()?,
            start_minute: match self.optional()? {
                None => None,
                Some(minute) => Some(u16::try_from(minute).ok()?),
            },
            keep_count: self.u32()?,
            bytes_per_second: self.u64()?,
            is_enabled: self.flag()?,
            created_ms: self.u64()?,
            tables: ascending(self.list(|it| {
                let table = TableId(it.u32()?);
                let known = PolicyTable {
                    served_ms: it.u64()?,
                    last_backup: it.u64()?,
                };
                Some((table, known))
            })?)?,
        })
    }

    fn restore(&mut self) -> Option<Restore> {
        Some(Restore {
            table: TableId(self.u32()?),
            source: RestoreSource {
                site: self.site()?,
                backup: self.u64()?,
                table_name: self.text()?,
                table: TableId(self.u32()?),
            },
            skips_bad: self.flag()?,
            started_ms: self.u64()?,
            ended_ms: self.optional()?,
            skipped: ascending(self.list(|it| Some((it.u32()?, it.text()?)))?)?,
            failure: self.text()?,
        })
    }
}

/// In the order of their keys, each once.
fn ascending<K: Ord, V>(pairs: Vec<(K, V)>) -> Option<BTreeMap<K, V>> {
    let is_sorted = pairs.is_sorted_by(|(a, _), (b, _)| a < b);
    is_sorted.then(|| pairs.into_iter().collect())
}

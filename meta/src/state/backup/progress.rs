//! How far nodes are, as they say: nothing of it survives, all of it is said again.

use super::book::{BackupChange, PartitionCopy, Phase, Run};
use super::chores::ChoreMemory;
use super::words::{BackupProgress, ProgressState, ReplicaBackup};
use crate::state::command::{Answer, Refusal};
use crate::state::report::{ReplicaKey, bounded_reason};
use crate::state::{Change, State, Work};
use pegasus_replication::ids::{NodeId, NodeIncarnation, PartitionId};
use std::collections::BTreeMap;

/// Times that a piece of work is tried before it is given up.
pub(super) const ATTEMPTS_MAX: u32 = 5;
/// After the first failure a piece of work rests for this long, after each further one twice as long; in milliseconds.
const REST_MS: u64 = 2_000;

/// What backups and restores remember and may forget.
#[derive(Clone, Debug, Default)]
pub(in crate::state) struct Memory {
    /// By backup and partition.
    pub(super) works: BTreeMap<(u64, u32), PartitionWork>,
    /// When a backup last came a step further, by number; in milliseconds.
    pub(super) moved_ms: BTreeMap<u64, u64>,
    /// When a node last spoke of a backup, by number; in milliseconds.
    pub(super) heard_ms: BTreeMap<u64, u64>,
    pub(super) restores: BTreeMap<PartitionId, RestoreWork>,
    pub(super) chores: BTreeMap<u64, ChoreMemory>,
    /// When runs and restores were last looked after, in milliseconds.
    pub(super) driven_ms: u64,
}

/// A partition that is being backed up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionWork {
    /// That has the order.
    pub node: NodeId,
    pub(super) key: ReplicaKey,
    pub state: ProgressState,
    /// When the node last spoke of it, or was last asked; in milliseconds.
    pub(super) spoken_ms: u64,
    pub decree: u64,
    pub timestamp_ms: u64,
    pub bytes_total: u64,
    pub bytes_done: u64,
    pub bytes_sent: u64,
    /// Attempts that have failed.
    pub failures: u32,
    pub error: String,
}

/// A partition that is being made from a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreWork {
    /// Its replica.
    pub key: ReplicaKey,
    pub state: ProgressState,
    pub attempt: u32,
    pub bytes_total: u64,
    pub bytes_done: u64,
    pub error: String,
    /// When a failed one is tried again, in milliseconds.
    pub(super) retry_ms: u64,
}

/// How long a piece of work rests after so many failures, in milliseconds.
pub(super) fn rest_ms(failures: u32) -> u64 {
    REST_MS << failures.saturating_sub(1).min(8)
}

impl PartitionWork {
    pub(super) const fn ordered(key: ReplicaKey, node: NodeId, now_ms: u64, failures: u32) -> Self {
        Self {
            node,
            key,
            state: ProgressState::Running,
            spoken_ms: now_ms,
            decree: 0,
            timestamp_ms: 0,
            bytes_total: 0,
            bytes_done: 0,
            bytes_sent: 0,
            failures,
            error: String::new(),
        }
    }
}

impl Memory {
    /// A node has started anew: it knows nothing of what it was ordered.
    pub(in crate::state) fn forget_node(&mut self, node: NodeId) {
        for work in self.works.values_mut().filter(|work| work.node == node) {
            work.spoken_ms = 0;
        }
    }

    /// A backup is over.
    pub(super) fn forget_run(&mut self, id: u64) {
        self.works.retain(|(run, _), _| *run != id);
        self.moved_ms.remove(&id);
        self.heard_ms.remove(&id);
        self.chores.remove(&id);
    }
}

impl State {
    pub(super) fn handle_backup_progress(
        &mut self,
        node: NodeId,
        incarnation: NodeIncarnation,
        progress: BackupProgress,
        work: &mut Work,
    ) -> Result<Answer, Refusal> {
        self.expect_life(node, incarnation)?;
        let mut copies: BTreeMap<u64, BTreeMap<u32, PartitionCopy>> = BTreeMap::new();
        for told in progress.backups {
            let (id, index) = (told.backup, told.key.partition.index);
            if let Some(copy) = self.take_backup(node, told, work) {
                copies.entry(id).or_default().insert(index, copy);
            }
        }
        for (id, copies) in copies {
            let now_ms = self.now_ms;
            self.memory_of_backups().moved_ms.insert(id, now_ms);
            for index in copies.keys() {
                self.memory_of_backups().works.remove(&(id, *index));
            }
            let copies = copies.into_iter().collect();
            let change = BackupChange::Copies { id, copies };
            self.change(Change::Backup(change), work);
            self.finish_if_all_there(id, work);
        }
        for told in progress.restores {
            self.take_restore(node, told, work);
        }
        Ok(Answer::Done)
    }

    /// What a node says of one partition; its copy, if it is a new one.
    fn take_backup(
        &mut self,
        node: NodeId,
        told: ReplicaBackup,
        work: &mut Work,
    ) -> Option<PartitionCopy> {
        let now_ms = self.now_ms;
        let run = self.backups().runs().get(&told.backup);
        let Some(run) = run.filter(|run| run.phase == Phase::Running) else {
            if told.state == ProgressState::Running {
                // Deleted, cancelled or given up meanwhile; nobody waits for it.
                self.cancel_on(node, &told, work);
            }
            self.memory_of_backups()
                .heard_ms
                .entry(told.backup)
                .and_modify(|at| *at = now_ms);
            return None;
        };
        let (id, index) = (told.backup, told.key.partition.index);
        let is_of_run = told.key.partition.table == run.table && index < run.partition_count;
        if !is_of_run || run.copies.contains_key(&index) {
            return None;
        }
        let is_member = self.is_member_on(node, told.key);
        let memory = self.memory_of_backups();
        memory.heard_ms.insert(id, now_ms);
        let known = memory.works.get_mut(&(id, index));
        let mine = known.filter(|it| it.node == node && it.key == told.key);
        if told.state == ProgressState::Done {
            return (mine.is_some() || is_member).then_some(PartitionCopy {
                node,
                decree: told.decree,
                timestamp_ms: told.timestamp_ms,
                bytes_total: told.bytes_total,
                bytes_sent: told.bytes_sent,
            });
        }
        let Some(mine) = mine else {
            // Begun for a leader of before, or by order of a meta that ran before: it goes on.
            if told.state == ProgressState::Running && is_member {
                let begun = PartitionWork::ordered(told.key, node, now_ms, 0);
                memory.works.entry((id, index)).or_insert(begun);
            }
            return None;
        };
        let was_running = mine.state == ProgressState::Running;
        // One that waits for its turn behind others on its node has not been looked at yet: nothing is known of its size.
        let waits = told.state == ProgressState::Running && told.bytes_total == 0;
        let moves = (mine.bytes_done, mine.bytes_sent) != (told.bytes_done, told.bytes_sent);
        if moves || waits {
            memory.moved_ms.insert(id, now_ms);
        }
        mine.spoken_ms = now_ms;
        mine.decree = told.decree;
        mine.timestamp_ms = told.timestamp_ms;
        mine.bytes_total = told.bytes_total;
        mine.bytes_done = told.bytes_done;
        mine.bytes_sent = told.bytes_sent;
        if told.state != ProgressState::Running && was_running {
            mine.failures += 1;
            mine.error = if told.error.is_empty() {
                "the node has given it up".to_owned()
            } else {
                bounded_reason(told.error)
            };
        }
        mine.state = told.state;
        None
    }

    fn is_member_on(&self, node: NodeId, key: ReplicaKey) -> bool {
        self.partition(key.partition).is_some_and(|(_, it)| {
            let mut members = it.members();
            members.any(|it| it.address.node == node && it.incarnation == key.incarnation)
        })
    }

    pub(super) const fn memory_of_backups(&mut self) -> &mut Memory {
        &mut self.backup
    }

    /// How far a partition of a running backup is, as far as its node has said.
    #[must_use]
    pub fn partition_work(&self, run: &Run, index: u32) -> Option<&PartitionWork> {
        self.backup.works.get(&(run.id, index))
    }

    /// What is at the target of a backup, and what has left the nodes for it: bytes in all, bytes there, bytes sent. Those that are
    /// under way included.
    #[must_use]
    pub fn backup_bytes(&self, run: &Run) -> (u64, u64, u64) {
        let works = self
            .backup
            .works
            .range((run.id, 0)..=(run.id, u32::MAX))
            .map(|(_, work)| (work.bytes_total, work.bytes_done, work.bytes_sent));
        let ended = (run.bytes_total, run.bytes_total, run.bytes_sent);
        works.fold(ended, |(total, done, sent), (a, b, c)| {
            (
                total.saturating_add(a),
                done.saturating_add(b),
                sent.saturating_add(c),
            )
        })
    }

    /// How far a partition that is being made from a backup is, as far as its node has said.
    #[must_use]
    pub fn restore_work(&self, partition: PartitionId) -> Option<&RestoreWork> {
        self.backup.restores.get(&partition)
    }
}

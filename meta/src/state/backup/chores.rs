//! What has to be done at the target itself: by whoever runs the state, which does no input and output.

use super::book::{BackupChange, Phase, Run};
use crate::state::command::{Answer, Refusal};
use crate::state::report::bounded_reason;
use crate::state::{Change, State, Work};

/// Chores that are worked on at a time.
const CHORES_MAX: usize = 4;
/// Times that a chore is tried before it is given up, where it can be given up.
const TRIES_MAX: u32 = 10;
/// The longest rest between two tries, in milliseconds.
const REST_MS_MAX: u64 = 60_000;
/// Files are deleted once nobody has said for this long that he writes some, in milliseconds.
const QUIET_MS: u64 = 3_000;

/// One errand; there is at most one of a backup at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chore {
    /// The backup.
    pub backup: u64,
    pub kind: ChoreKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChoreKind {
    /// Write what the backup is: it is complete then.
    Record,
    /// Delete all its files, and what it is first.
    Delete,
}

/// How often a chore has failed.
#[derive(Clone, Debug, Default)]
pub(super) struct ChoreMemory {
    failures: u32,
    retry_ms: u64,
    /// What went wrong last.
    pub(super) error: String,
}

impl State {
    /// What is to be done at targets now, at most a few at a time. The caller begins those that it has not begun, and says by
    /// [`super::BackupCommand::ChoreEnded`] what came of each.
    #[must_use]
    pub fn backup_chores(&self) -> Vec<Chore> {
        let due = self.backups().runs().values().filter_map(|run| {
            let kind = self.chore_of(run)?;
            let memory = self.backup.chores.get(&run.id);
            let is_due = memory.is_none_or(|it| it.retry_ms <= self.now_ms);
            is_due.then_some(Chore {
                backup: run.id,
                kind,
            })
        });
        due.take(CHORES_MAX).collect()
    }

    fn chore_of(&self, run: &Run) -> Option<ChoreKind> {
        match run.phase {
            Phase::Recording => Some(ChoreKind::Record),
            Phase::Deleting => Some(ChoreKind::Delete),
            Phase::DiscardingFailed | Phase::DiscardingCancelled => {
                let heard_ms = self.backup.heard_ms.get(&run.id).copied();
                let since_ms = heard_ms.unwrap_or(0).max(run.phase_ms).max(self.started_ms);
                (self.now_ms.saturating_sub(since_ms) >= QUIET_MS).then_some(ChoreKind::Delete)
            }
            Phase::Running | Phase::Complete | Phase::Failed | Phase::Cancelled => None,
        }
    }

    pub(super) fn handle_chore_ended(
        &mut self,
        chore: Chore,
        result: Result<(), String>,
        work: &mut Work,
    ) -> Result<Answer, Refusal> {
        let run = self.backups().runs().get(&chore.backup);
        let Some(run) = run.filter(|run| self.chore_of(run) == Some(chore.kind)) else {
            // Of an earlier time; what is to be done now is another thing.
            return Ok(Answer::Done);
        };
        let (id, phase, message) = (run.id, run.phase, run.message.clone());
        match result {
            Ok(()) => self.on_chore_done(id, phase, message, work),
            Err(error) => self.on_chore_failed(id, phase, &message, error, work),
        }
        Ok(Answer::Done)
    }

    fn on_chore_done(&mut self, id: u64, phase: Phase, message: String, work: &mut Work) {
        match phase {
            Phase::Recording => self.step(id, Phase::Complete, String::new(), work),
            Phase::DiscardingFailed => self.step(id, Phase::Failed, message, work),
            Phase::DiscardingCancelled => self.step(id, Phase::Cancelled, message, work),
            Phase::Deleting => {
                tracing::info!(backup = id, "a backup is deleted");
                self.change(Change::Backup(BackupChange::Forgotten { id }), work);
                self.backup.forget_run(id);
            }
            Phase::Running | Phase::Complete | Phase::Failed | Phase::Cancelled => {}
        }
    }

    fn on_chore_failed(
        &mut self,
        id: u64,
        phase: Phase,
        message: &str,
        error: String,
        work: &mut Work,
    ) {
        let now_ms = self.now_ms;
        let memory = self.backup.chores.entry(id).or_default();
        memory.failures = memory.failures.saturating_add(1);
        memory.error = bounded_reason(error);
        let rest_ms = (1_000_u64 << memory.failures.min(16)).min(REST_MS_MAX);
        memory.retry_ms = now_ms.saturating_add(rest_ms);
        let is_last = memory.failures >= TRIES_MAX;
        let error = memory.error.clone();
        tracing::warn!(
            backup = id,
            error,
            "work at the target of a backup has failed"
        );
        let left = || format!("{message}; files of it are left at the target: {error}");
        match phase {
            _ if !is_last => {}
            Phase::Recording => {
                let message = format!("its metadata could not be written: {error}");
                self.discard(id, Phase::DiscardingFailed, &message, work);
            }
            Phase::DiscardingFailed => self.step(id, Phase::Failed, left(), work),
            Phase::DiscardingCancelled => self.step(id, Phase::Cancelled, left(), work),
            // It is tried until it succeeds, or somebody looks.
            Phase::Deleting => {}
            Phase::Running | Phase::Complete | Phase::Failed | Phase::Cancelled => {}
        }
    }

    /// What a backup waits for, or why it failed; empty if there is nothing to say.
    #[must_use]
    pub fn backup_message<'a>(&'a self, run: &'a Run) -> &'a str {
        let chore = self.backup.chores.get(&run.id);
        let works = self.backup.works.range((run.id, 0)..=(run.id, u32::MAX));
        let failed = works.map(|(_, work)| work.error.as_str());
        let mut failed = failed.filter(|error| !error.is_empty());
        match chore {
            Some(chore) if !chore.error.is_empty() => &chore.error,
            _ if run.message.is_empty() => failed.next().unwrap_or_default(),
            _ => &run.message,
        }
    }
}

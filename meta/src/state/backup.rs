//! Backups, the policies that make them by the clock, and tables that are made from them.
//!
//! ```text
//! backup:   Running --every partition is at the target--> Recording --its metadata is written--> Complete --delete--> Deleting --> forgotten
//!           Running --cancel, or a partition fails--> Discarding --its files are deleted--> Cancelled, Failed
//! restore:  a table whose partitions begin with one member each, which makes its replica from the backup; members made, it
//!           serves, and heals to its replica count as any other
//! ```
//!
//! What is decided is durable ([`Book`]); how far nodes are is volatile ([`Memory`]) and follows again from what they say, so
//! that a restart of meta, or another leader, goes on where the last one was. Nodes carry orders out and say how far they are
//! ([`BackupProgress`]); what has to be done at the target itself is a [`Chore`]: whoever runs this state does it, and says
//! what came of it by [`BackupCommand::ChoreEnded`]. Orders and chores may be given and done more than once.

mod book;
mod chores;
mod policies;
mod progress;
mod restores;
mod runs;
mod words;

pub use book::{BackupChange, Book, PartitionCopy, Phase, Policy, PolicyTable, Restore, Run};
pub use chores::{Chore, ChoreKind};
pub use policies::{
    BACKUP_INTERVAL_MAX_S, BACKUP_INTERVAL_MIN_S, KEEP_COUNT_MAX, PolicyOrder, TableRef, Timing,
};
pub(super) use progress::Memory;
pub use progress::{PartitionWork, RestoreWork};
pub use words::{
    BackupCommand, BackupOrder, BackupProgress, BackupRefusal, ProgressState, ReplicaBackup,
    ReplicaRestore, RestoreOrder, RestoreSource, RestoreTable, Site, StartBackup,
};

use super::command::{Answer, Refusal};
use super::{State, Work};

/// Backups that have ended and are remembered, at most; the oldest are forgotten first. Their files stay.
pub const BACKUPS_KEPT_MAX: usize = 1_000;
/// Partitions whose copies are remembered one by one after the end of their backup.
pub(super) const COPIES_KEPT_MAX: u32 = 256;

/// Everything here is looked after this often, in milliseconds.
const DRIVE_MS: u64 = 500;

impl State {
    pub(super) fn handle_backup(
        &mut self,
        command: BackupCommand,
        work: &mut Work,
    ) -> Result<Answer, Refusal> {
        match command {
            BackupCommand::Start(start) => self.handle_backup_start(&start, work),
            BackupCommand::Cancel { id } => self.handle_backup_cancel(id, work),
            BackupCommand::Delete { id } => self.handle_backup_delete(id, work),
            BackupCommand::Progress {
                node,
                incarnation,
                progress,
            } => self.handle_backup_progress(node, incarnation, progress, work),
            BackupCommand::ChoreEnded { chore, result } => {
                self.handle_chore_ended(chore, result, work)
            }
            BackupCommand::Policy { name, order } => self.handle_backup_policy(&name, order, work),
            BackupCommand::Restore(restore) => self.handle_restore(restore, work),
        }
    }

    /// Time has passed.
    pub(super) fn drive_backups(&mut self, work: &mut Work) {
        if self.now_ms.saturating_sub(self.backup.driven_ms) < DRIVE_MS {
            return;
        }
        self.backup.driven_ms = self.now_ms;
        self.begin_due_backups(work);
        self.drive_runs(work);
        self.retire_backups(work);
        self.drive_restores(work);
    }

    /// Everything that is durable about backups.
    #[must_use]
    pub const fn backups(&self) -> &Book {
        self.durable.backups()
    }
}

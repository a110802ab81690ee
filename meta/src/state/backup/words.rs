//! What is said of backups: by operators, to nodes, and by them.

use super::book::Phase;
use super::chores::Chore;
use super::policies::{PolicyOrder, TableRef};
use crate::state::report::ReplicaKey;
use pegasus_replication::ids::{NodeId, NodeIncarnation, TableId};
use std::collections::BTreeMap;

/// A place for backups: a target by its name in the configuration, and a directory below it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    /// At most 128 bytes of `[a-zA-Z0-9_.:-]`.
    pub target: String,
    /// Parts of at most 128 bytes of `[a-zA-Z0-9_.:-]`, separated by `/`; neither `.` nor `..`. At most 512 bytes.
    pub root: String,
}

impl Site {
    /// What is wrong with it, if anything.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let is_part = |part: &str| super::super::may_name(part) && part != "." && part != "..";
        match self {
            _ if !super::super::may_name(&self.target) => {
                Some("the target's name is not 1 to 128 of [a-zA-Z0-9_.:-]")
            }
            _ if self.root.len() > 512 => Some("the directory is longer than 512 bytes"),
            _ if !self.root.split('/').all(is_part) => Some(
                "the directory is not parts of [a-zA-Z0-9_.:-] separated by /, none of them . or ..",
            ),
            _ => None,
        }
    }
}

/// One request about backups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupCommand {
    /// A backup of one table now. Answered by [`super::super::Answer::BackupStarted`].
    Start(StartBackup),
    /// Answered by `Done`; the files that are there are deleted.
    Cancel { id: u64 },
    /// A complete one and all its files. Answered by `Done`.
    Delete { id: u64 },
    /// How far a node is. Answered by `Done`.
    Progress {
        node: NodeId,
        incarnation: NodeIncarnation,
        progress: BackupProgress,
    },
    /// What came of a chore: an error in words, which names the file. Answered by `Done`.
    ChoreEnded {
        chore: Chore,
        result: Result<(), String>,
    },
    /// Answered by `Done`.
    Policy { name: String, order: PolicyOrder },
    /// Answered by [`super::super::Answer::TableCreated`]; [`super::super::State::restore_of`] tells how far it is.
    Restore(RestoreTable),
}

/// What an operator says of a new backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartBackup {
    pub table: TableRef,
    pub target: String,
    /// Empty: the name of the cluster.
    pub root: String,
    /// Of each node; 0 = as it is configured.
    pub bytes_per_second: u64,
}

/// A table that is to be made from a backup. What it was is read from the backup by whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreTable {
    pub name: String,
    pub partition_count: u32,
    pub replica_count: u8,
    pub allow_degraded: bool,
    /// Settings of the table that was backed up, as far as they are settings of ours.
    pub envs: BTreeMap<String, String>,
    pub source: RestoreSource,
    /// A partition whose backup is bad comes up empty.
    pub skips_bad: bool,
}

/// Which backup of which table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreSource {
    pub site: Site,
    pub backup: u64,
    /// Of the table that was backed up.
    pub table_name: String,
    pub table: TableId,
}

/// A replica is to be backed up, or not any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupOrder {
    pub backup: u64,
    pub key: ReplicaKey,
    pub table_name: String,
    pub site: Site,
    /// The complete backup that it may build on.
    pub base: Option<u64>,
    /// 0 = as the node is configured.
    pub bytes_per_second: u64,
    pub is_cancelled: bool,
}

/// A replica is to be made from a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreOrder {
    pub key: ReplicaKey,
    pub source: RestoreSource,
    /// Its backup is bad: it is to be made empty after all.
    pub is_skipped: bool,
    /// From 1; one that has failed is tried again when a higher number comes.
    pub attempt: u32,
}

/// What a node says of its backups and restores.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct BackupProgress {
    pub backups: Vec<ReplicaBackup>,
    pub restores: Vec<ReplicaRestore>,
}

/// How far a piece of work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ProgressState {
    #[default]
    Running,
    Done,
    Failed,
    Cancelled,
}

/// How far a node is with the backup of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaBackup {
    pub backup: u64,
    pub key: ReplicaKey,
    pub state: ProgressState,
    /// Everything up to it is in the backup.
    pub decree: u64,
    /// When the copy was made, Unix milliseconds of the node's clock.
    pub timestamp_ms: u64,
    pub bytes_total: u64,
    pub bytes_done: u64,
    /// That left the node for it.
    pub bytes_sent: u64,
    /// Of `Failed`, at most [`super::super::REASON_BYTES_MAX`] bytes.
    pub error: String,
}

/// How far a node is with making a replica from a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaRestore {
    pub key: ReplicaKey,
    pub state: ProgressState,
    /// Of the order.
    pub attempt: u32,
    pub bytes_total: u64,
    pub bytes_done: u64,
    /// Of `Failed`: the backup itself is bad.
    pub is_permanent: bool,
    pub error: String,
}

/// Why nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackupRefusal {
    #[error("{0}")]
    BadSite(&'static str),
    #[error("there is no backup {0}")]
    NoSuchBackup(u64),
    #[error("table {table:?} is being backed up already, by backup {id}")]
    IsRunning { table: String, id: u64 },
    #[error("table {0:?} is still being made")]
    IsCreating(String),
    #[error("backup {id} is {}, only a running one can be cancelled", .phase.name())]
    NotCancellable { id: u64, phase: Phase },
    #[error("backup {id} is {}, only a complete one can be deleted", .phase.name())]
    NotDeletable { id: u64, phase: Phase },
    #[error("backup {id} is what backup {by} is being built on; cancel that first, or wait for it")]
    IsBase { id: u64, by: u64 },
    #[error("policy name {0:?} is not 1 to 128 of [a-zA-Z0-9_.:-]")]
    BadPolicyName(String),
    #[error("policy {0:?} exists already")]
    PolicyExists(String),
    #[error("there is no policy {0:?}")]
    NoSuchPolicy(String),
    #[error("policy {name:?}: {fault}")]
    BadPolicy { name: String, fault: String },
    #[error("backup {id} of policy {name:?} is running; wait for it, cancel it, or force it")]
    PolicyIsRunning { name: String, id: u64 },
    #[error("the cluster would have more than {0} policies")]
    TooManyPolicies(usize),
}

//! What meta orders of backups and restores, and what it is told of them (fbs/schema/meta.fbs).

use super::ReplicaKey;
use super::frames::{read_key, text, write_key};
use pegasus_fbs::flatbuffers::FlatBufferBuilder;
use pegasus_fbs::meta;
use pegasus_replication::ids::Decree;

/// A replica of this node is to be backed up, or not any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupOrder {
    pub backup_id: u64,
    pub key: ReplicaKey,
    /// As the table was called when the backup began.
    pub table_name: String,
    pub target: String,
    /// Directory below the target.
    pub root: String,
    /// The backup before; 0 = none.
    pub base_id: u64,
    /// For this node; 0 = as its configuration says.
    pub bytes_per_second: u64,
    pub cancel: bool,
}

/// A replica is to be made of a backup, or empty after all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreOrder {
    pub key: ReplicaKey,
    pub target: String,
    pub root: String,
    pub backup_id: u64,
    /// Of the table that was backed up.
    pub table_name: String,
    pub table_id: u32,
    pub make_empty: bool,
    /// Grows when a failed one is to be tried again.
    pub attempt: u32,
}

/// How far one is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunState {
    #[default]
    Running,
    Done,
    Failed,
    Cancelled,
}

/// What meta is told of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupReport {
    pub backup_id: u64,
    pub key: ReplicaKey,
    pub state: RunState,
    pub decree: Decree,
    /// Unix milliseconds.
    pub timestamp_ms: u64,
    pub bytes_total: u64,
    pub bytes_done: u64,
    pub bytes_sent: u64,
    pub error: String,
}

/// What meta is told of a restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreReport {
    pub key: ReplicaKey,
    pub state: RunState,
    pub attempt: u32,
    pub bytes_total: u64,
    pub bytes_done: u64,
    /// The backup itself is bad.
    pub is_permanent: bool,
    pub error: String,
}

pub(super) fn read_backup(order: meta::BackupOrder<'_>) -> Option<BackupOrder> {
    Some(BackupOrder {
        backup_id: order.backup_id(),
        key: read_key(order.key()?),
        table_name: text(order.table_name()),
        target: text(order.target()),
        root: text(order.root()),
        base_id: order.base_id(),
        bytes_per_second: order.bytes_per_second(),
        cancel: order.cancel(),
    })
}

pub(super) fn read_restore(order: meta::RestoreOrder<'_>) -> Option<RestoreOrder> {
    Some(RestoreOrder {
        key: read_key(order.key()?),
        target: text(order.target()),
        root: text(order.root()),
        backup_id: order.backup_id(),
        table_name: text(order.table_name()),
        table_id: order.table_id(),
        make_empty: order.make_empty(),
        attempt: order.attempt(),
    })
}

pub(super) fn write_progress(backups: &[BackupReport], restores: &[RestoreReport]) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let backups: Vec<_> = backups
        .iter()
        .map(|report| {
            let key = write_key(report.key);
            let arguments = meta::ReplicaBackupArgs {
                backup_id: report.backup_id,
                key: Some(&key),
                state: write_state(report.state),
                decree: report.decree.0,
                timestamp_ms: report.timestamp_ms,
                bytes_total: report.bytes_total,
                bytes_done: report.bytes_done,
                bytes_sent: report.bytes_sent,
                error: Some(builder.create_string(&report.error)),
            };
            meta::ReplicaBackup::create(&mut builder, &arguments)
        })
        .collect();
    let restores: Vec<_> = restores
        .iter()
        .map(|report| {
            let key = write_key(report.key);
            let arguments = meta::ReplicaRestoreArgs {
                key: Some(&key),
                state: write_state(report.state),
                attempt: report.attempt,
                bytes_total: report.bytes_total,
                bytes_done: report.bytes_done,
                permanent: report.is_permanent,
                error: Some(builder.create_string(&report.error)),
            };
            meta::ReplicaRestore::create(&mut builder, &arguments)
        })
        .collect();
    let arguments = meta::BackupProgressArgs {
        backups: Some(builder.create_vector(&backups)),
        restores: Some(builder.create_vector(&restores)),
    };
    let root = meta::BackupProgress::create(&mut builder, &arguments);
    builder.finish(root, None);
    builder.finished_data().to_vec()
}

const fn write_state(state: RunState) -> meta::BackupState {
    match state {
        RunState::Running => meta::BackupState::Running,
        RunState::Done => meta::BackupState::Done,
        RunState::Failed => meta::BackupState::Failed,
        RunState::Cancelled => meta::BackupState::Cancelled,
    }
}

//! Backups, the policies that make them by the clock, and tables made from them.

use super::{Builder, ChangeOutcome};
use crate::client::Client;
use crate::driver::Class;
use crate::error::Result;
use crate::reply::read;
use pegasus_fbs::flatbuffers::{ForwardsUOffset, Vector, WIPOffset};
use pegasus_fbs::frame::FrameKind;
use pegasus_fbs::{admin, meta};

/// How far a backup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupPhase {
    Running,
    /// All is at the target; its metadata is being written.
    Recording,
    Complete,
    /// It has failed or was cancelled, and its files are being deleted.
    Discarding,
    Failed,
    Cancelled,
    Deleting,
    /// Something that only a newer meta knows.
    Unknown,
}

/// How far a piece of work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkState {
    NotBegun,
    Running,
    Done,
    Failed,
    Cancelled,
}

/// One backup of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupInfo {
    /// Unix milliseconds of its start.
    pub id: u64,
    pub table_id: u32,
    pub table: String,
    pub partition_count: u32,
    pub target: String,
    /// Directory below the target.
    pub root: String,
    /// Empty: made by hand.
    pub policy: String,
    /// The backup that it builds on; 0: none.
    pub base_id: u64,
    pub phase: BackupPhase,
    /// Unix milliseconds; 0: not yet.
    pub ended_unix_ms: u64,
    pub partitions_done: u32,
    pub bytes_total: u64,
    pub bytes_done: u64,
    /// That left the nodes.
    pub bytes_sent: u64,
    /// Why it failed, or what it waits for.
    pub message: String,
    /// Only where one backup was asked for, and not of old ones with many partitions.
    pub partitions: Vec<PartitionBackup>,
}

/// One partition of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionBackup {
    pub index: u32,
    pub state: WorkState,
    /// 0: nobody works on it.
    pub node: u32,
    /// Everything up to it is in the backup.
    pub decree: u64,
    /// Unix milliseconds.
    pub timestamp_ms: u64,
    pub bytes_total: u64,
    pub bytes_done: u64,
    pub bytes_sent: u64,
    /// Attempts that have failed.
    pub failures: u32,
    pub error: String,
}

/// Where backups can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupTarget {
    pub name: String,
    pub url: String,
    /// What the URL needs beside it, without secrets.
    pub options: Vec<(String, String)>,
}

/// Backups that meta knows, and targets that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupList {
    /// The newest first.
    pub backups: Vec<BackupInfo>,
    pub targets: Vec<BackupTarget>,
    /// The directory below a target where none is named.
    pub default_root: String,
    /// Of meta's clock.
    pub now_unix_ms: u64,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyInfo {
    pub name: String,
    pub target: String,
    pub root: String,
    pub interval_seconds: u64,
    /// Of the day, UTC; `None`: no fixed time.
    pub start_minute: Option<u16>,
    pub keep_count: u32,
    /// 0: as nodes are configured.
    pub bytes_per_second: u64,
    pub is_enabled: bool,
    pub tables: Vec<PolicyTableInfo>,
}

/// What a policy does for a table. Times in Unix milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyTableInfo {
    pub id: u32,
    pub name: String,
    pub is_dropped: bool,
    /// 0: none yet.
    pub last_backup_id: u64,
    /// Start of the newest complete one; 0: none yet.
    pub newest_complete_ms: u64,
    pub next_ms: u64,
}

/// What to do with a policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PolicyAction {
    #[default]
    Add,
    Modify,
    Enable,
    Disable,
    Remove,
}

/// When a policy begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PolicyStart {
    /// As it is; of a new one at once.
    #[default]
    AsItIs,
    /// At this minute of the day, UTC.
    Minute(u16),
    /// Whenever it was made.
    NoFixedTime,
}

/// An order to a policy. What is 0, empty or `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyRequest {
    pub action: PolicyAction,
    pub name: String,
    pub target: String,
    pub root: String,
    pub add_tables: Vec<String>,
    pub remove_tables: Vec<String>,
    pub interval_seconds: u64,
    pub start: PolicyStart,
    pub keep_count: u32,
    pub bytes_per_second: Option<u64>,
    /// Disable and remove: what is running is cancelled.
    pub force: bool,
}

/// A table to be made from a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreRequest {
    pub target: String,
    /// Empty: the name of the cluster.
    pub root: String,
    pub backup_id: u64,
    /// That was backed up.
    pub table: String,
    /// 0: whichever had this name.
    pub table_id: u32,
    /// Empty: the old name.
    pub new_name: String,
    /// A partition whose backup is bad comes up empty.
    pub skips_bad: bool,
    /// 0: as it was.
    pub replica_count: u32,
    pub allow_degraded: bool,
}

/// A table that is being made from a backup, or was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreInfo {
    pub table_id: u32,
    pub table: String,
    pub target: String,
    pub root: String,
    pub backup_id: u64,
    pub old_table: String,
    pub old_table_id: u32,
    pub state: WorkState,
    /// Unix milliseconds.
    pub started_unix_ms: u64,
    /// 0: not yet.
    pub ended_unix_ms: u64,
    /// Why it failed.
    pub message: String,
    pub partitions: Vec<PartitionRestore>,
}

/// One partition of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionRestore {
    pub index: u32,
    pub state: WorkState,
    pub node: u32,
    /// 0 to 1000.
    pub permille: u32,
    pub bytes_total: u64,
    pub bytes_done: u64,
    /// Its backup is bad: it came up empty.
    pub is_skipped: bool,
    pub error: String,
}

impl Client {
    /// Begins a backup of a table; returns its number. An empty `root` is the name of the cluster, 0 bytes a second what nodes are
    /// configured for.
    ///
    /// # Errors
    /// [`crate::Code::UnknownTable`], [`crate::Code::InvalidArgument`] for an unknown target, [`crate::Code::Busy`] if one is
    /// running; [`crate::Error::Unknown`] when the answer was lost.
    pub async fn start_backup(
        &self,
        table: &str,
        target: &str,
        root: &str,
        bytes_per_second: u64,
    ) -> Result<u64> {
        let body = |builder: &mut Builder| {
            let arguments = admin::StartBackupArgs {
                table_name: Some(builder.create_string(table)),
                target: Some(builder.create_string(target)),
                root: Some(builder.create_string(root)),
                bytes_per_second,
            };
            let request = admin::StartBackup::create(builder, &arguments);
            builder.finish(request, None);
        };
        let answer = self
            .ask_meta(FrameKind::StartBackup, Class::Write, &body)
            .await?;
        Ok(read::<admin::StartBackupReply<'_>>(&answer)?.backup_id())
    }

    /// Backups that the cluster knows: of one table, of one policy, or all where these are empty; at most `limit`, 0 = all.
    ///
    /// # Errors
    /// When no meta answers.
    pub async fn backups(&self, table: &str, policy: &str, limit: u32) -> Result<BackupList> {
        let body = |builder: &mut Builder| {
            let arguments = admin::ListBackupsArgs {
                table_name: Some(builder.create_string(table)),
                policy: Some(builder.create_string(policy)),
                limit,
            };
            let request = admin::ListBackups::create(builder, &arguments);
            builder.finish(request, None);
        };
        let answer = self
            .ask_meta(FrameKind::ListBackups, Class::Read, &body)
            .await?;
        let reply = read::<admin::ListBackupsReply<'_>>(&answer)?;
        Ok(BackupList {
            backups: reply
                .backups()
                .into_iter()
                .flatten()
                .map(|it| backup(&it))
                .collect(),
            targets: reply
                .targets()
                .into_iter()
                .flatten()
                .map(|it| target(&it))
                .collect(),
            default_root: text(reply.default_root()),
            now_unix_ms: reply.now_unix_ms(),
        })
    }

    /// One backup, with its partitions.
    ///
    /// # Errors
    /// [`crate::Code::InvalidArgument`] if the cluster knows none of this number.
    pub async fn backup(&self, id: u64) -> Result<BackupInfo> {
        let body = |builder: &mut Builder| {
            let arguments = admin::ShowBackupArgs { backup_id: id };
            let request = admin::ShowBackup::create(builder, &arguments);
            builder.finish(request, None);
        };
        let answer = self
            .ask_meta(FrameKind::ShowBackup, Class::Read, &body)
            .await?;
        let reply = read::<admin::ShowBackupReply<'_>>(&answer)?;
        reply.backup().map(|it| backup(&it)).ok_or_else(|| {
            crate::Error::failed(
                crate::Code::Internal,
                "an answer without a backup".to_owned(),
            )
        })
    }

    /// Ends a running backup; its files are deleted.
    ///
    /// # Errors
    /// [`crate::Code::NotFound`], [`crate::Code::InvalidArgument`] if it is not running.
    pub async fn cancel_backup(&self, id: u64) -> Result<ChangeOutcome> {
        let body = |builder: &mut Builder| {
            let arguments = admin::CancelBackupArgs { backup_id: id };
            let request = admin::CancelBackup::create(builder, &arguments);
            builder.finish(request, None);
        };
        self.order(FrameKind::CancelBackup, &body).await
    }

    /// Has meta delete a complete backup.
    ///
    /// # Errors
    /// [`crate::Code::NotFound`], [`crate::Code::InvalidArgument`] if it is not complete, [`crate::Code::Busy`] if another one is
    /// being built on it.
    pub async fn delete_backup(&self, id: u64) -> Result<ChangeOutcome> {
        let body = |builder: &mut Builder| {
            let arguments = admin::DeleteBackupArgs { backup_id: id };
            let request = admin::DeleteBackup::create(builder, &arguments);
            builder.finish(request, None);
        };
        self.order(FrameKind::DeleteBackup, &body).await
    }

    /// Adds, changes, switches or removes a policy.
    ///
    /// # Errors
    /// [`crate::Code::InvalidArgument`] names what is out of range, [`crate::Code::NotFound`], [`crate::Code::AlreadyExists`],
    /// [`crate::Code::Busy`] while one of its backups is running.
    pub async fn order_backup_policy(&self, request: &PolicyRequest) -> Result<ChangeOutcome> {
        let body = |builder: &mut Builder| write_policy(builder, request);
        self.order(FrameKind::OrderBackupPolicy, &body).await
    }

    /// All policies, or the one of this name.
    ///
    /// # Errors
    /// [`crate::Code::InvalidArgument`] if there is none of this name.
    pub async fn backup_policies(&self, name: &str) -> Result<Vec<PolicyInfo>> {
        let body = |builder: &mut Builder| {
            let arguments = admin::ListBackupPoliciesArgs {
                name: Some(builder.create_string(name)),
            };
            let request = admin::ListBackupPolicies::create(builder, &arguments);
            builder.finish(request, None);
        };
        let answer = self
            .ask_meta(FrameKind::ListBackupPolicies, Class::Read, &body)
            .await?;
        let reply = read::<admin::ListBackupPoliciesReply<'_>>(&answer)?;
        let policies = reply.policies().into_iter().flatten();
        Ok(policies.map(|it| policy(&it)).collect())
    }

    /// Begins to make a table from a backup; returns its number and its name.
    ///
    /// # Errors
    /// [`crate::Code::AlreadyExists`], [`crate::Code::InvalidArgument`] names a target, a backup or a file that is not there;
    /// [`crate::Error::Unknown`] when the answer was lost.
    pub async fn start_restore(&self, request: &RestoreRequest) -> Result<(u32, String)> {
        let body = |builder: &mut Builder| {
            let arguments = admin::StartRestoreArgs {
                target: Some(builder.create_string(&request.target)),
                root: Some(builder.create_string(&request.root)),
                backup_id: request.backup_id,
                table_name: Some(builder.create_string(&request.table)),
                table_id: request.table_id,
                new_name: Some(builder.create_string(&request.new_name)),
                skip_bad_partition: request.skips_bad,
                replica_count: request.replica_count,
                allow_degraded: request.allow_degraded,
            };
            let request = admin::StartRestore::create(builder, &arguments);
            builder.finish(request, None);
        };
        let answer = self
            .ask_meta(FrameKind::StartRestore, Class::Write, &body)
            .await?;
        let reply = read::<admin::StartRestoreReply<'_>>(&answer)?;
        Ok((reply.table_id(), text(reply.table_name())))
    }

    /// How far a table is that is being made from a backup.
    ///
    /// # Errors
    /// [`crate::Code::UnknownTable`], [`crate::Code::InvalidArgument`] if it was not made from one.
    pub async fn restore_status(&self, table: &str) -> Result<RestoreInfo> {
        let body = |builder: &mut Builder| {
            let arguments = admin::ShowRestoreArgs {
                table_name: Some(builder.create_string(table)),
                table_id: 0,
            };
            let request = admin::ShowRestore::create(builder, &arguments);
            builder.finish(request, None);
        };
        let answer = self
            .ask_meta(FrameKind::ShowRestore, Class::Read, &body)
            .await?;
        let it = read::<admin::ShowRestoreReply<'_>>(&answer)?;
        Ok(RestoreInfo {
            table_id: it.table_id(),
            table: text(it.table_name()),
            target: text(it.target()),
            root: text(it.root()),
            backup_id: it.backup_id(),
            old_table: text(it.old_table_name()),
            old_table_id: it.old_table_id(),
            state: state(it.state()),
            started_unix_ms: it.started_unix_ms(),
            ended_unix_ms: it.ended_unix_ms(),
            message: text(it.message()),
            partitions: it
                .partitions()
                .into_iter()
                .flatten()
                .map(|it| restored(&it))
                .collect(),
        })
    }
}

fn write_policy(builder: &mut Builder, request: &PolicyRequest) {
    let add_tables = texts(builder, &request.add_tables);
    let remove_tables = texts(builder, &request.remove_tables);
    let arguments = admin::OrderBackupPolicyArgs {
        operation: match request.action {
            PolicyAction::Add => admin::PolicyOperation::Add,
            PolicyAction::Modify => admin::PolicyOperation::Modify,
            PolicyAction::Enable => admin::PolicyOperation::Enable,
            PolicyAction::Disable => admin::PolicyOperation::Disable,
            PolicyAction::Remove => admin::PolicyOperation::Remove,
        },
        name: Some(builder.create_string(&request.name)),
        target: Some(builder.create_string(&request.target)),
        root: Some(builder.create_string(&request.root)),
        add_tables: Some(add_tables),
        remove_tables: Some(remove_tables),
        interval_seconds: request.interval_seconds,
        start_minute: match request.start {
            PolicyStart::AsItIs => -1,
            PolicyStart::NoFixedTime => -2,
            PolicyStart::Minute(minute) => minute.into(),
        },
        keep_count: request.keep_count,
        bytes_per_second: request
            .bytes_per_second
            .map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        force: request.force,
    };
    let root = admin::OrderBackupPolicy::create(builder, &arguments);
    builder.finish(root, None);
}

fn texts(
    builder: &mut Builder,
    texts: &[String],
) -> WIPOffset<Vector<'static, ForwardsUOffset<&'static str>>> {
    let written: Vec<_> = texts.iter().map(|it| builder.create_string(it)).collect();
    builder.create_vector(&written)
}

fn text(text: Option<&str>) -> String {
    text.unwrap_or_default().to_owned()
}

fn backup(it: &admin::BackupDetail<'_>) -> BackupInfo {
    BackupInfo {
        id: it.backup_id(),
        table_id: it.table_id(),
        table: text(it.table_name()),
        partition_count: it.partition_count(),
        target: text(it.target()),
        root: text(it.root()),
        policy: text(it.policy()),
        base_id: it.base_id(),
        phase: phase(it.phase()),
        ended_unix_ms: it.ended_unix_ms(),
        partitions_done: it.partitions_done(),
        bytes_total: it.bytes_total(),
        bytes_done: it.bytes_done(),
        bytes_sent: it.bytes_sent(),
        message: text(it.message()),
        partitions: it
            .partitions()
            .into_iter()
            .flatten()
            .map(|it| partition(&it))
            .collect(),
    }
}

const fn phase(it: admin::BackupPhase) -> BackupPhase {
    match it {
        admin::BackupPhase::Running => BackupPhase::Running,
        admin::BackupPhase::Recording => BackupPhase::Recording,
        admin::BackupPhase::Complete => BackupPhase::Complete,
        admin::BackupPhase::Discarding => BackupPhase::Discarding,
        admin::BackupPhase::Failed => BackupPhase::Failed,
        admin::BackupPhase::Cancelled => BackupPhase::Cancelled,
        admin::BackupPhase::Deleting => BackupPhase::Deleting,
        _ => BackupPhase::Unknown,
    }
}

const fn state(it: meta::BackupState) -> WorkState {
    match it {
        meta::BackupState::Running => WorkState::Running,
        meta::BackupState::Done => WorkState::Done,
        meta::BackupState::Failed => WorkState::Failed,
        meta::BackupState::Cancelled => WorkState::Cancelled,
        _ => WorkState::NotBegun,
    }
}

fn partition(it: &admin::PartitionBackupDetail<'_>) -> PartitionBackup {
    PartitionBackup {
        index: it.index(),
        state: state(it.state()),
        node: it.node(),
        decree: it.decree(),
        timestamp_ms: it.timestamp_ms(),
        bytes_total: it.bytes_total(),
        bytes_done: it.bytes_done(),
        bytes_sent: it.bytes_sent(),
        failures: it.attempts(),
        error: text(it.error()),
    }
}

fn restored(it: &admin::PartitionRestoreDetail<'_>) -> PartitionRestore {
    PartitionRestore {
        index: it.index(),
        state: state(it.state()),
        node: it.node(),
        permille: it.permille(),
        bytes_total: it.bytes_total(),
        bytes_done: it.bytes_done(),
        is_skipped: it.skipped(),
        error: text(it.error()),
    }
}

fn target(it: &admin::BackupTargetDetail<'_>) -> BackupTarget {
    let options = it.options().into_iter().flatten();
    BackupTarget {
        name: text(it.name()),
        url: text(it.url()),
        options: options
            .map(|it| (text(it.key()), text(it.value())))
            .collect(),
    }
}

fn policy(it: &admin::BackupPolicyDetail<'_>) -> PolicyInfo {
    let tables = it.tables().into_iter().flatten();
    PolicyInfo {
        name: text(it.name()),
        target: text(it.target()),
        root: text(it.root()),
        interval_seconds: it.interval_seconds(),
        start_minute: u16::try_from(it.start_minute()).ok(),
        keep_count: it.keep_count(),
        bytes_per_second: it.bytes_per_second(),
        is_enabled: it.enabled(),
        tables: tables
            .map(|it| PolicyTableInfo {
                id: it.table_id(),
                name: text(it.table_name()),
                is_dropped: it.dropped(),
                last_backup_id: it.last_backup_id(),
                newest_complete_ms: it.newest_complete_unix_ms(),
                next_ms: it.next_unix_ms(),
            })
            .collect(),
    }
}

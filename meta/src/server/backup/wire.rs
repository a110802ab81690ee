//! Backups in frames: orders to nodes, what nodes say, what operators ask. The only place here that knows both.

use super::{BackupQuery, RestoreRequest};
use crate::server::letter::Failed;
use crate::state::{
    BackupCommand, BackupOrder, BackupProgress, Command, PolicyOrder, ProgressState,
    REASON_BYTES_MAX, ReplicaBackup, ReplicaKey, ReplicaRestore, RestoreOrder, StartBackup,
    TableRef, Timing, bounded,
};
use pegasus_fbs::body::{self, BodyError};
use pegasus_fbs::code::Code;
use pegasus_fbs::flatbuffers::{FlatBufferBuilder, ForwardsUOffset, Vector, WIPOffset};
use pegasus_fbs::frame::FrameKind;
use pegasus_fbs::{admin, meta};
use pegasus_replication::ids::{NodeId, NodeIncarnation, PartitionId, ReplicaIncarnation, TableId};

type Builder<'a> = FlatBufferBuilder<'a>;
type Texts<'a> = Option<Vector<'a, ForwardsUOffset<&'a str>>>;

/// Tables that one order to a policy names at most.
const TABLES_MAX: usize = 1_000;

pub(in crate::server) fn write_order<'b>(
    b: &mut Builder<'b>,
    it: &BackupOrder,
) -> WIPOffset<meta::BackupOrder<'b>> {
    let key = write_key(&it.key);
    let arguments = meta::BackupOrderArgs {
        backup_id: it.backup,
        key: Some(&key),
        table_name: Some(b.create_string(&it.table_name)),
        target: Some(b.create_string(&it.site.target)),
        root: Some(b.create_string(&it.site.root)),
        base_id: it.base.unwrap_or(0),
        bytes_per_second: it.bytes_per_second,
        cancel: it.is_cancelled,
    };
    meta::BackupOrder::create(b, &arguments)
}

pub(in crate::server) fn write_restore<'b>(
    b: &mut Builder<'b>,
    it: &RestoreOrder,
) -> WIPOffset<meta::RestoreOrder<'b>> {
    let key = write_key(&it.key);
    let source = &it.source;
    let arguments = meta::RestoreOrderArgs {
        key: Some(&key),
        target: Some(b.create_string(&source.site.target)),
        root: Some(b.create_string(&source.site.root)),
        backup_id: source.backup,
        table_name: Some(b.create_string(&source.table_name)),
        table_id: source.table.0,
        make_empty: it.is_skipped,
        attempt: it.attempt,
    };
    meta::RestoreOrder::create(b, &arguments)
}

fn write_key(key: &ReplicaKey) -> meta::ReplicaKey {
    meta::ReplicaKey::new(
        key.incarnation.0,
        key.partition.table.0,
        key.partition.index,
    )
}

/// What a node says of its backups and restores.
pub(in crate::server) fn progress(
    node: NodeId,
    incarnation: NodeIncarnation,
    bytes: &[u8],
    now_ms: u64,
) -> Result<Command, BodyError> {
    let it = body::read::<meta::BackupProgress<'_>>(bytes)?;
    let backups = it.backups().into_iter().flatten();
    let restores = it.restores().into_iter().flatten();
    let progress = BackupProgress {
        backups: backups.filter_map(|it| replica_backup(&it)).collect(),
        restores: restores.filter_map(|it| replica_restore(&it)).collect(),
    };
    let command = BackupCommand::Progress {
        node,
        incarnation,
        progress,
    };
    Ok(Command::Backup { command, now_ms })
}

/// `None`: a state of a later version; it is said again.
fn replica_backup(it: &meta::ReplicaBackup<'_>) -> Option<ReplicaBackup> {
    Some(ReplicaBackup {
        backup: it.backup_id(),
        key: read_key(it.key()?),
        state: state(it.state())?,
        decree: it.decree(),
        timestamp_ms: it.timestamp_ms(),
        bytes_total: it.bytes_total(),
        bytes_done: it.bytes_done(),
        bytes_sent: it.bytes_sent(),
        error: bounded(it.error().unwrap_or_default().to_owned(), REASON_BYTES_MAX),
    })
}

fn replica_restore(it: &meta::ReplicaRestore<'_>) -> Option<ReplicaRestore> {
    Some(ReplicaRestore {
        key: read_key(it.key()?),
        state: state(it.state())?,
        attempt: it.attempt(),
        bytes_total: it.bytes_total(),
        bytes_done: it.bytes_done(),
        is_permanent: it.permanent(),
        error: bounded(it.error().unwrap_or_default().to_owned(), REASON_BYTES_MAX),
    })
}

const fn state(it: meta::BackupState) -> Option<ProgressState> {
    match it {
        meta::BackupState::Running => Some(ProgressState::Running),
        meta::BackupState::Done => Some(ProgressState::Done),
        meta::BackupState::Failed => Some(ProgressState::Failed),
        meta::BackupState::Cancelled => Some(ProgressState::Cancelled),
        _ => None,
    }
}

fn read_key(key: &meta::ReplicaKey) -> ReplicaKey {
    let partition = PartitionId {
        table: TableId(key.table_id()),
        index: key.partition(),
    };
    ReplicaKey {
        partition,
        incarnation: ReplicaIncarnation(key.incarnation()),
    }
}

/// A question about backups. `kind` is one of those that ask.
pub(in crate::server) fn query(kind: FrameKind, bytes: &[u8]) -> Result<BackupQuery, Failed> {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    Ok(match kind {
        FrameKind::ListBackups => {
            let it = body::read::<admin::ListBackups<'_>>(bytes)?;
            BackupQuery::List {
                table: text(it.table_name()),
                policy: text(it.policy()),
                limit: it.limit(),
            }
        }
        FrameKind::ShowBackup => {
            let it = body::read::<admin::ShowBackup<'_>>(bytes)?;
            BackupQuery::Show { id: it.backup_id() }
        }
        FrameKind::ListBackupPolicies => {
            let it = body::read::<admin::ListBackupPolicies<'_>>(bytes)?;
            BackupQuery::Policies {
                name: text(it.name()),
            }
        }
        _ => {
            let it = body::read::<admin::ShowRestore<'_>>(bytes)?;
            BackupQuery::Restore {
                table: text(it.table_name()),
                id: TableId(it.table_id()),
            }
        }
    })
}

/// An order about backups. `kind` is one of those that order.
pub(in crate::server) fn order(kind: FrameKind, bytes: &[u8]) -> Result<BackupCommand, Failed> {
    Ok(match kind {
        FrameKind::StartBackup => {
            let it = body::read::<admin::StartBackup<'_>>(bytes)?;
            BackupCommand::Start(StartBackup {
                table: TableRef::Name(it.table_name().unwrap_or_default().to_owned()),
                target: it.target().unwrap_or_default().to_owned(),
                root: it.root().unwrap_or_default().to_owned(),
                bytes_per_second: it.bytes_per_second(),
            })
        }
        FrameKind::CancelBackup => {
            let it = body::read::<admin::CancelBackup<'_>>(bytes)?;
            BackupCommand::Cancel { id: it.backup_id() }
        }
        FrameKind::DeleteBackup => {
            let it = body::read::<admin::DeleteBackup<'_>>(bytes)?;
            BackupCommand::Delete { id: it.backup_id() }
        }
        _ => policy_order(bytes)?,
    })
}

fn policy_order(bytes: &[u8]) -> Result<BackupCommand, Failed> {
    let it = body::read::<admin::OrderBackupPolicy<'_>>(bytes)?;
    let timing = timing(it.start_minute())?;
    let interval_s = Some(it.interval_seconds()).filter(|it| *it > 0);
    let keep_count = Some(it.keep_count()).filter(|it| *it > 0);
    let bytes_per_second = u64::try_from(it.bytes_per_second()).ok();
    let add = tables(it.add_tables())?;
    let order = match it.operation() {
        admin::PolicyOperation::Add => PolicyOrder::Add {
            target: it.target().unwrap_or_default().to_owned(),
            root: it.root().unwrap_or_default().to_owned(),
            tables: add,
            interval_s: interval_s.unwrap_or(0),
            timing: timing.unwrap_or(Timing::AtOnce),
            keep_count: keep_count.unwrap_or(0),
            bytes_per_second: bytes_per_second.unwrap_or(0),
        },
        admin::PolicyOperation::Modify => PolicyOrder::Modify {
            add,
            remove: tables(it.remove_tables())?,
            interval_s,
            timing,
            keep_count,
            bytes_per_second,
        },
        admin::PolicyOperation::Enable => PolicyOrder::Enable,
        admin::PolicyOperation::Disable => PolicyOrder::Disable { force: it.force() },
        admin::PolicyOperation::Remove => PolicyOrder::Remove { force: it.force() },
        other => {
            let message = format!("operation {} on a policy is not known", other.0);
            return Err(Failed::new(Code::InvalidArgument, message));
        }
    };
    let name = it.name().unwrap_or_default().to_owned();
    Ok(BackupCommand::Policy { name, order })
}

/// `None`: as it is.
fn timing(minute: i32) -> Result<Option<Timing>, Failed> {
    match minute {
        -1 => Ok(None),
        -2 => Ok(Some(Timing::AtOnce)),
        _ => match u16::try_from(minute).ok().filter(|it| *it < 1_440) {
            Some(minute) => Ok(Some(Timing::Minute(minute))),
            None => {
                let message = format!("minute {minute} of a day is not 0 to 1439");
                Err(Failed::new(Code::InvalidArgument, message))
            }
        },
    }
}

fn tables(names: Texts<'_>) -> Result<Vec<TableRef>, Failed> {
    let count = names.map_or(0, |them| them.len());
    if count > TABLES_MAX {
        let message = format!("{count} tables at once, at most {TABLES_MAX}");
        return Err(Failed::new(Code::InvalidArgument, message));
    }
    let names = names.into_iter().flatten();
    Ok(names.map(|it| TableRef::Name(it.to_owned())).collect())
}

/// What an operator says of a table to be restored.
pub(in crate::server) fn restore(bytes: &[u8]) -> Result<RestoreRequest, Failed> {
    let it = body::read::<admin::StartRestore<'_>>(bytes)?;
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    Ok(RestoreRequest {
        target: text(it.target()),
        root: text(it.root()),
        backup: it.backup_id(),
        table_name: text(it.table_name()),
        table: Some(it.table_id()).filter(|id| *id > 0).map(TableId),
        new_name: text(it.new_name()),
        skips_bad: it.skip_bad_partition(),
        replica_count: Some(it.replica_count()).filter(|count| *count > 0),
        allow_degraded: it.allow_degraded(),
    })
}

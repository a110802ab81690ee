//! What operators are shown of backups, as bodies of frames.

use super::BackupQuery;
use crate::server::letter::Failed;
use crate::server::wire::finished;
use crate::state::{Phase, Policy, ProgressState, Restore, Run, State, Table};
use pegasus_backup::TargetConfig;
use pegasus_fbs::code::Code;
use pegasus_fbs::flatbuffers::{FlatBufferBuilder, ForwardsUOffset, Vector, WIPOffset};
use pegasus_fbs::{admin, meta};
use pegasus_replication::config::Stage;
use pegasus_replication::ids::{PartitionId, TableId};
use std::collections::BTreeMap;

type Builder<'a> = FlatBufferBuilder<'a>;
type Partitions<'b> = WIPOffset<Vector<'b, ForwardsUOffset<admin::PartitionBackupDetail<'b>>>>;

/// The answer to a question.
pub(in crate::server) fn answer(
    state: &State,
    targets: &BTreeMap<String, TargetConfig>,
    query: &BackupQuery,
    now_ms: u64,
) -> Result<Vec<u8>, Failed> {
    match query {
        BackupQuery::List {
            table,
            policy,
            limit,
        } => Ok(list(state, targets, (table, policy, *limit), now_ms)),
        BackupQuery::Show { id } => show(state, *id, now_ms),
        BackupQuery::Policies { name } => policies(state, name, now_ms),
        BackupQuery::Restore { table, id } => restore(state, table, *id),
    }
}

/// The newest first.
fn list(
    state: &State,
    targets: &BTreeMap<String, TargetConfig>,
    (table, policy, limit): (&str, &str, u32),
    now_ms: u64,
) -> Vec<u8> {
    let mut builder = Builder::new();
    let b = &mut builder;
    let limit = match limit {
        0 => usize::MAX,
        limit => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    let runs = state.backups().runs().values().rev();
    let wanted = runs.filter(|run| {
        (table.is_empty() || run.table_name == table) && (policy.is_empty() || run.policy == policy)
    });
    let backups: Vec<_> = wanted
        .take(limit)
        .map(|run| write_run(b, state, run, None))
        .collect();
    let backups = Some(b.create_vector(&backups));
    let targets: Vec<_> = targets
        .iter()
        .map(|(name, config)| write_target(b, name, config))
        .collect();
    let targets = Some(b.create_vector(&targets));
    let default_root = Some(b.create_string(&state.durable().cluster().name));
    let arguments = admin::ListBackupsReplyArgs {
        backups,
        targets,
        default_root,
        now_unix_ms: now_ms,
    };
    let root = admin::ListBackupsReply::create(b, &arguments);
    finished(builder, root)
}

fn write_target<'b>(
    b: &mut Builder<'b>,
    name: &str,
    config: &TargetConfig,
) -> WIPOffset<admin::BackupTargetDetail<'b>> {
    let key_file = config.access_key_file.as_ref();
    let key_file = key_file.map(|path| path.display().to_string());
    let options = [
        ("endpoint", config.endpoint.clone()),
        ("region", config.region.clone()),
        ("access_key_file", key_file),
        ("user", config.user.clone()),
    ];
    let mut written = Vec::new();
    for (key, value) in options {
        let Some(value) = value else {
            continue;
        };
        let arguments = meta::EnvArgs {
            key: Some(b.create_string(key)),
            value: Some(b.create_string(&value)),
        };
        written.push(meta::Env::create(b, &arguments));
    }
    let arguments = admin::BackupTargetDetailArgs {
        name: Some(b.create_string(name)),
        url: Some(b.create_string(&config.url)),
        options: Some(b.create_vector(&written)),
    };
    admin::BackupTargetDetail::create(b, &arguments)
}

fn show(state: &State, id: u64, now_ms: u64) -> Result<Vec<u8>, Failed> {
    let run = state.backups().runs().get(&id);
    let run = run.ok_or_else(|| {
        let message = format!("this cluster knows no backup {id}");
        Failed::new(Code::InvalidArgument, message)
    })?;
    let mut builder = Builder::new();
    let b = &mut builder;
    let partitions = write_partitions(b, state, run);
    let backup = Some(write_run(b, state, run, Some(partitions)));
    let arguments = admin::ShowBackupReplyArgs {
        backup,
        now_unix_ms: now_ms,
    };
    let root = admin::ShowBackupReply::create(b, &arguments);
    Ok(finished(builder, root))
}

const fn phase(phase: Phase) -> admin::BackupPhase {
    match phase {
        Phase::Running => admin::BackupPhase::Running,
        Phase::Recording => admin::BackupPhase::Recording,
        Phase::Complete => admin::BackupPhase::Complete,
        Phase::DiscardingFailed | Phase::DiscardingCancelled => admin::BackupPhase::Discarding,
        Phase::Failed => admin::BackupPhase::Failed,
        Phase::Cancelled => admin::BackupPhase::Cancelled,
        Phase::Deleting => admin::BackupPhase::Deleting,
    }
}

fn write_run<'b>(
    b: &mut Builder<'b>,
    state: &State,
    run: &Run,
    partitions: Option<Partitions<'b>>,
) -> WIPOffset<admin::BackupDetail<'b>> {
    let (bytes_total, bytes_done, bytes_sent) = state.backup_bytes(run);
    let ended_unix_ms = if run.phase.is_over() || run.phase == Phase::Deleting {
        run.phase_ms
    } else {
        0
    };
    let arguments = admin::BackupDetailArgs {
        backup_id: run.id,
        table_id: run.table.0,
        table_name: Some(b.create_string(&run.table_name)),
        partition_count: run.partition_count,
        target: Some(b.create_string(&run.site.target)),
        root: Some(b.create_string(&run.site.root)),
        policy: Some(b.create_string(&run.policy)),
        base_id: run.base.unwrap_or(0),
        phase: phase(run.phase),
        ended_unix_ms,
        partitions_done: run.copies_count,
        bytes_total,
        bytes_done,
        bytes_sent,
        message: Some(b.create_string(state.backup_message(run))),
        partitions,
    };
    admin::BackupDetail::create(b, &arguments)
}

fn write_partitions<'b>(b: &mut Builder<'b>, state: &State, run: &Run) -> Partitions<'b> {
    let is_forgotten = run.phase.is_over() && run.copies.is_empty();
    let indices = if is_forgotten {
        0..0
    } else {
        0..run.partition_count
    };
    let written: Vec<_> = indices
        .map(|index| write_partition(b, state, run, index))
        .collect();
    b.create_vector(&written)
}

fn write_partition<'b>(
    b: &mut Builder<'b>,
    state: &State,
    run: &Run,
    index: u32,
) -> WIPOffset<admin::PartitionBackupDetail<'b>> {
    let arguments = if let Some(copy) = run.copies.get(&index) {
        admin::PartitionBackupDetailArgs {
            index,
            state: meta::BackupState::Done,
            node: copy.node.0,
            decree: copy.decree,
            timestamp_ms: copy.timestamp_ms,
            bytes_total: copy.bytes_total,
            bytes_done: copy.bytes_total,
            bytes_sent: copy.bytes_sent,
            ..admin::PartitionBackupDetailArgs::default()
        }
    } else if let Some(work) = state.partition_work(run, index) {
        admin::PartitionBackupDetailArgs {
            index,
            state: progress_state(work.state),
            node: work.node.0,
            decree: work.decree,
            timestamp_ms: work.timestamp_ms,
            bytes_total: work.bytes_total,
            bytes_done: work.bytes_done,
            bytes_sent: work.bytes_sent,
            attempts: work.failures,
            error: Some(b.create_string(&work.error)),
        }
    } else {
        admin::PartitionBackupDetailArgs {
            index,
            ..admin::PartitionBackupDetailArgs::default()
        }
    };
    admin::PartitionBackupDetail::create(b, &arguments)
}

const fn progress_state(state: ProgressState) -> meta::BackupState {
    match state {
        ProgressState::Running => meta::BackupState::Running,
        ProgressState::Done => meta::BackupState::Done,
        ProgressState::Failed => meta::BackupState::Failed,
        ProgressState::Cancelled => meta::BackupState::Cancelled,
    }
}

fn policies(state: &State, name: &str, now_ms: u64) -> Result<Vec<u8>, Failed> {
    let policies = state.backups().policies();
    if !name.is_empty() && !policies.contains_key(name) {
        let name: String = name.chars().take(256).collect();
        let message = format!("there is no policy {name:?}");
        return Err(Failed::new(Code::InvalidArgument, message));
    }
    let mut builder = Builder::new();
    let b = &mut builder;
    let wanted = policies
        .values()
        .filter(|policy| name.is_empty() || policy.name == name);
    let written: Vec<_> = wanted
        .map(|policy| write_policy(b, state, policy, now_ms))
        .collect();
    let arguments = admin::ListBackupPoliciesReplyArgs {
        policies: Some(b.create_vector(&written)),
        now_unix_ms: now_ms,
    };
    let root = admin::ListBackupPoliciesReply::create(b, &arguments);
    Ok(finished(builder, root))
}

fn write_policy<'b>(
    b: &mut Builder<'b>,
    state: &State,
    policy: &Policy,
    now_ms: u64,
) -> WIPOffset<admin::BackupPolicyDetail<'b>> {
    let mut tables = Vec::new();
    for (id, it) in &policy.tables {
        let table = state.durable().tables().get(id);
        let newest = state.backups().newest_of_policy(&policy.name, *id);
        let arguments = admin::PolicyTableDetailArgs {
            table_id: id.0,
            table_name: table.map(|table| b.create_string(&table.name)),
            dropped: table.is_none_or(Table::is_dropped),
            last_backup_id: it.last_backup,
            newest_complete_unix_ms: newest.map_or(0, |run| run.id),
            next_unix_ms: policy.next_due_ms(it.served_ms, now_ms),
        };
        tables.push(admin::PolicyTableDetail::create(b, &arguments));
    }
    let arguments = admin::BackupPolicyDetailArgs {
        name: Some(b.create_string(&policy.name)),
        target: Some(b.create_string(&policy.site.target)),
        root: Some(b.create_string(&policy.site.root)),
        interval_seconds: policy.interval_s,
        start_minute: policy.start_minute.map_or(-1, i32::from),
        keep_count: policy.keep_count,
        bytes_per_second: policy.bytes_per_second,
        enabled: policy.is_enabled,
        tables: Some(b.create_vector(&tables)),
    };
    admin::BackupPolicyDetail::create(b, &arguments)
}

fn restore(state: &State, name: &str, id: TableId) -> Result<Vec<u8>, Failed> {
    let tables = state.durable().tables();
    let table = if id.0 == 0 {
        state.durable().table_named(name)
    } else {
        tables.get(&id)
    };
    let shown = || {
        if id.0 == 0 {
            format!("{:?}", name.chars().take(256).collect::<String>())
        } else {
            id.to_string()
        }
    };
    let missing = || {
        let message = format!("table {} does not exist", shown());
        Failed::new(Code::UnknownTable, message)
    };
    let table = table.ok_or_else(missing)?;
    let restore = state.restore_of(table.id).ok_or_else(|| {
        let message = format!("table {} was not made from a backup", shown());
        Failed::new(Code::InvalidArgument, message)
    })?;
    let mut builder = Builder::new();
    let b = &mut builder;
    let partitions: Vec<_> = (0..table.partition_count)
        .map(|index| write_restored(b, state, table, restore, index))
        .collect();
    let source = &restore.source;
    let arguments = admin::ShowRestoreReplyArgs {
        table_id: table.id.0,
        table_name: Some(b.create_string(&table.name)),
        target: Some(b.create_string(&source.site.target)),
        root: Some(b.create_string(&source.site.root)),
        backup_id: source.backup,
        old_table_name: Some(b.create_string(&source.table_name)),
        old_table_id: source.table.0,
        state: match restore {
            _ if restore.ended_ms.is_some() => meta::BackupState::Done,
            _ if table.is_dropped() => meta::BackupState::Cancelled,
            _ if !restore.failure.is_empty() => meta::BackupState::Failed,
            _ => meta::BackupState::Running,
        },
        started_unix_ms: restore.started_ms,
        ended_unix_ms: restore.ended_ms.unwrap_or(0),
        message: Some(b.create_string(&restore.failure)),
        partitions: Some(b.create_vector(&partitions)),
    };
    let root = admin::ShowRestoreReply::create(b, &arguments);
    Ok(finished(builder, root))
}

fn write_restored<'b>(
    b: &mut Builder<'b>,
    state: &State,
    table: &Table,
    restore: &Restore,
    index: u32,
) -> WIPOffset<admin::PartitionRestoreDetail<'b>> {
    let id = PartitionId {
        table: table.id,
        index,
    };
    let partition = table.partition(index);
    let node = partition
        .and_then(|it| it.primary)
        .map_or(0, |it| it.address.node.0);
    let is_there = partition.is_some_and(|it| it.stage == Stage::Active);
    let skipped = restore.skipped.get(&index);
    let work = state.restore_work(id).filter(|_| !is_there);
    let (bytes_total, bytes_done) = work.map_or((0, 0), |work| (work.bytes_total, work.bytes_done));
    let permille = match bytes_done.saturating_mul(1_000).checked_div(bytes_total) {
        _ if is_there => 1_000,
        permille => permille.unwrap_or(0).min(999),
    };
    let error = skipped.map(String::as_str);
    let error = error.or(work.map(|work| work.error.as_str()));
    let arguments = admin::PartitionRestoreDetailArgs {
        index,
        state: match work {
            _ if is_there => meta::BackupState::Done,
            None => meta::BackupState::Unset,
            Some(work) => progress_state(work.state),
        },
        node,
        permille: u32::try_from(permille).unwrap_or(1_000),
        bytes_total,
        bytes_done,
        skipped: skipped.is_some(),
        error: error.map(|error| b.create_string(error)),
    };
    admin::PartitionRestoreDetail::create(b, &arguments)
}

/// The answer to a restore that has begun.
pub(in crate::server) fn restore_reply(state: &State, table: TableId) -> Vec<u8> {
    let mut builder = Builder::new();
    let b = &mut builder;
    let found = state.durable().tables().get(&table);
    let arguments = admin::StartRestoreReplyArgs {
        table_id: table.0,
        table_name: found.map(|it| b.create_string(&it.name)),
        partition_count: found.map_or(0, |it| it.partition_count),
    };
    let root = admin::StartRestoreReply::create(b, &arguments);
    finished(builder, root)
}

/// The answer to a backup that has begun.
pub(in crate::server) fn started_reply(id: u64) -> Vec<u8> {
    let mut builder = Builder::new();
    let arguments = admin::StartBackupReplyArgs { backup_id: id };
    let root = admin::StartBackupReply::create(&mut builder, &arguments);
    finished(builder, root)
}

//! Backups, policies and restores, as Apache's tools ask for them.
//!
//! Each table of a policy has a backup of its own here, with a number of its own; Apache Pegasus has one for all tables of a
//! policy.

use super::{Ask, Caller, Question, i32_of, i64_of, quoted};
use crate::server::backup::RestoreRequest;
use crate::state::{
    BackupCommand, Command, Phase, Policy, PolicyOrder, ProgressState, Run, StartBackup, State,
    TableRef, Timing,
};
use pegasus_replication::config::Stage;
use pegasus_replication::ids::{PartitionId, TableId};
use pegasus_thrift::ErrorCode;
use pegasus_thrift::binary::Set;
use pegasus_thrift::meta::{
    self, AddBackupPolicyRequest, BackupEntry, BackupItem, ModifyBackupPolicyRequest, PolicyEntry,
    QueryBackupPolicyRequest, QueryBackupPolicyResponse, QueryBackupStatusRequest,
    QueryBackupStatusResponse, QueryRestoreResponse, StartBackupAppRequest,
};

/// Backups of one answer.
const ITEMS_MAX: usize = 1_000;

pub(super) fn start(it: &StartBackupAppRequest<'_>, now_ms: u64) -> Ask {
    let Some(table) = table_id(it.app_id) else {
        return refused(format!("there is no table {}", it.app_id));
    };
    // The name of the cluster follows the directory that is named.
    let root = match it.backup_path.unwrap_or_default().trim_matches('/') {
        "" => String::new(),
        path => format!("{path}/"),
    };
    let command = BackupCommand::Start(StartBackup {
        table: TableRef::Id(table),
        target: quoted(it.backup_provider_type),
        root,
        bytes_per_second: 0,
    });
    Ask::Order(Command::Backup { command, now_ms })
}

pub(super) fn status_of(it: &QueryBackupStatusRequest) -> Ask {
    match table_id(it.app_id) {
        None => refused(format!("there is no table {}", it.app_id)),
        Some(table) => Ask::Question(Question::BackupStatus {
            table,
            backup: it.backup_id.and_then(|id| u64::try_from(id).ok()),
        }),
    }
}

pub(super) fn add_policy(it: &AddBackupPolicyRequest<'_>, now_ms: u64) -> Ask {
    let timing = match it.start_time {
        "" => Timing::AtOnce,
        text => match minute_of(text) {
            Some(minute) => Timing::Minute(minute),
            None => return refused(not_a_time(text)),
        },
    };
    let order = PolicyOrder::Add {
        target: quoted(it.backup_provider_type),
        root: String::new(),
        tables: tables(&it.app_ids),
        // What is out of range is refused as such.
        interval_s: u64::try_from(it.backup_interval_seconds).unwrap_or(0),
        timing,
        keep_count: u32::try_from(it.backup_history_count_to_keep).unwrap_or(0),
        bytes_per_second: 0,
    };
    policy_order(it.policy_name, order, now_ms)
}

pub(super) fn modify_policy(it: &ModifyBackupPolicyRequest<'_>, now_ms: u64) -> Ask {
    let changes = it.add_appids.is_some()
        || it.removal_appids.is_some()
        || it.new_backup_interval_sec.is_some()
        || it.backup_history_count_to_keep.is_some()
        || it.start_time.is_some();
    let order = match it.is_disable {
        Some(_) if changes => {
            return refused(
                "a policy is switched on or off by itself, not with other changes".to_owned(),
            );
        }
        Some(true) => PolicyOrder::Disable {
            force: it.force_disable.unwrap_or(false),
        },
        Some(false) => PolicyOrder::Enable,
        None => {
            let timing = match it.start_time.map(|text| (text, minute_of(text))) {
                None => None,
                Some((_, Some(minute))) => Some(Timing::Minute(minute)),
                Some((text, None)) => return refused(not_a_time(text)),
            };
            PolicyOrder::Modify {
                add: tables(it.add_appids.as_deref().unwrap_or_default()),
                remove: tables(it.removal_appids.as_deref().unwrap_or_default()),
                interval_s: it
                    .new_backup_interval_sec
                    .map(|it| u64::try_from(it).unwrap_or(0)),
                timing,
                keep_count: it
                    .backup_history_count_to_keep
                    .map(|it| u32::try_from(it).unwrap_or(0)),
                bytes_per_second: None,
            }
        }
    };
    policy_order(it.policy_name, order, now_ms)
}

pub(super) fn policies_of(it: &QueryBackupPolicyRequest<'_>) -> Ask {
    Ask::Question(Question::BackupPolicies {
        names: it.policy_names.iter().map(|name| quoted(name)).collect(),
        count: usize::try_from(it.backup_info_count).unwrap_or(0),
    })
}

pub(super) fn restore(it: &meta::RestoreRequest<'_>) -> Ask {
    let path = it.restore_path.unwrap_or_default().trim_matches('/');
    let root = match (path, it.cluster_name) {
        ("", cluster) => cluster.to_owned(),
        (path, cluster) => format!("{path}/{cluster}"),
    };
    let Ok(backup) = u64::try_from(it.time_stamp) else {
        return refused(format!("there is no backup {}", it.time_stamp));
    };
    Ask::Restore(Box::new(RestoreRequest {
        target: quoted(it.backup_provider_name),
        root,
        backup,
        table_name: quoted(it.app_name),
        table: table_id(it.app_id),
        new_name: quoted(it.new_app_name),
        skips_bad: it.skip_bad_partition,
        replica_count: None,
        allow_degraded: false,
    }))
}

fn policy_order(name: &str, order: PolicyOrder, now_ms: u64) -> Ask {
    let name = quoted(name);
    let command = BackupCommand::Policy { name, order };
    Ask::Order(Command::Backup { command, now_ms })
}

fn refused(hint: String) -> Ask {
    let err = ErrorCode::InvalidParameters;
    Ask::Refused { err, hint }
}

fn table_id(id: i32) -> Option<TableId> {
    u32::try_from(id).ok().filter(|id| *id > 0).map(TableId)
}

fn tables(ids: &[i32]) -> Vec<TableRef> {
    // No table has number 0.
    let id = |id: &i32| TableRef::Id(TableId(u32::try_from(*id).unwrap_or(0)));
    ids.iter().map(id).collect()
}

/// `HH:MM`, UTC.
fn minute_of(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str, max: u16| {
        let is_plain = (1..=2).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_digit());
        text.parse::<u16>().ok().filter(|it| is_plain && *it <= max)
    };
    Some(number(hours, 23)? * 60 + number(minutes, 59)?)
}

fn not_a_time(text: &str) -> String {
    let text = quoted(text);
    format!("{text:?} is no time of the day from 00:00 to 23:59 (UTC)")
}

/// How far the backups of a table are.
pub(super) fn status(state: &State, table: TableId, backup: Option<u64>, caller: &Caller) {
    let runs = state.backups().runs().values().rev();
    let wanted = runs.filter(|run| run.table == table && backup.is_none_or(|id| id == run.id));
    let items: Vec<BackupItem<'_>> = wanted.take(ITEMS_MAX).map(item).collect();
    if items.is_empty() && backup.is_some() {
        caller.reply(&QueryBackupStatusResponse {
            err: ErrorCode::InvalidParameters,
            hint_message: "there is no such backup of this table",
            backup_items: None,
        });
        return;
    }
    caller.reply(&QueryBackupStatusResponse {
        err: ErrorCode::Ok,
        hint_message: "",
        backup_items: Some(items),
    });
}

fn item(run: &Run) -> BackupItem<'_> {
    let has_failed = matches!(
        run.phase,
        Phase::Failed | Phase::Cancelled | Phase::DiscardingFailed | Phase::DiscardingCancelled
    );
    BackupItem {
        backup_id: i64_of(run.id),
        app_name: &run.table_name,
        backup_provider_type: &run.site.target,
        backup_path: &run.site.root,
        start_time_ms: i64_of(run.id),
        end_time_ms: end_ms(run),
        is_backup_failed: has_failed,
    }
}

fn end_ms(run: &Run) -> i64 {
    if run.phase.is_under_way() {
        0
    } else {
        i64_of(run.phase_ms)
    }
}

/// Policies and what they have done.
pub(super) fn policies(state: &State, names: &[String], count: usize, caller: &Caller) {
    let all = state.backups().policies();
    if let Some(missing) = names.iter().find(|name| !all.contains_key(*name)) {
        let hint = format!("there is no policy {missing:?}");
        caller.reply(&QueryBackupPolicyResponse {
            err: ErrorCode::InvalidParameters,
            hint_msg: Some(&hint),
            ..QueryBackupPolicyResponse::default()
        });
        return;
    }
    let wanted = all
        .values()
        .filter(|it| names.is_empty() || names.contains(&it.name));
    let wanted: Vec<&Policy> = wanted.collect();
    let texts: Vec<(String, String)> = wanted
        .iter()
        .map(|it| (it.interval_s.to_string(), start_time(it)))
        .collect();
    let entries = wanted.iter().zip(&texts);
    caller.reply(&QueryBackupPolicyResponse {
        err: ErrorCode::Ok,
        policys: entries
            .map(|(policy, (interval, start))| PolicyEntry {
                policy_name: &policy.name,
                backup_provider_type: &policy.site.target,
                backup_interval_seconds: interval,
                app_ids: Set(policy.tables.keys().map(|id| i32_of(id.0)).collect()),
                backup_history_count_to_keep: i32_of(policy.keep_count),
                start_time: start,
                is_disable: !policy.is_enabled,
            })
            .collect(),
        backup_infos: wanted.iter().map(|it| made_by(state, it, count)).collect(),
        hint_msg: None,
    });
}

/// `HH:MM`; of a policy without a fixed time, when it was made.
fn start_time(policy: &Policy) -> String {
    let of_creation = u16::try_from(policy.created_ms / 60_000 % 1_440).unwrap_or(0);
    let minute = policy.start_minute.unwrap_or(of_creation);
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

fn made_by(state: &State, policy: &Policy, count: usize) -> Vec<BackupEntry> {
    let runs = state.backups().runs().values().rev();
    let made = runs.filter(|run| run.policy == policy.name);
    made.take(count.min(ITEMS_MAX))
        .map(|run| BackupEntry {
            backup_id: i64_of(run.id),
            start_time_ms: i64_of(run.id),
            end_time_ms: end_ms(run),
            app_ids: Set(vec![i32_of(run.table.0)]),
        })
        .collect()
}

/// How far a table is that is being made from a backup.
pub(super) fn restore_status(state: &State, table: i32, caller: &Caller) {
    let refuse = |err| {
        caller.reply(&QueryRestoreResponse {
            err,
            ..QueryRestoreResponse::default()
        });
    };
    let known = table_id(table).and_then(|id| state.durable().tables().get(&id));
    let Some(table) = known.filter(|it| !it.is_dropped()) else {
        return refuse(ErrorCode::AppNotExist);
    };
    let Some(restore) = state.restore_of(table.id) else {
        return refuse(ErrorCode::InvalidParameters);
    };
    let mut response = QueryRestoreResponse::default();
    for (index, partition) in table.indexed() {
        let id = PartitionId {
            table: table.id,
            index,
        };
        let is_there = partition.stage == Stage::Active;
        let work = state.restore_work(id).filter(|_| !is_there);
        let has_failed = work.is_some_and(|work| work.state == ProgressState::Failed);
        let done = work.and_then(|it| (it.bytes_done * 1_000).checked_div(it.bytes_total));
        response.restore_status.push(match restore {
            _ if restore.skipped.contains_key(&index) => ErrorCode::IgnoreBadData,
            _ if has_failed && !restore.failure.is_empty() => ErrorCode::LocalAppFailure,
            _ => ErrorCode::Ok,
        });
        let permille = if is_there {
            1_000
        } else {
            done.unwrap_or(0).min(999)
        };
        response.restore_progress.push(i32_of(permille));
    }
    caller.reply(&response);
}

#[cfg(test)]
mod tests {
    use super::minute_of;

    #[test]
    fn times_of_the_day_are_hours_and_minutes() {
        assert_eq!(minute_of("00:00"), Some(0));
        assert_eq!(minute_of("3:05"), Some(185));
        assert_eq!(minute_of("23:59"), Some(1_439));
        for text in ["24:00", "12:60", "12", "+1:00", ":", "1:000", "a:b"] {
            assert_eq!(minute_of(text), None, "{text}");
        }
    }
}

//! Tables, as Apache's tools list them.

use super::{APP_TYPE, Caller, config, i32_of, i64_of};
use crate::state::{State, Table};
use pegasus_thrift::ErrorCode;
use pegasus_thrift::binary::Map;
use pegasus_thrift::meta::{
    AppInfo, AppStatus, GetMaxReplicaCountResponse, ListAppsResponse, PatternMatchType,
};

/// Answers with the tables of this status whose name fits; dropped ones as long as they can be recalled.
pub(super) fn list(
    state: &State,
    status: AppStatus,
    pattern: Option<&str>,
    match_type: Option<PatternMatchType>,
    caller: &Caller,
) {
    let match_type = match_type.unwrap_or(PatternMatchType::MatchAll);
    let pattern = pattern.unwrap_or_default();
    let is_understood = matches!(
        match_type,
        PatternMatchType::MatchAll
            | PatternMatchType::MatchExact
            | PatternMatchType::MatchAnywhere
            | PatternMatchType::MatchPrefix
            | PatternMatchType::MatchPostfix
    );
    if !is_understood {
        let hint = format!("match type {} is not supported", match_type.number());
        caller.reply(&ListAppsResponse {
            err: ErrorCode::NotImplemented,
            hint_message: Some(&hint),
            ..ListAppsResponse::default()
        });
        return;
    }
    let fits = |name: &str| match match_type {
        PatternMatchType::MatchExact => name == pattern,
        PatternMatchType::MatchAnywhere => name.contains(pattern),
        PatternMatchType::MatchPrefix => name.starts_with(pattern),
        PatternMatchType::MatchPostfix => name.ends_with(pattern),
        _ => true,
    };
    let tables = state.durable().tables().values();
    let shown = tables.filter(|table| !table.is_condemned() && fits(&table.name));
    let infos = shown.map(|table| info(state, table));
    let wanted = infos.filter(|it| status == AppStatus::Invalid || it.status == status);
    caller.reply(&ListAppsResponse {
        err: ErrorCode::Ok,
        infos: wanted.collect(),
        hint_message: None,
    });
}

/// How many replicas the table called `name` wants.
pub(super) fn replica_count(state: &State, name: &str, caller: &Caller) {
    let table = state.durable().table_named(name);
    caller.reply(&match table {
        Some(table) => GetMaxReplicaCountResponse {
            err: ErrorCode::Ok,
            max_replica_count: i32::from(table.replica_count),
            hint_message: "",
        },
        None => GetMaxReplicaCountResponse {
            err: ErrorCode::AppNotExist,
            hint_message: "there is no such table",
            ..GetMaxReplicaCountResponse::default()
        },
    });
}

/// What becomes of a table, as Apache's tools call it.
pub(in crate::server) fn status(state: &State, table: &Table) -> AppStatus {
    match table {
        _ if table.is_dropped() => AppStatus::Dropped,
        _ if config::is_being_made(state, table) => AppStatus::Creating,
        _ => AppStatus::Available,
    }
}

pub(super) fn info<'a>(state: &State, table: &'a Table) -> AppInfo<'a> {
    let seconds = |ms: Option<u64>| i64_of(ms.unwrap_or(0) / 1_000);
    let envs = table
        .envs
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()));
    AppInfo {
        status: status(state, table),
        app_type: APP_TYPE,
        app_name: &table.name,
        app_id: i32_of(table.id.0),
        partition_count: i32_of(table.partition_count),
        envs: Map(envs.collect()),
        is_stateful: true,
        max_replica_count: i32::from(table.replica_count),
        expire_second: seconds(table.kept_until_ms),
        create_second: seconds(Some(table.created_ms)),
        drop_second: seconds(table.dropped_ms),
        init_partition_count: i32_of(table.partition_count),
        ..AppInfo::default()
    }
}

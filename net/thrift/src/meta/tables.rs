//! Tables: create, drop, recall, rename, list.

use crate::ErrorCode;
use crate::binary::Map;

enumeration! {
/// What becomes of a table.
"app_status" => pub enum AppStatus {
    /// In a request: any.
    Invalid = 0,
    Available = 1,
    Creating = 2,
    CreateFailed = 3,
    Dropping = 4,
    DropFailed = 5,
    Dropped = 6,
    Recalling = 7,
}
}

enumeration! {
/// How a pattern is compared.
"pattern_match_type" => pub enum PatternMatchType {
    Invalid = 0,
    MatchAll = 1,
    MatchExact = 2,
    MatchAnywhere = 3,
    MatchPrefix = 4,
    MatchPostfix = 5,
    MatchRegex = 6,
}
}

structure! {
/// All about a table.
"app_info" => pub struct AppInfo<'a> {
    1 status: AppStatus,
    /// `pegasus`.
    2 app_type: &'a str,
    3 app_name: &'a str,
    4 app_id: i32,
    5 partition_count: i32,
    6 envs: Map<&'a str, &'a str>,
    7 is_stateful: bool,
    8 max_replica_count: i32,
    /// Unix seconds, as the next two; of a dropped table: when it cannot be recalled any more.
    9 expire_second: i64,
    10 create_second: i64,
    11 drop_second: i64,
    12 duplicating: Option<bool>,
    13 init_partition_count: i32 = -1,
    14 is_bulk_loading: Option<bool>,
    15 atomic_idempotent: Option<bool>,
}
}

structure! {
/// Create a table.
"configuration_create_app_request" => pub struct CreateAppRequest<'a> {
    1 app_name: &'a str,
    2 options: CreateAppOptions<'a>,
}
}

structure! {
/// What a table shall be like.
"create_app_options" => pub struct CreateAppOptions<'a> {
    1 partition_count: i32,
    2 replica_count: i32,
    /// A table that is there with the same options is no error.
    3 success_if_exist: bool,
    /// `pegasus`.
    4 app_type: &'a str,
    5 is_stateful: bool,
    6 envs: Map<&'a str, &'a str>,
    7 atomic_idempotent: Option<bool>,
}
}

structure! {
/// Answer to create, and to a restore.
"configuration_create_app_response" => pub struct CreateAppResponse {
    1 err: ErrorCode,
    2 appid: i32,
}
}

structure! {
/// Drop a table.
"configuration_drop_app_request" => pub struct DropAppRequest<'a> {
    1 app_name: &'a str,
    2 options: DropAppOptions,
}
}

structure! {
/// How a table is dropped.
"drop_app_options" => pub struct DropAppOptions {
    1 success_if_not_exist: bool,
    /// How long it can be recalled; absent, 0 or less = the default.
    2 reserve_seconds: Option<i64>,
}
}

structure! {
/// Answer to drop.
"configuration_drop_app_response" => pub struct DropAppResponse {
    1 err: ErrorCode,
}
}

structure! {
/// Recall a dropped table.
"configuration_recall_app_request" => pub struct RecallAppRequest<'a> {
    1 app_id: i32,
    /// Empty = the old one.
    2 new_app_name: &'a str,
}
}

structure! {
/// Answer to recall.
"configuration_recall_app_response" => pub struct RecallAppResponse<'a> {
    1 err: ErrorCode,
    2 info: AppInfo<'a>,
}
}

structure! {
/// Rename a table.
"configuration_rename_app_request" => pub struct RenameAppRequest<'a> {
    1 old_app_name: &'a str,
    2 new_app_name: &'a str,
}
}

structure! {
/// Answer to rename.
"configuration_rename_app_response" => pub struct RenameAppResponse<'a> {
    1 err: ErrorCode,
    /// For operators.
    2 hint_message: &'a str,
}
}

structure! {
/// List tables.
"configuration_list_apps_request" => pub struct ListAppsRequest<'a> {
    /// [`AppStatus::Invalid`] = all.
    1 status: AppStatus,
    2 app_name_pattern: Option<&'a str>,
    3 match_type: Option<PatternMatchType>,
}
}

structure! {
/// Answer to list tables.
"configuration_list_apps_response" => pub struct ListAppsResponse<'a> {
    1 err: ErrorCode,
    2 infos: Vec<AppInfo<'a>>,
    3 hint_message: Option<&'a str>,
}
}

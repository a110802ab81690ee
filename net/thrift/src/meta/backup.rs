//! Backups of tables, policies that make them, and tables made from them.

use crate::ErrorCode;
use crate::binary::Set;

structure! {
/// Back up one table now.
"start_backup_app_request" => pub struct StartBackupAppRequest<'a> {
    /// The target, as the configuration of the servers names it.
    1 backup_provider_type: &'a str,
    2 app_id: i32,
    /// A directory below the target, before the one of the cluster.
    3 backup_path: Option<&'a str>,
}
}

structure! {
/// Answer to it, as soon as it is recorded.
"start_backup_app_response" => pub struct StartBackupAppResponse<'a> {
    1 err: ErrorCode,
    2 hint_message: &'a str,
    /// Unix milliseconds.
    3 backup_id: Option<i64>,
}
}

structure! {
/// How far the backups of a table are.
"query_backup_status_request" => pub struct QueryBackupStatusRequest {
    1 app_id: i32,
    /// None: all that are known.
    2 backup_id: Option<i64>,
}
}

structure! {
/// Answer to it.
"query_backup_status_response" => pub struct QueryBackupStatusResponse<'a> {
    1 err: ErrorCode,
    2 hint_message: &'a str,
    3 backup_items: Option<Vec<BackupItem<'a>>>,
}
}

structure! {
/// One backup of one table.
"backup_item" => pub struct BackupItem<'a> {
    1 backup_id: i64,
    2 app_name: &'a str,
    3 backup_provider_type: &'a str,
    4 backup_path: &'a str,
    5 start_time_ms: i64,
    /// 0: it has not ended.
    6 end_time_ms: i64,
    7 is_backup_failed: bool,
}
}

structure! {
/// Make a policy.
"configuration_add_backup_policy_request" => pub struct AddBackupPolicyRequest<'a> {
    1 backup_provider_type: &'a str,
    2 policy_name: &'a str,
    3 app_ids: Vec<i32>,
    4 backup_interval_seconds: i64,
    5 backup_history_count_to_keep: i32,
    /// `HH:MM`.
    6 start_time: &'a str,
}
}

structure! {
/// Answer to it.
"configuration_add_backup_policy_response" => pub struct AddBackupPolicyResponse<'a> {
    1 err: ErrorCode,
    2 hint_message: &'a str,
}
}

structure! {
/// Change a policy; what is not said stays.
"configuration_modify_backup_policy_request" => pub struct ModifyBackupPolicyRequest<'a> {
    1 policy_name: &'a str,
    2 add_appids: Option<Vec<i32>>,
    3 removal_appids: Option<Vec<i32>>,
    4 new_backup_interval_sec: Option<i64>,
    5 backup_history_count_to_keep: Option<i32>,
    6 is_disable: Option<bool>,
    7 start_time: Option<&'a str>,
    8 force_disable: Option<bool>,
}
}

structure! {
/// Answer to it.
"configuration_modify_backup_policy_response" => pub struct ModifyBackupPolicyResponse<'a> {
    1 err: ErrorCode,
    2 hint_message: &'a str,
}
}

structure! {
/// Tell policies and what they have done.
"configuration_query_backup_policy_request" => pub struct QueryBackupPolicyRequest<'a> {
    /// None: all.
    1 policy_names: Vec<&'a str>,
    /// Of each policy.
    2 backup_info_count: i32,
}
}

structure! {
/// Answer to it.
"configuration_query_backup_policy_response" => pub struct QueryBackupPolicyResponse<'a> {
    1 err: ErrorCode,
    2 policys: Vec<PolicyEntry<'a>>,
    /// As many as policies.
    3 backup_infos: Vec<Vec<BackupEntry>>,
    4 hint_msg: Option<&'a str>,
}
}

structure! {
/// A policy.
"policy_entry" => pub struct PolicyEntry<'a> {
    1 policy_name: &'a str,
    2 backup_provider_type: &'a str,
    /// A number, in words.
    3 backup_interval_seconds: &'a str,
    4 app_ids: Set<i32>,
    5 backup_history_count_to_keep: i32,
    6 start_time: &'a str,
    7 is_disable: bool,
}
}

structure! {
/// A backup that a policy has made.
"backup_entry" => pub struct BackupEntry {
    1 backup_id: i64,
    2 start_time_ms: i64,
    /// 0: it has not ended.
    3 end_time_ms: i64,
    4 app_ids: Set<i32>,
}
}

structure! {
/// Make a table from a backup.
"configuration_restore_request" => pub struct RestoreRequest<'a> {
    /// The directory below the target.
    1 cluster_name: &'a str,
    2 policy_name: &'a str,
    /// The backup.
    3 time_stamp: i64,
    /// Of the table that was backed up.
    4 app_name: &'a str,
    5 app_id: i32,
    /// Empty: the old name.
    6 new_app_name: &'a str,
    7 backup_provider_name: &'a str,
    8 skip_bad_partition: bool,
    /// A directory below the target, before the one of the cluster.
    9 restore_path: Option<&'a str>,
}
}

structure! {
/// How far a table is that is being made from a backup.
"configuration_query_restore_request" => pub struct QueryRestoreRequest {
    1 restore_app_id: i32,
}
}

structure! {
/// Answer to it.
"configuration_query_restore_response" => pub struct QueryRestoreResponse {
    1 err: ErrorCode,
    /// Of each partition.
    2 restore_status: Vec<ErrorCode>,
    /// The same, 0 to 1000.
    3 restore_progress: Vec<i32>,
}
}

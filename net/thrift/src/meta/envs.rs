//! Environments of tables.

use crate::ErrorCode;

enumeration! {
/// What is done with environments.
"app_env_operation" => pub enum AppEnvOperation {
    Invalid = 0,
    Set = 1,
    Del = 2,
    /// All, or those that begin with a prefix and a dot.
    Clear = 3,
}
}

structure! {
/// Set, delete or clear environments of a table.
"configuration_update_app_env_request" => pub struct UpdateAppEnvRequest<'a> {
    1 app_name: &'a str,
    2 op: AppEnvOperation,
    3 keys: Option<Vec<&'a str>>,
    /// As many as keys.
    4 values: Option<Vec<&'a str>>,
    5 clear_prefix: Option<&'a str>,
}
}

structure! {
/// Answer to it.
"configuration_update_app_env_response" => pub struct UpdateAppEnvResponse<'a> {
    1 err: ErrorCode,
    /// For operators.
    2 hint_message: &'a str,
}
}

//! The cluster as a whole.

use crate::ErrorCode;

structure! {
/// What there is to know about the cluster.
"configuration_cluster_info_request" => pub struct ClusterInfoRequest {}
}

structure! {
/// Answer to it: names and what they stand for.
"configuration_cluster_info_response" => pub struct ClusterInfoResponse<'a> {
    1 err: ErrorCode,
    2 keys: Vec<&'a str>,
    /// As many as keys.
    3 values: Vec<&'a str>,
}
}

enumeration! {
/// How much meta does on its own.
"meta_function_level" => pub enum MetaFunctionLevel {
    Stopped = 100,
    Blind = 200,
    Freezed = 300,
    Steady = 400,
    Lively = 500,
    /// In a request: only tell.
    Invalid = 10000,
}
}

structure! {
/// Set the level.
"configuration_meta_control_request" => pub struct MetaControlRequest {
    1 level: MetaFunctionLevel,
}
}

structure! {
/// Answer to it.
"configuration_meta_control_response" => pub struct MetaControlResponse {
    1 err: ErrorCode,
    /// As it was before.
    2 old_level: MetaFunctionLevel,
}
}

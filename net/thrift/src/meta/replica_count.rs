//! How many replicas the partitions of a table have.

use crate::ErrorCode;

structure! {
/// Tell it.
"configuration_get_max_replica_count_request" => pub struct GetMaxReplicaCountRequest<'a> {
    1 app_name: &'a str,
}
}

structure! {
/// Answer to it.
"configuration_get_max_replica_count_response" => pub struct GetMaxReplicaCountResponse<'a> {
    1 err: ErrorCode,
    2 max_replica_count: i32,
    3 hint_message: &'a str,
}
}

structure! {
/// Change it.
"configuration_set_max_replica_count_request" => pub struct SetMaxReplicaCountRequest<'a> {
    1 app_name: &'a str,
    2 max_replica_count: i32,
}
}

structure! {
/// Answer to it, as soon as it is recorded.
"configuration_set_max_replica_count_response" => pub struct SetMaxReplicaCountResponse<'a> {
    1 err: ErrorCode,
    /// As it was before.
    2 old_max_replica_count: i32,
    3 hint_message: &'a str,
}
}

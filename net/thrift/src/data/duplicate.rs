//! DUPLICATE: writes of another cluster.

use crate::TaskCode;

structure! {
/// DUPLICATE.
"duplicate_request" => pub struct DuplicateRequest<'a> {
    1 entries: Vec<DuplicateEntry<'a>>,
}
}

structure! {
/// A write of another cluster.
"duplicate_entry" => pub struct DuplicateEntry<'a> {
    /// Microseconds.
    1 timestamp: Option<i64>,
    2 task_code: Option<TaskCode<'a>>,
    /// A body of RDSN: the request in field 0.
    3 raw_message: Option<&'a [u8]>,
    4 cluster_id: Option<i8>,
    5 verify_timetag: Option<bool>,
}
}

structure! {
/// Answer to DUPLICATE.
"duplicate_response" => pub struct DuplicateResponse<'a> {
    1 error: Option<i32>,
    2 error_hint: Option<&'a str>,
}
}

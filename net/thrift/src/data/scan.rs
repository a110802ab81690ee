//! GET_SCANNER and SCAN: pages of rows of a partition.

use super::KeyValue;

enumeration! {
/// Where a pattern has to be in a key.
"filter_type" => pub enum FilterType {
    NoFilter = 0,
    MatchAnywhere = 1,
    MatchPrefix = 2,
    MatchPostfix = 3,
}
}

structure! {
/// GET_SCANNER: begins a scan, and is answered with its first page.
"get_scanner_request" => pub struct GetScannerRequest<'a> {
    /// Raw.
    1 start_key: &'a [u8],
    /// Raw.
    2 stop_key: &'a [u8],
    3 start_inclusive: bool,
    4 stop_inclusive: bool,
    /// 0 or less = the server's limit.
    5 batch_size: i32,
    6 no_value: bool,
    7 hash_key_filter_type: FilterType,
    8 hash_key_filter_pattern: &'a [u8],
    9 sort_key_filter_type: FilterType,
    10 sort_key_filter_pattern: &'a [u8],
    /// Absent = true.
    11 validate_partition_hash: Option<bool>,
    12 return_expire_ts: Option<bool>,
    13 full_scan: Option<bool>,
    14 only_return_count: Option<bool>,
}
}

structure! {
/// SCAN: the next page.
"scan_request" => pub struct ScanRequest {
    1 context_id: i64,
}
}

structure! {
/// Answer to GET_SCANNER and SCAN. To be written, `kvs` may be an [`Each`](crate::binary::Each) of [`KeyValue`].
"scan_response" => pub struct ScanResponse<'a, Rows = Vec<KeyValue<'a>>> {
    1 error: i32,
    /// By raw keys.
    2 kvs: Rows,
    /// For the next page; -1 = this was the last.
    3 context_id: i64,
    4 app_id: i32,
    5 partition_index: i32,
    6 server: &'a str,
    /// To `only_return_count`: rows of this page, which are not in it.
    7 kv_count: Option<i32>,
}
}

//! MULTI_PUT, MULTI_REMOVE, MULTI_GET: rows of one hash key.

use super::FilterType;

structure! {
/// A row: of MULTI_PUT and MULTI_GET by its sort key, of a scan by its raw key. To be written, the key may be a
/// [`RawKey`](super::RawKey).
"key_value" => pub struct KeyValue<'a, Key = &'a [u8]> {
    1 key: Key,
    2 value: &'a [u8],
    /// Scans that ask for it.
    3 expire_ts_seconds: Option<i32>,
}
}

structure! {
/// MULTI_PUT. Answered with an [`UpdateResponse`](super::UpdateResponse).
"multi_put_request" => pub struct MultiPutRequest<'a> {
    1 hash_key: &'a [u8],
    2 kvs: Vec<KeyValue<'a>>,
    /// Of all rows; absolute, since 2016; 0 = never.
    3 expire_ts_seconds: i32,
}
}

structure! {
/// MULTI_REMOVE.
"multi_remove_request" => pub struct MultiRemoveRequest<'a> {
    1 hash_key: &'a [u8],
    2 sort_keys: Vec<&'a [u8]>,
    /// Ignored.
    3 max_count: i64,
}
}

structure! {
/// Answer to MULTI_REMOVE.
"multi_remove_response" => pub struct MultiRemoveResponse<'a> {
    1 error: i32,
    /// Sort keys in the request, whether they existed or not.
    2 count: i64,
    3 app_id: i32,
    4 partition_index: i32,
    5 decree: i64,
    6 server: &'a str,
}
}

structure! {
/// MULTI_GET: of these sort keys or, if there are none, of a range.
"multi_get_request" => pub struct MultiGetRequest<'a> {
    1 hash_key: &'a [u8],
    2 sort_keys: Vec<&'a [u8]>,
    /// 0 or less = the server's limit.
    3 max_kv_count: i32,
    /// Bytes of sort keys and values; 0 or less = the server's limit.
    4 max_kv_size: i32,
    5 no_value: bool,
    6 start_sortkey: &'a [u8],
    /// Empty = to the end of the hash key.
    7 stop_sortkey: &'a [u8],
    8 start_inclusive: bool,
    9 stop_inclusive: bool,
    10 sort_key_filter_type: FilterType,
    11 sort_key_filter_pattern: &'a [u8],
    12 reverse: bool,
}
}

structure! {
/// Answer to MULTI_GET. To be written, `kvs` may be an [`Each`](crate::binary::Each) of [`KeyValue`].
"multi_get_response" => pub struct MultiGetResponse<'a, Rows = Vec<KeyValue<'a>>> {
    1 error: i32,
    2 kvs: Rows,
    3 app_id: i32,
    4 partition_index: i32,
    6 server: &'a str,
}
}

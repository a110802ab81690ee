//! GET, TTL, SORTKEY_COUNT, BATCH_GET.

structure! {
/// Answer to GET.
"read_response" => pub struct ReadResponse<'a> {
    1 error: i32,
    2 value: &'a [u8],
    3 app_id: i32,
    4 partition_index: i32,
    6 server: &'a str,
}
}

structure! {
/// Answer to TTL.
"ttl_response" => pub struct TtlResponse<'a> {
    1 error: i32,
    /// What is left; -1 = never expires.
    2 ttl_seconds: i32,
    3 app_id: i32,
    4 partition_index: i32,
    6 server: &'a str,
}
}

structure! {
/// Answer to SORTKEY_COUNT.
"count_response" => pub struct CountResponse<'a> {
    1 error: i32,
    /// Live rows of the hash key; -1 = counting took too long.
    2 count: i64,
    3 app_id: i32,
    4 partition_index: i32,
    6 server: &'a str,
}
}

structure! {
/// A key of BATCH_GET.
"full_key" => pub struct FullKey<'a> {
    1 hash_key: &'a [u8],
    2 sort_key: &'a [u8],
}
}

structure! {
/// BATCH_GET: rows of one partition, of any hash keys.
"batch_get_request" => pub struct BatchGetRequest<'a> {
    1 keys: Vec<FullKey<'a>>,
}
}

structure! {
/// A row of BATCH_GET.
"full_data" => pub struct FullData<'a> {
    1 hash_key: &'a [u8],
    2 sort_key: &'a [u8],
    3 value: &'a [u8],
}
}

structure! {
/// Answer to BATCH_GET: the rows that exist. To be written, `data` may be an [`Each`](crate::binary::Each) of [`FullData`].
"batch_get_response" => pub struct BatchGetResponse<'a, Rows = Vec<FullData<'a>>> {
    1 error: i32,
    2 data: Rows,
    3 app_id: i32,
    4 partition_index: i32,
    6 server: &'a str,
}
}

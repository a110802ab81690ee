//! PUT; the answer is also that of REMOVE and MULTI_PUT.

enumeration! {
/// What a PUT came from, between Apache's own servers.
"update_type" => pub enum UpdateType {
    Put = 0,
    Incr = 1,
    CheckAndSet = 2,
    CheckAndMutatePut = 3,
    CheckAndMutateRemove = 4,
}
}

structure! {
/// PUT.
"update_request" => pub struct UpdateRequest<'a> {
    /// Raw.
    1 key: &'a [u8],
    2 value: &'a [u8],
    /// Absolute, since 2016; 0 = never.
    3 expire_ts_seconds: i32,
    /// This and what follows is for Apache's own servers.
    4 kind: Option<UpdateType>,
    5 check_value_returned: Option<bool>,
    6 check_value_exist: Option<bool>,
    7 check_value: Option<&'a [u8]>,
}
}

structure! {
/// Answer to PUT, REMOVE and MULTI_PUT.
"update_response" => pub struct UpdateResponse<'a> {
    1 error: i32,
    2 app_id: i32,
    3 partition_index: i32,
    4 decree: i64,
    5 server: &'a str,
}
}

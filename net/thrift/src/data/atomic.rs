//! INCR, CHECK_AND_SET, CHECK_AND_MUTATE: writes that depend on what is there.

structure! {
/// INCR.
"incr_request" => pub struct IncrRequest<'a> {
    /// Raw.
    1 key: &'a [u8],
    2 increment: i64,
    /// 0 = keep, less = remove, more = set to this (absolute, since 2016).
    3 expire_ts_seconds: i32,
}
}

structure! {
/// Answer to INCR.
"incr_response" => pub struct IncrResponse<'a> {
    1 error: i32,
    /// On overflow: the old value.
    2 new_value: i64,
    3 app_id: i32,
    4 partition_index: i32,
    5 decree: i64,
    6 server: &'a str,
}
}

enumeration! {
/// What has to hold for the checked row.
"cas_check_type" => pub enum CasCheckType {
    NoCheck = 0,
    ValueNotExist = 1,
    ValueNotExistOrEmpty = 2,
    ValueExist = 3,
    ValueNotEmpty = 4,
    ValueMatchAnywhere = 5,
    ValueMatchPrefix = 6,
    ValueMatchPostfix = 7,
    ValueBytesLess = 8,
    ValueBytesLessOrEqual = 9,
    ValueBytesEqual = 10,
    ValueBytesGreaterOrEqual = 11,
    ValueBytesGreater = 12,
    ValueIntLess = 13,
    ValueIntLessOrEqual = 14,
    ValueIntEqual = 15,
    ValueIntGreaterOrEqual = 16,
    ValueIntGreater = 17,
}
}

structure! {
/// CHECK_AND_SET.
"check_and_set_request" => pub struct CheckAndSetRequest<'a> {
    1 hash_key: &'a [u8],
    2 check_sort_key: &'a [u8],
    3 check_type: CasCheckType,
    4 check_operand: &'a [u8],
    /// Another row is set than is checked.
    5 set_diff_sort_key: bool,
    6 set_sort_key: &'a [u8],
    7 set_value: &'a [u8],
    /// Absolute, since 2016; 0 = never.
    8 set_expire_ts_seconds: i32,
    9 return_check_value: bool,
}
}

structure! {
/// Answer to CHECK_AND_SET.
"check_and_set_response" => pub struct CheckAndSetResponse<'a> {
    1 error: i32,
    2 check_value_returned: bool,
    3 check_value_exist: bool,
    /// As it was before.
    4 check_value: &'a [u8],
    5 app_id: i32,
    6 partition_index: i32,
    7 decree: i64,
    8 server: &'a str,
}
}

enumeration! {
/// What a mutation does.
"mutate_operation" => pub enum MutateOperation {
    Put = 0,
    Delete = 1,
}
}

structure! {
/// A mutation of CHECK_AND_MUTATE.
"mutate" => pub struct Mutate<'a> {
    1 operation: MutateOperation,
    2 sort_key: &'a [u8],
    3 value: &'a [u8],
    /// Absolute, since 2016; 0 = never.
    4 set_expire_ts_seconds: i32,
}
}

structure! {
/// CHECK_AND_MUTATE.
"check_and_mutate_request" => pub struct CheckAndMutateRequest<'a> {
    1 hash_key: &'a [u8],
    2 check_sort_key: &'a [u8],
    3 check_type: CasCheckType,
    4 check_operand: &'a [u8],
    5 mutate_list: Vec<Mutate<'a>>,
    6 return_check_value: bool,
}
}

structure! {
/// Answer to CHECK_AND_MUTATE.
"check_and_mutate_response" => pub struct CheckAndMutateResponse<'a> {
    1 error: i32,
    2 check_value_returned: bool,
    3 check_value_exist: bool,
    /// As it was before.
    4 check_value: &'a [u8],
    5 app_id: i32,
    6 partition_index: i32,
    7 decree: i64,
    8 server: &'a str,
}
}

//! Answers, in the structs of Apache Pegasus. Every field that is not optional is written, because clients look at them
//! without asking whether they are there.

use super::asked::Answered;
use super::resolve;
use super::status::status_of;
use crate::request::{
    Checked, CheckedValue, Failure, Incremented, NextPage, Page, Reply, Response, Rows,
};
use pegasus_fbs::code::Code;
use pegasus_thrift::binary::Each;
use pegasus_thrift::data::{
    BatchGetResponse, CheckAndMutateResponse, CheckAndSetResponse, CountResponse, FullData,
    IncrResponse, KeyValue, MultiGetResponse, MultiRemoveResponse, ReadResponse, ScanResponse,
    TtlResponse, UpdateResponse,
};
use pegasus_thrift::{FrameStatus, Rpc, RpcAddress, storage};

/// Who answers, and for which partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) from: RpcAddress,
    /// `ip:port` of the core.
    pub(super) server: &'a str,
    pub(super) app_id: i32,
    pub(super) partition_index: i32,
}

/// The decree in the answer to a write that was not done.
const NO_DECREE: i64 = -1;
/// The number of a scanner that has no more pages.
const NO_CONTEXT: i64 = -1;

/// Appends the answer.
pub(super) fn reply(asked: &Answered, place: &Place<'_>, reply: &Reply, output: &mut Vec<u8>) {
    match reply {
        Ok(response) => {
            if !respond(asked, place, response, output) {
                asked.fail(FrameStatus::Timeout, place.from, output);
            }
        }
        Err(failure) => refuse(asked, place, failure, output),
    }
}

/// False: this is no answer to such a request, which does not happen.
#[must_use]
fn respond(asked: &Answered, place: &Place<'_>, response: &Response, output: &mut Vec<u8>) -> bool {
    match (asked.rpc, response) {
        (Rpc::Get, Response::Value(value)) => read(asked, place, storage::OK, value, output),
        (Rpc::Put | Rpc::MultiPut | Rpc::Remove, Response::Written { decree, .. }) => {
            update(asked, place, storage::OK, *decree, output);
        }
        (Rpc::MultiRemove, Response::Written { decree, count }) => {
            multi_remove(asked, place, storage::OK, *count, *decree, output);
        }
        (Rpc::Ttl, Response::Ttl(left)) => {
            let left = left.map_or(-1, |left| i32::try_from(left).unwrap_or(i32::MAX));
            ttl(asked, place, storage::OK, left, output);
        }
        (Rpc::SortkeyCount, Response::Count(found)) => {
            count(asked, place, storage::OK, *found, output);
        }
        (Rpc::MultiGet, Response::Rows(rows)) => multi_get(asked, place, rows, output),
        (Rpc::BatchGet, Response::Rows(rows)) => batch_get(asked, place, rows, output),
        (Rpc::GetScanner | Rpc::Scan, Response::Page(found)) => page(asked, place, found, output),
        (
            Rpc::Incr,
            Response::Incremented {
                outcome,
                value,
                decree,
            },
        ) => {
            let error = match outcome {
                Incremented::Done => storage::OK,
                Incremented::NotANumber | Incremented::Overflow => storage::INVALID_ARGUMENT,
            };
            incr(asked, place, error, *value, *decree, output);
        }
        (
            Rpc::CheckAndSet | Rpc::CheckAndMutate,
            Response::Checked {
                outcome,
                checked_value,
                decree,
            },
        ) => {
            let error = match outcome {
                Checked::Passed => storage::OK,
                Checked::Failed => storage::TRY_AGAIN,
                Checked::Invalid => storage::INVALID_ARGUMENT,
            };
            checked(asked, place, error, checked_value, *decree, output);
        }
        (_, Response::InvalidArgument(_)) => {
            return storage_error(asked, place, storage::INVALID_ARGUMENT, output);
        }
        (Rpc::QueryPartitionConfigByIndex, Response::Route(route)) => {
            let mut response = resolve::response(route, &asked.indices);
            if asked.is_rdsn() {
                response = response.with_host_ports();
            }
            asked.reply(&response, place.from, output);
        }
        (Rpc::Cli, Response::Text(text)) => asked.reply(&text.as_str(), place.from, output),
        _ => return false,
    }
    true
}

fn refuse(asked: &Answered, place: &Place<'_>, failure: &Failure, output: &mut Vec<u8>) {
    match (asked.rpc, failure.code) {
        (Rpc::QueryPartitionConfigByIndex, _) => {
            asked.reply(&resolve::refusal(failure), place.from, output);
        }
        // No such row, no such scanner.
        (Rpc::Get | Rpc::Ttl | Rpc::Scan, Code::NotFound) => {
            let _ = storage_error(asked, place, storage::NOT_FOUND, output);
        }
        (Rpc::Cli, _) => asked.reply(&failure.message.as_str(), place.from, output),
        _ => asked.fail(status_of(failure), place.from, output),
    }
}

/// The answer to this request with nothing in it but an error. False: such requests have none.
fn storage_error(asked: &Answered, place: &Place<'_>, error: i32, output: &mut Vec<u8>) -> bool {
    let Place {
        from,
        server,
        app_id,
        partition_index,
    } = *place;
    match asked.rpc {
        Rpc::Put | Rpc::MultiPut | Rpc::Remove => update(asked, place, error, 0, output),
        Rpc::MultiRemove => multi_remove(asked, place, error, 0, 0, output),
        Rpc::Incr => incr(asked, place, error, 0, 0, output),
        Rpc::CheckAndSet | Rpc::CheckAndMutate => {
            checked(asked, place, error, &CheckedValue::NotAsked, 0, output);
        }
        Rpc::Get => read(asked, place, error, &[], output),
        Rpc::Ttl => ttl(asked, place, error, 0, output),
        Rpc::SortkeyCount => count(asked, place, error, 0, output),
        Rpc::MultiGet => {
            let response: MultiGetResponse<'_> = MultiGetResponse {
                error,
                app_id,
                partition_index,
                server,
                ..MultiGetResponse::default()
            };
            asked.reply(&response, from, output);
        }
        Rpc::BatchGet => {
            let response: BatchGetResponse<'_> = BatchGetResponse {
                error,
                app_id,
                partition_index,
                server,
                ..BatchGetResponse::default()
            };
            asked.reply(&response, from, output);
        }
        Rpc::GetScanner | Rpc::Scan => {
            let response: ScanResponse<'_> = ScanResponse {
                error,
                context_id: NO_CONTEXT,
                app_id,
                partition_index,
                server,
                ..ScanResponse::default()
            };
            asked.reply(&response, from, output);
        }
        _ => return false,
    }
    true
}

fn read(asked: &Answered, place: &Place<'_>, error: i32, value: &[u8], output: &mut Vec<u8>) {
    let response = ReadResponse {
        error,
        value,
        app_id: place.app_id,
        partition_index: place.partition_index,
        server: place.server,
    };
    asked.reply(&response, place.from, output);
}

/// `decree`: 0 if nothing was written, here and below.
fn update(asked: &Answered, place: &Place<'_>, error: i32, decree: u64, output: &mut Vec<u8>) {
    let response = UpdateResponse {
        error,
        app_id: place.app_id,
        partition_index: place.partition_index,
        decree: decree_of(decree),
        server: place.server,
    };
    asked.reply(&response, place.from, output);
}

fn multi_remove(
    asked: &Answered,
    place: &Place<'_>,
    error: i32,
    count: u32,
    decree: u64,
    output: &mut Vec<u8>,
) {
    let response = MultiRemoveResponse {
        error,
        count: count.into(),
        app_id: place.app_id,
        partition_index: place.partition_index,
        decree: decree_of(decree),
        server: place.server,
    };
    asked.reply(&response, place.from, output);
}

fn incr(
    asked: &Answered,
    place: &Place<'_>,
    error: i32,
    new_value: i64,
    decree: u64,
    output: &mut Vec<u8>,
) {
    let response = IncrResponse {
        error,
        new_value,
        app_id: place.app_id,
        partition_index: place.partition_index,
        decree: decree_of(decree),
        server: place.server,
    };
    asked.reply(&response, place.from, output);
}

fn count(asked: &Answered, place: &Place<'_>, error: i32, count: u64, output: &mut Vec<u8>) {
    let response = CountResponse {
        error,
        count: count.cast_signed(),
        app_id: place.app_id,
        partition_index: place.partition_index,
        server: place.server,
    };
    asked.reply(&response, place.from, output);
}

fn ttl(asked: &Answered, place: &Place<'_>, error: i32, ttl_seconds: i32, output: &mut Vec<u8>) {
    let response = TtlResponse {
        error,
        ttl_seconds,
        app_id: place.app_id,
        partition_index: place.partition_index,
        server: place.server,
    };
    asked.reply(&response, place.from, output);
}

fn multi_get(asked: &Answered, place: &Place<'_>, rows: &Rows, output: &mut Vec<u8>) {
    let kvs = rows.rows.iter().map(|row| KeyValue {
        key: &row.sort_key[..],
        value: &row.value,
        expire_ts_seconds: None,
    });
    let response = MultiGetResponse {
        error: if rows.complete {
            storage::OK
        } else {
            storage::INCOMPLETE
        },
        kvs: Each(kvs),
        app_id: place.app_id,
        partition_index: place.partition_index,
        server: place.server,
    };
    asked.reply(&response, place.from, output);
}

fn batch_get(asked: &Answered, place: &Place<'_>, rows: &Rows, output: &mut Vec<u8>) {
    let data = rows.rows.iter().map(|row| FullData {
        hash_key: &row.hash_key,
        sort_key: &row.sort_key,
        value: &row.value,
    });
    let response = BatchGetResponse {
        error: storage::OK,
        data: Each(data),
        app_id: place.app_id,
        partition_index: place.partition_index,
        server: place.server,
    };
    asked.reply(&response, place.from, output);
}

fn page(asked: &Answered, place: &Place<'_>, page: &Page, output: &mut Vec<u8>) {
    let kvs = page.rows.iter().map(|row| KeyValue {
        key: &row.raw_key[..],
        value: &row.value,
        expire_ts_seconds: page.return_expiry.then(|| row.expire_at.cast_signed()),
    });
    let response = ScanResponse {
        error: storage::OK,
        kvs: Each(kvs),
        context_id: match &page.next {
            NextPage::Context(context) => context.cast_signed(),
            NextPage::None | NextPage::After(_) => NO_CONTEXT,
        },
        app_id: place.app_id,
        partition_index: place.partition_index,
        server: place.server,
        kv_count: page
            .count
            .map(|count| i32::try_from(count).unwrap_or(i32::MAX)),
    };
    asked.reply(&response, place.from, output);
}

fn checked(
    asked: &Answered,
    place: &Place<'_>,
    error: i32,
    value: &CheckedValue,
    decree: u64,
    output: &mut Vec<u8>,
) {
    let (check_value_returned, check_value_exist, check_value) = match value {
        CheckedValue::NotAsked | CheckedValue::Forgotten => (false, false, &[][..]),
        CheckedValue::Missing => (true, false, &[][..]),
        CheckedValue::Found(value) => (true, true, &value[..]),
    };
    let decree = decree_of(decree);
    let Place {
        from,
        server,
        app_id,
        partition_index,
    } = *place;
    if asked.rpc == Rpc::CheckAndSet {
        let response = CheckAndSetResponse {
            error,
            check_value_returned,
            check_value_exist,
            check_value,
            app_id,
            partition_index,
            decree,
            server,
        };
        asked.reply(&response, from, output);
    } else {
        let response = CheckAndMutateResponse {
            error,
            check_value_returned,
            check_value_exist,
            check_value,
            app_id,
            partition_index,
            decree,
            server,
        };
        asked.reply(&response, from, output);
    }
}

const fn decree_of(decree: u64) -> i64 {
    match decree {
        0 => NO_DECREE,
        decree => decree.cast_signed(),
    }
}

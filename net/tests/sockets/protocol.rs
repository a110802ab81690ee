//! The client's side of the native protocol: requests to bytes, answers from bytes.

#[path = "protocol/atomic.rs"]
mod atomic;

use bytes::Bytes;
use pegasus_fbs::body::{FailureBody, bytes, read};
use pegasus_fbs::code::Code;
use pegasus_fbs::flatbuffers::{FlatBufferBuilder, ForwardsUOffset, Vector, WIPOffset};
use pegasus_fbs::frame::{Frame, FrameKind, Header, encode_frame};
use pegasus_fbs::kv;
use pegasus_net::request::{
    Compacting, Expiry, Failure, FilterKind, Key, MultiGetRows, Operation, PartitionRoute, Reply,
    Request, RequestId, Response, Route, Row, Rows, ScanRows, Scrubbing, SortKeyRange,
};

type Builder = FlatBufferBuilder<'static>;
type Field = Option<WIPOffset<Vector<'static, u8>>>;

pub(crate) fn kind_of(operation: &Operation) -> FrameKind {
    match operation {
        Operation::Get(_) => FrameKind::Get,
        Operation::Put(_) => FrameKind::Put,
        Operation::Remove(_) => FrameKind::Remove,
        Operation::Exist(_) => FrameKind::Exist,
        Operation::Ttl(_) => FrameKind::Ttl,
        Operation::MultiPut(_) => FrameKind::MultiPut,
        Operation::MultiGet(_) => FrameKind::MultiGet,
        Operation::MultiRemove(_) => FrameKind::MultiRemove,
        Operation::Incr(_) => FrameKind::Incr,
        Operation::CheckAndSet(_) => FrameKind::CheckAndSet,
        Operation::CheckAndMutate(_) => FrameKind::CheckAndMutate,
        Operation::BatchGet(_) => FrameKind::BatchGet,
        Operation::SortKeyCount { .. } => FrameKind::SortKeyCount,
        Operation::Scan(_) => FrameKind::Scan,
        Operation::Route { .. } => FrameKind::Route,
        Operation::Ping => FrameKind::Ping,
        Operation::CoreStats { .. } => FrameKind::CoreStats,
        Operation::Scrub { .. } => FrameKind::Scrub,
        Operation::Compact { .. } => FrameKind::Compact,
        other => panic!("{} is not native", other.name()),
    }
}

pub(crate) fn request_frame(id: u64, request: &Request) -> Vec<u8> {
    let header = Header::request(kind_of(&request.operation), id)
        .to_partition(request.table, request.partition)
        .with_timeout_ms(
            request
                .timeout
                .map_or(0, |timeout| timeout.as_millis() as u32),
        );
    let mut builder = Builder::new();
    body(&mut builder, &request.operation);
    let mut frame = Vec::new();
    encode_frame(&mut frame, &header, builder.finished_data());
    frame
}

pub(crate) fn get(id: u64, key: &str) -> Vec<u8> {
    let key = Key {
        hash_key: Bytes::copy_from_slice(key.as_bytes()),
        sort_key: Bytes::new(),
    };
    request_frame(
        id,
        &Request {
            table: 1,
            partition: 0,
            timeout: None,
            operation: Operation::Get(key),
        },
    )
}

fn field(builder: &mut Builder, bytes: &[u8]) -> Field {
    Some(builder.create_vector(bytes))
}

fn finish<T>(builder: &mut Builder, root: WIPOffset<T>) {
    builder.finish(root, None);
}

fn body(b: &mut Builder, operation: &Operation) {
    match operation {
        Operation::Get(key) | Operation::Exist(key) | Operation::Ttl(key) => {
            key_body(b, key, RequestId::default())
        }
        Operation::Remove(remove) => key_body(b, &remove.key, remove.id),
        Operation::SortKeyCount { hash_key } => {
            key_body(
                b,
                &Key {
                    hash_key: hash_key.clone(),
                    sort_key: Bytes::new(),
                },
                RequestId::default(),
            );
        }
        Operation::Put(put) => {
            let args = kv::PutRequestArgs {
                hash_key: field(b, &put.key.hash_key),
                sort_key: field(b, &put.key.sort_key),
                value: field(b, &put.value),
                ttl_seconds: expiry(put.expiry).0,
                expire_at: expiry(put.expiry).1,
                request_client: put.id.client,
                request_sequence: put.id.sequence,
            };
            let root = kv::PutRequest::create(b, &args);
            finish(b, root);
        }
        Operation::MultiPut(put) => {
            let rows: Vec<_> = put
                .rows
                .iter()
                .map(|(sort_key, value)| {
                    let args = kv::RowArgs {
                        sort_key: field(b, sort_key),
                        value: field(b, value),
                        ..Default::default()
                    };
                    kv::Row::create(b, &args)
                })
                .collect();
            let args = kv::MultiPutRequestArgs {
                hash_key: field(b, &put.hash_key),
                rows: Some(b.create_vector(&rows)),
                ttl_seconds: expiry(put.expiry).0,
                expire_at: expiry(put.expiry).1,
                request_client: put.id.client,
                request_sequence: put.id.sequence,
            };
            let root = kv::MultiPutRequest::create(b, &args);
            finish(b, root);
        }
        Operation::MultiRemove(remove) => {
            let args = kv::MultiRemoveRequestArgs {
                sort_keys: strings(b, &remove.sort_keys),
                hash_key: field(b, &remove.hash_key),
                request_client: remove.id.client,
                request_sequence: remove.id.sequence,
            };
            let root = kv::MultiRemoveRequest::create(b, &args);
            finish(b, root);
        }
        Operation::Incr(incr) => atomic::incr(b, incr),
        Operation::CheckAndSet(set) => atomic::check_and_set(b, set),
        Operation::CheckAndMutate(mutate) => atomic::check_and_mutate(b, mutate),
        Operation::MultiGet(get) => multi_get_body(b, get),
        Operation::BatchGet(keys) => {
            let keys: Vec<_> = keys
                .iter()
                .map(|key| {
                    let args = kv::FullKeyArgs {
                        hash_key: field(b, &key.hash_key),
                        sort_key: field(b, &key.sort_key),
                    };
                    kv::FullKey::create(b, &args)
                })
                .collect();
            let args = kv::BatchGetRequestArgs {
                keys: Some(b.create_vector(&keys)),
            };
            let root = kv::BatchGetRequest::create(b, &args);
            finish(b, root);
        }
        Operation::Scan(scan) => scan_body(b, scan),
        Operation::Route { table_name } => {
            let args = kv::RouteRequestArgs {
                table_name: Some(b.create_string(table_name)),
            };
            let root = kv::RouteRequest::create(b, &args);
            finish(b, root);
        }
        Operation::CoreStats { core } => {
            let core = core.unwrap_or(u16::MAX);
            let root = kv::CoreStatsRequest::create(b, &kv::CoreStatsRequestArgs { core });
            finish(b, root);
        }
        Operation::Scrub { start } => {
            let root = kv::ScrubRequest::create(b, &kv::ScrubRequestArgs { start: *start });
            finish(b, root);
        }
        Operation::Compact { table, start } => {
            let args = kv::CompactRequestArgs {
                table_id: table.unwrap_or(0),
                start: *start,
            };
            let root = kv::CompactRequest::create(b, &args);
            finish(b, root);
        }
        Operation::Ping => {
            let root = kv::WriteReply::create(b, &kv::WriteReplyArgs::default());
            finish(b, root);
        }
        other => panic!("{} is not native", other.name()),
    }
}

/// Seconds to live, and the absolute second.
const fn expiry(expiry: Expiry) -> (u32, u32) {
    match expiry {
        Expiry::Default => (0, 0),
        Expiry::After(seconds) => (seconds, 0),
        Expiry::At(second) => (0, second),
    }
}

fn key_body(b: &mut Builder, key: &Key, id: RequestId) {
    let args = kv::KeyRequestArgs {
        hash_key: field(b, &key.hash_key),
        sort_key: field(b, &key.sort_key),
        request_client: id.client,
        request_sequence: id.sequence,
    };
    let root = kv::KeyRequest::create(b, &args);
    finish(b, root);
}

fn multi_get_body(b: &mut Builder, get: &pegasus_net::request::MultiGet) {
    let mut args = kv::MultiGetRequestArgs {
        hash_key: field(b, &get.hash_key),
        max_rows: get.max_rows,
        max_bytes: get.max_bytes,
        no_value: get.no_value,
        ..Default::default()
    };
    match &get.rows {
        MultiGetRows::Named(sort_keys) => args.sort_keys = strings(b, sort_keys),
        MultiGetRows::Range {
            range,
            filter,
            reverse,
        } => {
            args.start_sort_key = field(b, &range.start);
            args.stop_sort_key = field(b, &range.stop);
            args.start_inclusive = range.start_inclusive;
            args.stop_inclusive = range.stop_inclusive;
            args.filter = filter_number(filter.kind);
            args.filter_pattern = field(b, &filter.pattern);
            args.reverse = *reverse;
        }
    }
    let root = kv::MultiGetRequest::create(b, &args);
    finish(b, root);
}

fn scan_body(b: &mut Builder, scan: &pegasus_net::request::Scan) {
    let mut args = kv::ScanRequestArgs {
        sort_filter: filter_number(scan.sort_filter.kind),
        sort_filter_pattern: field(b, &scan.sort_filter.pattern),
        batch_rows: scan.batch_rows,
        batch_bytes: scan.batch_bytes,
        no_value: scan.no_value,
        only_count: scan.only_count,
        resume_key: field(b, &scan.resume_key),
        ..Default::default()
    };
    match &scan.rows {
        ScanRows::OfPartition { hash_filter } => {
            args.hash_filter = filter_number(hash_filter.kind);
            args.hash_filter_pattern = field(b, &hash_filter.pattern);
        }
        ScanRows::OfHashKey {
            hash_key,
            range:
                SortKeyRange {
                    start,
                    start_inclusive,
                    stop,
                    stop_inclusive,
                },
        } => {
            args.hash_key = field(b, hash_key);
            args.start_sort_key = field(b, start);
            args.stop_sort_key = field(b, stop);
            args.start_inclusive = *start_inclusive;
            args.stop_inclusive = *stop_inclusive;
        }
    }
    let root = kv::ScanRequest::create(b, &args);
    finish(b, root);
}

type Strings = Option<WIPOffset<Vector<'static, ForwardsUOffset<kv::Bytes<'static>>>>>;

fn strings(b: &mut Builder, strings: &[Bytes]) -> Strings {
    let tables: Vec<_> = strings
        .iter()
        .map(|string| {
            let args = kv::BytesArgs {
                data: field(b, string),
            };
            kv::Bytes::create(b, &args)
        })
        .collect();
    Some(b.create_vector(&tables))
}

fn filter_number(kind: FilterKind) -> kv::Filter {
    match kind {
        FilterKind::None => kv::Filter::None,
        FilterKind::Anywhere => kv::Filter::Anywhere,
        FilterKind::Prefix => kv::Filter::Prefix,
        FilterKind::Postfix => kv::Filter::Postfix,
    }
}

/// The answer in a reply frame.
pub(crate) fn reply_of(frame: &Frame) -> Reply {
    assert!(frame.header.is_reply());
    if frame.header.is_failure() {
        let failure = FailureBody::read(&frame.body).unwrap();
        return Err(Failure {
            code: failure.code,
            message: failure.message,
            retry_after_ms: failure.retry_after.as_millis() as u32,
            primary: failure.primary.parse().ok(),
            ballot: failure.ballot,
        });
    }
    let body = &frame.body[..];
    Ok(match frame.header.kind {
        FrameKind::Get => Response::Value(owned(read::<kv::ValueReply<'_>>(body).unwrap().value())),
        FrameKind::Put | FrameKind::Remove | FrameKind::MultiPut | FrameKind::MultiRemove => {
            let reply = read::<kv::WriteReply<'_>>(body).unwrap();
            Response::Written {
                decree: reply.decree(),
                count: reply.count(),
            }
        }
        FrameKind::Incr => atomic::incremented(body),
        FrameKind::CheckAndSet | FrameKind::CheckAndMutate => atomic::checked(body),
        FrameKind::Exist => Response::Exists(read::<kv::ExistReply<'_>>(body).unwrap().exists()),
        FrameKind::Ttl => {
            Response::Ttl(u32::try_from(read::<kv::TtlReply<'_>>(body).unwrap().ttl_seconds()).ok())
        }
        FrameKind::SortKeyCount => {
            Response::Count(read::<kv::CountReply<'_>>(body).unwrap().count())
        }
        FrameKind::MultiGet | FrameKind::BatchGet | FrameKind::Scan => rows_of(body),
        FrameKind::Route => route_of(body),
        FrameKind::Ping => Response::Pong,
        FrameKind::CoreStats => {
            let reply = read::<kv::CoreStatsReply<'_>>(body).unwrap();
            Response::CoreStats(reply.words().unwrap_or_default().iter().collect())
        }
        FrameKind::Scrub => scrubbing_of(body),
        FrameKind::Compact => compacting_of(body),
        kind => panic!("reply of kind {kind:?}"),
    })
}

fn scrubbing_of(body: &[u8]) -> Response {
    let reply = read::<kv::ScrubReply<'_>>(body).unwrap();
    let findings = reply.findings().unwrap_or_default().iter();
    Response::Scrub(Scrubbing {
        began: reply.began(),
        is_running: reply.running(),
        done: reply.done(),
        total: reply.total(),
        finished_unix_s: reply.finished_unix_s(),
        findings: findings.map(str::to_owned).collect(),
    })
}

fn compacting_of(body: &[u8]) -> Response {
    let reply = read::<kv::CompactReply<'_>>(body).unwrap();
    Response::Compact(Compacting {
        began: reply.began(),
        is_running: reply.running(),
        done: reply.done(),
        total: reply.total(),
        waiting: reply.waiting(),
        finished_unix_s: reply.finished_unix_s(),
    })
}

fn rows_of(body: &[u8]) -> Response {
    let reply = read::<kv::RowsReply<'_>>(body).unwrap();
    let rows = reply.rows().unwrap_or_default().iter().map(|row| Row {
        hash_key: owned(row.hash_key()),
        sort_key: owned(row.sort_key()),
        value: owned(row.value()),
        expire_at: row.expire_at(),
    });
    Response::Rows(Rows {
        rows: rows.collect(),
        complete: reply.complete(),
        resume_key: owned(reply.resume_key()),
        count: reply.count(),
    })
}

fn route_of(body: &[u8]) -> Response {
    let reply = read::<kv::RouteReply<'_>>(body).unwrap();
    let partitions = reply
        .partitions()
        .unwrap_or_default()
        .iter()
        .map(|partition| PartitionRoute {
            ballot: partition.ballot(),
            primary: partition.primary().unwrap_or_default().to_owned(),
            secondaries: partition
                .secondaries()
                .unwrap_or_default()
                .iter()
                .map(str::to_owned)
                .collect(),
        });
    Response::Route(Route {
        table: reply.table_id(),
        partitions: partitions.collect(),
    })
}

fn owned(vector: Option<Vector<'_, u8>>) -> Bytes {
    Bytes::copy_from_slice(bytes(vector))
}

pub(crate) fn code_of(reply: &Reply) -> Code {
    reply
        .as_ref()
        .map_or_else(|failure| failure.code, |_| Code::Ok)
}

//! FlatBuffers bodies to operations: verified, then bounded, then sliced without a copy.

mod atomic;

use crate::request::{
    Expiry, Failure, Filter, FilterKind, HASH_KEY_BYTES_MAX, Key, MultiGet, MultiGetRows, MultiPut,
    MultiRemove, Operation, Put, REQUEST_ITEMS_MAX, Remove, RequestId, Scan, ScanRows,
    SortKeyRange, TABLE_NAME_BYTES_MAX,
};
use bytes::Bytes;
use pegasus_fbs::body::{BodyError, bytes, read};
use pegasus_fbs::code::Code;
use pegasus_fbs::flatbuffers::{ForwardsUOffset, Vector};
use pegasus_fbs::frame::FrameKind;
use pegasus_fbs::kv;

/// The operation of a request frame of this kind.
pub(super) fn operation(kind: FrameKind, body: &Bytes) -> Result<Operation, Failure> {
    match kind {
        FrameKind::Get => Ok(Operation::Get(key_request(body)?.0)),
        FrameKind::Exist => Ok(Operation::Exist(key_request(body)?.0)),
        FrameKind::Ttl => Ok(Operation::Ttl(key_request(body)?.0)),
        FrameKind::Remove => {
            key_request(body).map(|(key, id)| Operation::Remove(Remove { key, id }))
        }
        FrameKind::SortKeyCount => sort_key_count(body),
        FrameKind::Put => put(body).map(Operation::Put),
        FrameKind::MultiPut => multi_put(body).map(Operation::MultiPut),
        FrameKind::MultiGet => multi_get(body).map(Operation::MultiGet),
        FrameKind::MultiRemove => multi_remove(body).map(Operation::MultiRemove),
        FrameKind::Incr => atomic::incr(body).map(Operation::Incr),
        FrameKind::CheckAndSet => atomic::check_and_set(body).map(Operation::CheckAndSet),
        FrameKind::CheckAndMutate => atomic::check_and_mutate(body).map(Operation::CheckAndMutate),
        FrameKind::BatchGet => batch_get(body),
        FrameKind::Scan => scan(body).map(Operation::Scan),
        FrameKind::Route => route(body),
        FrameKind::Ping => Ok(Operation::Ping),
        FrameKind::CoreStats => core_stats(body),
        FrameKind::HotKeys => hot_keys(body),
        FrameKind::Scrub => scrub(body),
        FrameKind::Compact => compact(body),
        FrameKind::RemoteCommand => remote_command(body),
        _ => Err(Failure::new(
            Code::Unsupported,
            "a data node does not answer this request: ask a meta process",
        )),
    }
}

fn key_request(body: &Bytes) -> Result<(Key, RequestId), Failure> {
    let request = read::<kv::KeyRequest<'_>>(body).map_err(malformed)?;
    let key = key(body, request.hash_key(), request.sort_key())?;
    Ok((
        key,
        RequestId {
            client: request.request_client(),
            sequence: request.request_sequence(),
        },
    ))
}

fn sort_key_count(body: &Bytes) -> Result<Operation, Failure> {
    let (key, _) = key_request(body)?;
    Ok(Operation::SortKeyCount {
        hash_key: not_empty(key.hash_key)?,
    })
}

fn put(body: &Bytes) -> Result<Put, Failure> {
    let request = read::<kv::PutRequest<'_>>(body).map_err(malformed)?;
    Ok(Put {
        key: key(body, request.hash_key(), request.sort_key())?,
        value: slice(body, request.value()),
        expiry: expiry(request.ttl_seconds(), request.expire_at()),
        id: RequestId {
            client: request.request_client(),
            sequence: request.request_sequence(),
        },
    })
}

fn multi_put(body: &Bytes) -> Result<MultiPut, Failure> {
    let request = read::<kv::MultiPutRequest<'_>>(body).map_err(malformed)?;
    let rows = items(request.rows(), "rows")?;
    if rows.is_none() {
        return Err(invalid("multi put without rows"));
    }
    Ok(MultiPut {
        hash_key: not_empty(hash_key(body, request.hash_key())?)?,
        rows: rows
            .iter()
            .flatten()
            .map(|row| (slice(body, row.sort_key()), slice(body, row.value())))
            .collect(),
        expiry: expiry(request.ttl_seconds(), request.expire_at()),
        id: RequestId {
            client: request.request_client(),
            sequence: request.request_sequence(),
        },
    })
}

fn multi_remove(body: &Bytes) -> Result<MultiRemove, Failure> {
    let request = read::<kv::MultiRemoveRequest<'_>>(body).map_err(malformed)?;
    let sort_keys = byte_strings(body, request.sort_keys(), "sort keys")?;
    if sort_keys.is_empty() {
        return Err(invalid("multi remove without sort keys"));
    }
    Ok(MultiRemove {
        hash_key: not_empty(hash_key(body, request.hash_key())?)?,
        sort_keys,
        id: RequestId {
            client: request.request_client(),
            sequence: request.request_sequence(),
        },
    })
}

fn multi_get(body: &Bytes) -> Result<MultiGet, Failure> {
    let request = read::<kv::MultiGetRequest<'_>>(body).map_err(malformed)?;
    let sort_keys = byte_strings(body, request.sort_keys(), "sort keys")?;
    let rows = if sort_keys.is_empty() {
        MultiGetRows::Range {
            range: SortKeyRange {
                start: slice(body, request.start_sort_key()),
                start_inclusive: request.start_inclusive(),
                stop: slice(body, request.stop_sort_key()),
                stop_inclusive: request.stop_inclusive(),
            },
            filter: filter(body, request.filter(), request.filter_pattern())?,
            reverse: request.reverse(),
        }
    } else {
        MultiGetRows::Named(sort_keys)
    };
    Ok(MultiGet {
        hash_key: not_empty(hash_key(body, request.hash_key())?)?,
        rows,
        max_rows: request.max_rows(),
        max_bytes: request.max_bytes(),
        no_value: request.no_value(),
    })
}

fn batch_get(body: &Bytes) -> Result<Operation, Failure> {
    let request = read::<kv::BatchGetRequest<'_>>(body).map_err(malformed)?;
    let Some(keys) = items(request.keys(), "keys")? else {
        return Err(invalid("batch get without keys"));
    };
    let keys = keys
        .iter()
        .map(|full| key(body, full.hash_key(), full.sort_key()))
        .collect::<Result<_, _>>()?;
    Ok(Operation::BatchGet(keys))
}

fn scan(body: &Bytes) -> Result<Scan, Failure> {
    let request = read::<kv::ScanRequest<'_>>(body).map_err(malformed)?;
    let hash_key = hash_key(body, request.hash_key())?;
    let rows = if hash_key.is_empty() {
        ScanRows::OfPartition {
            hash_filter: filter(body, request.hash_filter(), request.hash_filter_pattern())?,
        }
    } else {
        let range = SortKeyRange {
            start: slice(body, request.start_sort_key()),
            start_inclusive: request.start_inclusive(),
            stop: slice(body, request.stop_sort_key()),
            stop_inclusive: request.stop_inclusive(),
        };
        ScanRows::OfHashKey { hash_key, range }
    };
    Ok(Scan {
        rows,
        sort_filter: filter(body, request.sort_filter(), request.sort_filter_pattern())?,
        batch_rows: request.batch_rows(),
        batch_bytes: request.batch_bytes(),
        no_value: request.no_value(),
        only_count: request.only_count(),
        resume_key: slice(body, request.resume_key()),
    })
}

fn route(body: &Bytes) -> Result<Operation, Failure> {
    let request = read::<kv::RouteRequest<'_>>(body).map_err(malformed)?;
    let table_name = request.table_name().unwrap_or_default();
    if table_name.len() > TABLE_NAME_BYTES_MAX {
        let bytes = table_name.len();
        return Err(invalid(format!(
            "table name of {bytes} bytes, the limit is {TABLE_NAME_BYTES_MAX}"
        )));
    }
    Ok(Operation::Route {
        table_name: table_name.to_owned(),
    })
}

/// The core that is asked, in `kv.CoreStatsRequest` and `kv.HotKeysRequest`.
const ASKED_CORE: u16 = u16::MAX;

fn core_stats(body: &Bytes) -> Result<Operation, Failure> {
    let request = read::<kv::CoreStatsRequest<'_>>(body).map_err(malformed)?;
    let core = Some(request.core()).filter(|core| *core != ASKED_CORE);
    Ok(Operation::CoreStats { core })
}

fn hot_keys(body: &Bytes) -> Result<Operation, Failure> {
    let request = read::<kv::HotKeysRequest<'_>>(body).map_err(malformed)?;
    let core = Some(request.core()).filter(|core| *core != ASKED_CORE);
    Ok(Operation::HotKeys { core })
}

fn scrub(body: &Bytes) -> Result<Operation, Failure> {
    let request = read::<kv::ScrubRequest<'_>>(body).map_err(malformed)?;
    Ok(Operation::Scrub {
        start: request.start(),
    })
}

fn compact(body: &Bytes) -> Result<Operation, Failure> {
    let request = read::<kv::CompactRequest<'_>>(body).map_err(malformed)?;
    Ok(Operation::Compact {
        table: Some(request.table_id()).filter(|table| *table != 0),
        start: request.start(),
    })
}

/// Arguments of a remote command.
const ARGUMENTS_MAX: usize = 1024;

fn remote_command(body: &Bytes) -> Result<Operation, Failure> {
    let request = read::<kv::RemoteCommandRequest<'_>>(body).map_err(malformed)?;
    let arguments = request.arguments();
    let count = arguments.map_or(0, |them| them.len());
    if count > ARGUMENTS_MAX {
        let message = format!("{count} arguments, the limit is {ARGUMENTS_MAX}");
        return Err(Failure::new(Code::TooLarge, message));
    }
    Ok(Operation::RemoteCommand {
        name: request.name().unwrap_or_default().to_owned(),
        arguments: arguments.iter().flatten().map(str::to_owned).collect(),
    })
}

fn key(
    body: &Bytes,
    hash: Option<Vector<'_, u8>>,
    sort: Option<Vector<'_, u8>>,
) -> Result<Key, Failure> {
    Ok(Key {
        hash_key: hash_key(body, hash)?,
        sort_key: slice(body, sort),
    })
}

fn hash_key(body: &Bytes, vector: Option<Vector<'_, u8>>) -> Result<Bytes, Failure> {
    let hash_key = slice(body, vector);
    if hash_key.len() > HASH_KEY_BYTES_MAX {
        let message = format!(
            "hash key of {} bytes, the limit is {HASH_KEY_BYTES_MAX}",
            hash_key.len()
        );
        return Err(Failure::new(Code::TooLarge, message));
    }
    Ok(hash_key)
}

const fn expiry(ttl_seconds: u32, expire_at: u32) -> Expiry {
    match (ttl_seconds, expire_at) {
        (0, 0) => Expiry::Default,
        (ttl_seconds, 0) => Expiry::After(ttl_seconds),
        (_, expire_at) => Expiry::At(expire_at),
    }
}

fn not_empty(hash_key: Bytes) -> Result<Bytes, Failure> {
    if hash_key.is_empty() {
        Err(invalid("empty hash key"))
    } else {
        Ok(hash_key)
    }
}

fn filter(
    body: &Bytes,
    kind: kv::Filter,
    pattern: Option<Vector<'_, u8>>,
) -> Result<Filter, Failure> {
    let kind = match kind {
        kv::Filter::None => FilterKind::None,
        kv::Filter::Anywhere => FilterKind::Anywhere,
        kv::Filter::Prefix => FilterKind::Prefix,
        kv::Filter::Postfix => FilterKind::Postfix,
        kv::Filter(number) => return Err(invalid(format!("unknown filter {number}"))),
    };
    Ok(Filter {
        kind,
        pattern: slice(body, pattern),
    })
}

fn byte_strings<'a>(
    body: &Bytes,
    vector: Option<Vector<'a, ForwardsUOffset<kv::Bytes<'a>>>>,
    what: &str,
) -> Result<Vec<Bytes>, Failure> {
    let strings = items(vector, what)?;
    Ok(strings
        .iter()
        .flatten()
        .map(|string| slice(body, string.data()))
        .collect())
}

/// `None` = absent or empty; bounded before anything is allocated for it.
fn items<'a, T>(
    vector: Option<Vector<'a, T>>,
    what: &str,
) -> Result<Option<Vector<'a, T>>, Failure> {
    match vector {
        Some(vector) if vector.len() > REQUEST_ITEMS_MAX => {
            let message = format!(
                "{} {what} in one request, the limit is {REQUEST_ITEMS_MAX}",
                vector.len()
            );
            Err(Failure::new(Code::TooLarge, message))
        }
        Some(vector) if vector.is_empty() => Ok(None),
        vector => Ok(vector),
    }
}

/// Part of the body, sharing its memory.
fn slice(body: &Bytes, vector: Option<Vector<'_, u8>>) -> Bytes {
    body.slice_ref(bytes(vector))
}

fn malformed(error: BodyError) -> Failure {
    invalid(error.to_string())
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(Code::InvalidArgument, message)
}

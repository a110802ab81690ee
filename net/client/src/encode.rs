//! Request bodies.

use crate::options::{FullScan, HashScan, MultiGet, SortKeyRange, filter};
use pegasus_fbs::flatbuffers::{FlatBufferBuilder, ForwardsUOffset, Vector, WIPOffset};
use pegasus_fbs::kv;

pub(crate) type Builder = FlatBufferBuilder<'static>;
type Data = Option<WIPOffset<Vector<'static, u8>>>;
type Tables<T> = Option<WIPOffset<Vector<'static, ForwardsUOffset<T>>>>;

/// Identity of a write over all its attempts; zeros = none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RequestId {
    pub(crate) client: u64,
    pub(crate) sequence: u64,
}

pub(crate) fn key(builder: &mut Builder, hash_key: &[u8], sort_key: &[u8], id: RequestId) {
    let sort_key = data(builder, sort_key);
    let hash_key = data(builder, hash_key);
    let arguments = kv::KeyRequestArgs {
        hash_key,
        sort_key,
        request_client: id.client,
        request_sequence: id.sequence,
    };
    let request = kv::KeyRequest::create(builder, &arguments);
    builder.finish(request, None);
}

pub(crate) fn put(
    builder: &mut Builder,
    (hash_key, sort_key, value): (&[u8], &[u8], &[u8]),
    ttl_seconds: u32,
    id: RequestId,
) {
    let value = data(builder, value);
    let sort_key = data(builder, sort_key);
    let hash_key = data(builder, hash_key);
    let arguments = kv::PutRequestArgs {
        hash_key,
        sort_key,
        value,
        ttl_seconds,
        request_client: id.client,
        request_sequence: id.sequence,
    };
    let request = kv::PutRequest::create(builder, &arguments);
    builder.finish(request, None);
}

pub(crate) fn multi_put<K: AsRef<[u8]>, V: AsRef<[u8]>>(
    builder: &mut Builder,
    hash_key: &[u8],
    rows: &[(K, V)],
    ttl_seconds: u32,
    id: RequestId,
) {
    let hash_key = data(builder, hash_key);
    let rows: Vec<_> = rows
        .iter()
        .map(|(sort_key, value)| {
            let value = data(builder, value.as_ref());
            let sort_key = data(builder, sort_key.as_ref());
            kv::Row::create(
                builder,
                &kv::RowArgs {
                    sort_key,
                    value,
                    ..Default::default()
                },
            )
        })
        .collect();
    let rows = Some(builder.create_vector(&rows));
    let arguments = kv::MultiPutRequestArgs {
        hash_key,
        rows,
        ttl_seconds,
        request_client: id.client,
        request_sequence: id.sequence,
    };
    let request = kv::MultiPutRequest::create(builder, &arguments);
    builder.finish(request, None);
}

pub(crate) fn multi_remove<K: AsRef<[u8]>>(
    builder: &mut Builder,
    hash_key: &[u8],
    sort_keys: &[K],
    id: RequestId,
) {
    let sort_keys = keys(builder, sort_keys);
    let hash_key = data(builder, hash_key);
    let arguments = kv::MultiRemoveRequestArgs {
        hash_key,
        sort_keys,
        request_client: id.client,
        request_sequence: id.sequence,
    };
    let request = kv::MultiRemoveRequest::create(builder, &arguments);
    builder.finish(request, None);
}

pub(crate) fn multi_get(builder: &mut Builder, hash_key: &[u8], options: &MultiGet) {
    let sort_keys = keys(builder, &options.sort_keys);
    let hash_key = data(builder, hash_key);
    let SortKeyRange {
        start,
        start_inclusive,
        stop,
        stop_inclusive,
    } = &options.range;
    let start_sort_key = data(builder, start);
    let stop_sort_key = data(builder, stop);
    let (filter, pattern) = filter(options.filter.as_ref());
    let filter_pattern = data(builder, pattern);
    let arguments = kv::MultiGetRequestArgs {
        hash_key,
        sort_keys,
        max_rows: options.max_rows,
        max_bytes: options.max_bytes,
        no_value: options.no_value,
        start_sort_key,
        stop_sort_key,
        start_inclusive: *start_inclusive,
        stop_inclusive: *stop_inclusive,
        filter,
        filter_pattern,
        reverse: options.reverse,
    };
    let request = kv::MultiGetRequest::create(builder, &arguments);
    builder.finish(request, None);
}

pub(crate) fn batch_get(builder: &mut Builder, keys: &[(&[u8], &[u8])]) {
    let keys: Vec<_> = keys
        .iter()
        .map(|(hash_key, sort_key)| {
            let sort_key = data(builder, sort_key);
            let hash_key = data(builder, hash_key);
            kv::FullKey::create(builder, &kv::FullKeyArgs { hash_key, sort_key })
        })
        .collect();
    let keys = Some(builder.create_vector(&keys));
    let request = kv::BatchGetRequest::create(builder, &kv::BatchGetRequestArgs { keys });
    builder.finish(request, None);
}

pub(crate) fn hash_scan(
    builder: &mut Builder,
    hash_key: &[u8],
    options: &HashScan,
    resume_key: &[u8],
) {
    let hash_key = data(builder, hash_key);
    let SortKeyRange {
        start,
        start_inclusive,
        stop,
        stop_inclusive,
    } = &options.range;
    let start_sort_key = data(builder, start);
    let stop_sort_key = data(builder, stop);
    let (sort_filter, pattern) = filter(options.filter.as_ref());
    let sort_filter_pattern = data(builder, pattern);
    let resume_key = data(builder, resume_key);
    let arguments = kv::ScanRequestArgs {
        hash_key,
        start_sort_key,
        stop_sort_key,
        start_inclusive: *start_inclusive,
        stop_inclusive: *stop_inclusive,
        sort_filter,
        sort_filter_pattern,
        batch_rows: options.batch_rows,
        batch_bytes: options.batch_bytes,
        no_value: options.no_value,
        resume_key,
        ..Default::default()
    };
    let request = kv::ScanRequest::create(builder, &arguments);
    builder.finish(request, None);
}

pub(crate) fn full_scan(
    builder: &mut Builder,
    options: &FullScan,
    only_count: bool,
    resume_key: &[u8],
) {
    let (hash_filter, pattern) = filter(options.hash_filter.as_ref());
    let hash_filter_pattern = data(builder, pattern);
    let (sort_filter, pattern) = filter(options.sort_filter.as_ref());
    let sort_filter_pattern = data(builder, pattern);
    let resume_key = data(builder, resume_key);
    let arguments = kv::ScanRequestArgs {
        hash_filter,
        hash_filter_pattern,
        sort_filter,
        sort_filter_pattern,
        batch_rows: options.batch_rows,
        batch_bytes: options.batch_bytes,
        no_value: options.no_value,
        only_count,
        resume_key,
        ..Default::default()
    };
    let request = kv::ScanRequest::create(builder, &arguments);
    builder.finish(request, None);
}

/// An absent vector means empty.
fn data(builder: &mut Builder, data: &[u8]) -> Data {
    (!data.is_empty()).then(|| builder.create_vector(data))
}

fn keys<K: AsRef<[u8]>>(builder: &mut Builder, keys: &[K]) -> Tables<kv::Bytes<'static>> {
    if keys.is_empty() {
        return None;
    }
    let keys: Vec<_> = keys
        .iter()
        .map(|key| {
            let data = data(builder, key.as_ref());
            kv::Bytes::create(builder, &kv::BytesArgs { data })
        })
        .collect();
    Some(builder.create_vector(&keys))
}

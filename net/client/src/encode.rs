//! Request bodies.

use crate::atomic::{Check, Mutation, Set};
use crate::options::{FullScan, HashScan, MatchKind, MultiGet, Pattern};
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
    (ttl_seconds, expire_at): (u32, u32),
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
        expire_at,
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
        expire_at: 0,
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
    let start_sort_key = data(builder, &options.range.start);
    let stop_sort_key = data(builder, &options.range.stop);
    let (filter, filter_pattern) = filter(builder, options.filter.as_ref());
    let arguments = kv::MultiGetRequestArgs {
        hash_key,
        sort_keys,
        max_rows: options.max_rows,
        max_bytes: options.max_bytes,
        no_value: options.no_value,
        start_sort_key,
        stop_sort_key,
        start_inclusive: options.range.start_inclusive,
        stop_inclusive: options.range.stop_inclusive,
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
    let start_sort_key = data(builder, &options.range.start);
    let stop_sort_key = data(builder, &options.range.stop);
    let (sort_filter, sort_filter_pattern) = filter(builder, options.filter.as_ref());
    let resume_key = data(builder, resume_key);
    let arguments = kv::ScanRequestArgs {
        hash_key,
        start_sort_key,
        stop_sort_key,
        start_inclusive: options.range.start_inclusive,
        stop_inclusive: options.range.stop_inclusive,
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
    let (hash_filter, hash_filter_pattern) = filter(builder, options.hash_filter.as_ref());
    let (sort_filter, sort_filter_pattern) = filter(builder, options.sort_filter.as_ref());
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

pub(crate) fn incr(
    builder: &mut Builder,
    (hash_key, sort_key): (&[u8], &[u8]),
    increment: i64,
    (ttl_seconds, expire_at, remove_expiry): (u32, u32, bool),
    (id, retry): (RequestId, bool),
) {
    let sort_key = data(builder, sort_key);
    let hash_key = data(builder, hash_key);
    let arguments = kv::IncrRequestArgs {
        hash_key,
        sort_key,
        increment,
        ttl_seconds,
        expire_at,
        remove_expiry,
        request_client: id.client,
        request_sequence: id.sequence,
        retry,
    };
    let request = kv::IncrRequest::create(builder, &arguments);
    builder.finish(request, None);
}

pub(crate) fn check_and_set(
    builder: &mut Builder,
    hash_key: &[u8],
    check: &Check,
    set: &Set,
    (ttl_seconds, expire_at): (u32, u32),
    (id, retry): (RequestId, bool),
) {
    let hash_key = data(builder, hash_key);
    let check = Some(check_of(builder, check));
    let set_sort_key = set.sort_key.as_ref();
    let set_sort_key = set_sort_key.and_then(|sort_key| data(builder, sort_key));
    let value = data(builder, &set.value);
    let arguments = kv::CheckAndSetRequestArgs {
        hash_key,
        check,
        set_other_row: set.sort_key.is_some(),
        set_sort_key,
        value,
        ttl_seconds,
        expire_at,
        return_check_value: true,
        request_client: id.client,
        request_sequence: id.sequence,
        retry,
    };
    let request = kv::CheckAndSetRequest::create(builder, &arguments);
    builder.finish(request, None);
}

/// The expiries of `mutations` have been checked.
pub(crate) fn check_and_mutate(
    builder: &mut Builder,
    hash_key: &[u8],
    check: &Check,
    mutations: &[Mutation],
    (id, retry): (RequestId, bool),
) {
    let hash_key = data(builder, hash_key);
    let check = Some(check_of(builder, check));
    let mutations: Vec<_> = mutations
        .iter()
        .map(|mutation| mutate(builder, mutation))
        .collect();
    let mutations = Some(builder.create_vector(&mutations));
    let arguments = kv::CheckAndMutateRequestArgs {
        hash_key,
        check,
        mutations,
        return_check_value: true,
        request_client: id.client,
        request_sequence: id.sequence,
        retry,
    };
    let request = kv::CheckAndMutateRequest::create(builder, &arguments);
    builder.finish(request, None);
}

fn check_of(builder: &mut Builder, check: &Check) -> WIPOffset<kv::Check<'static>> {
    let sort_key = data(builder, &check.sort_key);
    let operand = data(builder, &check.operand);
    let arguments = kv::CheckArgs {
        sort_key,
        kind: check.kind as u8,
        operand,
    };
    kv::Check::create(builder, &arguments)
}

fn mutate(builder: &mut Builder, mutation: &Mutation) -> WIPOffset<kv::Mutate<'static>> {
    let (ttl_seconds, expire_at) = mutation.expiry().unwrap_or_default();
    let (kind, sort_key, value) = match mutation {
        Mutation::Put {
            sort_key, value, ..
        } => (kv::MutateKind::Put, sort_key, &value[..]),
        Mutation::Remove { sort_key } => (kv::MutateKind::Remove, sort_key, &[][..]),
    };
    let sort_key = data(builder, sort_key);
    let value = data(builder, value);
    let arguments = kv::MutateArgs {
        kind,
        sort_key,
        value,
        ttl_seconds,
        expire_at,
    };
    kv::Mutate::create(builder, &arguments)
}

/// A filter's kind and text.
fn filter(builder: &mut Builder, pattern: Option<&Pattern>) -> (kv::Filter, Data) {
    let Some(pattern) = pattern else {
        return (kv::Filter::None, None);
    };
    let kind = match pattern.kind {
        MatchKind::Anywhere => kv::Filter::Anywhere,
        MatchKind::Prefix => kv::Filter::Prefix,
        MatchKind::Postfix => kv::Filter::Postfix,
    };
    (kind, data(builder, &pattern.text))
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

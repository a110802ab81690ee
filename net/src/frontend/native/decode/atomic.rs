//! Bodies of atomic operations. Each needs a request id: without one nobody could send it again safely.

use super::{expiry, hash_key, invalid, items, key, malformed, not_empty, slice};
use crate::request::{
    Check, CheckAndMutate, CheckAndSet, Failure, Incr, IncrExpiry, Mutate, RequestId,
};
use bytes::Bytes;
use pegasus_fbs::body::read;
use pegasus_fbs::kv;

pub(super) fn incr(body: &Bytes) -> Result<Incr, Failure> {
    let request = read::<kv::IncrRequest<'_>>(body).map_err(malformed)?;
    let expiry = match (
        request.remove_expiry(),
        request.ttl_seconds(),
        request.expire_at(),
    ) {
        (true, _, _) => IncrExpiry::Remove,
        (false, 0, 0) => IncrExpiry::Keep,
        (false, ttl_seconds, 0) => IncrExpiry::After(ttl_seconds),
        (false, _, expire_at) => IncrExpiry::At(expire_at),
    };
    Ok(Incr {
        key: key(body, request.hash_key(), request.sort_key())?,
        increment: request.increment(),
        expiry,
        id: id(request.request_client(), request.request_sequence())?,
        is_retry: request.retry(),
    })
}

pub(super) fn check_and_set(body: &Bytes) -> Result<CheckAndSet, Failure> {
    let request = read::<kv::CheckAndSetRequest<'_>>(body).map_err(malformed)?;
    let set_sort_key = request
        .set_other_row()
        .then(|| slice(body, request.set_sort_key()));
    Ok(CheckAndSet {
        hash_key: not_empty(hash_key(body, request.hash_key())?)?,
        check: check(body, request.check())?,
        set_sort_key,
        value: slice(body, request.value()),
        expiry: expiry(request.ttl_seconds(), request.expire_at()),
        return_check_value: request.return_check_value(),
        id: id(request.request_client(), request.request_sequence())?,
        is_retry: request.retry(),
    })
}

pub(super) fn check_and_mutate(body: &Bytes) -> Result<CheckAndMutate, Failure> {
    let request = read::<kv::CheckAndMutateRequest<'_>>(body).map_err(malformed)?;
    let mutations = items(request.mutations(), "mutations")?;
    Ok(CheckAndMutate {
        hash_key: not_empty(hash_key(body, request.hash_key())?)?,
        check: check(body, request.check())?,
        mutations: mutations
            .iter()
            .flatten()
            .map(|it| mutate(body, &it))
            .collect(),
        return_check_value: request.return_check_value(),
        id: id(request.request_client(), request.request_sequence())?,
        is_retry: request.retry(),
    })
}

fn check(body: &Bytes, check: Option<kv::Check<'_>>) -> Result<Check, Failure> {
    let check = check.ok_or_else(|| invalid("a request to check without a check"))?;
    Ok(Check {
        sort_key: slice(body, check.sort_key()),
        kind: check.kind().into(),
        operand: slice(body, check.operand()),
    })
}

fn mutate(body: &Bytes, mutate: &kv::Mutate<'_>) -> Mutate {
    let sort_key = slice(body, mutate.sort_key());
    match mutate.kind() {
        kv::MutateKind::Put => Mutate::Put {
            sort_key,
            value: slice(body, mutate.value()),
            expiry: expiry(mutate.ttl_seconds(), mutate.expire_at()),
        },
        kv::MutateKind::Remove => Mutate::Remove { sort_key },
        kv::MutateKind(operation) => Mutate::Unknown {
            operation: operation.into(),
        },
    }
}

fn id(client: u64, sequence: u64) -> Result<RequestId, Failure> {
    if client == 0 {
        return Err(invalid("an atomic operation without a request id"));
    }
    Ok(RequestId { client, sequence })
}

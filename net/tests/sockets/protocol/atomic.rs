//! Atomic operations: requests to bytes, answers from bytes.

use super::{Builder, expiry, field, finish, owned};
use pegasus_fbs::body::read;
use pegasus_fbs::flatbuffers::WIPOffset;
use pegasus_fbs::kv;
use pegasus_net::request::{
    Check, CheckAndMutate, CheckAndSet, Checked, CheckedValue, Incr, IncrExpiry, Incremented,
    Mutate, Response,
};

pub(super) fn incr(b: &mut Builder, incr: &Incr) {
    let (ttl_seconds, expire_at, remove_expiry) = match incr.expiry {
        IncrExpiry::Keep => (0, 0, false),
        IncrExpiry::Remove => (0, 0, true),
        IncrExpiry::After(seconds) => (seconds, 0, false),
        IncrExpiry::At(second) => (0, second, false),
    };
    let args = kv::IncrRequestArgs {
        hash_key: field(b, &incr.key.hash_key),
        sort_key: field(b, &incr.key.sort_key),
        increment: incr.increment,
        ttl_seconds,
        expire_at,
        remove_expiry,
        request_client: incr.id.client,
        request_sequence: incr.id.sequence,
        retry: incr.is_retry,
    };
    let root = kv::IncrRequest::create(b, &args);
    finish(b, root);
}

pub(super) fn check_and_set(b: &mut Builder, set: &CheckAndSet) {
    let (ttl_seconds, expire_at) = expiry(set.expiry);
    let args = kv::CheckAndSetRequestArgs {
        hash_key: field(b, &set.hash_key),
        check: Some(check(b, &set.check)),
        set_other_row: set.set_sort_key.is_some(),
        set_sort_key: set.set_sort_key.as_ref().and_then(|key| field(b, key)),
        value: field(b, &set.value),
        ttl_seconds,
        expire_at,
        return_check_value: set.return_check_value,
        request_client: set.id.client,
        request_sequence: set.id.sequence,
        retry: set.is_retry,
    };
    let root = kv::CheckAndSetRequest::create(b, &args);
    finish(b, root);
}

pub(super) fn check_and_mutate(b: &mut Builder, request: &CheckAndMutate) {
    let mutations: Vec<_> = request.mutations.iter().map(|it| mutate(b, it)).collect();
    let args = kv::CheckAndMutateRequestArgs {
        hash_key: field(b, &request.hash_key),
        check: Some(check(b, &request.check)),
        mutations: Some(b.create_vector(&mutations)),
        return_check_value: request.return_check_value,
        request_client: request.id.client,
        request_sequence: request.id.sequence,
        retry: request.is_retry,
    };
    let root = kv::CheckAndMutateRequest::create(b, &args);
    finish(b, root);
}

fn check(b: &mut Builder, check: &Check) -> WIPOffset<kv::Check<'static>> {
    let args = kv::CheckArgs {
        sort_key: field(b, &check.sort_key),
        kind: u8::try_from(check.kind).unwrap(),
        operand: field(b, &check.operand),
    };
    kv::Check::create(b, &args)
}

fn mutate(b: &mut Builder, mutate: &Mutate) -> WIPOffset<kv::Mutate<'static>> {
    let args = match mutate {
        Mutate::Put {
            sort_key,
            value,
            expiry: after,
        } => kv::MutateArgs {
            kind: kv::MutateKind::Put,
            sort_key: field(b, sort_key),
            value: field(b, value),
            ttl_seconds: expiry(*after).0,
            expire_at: expiry(*after).1,
        },
        Mutate::Remove { sort_key } => kv::MutateArgs {
            kind: kv::MutateKind::Remove,
            sort_key: field(b, sort_key),
            ..Default::default()
        },
        Mutate::Unknown { operation } => kv::MutateArgs {
            kind: kv::MutateKind(u8::try_from(*operation).unwrap()),
            ..Default::default()
        },
    };
    kv::Mutate::create(b, &args)
}

pub(super) fn incremented(body: &[u8]) -> Response {
    let reply = read::<kv::IncrReply<'_>>(body).unwrap();
    Response::Incremented {
        outcome: match reply.outcome() {
            kv::IncrOutcome::Done => Incremented::Done,
            kv::IncrOutcome::NotANumber => Incremented::NotANumber,
            kv::IncrOutcome::Overflow => Incremented::Overflow,
            other => panic!("outcome {other:?}"),
        },
        value: reply.value(),
        decree: reply.decree(),
    }
}

pub(super) fn checked(body: &[u8]) -> Response {
    let reply = read::<kv::CheckReply<'_>>(body).unwrap();
    Response::Checked {
        outcome: match reply.outcome() {
            kv::CheckOutcome::Passed => Checked::Passed,
            kv::CheckOutcome::Failed => Checked::Failed,
            kv::CheckOutcome::Invalid => Checked::Invalid,
            other => panic!("outcome {other:?}"),
        },
        checked_value: match reply.checked() {
            kv::CheckedRow::NotAsked => CheckedValue::NotAsked,
            kv::CheckedRow::Missing => CheckedValue::Missing,
            kv::CheckedRow::Found => CheckedValue::Found(owned(reply.checked_value())),
            kv::CheckedRow::Forgotten => CheckedValue::Forgotten,
            other => panic!("row {other:?}"),
        },
        decree: reply.decree(),
    }
}

//! Times to live of keys.

use super::options::{ExpireOptions, absolute, invalid_expire};
use super::{Context, integer};
use crate::answer;
use crate::call::Call;
use crate::rows::{Known, State, Thing};
use crate::spec::Kind;
use crate::time::{self, Expiry};
use bytes::Bytes;
use pegasus_resp::Value;

pub(super) fn expire(
    call: &Call,
    state: &mut State,
    context: &Context,
    kind: Kind,
) -> Known<Value> {
    let amount = integer(call, 2)?;
    let options = ExpireOptions::of(call)?;
    let (unit_ms, is_absolute) = match kind {
        Kind::Expire => (1000, false),
        Kind::PExpire => (1, false),
        Kind::ExpireAt => (1000, true),
        _ => (1, true),
    };
    let at_ms =
        absolute(amount, unit_ms, is_absolute, context).ok_or_else(|| invalid_expire(call))?;
    let expiry = time::expiry(at_ms, context.now_ms);
    let old = match state.thing()? {
        Thing::Nothing => return Ok(Value::Integer(0)),
        Thing::String(row) => row.expire_at,
        Thing::Hash { expire_at } => expire_at,
    };
    if !is_wanted(options, old, expiry) {
        return Ok(Value::Integer(0));
    }
    set(state, expiry)?;
    Ok(Value::Integer(1))
}

/// No expiry is later than any.
fn is_wanted(options: ExpireOptions, old: u32, new: Expiry) -> bool {
    let is_later = match new {
        Expiry::At(second) => old != 0 && second > old,
        Expiry::Past => false,
    };
    let is_earlier = match new {
        Expiry::At(second) => old == 0 || second < old,
        Expiry::Past => true,
    };
    (!options.if_none || old == 0)
        && (!options.if_any || old != 0)
        && (!options.if_later || is_later)
        && (!options.if_earlier || is_earlier)
}

pub(super) fn persist(state: &mut State) -> Known<Value> {
    let old = match state.thing()? {
        Thing::Nothing => 0,
        Thing::String(row) => row.expire_at,
        Thing::Hash { expire_at } => expire_at,
    };
    if old == 0 {
        return Ok(Value::Integer(0));
    }
    rewrite(state, Some(0))?;
    Ok(Value::Integer(1))
}

fn set(state: &mut State, expiry: Expiry) -> Known<()> {
    match expiry {
        Expiry::At(second) => rewrite(state, Some(second)),
        Expiry::Past => rewrite(state, None),
    }
}

/// Gives all rows of the key this expiry, or removes them.
fn rewrite(state: &mut State, expire_at: Option<u32>) -> Known<()> {
    if let Thing::String(row) = state.thing()? {
        match expire_at {
            Some(expire_at) => state.put(Bytes::new(), row.value, expire_at),
            None => state.remove(Bytes::new()),
        }
        return Ok(());
    }
    for (field, row) in state.all(answer::BIG_HASH_WRITE)? {
        match expire_at {
            Some(expire_at) => state.put(field, row.value, expire_at),
            None => state.remove(field),
        }
    }
    Ok(())
}

/// TTL and its like: -2 = no such key, -1 = it never expires.
pub(super) fn left(kind: Kind, state: &State, context: &Context) -> Known<Value> {
    let expire_at = match state.thing()? {
        Thing::Nothing => return Ok(Value::Integer(-2)),
        Thing::String(row) => row.expire_at,
        Thing::Hash { expire_at } => expire_at,
    };
    if expire_at == 0 {
        return Ok(Value::Integer(-1));
    }
    let number = match kind {
        Kind::Ttl => time::left_s(expire_at, context.now_ms),
        // A key that is there has something left.
        Kind::PTtl => (time::left_s(expire_at, context.now_ms) * 1000).max(1),
        Kind::ExpireTime => time::unix_s(expire_at),
        _ => time::unix_s(expire_at) * 1000,
    };
    Ok(Value::Integer(i64::try_from(number).unwrap_or(i64::MAX)))
}

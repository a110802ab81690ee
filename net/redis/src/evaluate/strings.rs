//! Commands on strings.

use super::options::{Condition, Lifetime, SetOptions, lifetime, of_getex};
use super::{Context, integer};
use crate::call::Call;
use crate::rows::{Known, Need, State, Stop, Thing, error};
use crate::spec::Kind;
use crate::time::Expiry;
use crate::{VALUE_BYTES_MAX, answer};
use bytes::{Bytes, BytesMut};
use pegasus_resp::Value;

pub(super) fn get(state: &State) -> Known<Value> {
    Ok(value_or_null(state.string()?.map(|row| row.value)))
}

/// Of a transaction, which may name its one key several times.
pub(super) fn mget(call: &Call, state: &State) -> Result<Value, Need> {
    Ok(Value::Array(vec![part_of_mget(state)?; call.count() - 1]))
}

/// The value of one key among others; anything but a string is null.
pub(super) fn part_of_mget(state: &State) -> Result<Value, Need> {
    match state.string() {
        Ok(row) => Ok(value_or_null(row.map(|row| row.value))),
        Err(Stop::Error(_)) => Ok(Value::Null),
        Err(Stop::Need(need)) => Err(need),
    }
}

pub(super) fn set(call: &Call, state: &mut State, context: &Context) -> Known<Value> {
    let options = SetOptions::of(call, context)?;
    let value = checked(call.shared(2))?;
    if options.condition == Condition::Always && !options.returns_old {
        overwrite(state, value, options.lifetime, context)?;
        return Ok(answer::ok());
    }
    let thing = state.thing()?;
    let old = match &thing {
        Thing::String(row) => Some(row.value.clone()),
        Thing::Hash { .. } if options.returns_old => return Err(crate::rows::wrong_type()),
        _ => None,
    };
    let is_allowed = match options.condition {
        Condition::Always => true,
        Condition::IfMissing => thing == Thing::Nothing,
        Condition::IfPresent => thing != Thing::Nothing,
    };
    if is_allowed {
        replace(state, &thing, value, options.lifetime, context)?;
    }
    Ok(match (options.returns_old, is_allowed) {
        (true, _) => value_or_null(old),
        (false, true) => answer::ok(),
        (false, false) => Value::Null,
    })
}

pub(super) fn mset(call: &Call, state: &mut State, context: &Context) -> Known<Value> {
    // Within a transaction the one key may be named several times: the last value stays.
    let value = checked(call.shared(call.count() - 1))?;
    overwrite(state, value, Lifetime::Fresh, context)?;
    Ok(answer::ok())
}

/// See [`replacement`](super::replacement()).
pub(super) fn replacement(call: &Call, context: &Context) -> Option<(Bytes, u32)> {
    let (at, lifetime) = match call.spec.kind {
        Kind::Set => {
            let options = SetOptions::of(call, context).ok()?;
            let is_blind = options.condition == Condition::Always && !options.returns_old;
            (2, is_blind.then_some(options.lifetime)?)
        }
        Kind::MSet if call.count() == 3 => (2, Lifetime::Fresh),
        _ => return None,
    };
    let expire_at = match lifetime {
        Lifetime::Fresh => context.expiry_of_new(),
        Lifetime::Never => 0,
        Lifetime::Until(Expiry::At(second)) => second,
        Lifetime::Keep | Lifetime::Until(Expiry::Past) => return None,
    };
    Some((checked(call.shared(at)).ok()?, expire_at))
}

pub(super) fn set_with_time(
    call: &Call,
    state: &mut State,
    context: &Context,
    unit_ms: i64,
) -> Known<Value> {
    let amount = integer(call, 2)?;
    let lifetime = lifetime(call, amount, unit_ms, false, context)?;
    let value = checked(call.shared(3))?;
    overwrite(state, value, lifetime, context)?;
    Ok(answer::ok())
}

pub(super) fn set_if_missing(call: &Call, state: &mut State, context: &Context) -> Known<Value> {
    let value = checked(call.shared(2))?;
    let thing = state.thing()?;
    if thing != Thing::Nothing {
        return Ok(Value::Integer(0));
    }
    replace(state, &thing, value, Lifetime::Fresh, context)?;
    Ok(Value::Integer(1))
}

pub(super) fn get_set(call: &Call, state: &mut State, context: &Context) -> Known<Value> {
    let value = checked(call.shared(2))?;
    let old = string_of(state)?;
    let thing = state.thing()?;
    replace(state, &thing, value, Lifetime::Fresh, context)?;
    Ok(value_or_null(old))
}

pub(super) fn get_and_remove(state: &mut State) -> Known<Value> {
    let old = string_of(state)?;
    if old.is_some() {
        state.remove(Bytes::new());
    }
    Ok(value_or_null(old))
}

pub(super) fn get_and_expire(call: &Call, state: &mut State, context: &Context) -> Known<Value> {
    let lifetime = of_getex(call, context)?;
    let Some(row) = state.string()? else {
        return Ok(Value::Null);
    };
    let is_changed = match lifetime {
        Lifetime::Keep | Lifetime::Fresh => false,
        Lifetime::Never => row.expire_at != 0,
        Lifetime::Until(Expiry::At(second)) => row.expire_at != second,
        Lifetime::Until(Expiry::Past) => true,
    };
    if is_changed {
        put(state, row.value.clone(), lifetime, row.expire_at, context);
    }
    Ok(Value::Bulk(row.value))
}

pub(super) fn append(call: &Call, state: &mut State, context: &Context) -> Known<Value> {
    let tail = call.shared(2);
    let (value, expire_at) = match state.string()? {
        None => (tail, context.expiry_of_new()),
        Some(row) => {
            let mut value = BytesMut::with_capacity(row.value.len() + tail.len());
            value.extend_from_slice(&row.value);
            value.extend_from_slice(&tail);
            (value.freeze(), row.expire_at)
        }
    };
    let value = checked(value)?;
    let length = answer::count(value.len());
    state.put(Bytes::new(), value, expire_at);
    Ok(length)
}

pub(super) fn length(state: &State) -> Known<Value> {
    Ok(answer::count(
        state.string()?.map_or(0, |row| row.value.len()),
    ))
}

pub(super) fn get_range(call: &Call, state: &State) -> Known<Value> {
    let (start, end) = (integer(call, 2)?, integer(call, 3)?);
    let value = state.string()?.map(|row| row.value).unwrap_or_default();
    Ok(Value::Bulk(part(&value, start, end)))
}

/// From `start` to `end`, both counted from the end if negative, `end` included.
fn part(value: &Bytes, start: i64, end: i64) -> Bytes {
    let length = i64::try_from(value.len()).unwrap_or(i64::MAX);
    if start < 0 && end < 0 && start > end {
        return Bytes::new();
    }
    let from_start = |at: i64| {
        if at < 0 {
            at.saturating_add(length).max(0)
        } else {
            at
        }
    };
    let (start, end) = (from_start(start), from_start(end).min(length - 1));
    match (usize::try_from(start), usize::try_from(end)) {
        (Ok(start), Ok(end)) if start <= end && end < value.len() => value.slice(start..=end),
        _ => Bytes::new(),
    }
}

pub(super) fn set_range(call: &Call, state: &mut State, context: &Context) -> Known<Value> {
    let offset = usize::try_from(integer(call, 2)?).map_err(|_| error(answer::OFFSET))?;
    let patch = call.shared(3);
    let row = state.string()?;
    let value = row
        .as_ref()
        .map(|row| row.value.clone())
        .unwrap_or_default();
    if patch.is_empty() {
        return Ok(answer::count(value.len()));
    }
    let end = offset.saturating_add(patch.len());
    if end > VALUE_BYTES_MAX {
        return Err(error(answer::TOO_LONG));
    }
    let mut bytes = BytesMut::from(&value[..]);
    bytes.resize(value.len().max(end), 0);
    bytes[offset..end].copy_from_slice(&patch);
    let length = answer::count(bytes.len());
    let expire_at = row.map_or_else(|| context.expiry_of_new(), |row| row.expire_at);
    state.put(Bytes::new(), bytes.freeze(), expire_at);
    Ok(length)
}

/// The value of the string, looked up with what a write needs to know anyhow.
fn string_of(state: &State) -> Known<Option<Bytes>> {
    match state.thing()? {
        Thing::Nothing => Ok(None),
        Thing::String(row) => Ok(Some(row.value)),
        Thing::Hash { .. } => Err(crate::rows::wrong_type()),
    }
}

/// Puts a string in the place of whatever the key is, without looking if that does not matter.
fn overwrite(state: &mut State, value: Bytes, lifetime: Lifetime, context: &Context) -> Known<()> {
    if state.is_no_hash() && !matches!(lifetime, Lifetime::Keep | Lifetime::Until(Expiry::Past)) {
        put(state, value, lifetime, 0, context);
        return Ok(());
    }
    let thing = state.thing()?;
    replace(state, &thing, value, lifetime, context)
}

/// Puts a string in the place of this thing.
fn replace(
    state: &mut State,
    thing: &Thing,
    value: Bytes,
    lifetime: Lifetime,
    context: &Context,
) -> Known<()> {
    let expire_at = match thing {
        Thing::Nothing => context.expiry_of_new(),
        Thing::String(row) => row.expire_at,
        Thing::Hash { expire_at } => {
            for (field, _) in state.all(answer::BIG_HASH_WRITE)? {
                state.remove(field);
            }
            *expire_at
        }
    };
    put(state, value, lifetime, expire_at, context);
    Ok(())
}

fn put(state: &mut State, value: Bytes, lifetime: Lifetime, kept: u32, context: &Context) {
    let expire_at = match lifetime {
        Lifetime::Fresh => context.expiry_of_new(),
        Lifetime::Keep => kept,
        Lifetime::Never => 0,
        Lifetime::Until(Expiry::At(second)) => second,
        Lifetime::Until(Expiry::Past) => return state.remove(Bytes::new()),
    };
    state.put(Bytes::new(), value, expire_at);
}

pub(super) fn checked(value: Bytes) -> Known<Bytes> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(error(answer::TOO_LONG));
    }
    Ok(value)
}

pub(super) fn value_or_null(value: Option<Bytes>) -> Value {
    value.map_or(Value::Null, Value::Bulk)
}

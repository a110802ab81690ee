//! Commands on hashes.

use super::counters::{decimal_sum, sum};
use super::strings::{checked, value_or_null};
use super::{Context, integer};
use crate::call::Call;
use crate::rows::{Known, State, error};
use crate::spec::Kind;
use crate::{READ_BYTES_MAX, answer};
use bytes::Bytes;
use pegasus_resp::Value;
use std::collections::BTreeSet;

/// HSET counts the fields that are new, HMSET says OK.
pub(super) fn set(call: &Call, state: &mut State, context: &Context) -> Known<Value> {
    let fields = || (2..call.count()).step_by(2);
    for at in fields() {
        named(call.argument(at))?;
        checked(call.shared(at + 1))?;
    }
    state.need(fields().map(|at| call.shared(at)))?;
    let expire_at = expiry(state, fields().map(|at| call.argument(at)), context)?;
    let mut added = BTreeSet::new();
    for at in fields() {
        if state.row(call.argument(at))?.is_none() {
            added.insert(call.shared(at));
        }
    }
    for at in fields() {
        state.put(call.shared(at), call.shared(at + 1), expire_at);
    }
    Ok(match call.spec.kind {
        Kind::HMSet => answer::ok(),
        _ => answer::count(added.len()),
    })
}

pub(super) fn set_if_missing(call: &Call, state: &mut State, context: &Context) -> Known<Value> {
    named(call.argument(2))?;
    let value = checked(call.shared(3))?;
    let expire_at = expiry(state, [call.argument(2)].into_iter(), context)?;
    if state.row(call.argument(2))?.is_some() {
        return Ok(Value::Integer(0));
    }
    state.put(call.shared(2), value, expire_at);
    Ok(Value::Integer(1))
}

pub(super) fn get(call: &Call, state: &State) -> Known<Value> {
    Ok(value_or_null(field(state, call.argument(2))?))
}

pub(super) fn get_several(call: &Call, state: &State) -> Known<Value> {
    state.need(
        (2..call.count())
            .map(|at| call.shared(at))
            .filter(|field| !field.is_empty()),
    )?;
    let values = (2..call.count()).map(|at| Ok(value_or_null(field(state, call.argument(at))?)));
    values.collect::<Known<_>>().map(Value::Array)
}

pub(super) fn exists(call: &Call, state: &State) -> Known<Value> {
    Ok(Value::Integer(i64::from(
        field(state, call.argument(2))?.is_some(),
    )))
}

pub(super) fn value_length(call: &Call, state: &State) -> Known<Value> {
    Ok(answer::count(
        field(state, call.argument(2))?.map_or(0, |value| value.len()),
    ))
}

pub(super) fn remove(call: &Call, state: &mut State) -> Known<Value> {
    let fields: BTreeSet<Bytes> = (2..call.count())
        .map(|at| call.shared(at))
        .filter(|field| !field.is_empty())
        .collect();
    state.need(fields.iter().cloned())?;
    let mut removed = Vec::new();
    for field in fields {
        if state.row(&field)?.is_some() {
            removed.push(field);
        }
    }
    if removed.is_empty() {
        state.hash()?;
    }
    let count = answer::count(removed.len());
    removed.into_iter().for_each(|field| state.remove(field));
    Ok(count)
}

pub(super) fn length(state: &State) -> Known<Value> {
    if state.hash()?.is_none() {
        return Ok(Value::Integer(0));
    }
    Ok(answer::count(state.all(answer::BIG_HASH_READ)?.len()))
}

/// Fields, values or both; in the order of the fields.
pub(super) fn all(kind: Kind, state: &State) -> Known<Value> {
    let rows = match state.hash()? {
        Some(_) => state.all(answer::BIG_HASH_READ)?,
        None => Vec::new(),
    };
    let bytes: usize = rows
        .iter()
        .map(|(field, row)| field.len() + row.value.len())
        .sum();
    if bytes > READ_BYTES_MAX {
        return Err(error(answer::BIG_HASH_READ));
    }
    let rows = rows.into_iter();
    Ok(match kind {
        Kind::HKeys => Value::Array(rows.map(|(field, _)| Value::Bulk(field)).collect()),
        Kind::HVals => Value::Array(rows.map(|(_, row)| Value::Bulk(row.value)).collect()),
        _ => Value::Map(
            rows.map(|(field, row)| (Value::Bulk(field), Value::Bulk(row.value)))
                .collect(),
        ),
    })
}

pub(super) fn increment(call: &Call, state: &mut State, context: &Context) -> Known<Value> {
    let by = integer(call, 3)?;
    named(call.argument(2))?;
    let expire_at = expiry(state, [call.argument(2)].into_iter(), context)?;
    let old = field(state, call.argument(2))?;
    let sum = sum(old.as_deref(), by, answer::FIELD_NOT_AN_INTEGER)?;
    state.put(call.shared(2), Bytes::from(sum.to_string()), expire_at);
    Ok(Value::Integer(sum))
}

pub(super) fn increment_by_float(
    call: &Call,
    state: &mut State,
    context: &Context,
) -> Known<Value> {
    named(call.argument(2))?;
    let expire_at = expiry(state, [call.argument(2)].into_iter(), context)?;
    let old = field(state, call.argument(2))?;
    let sum = decimal_sum(old.as_deref(), call.argument(3), answer::FIELD_NOT_A_FLOAT)?;
    state.put(call.shared(2), sum.clone(), expire_at);
    Ok(Value::Bulk(sum))
}

/// The value of a field. The row is looked up alone: only if there is none does it matter what the key is.
fn field(state: &State, name: &[u8]) -> Known<Option<Bytes>> {
    if !name.is_empty()
        && let Some(row) = state.row(name)?
    {
        return Ok(Some(row.value.clone()));
    }
    state.hash()?;
    Ok(None)
}

/// The expiry that rows of this hash have, and new ones get. One of these fields that is there tells it, and that the key is
/// a hash; otherwise the first row is looked at.
fn expiry<'a>(
    state: &State,
    fields: impl Iterator<Item = &'a [u8]>,
    context: &Context,
) -> Known<u32> {
    for field in fields {
        if let Some(row) = state.row(field)? {
            return Ok(row.expire_at);
        }
    }
    Ok(state.hash()?.unwrap_or_else(|| context.expiry_of_new()))
}

fn named(field: &[u8]) -> Known<()> {
    if field.is_empty() {
        return Err(error(answer::EMPTY_FIELD));
    }
    Ok(())
}

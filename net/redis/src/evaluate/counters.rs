//! Numbers in strings.

use super::{Context, integer};
use crate::answer;
use crate::call::Call;
use crate::number::{self, Decimal};
use crate::rows::{Known, State, Thing, error, wrong_type};
use bytes::Bytes;
use pegasus_resp::Value;

pub(super) fn increment(state: &mut State, context: &Context, by: i64) -> Known<Value> {
    let (text, expire_at) = counter(state, context)?;
    let sum = sum(text.as_deref(), by, answer::NOT_AN_INTEGER)?;
    state.put(Bytes::new(), Bytes::from(sum.to_string()), expire_at);
    Ok(Value::Integer(sum))
}

pub(super) fn decrement_by(call: &Call, state: &mut State, context: &Context) -> Known<Value> {
    let by = integer(call, 2)?;
    let by = by.checked_neg().ok_or(error(answer::DECREMENT_OVERFLOW))?;
    increment(state, context, by)
}

pub(super) fn increment_by_float(
    call: &Call,
    state: &mut State,
    context: &Context,
) -> Known<Value> {
    let (text, expire_at) = counter(state, context)?;
    let sum = decimal_sum(text.as_deref(), call.argument(2), answer::NOT_A_FLOAT)?;
    state.put(Bytes::new(), sum.clone(), expire_at);
    Ok(Value::Bulk(sum))
}

/// The string and its expiry; both are read by the one look that tells what the key is.
fn counter(state: &State, context: &Context) -> Known<(Option<Bytes>, u32)> {
    match state.thing()? {
        Thing::Nothing => Ok((None, context.expiry_of_new())),
        Thing::String(row) => Ok((Some(row.value), row.expire_at)),
        Thing::Hash { .. } => Err(wrong_type()),
    }
}

pub(super) fn sum(text: Option<&[u8]>, by: i64, not_a_number: &'static str) -> Known<i64> {
    let old = match text {
        None => 0,
        Some(text) => number::integer(text).ok_or(error(not_a_number))?,
    };
    old.checked_add(by).ok_or(error(answer::OVERFLOW))
}

pub(super) fn decimal_sum(
    text: Option<&[u8]>,
    by: &[u8],
    not_a_number: &'static str,
) -> Known<Bytes> {
    let old = Decimal::parse(text.unwrap_or(b"0")).ok_or(error(not_a_number))?;
    let by = Decimal::parse(by).ok_or(error(answer::NOT_A_FLOAT))?;
    let sum = old.plus(by).ok_or(error(FLOAT_RANGE))?;
    Ok(Bytes::from(sum.to_string()))
}

const FLOAT_RANGE: &str = "ERR increment would leave the range of decimals (10^20)";

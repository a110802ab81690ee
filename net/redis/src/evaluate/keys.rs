//! Commands on keys, whatever they are.

use crate::answer;
use crate::call::Call;
use crate::rows::{Known, State, Thing};
use bytes::Bytes;
use pegasus_resp::Value;

/// Removes all rows of the key, as one.
pub(super) fn remove(state: &mut State) -> Known<Value> {
    let rows = state.all(answer::BIG_HASH_WRITE)?;
    let is_there = !rows.is_empty();
    for (sort_key, _) in rows {
        state.remove(sort_key);
    }
    Ok(Value::Integer(i64::from(is_there)))
}

/// A key named several times counts as often.
pub(super) fn exists(call: &Call, state: &State) -> Known<Value> {
    let is_there = state.thing()? != Thing::Nothing;
    Ok(answer::count(if is_there { call.count() - 1 } else { 0 }))
}

pub(super) fn kind(state: &State) -> Known<Value> {
    let name: &'static [u8] = match state.thing()? {
        Thing::Nothing => b"none",
        Thing::String(_) => b"string",
        Thing::Hash { .. } => b"hash",
    };
    Ok(Value::Simple(Bytes::from_static(name)))
}

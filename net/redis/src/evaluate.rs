//! The commands of one key, evaluated on its rows: a pure function.

mod counters;
mod expiry;
mod hashes;
mod keys;
mod options;
mod strings;

use crate::call::{Call, Calls};
use crate::rows::{Known, Need, State, Stop};
use crate::spec::Kind;
use crate::{ANSWER_BYTES_MAX, answer, number};
use bytes::Bytes;
use pegasus_resp::Value;

/// What evaluation knows besides rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// Unix milliseconds, as the primary has them.
    pub now_ms: u64,
    /// Of keys that are made without an expiry of their own; 0 = for ever.
    pub default_ttl_s: u32,
}

/// Evaluates one command, or those between MULTI and EXEC: then the answer is an array, and each command sees what those
/// before it have changed. On `Ok`, [`State::writes`] has what is to be written, as one.
///
/// # Errors
/// What has to be read first; then the same is evaluated again.
pub fn evaluate(calls: &Calls, state: &mut State, context: &Context) -> Result<Value, Need> {
    state.restart();
    let answer = match calls {
        // A part of a command that was split: its answer is gathered with those of the others.
        Calls::One(call) if call.spec.kind == Kind::MGet => strings::part_of_mget(state)?,
        Calls::One(call) => one(call, state, context)?,
        Calls::Transaction(calls) => {
            let answers = calls.iter().map(|call| one(call, state, context));
            Value::Array(answers.collect::<Result<_, _>>()?)
        }
    };
    if answer::bytes(&answer) > ANSWER_BYTES_MAX {
        state.restart();
        return Ok(answer::error(answer::BIG_ANSWER));
    }
    Ok(answer)
}

/// The string that a command puts in the place of whatever its key is, and its absolute expiry (0 = never), if that is all
/// that it does and the answer is OK. `None`: it has to be evaluated.
#[must_use]
pub fn replacement(calls: &Calls, context: &Context) -> Option<(Bytes, u32)> {
    match calls {
        Calls::One(call) => strings::replacement(call, context),
        Calls::Transaction(_) => None,
    }
}

fn one(call: &Call, state: &mut State, context: &Context) -> Result<Value, Need> {
    match execute(call, state, context) {
        Ok(answer) | Err(Stop::Error(answer)) => Ok(answer),
        Err(Stop::Need(need)) => Err(need),
    }
}

/// No command changes rows before it has refused everything it will refuse.
fn execute(call: &Call, state: &mut State, context: &Context) -> Known<Value> {
    match call.spec.kind {
        Kind::Get => strings::get(state),
        Kind::MGet => strings::mget(call, state).map_err(Stop::Need),
        Kind::Set => strings::set(call, state, context),
        Kind::MSet => strings::mset(call, state, context),
        Kind::SetEx => strings::set_with_time(call, state, context, 1000),
        Kind::PSetEx => strings::set_with_time(call, state, context, 1),
        Kind::SetNx | Kind::MSetNx => strings::set_if_missing(call, state, context),
        Kind::GetSet => strings::get_set(call, state, context),
        Kind::GetDel => strings::get_and_remove(state),
        Kind::GetEx => strings::get_and_expire(call, state, context),
        Kind::Append => strings::append(call, state, context),
        Kind::StrLen => strings::length(state),
        Kind::GetRange => strings::get_range(call, state),
        Kind::SetRange => strings::set_range(call, state, context),
        Kind::Incr => counters::increment(state, context, 1),
        Kind::Decr => counters::increment(state, context, -1),
        Kind::IncrBy => counters::increment(state, context, integer(call, 2)?),
        Kind::DecrBy => counters::decrement_by(call, state, context),
        Kind::IncrByFloat => counters::increment_by_float(call, state, context),
        Kind::Del => keys::remove(state),
        Kind::Exists => keys::exists(call, state),
        Kind::Type => keys::kind(state),
        Kind::Expire => expiry::expire(call, state, context, Kind::Expire),
        Kind::PExpire => expiry::expire(call, state, context, Kind::PExpire),
        Kind::ExpireAt => expiry::expire(call, state, context, Kind::ExpireAt),
        Kind::PExpireAt => expiry::expire(call, state, context, Kind::PExpireAt),
        Kind::Persist => expiry::persist(state),
        Kind::Ttl | Kind::PTtl | Kind::ExpireTime | Kind::PExpireTime => {
            expiry::left(call.spec.kind, state, context)
        }
        Kind::HSet | Kind::HMSet => hashes::set(call, state, context),
        Kind::HSetNx => hashes::set_if_missing(call, state, context),
        Kind::HGet => hashes::get(call, state),
        Kind::HMGet => hashes::get_several(call, state),
        Kind::HExists => hashes::exists(call, state),
        Kind::HStrLen => hashes::value_length(call, state),
        Kind::HDel => hashes::remove(call, state),
        Kind::HLen => hashes::length(state),
        Kind::HGetAll | Kind::HKeys | Kind::HVals => hashes::all(call.spec.kind, state),
        Kind::HIncrBy => hashes::increment(call, state, context),
        Kind::HIncrByFloat => hashes::increment_by_float(call, state, context),
        Kind::Echo => Ok(Value::Bulk(call.shared(1))),
        Kind::Ping if call.count() == 2 => Ok(Value::Bulk(call.shared(1))),
        Kind::Ping => Ok(Value::Simple(Bytes::from_static(b"PONG"))),
        _ => Err(Stop::Error(answer::failure(format!(
            "ERR '{}' is no command on the rows of a key",
            call.spec.name
        )))),
    }
}

/// An argument that is to be a whole number.
fn integer(call: &Call, index: usize) -> Known<i64> {
    number::integer(call.argument(index)).ok_or(crate::rows::error(answer::NOT_AN_INTEGER))
}

impl Context {
    /// The expiry of a key that is made without one.
    const fn expiry_of_new(&self) -> u32 {
        if self.default_ttl_s == 0 {
            return 0;
        }
        #[allow(
            clippy::cast_possible_truncation,
            reason = "seconds until 2152 fit; later ones wrap harmlessly late"
        )]
        let now_s = (self.now_ms / 1000).saturating_sub(crate::time::EPOCH_UNIX_S) as u32;
        now_s.saturating_add(self.default_ttl_s)
    }
}

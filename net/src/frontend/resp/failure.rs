//! Failures in the words of Redis: the first word says what a client may do about it.

use crate::request::Failure;
use pegasus_fbs::code::Code;
use pegasus_redis::answer;
use pegasus_resp::{DecodeError, Value};

/// The error that Redis clients are told.
///
/// `TRYAGAIN` is not executed and worth another try; `NOREPLICAS` and `MISCONF` are what Redis says when it may not or
/// cannot write; an unknown outcome is said in so many words.
#[must_use]
pub fn error_of(failure: &Failure) -> Value {
    let Failure { code, message, .. } = failure;
    answer::failure(match code {
        Code::NotHere
        | Code::NotPrimary
        | Code::NotServing
        | Code::Busy
        | Code::Creating
        | Code::OutOfService
        | Code::Expired => format!("TRYAGAIN not executed: {message}"),
        Code::NotEnoughMembers => {
            format!("NOREPLICAS Not enough good replicas to write: {message}")
        }
        Code::DiskFull => format!("MISCONF not executed, the disk is full: {message}"),
        Code::Unknown | Code::Internal => {
            format!("ERR unknown outcome, the command may or may not take effect: {message}")
        }
        _ => format!("ERR {message}"),
    })
}

/// Bytes that are no command, in Redis' words where it has any for them.
pub(super) fn protocol_error(error: &DecodeError) -> Value {
    let words = match error {
        DecodeError::Unexpected {
            expected: "'$'",
            found,
        } => format!(
            "expected '$', got '{}'",
            char::from(*found).escape_default()
        ),
        DecodeError::Invalid { what } | DecodeError::TooLarge { what, .. } => match *what {
            "number of arguments" => "invalid multibulk length".to_owned(),
            "inline request" => "too big inline request".to_owned(),
            "line" => "too big count string".to_owned(),
            what => format!("invalid {what}"),
        },
        other => return answer::failure(format!("ERR {other}")),
    };
    answer::failure(format!("ERR Protocol error: {words}"))
}

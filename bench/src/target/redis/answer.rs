//! What answers mean.

use crate::target::link::Problem;
use crate::target::{Execution, Failure};
use bytes::Bytes;
use pegasus_resp::Value;
use std::borrow::Cow;

/// The value unless it is an error: a command that Redis answers with an error was not executed, unless the error says
/// that nobody knows.
pub(super) fn checked(value: Value) -> Result<Value, Problem> {
    match value.error() {
        Some(sentence) => Err(Problem::Refused(refusal(sentence))),
        None => Ok(value),
    }
}

/// Errors that go away by themselves.
const PASSING: [&str; 9] = [
    "BUSY",
    "CLUSTERDOWN",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "NOREPLICAS",
    "OOM",
    "READONLY",
    "TRYAGAIN",
];

/// How a cluster of ours begins an error if the command may or may not take effect.
const OPEN: &str = "ERR unknown outcome";

fn refusal(sentence: String) -> Failure {
    let is_open = sentence.starts_with(OPEN);
    let code = sentence.split(' ').next().unwrap_or_default().to_owned();
    let is_code = !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_uppercase());
    let code = if is_code { code } else { "ERR".to_owned() };
    let redirected = matches!(&code[..], "MOVED" | "ASK");
    Failure {
        execution: if is_open {
            Execution::Unknown
        } else {
            Execution::NotExecuted
        },
        permanent: !is_open && !PASSING.contains(&&code[..]),
        message: if redirected {
            format!(
                "{sentence}: the server is one of a Redis cluster, and this program follows no redirects; name a standalone server"
            )
        } else {
            sentence
        },
        code: Cow::Owned(code),
    }
}

/// A string, or nothing.
pub(super) fn string(value: Value) -> Result<Option<Bytes>, Problem> {
    match checked(value)? {
        Value::Bulk(bytes) | Value::Simple(bytes) | Value::Verbatim { text: bytes, .. } => {
            Ok(Some(bytes))
        }
        Value::Null | Value::NullArray => Ok(None),
        other => Err(unexpected(&other, "a string")),
    }
}

/// Strings in pairs: a map of RESP3, a flat array of RESP2.
pub(super) fn pairs(value: Value) -> Result<Vec<(Bytes, Bytes)>, Problem> {
    let pair = |first, second| match (string(first)?, string(second)?) {
        (Some(first), Some(second)) => Ok((first, second)),
        _ => Err(unexpected(&Value::Null, "pairs of strings")),
    };
    match checked(value)? {
        Value::Map(map) => map
            .into_iter()
            .map(|(first, second)| pair(first, second))
            .collect(),
        Value::Array(flat) if flat.len().is_multiple_of(2) => {
            let mut flat = flat.into_iter();
            let mut pairs = Vec::with_capacity(flat.len() / 2);
            while let (Some(first), Some(second)) = (flat.next(), flat.next()) {
                pairs.push(pair(first, second)?);
            }
            Ok(pairs)
        }
        other => Err(unexpected(&other, "pairs of strings")),
    }
}

/// The strings of an array.
pub(super) fn strings(value: Value) -> Result<Vec<Bytes>, Problem> {
    match checked(value)? {
        Value::Array(values) => values
            .into_iter()
            .filter_map(|value| string(value).transpose())
            .collect(),
        other => Err(unexpected(&other, "an array of strings")),
    }
}

/// As much of a greeting as is text.
pub(super) fn pairs_as_text(value: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| match value {
        Value::Bulk(bytes) | Value::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Integer(number) => number.to_string(),
        _ => String::new(),
    };
    match value {
        Value::Map(map) => map
            .iter()
            .map(|(name, value)| (text(name), text(value)))
            .collect(),
        Value::Array(flat) => flat
            .chunks_exact(2)
            .map(|pair| (text(&pair[0]), text(&pair[1])))
            .collect(),
        _ => Vec::new(),
    }
}

/// The server may have done what was asked, and said something else than Redis would.
pub(super) fn unexpected(value: &Value, expected: &str) -> Problem {
    Problem::Refused(Failure {
        code: Cow::Borrowed("protocol"),
        execution: Execution::Unknown,
        permanent: true,
        message: format!("{} was answered where {expected} is expected", value.kind()),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn pairs_are_read_from_both_versions_of_the_protocol() {
        let text = |text: &'static str| Value::Bulk(text.into());
        let flat = Value::Array(vec![text("a"), text("1"), text("b"), text("2")]);
        let map = Value::Map(vec![(text("a"), text("1")), (text("b"), text("2"))]);
        let expected = vec![("a".into(), "1".into()), ("b".into(), "2".into())];
        assert_eq!(pairs(flat).unwrap(), expected);
        assert_eq!(pairs(map).unwrap(), expected);
        assert!(pairs(Value::Array(vec![text("a")])).is_err());
        assert!(pairs(Value::Array(vec![text("a"), Value::Null])).is_err());
    }

    #[test]
    fn errors_say_whether_trying_again_is_of_use() {
        for (sentence, code, permanent) in [
            ("LOADING Redis is loading", "LOADING", false),
            ("WRONGTYPE Operation against", "WRONGTYPE", true),
            ("unknown command", "ERR", true),
        ] {
            let Err(Problem::Refused(failure)) = checked(Value::Error(sentence.into())) else {
                panic!("{sentence} is an error");
            };
            assert_eq!((&failure.code[..], failure.permanent), (code, permanent));
            assert_eq!(failure.execution, Execution::NotExecuted);
        }
    }

    #[test]
    fn an_unknown_outcome_is_not_taken_for_not_executed() {
        let said = "ERR unknown outcome, the command may or may not take effect: the link broke";
        let Err(Problem::Refused(failure)) = checked(Value::Error(said.into())) else {
            panic!("it is an error");
        };
        assert_eq!(failure.execution, Execution::Unknown);
        assert!(!failure.permanent);
    }

    #[test]
    fn a_redirect_of_a_cluster_is_explained() {
        let moved = Value::Error("MOVED 866 127.0.0.1:7001".into());
        let Err(Problem::Refused(failure)) = checked(moved) else {
            panic!("a redirect is an error");
        };
        assert!(
            failure.permanent && failure.message.contains("follows no redirects"),
            "{failure}"
        );
    }
}

//! Redis commands that a core hands to the core of another node which has the rows, and the answers on their way back
//! (`docs/formats.md`, "Forwarded commands").
//!
//! | question | |
//! |---|---|
//! | id u64 | the asker's, copied into the answer |
//! | table u32, partition u32 | |
//! | timeout_ms u32 | what is left of the deadline |
//! | transaction u8 | 1 = what follows is executed as one |
//! | commands | arrays of bulk strings, at least one |
//!
//! | answer | |
//! |---|---|
//! | id u64 | |
//! | code u16 | 0 = what follows is the answer, as RESP3 |
//! | retry_after_ms u32, primary length u8, primary, message | with any other code |
//!
//! All integers little-endian. Only proven peers send these bytes; they are checked all the same.

#[cfg(test)]
mod any_bytes;

use bytes::{Buf, BufMut, BytesMut};
use pegasus_fbs::code::Code;
use pegasus_net::peer::PEER_BODY_BYTES_MAX;
use pegasus_net::request::Failure;
use pegasus_redis::{Call, Calls};
use pegasus_replication::ids::{PartitionId, TableId};
use pegasus_resp::{
    CommandDecoder, Limits, Value, ValueDecoder, Version, encode_command, encode_value,
};
use std::time::Duration;

/// Commands for one partition of another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub id: u64,
    pub partition: PartitionId,
    pub timeout: Duration,
    pub calls: Calls,
}

/// What a question came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub id: u64,
    pub reply: Result<Value, Failure>,
}

/// Bytes of a peer that are no question, or no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what} of a forwarded command")]
pub struct Malformed {
    what: &'static str,
}

const QUESTION_BYTES: usize = 8 + 4 + 4 + 4 + 1;
const ANSWER_BYTES: usize = 8 + 2;
const FAILURE_BYTES: usize = 4 + 1;
/// Commands of a transaction.
const COMMANDS_MAX: usize = 4096;

const LIMITS: Limits = Limits {
    bulk_bytes_max: PEER_BODY_BYTES_MAX,
    total_bytes_max: PEER_BODY_BYTES_MAX,
    ..Limits::DEFAULT
};

impl Question {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(QUESTION_BYTES + 128);
        out.put_u64_le(self.id);
        out.put_u32_le(self.partition.table.0);
        out.put_u32_le(self.partition.index);
        out.put_u32_le(u32::try_from(self.timeout.as_millis()).unwrap_or(u32::MAX));
        out.put_u8(u8::from(matches!(self.calls, Calls::Transaction(_))));
        for call in self.calls.as_slice() {
            encode_command(&mut out, call.command.arguments());
        }
        out
    }

    /// # Errors
    /// Bytes that no peer of this version sends.
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let (mut head, rest) = split(body, QUESTION_BYTES, "question")?;
        let id = head.get_u64_le();
        let table = TableId(head.get_u32_le());
        let index = head.get_u32_le();
        let timeout = Duration::from_millis(head.get_u32_le().into());
        let is_transaction = head.get_u8() != 0;
        let mut calls = calls(rest)?;
        let calls = match (is_transaction, calls.len()) {
            (true, 1..) => Calls::Transaction(calls),
            (false, 1) => Calls::One(calls.remove(0)),
            _ => return Err(Malformed { what: "number" }),
        };
        Ok(Self {
            id,
            partition: PartitionId { table, index },
            timeout,
            calls,
        })
    }
}

fn calls(bytes: &[u8]) -> Result<Vec<Call>, Malformed> {
    let malformed = Malformed { what: "command" };
    let mut rest = BytesMut::from(bytes);
    let mut decoder = CommandDecoder::new(LIMITS);
    let mut calls = Vec::new();
    while !rest.is_empty() {
        let command = decoder.decode(&mut rest).map_err(|_| malformed)?;
        let call = Call::new(command.ok_or(malformed)?).map_err(|_| malformed)?;
        call.check_keys().map_err(|_| malformed)?;
        if calls.len() >= COMMANDS_MAX {
            return Err(malformed);
        }
        calls.push(call);
    }
    Ok(calls)
}

impl Answer {
    /// At most a peer's frame: an answer that is larger becomes a failure.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(ANSWER_BYTES + 128);
        out.put_u64_le(self.id);
        match &self.reply {
            Ok(value) => {
                out.put_u16_le(Code::Ok.number());
                encode_value(&mut out, value, Version::Resp3);
            }
            Err(failure) => put_failure(&mut out, failure),
        }
        if out.len() <= PEER_BODY_BYTES_MAX {
            return out;
        }
        let message = format!("answer of {} bytes, ask for less", out.len());
        let reply = Err(Failure::new(Code::TooLarge, message));
        Self { id: self.id, reply }.encode()
    }

    /// # Errors
    /// Bytes that no peer of this version sends.
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let malformed = Malformed { what: "answer" };
        let (mut head, rest) = split(body, ANSWER_BYTES, "answer")?;
        let id = head.get_u64_le();
        let code = Code::try_from(head.get_u16_le()).map_err(|_| malformed)?;
        if code != Code::Ok {
            let reply = Err(failure(code, rest)?);
            return Ok(Self { id, reply });
        }
        let mut bytes = BytesMut::from(rest);
        let value = ValueDecoder::new(LIMITS).decode(&mut bytes);
        match value {
            Ok(Some(value)) if bytes.is_empty() => Ok(Self {
                id,
                reply: Ok(value),
            }),
            _ => Err(malformed),
        }
    }
}

fn put_failure(out: &mut Vec<u8>, failure: &Failure) {
    let primary = failure.primary.map(|address| address.to_string());
    let primary = primary.unwrap_or_default();
    out.put_u16_le(failure.code.number());
    out.put_u32_le(failure.retry_after_ms);
    out.put_u8(u8::try_from(primary.len()).expect("an address has fewer than 256 bytes"));
    out.put_slice(primary.as_bytes());
    out.put_slice(failure.message.as_bytes());
}

fn failure(code: Code, bytes: &[u8]) -> Result<Failure, Malformed> {
    let malformed = Malformed { what: "failure" };
    let (mut head, rest) = split(bytes, FAILURE_BYTES, "failure")?;
    let retry_after_ms = head.get_u32_le();
    let (primary, message) = split(rest, usize::from(head.get_u8()), "failure")?;
    let primary = std::str::from_utf8(primary).map_err(|_| malformed)?;
    let primary = match primary {
        "" => None,
        text => Some(text.parse().map_err(|_| malformed)?),
    };
    let message = std::str::from_utf8(message).map_err(|_| malformed)?;
    Ok(Failure {
        code,
        message: message.to_owned(),
        retry_after_ms,
        primary,
        // Between cores of one cluster it is not carried: who asks goes by the directory.
        ballot: 0,
    })
}

fn split<'a>(
    bytes: &'a [u8],
    length: usize,
    what: &'static str,
) -> Result<(&'a [u8], &'a [u8]), Malformed> {
    bytes.split_at_checked(length).ok_or(Malformed { what })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use bytes::Bytes;

    fn call(line: &str) -> Call {
        let mut bytes = BytesMut::from(format!("{line}\r\n").as_bytes());
        let command = CommandDecoder::default().decode(&mut bytes).unwrap();
        Call::new(command.unwrap()).unwrap()
    }

    fn question(calls: Calls) -> Question {
        Question {
            id: 7,
            partition: PartitionId {
                table: TableId(3),
                index: 5,
            },
            timeout: Duration::from_millis(1234),
            calls,
        }
    }

    fn answers() -> Vec<Answer> {
        let failure = Failure {
            retry_after_ms: 9,
            primary: Some(std::net::SocketAddr::from(([127, 0, 0, 1], 34801))),
            ..Failure::new(Code::NotPrimary, "partition 5")
        };
        [
            Ok(Value::Null),
            Ok(Value::Bulk(Bytes::from_static(b"v\r\n"))),
            Ok(Value::Array(vec![Value::Integer(-1), Value::Null])),
            Err(failure),
            Err(Failure::new(Code::Unknown, "")),
        ]
        .into_iter()
        .map(|reply| Answer { id: 7, reply })
        .collect()
    }

    #[test]
    fn decoding_inverts_encoding() {
        for calls in [
            Calls::One(call("GET k")),
            Calls::Transaction(vec![call("SET k \"a b\""), call("INCR k")]),
            Calls::Transaction(vec![call("SET k v")]),
        ] {
            let question = question(calls);
            assert_eq!(Question::decode(&question.encode()), Ok(question));
        }
        for answer in answers() {
            assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
        }
    }

    #[test]
    fn truncations_and_trailing_bytes_are_refused() {
        let bytes = question(Calls::One(call("SET k v"))).encode();
        for end in 0..bytes.len() {
            assert!(Question::decode(&bytes[..end]).is_err(), "{end}");
        }
        assert!(Question::decode(&[&bytes[..], b"x"].concat()).is_err());
        let bytes = answers()[1].encode();
        for end in 0..bytes.len() {
            assert!(Answer::decode(&bytes[..end]).is_err(), "{end}");
        }
        assert!(Answer::decode(&[&bytes[..], b"x"].concat()).is_err());
    }

    #[test]
    fn commands_that_are_not_for_rows_or_unknown_are_refused() {
        let mut bytes = question(Calls::One(call("GET k"))).encode();
        bytes.truncate(QUESTION_BYTES);
        bytes.extend_from_slice(b"*1\r\n$4\r\nNOPE\r\n");
        assert!(Question::decode(&bytes).is_err());
    }

    #[test]
    fn an_answer_over_a_frame_becomes_a_failure() {
        let value = Value::Bulk(Bytes::from(vec![b'v'; PEER_BODY_BYTES_MAX]));
        let answer = Answer {
            id: 7,
            reply: Ok(value),
        };
        let found = Answer::decode(&answer.encode()).unwrap();
        assert_eq!(found.reply.unwrap_err().code, Code::TooLarge);
    }
}

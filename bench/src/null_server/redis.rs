//! The protocol of Redis, as much of it as the bench uses. A string is a row of its key and an empty sort key, a field of
//! a hash or a member of a sorted set a row of its own; what kind of value a key has is not checked.

use super::Rows;
use bytes::{Bytes, BytesMut};
use pegasus_resp::{Command, CommandDecoder, Limits, Value, Version, encode_value};

pub(super) struct Redis {
    decoder: CommandDecoder,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            decoder: CommandDecoder::new(Limits::DEFAULT),
        }
    }
}

impl Redis {
    /// Answers all whole commands; `None` at the first bytes that are none.
    pub(super) fn answer(
        &mut self,
        input: &mut BytesMut,
        output: &mut Vec<u8>,
        rows: &mut impl Rows,
    ) -> Option<()> {
        while let Some(command) = self.decoder.decode(input).ok()? {
            let value = reply(&command, rows)
                .unwrap_or_else(|| Value::Error("ERR not a command of this server".into()));
            encode_value(output, &value, Version::Resp2);
        }
        Some(())
    }
}

/// `None` for a command that is not known, or not in this form.
fn reply(command: &Command, rows: &mut impl Rows) -> Option<Value> {
    let key = command.argument(1).unwrap_or_default();
    Some(match command.argument(0)? {
        b"GET" => rows.row(key, b"").map_or(Value::Null, |value| {
            Value::Bulk(Bytes::from(value.into_owned()))
        }),
        b"SET" => {
            rows.put(key, b"", command.argument(2)?);
            Value::Simple(Bytes::from_static(b"OK"))
        }
        b"HSET" => {
            let mut pairs = command.arguments().skip(2);
            let mut count = 0;
            while let (Some(field), Some(value)) = (pairs.next(), pairs.next()) {
                rows.put(key, field, value);
                count += 1;
            }
            Value::Integer(count)
        }
        b"HGETALL" => {
            let mut flat = Vec::new();
            rows.range(key, b"", b"", usize::MAX, &mut |field, value| {
                flat.extend([bulk(field), bulk(value)]);
            });
            Value::Array(flat)
        }
        b"ZADD" => {
            rows.put(key, command.argument(3)?, b"");
            Value::Integer(1)
        }
        b"ZRANGEBYLEX" => range_by_lex(command, rows)?,
        b"PING" => Value::Simple(Bytes::from_static(b"PONG")),
        b"SELECT" => Value::Simple(Bytes::from_static(b"OK")),
        _ => return None,
    })
}

/// `ZRANGEBYLEX key [start + LIMIT 0 count`, in this form only.
fn range_by_lex(command: &Command, rows: &mut impl Rows) -> Option<Value> {
    let start = command.argument(2)?.strip_prefix(b"[")?;
    let count: usize = std::str::from_utf8(command.argument(6)?)
        .ok()?
        .parse()
        .ok()?;
    let mut members = Vec::new();
    rows.range(command.argument(1)?, start, b"", count, &mut |member, _| {
        members.push(bulk(member));
    });
    Some(Value::Array(members))
}

fn bulk(bytes: &[u8]) -> Value {
    Value::Bulk(Bytes::copy_from_slice(bytes))
}

//! The protocol of Redis: strings are rows with an empty sort key, fields of hashes are rows.

use super::{Speaker, rounded};
use bytes::BytesMut;
use e2e::model::{Answer, Check, Operation};
use pegasus_resp::{Limits, Value, ValueDecoder, encode_command};
use pegasus_thrift::data::EPOCH_UNIX_SECONDS;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

pub(super) struct Redis {
    stream: TcpStream,
    input: BytesMut,
    decoder: ValueDecoder,
}

impl Redis {
    pub(super) fn open(address: &str, table: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let mut redis = Self {
            stream,
            input: BytesMut::new(),
            decoder: ValueDecoder::new(Limits::DEFAULT),
        };
        let selected = redis.command(&[b"SELECT", table.as_bytes()]);
        assert_eq!(selected, Value::Simple("OK".into()));
        redis
    }

    fn command(&mut self, words: &[&[u8]]) -> Value {
        let mut request = BytesMut::new();
        encode_command(&mut request, words.iter().copied());
        self.stream.write_all(&request).unwrap();
        loop {
            if let Some(value) = self.decoder.decode(&mut self.input).unwrap() {
                return value;
            }
            let mut chunk = [0; 16 << 10];
            let count = self.stream.read(&mut chunk).unwrap();
            assert!(count > 0, "the server has closed the connection");
            self.input.extend_from_slice(&chunk[..count]);
        }
    }

    /// The sentence with which a command is refused.
    pub(super) fn error(&mut self, words: &[&[u8]]) -> String {
        let answer = self.command(words);
        let error = answer.error();
        error.expect("the command is refused").to_string()
    }

    fn put(&mut self, key: &[u8], field: &[u8], value: &[u8], expire_at: u32) -> Answer {
        let unix = (u64::from(expire_at) + EPOCH_UNIX_SECONDS).to_string();
        let answer = match (field.is_empty(), expire_at) {
            (true, 0) => self.command(&[b"SET", key, value]),
            (true, _) => self.command(&[b"SET", key, value, b"EXAT", unix.as_bytes()]),
            (false, _) => self.command(&[b"HSET", key, field, value]),
        };
        assert!(answer.error().is_none(), "{answer:?}");
        Answer::Done
    }

    fn incr(&mut self, key: &[u8], field: &[u8], by: i64) -> Answer {
        let by = by.to_string();
        let answer = if field.is_empty() {
            self.command(&[b"INCRBY", key, by.as_bytes()])
        } else {
            self.command(&[b"HINCRBY", key, field, by.as_bytes()])
        };
        match answer.error() {
            None => Answer::Sum(integer(&answer)),
            Some(error) if error.contains("overflow") => Answer::Overflow(None),
            Some(error) if error.contains("not an integer") => Answer::NotANumber,
            Some(error) => panic!("{error}"),
        }
    }

    /// `SETNX` and `HSETNX`.
    fn set_new(&mut self, key: &[u8], check: &Check, value: &[u8]) -> Answer {
        let answer = if check.sort_key.is_empty() {
            self.command(&[b"SETNX", key, value])
        } else {
            self.command(&[b"HSETNX", key, &check.sort_key, value])
        };
        Answer::Checked(integer(&answer) == 1, None)
    }

    /// Values of these fields; those of missing ones are left out.
    fn fields(&mut self, key: &[u8], fields: &[Vec<u8>]) -> Answer {
        let words: Vec<&[u8]> = [&b"HMGET"[..], key]
            .into_iter()
            .chain(fields.iter().map(|field| &field[..]))
            .collect();
        let Value::Array(values) = self.command(&words) else {
            panic!("HMGET is answered with an array");
        };
        let found = fields.iter().zip(values);
        let rows = found.filter_map(|(field, value)| Some((field.clone(), string(value)?)));
        Answer::Rows(rows.collect(), None)
    }

    fn all_fields(&mut self, key: &[u8]) -> Answer {
        let Value::Array(flat) = self.command(&[b"HGETALL", key]) else {
            panic!("HGETALL is answered with an array");
        };
        let flat: Vec<_> = flat.into_iter().filter_map(string).collect();
        let rows = flat
            .chunks(2)
            .map(|pair| (pair[0].clone(), pair[1].clone()));
        Answer::Rows(rows.collect(), None)
    }
}

impl Speaker for Redis {
    fn ask(&mut self, operation: &Operation) -> Option<Answer> {
        Some(match operation {
            Operation::Put(key, field, value, at) => self.put(key, field, value, *at),
            Operation::Remove(key, _) => {
                assert!(integer(&self.command(&[b"DEL", key])) <= 1);
                Answer::Done
            }
            Operation::Get(key, field) if field.is_empty() => {
                Answer::Value(string(self.command(&[b"GET", key])))
            }
            Operation::Get(key, field) => {
                Answer::Value(string(self.command(&[b"HGET", key, field])))
            }
            Operation::Ttl(key, _) => {
                Answer::Ttl(match integer(&self.command(&[b"EXPIRETIME", key])) {
                    -2 => None,
                    -1 => Some(0),
                    unix => Some(rounded(
                        u32::try_from(unix.unsigned_abs() - EPOCH_UNIX_SECONDS).unwrap(),
                    )),
                })
            }
            Operation::MultiPut(key, rows, _) => {
                let mut words: Vec<&[u8]> = vec![b"HSET", key];
                words.extend(
                    rows.iter()
                        .flat_map(|(field, value)| [&field[..], &value[..]]),
                );
                integer(&self.command(&words));
                Answer::Done
            }
            Operation::MultiRemove(key, fields) => {
                let mut words: Vec<&[u8]> = vec![b"HDEL", key];
                words.extend(fields.iter().map(|field| &field[..]));
                integer(&self.command(&words));
                // Redis counts those that were there.
                Answer::Count(fields.len() as u64)
            }
            Operation::MultiGet(key, asked) if asked.sort_keys.is_empty() => self.all_fields(key),
            Operation::MultiGet(key, asked) => self.fields(key, &asked.sort_keys),
            Operation::SortkeyCount(key) => {
                Answer::Count(integer(&self.command(&[b"HLEN", key])).unsigned_abs())
            }
            Operation::Incr(key, field, by, _) => self.incr(key, field, *by),
            Operation::CheckAndSet(key, check, ..) => match operation {
                Operation::CheckAndSet(_, _, _, value, _) => self.set_new(key, check, value),
                _ => return None,
            },
            Operation::BatchGet(..)
            | Operation::CheckAndMutate(..)
            | Operation::Scan(..)
            | Operation::Count(..)
            | Operation::Malformed(..) => return None,
        })
    }
}

fn integer(value: &Value) -> i64 {
    match value {
        Value::Integer(number) => *number,
        other => panic!("{other:?} is no integer"),
    }
}

fn string(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::Bulk(bytes) => Some(bytes.to_vec()),
        Value::Null => None,
        other => panic!("{other:?} is no string"),
    }
}

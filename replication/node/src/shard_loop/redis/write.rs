//! Writes of Redis clients, as a program under the gate of their key.

use crate::shard_loop::read::RAW_KEYS_BYTES_MAX;
use bytes::Bytes;
use pegasus_engine::atomic::{Evaluation, Moment, Need, Program, Rows};
use pegasus_engine::key::HASH_KEY_LENGTH_BYTES;
use pegasus_engine::{Batch, BatchError, Row as EngineRow, key};
use pegasus_fbs::code::Code;
use pegasus_net::request::Failure;
use pegasus_redis::{Calls, Context, Row, State, WRITE_ROWS_MAX, answer, evaluate, rows};
use pegasus_resp::Value;
use std::sync::Arc;

/// Commands on one key, at least one of which may write.
#[derive(Clone, Debug)]
pub struct RedisWrite {
    calls: Arc<Calls>,
    /// The raw key of the key with an empty sort key.
    prefix: Bytes,
    /// The key is no hash.
    is_plain: bool,
}

impl RedisWrite {
    /// # Errors
    /// The key is too long.
    pub(in crate::shard_loop) fn new(calls: Arc<Calls>) -> Result<Self, Failure> {
        let prefix = key::encode(&super::commands::key_of(&calls), b"")
            .map_err(|error| Failure::new(Code::TooLarge, error.to_string()))?;
        Ok(Self {
            calls,
            prefix,
            is_plain: false,
        })
    }

    /// The key that it is about.
    pub(in crate::shard_loop) fn key(&self) -> &[u8] {
        self.prefix.get(HASH_KEY_LENGTH_BYTES..).unwrap_or_default()
    }

    /// Whether the key is known to have no row with a sort key, neither applied nor in flight.
    pub(in crate::shard_loop) const fn set_plain(&mut self, is_plain: bool) {
        self.is_plain = is_plain;
    }

    fn state(&self, rows: &Rows) -> State {
        let mut state = State::new(WRITE_ROWS_MAX);
        if self.is_plain {
            state.know_plain();
        }
        let sort_key = |raw_key: &Bytes| raw_key.slice(self.prefix.len().min(raw_key.len())..);
        if let Some(head) = rows.head() {
            let found = head
                .rows
                .iter()
                .map(|it| (sort_key(&it.key), row_of(&it.row)));
            state.know_head(found.collect(), head.asked);
        }
        for (raw_key, row) in rows.named() {
            state.know(sort_key(raw_key), row.map(row_of));
        }
        state
    }

    fn raw_key(&self, sort_key: &[u8]) -> Bytes {
        if sort_key.is_empty() {
            return self.prefix.clone();
        }
        [&self.prefix[..], sort_key].concat().into()
    }

    /// Whether the raw keys of what it needs, each of which has the key in it, are too much to be made.
    fn is_too_long(&self, need: &rows::Need) -> bool {
        let rows::Need::Rows(sort_keys) = need else {
            return false;
        };
        let raw_keys = sort_keys.iter().map(|name| self.prefix.len() + name.len());
        raw_keys.sum::<usize>() > RAW_KEYS_BYTES_MAX
    }

    fn need(&self, need: rows::Need) -> Need {
        match need {
            rows::Need::Rows(sort_keys) => Need::Rows(
                sort_keys
                    .iter()
                    .map(|sort_key| self.raw_key(sort_key))
                    .collect(),
            ),
            rows::Need::Head(rows) => Need::Head {
                prefix: self.prefix.clone(),
                rows,
            },
        }
    }

    fn batch(&self, state: &State) -> Result<Batch, BatchError> {
        let mut batch = Batch::new();
        for (sort_key, row) in state.writes() {
            let raw_key = self.raw_key(sort_key);
            match row {
                Some(row) => batch.put(&raw_key, &row.value, row.expire_at)?,
                None => batch.remove(&raw_key)?,
            }
        }
        Ok(batch)
    }
}

impl Program for RedisWrite {
    type Answer = Value;

    fn evaluate(&mut self, rows: &Rows, moment: Moment) -> Result<Evaluation<Value>, Need> {
        let context = Context {
            now_ms: moment.wall_us / 1000,
            default_ttl_s: moment.default_ttl_s,
        };
        let mut state = self.state(rows);
        let value = match evaluate(&self.calls, &mut state, &context) {
            Ok(value) => value,
            Err(need) if self.is_too_long(&need) => {
                return Ok(Evaluation::unchanged(answer::error(answer::BIG_COMMAND)));
            }
            Err(need) => return Err(self.need(need)),
        };
        Ok(match self.batch(&state) {
            Ok(batch) => Evaluation {
                batch,
                ..Evaluation::unchanged(value)
            },
            Err(error) => Evaluation::unchanged(answer::failure(format!("ERR {error}"))),
        })
    }
}

fn row_of(row: &EngineRow) -> Row {
    Row {
        value: row.data.clone(),
        expire_at: row.expire_at,
    }
}

//! Reads of Redis clients: the same evaluation as of writes, on rows as they are applied.

use crate::shard_loop::read::{KEYS_PER_STEP, RAW_KEYS_BYTES_MAX, RowSource};
use bytes::Bytes;
use pegasus_engine::atomic::ROWS_BYTES_MAX;
use pegasus_engine::key::HASH_KEY_LENGTH_BYTES;
use pegasus_engine::range::hash_key_range;
use pegasus_engine::scan::{Stop, TURN_EXAMINED_DEFAULT};
use pegasus_engine::{ReadError, Row as EngineRow, Tier, key};
use pegasus_fbs::code::Code;
use pegasus_net::request::{Failure, Reply, Response};
use pegasus_redis::{
    ANSWER_BYTES_MAX, Calls, Context, Kind, Need, READ_ROWS_MAX, Row, State, answer, evaluate,
};
use pegasus_replication::ids::PartitionId;
use pegasus_resp::Value;
use std::ops::ControlFlow;
use std::sync::Arc;

/// One read in work.
#[derive(Debug)]
pub(in crate::shard_loop) struct RedisRead {
    calls: Arc<Calls>,
    /// The raw key of the key with an empty sort key.
    prefix: Bytes,
    state: State,
    context: Context,
    now_s: u32,
}

impl RedisRead {
    /// # Errors
    /// The key is too long.
    pub(in crate::shard_loop) fn new(
        calls: Arc<Calls>,
        context: Context,
        now_s: u32,
    ) -> Result<Self, Failure> {
        let prefix = key::encode(&super::commands::key_of(&calls), b"")
            .map_err(|error| Failure::new(Code::TooLarge, error.to_string()))?;
        Ok(Self {
            calls,
            prefix,
            state: State::new(READ_ROWS_MAX),
            context,
            now_s,
        })
    }

    /// Begins again: what was found in memory may be older than what is found now.
    pub(in crate::shard_loop) fn restart(&mut self) {
        self.state = State::new(READ_ROWS_MAX);
    }

    /// Reads what evaluation asks for until it has its answer.
    pub(in crate::shard_loop) fn step(
        &mut self,
        source: &impl RowSource,
        partition: PartitionId,
        tier: Tier,
    ) -> Result<Option<Reply>, ReadError> {
        if let Some(value) = self.get(source, partition, tier)? {
            return Ok(Some(Ok(Response::Redis(Value::Bulk(value)))));
        }
        if source.is_plain(partition, self.key()) {
            self.state.know_plain();
        }
        loop {
            match evaluate(&self.calls, &mut self.state, &self.context) {
                Ok(value) => return Ok(Some(Ok(Response::Redis(value)))),
                Err(Need::Rows(sort_keys)) => {
                    if let Some(refusal) = self.find(sort_keys, source, partition, tier)? {
                        return Ok(Some(Ok(Response::Redis(answer::error(refusal)))));
                    }
                }
                Err(Need::Head(rows)) => self.find_head(rows, source, partition, tier)?,
            }
        }
    }

    /// The short way of the most frequent command: GET of a string that is there.
    fn get(
        &mut self,
        source: &impl RowSource,
        partition: PartitionId,
        tier: Tier,
    ) -> Result<Option<Bytes>, ReadError> {
        let Calls::One(call) = &*self.calls else {
            return Ok(None);
        };
        if call.spec.kind != Kind::Get {
            return Ok(None);
        }
        let row = source.row(partition, &self.prefix, self.now_s, tier)?;
        if row.is_none() {
            self.state.know(Bytes::new(), None);
        }
        Ok(row.map(|row| row.data))
    }

    /// Looks rows up; or why they are too many or too large for one answer.
    fn find(
        &mut self,
        sort_keys: Vec<Bytes>,
        source: &impl RowSource,
        partition: PartitionId,
        tier: Tier,
    ) -> Result<Option<&'static str>, ReadError> {
        if let [sort_key] = &sort_keys[..] {
            let raw_key = self.raw_key(sort_key);
            let row = source.row(partition, &raw_key, self.now_s, tier)?;
            self.state.know(sort_key.clone(), row.map(row_of));
            return Ok(None);
        }
        // Only so many on the core, and all as of one moment: the others on the pool.
        if tier == Tier::CacheOnly && sort_keys.len() > KEYS_PER_STEP {
            return Err(ReadError::Incomplete { partition });
        }
        // Each raw key has the key in it: a short command may name very many bytes.
        let names = sort_keys.iter().map(|name| self.prefix.len() + name.len());
        if names.sum::<usize>() > RAW_KEYS_BYTES_MAX {
            return Ok(Some(answer::BIG_COMMAND));
        }
        let raw_keys: Vec<Bytes> = sort_keys
            .iter()
            .map(|sort_key| self.raw_key(sort_key))
            .collect();
        let (state, mut names, mut bytes) = (&mut self.state, sort_keys.into_iter(), 0);
        source.rows(partition, &raw_keys, self.now_s, tier, &mut |row| {
            bytes += row.as_ref().map_or(0, |row| row.data.len());
            match names.next() {
                Some(name) if bytes <= ANSWER_BYTES_MAX => {
                    state.know(name, row.map(row_of));
                    ControlFlow::Continue(())
                }
                _ => ControlFlow::Break(()),
            }
        })?;
        Ok((bytes > ANSWER_BYTES_MAX).then_some(answer::BIG_ANSWER))
    }

    fn find_head(
        &mut self,
        asked: usize,
        source: &impl RowSource,
        partition: PartitionId,
        tier: Tier,
    ) -> Result<(), ReadError> {
        let mut spec = hash_key_range(self.prefix.clone(), self.now_s);
        spec.rows_max = asked;
        spec.bytes_max = ROWS_BYTES_MAX;
        // On the core only so much at once, and all of it on the pool otherwise: rows of one key are read as one.
        spec.turn_examined_max = match tier {
            Tier::CacheOnly => TURN_EXAMINED_DEFAULT,
            Tier::Full => usize::MAX,
        };
        let page = source.page(partition, &spec, tier)?;
        if page.is_cut_by_bytes(&spec) {
            let bytes_max = ROWS_BYTES_MAX;
            return Err(ReadError::TooLarge {
                partition,
                bytes_max,
            });
        }
        let asked = match page.stop {
            Stop::Exhausted => usize::MAX,
            Stop::Limit { .. } => asked,
            Stop::Yield { .. } => return Err(ReadError::Incomplete { partition }),
        };
        let sort_key = |raw_key: &Bytes| raw_key.slice(self.prefix.len().min(raw_key.len())..);
        let head = page
            .rows
            .into_iter()
            .map(|it| (sort_key(&it.key), row_of(it.row)));
        let head = head.collect();
        self.state.know_head(head, asked);
        Ok(())
    }

    fn key(&self) -> &[u8] {
        self.prefix.get(HASH_KEY_LENGTH_BYTES..).unwrap_or_default()
    }

    fn raw_key(&self, sort_key: &[u8]) -> Bytes {
        if sort_key.is_empty() {
            return self.prefix.clone();
        }
        [&self.prefix[..], sort_key].concat().into()
    }
}

fn row_of(row: EngineRow) -> Row {
    Row {
        value: row.data,
        expire_at: row.expire_at,
    }
}

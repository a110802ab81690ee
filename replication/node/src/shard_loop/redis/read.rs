//! Reads of Redis clients: the same evaluation as of writes, on rows as they are applied.

use crate::shard_loop::read::RowSource;
use bytes::Bytes;
use pegasus_engine::key::HASH_KEY_LENGTH_BYTES;
use pegasus_engine::range::hash_key_range;
use pegasus_engine::scan::{Stop, TURN_EXAMINED_DEFAULT};
use pegasus_engine::{ReadError, Row as EngineRow, Tier, key};
use pegasus_fbs::code::Code;
use pegasus_net::request::{Failure, Reply, Response};
use pegasus_redis::{Calls, Context, Kind, Need, READ_ROWS_MAX, Row, State, evaluate};
use pegasus_replication::ids::PartitionId;
use pegasus_resp::Value;
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
                Err(Need::Rows(sort_keys)) => self.find(sort_keys, source, partition, tier)?,
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

    fn find(
        &mut self,
        sort_keys: Vec<Bytes>,
        source: &impl RowSource,
        partition: PartitionId,
        tier: Tier,
    ) -> Result<(), ReadError> {
        if let [sort_key] = &sort_keys[..] {
            let raw_key = self.raw_key(sort_key);
            let row = source.row(partition, &raw_key, self.now_s, tier)?;
            self.state.know(sort_key.clone(), row.map(row_of));
            return Ok(());
        }
        let raw_keys: Vec<Bytes> = sort_keys
            .iter()
            .map(|sort_key| self.raw_key(sort_key))
            .collect();
        let rows = source.rows(partition, &raw_keys, self.now_s, tier)?;
        for (sort_key, row) in sort_keys.into_iter().zip(rows) {
            self.state.know(sort_key, row.map(row_of));
        }
        Ok(())
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
        // On the core only so much at once, and all of it on the pool otherwise: rows of one key are read as one.
        spec.turn_examined_max = match tier {
            Tier::CacheOnly => TURN_EXAMINED_DEFAULT,
            Tier::Full => usize::MAX,
        };
        let page = source.page(partition, &spec, tier)?;
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

//! Reads: from an operation to an answer, in bounded steps, on the core from memory or on the engine pool from disk.
//!
//! Semantics are those of Apache Pegasus' `rrdb.thrift` (get, multi_get, batch_get, sortkey_count, get_scanner), with
//! scans stateless: a page names the key after which the next one goes on.

use super::ranges::{Range, page_of, range_of};
use super::redis::{RedisRead, RedisScan};
use bytes::Bytes;
use pegasus_engine::range::{MULTI_GET_BYTES_MAX, MULTI_GET_ROWS_MAX};
use pegasus_engine::scan::{ScanPage, ScanSpec};
use pegasus_engine::{Engine, ReadError, RocksEngine, RocksStore, Row as EngineRow, Tier, key};
use pegasus_fbs::code::Code;
use pegasus_net::request::{
    Failure, Key, MultiGet, MultiGetRows, OpenScanner, Operation, Reply, Response, Row, Rows,
};
use pegasus_replication::ids::PartitionId;
use std::collections::HashMap;
use std::ops::ControlFlow;

/// Keys looked up in one step: about 100 us of cached rows.
pub(super) const KEYS_PER_STEP: usize = 32;

/// Bytes of values after which a step looks up no more keys: 100 us and more of large rows.
const BYTES_PER_STEP: usize = 256 << 10;

/// Longest raw key that a point read holds without memory of its own.
const SHORT_KEY_BYTES_MAX: usize = 62;

/// Raw keys of one read: each has the hash key in it, so that a short request may name very many bytes.
pub(super) const RAW_KEYS_BYTES_MAX: usize = 32 << 20;

/// What a read needs of an engine; pool threads have another handle than the core.
pub trait RowSource {
    /// See [`Engine::get`].
    ///
    /// # Errors
    /// [`ReadError`].
    fn row(
        &self,
        partition: PartitionId,
        raw_key: &[u8],
        now_s: u32,
        tier: Tier,
    ) -> Result<Option<EngineRow>, ReadError>;

    /// Tells `see` the live row under each of these raw keys, in order and all as of one moment, until it breaks off.
    ///
    /// # Errors
    /// [`ReadError`].
    fn rows(
        &self,
        partition: PartitionId,
        raw_keys: &[Bytes],
        now_s: u32,
        tier: Tier,
        see: &mut dyn FnMut(Option<EngineRow>) -> ControlFlow<()>,
    ) -> Result<(), ReadError>;

    /// See [`Engine::scan`].
    ///
    /// # Errors
    /// [`ReadError`].
    fn page(
        &self,
        partition: PartitionId,
        spec: &ScanSpec,
        tier: Tier,
    ) -> Result<ScanPage, ReadError>;

    /// See [`Engine::is_plain`]; false where only files are looked at.
    fn is_plain(&self, partition: PartitionId, hash_key: &[u8]) -> bool {
        let _ = (partition, hash_key);
        false
    }
}

/// One read in work; may move from the core to a pool thread between two steps.
#[derive(Debug)]
pub struct ReadTask {
    partition: PartitionId,
    /// Second since 2016-01-01 UTC as of which rows are expired.
    now_s: u32,
    plan: Plan,
    pace: Pace,
}

/// How much a step may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// So much that the core is back in its loop soon.
    Step,
    /// Everything, by one call of the engine, and so from one state of the replica.
    Whole,
}

/// What is left of it.
#[derive(Debug)]
enum Plan {
    Point {
        raw_key: PointKey,
        want: Want,
    },
    /// Boxed like those that follow, so that point reads stay small.
    Keys(Box<Keys>),
    Range(Box<Range>),
    Redis(Box<RedisRead>),
    RedisPage(Box<RedisScan>),
    /// Nothing to read, for example an empty range.
    Nothing(Reply),
}

/// A raw key; short ones take no memory of their own.
#[derive(Debug)]
enum PointKey {
    Short {
        bytes: [u8; SHORT_KEY_BYTES_MAX],
        length: u8,
    },
    Long(Bytes),
}

impl PointKey {
    fn of(key: &Key) -> Result<Self, Failure> {
        let mut bytes = [0; SHORT_KEY_BYTES_MAX];
        match key::encode_short(&key.hash_key, &key.sort_key, &mut bytes) {
            Some(length) => Ok(Self::Short { bytes, length }),
            None => raw_key(key).map(Self::Long),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { bytes, length } => &bytes[..usize::from(*length)],
            Self::Long(bytes) => bytes,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Want {
    Value,
    Exists,
    Ttl,
}

/// Rows looked up by name.
#[derive(Debug)]
struct Keys {
    /// What the rows are called in the answer, by position.
    names: Vec<Key>,
    raw_keys: Vec<Bytes>,
    next: usize,
    found: Vec<Row>,
    bytes: usize,
    rows_max: usize,
    bytes_max: usize,
    no_value: bool,
    /// Whether an answer may leave rows out (multi get) or has to be refused (batch get).
    may_be_partial: bool,
}

/// How far one step came.
#[derive(Debug)]
pub enum Step {
    Done(Reply),
    /// Bounds of the step reached; go on in a later turn.
    More,
    /// The rest is not in memory.
    NeedsDisk,
    /// A file of this replica is damaged: it must not serve.
    Damaged(String),
}

/// What a read on the pool came to.
#[derive(Debug)]
pub enum ReadOutcome {
    Answer(Reply),
    Damaged(String),
}

impl ReadTask {
    /// The read that `operation` asks for; `now_s` counts from 2016-01-01 UTC.
    ///
    /// # Errors
    /// What the client did wrong.
    pub fn new(partition: PartitionId, operation: Operation, now_s: u32) -> Result<Self, Failure> {
        let plan = match operation {
            Operation::Get(key) => point(&key, Want::Value)?,
            Operation::Exist(key) => point(&key, Want::Exists)?,
            Operation::Ttl(key) => point(&key, Want::Ttl)?,
            Operation::MultiGet(MultiGet {
                hash_key,
                rows: MultiGetRows::Named(sort_keys),
                max_rows,
                max_bytes,
                no_value,
            }) => {
                let names = sort_keys.into_iter().map(|sort_key| Key {
                    hash_key: hash_key.clone(),
                    sort_key,
                });
                let mut keys = Keys::new(names.collect())?;
                keys.rows_max = bounded(max_rows, MULTI_GET_ROWS_MAX);
                keys.bytes_max = bounded(max_bytes, MULTI_GET_BYTES_MAX);
                keys.no_value = no_value;
                keys.may_be_partial = true;
                Plan::Keys(Box::new(keys))
            }
            Operation::BatchGet(names) => Plan::Keys(Box::new(Keys::new(names)?)),
            operation => match range_of(operation, now_s)? {
                Ok(range) => Plan::Range(Box::new(range)),
                Err(empty) => Plan::Nothing(Ok(empty)),
            },
        };
        Ok(Self::with(partition, plan, now_s))
    }

    /// One page of a scanner.
    ///
    /// # Errors
    /// What the client did wrong.
    pub fn page(
        partition: PartitionId,
        scanner: &OpenScanner,
        now_s: u32,
    ) -> Result<Self, Failure> {
        let plan = match page_of(scanner, now_s)? {
            Ok(range) => Plan::Range(Box::new(range)),
            Err(empty) => Plan::Nothing(Ok(empty)),
        };
        Ok(Self::with(partition, plan, now_s))
    }

    /// What Redis commands want to know.
    #[must_use]
    pub(super) fn of_redis(partition: PartitionId, read: RedisRead, now_s: u32) -> Self {
        Self::with(partition, Plan::Redis(Box::new(read)), now_s)
    }

    /// A page of keys, or of fields.
    #[must_use]
    pub(super) fn of_redis_scan(partition: PartitionId, scan: RedisScan, now_s: u32) -> Self {
        Self::with(partition, Plan::RedisPage(Box::new(scan)), now_s)
    }

    /// An answer that is known already, and may be given only where the partition is served.
    #[must_use]
    pub const fn known(partition: PartitionId, reply: Reply) -> Self {
        Self::with(partition, Plan::Nothing(reply), 0)
    }

    const fn with(partition: PartitionId, plan: Plan, now_s: u32) -> Self {
        Self {
            partition,
            now_s,
            plan,
            pace: Pace::Step,
        }
    }

    /// Rows of one hash key are written as one, and so have to be read as one: such a read does not go on in a later
    /// turn, between which other writes are applied. What one step cannot hold is read whole on the pool.
    pub const fn is_of_one_hash_key(&self) -> bool {
        match &self.plan {
            Plan::Range(range) => range.is_of_one_answer(),
            Plan::Keys(keys) => keys.may_be_partial,
            Plan::Redis(_) => true,
            Plan::RedisPage(_) => false,
            Plan::Point { .. } | Plan::Nothing(_) => false,
        }
    }

    /// Whether it may take several turns.
    pub const fn is_range(&self) -> bool {
        matches!(self.plan, Plan::Range(_) | Plan::Keys(_))
    }

    /// Reads some more. With [`Tier::CacheOnly`] never blocks.
    pub fn step(&mut self, source: &impl RowSource, tier: Tier) -> Step {
        let result = match &mut self.plan {
            Plan::Point { raw_key, want } => {
                let raw_key = raw_key.as_bytes();
                read_point(source, self.partition, raw_key, *want, self.now_s, tier)
            }
            Plan::Keys(keys) => keys.step(source, self.partition, self.now_s, tier, self.pace),
            Plan::Range(range) => range.step(source, self.partition, tier),
            Plan::Redis(read) => read.step(source, self.partition, tier),
            Plan::RedisPage(scan) => scan.step(source, self.partition, tier),
            Plan::Nothing(reply) => Ok(Some(reply.clone())),
        };
        match result {
            Ok(Some(reply)) => Step::Done(reply),
            Ok(None) => Step::More,
            Err(ReadError::Incomplete { .. }) => Step::NeedsDisk,
            Err(error @ ReadError::Corruption { .. }) => Step::Damaged(error.to_string()),
            Err(error @ ReadError::NoReplica { .. }) => {
                Step::Done(Err(Failure::new(Code::NotHere, error.to_string())))
            }
            Err(error @ ReadError::TooLarge { .. }) => {
                Step::Done(Err(Failure::new(Code::TooLarge, error.to_string())))
            }
            Err(error @ ReadError::Io { .. }) => {
                tracing::error!(partition = %self.partition, %error, "read failed");
                Step::Done(Err(Failure::new(Code::Internal, error.to_string())))
            }
        }
    }

    /// Reads to the end, on a pool thread.
    pub fn finish(mut self, source: &impl RowSource) -> ReadOutcome {
        if self.is_of_one_hash_key() {
            self.read_whole();
        }
        loop {
            match self.step(source, Tier::Full) {
                Step::Done(reply) => return ReadOutcome::Answer(reply),
                Step::Damaged(error) => return ReadOutcome::Damaged(error),
                Step::More => {}
                Step::NeedsDisk => {
                    let failure =
                        Failure::new(Code::Internal, "a read of the disk found nothing to read");
                    return ReadOutcome::Answer(Err(failure));
                }
            }
        }
    }
}

impl ReadTask {
    /// Begins again, and reads all by one call.
    fn read_whole(&mut self) {
        self.pace = Pace::Whole;
        match &mut self.plan {
            Plan::Keys(keys) => keys.restart(),
            Plan::Range(range) => range.restart_whole(),
            Plan::Redis(read) => read.restart(),
            Plan::RedisPage(_) => {}
            Plan::Point { .. } | Plan::Nothing(_) => {}
        }
    }
}

impl RowSource for RocksEngine {
    fn row(
        &self,
        partition: PartitionId,
        raw_key: &[u8],
        now_s: u32,
        tier: Tier,
    ) -> Result<Option<EngineRow>, ReadError> {
        self.get(partition, raw_key, now_s, tier)
    }

    fn rows(
        &self,
        partition: PartitionId,
        raw_keys: &[Bytes],
        now_s: u32,
        tier: Tier,
        see: &mut dyn FnMut(Option<EngineRow>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let rows = self.multi_get(partition, raw_keys, now_s, tier)?;
        let _ = rows.into_iter().try_for_each(see);
        Ok(())
    }

    fn page(
        &self,
        partition: PartitionId,
        spec: &ScanSpec,
        tier: Tier,
    ) -> Result<ScanPage, ReadError> {
        self.scan(partition, spec, tier)
    }

    fn is_plain(&self, partition: PartitionId, hash_key: &[u8]) -> bool {
        Engine::is_plain(self, partition, hash_key)
    }
}

/// Always reads the disk too, whatever the tier: it is used on pool threads only.
impl RowSource for RocksStore {
    fn row(
        &self,
        partition: PartitionId,
        raw_key: &[u8],
        now_s: u32,
        _: Tier,
    ) -> Result<Option<EngineRow>, ReadError> {
        self.get(partition, raw_key, now_s)
    }

    fn rows(
        &self,
        partition: PartitionId,
        raw_keys: &[Bytes],
        now_s: u32,
        _: Tier,
        see: &mut dyn FnMut(Option<EngineRow>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.each_row(partition, raw_keys, now_s, see)
    }

    fn page(
        &self,
        partition: PartitionId,
        spec: &ScanSpec,
        _: Tier,
    ) -> Result<ScanPage, ReadError> {
        self.scan(partition, spec)
    }
}

impl Keys {
    fn new(names: Vec<Key>) -> Result<Self, Failure> {
        if names.is_empty() {
            return Err(Failure::new(Code::InvalidArgument, "no keys named"));
        }
        let bytes = names.iter().map(raw_key_bytes).sum::<usize>();
        if bytes > RAW_KEYS_BYTES_MAX {
            let message =
                format!("keys of {bytes} bytes together, the limit is {RAW_KEYS_BYTES_MAX}");
            return Err(Failure::new(Code::TooLarge, message));
        }
        let raw_keys = names.iter().map(raw_key).collect::<Result<_, _>>()?;
        Ok(Self {
            names,
            raw_keys,
            next: 0,
            found: Vec::new(),
            bytes: 0,
            rows_max: usize::MAX,
            bytes_max: MULTI_GET_BYTES_MAX,
            no_value: false,
            may_be_partial: false,
        })
    }

    fn step(
        &mut self,
        source: &impl RowSource,
        partition: PartitionId,
        now_s: u32,
        tier: Tier,
        pace: Pace,
    ) -> Result<Option<Reply>, ReadError> {
        let rows = match pace {
            Pace::Step => self.rows_of_step(source, partition, now_s, tier)?,
            Pace::Whole => self.rows_of_all(source, partition, now_s, tier)?,
        };
        let end = self.next + rows.len();
        for (index, row) in (self.next..end).zip(rows) {
            let Some(row) = row else { continue };
            // A live row follows and a limit is reached: the answer is not complete.
            if self.is_full() {
                return Ok(Some(self.partial()));
            }
            let name = self.names[index].clone();
            let value = if self.no_value {
                Bytes::new()
            } else {
                row.data
            };
            self.bytes += name.sort_key.len() + value.len();
            let hash_key = if self.may_be_partial {
                Bytes::new()
            } else {
                name.hash_key
            };
            self.found.push(Row {
                hash_key,
                sort_key: name.sort_key,
                value,
                expire_at: row.expire_at,
            });
        }
        self.next = end;
        if self.next == self.raw_keys.len() {
            return Ok(Some(Ok(self.take_rows(true))));
        }
        // So large that not even all rows that are there were looked at.
        Ok((pace == Pace::Whole).then(|| self.partial()))
    }

    /// Those of the next keys. One by one, which costs no more than one call for all and lets large rows end the step.
    fn rows_of_step(
        &self,
        source: &impl RowSource,
        partition: PartitionId,
        now_s: u32,
        tier: Tier,
    ) -> Result<Vec<Option<EngineRow>>, ReadError> {
        let (mut rows, mut bytes) = (Vec::with_capacity(KEYS_PER_STEP), 0);
        for raw_key in self.raw_keys[self.next..].iter().take(KEYS_PER_STEP) {
            let row = source.row(partition, raw_key, now_s, tier)?;
            bytes += row.as_ref().map_or(0, |row| row.data.len());
            rows.push(row);
            if bytes >= BYTES_PER_STEP {
                break;
            }
        }
        Ok(rows)
    }

    /// Those of all keys, as far as the answer can hold them; a row that is named several times is read once.
    fn rows_of_all(
        &self,
        source: &impl RowSource,
        partition: PartitionId,
        now_s: u32,
        tier: Tier,
    ) -> Result<Vec<Option<EngineRow>>, ReadError> {
        // In the order in which they are named first: what is not read lies behind what fills the answer.
        let mut places = HashMap::with_capacity(self.raw_keys.len());
        let mut distinct = Vec::new();
        for raw_key in &self.raw_keys {
            places.entry(raw_key).or_insert_with(|| {
                distinct.push(raw_key.clone());
                distinct.len() - 1
            });
        }
        let (mut rows, mut bytes) = (Vec::with_capacity(distinct.len()), 0);
        source.rows(partition, &distinct, now_s, tier, &mut |row| {
            let row = row.map(|row| EngineRow {
                data: if self.no_value {
                    Bytes::new()
                } else {
                    row.data
                },
                ..row
            });
            bytes += row.as_ref().map_or(0, |row| row.data.len());
            rows.push(row);
            if bytes > self.bytes_max {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        let row = |raw_key| rows.get(*places.get(raw_key)?).cloned();
        Ok(self.raw_keys.iter().map_while(row).collect())
    }

    fn restart(&mut self) {
        self.next = 0;
        self.found.clear();
        self.bytes = 0;
    }

    const fn is_full(&self) -> bool {
        self.found.len() >= self.rows_max || self.bytes >= self.bytes_max
    }

    fn partial(&mut self) -> Reply {
        if self.may_be_partial {
            return Ok(self.take_rows(false));
        }
        let message = format!(
            "the rows of this batch get exceed {} bytes, ask for fewer keys",
            self.bytes_max
        );
        Err(Failure::new(Code::TooLarge, message))
    }

    fn take_rows(&mut self, complete: bool) -> Response {
        let rows = std::mem::take(&mut self.found);
        Response::Rows(Rows {
            rows,
            complete,
            resume_key: Bytes::new(),
            count: 0,
        })
    }
}

fn read_point(
    source: &impl RowSource,
    partition: PartitionId,
    raw_key: &[u8],
    want: Want,
    now_s: u32,
    tier: Tier,
) -> Result<Option<Reply>, ReadError> {
    let row = source.row(partition, raw_key, now_s, tier)?;
    let reply = match (want, row) {
        (Want::Exists, row) => Ok(Response::Exists(row.is_some())),
        (Want::Value | Want::Ttl, None) => Err(no_such_row()),
        (Want::Value, Some(row)) => Ok(Response::Value(row.data)),
        (Want::Ttl, Some(row)) => Ok(Response::Ttl(
            (row.expire_at > 0).then(|| row.expire_at.saturating_sub(now_s)),
        )),
    };
    Ok(Some(reply))
}

/// What a client is told of a row that is not there.
pub(super) fn no_such_row() -> Failure {
    Failure::new(Code::NotFound, "no such row")
}

fn point(key: &Key, want: Want) -> Result<Plan, Failure> {
    Ok(Plan::Point {
        raw_key: PointKey::of(key)?,
        want,
    })
}

const fn raw_key_bytes(key: &Key) -> usize {
    key::HASH_KEY_LENGTH_BYTES + key.hash_key.len() + key.sort_key.len()
}

pub(super) fn raw_key(key: &Key) -> Result<Bytes, Failure> {
    key::encode(&key.hash_key, &key.sort_key)
        .map_err(|error| Failure::new(Code::TooLarge, error.to_string()))
}

/// A client's limit, where 0 asks for the server's.
pub(super) fn bounded(asked: u32, most: usize) -> usize {
    match asked as usize {
        0 => most,
        asked => asked.min(most),
    }
}

#[cfg(test)]
mod tests;

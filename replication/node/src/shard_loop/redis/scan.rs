//! SCAN and HSCAN: pages of keys, or of the fields of one hash.
//!
//! A cursor is `partition << 48 | number`; the number says, on the core that has the partition, after which key to go on, and 0
//! is the start of the partition. A number that is not known (any more) begins its partition, or its hash, anew: an element
//! that is there all the time is returned at least once, and some more than once, as Redis promises. One SCAN looks into one
//! partition.

use crate::shard_loop::read::RowSource;
use bytes::Bytes;
use pegasus_engine::range::hash_key_range;
use pegasus_engine::scan::{Fields, ScanSpec, Stop, TURN_EXAMINED_DEFAULT};
use pegasus_engine::{ReadError, Tier, key};
use pegasus_fbs::code::Code;
use pegasus_net::request::{Failure, Reply, Response};
use pegasus_redis::{Call, Calls, Kind, READ_BYTES_MAX, answer, glob, number};
use pegasus_replication::ids::PartitionId;
use pegasus_resp::Value;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::ops::Bound;

const NUMBER_BITS: u32 = 48;
const NUMBER_MASK: u64 = (1 << NUMBER_BITS) - 1;
/// Keys or fields of a page, unless COUNT says otherwise, and at most.
const COUNT_DEFAULT: usize = 10;
const COUNT_MAX: usize = 1000;
/// Bytes of names and pattern compared for one page, some 300 us; what takes more for one name is done on the pool.
const EFFORT_MAX: usize = 256 << 10;
/// Cursors remembered by a core; the oldest are forgotten.
const CURSORS_MAX: usize = 10_000;
const CURSOR_BYTES_MAX: usize = 16 << 20;

/// What a page is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) cursor: u64,
    pattern: Option<Bytes>,
    count: usize,
    /// Of keys: strings or hashes only, or (`Some(None)`) a type that there is not.
    only: Option<Option<Only>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Only {
    Strings,
    Hashes,
}

impl Options {
    /// # Errors
    /// The answer that says what is wrong.
    pub(super) fn of(call: &Call) -> Result<Self, Value> {
        let is_of_hash = call.spec.kind == Kind::HScan;
        let at_cursor = if is_of_hash { 2 } else { 1 };
        let cursor =
            cursor_of(call.argument(at_cursor)).ok_or(answer::error(answer::INVALID_CURSOR))?;
        let mut options = Self {
            cursor,
            pattern: None,
            count: COUNT_DEFAULT,
            only: None,
        };
        let mut at = at_cursor + 1;
        while at < call.count() {
            let value = call.shared(at + 1);
            let is_last = at + 1 >= call.count();
            match &call.argument(at).to_ascii_uppercase()[..] {
                _ if is_last => return Err(answer::error(answer::SYNTAX)),
                b"MATCH" if value.len() > glob::PATTERN_BYTES_MAX => {
                    return Err(answer::error(answer::LONG_PATTERN));
                }
                b"MATCH" => options.pattern = Some(value).filter(|pattern| &pattern[..] != b"*"),
                b"COUNT" => options.count = count_of(&value)?,
                b"TYPE" if !is_of_hash => options.only = Some(only_of(&value)),
                _ => return Err(answer::error(answer::SYNTAX)),
            }
            at += 2;
        }
        Ok(options)
    }

    pub(super) fn partition(&self) -> u32 {
        u32::try_from(self.cursor >> NUMBER_BITS).unwrap_or(u32::MAX)
    }

    fn matches(&self, name: &[u8]) -> bool {
        self.pattern
            .as_ref()
            .is_none_or(|pattern| glob::matches(pattern, name))
    }

    /// What it takes at most to compare a name with the pattern, in bytes compared.
    fn effort(&self, name: &[u8]) -> usize {
        let pattern = self.pattern.as_ref().map_or(0, Bytes::len);
        pattern.saturating_mul(name.len())
    }
}

fn cursor_of(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn count_of(text: &[u8]) -> Result<usize, Value> {
    match number::integer(text) {
        None => Err(answer::error(answer::NOT_AN_INTEGER)),
        Some(..1) => Err(answer::error(answer::SYNTAX)),
        Some(count) => Ok(usize::try_from(count).unwrap_or(COUNT_MAX).min(COUNT_MAX)),
    }
}

fn only_of(name: &[u8]) -> Option<Only> {
    match &name.to_ascii_lowercase()[..] {
        b"string" => Some(Only::Strings),
        b"hash" => Some(Only::Hashes),
        _ => None,
    }
}

/// A page in work.
#[derive(Debug)]
pub(in crate::shard_loop) struct RedisScan {
    options: Options,
    spec: ScanSpec,
    /// Of HSCAN: the raw key of the hash.
    hash: Option<Bytes>,
}

impl RedisScan {
    /// The page that `call` asks for, going on after raw key `after`, if that is known.
    ///
    /// # Errors
    /// The key is too long. An inner error is the answer to wrong options.
    pub(in crate::shard_loop) fn new(
        call: &Call,
        after: Option<Bytes>,
        now_s: u32,
    ) -> Result<Result<Self, Value>, Failure> {
        let options = match Options::of(call) {
            Ok(options) => options,
            Err(value) => return Ok(Err(value)),
        };
        let hash = match (call.spec.kind, call.key()) {
            (Kind::HScan, Some(name)) => Some(
                key::encode(&name, b"")
                    .map_err(|error| Failure::new(Code::TooLarge, error.to_string()))?,
            ),
            _ => None,
        };
        let mut spec = match &hash {
            Some(prefix) => hash_key_range(prefix.clone(), now_s),
            None => ScanSpec::new(Bound::Unbounded, Bound::Unbounded, now_s),
        };
        if let Some(after) = after {
            spec.start = match &hash {
                Some(_) => Bound::Excluded(after),
                // All rows of that key are behind.
                None => key::hash_key_prefix(&after)
                    .and_then(key::prefix_successor)
                    .map_or(Bound::Excluded(after), Bound::Included),
            };
        }
        spec.fields = if hash.is_some() {
            Fields::All
        } else {
            Fields::NoValue
        };
        spec.rows_max = options.count;
        spec.bytes_max = READ_BYTES_MAX;
        spec.may_rest_between_rows = true;
        Ok(Ok(Self {
            options,
            spec,
            hash,
        }))
    }

    pub(in crate::shard_loop) fn step(
        &mut self,
        source: &impl RowSource,
        partition: PartitionId,
        tier: Tier,
    ) -> Result<Option<Reply>, ReadError> {
        let mut spec = self.spec.clone();
        spec.turn_examined_max = TURN_EXAMINED_DEFAULT.max(spec.rows_max);
        let page = source.page(partition, &spec, tier)?;
        let mut before = None;
        let after = match page.stop {
            Stop::Exhausted => None,
            Stop::Limit { after } | Stop::Yield { after } => Some(after),
        };
        let (mut items, mut effort) = (Vec::new(), 0);
        let mut last: Option<Bytes> = None;
        for found in page.rows {
            if effort > EFFORT_MAX {
                return Ok(Some(Ok(page_of(before, items))));
            }
            before = Some(found.key.clone());
            let Ok((name, sort_key)) = key::decode(&found.key) else {
                continue;
            };
            let compared = if self.hash.is_some() { sort_key } else { name };
            let of_this = self.options.effort(compared);
            if of_this > EFFORT_MAX && tier == Tier::CacheOnly {
                return Err(ReadError::Incomplete { partition });
            }
            effort += of_this;
            if self.hash.is_some() {
                if sort_key.is_empty() {
                    return Ok(Some(Ok(Response::Redis(answer::error(answer::WRONG_TYPE)))));
                }
                if self.options.matches(sort_key) {
                    items.push(Value::Bulk(found.key.slice_ref(sort_key)));
                    items.push(Value::Bulk(found.row.data));
                }
                continue;
            }
            // The first row of a key says what it is.
            if last.as_deref() != Some(name) && self.is_wanted(name, sort_key) {
                items.push(Value::Bulk(found.key.slice_ref(name)));
            }
            last = Some(found.key.slice_ref(name));
        }
        Ok(Some(Ok(page_of(after, items))))
    }

    fn is_wanted(&self, name: &[u8], sort_key: &[u8]) -> bool {
        let is_of_type = match self.options.only {
            None => true,
            Some(None) => false,
            Some(Some(Only::Strings)) => sort_key.is_empty(),
            Some(Some(Only::Hashes)) => !sort_key.is_empty(),
        };
        // Keys that Redis clients cannot name are not theirs.
        is_of_type && !name.is_empty() && self.options.matches(name)
    }
}

/// A page as it leaves the engine: the raw key after which to go on, or null, then what was found. A push, which is the answer
/// to nothing, until [`Cursors::number`] has made an answer of it.
fn page_of(after: Option<Bytes>, items: Vec<Value>) -> Response {
    let after = after.map_or(Value::Null, Value::Bulk);
    Response::Redis(Value::Push(vec![after, Value::Array(items)]))
}

/// Where pages that were answered have ended, on the core that has the partition.
#[derive(Debug)]
pub(in crate::shard_loop) struct Cursors {
    after: BTreeMap<u64, (PartitionId, Bytes)>,
    /// Where a page goes on that has been given before: asking twice costs one number.
    numbers: HashMap<(PartitionId, Bytes), u64>,
    bytes: usize,
    next: u64,
}

impl Default for Cursors {
    fn default() -> Self {
        Self {
            after: BTreeMap::new(),
            numbers: HashMap::new(),
            bytes: 0,
            // From a random one, so that those of an earlier life of the node name nothing; the upper half is for growing.
            next: 1 + (RandomState::new().hash_one(0_u8) & (NUMBER_MASK >> 1)),
        }
    }
}

impl Cursors {
    /// The raw key after which a cursor goes on; `None` = from the start.
    pub(in crate::shard_loop) fn after(
        &self,
        call: &Call,
        partition: PartitionId,
    ) -> Option<Bytes> {
        let number = Options::of(call).ok()?.cursor & NUMBER_MASK;
        let (of, after) = self.after.get(&number)?;
        let is_its_own = match (call.spec.kind, call.key()) {
            (Kind::HScan, Some(name)) => key::decode(after).is_ok_and(|(of, _)| of == &name[..]),
            _ => true,
        };
        (*of == partition && is_its_own).then(|| after.clone())
    }

    /// The answer as clients get it: a page with a number for where it ends, anything else as it is.
    pub(in crate::shard_loop) fn number(&mut self, partition: PartitionId, answer: Value) -> Value {
        let Value::Push(mut page) = answer else {
            return answer;
        };
        if let Some(after) = page.first_mut() {
            let number = match after {
                Value::Bulk(after) => self.keep(partition, after),
                _ => 0,
            };
            *after = Value::Bulk(Bytes::from(number.to_string()));
        }
        Value::Array(page)
    }

    fn keep(&mut self, partition: PartitionId, after: &Bytes) -> u64 {
        // With bytes of its own: the page's rows do not stay in memory for it.
        let after = Bytes::copy_from_slice(after);
        if let Some(number) = self.numbers.get(&(partition, after.clone())) {
            return *number;
        }
        let number = self.next;
        self.next = (self.next + 1) & NUMBER_MASK;
        self.bytes += after.len();
        self.numbers.insert((partition, after.clone()), number);
        self.after.insert(number, (partition, after));
        while self.after.len() > CURSORS_MAX || self.bytes > CURSOR_BYTES_MAX {
            let Some((_, oldest)) = self.after.pop_first() else {
                break;
            };
            self.bytes -= oldest.1.len();
            self.numbers.remove(&oldest);
        }
        number
    }
}

/// The cursor for all partitions: where this one goes on, or the start of the next, or 0 after the last.
pub(super) fn with_partition(page: Value, partition: u32, partition_count: u32) -> Value {
    let Value::Array(mut parts) = page else {
        return page;
    };
    if let Some(Value::Bulk(number)) = parts.first() {
        let cursor = match cursor_of(number) {
            Some(0) | None if partition + 1 >= partition_count => 0,
            Some(0) | None => u64::from(partition + 1) << NUMBER_BITS,
            Some(number) => u64::from(partition) << NUMBER_BITS | number,
        };
        parts[0] = Value::Bulk(Bytes::from(cursor.to_string()));
    }
    Value::Array(parts)
}

/// An empty page, the last one.
pub(super) fn nothing() -> Value {
    Value::Array(vec![answer::text("0"), Value::Array(Vec::new())])
}

/// The call, if it is a page of something.
pub(in crate::shard_loop) fn page_call(calls: &Calls) -> Option<&Call> {
    match calls {
        Calls::One(call) if matches!(call.spec.kind, Kind::Scan | Kind::HScan) => Some(call),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

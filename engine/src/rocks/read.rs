//! Reads of one replica, on its core from memory or on a helper thread from disk.

use super::RocksStore;
use super::options;
use super::replica::{RawIterator, Replica};
use super::sparse::{self, Attempt};
use crate::scan::{self, Cursor, Order, ScanPage, ScanSpec, Stop};
use crate::value::{self, TableVersion, ValueError, ValueRef};
use crate::{ReadError, Row, Tier};
use bytes::Bytes;
use pegasus_replication::ids::PartitionId;
use rocksdb::{ErrorKind, ReadOptions, ReadTier};
use std::ops::{Bound, ControlFlow};
use std::time::Instant;

/// Removed rows and old versions of rows that an iterator passes in a row where that is bounded: about 500 us.
const SKIPPED_MAX: u64 = 4096;

/// Rows looked up at once where many are wanted: enough to be quick, few enough to be bounded if each is large.
const KEYS_PER_LOOK: usize = 32;

/// Options that are made once: each costs an allocation in C++.
pub(super) struct Reader {
    cache_only: ReadOptions,
    full: ReadOptions,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self {
            cache_only: options::reads(ReadTier::BlockCache),
            full: options::reads(ReadTier::All),
        }
    }

    const fn options(&self, tier: Tier) -> &ReadOptions {
        match tier {
            Tier::CacheOnly => &self.cache_only,
            Tier::Full => &self.full,
        }
    }

    /// The live row under `raw_key`. `seen` is told first what is stored, expired or not.
    pub(super) fn get(
        &self,
        replica: &Replica,
        raw_key: &[u8],
        now_s: u32,
        tier: Tier,
        seen: impl FnOnce(Option<ValueRef<'_>>),
    ) -> Result<Option<Row>, ReadError> {
        replica.check()?;
        let partition = replica.name.partition;
        let stored = replica
            .db
            .get_pinned_cf_opt(replica.column_family(), raw_key, self.options(tier))
            .map_err(|error| read_error(partition, error))?;
        live_row(stored.as_deref(), now_s, seen).map_err(|error| unreadable(partition, error))
    }

    /// One answer per key, in order. `seen` is told first what is stored under each, named by its position.
    pub(super) fn multi_get<K: AsRef<[u8]>>(
        &self,
        replica: &Replica,
        raw_keys: &[K],
        now_s: u32,
        tier: Tier,
        seen: impl FnMut(usize, Option<ValueRef<'_>>),
    ) -> Result<Vec<Option<Row>>, ReadError> {
        Self::multi_get_with(self.options(tier), replica, raw_keys, now_s, seen)
    }

    fn multi_get_with<K: AsRef<[u8]>>(
        options: &ReadOptions,
        replica: &Replica,
        raw_keys: &[K],
        now_s: u32,
        mut seen: impl FnMut(usize, Option<ValueRef<'_>>),
    ) -> Result<Vec<Option<Row>>, ReadError> {
        replica.check()?;
        let partition = replica.name.partition;
        let answers =
            replica
                .db
                .batched_multi_get_cf_opt(replica.column_family(), raw_keys, false, options);
        let row = |(at, answer): (usize, Result<Option<_>, _>)| {
            let stored: Option<rocksdb::DBPinnableSlice<'_>> =
                answer.map_err(|error| read_error(partition, error))?;
            live_row(stored.as_deref(), now_s, |value| seen(at, value))
                .map_err(|error| unreadable(partition, error))
        };
        answers.into_iter().enumerate().map(row).collect()
    }
}

impl RocksStore {
    /// Tells `see` the live rows under `raw_keys` one after the other, all as of one moment, until it breaks off. At most
    /// 32 of them are in memory besides those that it keeps.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn each_row(
        &self,
        partition: PartitionId,
        raw_keys: &[Bytes],
        now_s: u32,
        see: &mut dyn FnMut(Option<Row>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let replica = self
            .find(partition)
            .ok_or(ReadError::NoReplica { partition })?;
        let snapshot = replica.db.snapshot();
        let mut options = options::reads(ReadTier::All);
        options.set_snapshot(&snapshot);
        for some in raw_keys.chunks(KEYS_PER_LOOK) {
            for row in Reader::multi_get_with(&options, &replica, some, now_s, |_, _| ())? {
                if see(row).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

fn live_row(
    stored: Option<&[u8]>,
    now_s: u32,
    seen: impl FnOnce(Option<ValueRef<'_>>),
) -> Result<Option<Row>, ValueError> {
    let value = stored
        .map(|stored| value::decode(stored, TableVersion::V1))
        .transpose()?;
    seen(value);
    let live = value.filter(|value| !value::is_expired(value.expire_at, now_s));
    Ok(live.map(|value| Row {
        expire_at: value.expire_at,
        timetag: value.timetag,
        data: Bytes::copy_from_slice(value.data),
    }))
}

/// One page of a range read.
pub(super) fn scan(replica: &Replica, spec: &ScanSpec, tier: Tier) -> Result<ScanPage, ReadError> {
    replica.check()?;
    let partition = replica.name.partition;
    if spec.is_empty() {
        return Ok(ScanPage::empty());
    }
    if tier == Tier::Full && sparse::may_rest(spec) {
        return sparse::scan(spec, |part| attempt(replica, part, tier));
    }
    match attempt(replica, spec, tier)? {
        Attempt::Page(page) => Ok(page),
        Attempt::CutOff => Err(ReadError::Incomplete { partition }),
    }
}

/// One page with the iterator's bounds. Memory may lack a part of it, and it never passes more than so many removed rows
/// where that may end it.
fn attempt(replica: &Replica, spec: &ScanSpec, tier: Tier) -> Result<Attempt, ReadError> {
    let partition = replica.name.partition;
    let began = Instant::now();
    let iterator = replica
        .db
        .raw_iterator_cf_opt(replica.column_family(), iterator_options(spec, tier));
    let mut cursor = RocksCursor {
        iterator,
        order: spec.order,
        may_be_cut_off: tier == Tier::Full && sparse::may_rest(spec),
    };
    cursor.seek(spec);
    let page = scan::run(spec, &mut cursor, || began.elapsed())
        .map_err(|error| unreadable(partition, error))?;
    // An iterator that meets trouble just ends; only its status tells that from a real end.
    match cursor.iterator.status() {
        Ok(()) => Ok(Attempt::Page(page)),
        Err(error) if error.kind() == ErrorKind::Incomplete => {
            // What was read before stays read, if the page says where it ends.
            let has_got_on = cursor.may_be_cut_off && page.stop != Stop::Exhausted;
            Ok(if has_got_on {
                Attempt::Page(page)
            } else {
                Attempt::CutOff
            })
        }
        Err(error) => Err(read_error(partition, error)),
    }
}

fn iterator_options(spec: &ScanSpec, tier: Tier) -> ReadOptions {
    let mut options = options::reads(match tier {
        Tier::CacheOnly => ReadTier::BlockCache,
        Tier::Full => ReadTier::All,
    });
    // On the core none passes many removed rows in a row: that is left to the pool.
    if tier == Tier::CacheOnly || sparse::may_rest(spec) {
        options.set_max_skippable_internal_keys(SKIPPED_MAX);
    }
    // The prefix filter can answer for one hash key read forwards; every other read must see all keys in order.
    if spec.within.is_some() && spec.order == Order::Ascending && spec.start != Bound::Unbounded {
        options.set_prefix_same_as_start(true);
    } else {
        options.set_total_order_seek(true);
    }
    let (start, stop) = spec.cursor_bounds();
    match start {
        Bound::Included(key) => options.set_iterate_lower_bound(key),
        Bound::Excluded(key) => options.set_iterate_lower_bound(following(&key)),
        Bound::Unbounded => {}
    }
    match stop {
        Bound::Included(key) => options.set_iterate_upper_bound(following(&key)),
        Bound::Excluded(key) => options.set_iterate_upper_bound(key),
        Bound::Unbounded => {}
    }
    options
}

/// The smallest key above `key`.
fn following(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

struct RocksCursor<'a> {
    iterator: RawIterator<'a>,
    order: Order,
    may_be_cut_off: bool,
}

impl RocksCursor<'_> {
    /// Bounds are in the iterator's options already, where they are inclusive below and exclusive above.
    fn seek(&mut self, spec: &ScanSpec) {
        match (self.order, &spec.start) {
            (Order::Ascending, Bound::Included(key)) => self.iterator.seek(key),
            (Order::Ascending, Bound::Excluded(key)) => self.iterator.seek(following(key)),
            (Order::Ascending, Bound::Unbounded) => self.iterator.seek_to_first(),
            (Order::Descending, _) => self.iterator.seek_to_last(),
        }
    }
}

impl Cursor for RocksCursor<'_> {
    fn record(&self) -> Option<(&[u8], &[u8])> {
        self.iterator.item()
    }

    fn advance(&mut self) {
        match self.order {
            Order::Ascending => self.iterator.next(),
            Order::Descending => self.iterator.prev(),
        }
    }

    fn is_cut_off(&self) -> bool {
        let is_incomplete = |status: Result<(), rocksdb::Error>| {
            status.is_err_and(|it| it.kind() == ErrorKind::Incomplete)
        };
        self.may_be_cut_off && !self.iterator.valid() && is_incomplete(self.iterator.status())
    }
}

pub(super) fn read_error(partition: PartitionId, error: rocksdb::Error) -> ReadError {
    let kind = error.kind();
    let detail = error.into_string();
    match kind {
        ErrorKind::Incomplete => ReadError::Incomplete { partition },
        ErrorKind::Corruption => ReadError::Corruption { partition, detail },
        ErrorKind::ColumnFamilyDropped => ReadError::NoReplica { partition },
        _ => ReadError::Io { partition, detail },
    }
}

fn unreadable(partition: PartitionId, error: ValueError) -> ReadError {
    ReadError::Corruption {
        partition,
        detail: error.to_string(),
    }
}

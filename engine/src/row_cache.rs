//! Rows of one core that were read lately, in front of the engine: a point read of one costs two looks into memory
//! instead of the ten dependent ones of memtables, indexes and blocks.
//!
//! **Never stale.** One thread reads and writes: a mutation changes what is cached before anybody can read again
//! ([`RowCache::put`], [`RowCache::remove`]), and only that thread fills the cache, with what it has just read. Rows
//! belong to a [`ReplicaNumber`]; a replica that comes back in any way gets a new number, and what was cached under its
//! old one is never found again. Expiry is judged at each read, by the same rule as in the engine. Rows known to be
//! missing are cached too.
//!
//! **Bounded.** All memory is laid out at the start. Rows lie as records in two rings of bytes ([`ring`]), found by a table
//! of one cache line for each eight of them ([`index`]).
//!
//! **Scans push nothing out.** Which rows stay is S3-FIFO's rule (Yang et al., "FIFO queues are all you need for cache
//! eviction", SOSP 2023): a new row enters the small ring, a tenth of all; only if it is read there again does it move
//! to the main ring when it would fall out, and a row that fell out unread goes straight to the main ring should it be
//! missed soon after. The main ring gives a row another round for each of its up to three hits. Nothing is linked or
//! moved on a hit but a counter of two bits.

mod index;
mod memory;
mod ring;

use crate::Row;
use crate::value::{ValueRef, is_expired};
use bytes::{Bytes, BytesMut};
use index::{Index, Place};
use ring::{Record, Ring};

/// Names a replica in the cache. Never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReplicaNumber(u32);

/// A row that is about to be looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowHint {
    replica: ReplicaNumber,
    hash: u64,
}

/// What the cache has done and holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RowCacheActivity {
    /// Point reads it has answered, also those of rows it knows to be missing.
    pub hits: u64,
    /// Point reads that the engine had to answer.
    pub misses: u64,
    /// Bytes of its budget that hold records, and what is left of replaced ones.
    pub bytes: u64,
}

/// Bytes of memory for each slot of the index: half of what a small row takes, so that few lines are full.
const BYTES_PER_SLOT: usize = 64;
/// Longest record: larger rows would push out many, and gain little.
const RECORD_BYTES_MAX: usize = 16 << 10;
/// Rows of the main ring that are kept for their hits while room is made for one.
const KEPT_MAX: usize = 32;
/// Answers share chunks of this size, so that a hit allocates nothing.
const ANSWER_CHUNK_BYTES: usize = 32 << 10;

/// The cache of one core.
#[derive(Debug)]
pub(crate) struct RowCache {
    index: Index,
    small: Ring,
    main: Ring,
    /// Fingerprints of rows that fell out of the small ring, each where its hash says.
    ghosts: Box<[u32]>,
    record_bytes_max: usize,
    answers: BytesMut,
    next_replica: u32,
    hits: u64,
    misses: u64,
}

impl RowCache {
    /// Smallest cache that is one.
    pub(crate) const BYTES_MIN: usize = 4 << 10;

    /// A cache that takes `bytes` of memory, or none at all below [`Self::BYTES_MIN`].
    pub(crate) fn new(bytes: usize) -> Self {
        let bytes = if bytes < Self::BYTES_MIN { 0 } else { bytes };
        let index = Index::new(bytes / BYTES_PER_SLOT);
        let ghosts = vec![0; index.slots() / 2].into_boxed_slice();
        let rows = bytes.saturating_sub(index.bytes() + size_of_val(&*ghosts));
        let small = Ring::new(rows / 10);
        let main = Ring::new(rows - rows / 10);
        Self {
            record_bytes_max: RECORD_BYTES_MAX.min(small.bytes() / 4),
            index,
            small,
            main,
            ghosts,
            answers: BytesMut::new(),
            next_replica: 0,
            hits: 0,
            misses: 0,
        }
    }

    /// A number for a replica of which nothing is cached.
    ///
    /// # Panics
    /// After 2^32 of them.
    pub(crate) fn number_replica(&mut self) -> ReplicaNumber {
        let number = self.next_replica;
        self.next_replica = number
            .checked_add(1)
            .expect("replicas come and go far below 2^32 times");
        ReplicaNumber(number)
    }

    pub(crate) fn activity(&self) -> RowCacheActivity {
        RowCacheActivity {
            hits: self.hits,
            misses: self.misses,
            bytes: (self.small.used_bytes() + self.main.used_bytes()) as u64,
        }
    }

    /// What is known of a row as of second `now_s`; `None`: nothing, `Some(None)`: it is missing or expired.
    pub(crate) fn get(
        &mut self,
        replica: ReplicaNumber,
        raw_key: &[u8],
        now_s: u32,
    ) -> Option<Option<Row>> {
        let hash = hash(replica, raw_key);
        let Some(place) = self.find(hash, replica, raw_key) else {
            self.misses += 1;
            return None;
        };
        self.count_hit(hash, place);
        let live = live_at(&self.small, &self.main, place, now_s);
        Some(live.map(|value| Row {
            expire_at: value.expire_at,
            timetag: value.timetag,
            data: share(&mut self.answers, value.data),
        }))
    }

    /// As [`Self::get`], without a copy of the row. A row that is not found is not counted as missed: whoever asks like this
    /// asks again.
    pub(crate) fn peek(
        &mut self,
        hint: RowHint,
        raw_key: &[u8],
        now_s: u32,
    ) -> Option<Option<&[u8]>> {
        let place = self.find(hint.hash, hint.replica, raw_key)?;
        self.count_hit(hint.hash, place);
        let live = live_at(&self.small, &self.main, place, now_s);
        Some(live.map(|value| value.data))
    }

    /// Where a row would be.
    pub(crate) fn hint(replica: ReplicaNumber, raw_key: &[u8]) -> RowHint {
        let hash = hash(replica, raw_key);
        RowHint { replica, hash }
    }

    /// Has these rows in the CPU's caches soon. What one row waits for does not depend on the others, so that the waits
    /// overlap: first those for the slots, then those for the records.
    pub(crate) fn approach(&self, hints: &[RowHint]) {
        let slots = hints.iter().map(|hint| self.index.touch(hint.hash));
        std::hint::black_box(slots.fold(0, |all, slot| all ^ slot));
        let place = |hint: &RowHint| self.index.find(hint.hash, |_| true);
        let records = hints.iter().filter_map(place);
        let touch = |place: Place| ring_of(&self.small, &self.main, place).touch(place.position);
        std::hint::black_box(records.fold(0, |all, place| all ^ touch(place)));
    }

    fn count_hit(&mut self, hash: u64, place: Place) {
        self.hits += 1;
        self.index.count_hit(hash, place);
    }

    /// Keeps what the engine has just said of a row (expired ones too): to be called before anything else is applied.
    pub(crate) fn fill(
        &mut self,
        replica: ReplicaNumber,
        raw_key: &[u8],
        value: Option<ValueRef<'_>>,
    ) {
        let hash = hash(replica, raw_key);
        let record = Record::new(hash, replica.0, raw_key, value);
        if record.bytes() > self.record_bytes_max || self.find(hash, replica, raw_key).is_some() {
            return;
        }
        let is_main = self.take_ghost(hash);
        self.append(is_main, &record);
    }

    /// The row has been written: what is cached of it changes likewise. Rows that nobody reads are not cached for it.
    pub(crate) fn put(&mut self, replica: ReplicaNumber, raw_key: &[u8], value: ValueRef<'_>) {
        self.replace(replica, raw_key, Some(value));
    }

    /// The row has been removed: if it is cached, it is now as missing.
    pub(crate) fn remove(&mut self, replica: ReplicaNumber, raw_key: &[u8]) {
        self.replace(replica, raw_key, None);
    }

    /// What became of the row is not certain: nothing is known of it.
    pub(crate) fn forget(&mut self, replica: ReplicaNumber, raw_key: &[u8]) {
        let hash = hash(replica, raw_key);
        if let Some(place) = self.find(hash, replica, raw_key) {
            self.index.clear(hash, place);
        }
    }

    fn replace(&mut self, replica: ReplicaNumber, raw_key: &[u8], value: Option<ValueRef<'_>>) {
        let hash = hash(replica, raw_key);
        let Some(place) = self.find(hash, replica, raw_key) else {
            return;
        };
        let record = Record::new(hash, replica.0, raw_key, value);
        let ring = if place.is_main {
            &mut self.main
        } else {
            &mut self.small
        };
        if ring.overwrite(place.position, &record) {
            return;
        }
        self.index.clear(hash, place);
        if record.bytes() <= self.record_bytes_max {
            self.append(place.is_main, &record);
        }
    }

    fn find(&self, hash: u64, replica: ReplicaNumber, raw_key: &[u8]) -> Option<Place> {
        self.index.find(hash, |place| {
            ring_of(&self.small, &self.main, place)
                .record(place.position)
                .is_of(replica.0, raw_key)
        })
    }

    fn append(&mut self, is_main: bool, record: &Record<'_>) {
        let position = if is_main {
            self.make_room_in_main(record.bytes());
            self.main.append(record)
        } else {
            self.make_room_in_small(record.bytes());
            self.small.append(record)
        };
        if let Some(position) = position {
            self.index.insert(record.hash, Place { is_main, position });
        }
    }

    /// Moves what was read again, and what still has room, to the main ring; the rest falls out and leaves a ghost.
    fn make_room_in_small(&mut self, bytes: usize) {
        while !self.small.has_room(bytes) {
            let Some((position, hash)) = self.small.oldest() else {
                return;
            };
            let place = Place {
                is_main: false,
                position,
            };
            if let Some(hits) = self.index.hits(hash, place) {
                self.index.clear(hash, place);
                let record_bytes = self.small.record(position).bytes();
                if hits > 0 || self.main.has_room(record_bytes) {
                    self.move_to_main(position, hash, record_bytes);
                } else {
                    self.leave_ghost(hash);
                }
            }
            self.small.drop_oldest();
        }
    }

    fn move_to_main(&mut self, position: u32, hash: u64, record_bytes: usize) {
        self.make_room_in_main(record_bytes);
        if let Some(position) = self.main.append(&self.small.record(position)) {
            self.index.insert(
                hash,
                Place {
                    is_main: true,
                    position,
                },
            );
        }
    }

    /// Drops the oldest that have no hits left; those that have, some at most, pay with one for another round.
    fn make_room_in_main(&mut self, bytes: usize) {
        let mut kept = 0;
        while !self.main.has_room(bytes) {
            let Some((position, hash)) = self.main.oldest() else {
                return;
            };
            let place = Place {
                is_main: true,
                position,
            };
            match self.index.hits(hash, place) {
                Some(hits) if hits > 0 && kept < KEPT_MAX => {
                    kept += 1;
                    match self.main.recycle_oldest() {
                        Some(position) => self.index.move_on(hash, place, position),
                        None => self.index.clear(hash, place),
                    }
                }
                Some(_) => {
                    self.index.clear(hash, place);
                    self.main.drop_oldest();
                }
                None => self.main.drop_oldest(),
            }
        }
    }

    fn leave_ghost(&mut self, hash: u64) {
        if let Some(ghost) = self.ghost(hash) {
            *ghost = fingerprint(hash);
        }
    }

    /// Whether the row fell out of the small ring not long ago; its ghost is gone then.
    fn take_ghost(&mut self, hash: u64) -> bool {
        self.ghost(hash)
            .is_some_and(|ghost| *ghost == fingerprint(hash) && std::mem::take(ghost) != 0)
    }

    fn ghost(&mut self, hash: u64) -> Option<&mut u32> {
        let at = index::share_of(hash, self.ghosts.len());
        self.ghosts.get_mut(at)
    }
}

const fn ring_of<'a>(small: &'a Ring, main: &'a Ring, place: Place) -> &'a Ring {
    if place.is_main { main } else { small }
}

/// The row of a record, unless it is missing or expired.
fn live_at<'a>(small: &'a Ring, main: &'a Ring, place: Place, now_s: u32) -> Option<ValueRef<'a>> {
    let value = ring_of(small, main, place).record(place.position).value();
    value.filter(|value| !is_expired(value.expire_at, now_s))
}

/// A copy of `data` in a chunk that is used again once nobody holds an answer in it.
fn share(answers: &mut BytesMut, data: &[u8]) -> Bytes {
    if data.is_empty() {
        return Bytes::new();
    }
    if answers.capacity() < data.len() {
        answers.reserve(data.len().max(ANSWER_CHUNK_BYTES));
    }
    answers.extend_from_slice(data);
    answers.split().freeze()
}

/// Never 0, which is no ghost.
#[allow(
    clippy::cast_possible_truncation,
    reason = "a part of the hash is meant"
)]
const fn fingerprint(hash: u64) -> u32 {
    hash as u32 | 1
}

/// Multiply and fold, eight bytes at a time. Keys made to collide only push each other out.
fn hash(replica: ReplicaNumber, raw_key: &[u8]) -> u64 {
    const START: u64 = 0x9e37_79b9_7f4a_7c15;
    const STEP: u64 = 0xa076_1d64_78bd_642f;
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        #[allow(clippy::cast_possible_truncation, reason = "the two halves are meant")]
        {
            product as u64 ^ (product >> 64) as u64
        }
    };
    let (words, rest) = raw_key.as_chunks::<8>();
    let mut hash = fold(START ^ u64::from(replica.0), STEP);
    for word in words {
        hash = fold(hash ^ u64::from_le_bytes(*word), STEP);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let last = u64::from_le_bytes(last) ^ (raw_key.len() as u64).rotate_right(8);
    fold(hash ^ last, START)
}

#[cfg(test)]
mod tests;

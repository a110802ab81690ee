//! Records of rows in a ring of bytes: the newest is appended, the oldest is dropped, nothing else moves.
//!
//! A record is whole and aligned to units of 8 bytes: a head of 32 bytes (below), the raw key, the data. What is left
//! before the end of the ring and too short for the next record is skipped.
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | hash |
//! | 8..16 | timetag |
//! | 16..20 | expiry |
//! | 20..24 | number of the replica |
//! | 24..28 | bytes of data; 2^32 - 1: the row is missing |
//! | 28..30 | bytes of the key |
//! | 30..32 | units of the record, also what a shorter value has left of it; 0: no record, the rest of the ring is skipped |

use super::memory::Memory;
use crate::value::ValueRef;

const UNIT: usize = 8;
const HEAD_BYTES: usize = 32;
const HEAD_UNITS: u64 = (HEAD_BYTES / UNIT) as u64;
const MISSING: u32 = u32::MAX;
const LINE_BYTES: usize = 64;
/// What a row of 100 bytes has; of longer ones the CPU fetches the rest by itself.
const TOUCHED_LINES: usize = 3;

/// What is said of a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) hash: u64,
    replica: u32,
    key: &'a [u8],
    value: Option<ValueRef<'a>>,
}

impl<'a> Record<'a> {
    pub(super) const fn new(
        hash: u64,
        replica: u32,
        key: &'a [u8],
        value: Option<ValueRef<'a>>,
    ) -> Self {
        Self {
            hash,
            replica,
            key,
            value,
        }
    }

    pub(super) fn is_of(&self, replica: u32, key: &[u8]) -> bool {
        self.replica == replica && self.key == key
    }

    pub(super) const fn value(&self) -> Option<ValueRef<'a>> {
        self.value
    }

    fn data(&self) -> &'a [u8] {
        self.value.map_or(&[], |value| value.data)
    }

    /// Room it takes.
    pub(super) fn bytes(&self) -> usize {
        (HEAD_BYTES + self.key.len() + self.data().len()).next_multiple_of(UNIT)
    }
}

#[derive(Debug)]
pub(super) struct Ring {
    bytes: Memory,
    units: u64,
    /// Units dropped and appended since the start; where they lie is the remainder by `units`.
    head: u64,
    tail: u64,
}

impl Ring {
    pub(super) fn new(bytes: usize) -> Self {
        let bytes = Memory::new((bytes / UNIT).min(u32::MAX as usize) * UNIT);
        Self {
            units: (bytes.len() / UNIT) as u64,
            bytes,
            head: 0,
            tail: 0,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "at most the bytes of the ring"
    )]
    pub(super) const fn used_bytes(&self) -> usize {
        (self.tail - self.head) as usize * UNIT
    }

    /// Reads from the first cache lines of a record, to have them near.
    pub(super) fn touch(&self, position: u32) -> u8 {
        let at = position as usize * UNIT;
        let lines = (at..).step_by(LINE_BYTES).take(TOUCHED_LINES);
        lines.fold(0, |all, at| {
            all ^ self.bytes.get(at).copied().unwrap_or_default()
        })
    }

    /// Whether a record of so many bytes can be appended now.
    pub(super) const fn has_room(&self, bytes: usize) -> bool {
        let units = bytes.div_ceil(UNIT) as u64;
        self.tail + self.skipped_for(units) + units - self.head <= self.units
    }

    /// Units before the end of the ring that are too short for a record.
    const fn skipped_for(&self, units: u64) -> u64 {
        if self.units == 0 {
            return 0;
        }
        let left = self.units - self.tail % self.units;
        if left < units { left } else { 0 }
    }

    /// Its position; `None` without room.
    pub(super) fn append(&mut self, record: &Record<'_>) -> Option<u32> {
        let bytes = record.bytes();
        let position = self.claim(bytes)?;
        self.write(position, record, bytes / UNIT);
        u32::try_from(position).ok()
    }

    /// Room for so many bytes behind the newest.
    fn claim(&mut self, bytes: usize) -> Option<usize> {
        let units = (bytes / UNIT) as u64;
        if units == 0 || !self.has_room(bytes) {
            return None;
        }
        let skipped = self.skipped_for(units);
        if skipped >= HEAD_UNITS {
            let nothing = Record::new(0, 0, b"", None);
            self.write(self.at(self.tail), &nothing, 0);
        }
        let position = self.at(self.tail + skipped);
        self.tail += skipped + units;
        Some(position)
    }

    /// The oldest record goes, and comes back as the newest at this position; `None` if there is no room at the end.
    pub(super) fn recycle_oldest(&mut self) -> Option<u32> {
        self.skip_nothing();
        let from = self.at(self.head) * UNIT;
        let bytes = self.units_at(self.at(self.head)) * UNIT;
        self.drop_oldest();
        let position = self.claim(bytes)?;
        // The old place is free, and at most covered by the new one itself: `claim` marks what it skips only before the
        // end of the ring, where the oldest cannot lie if the newest does not fit there.
        self.bytes.copy_within(from..from + bytes, position * UNIT);
        u32::try_from(position).ok()
    }

    /// Position and hash of the oldest record.
    pub(super) fn oldest(&mut self) -> Option<(u32, u64)> {
        self.skip_nothing();
        if self.head == self.tail {
            return None;
        }
        let position = self.at(self.head);
        let hash = self.word(position * UNIT);
        u32::try_from(position)
            .ok()
            .map(|position| (position, hash))
    }

    /// Frees the oldest record, if there is one.
    pub(super) fn drop_oldest(&mut self) {
        self.skip_nothing();
        if self.head < self.tail {
            self.head += self.units_at(self.at(self.head)) as u64;
        }
    }

    /// Goes on to the start of the ring if no record follows before its end.
    fn skip_nothing(&mut self) {
        if self.head == self.tail {
            return;
        }
        let position = self.at(self.head);
        let left = self.units - position as u64;
        if left < HEAD_UNITS || self.units_at(position) == 0 {
            self.head += left;
        }
    }

    /// The record at a position that `append` has given.
    pub(super) fn record(&self, position: u32) -> Record<'_> {
        let start = position as usize * UNIT;
        let key_start = start + HEAD_BYTES;
        let key_end = key_start + usize::from(self.short(start + 28));
        let data_bytes = self.int(start + 24);
        let value = (data_bytes != MISSING).then(|| ValueRef {
            expire_at: self.int(start + 16),
            timetag: self.word(start + 8),
            data: &self.bytes[key_end..key_end + data_bytes as usize],
        });
        Record {
            hash: self.word(start),
            replica: self.int(start + 20),
            key: &self.bytes[key_start..key_end],
            value,
        }
    }

    /// Puts `record` in the place of the one at `position`; false if it needs more room.
    pub(super) fn overwrite(&mut self, position: u32, record: &Record<'_>) -> bool {
        let position = position as usize;
        let units = self.units_at(position);
        let fits = record.bytes() <= units * UNIT;
        if fits {
            self.write(position, record, units);
        }
        fits
    }

    fn write(&mut self, position: usize, record: &Record<'_>, units: usize) {
        let (key, data) = (record.key, record.data());
        let (timetag, expire_at, data_bytes) = match record.value {
            Some(value) => (value.timetag, value.expire_at, short_int(data.len())),
            None => (0, 0, MISSING),
        };
        let start = position * UNIT;
        let mut head = [0; HEAD_BYTES];
        head[..8].copy_from_slice(&record.hash.to_le_bytes());
        head[8..16].copy_from_slice(&timetag.to_le_bytes());
        head[16..20].copy_from_slice(&expire_at.to_le_bytes());
        head[20..24].copy_from_slice(&record.replica.to_le_bytes());
        head[24..28].copy_from_slice(&data_bytes.to_le_bytes());
        head[28..30].copy_from_slice(&shorter_int(key.len()).to_le_bytes());
        head[30..32].copy_from_slice(&shorter_int(units).to_le_bytes());
        let room = &mut self.bytes[start..];
        room[..HEAD_BYTES].copy_from_slice(&head);
        room[HEAD_BYTES..HEAD_BYTES + key.len()].copy_from_slice(key);
        room[HEAD_BYTES + key.len()..][..data.len()].copy_from_slice(data);
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "below the units of the ring"
    )]
    const fn at(&self, offset: u64) -> usize {
        (offset % self.units) as usize
    }

    fn units_at(&self, position: usize) -> usize {
        usize::from(self.short(position * UNIT + 30))
    }

    fn word(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }

    fn int(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }

    fn short(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.array(at))
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[at..at + N]);
        array
    }
}

fn short_int(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("records are bounded far below 4 GiB")
}

fn shorter_int(count: usize) -> u16 {
    u16::try_from(count).expect("records are bounded below 64 KiB")
}

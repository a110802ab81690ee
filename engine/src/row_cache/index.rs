//! Where a row's record lies: eight slots in one cache line for all rows whose hash falls there. A row that finds them
//! all taken pushes out the one with the fewest hits.
//!
//! | bits of a slot | what |
//! |---|---|
//! | 63 | 1: taken |
//! | 61..62 | hits, 0 to 3 |
//! | 60 | 1: in the main ring |
//! | 32..59 | low bits of the hash |
//! | 0..31 | position in its ring |

use super::memory::Memory;

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) is_main: bool,
    /// In its ring, in units.
    pub(super) position: u32,
}

const WAYS: usize = 8;
const TAKEN: u64 = 1 << 63;
const HIT: u64 = 1 << 61;
const HITS_MAX: u64 = 3;
const MAIN: u64 = 1 << 60;
const TAG_BITS: u64 = ((1 << 28) - 1) << 32;

const SLOT_BYTES: usize = size_of::<u64>();
/// One cache line: the memory begins at one.
const BUCKET_BYTES: usize = WAYS * SLOT_BYTES;

#[derive(Debug)]
pub(super) struct Index {
    memory: Memory,
}

impl Index {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            memory: Memory::new(slots / WAYS * BUCKET_BYTES),
        }
    }

    pub(super) fn slots(&self) -> usize {
        self.memory.len() / SLOT_BYTES
    }

    pub(super) fn bytes(&self) -> usize {
        self.memory.len()
    }

    /// The place of this hash that `is_it`: hashes alone prove nothing.
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(Place) -> bool) -> Option<Place> {
        let at = self.bucket_at(hash);
        let (slots, _) = self.memory.get(at..at + BUCKET_BYTES)?.as_chunks();
        let wanted = TAKEN | tag(hash);
        slots
            .iter()
            .map(|slot| u64::from_le_bytes(*slot))
            .filter(|slot| slot & (TAKEN | TAG_BITS) == wanted)
            .map(place_of)
            .find(|&place| is_it(place))
    }

    /// Reads from the cache line of this hash, to have it near.
    pub(super) fn touch(&self, hash: u64) -> u8 {
        let at = self.bucket_at(hash);
        self.memory.get(at).copied().unwrap_or_default()
    }

    pub(super) fn insert(&mut self, hash: u64, place: Place) {
        let slot = TAKEN | tag(hash) | place_bits(place);
        // Free ones have the fewest hits of all.
        let worst = self
            .bucket(hash)
            .min_by_key(|old| u64::from_le_bytes(**old) >> 61);
        if let Some(worst) = worst {
            *worst = slot.to_le_bytes();
        }
    }

    pub(super) fn count_hit(&mut self, hash: u64, place: Place) {
        self.change(hash, place, |slot| match hits_of(slot) {
            HITS_MAX => slot,
            _ => slot + HIT,
        });
    }

    /// `None`: no row has its record there any more.
    pub(super) fn hits(&mut self, hash: u64, place: Place) -> Option<u64> {
        self.change(hash, place, |slot| slot).map(hits_of)
    }

    pub(super) fn clear(&mut self, hash: u64, place: Place) {
        self.change(hash, place, |_| 0);
    }

    /// The record lies elsewhere in the same ring now, which costs a hit.
    pub(super) fn move_on(&mut self, hash: u64, place: Place, position: u32) {
        let moved = Place { position, ..place };
        self.change(hash, place, |slot| {
            let hits = hits_of(slot).saturating_sub(1) * HIT;
            TAKEN | tag(hash) | place_bits(moved) | hits
        });
    }

    /// What the slot of this place held before; `None` if there is none.
    fn change(&mut self, hash: u64, place: Place, change: impl Fn(u64) -> u64) -> Option<u64> {
        let wanted = TAKEN | tag(hash) | place_bits(place);
        let is_wanted = |slot: &u64| slot & !(HITS_MAX * HIT) == wanted;
        let slot = self
            .bucket(hash)
            .find(|slot| is_wanted(&u64::from_le_bytes(**slot)))?;
        let before = u64::from_le_bytes(*slot);
        *slot = change(before).to_le_bytes();
        Some(before)
    }

    /// The eight slots in which a row of this hash may be.
    fn bucket(&mut self, hash: u64) -> impl Iterator<Item = &mut [u8; SLOT_BYTES]> {
        let at = self.bucket_at(hash);
        let bucket = self
            .memory
            .get_mut(at..at + BUCKET_BYTES)
            .unwrap_or_default();
        bucket.as_chunks_mut().0.iter_mut()
    }

    fn bucket_at(&self, hash: u64) -> usize {
        share_of(hash, self.memory.len() / BUCKET_BYTES) * BUCKET_BYTES
    }
}

/// Spreads hashes evenly over `0..count`, by their upper bits.
#[allow(
    clippy::cast_possible_truncation,
    reason = "below `count`, which is a usize"
)]
pub(super) const fn share_of(hash: u64, count: usize) -> usize {
    ((hash as u128 * count as u128) >> 64) as usize
}

const fn tag(hash: u64) -> u64 {
    (hash << 32) & TAG_BITS
}

const fn hits_of(slot: u64) -> u64 {
    (slot / HIT) & HITS_MAX
}

const fn place_bits(place: Place) -> u64 {
    let main = if place.is_main { MAIN } else { 0 };
    main | place.position as u64
}

#[allow(clippy::cast_possible_truncation, reason = "the lower half is meant")]
const fn place_of(slot: u64) -> Place {
    Place {
        is_main: slot & MAIN != 0,
        position: slot as u32,
    }
}

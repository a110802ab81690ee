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

#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Bucket([u64; WAYS]);

#[derive(Debug)]
pub(super) struct Index {
    buckets: Box<[Bucket]>,
}

impl Index {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            buckets: vec![Bucket::default(); slots / WAYS].into_boxed_slice(),
        }
    }

    pub(super) const fn slots(&self) -> usize {
        self.buckets.len() * WAYS
    }

    pub(super) const fn bytes(&self) -> usize {
        self.buckets.len() * size_of::<Bucket>()
    }

    /// The place of this hash that `is_it`: hashes alone prove nothing.
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(Place) -> bool) -> Option<Place> {
        let bucket = self.buckets.get(share_of(hash, self.buckets.len()))?;
        bucket
            .0
            .iter()
            .filter(|&&slot| slot & (TAKEN | TAG_BITS) == TAKEN | tag(hash))
            .map(|&slot| place_of(slot))
            .find(|&place| is_it(place))
    }

    pub(super) fn insert(&mut self, hash: u64, place: Place) {
        let at = share_of(hash, self.buckets.len());
        let Some(bucket) = self.buckets.get_mut(at) else {
            return;
        };
        let slot = TAKEN | tag(hash) | place_bits(place);
        // Free ones have the fewest hits of all.
        if let Some(worst) = bucket.0.iter_mut().min_by_key(|slot| **slot >> 61) {
            *worst = slot;
        }
    }

    pub(super) fn count_hit(&mut self, hash: u64, place: Place) {
        if let Some(slot) = self.slot(hash, place)
            && hits_of(*slot) < HITS_MAX
        {
            *slot += HIT;
        }
    }

    /// `None`: no row has its record there any more.
    pub(super) fn hits(&mut self, hash: u64, place: Place) -> Option<u64> {
        self.slot(hash, place).map(|slot| hits_of(*slot))
    }

    pub(super) fn clear(&mut self, hash: u64, place: Place) {
        if let Some(slot) = self.slot(hash, place) {
            *slot = 0;
        }
    }

    /// The record lies elsewhere in the same ring now, which costs a hit.
    pub(super) fn move_on(&mut self, hash: u64, place: Place, position: u32) {
        if let Some(slot) = self.slot(hash, place) {
            let moved = Place { position, ..place };
            let hits = hits_of(*slot).saturating_sub(1) * HIT;
            *slot = TAKEN | tag(hash) | place_bits(moved) | hits;
        }
    }

    fn slot(&mut self, hash: u64, place: Place) -> Option<&mut u64> {
        let at = share_of(hash, self.buckets.len());
        let wanted = TAKEN | tag(hash) | place_bits(place);
        let hits = HITS_MAX * HIT;
        self.buckets
            .get_mut(at)?
            .0
            .iter_mut()
            .find(|slot| **slot & !hits == wanted)
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
    slot / HIT & HITS_MAX
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

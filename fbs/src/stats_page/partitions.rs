//! The replicas of a core, each with counters of its own.
//!
//! | word | contents |
//! |---|---|
//! | 0 | sequence: 0 = free, odd while the slot changes its owner; grows with each use of any slot |
//! | 1 | table (low 32 bits), partition (high 32 bits) |
//! | 2.. | counters, in the order of [`PartitionCounter`] |
//! | then | gauges, in the order of [`PartitionGauge`] |
//! | then | 0 |
//!
//! A replica has a slot from the first time it is looked at, or a client asks for it, until it is gone. A slot given back is
//! taken again last: answers to requests of its replica may still be on their way, and would be counted for the next one.

use super::{PartitionCounter, PartitionGauge, Role, halves, pair, store};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Replicas with a slot; a core that has more of them says how many are left out
/// ([`Gauge::PartitionsUntold`](super::Gauge::PartitionsUntold)).
pub const PARTITIONS_MAX: usize = 1024;
/// Words of one slot.
pub const PARTITION_WORDS: usize = 32;

const COUNTERS_AT: usize = 2;
const GAUGES_AT: usize = COUNTERS_AT + PartitionCounter::COUNT;
const _: () = assert!(GAUGES_AT + PartitionGauge::COUNT <= PARTITION_WORDS);

/// Twice as many places as slots, so that looking one up meets few others.
const PLACES: usize = 2 * PARTITIONS_MAX;
const PLACE_BITS: u32 = PLACES.trailing_zeros();

/// Names the slot of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionSlot(u16);

impl PartitionSlot {
    /// Of replicas without a slot, and of requests that are for none.
    pub const NONE: Self = Self(u16::MAX);

    /// Where its words begin among those of all slots.
    pub(super) const fn start(self) -> usize {
        self.0 as usize * PARTITION_WORDS
    }
}

/// The place of a counter in a slot.
pub(super) const fn place_of(counter: PartitionCounter) -> usize {
    COUNTERS_AT + counter as usize
}

/// The place of a gauge in a slot.
pub(super) const fn place_of_gauge(gauge: PartitionGauge) -> usize {
    GAUGES_AT + gauge as usize
}

/// Whose the slots are, as the writer knows it.
#[derive(Debug)]
pub(super) struct PartitionSlots {
    /// Of each slot that has been used: table and partition, and its sequence; 0 = free.
    owners: Vec<(u64, u64)>,
    /// The longest free first.
    free: VecDeque<u16>,
    /// Slots by the hash of their owner, plus one; 0 = nobody. Open addressing.
    places: Box<[u16; PLACES]>,
    sequence: u64,
}

impl Default for PartitionSlots {
    fn default() -> Self {
        Self {
            owners: Vec::new(),
            free: VecDeque::new(),
            places: Box::new([0; PLACES]),
            sequence: 0,
        }
    }
}

impl PartitionSlots {
    #[inline]
    pub(super) fn find(&self, table: u32, partition: u32) -> Option<PartitionSlot> {
        let owner = pair(table.into(), partition.into());
        let mut place = place_for(owner);
        loop {
            let slot = self.places[place].checked_sub(1)?;
            if self.owners[usize::from(slot)].0 == owner {
                return Some(PartitionSlot(slot));
            }
            place = (place + 1) % PLACES;
        }
    }

    /// A slot for a replica that has none, its words all 0.
    pub(super) fn take(
        &mut self,
        words: &[AtomicU64],
        table: u32,
        partition: u32,
    ) -> PartitionSlot {
        let owner = pair(table.into(), partition.into());
        let Some(slot) = self.next_free() else {
            return PartitionSlot::NONE;
        };
        self.sequence += 2;
        self.owners[usize::from(slot)] = (owner, self.sequence);
        self.enter(owner, slot);
        let slot = PartitionSlot(slot);
        if let Some([sequence, name, rest @ ..]) =
            words.get(slot.start()..slot.start() + PARTITION_WORDS)
        {
            store(sequence, self.sequence - 1);
            fence(Ordering::Release);
            store(name, owner);
            rest.iter().for_each(|word| store(word, 0));
            fence(Ordering::Release);
            store(sequence, self.sequence);
        }
        slot
    }

    fn next_free(&mut self) -> Option<u16> {
        if self.owners.len() < PARTITIONS_MAX {
            self.owners.push((0, 0));
            return u16::try_from(self.owners.len() - 1).ok();
        }
        self.free.pop_front()
    }

    fn enter(&mut self, owner: u64, slot: u16) {
        let mut place = place_for(owner);
        while self.places[place] != 0 {
            place = (place + 1) % PLACES;
        }
        self.places[place] = slot + 1;
    }

    /// Gives back the slots of all replicas that are not to be kept.
    pub(super) fn retain(
        &mut self,
        words: &[AtomicU64],
        mut is_kept: impl FnMut(u32, u32) -> bool,
    ) {
        let before = self.free.len();
        for (slot, (owner, sequence)) in (0..).zip(&mut self.owners) {
            let (table, partition) = halves(*owner);
            if *sequence == 0 || is_kept(table, partition) {
                continue;
            }
            (*owner, *sequence) = (0, 0);
            self.free.push_back(slot);
            if let Some(sequence) = words.get(PartitionSlot(slot).start()) {
                store(sequence, 0);
            }
        }
        if self.free.len() > before {
            self.enter_all();
        }
    }

    fn enter_all(&mut self) {
        self.places.fill(0);
        for (slot, (owner, sequence)) in (0..).zip(self.owners.clone()) {
            if sequence > 0 {
                self.enter(owner, slot);
            }
        }
    }

    /// Slots that have been used: the others are behind them.
    pub(super) fn used(&self) -> usize {
        self.owners.len()
    }
}

/// Fibonacci hashing (Knuth 6.4): the upper bits of a product.
const fn place_for(owner: u64) -> usize {
    (owner.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - PLACE_BITS)) as usize
}

/// What a page says of one replica: counted since its slot was taken, or within an interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionStats {
    pub table: u32,
    pub partition: u32,
    /// Tells one life of the replica on the core from the next.
    sequence: u64,
    values: [u64; PARTITION_WORDS - COUNTERS_AT],
}

impl PartitionStats {
    /// `None`: the slot is free, or was never finished.
    pub(super) fn of_words(words: &[u64]) -> Option<Self> {
        let [sequence, name, values @ ..] = words else {
            return None;
        };
        let (table, partition) = halves(*name);
        (*sequence > 0 && sequence & 1 == 0).then_some(Self {
            table,
            partition,
            sequence: *sequence,
            values: values.try_into().ok()?,
        })
    }

    #[must_use]
    pub fn counter(&self, counter: PartitionCounter) -> u64 {
        self.values[counter as usize]
    }

    #[must_use]
    pub fn gauge(&self, gauge: PartitionGauge) -> u64 {
        self.values[PartitionCounter::COUNT + gauge as usize]
    }

    #[must_use]
    pub fn role(&self) -> Role {
        Role::of_word(self.gauge(PartitionGauge::Role))
    }

    /// Sum of several counters. Saturates: what a damaged file holds is not ours.
    #[must_use]
    pub fn sum(&self, counters: &[PartitionCounter]) -> u64 {
        let values = counters.iter().map(|counter| self.counter(*counter));
        values.fold(0, u64::saturating_add)
    }

    /// All requests that read.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.sum(PartitionCounter::reads())
    }

    /// All requests that write.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.sum(PartitionCounter::writes())
    }

    /// All requests.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.reads().saturating_add(self.writes())
    }

    /// What was counted after `earlier`, an older reading of the same replica; all of it if that is of an earlier life.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = self.clone();
        if since.sequence == earlier.sequence {
            let counters = since.values.iter_mut().zip(&earlier.values);
            for (now, then) in counters.take(PartitionCounter::COUNT) {
                *now = now.saturating_sub(*then);
            }
        }
        since
    }
}

/// The replicas in a consistent copy of the slots, by table and partition.
pub(super) fn decode(words: &[u64]) -> Vec<PartitionStats> {
    let slots = words.chunks_exact(PARTITION_WORDS);
    let mut all: Vec<_> = slots.filter_map(PartitionStats::of_words).collect();
    all.sort_unstable_by_key(|it| (it.table, it.partition));
    all
}

#[cfg(test)]
mod tests;

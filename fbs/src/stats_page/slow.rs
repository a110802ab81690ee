//! The slowest requests of the last minutes, each with the time of each of its stages.
//!
//! The slots are in groups, one for each minute: the group of the present minute keeps the slowest of that minute, and
//! when a minute is over the oldest group is emptied and becomes the new one. So an old outlier goes after
//! [`MINUTES_KEPT`] minutes at the latest, and a fresh one stays for at least one less.
//!
//! | word | contents |
//! |---|---|
//! | 0 | sequence: 0 = empty, odd while the slot is being written; grows with each use of any slot |
//! | 1 | when it was answered, microseconds since 1970 |
//! | 2 | operation (16 bits, the number of its [`Timing`]), code (16 bits), table (32 bits) |
//! | 3 | partition |
//! | 4 | bytes of rows written (as logged) or returned |
//! | 5 | hash of its key, keyed by a secret of this life of the core; 0 = no one key |
//! | 6.. | nanoseconds of each stage, in the order of [`Stage`] |

use super::names::{Class, Stage, Timing};
use super::store;
use crate::code::Code;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

/// Minutes with slots of their own: the present one and those before.
pub const MINUTES_KEPT: usize = 4;
/// Requests kept of each minute.
pub const SLOW_PER_MINUTE: usize = 16;
/// Slots of a page.
pub const SLOW_SLOTS: usize = MINUTES_KEPT * SLOW_PER_MINUTE;
/// Words of one slot.
pub const SLOW_WORDS: usize = STAGES_AT + Stage::COUNT;

const STAGES_AT: usize = 6;
const MINUTE_US: u64 = 60_000_000;

/// One answered request: what it was, and where its time went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestTimes {
    /// One of [`Timing::operations`].
    pub operation: Timing,
    pub code: Code,
    pub table: u32,
    pub partition: u32,
    /// Of rows: written (as logged) or returned.
    pub bytes: u64,
    /// 0 = no one key. Given as the hash that picks the partition; in a page it is hashed again with a secret of this life
    /// of the core: it tells requests for one key from those for others, and nobody can try keys out.
    pub key_hash: u64,
    /// Nanoseconds by [`Stage`].
    pub stages: [u64; Stage::COUNT],
}

/// A slow request, as a page has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowRequest {
    /// When it was answered, microseconds since 1970.
    pub answered_unix_us: u64,
    pub request: RequestTimes,
}

impl RequestTimes {
    /// The sum of the stages. Saturates: what a damaged file holds is not ours.
    #[must_use]
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.total_ns())
    }

    /// The time it spent in one stage; zero for those it did not go through.
    #[must_use]
    pub const fn stage(&self, stage: Stage) -> Duration {
        Duration::from_nanos(self.stages[stage as usize])
    }

    /// Whether it went through the stages of reads or of writes.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self.operation.class() {
            Some(class) => class,
            None => Class::Read,
        }
    }

    pub(super) fn total_ns(&self) -> u64 {
        self.stages
            .iter()
            .fold(0, |sum, ns| sum.saturating_add(*ns))
    }
}

/// What the writer knows of the slots without reading them back.
#[derive(Debug, Default)]
pub(super) struct SlowSlots {
    sequence: u64,
    group: usize,
    group_since_us: u64,
    /// Slots of the present group in use.
    used: usize,
    /// Total of each of them, nanoseconds.
    totals: [u64; SLOW_PER_MINUTE],
    /// A request has to be slower than this: 0 while there are free slots.
    threshold: u64,
    /// The secret of this life of the core: keys cannot be tried out against the hashes in the page.
    secret: RandomState,
}

impl SlowSlots {
    /// Whether a request of this total belongs to the slowest of the minute.
    pub(super) const fn wants(&self, total_ns: u64) -> bool {
        total_ns > self.threshold
    }

    /// Keeps a request in place of the least slow one of the minute.
    pub(super) fn keep(&mut self, words: &[AtomicU64], request: &RequestTimes, answered_us: u64) {
        let slot = if self.used < SLOW_PER_MINUTE {
            self.used += 1;
            self.used - 1
        } else {
            self.least()
        };
        self.totals[slot] = request.total_ns();
        if self.used == SLOW_PER_MINUTE {
            self.threshold = self.totals[self.least()];
        }
        self.sequence += 2;
        let start = (self.group * SLOW_PER_MINUTE + slot) * SLOW_WORDS;
        if let Some(words) = words.get(start..start + SLOW_WORDS) {
            let key_hash = match request.key_hash {
                0 => 0,
                hash => self.secret.hash_one(hash).max(1),
            };
            let request = RequestTimes {
                key_hash,
                ..*request
            };
            write_slot(words, self.sequence, &request, answered_us);
        }
    }

    /// Empties the oldest group for each minute that is over. A wall clock that was set back begins a minute too.
    pub(super) fn turn_over(&mut self, words: &[AtomicU64], now_us: u64) {
        let minutes = self.group_since_us.abs_diff(now_us) / MINUTE_US;
        if minutes == 0 {
            return;
        }
        self.group_since_us = now_us;
        for _ in 0..minutes.min(MINUTES_KEPT as u64) {
            self.group = (self.group + 1) % MINUTES_KEPT;
            let start = self.group * SLOW_PER_MINUTE * SLOW_WORDS;
            let group = words.iter().skip(start).step_by(SLOW_WORDS);
            group.take(SLOW_PER_MINUTE).for_each(|word| store(word, 0));
        }
        self.used = 0;
        self.threshold = 0;
    }

    fn least(&self) -> usize {
        let totals = self.totals.iter().enumerate();
        totals
            .min_by_key(|(_, total)| **total)
            .map_or(0, |(slot, _)| slot)
    }
}

fn write_slot(words: &[AtomicU64], sequence: u64, request: &RequestTimes, answered_us: u64) {
    let [number, rest @ ..] = words else {
        return;
    };
    store(number, sequence - 1);
    fence(Ordering::Release);
    let operation = u64::from(request.operation as u16) | u64::from(request.code.number()) << 16;
    let head = [
        answered_us,
        operation | u64::from(request.table) << 32,
        request.partition.into(),
        request.bytes,
        request.key_hash,
    ];
    for (word, value) in rest.iter().zip(head.iter().chain(&request.stages)) {
        store(word, *value);
    }
    fence(Ordering::Release);
    store(number, sequence);
}

/// The records of a consistent copy of the slots, the slowest first. A slot that was never finished is left out, and so
/// is one with numbers that mean nothing.
pub(super) fn decode(words: &[u64]) -> Vec<SlowRequest> {
    let slots = words.chunks_exact(SLOW_WORDS);
    let mut requests: Vec<_> = slots.filter_map(decode_slot).collect();
    requests.sort_by_key(|slow| std::cmp::Reverse(slow.request.total_ns()));
    requests
}

fn decode_slot(words: &[u64]) -> Option<SlowRequest> {
    let [
        sequence,
        answered_unix_us,
        operation,
        partition,
        bytes,
        key_hash,
        stages @ ..,
    ] = words
    else {
        return None;
    };
    if *sequence == 0 || sequence & 1 == 1 {
        return None;
    }
    let [a, b, c, d, table @ ..] = operation.to_le_bytes();
    let operation = *Timing::operations().get(usize::from(u16::from_le_bytes([a, b])))?;
    Some(SlowRequest {
        answered_unix_us: *answered_unix_us,
        request: RequestTimes {
            operation,
            code: Code::try_from(u16::from_le_bytes([c, d])).ok()?,
            table: u32::from_le_bytes(table),
            partition: u32::try_from(*partition).ok()?,
            bytes: *bytes,
            key_hash: *key_hash,
            stages: stages.try_into().ok()?,
        },
    })
}

#[cfg(test)]
mod tests;

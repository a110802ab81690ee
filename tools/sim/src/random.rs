//! All chance of a run comes from its seed, in one stream for each concern, so that one more draw in one place does not
//! change what happens everywhere else.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::ops::Range;
use std::time::Duration;

/// Who draws.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Concern {
    Scenario = 1,
    Network = 2,
    Disk = 3,
    Engine = 4,
    Client = 5,
    Fault = 6,
    Meta = 7,
    Clock = 8,
    Turn = 9,
}

/// The stream of one concern.
#[derive(Debug)]
pub(crate) struct Random(SmallRng);

impl Random {
    pub(crate) fn new(seed: u64, concern: Concern) -> Self {
        // Any fixed odd constant separates the streams; this one is the golden ratio's.
        let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ ((concern as u64) << 56);
        Self(SmallRng::seed_from_u64(mixed))
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0.random_range(0..bound)
    }

    pub(crate) fn index(&mut self, length: usize) -> usize {
        self.0.random_range(0..length)
    }

    /// True once in `times` on average.
    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn duration(&mut self, range: Range<Duration>) -> Duration {
        let nanos = |duration: Duration| {
            u64::try_from(duration.as_nanos()).expect("simulated times are short")
        };
        Duration::from_nanos(self.0.random_range(nanos(range.start)..nanos(range.end)))
    }

    /// Mostly from the low end of the range, seldom up to its high end: delays of real machines have a tail.
    pub(crate) fn delay(&mut self, range: Range<Duration>) -> Duration {
        let span = range.end - range.start;
        let scale = match self.below(100) {
            0 => 1,
            1..10 => 8,
            _ => 32,
        };
        self.duration(range.start..range.start + span / scale)
    }

    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.index(items.len())]
    }
}

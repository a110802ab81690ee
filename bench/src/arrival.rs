//! When operations start, whatever the server does: the schedule of an open loop.
//!
//! Each thread has a schedule of its own, with its share of the rate. A worker that is free takes the next moment from
//! it and waits for it; a worker that comes late starts at once, and its latency counts from the moment that was meant.
//! What waits is therefore no queue but the distance between the schedule and the clock, and it cannot grow beyond an operation's
//! deadline: a moment that is older is skipped and counted as never sent.

use clap::ValueEnum;
use rand::Rng as _;
use rand::rngs::SmallRng;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// How the starts lie in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Arrival {
    /// The same distance between all starts
    Constant,
    /// Independent of each other, as those of many users are (exponential distances)
    Poisson,
}

/// The starts of one thread.
#[derive(Debug)]
pub(crate) struct Schedule {
    arrival: Arrival,
    /// Nanoseconds between two starts, on average.
    gap_ns: f64,
    start: Instant,
    /// The next start, in nanoseconds after `start`.
    next_ns: f64,
    random: SmallRng,
}

/// What a free worker shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    /// When the operation was meant to start: now, later, or at most the deadline ago.
    pub(crate) intended: Instant,
}

impl Schedule {
    /// `rate` operations a second from `start` on, shared with `threads - 1` others; this is number `thread` of them.
    pub(crate) fn new(
        arrival: Arrival,
        rate: f64,
        (thread, threads): (usize, usize),
        start: Instant,
        random: SmallRng,
    ) -> Self {
        assert!(rate > 0.0, "a rate is positive");
        let gap_ns = 1e9 * threads as f64 / rate;
        let mut schedule = Self {
            arrival,
            gap_ns,
            start,
            next_ns: gap_ns * thread as f64 / threads as f64,
            random,
        };
        if arrival == Arrival::Poisson {
            schedule.next_ns = 0.0;
            schedule.next_ns = schedule.distance();
        }
        schedule
    }

    /// The next start that is not older than `oldest`; those that are go to `skipped`, with their moments.
    pub(crate) fn take(&mut self, oldest: Instant, mut skipped: impl FnMut(Instant)) -> Turn {
        loop {
            let intended = self.peek();
            self.next_ns += self.distance();
            if intended >= oldest {
                return Turn { intended };
            }
            skipped(intended);
        }
    }

    /// The start that is taken next.
    pub(crate) fn peek(&self) -> Instant {
        self.start + Duration::from_nanos(whole(self.next_ns))
    }

    fn distance(&mut self) -> f64 {
        match self.arrival {
            Arrival::Constant => self.gap_ns,
            Arrival::Poisson => {
                // In (0, 1], so that the logarithm is finite.
                let uniform = 1.0 - self.random.random::<f64>();
                -uniform.ln() * self.gap_ns
            }
        }
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, at 580 years"
)]
fn whole(nanoseconds: f64) -> u64 {
    nanoseconds as u64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use rand::SeedableRng as _;

    fn starts(arrival: Arrival, thread: usize, count: usize) -> Vec<u128> {
        let start = Instant::now();
        let random = SmallRng::seed_from_u64(1);
        let mut schedule = Schedule::new(arrival, 1_000.0, (thread, 2), start, random);
        (0..count)
            .map(|_| {
                let turn = schedule.take(start, |_| panic!("nothing is too old"));
                (turn.intended - start).as_micros()
            })
            .collect()
    }

    #[test]
    fn threads_share_a_constant_rate_in_turn() {
        assert_eq!(starts(Arrival::Constant, 0, 4), [0, 2_000, 4_000, 6_000]);
        assert_eq!(
            starts(Arrival::Constant, 1, 4),
            [1_000, 3_000, 5_000, 7_000]
        );
    }

    #[test]
    fn poisson_starts_have_the_rate_on_average_and_vary_as_much() {
        let starts = starts(Arrival::Poisson, 0, 50_000);
        let mean = *starts.last().unwrap() as f64 / 50_000.0;
        assert!((1_950.0..2_050.0).contains(&mean), "{mean}");
        let over_twice_the_mean = starts
            .windows(2)
            .filter(|pair| pair[1] - pair[0] > 4_000)
            .count();
        // exp(-2) = 13.5 % of them.
        assert!(
            (6_300..7_200).contains(&over_twice_the_mean),
            "{over_twice_the_mean}"
        );
    }

    #[test]
    fn starts_that_are_too_old_are_skipped_and_told() {
        let start = Instant::now();
        let random = SmallRng::seed_from_u64(1);
        let mut schedule = Schedule::new(Arrival::Constant, 1_000.0, (0, 1), start, random);
        let mut skipped = Vec::new();
        let turn = schedule.take(start + Duration::from_micros(2_500), |at| skipped.push(at));
        assert_eq!(turn.intended, start + Duration::from_millis(3));
        assert_eq!(skipped.len(), 3);
    }
}

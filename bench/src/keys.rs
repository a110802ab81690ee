//! Which record an operation touches.
//!
//! The request distributions are those of YCSB (Cooper et al., SoCC 2010); the zipfian generator is the one of Gray et
//! al., "Quickly generating billion-record synthetic databases", SIGMOD 1994, over the loaded records (YCSB's own program draws
//! from 10,000 million ranks and folds them, which makes the hottest record less hot).

use clap::ValueEnum;
use rand::Rng;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Which records are wanted more often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Distribution {
    /// Some records far more often than others, scattered over the key space (theta 0.99)
    Zipfian,
    /// Every record equally often
    Uniform,
    /// Records inserted last most often
    Latest,
}

/// Chooses records. Clones share the tables behind it, and which records were inserted.
#[derive(Clone, Debug)]
pub(crate) struct Chooser {
    distribution: Distribution,
    zipfian: Option<Arc<Zipfian>>,
    population: Arc<Population>,
}

/// Which records there are: those loaded, and behind them those inserted.
#[derive(Debug)]
struct Population {
    loaded: u64,
    /// The next record to insert.
    next: AtomicU64,
    /// All records below this were inserted, or tried to be.
    complete_below: AtomicU64,
    /// Inserts that ended before one below them.
    ahead: Mutex<BTreeSet<u64>>,
}

impl Chooser {
    /// Over `loaded` records, at least one. Takes time in proportion to `loaded` if not uniform (seconds from 100 million
    /// on).
    pub(crate) fn new(distribution: Distribution, loaded: u64) -> Self {
        assert!(loaded > 0, "no records");
        let zipfian = match distribution {
            Distribution::Uniform => None,
            Distribution::Zipfian | Distribution::Latest => Some(Arc::new(Zipfian::new(loaded))),
        };
        Self {
            distribution,
            zipfian,
            population: Arc::new(Population {
                loaded,
                next: AtomicU64::new(loaded),
                complete_below: AtomicU64::new(loaded),
                ahead: Mutex::default(),
            }),
        }
    }

    /// A record that was loaded or whose insert has ended.
    pub(crate) fn existing(&self, random: &mut impl Rng) -> u64 {
        let loaded = self.population.loaded;
        match (self.distribution, &self.zipfian) {
            (Distribution::Latest, Some(zipfian)) => {
                let count = self.population.complete_below.load(Ordering::Relaxed);
                count - 1 - zipfian.draw(random)
            }
            (_, Some(zipfian)) => scatter(zipfian.draw(random)) % loaded,
            (_, None) => random.random_range(0..loaded),
        }
    }

    /// The record to insert now; `insert_ends` must be called when it was.
    pub(crate) fn next_insert(&self) -> u64 {
        self.population.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The insert has ended, well or not: one that failed must not hide all later ones.
    pub(crate) fn insert_ends(&self, record: u64) {
        let population = &self.population;
        let mut ahead = population
            .ahead
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut below = population.complete_below.load(Ordering::Relaxed);
        ahead.insert(record);
        while ahead.first() == Some(&below) {
            ahead.pop_first();
            below += 1;
        }
        population.complete_below.store(below, Ordering::Relaxed);
    }
}

/// Spreads neighbouring numbers over all 64 bits (SplitMix64's finalizer): the hottest records must not share a partition.
fn scatter(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// Draws ranks from 0, rank r with probability proportional to `1 / (r + 1)^theta`.
#[derive(Debug)]
struct Zipfian {
    count: u64,
    zeta: f64,
    alpha: f64,
    eta: f64,
    second: f64,
}

impl Zipfian {
    const THETA: f64 = 0.99;

    fn new(count: u64) -> Self {
        let zeta = zeta(count);
        let size = count as f64;
        Self {
            count,
            zeta,
            alpha: 1.0 / (1.0 - Self::THETA),
            eta: (1.0 - (2.0 / size).powf(1.0 - Self::THETA)) / (1.0 - zeta_of_two() / zeta),
            second: zeta_of_two(),
        }
    }

    fn draw(&self, random: &mut impl Rng) -> u64 {
        let uniform: f64 = random.random();
        let scaled = uniform * self.zeta;
        if scaled < 1.0 || self.count == 1 {
            return 0;
        }
        if scaled < self.second || self.count == 2 {
            return 1;
        }
        let rank = self.count as f64 * (self.eta * uniform - self.eta + 1.0).powf(self.alpha);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the cast saturates and the bound comes after it"
        )]
        let rank = rank as u64;
        rank.min(self.count - 1)
    }
}

fn zeta(count: u64) -> f64 {
    (1..=count)
        .map(|rank| (rank as f64).powf(-Zipfian::THETA))
        .sum()
}

fn zeta_of_two() -> f64 {
    1.0 + 0.5_f64.powf(Zipfian::THETA)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;
    use std::collections::{HashMap, HashSet};

    fn counts(distribution: Distribution, loaded: u64, draws: u64) -> HashMap<u64, u64> {
        let chooser = Chooser::new(distribution, loaded);
        let mut random = SmallRng::seed_from_u64(1);
        let mut counts = HashMap::new();
        for _ in 0..draws {
            *counts.entry(chooser.existing(&mut random)).or_default() += 1;
        }
        counts
    }

    #[test]
    fn zipfian_wants_a_few_records_most_of_the_time_and_scatters_them() {
        let counts = counts(Distribution::Zipfian, 10_000, 100_000);
        let mut sorted: Vec<(u64, u64)> =
            counts.into_iter().map(|(record, n)| (n, record)).collect();
        sorted.sort_unstable_by(|a, b| b.cmp(a));
        // The expected share of the first rank is 1 / zeta(10,000) = 9.6 %, of the first hundred 52 %.
        assert!((8_500..12_000).contains(&sorted[0].0), "{}", sorted[0].0);
        let hundred: u64 = sorted.iter().take(100).map(|(n, _)| n).sum();
        assert!((45_000..62_000).contains(&hundred), "{hundred}");
        let hottest: Vec<u64> = sorted.iter().take(4).map(|(_, record)| *record).collect();
        assert!(
            hottest.windows(2).all(|pair| pair[0].abs_diff(pair[1]) > 1),
            "{hottest:?}"
        );
    }

    #[test]
    fn uniform_wants_every_record_about_equally_often() {
        let counts = counts(Distribution::Uniform, 100, 100_000);
        assert_eq!(counts.len(), 100);
        assert!(counts.values().all(|n| (800..1_200).contains(n)));
    }

    #[test]
    fn latest_follows_the_inserts_that_have_ended() {
        let chooser = Chooser::new(Distribution::Latest, 1_000);
        let records: Vec<u64> = (0..60).map(|_| chooser.next_insert()).collect();
        assert_eq!(records.first().zip(records.last()), Some((&1_000, &1_059)));
        // The one at 1,050 has not ended, so those behind it are not wanted yet.
        for record in records.iter().rev().filter(|record| **record != 1_050) {
            chooser.insert_ends(*record);
        }
        let mut random = SmallRng::seed_from_u64(1);
        let mut draws =
            || -> Vec<u64> { (0..10_000).map(|_| chooser.existing(&mut random)).collect() };
        let early = draws();
        assert_eq!(early.iter().max(), Some(&1_049));
        assert!(early.iter().filter(|record| **record == 1_049).count() > 1_000);
        assert!(early.iter().filter(|record| **record >= 1_000).count() > 5_000);
        chooser.insert_ends(1_050);
        assert_eq!(draws().iter().max(), Some(&1_059));
    }

    #[test]
    fn workers_never_insert_the_same_record() {
        let chooser = Chooser::new(Distribution::Uniform, 10);
        let other = chooser.clone();
        let records: HashSet<u64> = (0..50)
            .flat_map(|_| [chooser.next_insert(), other.next_insert()])
            .collect();
        assert_eq!(records, (10..110).collect());
    }

    #[test]
    fn tiny_key_spaces_work() {
        for count in 1..5 {
            let zipfian = Zipfian::new(count);
            let mut random = SmallRng::seed_from_u64(count);
            assert!((0..1_000).all(|_| zipfian.draw(&mut random) < count));
        }
    }
}

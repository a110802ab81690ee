//! Which record an operation touches, and how a record is named.
//!
//! A record is a number from 0. Its name is `user<number / rows_per_hash_key>` and a sort key, so that range reads have
//! something to range over. The request distributions are those of YCSB (Cooper et al., SoCC 2010); the zipfian
//! generator is the one of Gray et al., "Quickly generating billion-record synthetic databases", SIGMOD 1994.

use clap::ValueEnum;
use rand::Rng;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How records are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    /// At least 1.
    pub(crate) rows_per_hash_key: u64,
}

impl Names {
    pub(crate) fn hash_key(self, record: u64) -> Vec<u8> {
        format!("user{:012}", record / self.rows_per_hash_key).into_bytes()
    }

    pub(crate) fn sort_key(self, record: u64) -> Vec<u8> {
        format!("{:08}", record % self.rows_per_hash_key).into_bytes()
    }

    /// The record that a sort key under `record`'s hash key belongs to; `None` if it is not one of ours.
    pub(crate) fn sibling(self, record: u64, sort_key: &[u8]) -> Option<u64> {
        let index: u64 = std::str::from_utf8(sort_key).ok()?.parse().ok()?;
        (index < self.rows_per_hash_key)
            .then(|| record / self.rows_per_hash_key * self.rows_per_hash_key + index)
    }
}

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

/// Chooses records for one worker. Cheap to clone; the tables behind it are shared.
#[derive(Clone, Debug)]
pub(crate) struct Chooser {
    distribution: Distribution,
    loaded: u64,
    zipfian: Option<Arc<Zipfian>>,
    /// Records this worker may touch are those with `record % workers == worker`, when they are divided.
    worker: u64,
    workers: u64,
    divided: bool,
    /// Records that this worker has inserted; the next one is `self.inserted_record(self.inserted)`.
    inserted: u64,
}

impl Chooser {
    /// For `workers` workers over `loaded` records (at least one for each worker). `divided`: no record is touched by
    /// two workers. Takes time in proportion to `loaded` for a zipfian (seconds from 100 million on).
    pub(crate) fn for_workers(
        distribution: Distribution,
        loaded: u64,
        workers: u64,
        divided: bool,
    ) -> Vec<Self> {
        assert!(workers > 0, "no workers");
        assert!(loaded >= workers, "fewer records than workers");
        let zipfian = match distribution {
            Distribution::Uniform => None,
            Distribution::Zipfian => Some(Arc::new(Zipfian::new(loaded))),
            Distribution::Latest => Some(Arc::new(Zipfian::new(loaded / workers))),
        };
        let chooser = |worker| Self {
            distribution,
            loaded,
            zipfian: zipfian.clone(),
            worker,
            workers,
            divided,
            inserted: 0,
        };
        (0..workers).map(chooser).collect()
    }

    /// A record that exists.
    pub(crate) fn existing(&self, random: &mut impl Rng) -> u64 {
        match (self.distribution, &self.zipfian) {
            (Distribution::Latest, Some(zipfian)) => self.latest(zipfian.draw(random)),
            (_, Some(zipfian)) => self.own(scatter(zipfian.draw(random)) % self.loaded),
            (_, None) => self.own(random.random_range(0..self.loaded)),
        }
    }

    pub(crate) fn worker(&self) -> u64 {
        self.worker
    }

    /// This worker's share of the loaded records, in order.
    pub(crate) fn own_loaded(&self) -> impl Iterator<Item = u64> + use<> {
        let step = usize::try_from(self.workers).unwrap_or(usize::MAX);
        (self.worker..self.loaded).step_by(step)
    }

    /// The record to insert now; `inserted` must be called when it is there.
    pub(crate) fn next_insert(&self) -> u64 {
        self.inserted_record(self.inserted)
    }

    pub(crate) fn inserted(&mut self) {
        self.inserted += 1;
    }

    /// Inserts of all workers lie above the loaded records and never meet.
    fn inserted_record(&self, index: u64) -> u64 {
        self.loaded.next_multiple_of(self.workers) + index * self.workers + self.worker
    }

    /// The nearest record at or below `record` that this worker may touch.
    fn own(&self, record: u64) -> u64 {
        if !self.divided {
            return record;
        }
        let own = record - record % self.workers + self.worker;
        if own < self.loaded {
            own
        } else {
            own - self.workers
        }
    }

    /// The record `age` places before the newest of this worker. Workers always divide the records between them here,
    /// so that a worker knows which inserts are acknowledged.
    fn latest(&self, age: u64) -> u64 {
        if let Some(index) = self.inserted.checked_sub(age + 1) {
            return self.inserted_record(index);
        }
        let own_loaded = (self.loaded - self.worker).div_ceil(self.workers);
        let age = (age - self.inserted) % own_loaded;
        self.worker + (own_loaded - 1 - age) * self.workers
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
        let chooser = &Chooser::for_workers(distribution, loaded, 1, false)[0];
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
    fn latest_follows_the_inserts() {
        let mut chooser = Chooser::for_workers(Distribution::Latest, 1_000, 4, true).remove(1);
        for _ in 0..50 {
            chooser.inserted();
        }
        let newest = chooser.next_insert() - 4;
        let mut random = SmallRng::seed_from_u64(1);
        let draws: Vec<u64> = (0..10_000).map(|_| chooser.existing(&mut random)).collect();
        assert!(
            draws
                .iter()
                .all(|record| record % 4 == 1 && *record <= newest)
        );
        assert!(draws.iter().filter(|record| **record == newest).count() > 1_000);
        assert!(draws.iter().filter(|record| **record > 1_000).count() > 5_000);
    }

    #[test]
    fn divided_workers_never_meet_and_always_find_their_records() {
        for distribution in [
            Distribution::Zipfian,
            Distribution::Uniform,
            Distribution::Latest,
        ] {
            let mut random = SmallRng::seed_from_u64(1);
            let mut seen = HashSet::new();
            for (worker, chooser) in Chooser::for_workers(distribution, 103, 8, true)
                .iter()
                .enumerate()
            {
                let own: HashSet<u64> = (0..1_000).map(|_| chooser.existing(&mut random)).collect();
                assert!(
                    own.iter().all(|r| *r < 103 && r % 8 == worker as u64),
                    "{distribution:?} {own:?}"
                );
                assert!(own.is_disjoint(&seen));
                seen.extend(own);
                assert!(chooser.next_insert() >= 103);
                assert!(seen.insert(chooser.next_insert()));
            }
        }
    }

    #[test]
    fn tiny_key_spaces_work() {
        for count in 1..5 {
            let zipfian = Zipfian::new(count);
            let mut random = SmallRng::seed_from_u64(count);
            assert!((0..1_000).all(|_| zipfian.draw(&mut random) < count));
        }
    }

    #[test]
    fn a_sort_key_leads_back_to_its_record() {
        let names = Names {
            rows_per_hash_key: 10,
        };
        assert_eq!(names.hash_key(57), names.hash_key(50));
        assert_ne!(names.hash_key(57), names.hash_key(60));
        assert_eq!(names.sibling(50, &names.sort_key(57)), Some(57));
        assert_eq!(names.sibling(50, b"00000010"), None);
        assert_eq!(names.sibling(50, b"x"), None);
    }
}

//! The mixes, as data: YCSB's core workloads (Cooper et al., SoCC 2010), and two that have one kind only.

use crate::keys::Distribution;
use clap::ValueEnum;
use rand::Rng;
use serde::{Deserialize, Serialize};

/// What one operation does. Each kind has its own histogram. The words are YCSB's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// One record: all fields of a row, or the value
    Read,
    /// One field of an existing row, or its value
    Update,
    /// All fields of a new row, in one request
    Insert,
    /// Records from one on
    Scan,
    /// A read, then an update of the same record: the time of both
    ReadModifyWrite,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [
        Self::Read,
        Self::Update,
        Self::Insert,
        Self::Scan,
        Self::ReadModifyWrite,
    ];

    /// Index into a table by kind.
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Update => "update",
            Self::Insert => "insert",
            Self::Scan => "scan",
            Self::ReadModifyWrite => "read_modify_write",
        }
    }

    /// Whether an operation of this kind waits for a flush of the log.
    pub(crate) fn writes(self) -> bool {
        matches!(self, Self::Update | Self::Insert | Self::ReadModifyWrite)
    }
}

/// The named mixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Workload {
    /// YCSB A, update heavy: 50 % read, 50 % update
    A,
    /// YCSB B, read mostly: 95 % read, 5 % update
    B,
    /// YCSB C, read only
    C,
    /// YCSB D, read latest: 95 % read, 5 % insert, the newest records wanted most
    D,
    /// YCSB E, short ranges: 95 % scan of 1 to 100 records, 5 % insert
    E,
    /// YCSB F, read-modify-write: 50 % read, 50 % read then update (not atomic)
    F,
    /// Update only
    Put,
}

/// Percent of each kind, and the distribution that goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mix {
    percents: [u8; Kind::ALL.len()],
    pub(crate) distribution: Distribution,
}

impl Workload {
    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
            Self::C => "c",
            Self::D => "d",
            Self::E => "e",
            Self::F => "f",
            Self::Put => "put",
        }
    }

    pub(crate) fn mix(self) -> Mix {
        use Distribution::{Latest, Zipfian};
        //                               read update insert scan rmw
        let (percents, distribution) = match self {
            Self::A => ([50, 50, 0, 0, 0], Zipfian),
            Self::B => ([95, 5, 0, 0, 0], Zipfian),
            Self::C => ([100, 0, 0, 0, 0], Zipfian),
            Self::D => ([95, 0, 5, 0, 0], Latest),
            Self::E => ([0, 0, 5, 95, 0], Zipfian),
            Self::F => ([50, 0, 0, 0, 50], Zipfian),
            Self::Put => ([0, 100, 0, 0, 0], Zipfian),
        };
        Mix {
            percents,
            distribution,
        }
    }
}

impl Mix {
    /// What a load does.
    pub(crate) const LOAD: Self = Self {
        percents: [0, 0, 100, 0, 0],
        distribution: Distribution::Uniform,
    };

    pub(crate) fn draw(&self, random: &mut impl Rng) -> Kind {
        let mut left: u8 = random.random_range(0..100);
        for (kind, percent) in self.parts() {
            if left < percent {
                return kind;
            }
            left -= percent;
        }
        unreachable!("the percents of a mix add up to 100");
    }

    /// The kinds that occur.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (Kind, u8)> {
        Kind::ALL
            .into_iter()
            .zip(self.percents)
            .filter(|(_, percent)| *percent > 0)
    }

    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.percents[kind.index()] > 0
    }
}

/// Records that a scan asks for: 1 to this, each number as likely (YCSB workload E).
pub(crate) const SCAN_RECORDS_MAX: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    #[test]
    fn the_percents_of_every_workload_add_up() {
        for workload in Workload::value_variants() {
            let total: u32 = workload
                .mix()
                .parts()
                .map(|(_, percent)| u32::from(percent))
                .sum();
            assert_eq!(total, 100, "{workload:?}");
        }
    }

    #[test]
    fn kinds_are_drawn_as_often_as_the_mix_says() {
        for workload in Workload::value_variants() {
            let mix = workload.mix();
            let mut random = SmallRng::seed_from_u64(7);
            let mut counts = [0_u32; Kind::ALL.len()];
            for _ in 0..100_000 {
                counts[mix.draw(&mut random).index()] += 1;
            }
            for kind in Kind::ALL {
                let expected = u32::from(mix.percents[kind.index()]) * 1_000;
                assert!(
                    counts[kind.index()].abs_diff(expected) < 800,
                    "{workload:?} {kind:?} {counts:?}"
                );
                assert_eq!(mix.has(kind), expected > 0);
            }
        }
    }

    #[test]
    fn the_index_of_a_kind_is_its_place_in_the_list() {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), index);
        }
    }
}

//! The mixes, as data: YCSB's core workloads as far as their operations exist here.

use crate::keys::Distribution;
use clap::ValueEnum;
use rand::Rng;
use serde::{Deserialize, Serialize};

/// What one operation does. Each kind has its own histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// `get` of one row
    Get,
    /// `put` over an existing row
    Put,
    /// `put` of a new row
    Insert,
    /// `multi_get` of up to a hundred rows of one hash key, from a sort key on
    Range,
    /// `get`, then `put` of the same row: the time of both
    ReadModifyWrite,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [
        Self::Get,
        Self::Put,
        Self::Insert,
        Self::Range,
        Self::ReadModifyWrite,
    ];

    /// Index into a table by kind.
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Insert => "insert",
            Self::Range => "range",
            Self::ReadModifyWrite => "read_modify_write",
        }
    }

    /// Whether an operation of this kind waits for a flush of the log.
    pub(crate) fn writes(self) -> bool {
        matches!(self, Self::Put | Self::Insert | Self::ReadModifyWrite)
    }
}

/// The named mixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Workload {
    /// 50 % get, 50 % put
    A,
    /// 95 % get, 5 % put
    B,
    /// 100 % get
    C,
    /// 95 % get, 5 % insert, the newest records wanted most
    D,
    /// 95 % range read of 1 to 100 rows, 5 % insert
    E,
    /// 50 % get, 50 % read-modify-write (get, then put: not atomic)
    F,
    /// 100 % put
    Put,
}

/// Percent of each kind, and the distribution that goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mix {
    percents: [u8; Kind::ALL.len()],
    pub(crate) distribution: Distribution,
}

impl Workload {
    pub(crate) fn mix(self) -> Mix {
        use Distribution::{Latest, Zipfian};
        //                               get put insert range rmw
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

/// Rows that a range read asks for: 1 to this (YCSB workload E).
pub(crate) const RANGE_ROWS_MAX: u32 = 100;

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

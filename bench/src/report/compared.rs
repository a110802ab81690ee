//! A run beside the floor of its machine.

use crate::floor::{Floor, Validity};
use crate::histogram::Percentiles;
use crate::outcome::Measured;
use crate::workload::Kind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The machine's limits, and each latency as a multiple of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Compared {
    pub(crate) limits: Floor,
    pub(crate) multiples: BTreeMap<Kind, Multiples>,
    /// A latency lies below the floor at p50, so the limits were not measured under the same conditions as the run:
    /// the multiples mean nothing. The limits' own verdict is theirs.
    pub(crate) below: bool,
}

/// Latency divided by the floor of the same percentile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Multiples {
    /// `echo`, `echo + flush` or `2 echo + flush`.
    pub(crate) of: String,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

impl Compared {
    pub(crate) fn new(limits: Floor, latencies: &BTreeMap<Kind, Measured>) -> Self {
        let multiples: BTreeMap<Kind, Multiples> = latencies
            .iter()
            .map(|(kind, latency)| (*kind, Multiples::new(*kind, &latency.percentiles, &limits)))
            .collect();
        let below = multiples
            .values()
            .any(|multiples| multiples.p50 > 0.0 && multiples.p50 < 1.0);
        Self {
            limits,
            multiples,
            below,
        }
    }

    /// Why the multiples may mean nothing, as sentences; empty: nothing speaks against them.
    pub(crate) fn doubts(&self) -> Vec<String> {
        let verdict = &self.limits.verdict;
        let floor = (verdict.validity != Validity::Valid).then(|| verdict.sentence());
        let below = self.below.then(|| {
            "INVALID comparison: a latency lies below the floor, which was measured under other conditions".to_owned()
        });
        let anywhere = (self.limits.echo_client_cpu.is_none() && self.limits.machine.cpus > 1).then(|| {
            "the floor's echo client was not pinned: an echo within one CPU is several times faster than one between two (floor --client-cpu, run --cpus)".to_owned()
        });
        floor.into_iter().chain(below).chain(anywhere).collect()
    }

    /// What a multiple is of, in a word or three.
    pub(crate) fn word(&self) -> &'static str {
        match (self.limits.verdict.validity, self.below) {
            (Validity::Invalid, _) | (_, true) => "an invalid floor",
            (Validity::Unchecked, false) => "an unproven floor",
            (Validity::Valid, false) => "the floor",
        }
    }

    /// The floor of a kind of operation at the percentiles that are drawn: pairs of 1 / (1 - q) and microseconds.
    pub(crate) fn curve(&self, kind: Kind) -> Vec<(f64, f64)> {
        let at = |pick: fn(&Percentiles) -> f64| least(kind, &self.limits, pick);
        vec![
            (2.0, at(|p| p.p50_us)),
            (10.0, at(|p| p.p90_us)),
            (100.0, at(|p| p.p99_us)),
            (1_000.0, at(|p| p.p999_us)),
            (10_000.0, at(|p| p.p9999_us)),
        ]
    }
}

impl Multiples {
    fn new(kind: Kind, latency: &Percentiles, limits: &Floor) -> Self {
        let multiple = |pick: fn(&Percentiles) -> f64| {
            let floor = least(kind, limits, pick);
            if floor > 0.0 {
                (pick(latency) / floor * 100.0).round() / 100.0
            } else {
                0.0
            }
        };
        let of = match (kind, kind.writes()) {
            (Kind::ReadModifyWrite, _) => "2 echo + flush",
            (_, true) => "echo + flush",
            (_, false) => "echo",
        };
        Self {
            of: of.to_owned(),
            p50: multiple(|p| p.p50_us),
            p99: multiple(|p| p.p99_us),
            p999: multiple(|p| p.p999_us),
        }
    }
}

/// What an operation cannot avoid: a round trip, or two; and a flush if it writes.
fn least(kind: Kind, limits: &Floor, pick: fn(&Percentiles) -> f64) -> f64 {
    let echoes = if kind == Kind::ReadModifyWrite {
        2.0
    } else {
        1.0
    };
    let flushes = if kind.writes() { 1.0 } else { 0.0 };
    echoes * pick(&limits.echo) + flushes * pick(&limits.flush)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::examples::{floor, measured};

    fn compared(p50_us: f64) -> Compared {
        let latencies = Kind::ALL
            .into_iter()
            .map(|kind| (kind, measured(p50_us)))
            .collect();
        Compared::new(floor(), &latencies)
    }

    #[test]
    fn each_latency_is_divided_by_what_it_cannot_avoid() {
        let compared = compared(440.0);
        let shown = |kind| {
            let multiples = &compared.multiples[&kind];
            (multiples.of.as_str(), multiples.p50)
        };
        assert_eq!(shown(Kind::Read), ("echo", 22.0));
        assert_eq!(shown(Kind::Scan), ("echo", 22.0));
        assert_eq!(shown(Kind::Update), ("echo + flush", 2.2));
        assert_eq!(shown(Kind::Insert), ("echo + flush", 2.2));
        assert_eq!(shown(Kind::ReadModifyWrite), ("2 echo + flush", 2.0));
        assert_eq!(compared.curve(Kind::Update)[0], (2.0, 200.0));
    }

    #[test]
    fn a_latency_below_the_floor_makes_the_comparison_invalid() {
        assert!(!compared(221.0).below);
        let below = compared(19.0);
        assert!(below.below);
        assert!(
            below
                .doubts()
                .last()
                .is_some_and(|last| last.starts_with("INVALID"))
        );
    }

    #[test]
    fn a_floor_that_is_not_valid_is_named_in_every_comparison() {
        let doubts = compared(500.0).doubts();
        assert_eq!(doubts.len(), 1);
        assert!(
            doubts[0].starts_with("this floor is not proven"),
            "{doubts:?}"
        );
    }
}

//! Which rate comes next, and where the knee is: pure, so that it can be tried on servers that exist on paper only.

use crate::histogram::Percentiles;
use crate::workload::Kind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where to look, and what counts as broken.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// Operations a second to start with, and not to go beyond.
    pub(crate) from: f64,
    pub(crate) to: f64,
    /// Each rate is so many times the one before, while nothing breaks; more than 1.
    pub(crate) factor: f64,
    /// A p99 above this is broken; `None`: above `p99_times` that of the lowest rate.
    pub(crate) p99_max_us: Option<f64>,
    pub(crate) p99_times: f64,
    /// Halvings after the first break, at most.
    pub(crate) refinements: usize,
}

/// Less than this share of the offered rate achieved is broken.
pub(crate) const ACHIEVED_MIN: f64 = 0.95;
/// A larger share of operations that failed, or could not be sent in time, is broken.
pub(crate) const FAILED_MAX: f64 = 0.01;
/// Rates nearer to each other than this factor are not told apart by a step of some seconds.
const NEAR: f64 = 1.02;
/// Steps of one sweep at most.
pub(crate) const STEPS_MAX: usize = 100;

/// What one rate led to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Successful operations a second.
    pub(crate) achieved: f64,
    pub(crate) operations: u64,
    pub(crate) errors: u64,
    /// Operations whose deadline passed before they could be sent.
    pub(crate) never_sent: u64,
    /// Of all kinds together.
    pub(crate) all: Percentiles,
    pub(crate) latencies: BTreeMap<Kind, Percentiles>,
    /// The bench itself had no CPU left.
    pub(crate) bottleneck: bool,
}

/// One rate that was tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) offered: f64,
    pub(crate) phase: Phase,
    pub(crate) sample: Sample,
    /// Why the step counts as broken; absent: it held.
    pub(crate) broke: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    Climb,
    Refine,
}

/// How the search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum End {
    /// Between two rates, as near as asked for.
    Found,
    /// Nothing broke up to the highest rate: the knee is above.
    NeverBroke,
    /// The lowest rate broke: the knee is below.
    BrokeAtOnce,
    /// Time or steps ran out first.
    Stopped,
}

/// The steps so far.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    limits: Limits,
    steps: Vec<Step>,
}

impl Search {
    pub(crate) fn new(limits: Limits) -> Self {
        assert!(limits.factor > 1.0);
        assert!(limits.from > 0.0 && limits.from <= limits.to);
        Self {
            limits,
            steps: Vec::new(),
        }
    }

    /// The rate to try next; `None`: the search is over.
    pub(crate) fn next(&self) -> Option<f64> {
        let Some(last) = self.steps.last() else {
            return Some(self.limits.from);
        };
        if self.steps.len() >= STEPS_MAX {
            return None;
        }
        match (self.held(), self.broke()) {
            (None, _) => None,
            (Some(_), None) => {
                let next = (last.offered * self.limits.factor).min(self.limits.to);
                (next > last.offered).then_some(next)
            }
            (Some(held), Some(broke)) => {
                let refined = self.steps.iter().filter(|step| step.phase == Phase::Refine);
                let more = refined.count() < self.limits.refinements && broke / held > NEAR;
                more.then(|| between(held, broke))
            }
        }
    }

    /// What came of the rate that [`Search::next`] gave.
    pub(crate) fn record(&mut self, offered: f64, sample: Sample) -> &Step {
        let phase = if self.broke().is_some() {
            Phase::Refine
        } else {
            Phase::Climb
        };
        let broke = self.why_broken(offered, &sample);
        self.steps.push(Step {
            offered,
            phase,
            sample,
            broke,
        });
        self.steps.last().expect("one was pushed")
    }

    /// The bound of p99, once it is known.
    pub(crate) fn p99_bound_us(&self) -> Option<f64> {
        let relative = || {
            let first = self.steps.first()?;
            Some(first.sample.all.p99_us * self.limits.p99_times)
        };
        self.limits.p99_max_us.or_else(relative)
    }

    fn why_broken(&self, offered: f64, sample: &Sample) -> Option<String> {
        let failed = sample.errors + sample.never_sent;
        let tried = sample.operations + failed;
        if failed as f64 > tried as f64 * FAILED_MAX {
            return Some(format!(
                "{failed} of {tried} operations failed or were never sent"
            ));
        }
        if sample.achieved < offered * ACHIEVED_MIN {
            return Some(format!(
                "achieved {:.0} of {offered:.0} a second ({:.1} %)",
                sample.achieved,
                sample.achieved / offered * 100.0
            ));
        }
        let bound = self.p99_bound_us()?;
        (sample.all.p99_us > bound).then(|| {
            format!(
                "p99 {:.0} us is over the bound of {bound:.0} us",
                sample.all.p99_us
            )
        })
    }

    /// The knee so far: the highest rate that held. It is below the lowest that broke, for no rate above that is tried.
    pub(crate) fn held(&self) -> Option<f64> {
        self.steps
            .iter()
            .filter(|step| step.broke.is_none())
            .map(|step| step.offered)
            .max_by(f64::total_cmp)
    }

    /// The lowest rate that broke.
    pub(crate) fn broke(&self) -> Option<f64> {
        self.steps
            .iter()
            .filter(|step| step.broke.is_some())
            .map(|step| step.offered)
            .min_by(f64::total_cmp)
    }

    pub(crate) fn end(&self) -> End {
        match (self.next(), self.held(), self.broke()) {
            (Some(_), ..) => End::Stopped,
            (None, None, Some(_)) => End::BrokeAtOnce,
            (None, Some(_), Some(_)) => End::Found,
            (None, Some(held), None) if held >= self.limits.to => End::NeverBroke,
            (None, _, None) => End::Stopped,
        }
    }

    /// In the order in which they were tried.
    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }
}

/// The geometric middle, with as few digits as keep it between the two.
fn between(low: f64, high: f64) -> f64 {
    let middle = (low * high).sqrt();
    let unit = 10_f64.powf(middle.log10().floor() - 2.0);
    let rounded = (middle / unit).round() * unit;
    if low < rounded && rounded < high {
        rounded
    } else {
        middle
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::examples::percentiles;

    fn limits() -> Limits {
        Limits {
            from: 1_000.0,
            to: 100_000.0,
            factor: 2.0,
            p99_max_us: None,
            p99_times: 10.0,
            refinements: 6,
        }
    }

    /// A queue with one server that does `capacity` operations a second: waiting grows as 1 / (1 - load).
    fn queue(capacity: f64, offered: f64) -> Sample {
        let load = offered / capacity;
        let p50_us = if load < 1.0 {
            100.0 / (1.0 - load)
        } else {
            900_000.0
        };
        Sample {
            achieved: offered.min(capacity),
            operations: 10_000,
            all: percentiles(p50_us),
            ..Sample::default()
        }
    }

    fn sweep(limits: Limits, server: impl Fn(f64) -> Sample) -> Search {
        let mut search = Search::new(limits);
        while let Some(rate) = search.next() {
            search.record(rate, server(rate));
        }
        search
    }

    #[test]
    fn the_knee_of_a_queue_is_found_between_two_near_rates() {
        let capacity = 37_000.0;
        let search = sweep(limits(), |rate| queue(capacity, rate));
        // p99 is ten times that at 1,000 a second when (1 - load) is a tenth of (1 - 1 / 37).
        let knee = capacity * (1.0 - (1.0 - 1.0 / 37.0) / 10.0);
        let (held, broke) = (search.held().unwrap_or(0.0), search.broke().unwrap_or(0.0));
        assert!(held <= knee && knee <= broke, "{held} {knee} {broke}");
        assert!(broke / held < 1.03, "{held} {broke}");
        assert_eq!(search.end(), End::Found);
        assert!(
            search.steps().len() <= 6 + 6 + 1,
            "{:?}",
            search.steps().len()
        );
    }

    #[test]
    fn a_server_that_gives_less_than_offered_is_broken_even_if_its_answers_are_fast() {
        let search = sweep(limits(), |rate| Sample {
            achieved: rate.min(9_000.0),
            operations: 10,
            all: percentiles(50.0),
            ..Sample::default()
        });
        let held = search.held().unwrap_or(0.0);
        assert!((9_000.0..9_000.0 / 0.95).contains(&held), "{held}");
        let broken = search.steps().iter().find_map(|step| step.broke.clone());
        assert!(broken.is_some_and(|why| why.starts_with("achieved 9000 of")));
    }

    #[test]
    fn failed_operations_break_a_step() {
        let search = sweep(limits(), |rate| Sample {
            errors: if rate > 5_000.0 { 200 } else { 0 },
            ..queue(1e9, rate)
        });
        assert!((4_500.0..=5_000.0).contains(&search.held().unwrap_or(0.0)));
    }

    #[test]
    fn a_server_that_never_breaks_is_swept_to_the_highest_rate_exactly() {
        let search = sweep(limits(), |rate| queue(1e9, rate));
        assert_eq!(search.end(), End::NeverBroke);
        assert_eq!(search.held(), Some(100_000.0));
        assert_eq!(search.steps().len(), 8);
    }

    #[test]
    fn a_server_that_breaks_at_once_ends_the_sweep() {
        let bound = Limits {
            p99_max_us: Some(10.0),
            ..limits()
        };
        let search = sweep(bound, |rate| queue(1e9, rate));
        assert_eq!((search.end(), search.steps().len()), (End::BrokeAtOnce, 1));
        assert_eq!(search.held(), None);
    }

    #[test]
    fn no_rate_above_one_that_broke_by_chance_is_tried() {
        let search = sweep(limits(), |rate| {
            let unlucky = (rate - 8_000.0).abs() < 1.0;
            queue(if unlucky { 1.0 } else { 1e9 }, rate)
        });
        assert!(search.held().is_some_and(|held| held < 8_000.0));
        assert_eq!(search.broke(), Some(8_000.0));
    }

    #[test]
    fn rates_between_two_are_round_numbers() {
        assert_eq!(between(16_000.0, 32_000.0), 22_600.0);
        assert_eq!(between(0.5, 1.0), 0.707);
        let near = between(1_000.1, 1_000.3);
        assert!(1_000.1 < near && near < 1_000.3);
    }

    #[test]
    fn a_search_cut_short_says_so() {
        let mut search = Search::new(limits());
        search.record(1_000.0, queue(1e9, 1_000.0));
        assert_eq!(search.end(), End::Stopped);
        assert_eq!(search.held(), Some(1_000.0));
    }
}

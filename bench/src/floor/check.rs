//! Is the floor to be believed? It is held against two references, measured in turn with it.

use super::fio;
use super::flush::Flushes;
use crate::histogram::Latency;
use serde::{Deserialize, Serialize};

/// What the references said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Check {
    /// Floor and references took turns so many times.
    pub(crate) rounds: usize,
    pub(crate) echo: Reference,
    pub(crate) flush: Option<Reference>,
    /// Why `flush` is absent.
    pub(crate) flush_missing: Option<String>,
}

/// One limit beside what somebody else measured. Each figure is the median of the rounds' medians.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reference {
    /// Who measured.
    pub(crate) tool: String,
    pub(crate) reference_p50_us: f64,
    pub(crate) floor_p50_us: f64,
    /// Floor divided by reference: the median of the rounds' ratios.
    pub(crate) ratio: f64,
}

/// Whether comparisons with the floor mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Validity {
    Valid,
    Invalid,
    /// No reference was measured, or not both.
    Unchecked,
}

/// Validity and, as a sentence, why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) validity: Validity,
    pub(crate) reason: String,
}

/// The floor has to lie so near to its references, as a part of them.
pub(crate) const TOLERANCE: f64 = 0.2;

/// Medians of the rounds so far: ours and the reference's.
#[derive(Debug)]
pub(super) struct Rounds {
    echo: Vec<(f64, f64)>,
    flush: Vec<(f64, f64)>,
    flush_tool: String,
    flush_missing: Option<String>,
}

impl Rounds {
    pub(super) fn new() -> Self {
        Self {
            echo: Vec::new(),
            flush: Vec::new(),
            flush_tool: String::new(),
            flush_missing: None,
        }
    }

    pub(super) fn add_echo(&mut self, floor: &Latency, reference_us: f64) {
        self.echo.push((floor.percentiles().p50_us, reference_us));
    }

    pub(super) fn add_flush(&mut self, floor: &Flushes, reference: anyhow::Result<fio::Answer>) {
        match reference {
            Ok(answer) => {
                self.flush.push((floor.p50_us_by_parts(), answer.p50_us));
                self.flush_tool = answer.version;
            }
            Err(error) => self.flush_missing = Some(format!("{error:#}")),
        }
    }

    pub(super) fn finish(self) -> Check {
        Check {
            rounds: self.echo.len(),
            echo: Reference::of("echo on plain epoll", &self.echo),
            flush: self
                .flush_missing
                .is_none()
                .then(|| Reference::of(&self.flush_tool, &self.flush)),
            flush_missing: self.flush_missing,
        }
    }
}

impl Reference {
    /// Medians of pairs (ours, reference), in microseconds.
    fn of(tool: &str, pairs: &[(f64, f64)]) -> Self {
        let hundredth = |value: f64| (value * 100.0).round() / 100.0;
        Self {
            tool: tool.to_owned(),
            reference_p50_us: hundredth(median(pairs.iter().map(|(_, reference)| *reference))),
            floor_p50_us: hundredth(median(pairs.iter().map(|(floor, _)| *floor))),
            ratio: hundredth(median(
                pairs.iter().map(|(floor, reference)| floor / reference),
            )),
        }
    }

    pub(crate) fn is_near(&self) -> bool {
        (self.ratio - 1.0).abs() <= TOLERANCE
    }
}

impl Verdict {
    /// For people.
    pub(crate) fn sentence(&self) -> String {
        let word = match self.validity {
            Validity::Valid => "this floor is valid",
            Validity::Invalid => "INVALID floor, comparisons with it mean nothing",
            Validity::Unchecked => "this floor is not proven",
        };
        format!("{word}: {}", self.reason)
    }

    /// `None`: nothing was checked.
    pub(crate) fn of(check: Option<&Check>) -> Self {
        let Some(check) = check else {
            return Self {
                validity: Validity::Unchecked,
                reason: "not held against fio and an echo on plain epoll (floor --check)"
                    .to_owned(),
            };
        };
        let far: Vec<String> = [("echo", Some(&check.echo)), ("flush", check.flush.as_ref())]
            .into_iter()
            .filter_map(|(what, reference)| Some((what, reference?)))
            .filter(|(_, reference)| !reference.is_near())
            .map(|(what, reference)| {
                format!(
                    "{what} p50 is {:.1} us, {} took {:.1} us ({:.2} x, 0.80 to 1.20 allowed)",
                    reference.floor_p50_us,
                    reference.tool,
                    reference.reference_p50_us,
                    reference.ratio
                )
            })
            .collect();
        match (&check.flush_missing, far.is_empty()) {
            (_, false) => Self {
                validity: Validity::Invalid,
                reason: far.join("; "),
            },
            (Some(missing), true) => Self {
                validity: Validity::Unchecked,
                reason: format!("the flush has no reference: {missing}"),
            },
            (None, true) => Self {
                validity: Validity::Valid,
                reason: format!(
                    "echo {:.2} x that on plain epoll, flush {:.2} x fio",
                    check.echo.ratio,
                    check.flush.as_ref().map_or(0.0, |flush| flush.ratio)
                ),
            },
        }
    }
}

/// The middle one, or the mean of the two in the middle; 0 of nothing.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle), values.len() % 2) {
        (None, _) => 0.0,
        (Some(value), 1) => *value,
        (Some(upper), _) => f64::midpoint(values[middle - 1], *upper),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(echo: &[(f64, f64)], flush: &[(f64, f64)]) -> Check {
        Rounds {
            echo: echo.to_vec(),
            flush: flush.to_vec(),
            flush_tool: "fio-3".to_owned(),
            flush_missing: None,
        }
        .finish()
    }

    #[test]
    fn a_floor_within_a_fifth_of_both_references_is_valid() {
        for ours in [81.0, 100.0, 119.0] {
            let verdict = Verdict::of(Some(&check(&[(ours, 100.0)], &[(10.0, 10.0)])));
            assert_eq!(verdict.validity, Validity::Valid, "{verdict:?}");
        }
    }

    #[test]
    fn a_floor_too_far_from_one_of_them_is_invalid_and_names_it() {
        let slow = Verdict::of(Some(&check(&[(125.0, 100.0)], &[(10.0, 10.0)])));
        assert_eq!(slow.validity, Validity::Invalid);
        assert!(slow.reason.starts_with("echo p50 is 125.0 us"), "{slow:?}");
        let fast = Verdict::of(Some(&check(&[(100.0, 100.0)], &[(7.0, 10.0)])));
        assert_eq!(fast.validity, Validity::Invalid);
        assert!(fast.reason.contains("fio-3 took 10.0 us"), "{fast:?}");
    }

    #[test]
    fn one_disturbed_round_of_five_does_not_decide() {
        let mut rounds = vec![(10.0, 10.0); 4];
        rounds.push((90.0, 10.0));
        assert_eq!(
            Verdict::of(Some(&check(&rounds, &rounds))).validity,
            Validity::Valid
        );
    }

    #[test]
    fn without_a_reference_the_floor_is_unchecked_unless_the_other_is_far_off() {
        assert_eq!(Verdict::of(None).validity, Validity::Unchecked);
        let without_fio = |ours| Check {
            flush: None,
            flush_missing: Some("fio is not installed".to_owned()),
            ..check(&[(ours, 100.0)], &[])
        };
        let unchecked = Verdict::of(Some(&without_fio(100.0)));
        assert_eq!(unchecked.validity, Validity::Unchecked);
        assert!(unchecked.reason.contains("not installed"), "{unchecked:?}");
        assert_eq!(
            Verdict::of(Some(&without_fio(200.0))).validity,
            Validity::Invalid
        );
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        assert_eq!(median(std::iter::empty()), 0.0);
    }
}

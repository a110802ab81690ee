//! The arithmetic: figures of runs, their spread, ratios, and verdicts.

use crate::floor::median;
use crate::histogram::Percentiles;
use crate::report::Report;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which direction is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// One figure of several runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) runs: usize,
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// One figure of two sides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Such as `rate` or `read p99`.
    pub(crate) what: String,
    /// `operations/s` or `us`.
    pub(crate) unit: String,
    pub(crate) better: Better,
    pub(crate) base: Spread,
    pub(crate) other: Spread,
    /// Median of the other side divided by that of the base; absent when the latter is 0.
    pub(crate) ratio: Option<f64>,
    pub(crate) verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// All runs of the other side are better than all of the base.
    Better,
    /// All of them are worse.
    Worse,
    /// The sides overlap: the difference is no larger than that between runs of one side.
    InsideSpread,
    /// One run a side: nobody knows how much runs differ by themselves.
    SpreadUnknown,
}

impl Spread {
    /// `None` of nothing.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let min = values.iter().copied().min_by(f64::total_cmp)?;
        let max = values.iter().copied().max_by(f64::total_cmp)?;
        Some(Self {
            runs: values.len(),
            median: median(values.iter().copied()),
            min,
            max,
        })
    }
}

impl Row {
    fn new(what: String, unit: &str, better: Better, base: Spread, other: Spread) -> Self {
        let ratio = (base.median > 0.0).then(|| other.median / base.median);
        Self {
            what,
            unit: unit.to_owned(),
            better,
            base,
            other,
            ratio,
            verdict: verdict(better, base, other),
        }
    }

    /// By how many percent the other side is worse; 0 if it is not.
    pub(crate) fn percent_worse(&self) -> f64 {
        let Some(ratio) = self.ratio else {
            return 0.0;
        };
        let worse = match self.better {
            Better::Lower => ratio - 1.0,
            Better::Higher => 1.0 - ratio,
        };
        (worse * 100.0).max(0.0)
    }
}

fn verdict(better: Better, base: Spread, other: Spread) -> Verdict {
    if base.runs < 2 || other.runs < 2 {
        return Verdict::SpreadUnknown;
    }
    let above = other.min > base.max;
    let below = other.max < base.min;
    match (better, above, below) {
        (Better::Higher, true, _) | (Better::Lower, _, true) => Verdict::Better,
        (Better::Higher, _, true) | (Better::Lower, true, _) => Verdict::Worse,
        _ => Verdict::InsideSpread,
    }
}

/// What is compared of each run, in the order of the table.
type Figures = Vec<(String, &'static str, Better, f64)>;

type Pick = fn(&Percentiles) -> f64;
const PERCENTILES: [(&str, Pick); 6] = [
    ("p50", |p| p.p50_us),
    ("p90", |p| p.p90_us),
    ("p99", |p| p.p99_us),
    ("p99.9", |p| p.p999_us),
    ("p99.99", |p| p.p9999_us),
    ("max", |p| p.max_us),
];

fn figures(report: &Report) -> Figures {
    let outcome = &report.outcome;
    let mut figures = vec![(
        "rate".to_owned(),
        "operations/s",
        Better::Higher,
        outcome.operations_per_second,
    )];
    for (kind, measured) in &outcome.latencies {
        for (name, pick) in PERCENTILES {
            let what = format!("{} {name}", kind.name());
            figures.push((what, "us", Better::Lower, pick(&measured.percentiles)));
        }
    }
    figures
}

/// A row for each figure that every run of both sides has.
pub(super) fn rows(base: &[Report], other: &[Report]) -> Vec<Row> {
    let (base_values, other_values) = (values(base), values(other));
    let Some(first) = base.first() else {
        return Vec::new();
    };
    figures(first)
        .into_iter()
        .filter_map(|(what, unit, better, _)| {
            let spread = |values: &BTreeMap<String, Vec<f64>>, runs: usize| {
                let values = values.get(&what).filter(|values| values.len() == runs)?;
                Spread::of(values)
            };
            let base = spread(&base_values, base.len())?;
            let other = spread(&other_values, other.len())?;
            Some(Row::new(what, unit, better, base, other))
        })
        .collect()
}

fn values(reports: &[Report]) -> BTreeMap<String, Vec<f64>> {
    let mut values: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (what, _, _, value) in reports.iter().flat_map(figures) {
        values.entry(what).or_default().push(value);
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Machine, examples};
    use crate::workload::Kind;

    fn side(runs: &[(f64, f64)]) -> Vec<Report> {
        let run = |(p50_us, rate): &(f64, f64)| {
            Report::new(
                Machine::default(),
                examples::outcome(*p50_us, *rate),
                None,
                None,
            )
        };
        runs.iter().map(run).collect()
    }

    fn row<'a>(rows: &'a [Row], what: &str) -> Option<&'a Row> {
        rows.iter().find(|row| row.what == what)
    }

    #[test]
    fn ratios_are_those_of_the_medians() {
        let base = side(&[(100.0, 1_000.0), (300.0, 1_100.0), (110.0, 900.0)]);
        let other = side(&[(55.0, 2_000.0), (50.0, 2_500.0), (60.0, 2_100.0)]);
        let rows = rows(&base, &other);
        let read = row(&rows, "read p50");
        assert_eq!(
            read.map(|row| (row.base.median, row.base.min, row.base.max, row.ratio)),
            Some((110.0, 100.0, 300.0, Some(0.5)))
        );
        assert_eq!(row(&rows, "rate").and_then(|row| row.ratio), Some(2.1));
        assert_eq!(rows.len(), 1 + 2 * 6);
    }

    #[test]
    fn a_difference_counts_only_when_no_run_of_one_side_lies_within_the_other() {
        let verdicts = |base: &[(f64, f64)], other: &[(f64, f64)]| {
            let rows = rows(&side(base), &side(other));
            ["rate", "read p99"].map(|what| row(&rows, what).map(|row| row.verdict))
        };
        let base = [(100.0, 1_000.0), (110.0, 1_100.0)];
        assert_eq!(
            verdicts(&base, &[(90.0, 1_200.0), (95.0, 1_300.0)]),
            [Some(Verdict::Better); 2]
        );
        assert_eq!(
            verdicts(&base, &[(120.0, 900.0), (130.0, 800.0)]),
            [Some(Verdict::Worse); 2]
        );
        assert_eq!(
            verdicts(&base, &[(90.0, 1_050.0), (105.0, 1_300.0)]),
            [Some(Verdict::InsideSpread); 2]
        );
        assert_eq!(
            verdicts(&base[..1], &[(120.0, 900.0)]),
            [Some(Verdict::SpreadUnknown); 2]
        );
    }

    #[test]
    fn worse_is_slower_for_latencies_and_less_for_rates() {
        let rows = rows(&side(&[(100.0, 1_000.0)]), &side(&[(125.0, 800.0)]));
        let worse = |what| row(&rows, what).map(|row| row.percent_worse().round());
        assert_eq!(worse("read p50"), Some(25.0));
        assert_eq!(worse("rate"), Some(20.0));
        let rows = super::rows(&side(&[(125.0, 800.0)]), &side(&[(100.0, 1_000.0)]));
        assert!(rows.iter().all(|row| row.percent_worse() == 0.0));
    }

    #[test]
    fn figures_that_a_run_lacks_are_left_out() {
        let mut other = side(&[(50.0, 1.0), (50.0, 1.0)]);
        other[1].outcome.latencies.remove(&Kind::Update);
        let rows = rows(&side(&[(50.0, 1.0)]), &other);
        assert!(row(&rows, "update p50").is_none() && row(&rows, "read p50").is_some());
    }
}

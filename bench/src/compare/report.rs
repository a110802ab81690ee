//! What a comparison says, for machines and for people.

use super::difference::{Difference, differences};
use super::figures::{Better, Row, Spread, Verdict, rows};
use crate::report::{Finding, Report, Weight};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// Fields are only ever added; anything else makes it another number.
pub(crate) const SCHEMA: &str = "pegasus-bench-compare/1";

/// Runs that are taken together.
#[derive(Clone, Debug)]
pub(crate) struct Side {
    /// For people: a file, or `A` and `B`.
    pub(crate) name: String,
    pub(crate) files: Vec<String>,
    /// At least one; of the same length as `files`.
    pub(crate) reports: Vec<Report>,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub(crate) struct CompareReport {
    /// [`SCHEMA`]
    pub(crate) schema: String,
    /// Name and files of each side; the first is the base.
    pub(crate) sides: Vec<(String, Vec<String>)>,
    /// Every other side beside the base.
    pub(crate) pairs: Vec<Pair>,
    /// Settings that are not the same in all runs.
    pub(crate) differences: Vec<Difference>,
    /// What the runs' own reports warn of, with the file's name.
    pub(crate) warnings: Vec<String>,
    /// Allowed percent, when there is a bound (`--fail-if-slower`).
    pub(crate) slower_max_percent: Option<f64>,
    /// Figures that are worse by more, as sentences.
    pub(crate) slower: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub(crate) struct Pair {
    /// Of the side that is compared with the base.
    pub(crate) name: String,
    pub(crate) rows: Vec<Row>,
}

impl CompareReport {
    /// Two sides at least, each with a run.
    pub(crate) fn new(sides: &[Side], slower_max_percent: Option<f64>) -> Self {
        let (base, others) = sides.split_first().expect("two sides are asked for");
        let pairs: Vec<Pair> = others
            .iter()
            .map(|other| Pair {
                name: other.name.clone(),
                rows: rows(&base.reports, &other.reports),
            })
            .collect();
        let slower = slower_max_percent
            .map(|percent| pairs.iter().flat_map(|pair| pair.slower(percent)).collect())
            .unwrap_or_default();
        Self {
            schema: SCHEMA.to_owned(),
            sides: sides
                .iter()
                .map(|side| (side.name.clone(), side.files.clone()))
                .collect(),
            pairs,
            differences: differences(sides),
            warnings: warnings(sides),
            slower_max_percent,
            slower,
        }
    }

    pub(crate) fn findings(&self) -> Vec<Finding> {
        let mut findings: Vec<Finding> = self.slower.iter().cloned().map(Finding::bad).collect();
        findings.extend(
            self.differences
                .iter()
                .map(|difference| Finding::doubt(difference.sentence())),
        );
        findings.extend(self.warnings.iter().cloned().map(Finding::doubt));
        let mut spreads = self.pairs.iter().flat_map(|pair| &pair.rows);
        if spreads.any(|row| row.verdict == Verdict::SpreadUnknown) {
            findings.push(Finding::doubt(
                "one run a side: how much runs differ by themselves is not known; three of each tell".to_owned(),
            ));
        }
        if findings.is_empty() {
            findings.push(Finding {
                weight: Weight::Good,
                sentence: "same settings on the same machine, several runs of each".to_owned(),
            });
        }
        findings
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_text(&mut text);
        text
    }

    fn write_text(&self, text: &mut String) -> std::fmt::Result {
        for (index, (name, files)) in self.sides.iter().enumerate() {
            let role = if index == 0 { "base" } else { "with" };
            if files.len() == 1 && files[0] == *name {
                writeln!(text, "{role} {name}")?;
            } else {
                writeln!(text, "{role} {name}: {}", files.join(", "))?;
            }
        }
        let base = self.sides.first().map_or("", |(name, _)| name);
        for pair in &self.pairs {
            writeln!(text)?;
            writeln!(
                text,
                "{:<26} {:>30} {:>30} {:>8}",
                "",
                end_of(base, 30),
                end_of(&pair.name, 30),
                "ratio"
            )?;
            for row in &pair.rows {
                writeln!(
                    text,
                    "{:<26} {:>30} {:>30} {:>8}  {}",
                    format!("{} ({})", row.what, row.unit),
                    spread(row.base),
                    spread(row.other),
                    ratio(row.ratio),
                    row.sentence()
                )?;
            }
        }
        writeln!(text)?;
        for finding in self.findings() {
            let word = match finding.weight {
                Weight::Bad => "FAILED: ",
                Weight::Doubt => "NOTE: ",
                Weight::Good => "",
            };
            writeln!(text, "{word}{}", finding.sentence)?;
        }
        Ok(())
    }
}

impl Pair {
    /// Rate, p50 and p99 count: rarer percentiles of a short run are chance. What lies inside the spread is no difference.
    fn slower(&self, percent: f64) -> Vec<String> {
        self.rows
            .iter()
            .filter(|row| {
                row.what == "rate" || row.what.ends_with(" p50") || row.what.ends_with(" p99")
            })
            .filter(|row| row.verdict != Verdict::InsideSpread && row.percent_worse() > percent)
            .map(|row| {
                let than = match row.better {
                    Better::Lower => "higher",
                    Better::Higher => "lower",
                };
                format!(
                    "{} of {} is {:.1} % {than} than the base's; {percent} % are allowed",
                    row.what,
                    self.name,
                    row.percent_worse()
                )
            })
            .collect()
    }
}

impl Row {
    /// What the ratio is worth, in words.
    pub(crate) fn sentence(&self) -> &'static str {
        match (self.verdict, self.ratio) {
            (Verdict::Better, _) => "better",
            (Verdict::Worse, _) => "worse",
            (Verdict::InsideSpread, _) => "inside the spread",
            (Verdict::SpreadUnknown, _) => "",
        }
    }
}

/// Median, and the ends in brackets if there are several runs.
pub(crate) fn spread(spread: Spread) -> String {
    let digits = |value: f64| {
        if value >= 1_000.0 {
            format!("{value:.0}")
        } else {
            format!("{value:.1}")
        }
    };
    if spread.runs < 2 {
        return digits(spread.median);
    }
    format!(
        "{} [{}, {}]",
        digits(spread.median),
        digits(spread.min),
        digits(spread.max)
    )
}

pub(crate) fn ratio(ratio: Option<f64>) -> String {
    ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2} x"))
}

/// The last characters of a name: those of a path are what differs.
fn end_of(name: &str, length: usize) -> String {
    let count = name.chars().count();
    name.chars().skip(count.saturating_sub(length)).collect()
}

/// What the reports warn of, each sort once, with the first file that has it: sentences that differ in their figures only
/// are of one sort.
fn warnings(sides: &[Side]) -> Vec<String> {
    let mut sorts: Vec<(String, String, usize)> = Vec::new();
    let runs = sides
        .iter()
        .flat_map(|side| side.files.iter().zip(&side.reports));
    for (file, report) in runs {
        // That a loop was closed is the same for all, or named as a difference.
        let closed = report.outcome.setup.closed_loop();
        for finding in report.findings() {
            if finding.weight == Weight::Good || closed.as_ref() == Some(&finding.sentence) {
                continue;
            }
            let sort = without_figures(&finding.sentence);
            match sorts.iter_mut().find(|(known, ..)| *known == sort) {
                Some((_, _, others)) => *others += 1,
                None => sorts.push((sort, format!("{file}: {}", finding.sentence), 0)),
            }
        }
    }
    sorts
        .into_iter()
        .map(|(_, sentence, others)| match others {
            0 => sentence,
            1 => format!("{sentence} (1 other run warns of the same)"),
            _ => format!("{sentence} ({others} other runs warn of the same)"),
        })
        .collect()
}

fn without_figures(sentence: &str) -> String {
    sentence
        .chars()
        .filter(|character| !character.is_ascii_digit() && *character != '.')
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Machine, examples};

    fn side(name: &str, runs: &[(f64, f64)]) -> Side {
        let run = |(p50_us, rate): &(f64, f64)| {
            Report::new(
                Machine::default(),
                examples::outcome(*p50_us, *rate),
                None,
                None,
            )
        };
        Side {
            name: name.to_owned(),
            files: runs
                .iter()
                .map(|(p50, _)| format!("{name}{p50}.json"))
                .collect(),
            reports: runs.iter().map(run).collect(),
        }
    }

    const BASE: [(f64, f64); 2] = [(100.0, 1_000.0), (104.0, 1_010.0)];

    #[test]
    fn runs_of_other_settings_are_compared_with_a_warning_that_names_them() {
        let mut other = side("B", &BASE);
        for report in &mut other.reports {
            report.outcome.setup.threads = 4;
            report.machine.kernel = "7.0".to_owned();
        }
        let report = CompareReport::new(&[side("A", &BASE), other], None);
        let what: Vec<&str> = report
            .differences
            .iter()
            .map(|it| it.what.as_str())
            .collect();
        assert_eq!(what, ["threads", "kernel"]);
        assert!(
            report.text().contains("not the same: threads: 1 | 4"),
            "{}",
            report.text()
        );
    }

    #[test]
    fn runs_within_one_side_that_differ_are_told_too() {
        let mut base = side("A", &BASE);
        base.reports[1].outcome.setup.records = 7;
        let report = CompareReport::new(&[base, side("B", &BASE)], None);
        assert_eq!(report.differences.len(), 1);
        assert_eq!(report.differences[0].values[0].len(), 2);
    }

    #[test]
    fn the_same_twice_is_fine() {
        let report = CompareReport::new(&[side("A", &BASE), side("B", &BASE)], Some(10.0));
        assert_eq!(report.findings()[0].weight, Weight::Good);
        assert!(report.slower.is_empty());
        assert!(
            report.text().contains("inside the spread"),
            "{}",
            report.text()
        );
    }

    #[test]
    fn slower_than_allowed_is_told_for_rate_median_and_p99_only() {
        let slow = [(120.0, 800.0), (121.0, 801.0)];
        let report = CompareReport::new(&[side("A", &BASE), side("B", &slow)], Some(10.0));
        assert_eq!(report.slower.len(), 1 + 2 * 2, "{:?}", report.slower);
        let report = CompareReport::new(&[side("A", &BASE), side("B", &slow)], Some(25.0));
        assert!(report.slower.is_empty(), "{:?}", report.slower);
        let report = CompareReport::new(&[side("A", &BASE), side("B", &slow)], None);
        assert!(report.slower.is_empty());
    }

    #[test]
    fn what_a_run_warned_of_is_in_every_comparison_with_it() {
        let mut other = side("B", &BASE);
        for (report, percent) in other.reports.iter_mut().zip([91.5, 97.0]) {
            let warning = format!("the bench was busy: {percent} %");
            report.outcome.warnings.push(warning);
        }
        let report = CompareReport::new(&[side("A", &BASE), other], None);
        assert_eq!(
            report.warnings,
            ["B100.json: the bench was busy: 91.5 % (1 other run warns of the same)"]
        );
    }

    #[test]
    fn a_comparison_survives_json() {
        let report = CompareReport::new(&[side("A", &BASE), side("B", &BASE)], Some(10.0));
        let text = serde_json::to_string(&report).unwrap_or_default();
        let back: Option<CompareReport> = serde_json::from_str(&text).ok();
        assert_eq!(back, Some(report));
    }
}

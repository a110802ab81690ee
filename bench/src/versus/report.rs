//! What came of the rounds, for machines and for people.

use crate::histogram::Latency;
use crate::outcome::Outcome;
use crate::report::{Finding, Machine, Weight};
use crate::target::Description;
use crate::workload::{Kind, Workload};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Fields are only ever added; anything else makes it another number.
pub(crate) const SCHEMA: &str = "pegasus-bench-versus/1";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct VersusReport {
    /// [`SCHEMA`]
    pub(crate) schema: String,
    pub(crate) machine: Machine,
    /// In the order in which they were given; ratios are those of the first one to each.
    pub(crate) servers: Vec<Server>,
    pub(crate) rounds: usize,
    /// Measured seconds of each run, after its warm-up.
    pub(crate) seconds: f64,
    /// What all runs had in common: records, layout, threads.
    pub(crate) records: String,
    pub(crate) rows: Vec<Row>,
    /// What runs warned of, each once.
    pub(crate) warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) description: Description,
}

/// One mix in one shape against one server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) workload: Workload,
    /// `50x16`: connections x operations under way on each.
    pub(crate) shape: String,
    pub(crate) server: String,
    pub(crate) rounds: Vec<Figures>,
    pub(crate) median: Figures,
    /// The first server's figure divided by this one's in the same round, median of the rounds; absent for the first.
    pub(crate) first_to_this: Option<Figures>,
    /// The same for the rate, lowest and highest round.
    pub(crate) rate_ratios: Option<(f64, f64)>,
}

/// Of all operations together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) operations_per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) failed: f64,
    /// Of reads, the share that found nothing, which is quicker than finding something.
    #[serde(default)]
    pub(crate) missed: f64,
}

/// With a larger share of reads that find nothing it is not the wanted comparison.
const MISSED_MAX: f64 = 0.01;

impl Figures {
    /// # Errors
    /// When a histogram holds a latency that none can hold.
    pub(crate) fn of(outcome: &Outcome) -> anyhow::Result<Self> {
        let mut all = Latency::new();
        for measured in outcome.latencies.values() {
            all.add_buckets(&measured.histogram)?;
        }
        let percentiles = all.percentiles();
        let reads = [Kind::Read, Kind::ReadModifyWrite].map(|kind| outcome.latencies.get(&kind));
        let reads = reads.iter().flatten().map(|it| it.percentiles.count);
        let reads = reads.sum::<u64>();
        let never_sent = outcome.offered.as_ref().map_or(0, |it| it.never_sent);
        Ok(Self {
            operations_per_second: outcome.operations_per_second,
            p50_us: percentiles.p50_us,
            p99_us: percentiles.p99_us,
            p999_us: percentiles.p999_us,
            failed: (outcome.errors_total + never_sent) as f64,
            missed: outcome.misses as f64 / reads.max(1) as f64,
        })
    }

    /// Figure by figure.
    fn median(all: &[Self]) -> Self {
        let of = |pick: fn(&Self) -> f64| median(all.iter().map(pick).collect());
        Self {
            operations_per_second: of(|it| it.operations_per_second),
            p50_us: of(|it| it.p50_us),
            p99_us: of(|it| it.p99_us),
            p999_us: of(|it| it.p999_us),
            failed: of(|it| it.failed),
            missed: of(|it| it.missed),
        }
    }

    fn divided_by(&self, other: &Self) -> Self {
        let quotient = |one: f64, other: f64| if other > 0.0 { one / other } else { 0.0 };
        Self {
            operations_per_second: quotient(
                self.operations_per_second,
                other.operations_per_second,
            ),
            p50_us: quotient(self.p50_us, other.p50_us),
            p99_us: quotient(self.p99_us, other.p99_us),
            p999_us: quotient(self.p999_us, other.p999_us),
            failed: 0.0,
            missed: 0.0,
        }
    }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    match (numbers.len(), numbers.len() / 2) {
        (0, _) => 0.0,
        (count, middle) if count % 2 == 1 => numbers[middle],
        (_, middle) => f64::midpoint(numbers[middle - 1], numbers[middle]),
    }
}

impl Row {
    /// `base`: the rounds of the first server; `None` for itself.
    pub(crate) fn new(
        (workload, shape, server): (Workload, String, String),
        rounds: Vec<Figures>,
        base: Option<&[Figures]>,
    ) -> Self {
        let ratios = base.map(|base| {
            let pairs = base.iter().zip(&rounds);
            pairs
                .map(|(base, this)| base.divided_by(this))
                .collect::<Vec<_>>()
        });
        let rates = ratios.iter().flatten().map(|it| it.operations_per_second);
        let extremes = rates.fold((f64::INFINITY, 0.0_f64), |(low, high), rate| {
            (low.min(rate), high.max(rate))
        });
        Self {
            workload,
            shape,
            server,
            median: Figures::median(&rounds),
            rounds,
            rate_ratios: ratios.is_some().then_some(extremes),
            first_to_this: ratios.map(|ratios| Figures::median(&ratios)),
        }
    }
}

impl VersusReport {
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let failed = self.rows.iter().filter(|row| row.median.failed > 0.0);
        let mut findings: Vec<Finding> = failed
            .map(|row| {
                Finding::bad(format!(
                    "{}, workload {}, {}: operations failed ({:.0} in the median round)",
                    row.server,
                    row.workload.name(),
                    row.shape,
                    row.median.failed
                ))
            })
            .collect();
        let missed = self
            .rows
            .iter()
            .filter(|row| row.median.missed > MISSED_MAX);
        findings.extend(missed.map(|row| {
            Finding::bad(format!(
                "{}, workload {}, {}: {:.0} % of the reads found nothing, which is quicker than finding something: load all servers (--load)",
                row.server,
                row.workload.name(),
                row.shape,
                row.median.missed * 100.0
            ))
        }));
        findings.extend(self.warnings.iter().cloned().map(Finding::doubt));
        findings.extend(self.machine.busy().map(Finding::doubt));
        if findings.is_empty() {
            findings.push(Finding {
                weight: Weight::Good,
                sentence: "no operation failed, and nothing speaks against the figures".to_owned(),
            });
        }
        findings
    }

    /// What the figures are, in words.
    pub(crate) fn sentence(&self) -> String {
        let first = self.servers.first().map_or("", |server| &server.name);
        format!(
            "{}; {} rounds of {:.1} s by turns, medians; ratios are {first} / the other in the same round",
            self.records, self.rounds, self.seconds
        )
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_text(&mut text);
        text
    }

    fn write_text(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "{}", self.machine.sentence())?;
        for server in &self.servers {
            let Server { name, description } = server;
            let url = &description.url;
            writeln!(text, "{name}: {url} {}", description.server)?;
        }
        writeln!(text, "{}\n\n{HEADING}", self.sentence())?;
        let mut before = None;
        for row in &self.rows {
            let cell = (row.workload, row.shape.clone());
            if before.replace(cell.clone()).is_some_and(|it| it != cell) {
                writeln!(text)?;
            }
            row.write_text(text)?;
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

const HEADING: &str = "workload shape    server               op/s     p50 us     p99 us   p99.9 us  failed   ratio: rate (lowest to highest)    p50    p99  p99.9";

impl Row {
    fn write_text(&self, text: &mut String) -> std::fmt::Result {
        let it = &self.median;
        write!(
            text,
            "{:<8} {:<8} {:<14} {:>10.0} {:>10.1} {:>10.1} {:>10.1} {:>7.0}",
            self.workload.name(),
            self.shape,
            self.server,
            it.operations_per_second,
            it.p50_us,
            it.p99_us,
            it.p999_us,
            it.failed
        )?;
        let (Some(ratio), Some((low, high))) = (&self.first_to_this, self.rate_ratios) else {
            return writeln!(text);
        };
        writeln!(
            text,
            "   {:>11.2} ({low:.2} to {high:.2}) {:>15.2} {:>6.2} {:>6.2}",
            ratio.operations_per_second, ratio.p50_us, ratio.p99_us, ratio.p999_us
        )
    }
}

/// Each sort of warning once.
pub(crate) fn gather(warnings: &mut BTreeMap<String, String>, server: &str, outcome: &Outcome) {
    for warning in &outcome.warnings {
        let letters = warning.chars().filter(|it| it.is_alphabetic());
        let sort: String = letters.collect();
        let told = format!("{server}: {warning}");
        warnings.entry(format!("{server} {sort}")).or_insert(told);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn figures(rate: f64, p50_us: f64) -> Figures {
        Figures {
            operations_per_second: rate,
            p50_us,
            p99_us: p50_us * 2.0,
            p999_us: p50_us * 3.0,
            failed: 0.0,
            missed: 0.0,
        }
    }

    pub(crate) fn example() -> VersusReport {
        let row = |server: &str, rounds: &[f64], base: Option<&[Figures]>| {
            let rounds = rounds.iter().map(|rate| figures(*rate, 1e6 / rate));
            let of = (Workload::C, "50x1".to_owned(), server.to_owned());
            Row::new(of, rounds.collect(), base)
        };
        let ours = row("ours", &[120.0, 130.0, 60.0], None);
        let redis = row("redis", &[100.0, 100.0, 40.0], Some(&ours.rounds));
        let server = |name: &str| Server {
            name: name.to_owned(),
            description: Description::default(),
        };
        VersusReport {
            schema: SCHEMA.to_owned(),
            machine: Machine::default(),
            servers: vec![server("ours"), server("redis")],
            rounds: 3,
            seconds: 2.0,
            records: "1000 records of 100 bytes".to_owned(),
            rows: vec![ours, redis],
            warnings: Vec::new(),
        }
    }

    #[test]
    fn ratios_are_those_of_rounds_and_not_of_medians() {
        let report = example();
        let [ours, redis] = &report.rows[..] else {
            panic!("two rows")
        };
        assert!((ours.median.operations_per_second - 120.0).abs() < 1e-9);
        assert_eq!(ours.first_to_this, None);
        let ratio = redis.first_to_this.expect("it is not the first");
        // 1.2, 1.3 and 1.5: a round in which the machine was slow for both counts as any other.
        assert!(
            (ratio.operations_per_second - 1.3).abs() < 1e-9,
            "{ratio:?}"
        );
        assert!((ratio.p99_us - 1.0 / 1.3).abs() < 1e-9, "{ratio:?}");
        assert_eq!(redis.rate_ratios, Some((1.2, 1.5)));
    }

    #[test]
    fn the_text_has_a_line_for_each_server_and_says_what_failed() {
        let mut report = example();
        let text = report.text();
        assert!(text.contains("1.30 (1.20 to 1.50)"), "{text}");
        assert!(text.contains("no operation failed"), "{text}");
        report.rows[1].median.failed = 7.0;
        let text = report.text();
        assert!(
            text.contains("FAILED: redis, workload c, 50x1: operations failed (7"),
            "{text}"
        );
    }

    #[test]
    fn a_server_without_the_records_is_not_compared_in_silence() {
        let mut report = example();
        report.rows[1].median.missed = 0.97;
        let text = report.text();
        assert!(
            text.contains("FAILED: redis, workload c, 50x1: 97 % of the reads found nothing"),
            "{text}"
        );
    }

    #[test]
    fn a_median_is_the_middle_or_between_the_two() {
        for (numbers, middle) in [
            (vec![], 0.0),
            (vec![3.0, 1.0, 2.0], 2.0),
            (vec![4.0, 1.0], 2.5),
        ] {
            assert!((median(numbers) - middle).abs() < 1e-9);
        }
    }
}

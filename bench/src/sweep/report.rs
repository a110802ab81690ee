//! What a sweep found, for machines and for people.

use super::search::{End, Limits, Sample, Search, Step};
use crate::floor::Floor;
use crate::histogram::Latency;
use crate::outcome::{Measured, Outcome, Setup};
use crate::report::{Compared, Finding, Machine, Weight};
use crate::workload::Kind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Fields are only ever added; anything else makes it another number.
pub(crate) const SCHEMA: &str = "pegasus-bench-sweep/1";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SweepReport {
    /// [`SCHEMA`]
    pub(crate) schema: String,
    pub(crate) machine: Machine,
    /// That of the first step; only the rate differs.
    pub(crate) setup: Setup,
    pub(crate) limits: Limits,
    /// Measured seconds of each step, after its warm-up.
    pub(crate) step_seconds: f64,
    /// In the order in which they were tried.
    pub(crate) steps: Vec<Step>,
    pub(crate) end: End,
    /// The bound that p99 was held against.
    pub(crate) p99_bound_us: f64,
    /// The highest rate that held, and the lowest that broke.
    pub(crate) knee: Option<f64>,
    pub(crate) broke_at: Option<f64>,
    /// Multiples are those of the lowest rate.
    pub(crate) floor: Option<Compared>,
    /// What the first step warned of. What others do (late starts, a busy bench) their figures show.
    pub(crate) warnings: Vec<String>,
}

impl Sample {
    /// # Errors
    /// When a histogram holds a latency that none can hold.
    pub(crate) fn of(outcome: &Outcome) -> anyhow::Result<Self> {
        let mut all = Latency::new();
        for measured in outcome.latencies.values() {
            all.add_buckets(&measured.histogram)?;
        }
        let percentiles = |(kind, measured): (&_, &Measured)| (*kind, measured.percentiles.clone());
        Ok(Self {
            achieved: outcome.operations_per_second,
            operations: outcome.operations,
            errors: outcome.errors_total,
            never_sent: outcome
                .offered
                .as_ref()
                .map_or(0, |offered| offered.never_sent),
            all: all.percentiles(),
            latencies: outcome.latencies.iter().map(percentiles).collect(),
            bottleneck: outcome.bench.bottleneck,
        })
    }
}

impl SweepReport {
    /// Of a search that has made at least one step, whose outcome is `first`.
    pub(crate) fn new(
        machine: Machine,
        limits: Limits,
        step_seconds: f64,
        search: &Search,
        first: &Outcome,
        floor: Option<Floor>,
    ) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            machine,
            setup: first.setup.clone(),
            limits,
            step_seconds,
            steps: search.steps().to_vec(),
            end: search.end(),
            p99_bound_us: search.p99_bound_us().unwrap_or(0.0),
            knee: search.held(),
            broke_at: search.broke(),
            floor: floor.map(|limits| Compared::new(limits, &first.latencies)),
            warnings: first.warnings.clone(),
        }
    }

    /// What was found, as a sentence.
    pub(crate) fn sentence(&self) -> String {
        let knee = self.knee.unwrap_or(0.0);
        let broke_at = self.broke_at.unwrap_or(0.0);
        match self.end {
            End::Found => {
                format!("{knee:.0} operations a second hold, {broke_at:.0} do not")
            }
            End::NeverBroke => format!(
                "nothing broke up to {knee:.0} operations a second (--to): the knee is above"
            ),
            End::BrokeAtOnce => format!(
                "already the lowest rate, {broke_at:.0} operations a second, broke: the knee is below --from"
            ),
            End::Stopped if self.broke_at.is_some() => format!(
                "{knee:.0} operations a second hold, {broke_at:.0} do not; the search was stopped before it was done"
            ),
            End::Stopped => format!(
                "{knee:.0} operations a second hold; the search was stopped before anything broke"
            ),
        }
    }

    /// Everything that a reader has to know before the figures.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let mut findings = vec![Finding {
            weight: match self.end {
                End::Found => Weight::Good,
                End::NeverBroke | End::BrokeAtOnce | End::Stopped => Weight::Doubt,
            },
            sentence: self.sentence(),
        }];
        let limited = self
            .steps
            .iter()
            .filter(|step| step.sample.bottleneck)
            .map(|step| step.offered)
            .min_by(f64::total_cmp);
        findings.extend(limited.map(|rate| {
            Finding::doubt(format!(
                "from {rate:.0} operations a second on the bench itself had no CPU left: the server may take more"
            ))
        }));
        findings.extend(
            self.floor
                .iter()
                .flat_map(Compared::doubts)
                .map(Finding::doubt),
        );
        findings.extend(self.machine.busy().map(Finding::doubt));
        findings.extend(self.warnings.iter().cloned().map(Finding::doubt));
        findings
    }

    /// Ascending by rate.
    pub(crate) fn steps_by_rate(&self) -> Vec<&Step> {
        let mut steps: Vec<&Step> = self.steps.iter().collect();
        steps.sort_by(|a, b| a.offered.total_cmp(&b.offered));
        steps
    }

    /// Kinds that any step has, for tables.
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        let kinds: BTreeSet<Kind> = self
            .steps
            .iter()
            .flat_map(|step| step.sample.latencies.keys().copied())
            .collect();
        kinds.into_iter().collect()
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_text(&mut text);
        text
    }

    fn write_text(&self, text: &mut String) -> std::fmt::Result {
        writeln!(
            text,
            "sweep: {}; {}",
            self.setup.what(),
            self.setup.records_sentence()
        )?;
        writeln!(text, "{}", self.setup.target_sentence())?;
        writeln!(text, "{}", self.machine.sentence())?;
        writeln!(
            text,
            "steps of {:.1} s after {:.1} s of warm-up; a step breaks when p99 is over {:.0} us, less than 95 % is achieved, or more than 1 % fails",
            self.step_seconds, self.setup.warm_up_seconds, self.p99_bound_us
        )?;
        writeln!(text)?;
        writeln!(text, "{STEP_HEADING}")?;
        for step in self.steps_by_rate() {
            writeln!(text, "{}", step_line(step))?;
        }
        writeln!(text)?;
        self.write_multiples(text)?;
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

    fn write_multiples(&self, text: &mut String) -> std::fmt::Result {
        for (kind, multiples) in self.floor.iter().flat_map(|floor| &floor.multiples) {
            writeln!(
                text,
                "at the lowest rate {} is {:.2} x the floor ({}) at p50, {:.2} x at p99, {:.2} x at p99.9",
                kind.name(),
                multiples.p50,
                multiples.of,
                multiples.p99,
                multiples.p999
            )?;
        }
        Ok(())
    }
}

pub(super) const STEP_HEADING: &str =
    "   offered/s  achieved/s    p50 us    p99 us  p99.9 us     max us  failed";

/// One line of the table.
pub(super) fn step_line(step: &Step) -> String {
    let sample = &step.sample;
    let verdict = step
        .broke
        .as_ref()
        .map_or_else(String::new, |why| format!("  broke: {why}"));
    format!(
        "{:>12.0}{:>12.0}{:>10.1}{:>10.1}{:>10.1}{:>11.1}{:>8}{verdict}",
        step.offered,
        sample.achieved,
        sample.all.p50_us,
        sample.all.p99_us,
        sample.all.p999_us,
        sample.all.max_us,
        sample.errors + sample.never_sent
    )
}

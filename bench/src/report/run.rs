//! The report of `load` and `run`: the outcome, the machine it was measured on, the floor beside it, and what the
//! servers' cores say.

use super::{Compared, Cores, Finding, Machine, Weight};
use crate::floor::{Floor, Poll};
use crate::outcome::{FORMAT, Outcome};
use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Fields are only ever added; anything else makes it another number.
pub(crate) const SCHEMA: &str = "pegasus-bench/2";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// [`SCHEMA`]
    pub(crate) schema: String,
    /// Of the bench, which often is that of the servers.
    pub(crate) machine: Machine,
    pub(crate) outcome: Outcome,
    /// Absent: nothing to compare with.
    pub(crate) floor: Option<Compared>,
    /// Absent: the target has no cores that tell.
    pub(crate) cores: Option<Cores>,
}

impl Report {
    /// `machine` is asked for before the run, so that its load is not the run's.
    pub(crate) fn new(
        machine: Machine,
        outcome: Outcome,
        floor: Option<Floor>,
        cores: Option<Cores>,
    ) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            machine,
            floor: floor.map(|limits| Compared::new(limits, &outcome.latencies)),
            outcome,
            cores,
        }
    }

    /// Reads what an earlier `run --json` wrote.
    ///
    /// # Errors
    /// When the file is of another format, with what to do about it.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let value = super::read_json(path, &[SCHEMA], "pegasus-bench run --json")?;
        let report: Self = serde_json::from_value(value)
            .with_context(|| format!("{} is not a whole report of a run", path.display()))?;
        ensure!(
            report.outcome.format == FORMAT,
            "{}: outcome of format {}, this program reads {FORMAT}",
            path.display(),
            report.outcome.format
        );
        Ok(report)
    }

    /// Everything that a reader has to know before the figures, worst first; at least one.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let outcome = &self.outcome;
        let mut findings: Vec<Finding> = outcome
            .verdict()
            .map(|sentence| Finding::bad(format!("verification failed: {sentence}")))
            .into_iter()
            .collect();
        if outcome.errors_total > 0 {
            findings.push(Finding::bad(format!(
                "{} operations failed; they are not part of the latencies",
                outcome.errors_total
            )));
        }
        if let Some(offered) = outcome.offered.as_ref().filter(|it| it.never_sent > 0) {
            findings.push(Finding::bad(format!(
                "{} of {} operations were never sent: their deadline passed before a worker was free",
                offered.never_sent, offered.intended
            )));
        }
        let doubts = self.floor.iter().flat_map(Compared::doubts);
        findings.extend(outcome.warnings.iter().cloned().map(Finding::doubt));
        findings.extend(doubts.map(Finding::doubt));
        findings.extend(self.poll_mismatch().map(Finding::doubt));
        findings.extend(self.stalls().map(Finding::doubt));
        findings.extend(outcome.setup.closed_loop().map(Finding::doubt));
        findings.extend(self.machine.busy().map(Finding::doubt));
        if findings.is_empty() {
            findings.push(Finding {
                weight: Weight::Good,
                sentence: "no operation failed, and nothing speaks against the figures".to_owned(),
            });
        }
        findings.sort_by_key(|finding| finding.weight);
        findings
    }

    /// The floor's echo has to wait for bytes in the way the cores do: one wake-up more or less is most of a round trip.
    fn poll_mismatch(&self) -> Option<String> {
        let poll = self.floor.as_ref()?.limits.poll;
        let cores = &self.cores.as_ref()?.cores;
        let requests: u64 = cores.iter().map(|core| core.requests).sum();
        let sleeps: u64 = cores.iter().map(|core| core.count("sleeps")).sum();
        if requests < 1_000 {
            return None;
        }
        // With many requests at once even a core that may sleep hardly does, and one at a time it always does.
        let alone = self.outcome.setup.workers == 1;
        match (poll, sleeps as f64 / requests as f64) {
            (Poll::Sleep, share) if alone && share < 0.1 => Some(
                "the floor's echo server slept while it waited, the servers' cores polled: measure the floor with --poll busy".to_owned(),
            ),
            (Poll::Busy, share) if alone && share > 0.5 => Some(
                "the floor's echo server polled, the servers' cores slept while they waited: measure the floor with --poll sleep".to_owned(),
            ),
            _ => None,
        }
    }

    fn stalls(&self) -> Option<String> {
        let cores = &self.cores.as_ref()?.cores;
        let stalls: u64 = cores.iter().map(|core| core.count("stalls")).sum();
        (stalls > 0).then(|| {
            format!("the servers' cores did not return to their loop for 10 ms, {stalls} times: see the table of cores")
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::report::examples;

    fn sentences(report: &Report) -> Vec<String> {
        let findings = report.findings().into_iter();
        findings.map(|finding| finding.sentence).collect()
    }

    fn one_at_a_time(poll: Poll, sleeps: u64) -> Report {
        let mut floor = examples::floor();
        floor.poll = poll;
        let mut outcome = examples::outcome(500.0, 2_000.0);
        outcome.setup.workers = 1;
        let mut cores = examples::cores();
        cores.cores[0].counts.insert("sleeps".to_owned(), sleeps);
        Report::new(Machine::default(), outcome, Some(floor), Some(cores))
    }

    #[test]
    fn a_report_survives_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        let report = examples::report();
        std::fs::write(&path, serde_json::to_string(&report).unwrap()).unwrap();
        assert_eq!(Report::load(&path).unwrap(), report);
    }

    #[test]
    fn a_report_with_a_part_missing_or_of_another_outcome_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        let refused = |value: &serde_json::Value| {
            std::fs::write(&path, value.to_string()).unwrap();
            format!("{:#}", Report::load(&path).unwrap_err())
        };
        let whole = serde_json::to_value(examples::report()).unwrap();
        let mut part = whole.clone();
        part["outcome"].as_object_mut().unwrap().remove("setup");
        let error = refused(&part);
        assert!(
            error.contains("not a whole report of a run") && error.contains("setup"),
            "{error}"
        );
        let mut other = whole;
        other["outcome"]["format"] = 1.into();
        let error = refused(&other);
        assert!(
            error.contains("outcome of format 1, this program reads 2"),
            "{error}"
        );
    }

    #[test]
    fn failures_come_first_and_silence_is_said() {
        let mut report = examples::report();
        report.floor = None;
        report.outcome.setup.rate = Some(1_000.0);
        assert_eq!(report.findings()[0].weight, Weight::Good);
        report.outcome.warnings.push("a doubt".to_owned());
        report.outcome.errors_total = 3;
        let findings = report.findings();
        assert_eq!(
            (findings[0].weight, findings[1].weight),
            (Weight::Bad, Weight::Doubt)
        );
        assert!(findings[0].sentence.starts_with("3 operations failed"));
        assert!(
            report.text().contains("FAILED: 3 operations failed"),
            "{}",
            report.text()
        );
        assert!(report.text().contains("NOTE: a doubt"), "{}", report.text());
    }

    #[test]
    fn a_floor_that_waits_otherwise_than_the_cores_is_told() {
        let told = |poll, sleeps| {
            sentences(&one_at_a_time(poll, sleeps))
                .into_iter()
                .find(|sentence| sentence.contains("measure the floor with"))
        };
        assert!(told(Poll::Sleep, 10).is_some_and(|it| it.ends_with("--poll busy")));
        assert!(told(Poll::Busy, 20_000).is_some_and(|it| it.ends_with("--poll sleep")));
        assert_eq!(told(Poll::Sleep, 20_000), None);
        assert_eq!(told(Poll::Busy, 10), None);
    }

    #[test]
    fn a_closed_loop_of_many_workers_says_what_its_latencies_are_worth() {
        let told = |report: &Report| {
            let all = sentences(report);
            all.into_iter().any(|it| it.starts_with("closed loop: "))
        };
        let mut report = examples::report();
        assert!(told(&report));
        assert!(
            report.text().contains("closed loop, us"),
            "{}",
            report.text()
        );
        report.outcome.setup.workers = 1;
        assert!(
            !told(&report),
            "one at a time is what the floor is measured with"
        );
        report.outcome.setup.workers = 2;
        report.outcome.setup.rate = Some(1_000.0);
        assert!(!told(&report));
        assert!(report.text().contains("latency in us"));
    }

    #[test]
    fn the_text_has_every_part() {
        let text = examples::report().text();
        for part in [
            "workload a (50 % read, 50 % update)",
            "1000 records of 100 bytes",
            "8 partitions, 3 replicas",
            "2 workers (1 connection x 2 in flight), 1 thread pinned to CPU 1",
            "read is 2.50 x an unproven floor (echo) at p50",
            "1/0              2000       900        110.0",
            "NOTE: this floor is not proven",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }
}

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

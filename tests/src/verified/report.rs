//! What a scenario prints.

use anyhow::{Result, ensure};
use sim::history::Violation;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// How clients fared through one scenario.
#[derive(Debug)]
pub struct Report {
    pub scenario: String,
    /// From the first success of all partitions to the end.
    pub span: Duration,
    /// Acknowledged.
    pub writes: u64,
    pub reads: u64,
    /// By operation, what is known about its execution, and code.
    pub failures: BTreeMap<String, u64>,
    /// The longest time without a successful write, and in which partition.
    pub longest_without_write: (Duration, u32),
    pub longest_without_read: (Duration, u32),
    /// Whether one copy of the data could have said all that clients heard.
    pub verdict: Result<(), Violation>,
}

impl Report {
    pub(super) fn print(&self) {
        eprintln!(
            "| scenario | operations | errors | longest without a write | longest without a read | history |\n\
             |---|---|---|---|---|---|\n{self}"
        );
    }

    /// An error unless the history has an explanation.
    pub fn check(&self) -> Result<()> {
        let verdict = &self.verdict;
        ensure!(verdict.is_ok(), "{}: {verdict:?}", self.scenario);
        ensure!(
            self.writes > 0 && self.reads > 0,
            "{}: a history without writes or reads says nothing",
            self.scenario
        );
        Ok(())
    }
}

/// A row of the table in the README.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "| {} | {} writes, {} reads in {:.0} s | ",
            self.scenario,
            self.writes,
            self.reads,
            self.span.as_secs_f64()
        )?;
        if self.failures.is_empty() {
            f.write_str("none")?;
        }
        for (number, (kind, count)) in self.failures.iter().enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            write!(f, "{comma}{count} {kind}")?;
        }
        for (gap, _) in [self.longest_without_write, self.longest_without_read] {
            write!(f, " | {:.2} s", gap.as_secs_f64())?;
        }
        match &self.verdict {
            Ok(()) => f.write_str(" | linearizable, nothing lost |"),
            Err(violation) => write!(f, " | **{violation}** |"),
        }
    }
}

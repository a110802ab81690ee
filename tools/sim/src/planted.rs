//! Deliberate bugs: does the simulator bite? Nothing that checks knows which one is at work.

use crate::history::{Broken, Violation};
use crate::run::run_one;
use crate::world::Judges;
use anyhow::{Context, Result, ensure};
use pegasus_replication::planted::{BUGS, Bug, plant};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Seeds of one bug in the file, at most: enough that a change elsewhere does not hide it from all of them.
const SEEDS_MAX: usize = 5;

/// Bugs that the history of clients alone must show, at least.
const BY_HISTORY_MIN: usize = 3;

/// Switches the bug of this name on, if one is named.
pub(crate) fn switch_on(name: Option<&str>) -> Result<()> {
    if let Some(name) = name {
        plant(bug(name)?.1);
    }
    Ok(())
}

fn bug(name: &str) -> Result<(&'static str, Bug)> {
    let known = BUGS.iter().find(|(known, _)| *known == name);
    let known = known.with_context(|| {
        let names: Vec<&str> = BUGS.iter().map(|(name, _)| *name).collect();
        format!("no bug {name:?}; there are {}", names.join(", "))
    })?;
    Ok(*known)
}

/// Runs every bug of the file on its seeds. Each must be found by one of them at least; those marked "by history" by what
/// clients saw alone, and there must be enough of those. No bug may be missing.
///
/// # Errors
/// The file cannot be read, says something else than bugs and seeds, or lacks a bug.
pub(crate) fn run(file: &Path, span: Duration) -> Result<ExitCode> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim());
    let (mut are_found, mut by_history) = (true, 0);
    let mut named = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let record = Record::parse(line)?;
        let found = record.replay(span);
        are_found &= found > 0;
        by_history += usize::from(record.judges == Judges::History);
        named.push(record.name);
    }
    for (name, _) in BUGS {
        ensure!(
            named.contains(&name),
            "{name}: {} has no seed that finds it",
            file.display()
        );
    }
    ensure!(
        by_history >= BY_HISTORY_MIN,
        "{by_history} bugs are found by history alone, {BY_HISTORY_MIN} are wanted"
    );
    Ok(if are_found {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// A line of the file.
#[derive(Debug)]
struct Record {
    name: &'static str,
    bug: Bug,
    judges: Judges,
    seeds: Vec<u64>,
}

impl Record {
    fn parse(line: &str) -> Result<Self> {
        let (name, seeds) = line
            .split_once(':')
            .with_context(|| format!("{line:?} is not NAME: SEEDS"))?;
        let (name, judges) = match name.trim().strip_suffix(" by history") {
            Some(name) => (name.trim(), Judges::History),
            None => (name.trim(), Judges::All),
        };
        let (name, bug) = bug(name)?;
        let seeds: Vec<u64> = seeds
            .split_whitespace()
            .map(|seed| seed.parse().with_context(|| format!("{seed:?} is no seed")))
            .collect::<Result<_>>()?;
        ensure!(
            (1..=SEEDS_MAX).contains(&seeds.len()),
            "{name}: 1 to {SEEDS_MAX} seeds are wanted"
        );
        Ok(Self {
            name,
            bug,
            judges,
            seeds,
        })
    }

    /// How many of the seeds find it.
    #[allow(
        clippy::print_stdout,
        reason = "the summary is what the program is for"
    )]
    fn replay(&self, span: Duration) -> usize {
        plant(self.bug);
        let (name, of) = (self.name, self.seeds.len());
        let findings: Vec<(u64, Violation)> = self
            .seeds
            .iter()
            .filter_map(|&seed| Some((seed, run_one(seed, span, false, self.judges).err()?)))
            // An assertion of the code itself ends a run too, and is not what clients saw.
            .filter(|(_, it)| self.judges == Judges::All || it.broken == Broken::History)
            .collect();
        let count = findings.len();
        match findings.first() {
            Some((seed, violation)) => {
                println!("{name}: found by {count} of {of} seeds, {seed}: {violation}");
            }
            None => println!("{name}: NOT FOUND by any of {:?}", self.seeds),
        }
        count
    }
}

//! Deliberate bugs: does the simulator bite? Nothing that checks knows which one is at work.

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
        plant(bug(name)?);
    }
    Ok(())
}

fn bug(name: &str) -> Result<Bug> {
    let known = BUGS.iter().find(|(known, _)| *known == name);
    let (_, bug) = known.with_context(|| {
        let names: Vec<&str> = BUGS.iter().map(|(name, _)| *name).collect();
        format!("no bug {name:?}; there are {}", names.join(", "))
    })?;
    Ok(*bug)
}

/// Runs every bug of the file on its seeds. Each must be found by one of them at least; those marked "by history" by what
/// clients saw alone, and there must be enough of those.
#[allow(
    clippy::print_stdout,
    reason = "the summary is what the program is for"
)]
pub(crate) fn run(file: &Path, span: Duration) -> Result<ExitCode> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim());
    let (mut found_all, mut by_history) = (true, 0);
    let mut named = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, seeds) = line
            .split_once(':')
            .with_context(|| format!("{line:?} is not NAME: SEEDS"))?;
        let (name, judges) = match name.trim().strip_suffix(" by history") {
            Some(name) => (name.trim(), Judges::History),
            None => (name.trim(), Judges::All),
        };
        plant(bug(name)?);
        let seeds: Vec<u64> = seeds
            .split_whitespace()
            .map(|seed| seed.parse().with_context(|| format!("{seed:?} is no seed")))
            .collect::<Result<_>>()?;
        ensure!(
            (1..=SEEDS_MAX).contains(&seeds.len()),
            "{name}: 1 to {SEEDS_MAX} seeds are wanted"
        );
        let found = seeds.iter().find_map(|&seed| {
            let violation = run_one(seed, span, false, judges).err()?;
            Some((seed, violation))
        });
        match &found {
            Some((seed, violation)) => println!("{name}: found by seed {seed}: {violation}"),
            None => println!("{name}: NOT FOUND by any of {seeds:?}"),
        }
        found_all &= found.is_some();
        by_history += usize::from(judges == Judges::History);
        named.push(name.to_owned());
    }
    for (name, _) in BUGS {
        if !named.iter().any(|it| it == name) {
            println!("{name}: no seed is known that finds it");
        }
    }
    ensure!(
        by_history >= BY_HISTORY_MIN,
        "{by_history} bugs are found by history alone, {BY_HISTORY_MIN} are wanted"
    );
    Ok(if found_all {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

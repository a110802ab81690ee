//! Runs the production shard and meta state machines on virtual time, with a network, disks and faults of a seed's making.
//!
//! One seed is one run, always the same. Reading order: `scenario`, `world`; a node: `node`, `cores`, `perform`, `storage`,
//! `disk`, `clock`, `transfer`; what lies between: `network`, `links`, `meta`, `assignment`,
//! `clients`, `atomics`; `faults`. What is checked: `checks` after every
//! event, `history` and `settle` at the end; `coverage` shows that it was worth it.

#![forbid(unsafe_code)]

mod action;
mod assignment;
mod atomics;
mod balance;
mod checks;
mod clients;
mod clock;
mod cores;
mod coverage;
mod disk;
mod faults;
mod links;
mod meta;
mod network;
mod node;
mod perform;
#[cfg(feature = "planted")]
mod planted;
mod random;
mod run;
mod scenario;
mod settle;
mod storage;
mod trace;
mod transfer;
mod world;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use run::OnFailure;
use sim::history;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use world::Judges;

#[derive(Parser)]
#[command(
    version,
    about = "Seeded simulation of replication and meta: crashes, pauses, cuts, drift, disks that lie"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run many seeds and stop at the first that fails.
    Run {
        /// Seeds from A to B, for example 1..1000.
        #[arg(long, value_parser = parse_seeds, required_unless_present = "seeds_file")]
        seeds: Option<RangeInclusive<u64>>,
        /// Seeds that failed once, one a line, # begins a comment.
        #[arg(long)]
        seeds_file: Option<PathBuf>,
        /// Virtual seconds of each run.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
        seconds: u64,
        /// Runs at once.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
        jobs: u16,
        /// Go on when a seed has failed.
        #[arg(long)]
        keep_going: bool,
        /// Judge by what clients saw alone.
        #[arg(long)]
        history_only: bool,
        /// Switch this deliberate bug on.
        #[cfg(feature = "planted")]
        #[arg(long)]
        plant: Option<String>,
    },
    /// Run the planner of balance on a cluster of any size.
    Balance(balance::Arguments),
    /// Run one seed again.
    Replay {
        seed: u64,
        /// Print every event and effect on standard error.
        #[arg(long)]
        trace: bool,
        /// Switch this deliberate bug on.
        #[cfg(feature = "planted")]
        #[arg(long)]
        plant: Option<String>,
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
        seconds: u64,
    },
    /// Run each deliberate bug on the seeds that have found it; every one must be found again.
    #[cfg(feature = "planted")]
    Planted {
        /// A line for each bug: its name, a colon, seeds; # begins a comment.
        #[arg(long)]
        file: PathBuf,
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
        seconds: u64,
    },
}

fn main() -> Result<ExitCode> {
    match Arguments::parse().command {
        Command::Run {
            seeds,
            seeds_file,
            seconds,
            jobs,
            keep_going,
            history_only,
            #[cfg(feature = "planted")]
            plant,
        } => {
            #[cfg(feature = "planted")]
            planted::switch_on(plant.as_deref())?;
            let mut all: Vec<u64> = seeds.into_iter().flatten().collect();
            if let Some(file) = seeds_file {
                all.extend(read_seeds(&file)?);
            }
            let on_failure = if keep_going {
                OnFailure::GoOn
            } else {
                OnFailure::Stop
            };
            let span = Duration::from_secs(seconds);
            let judges = if history_only {
                Judges::History
            } else {
                Judges::All
            };
            Ok(run::run_all(&all, span, jobs, on_failure, judges))
        }
        Command::Balance(arguments) => balance::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Replay {
            seed,
            trace,
            #[cfg(feature = "planted")]
            plant,
            seconds,
        } => {
            #[cfg(feature = "planted")]
            planted::switch_on(plant.as_deref())?;
            Ok(run::replay(seed, Duration::from_secs(seconds), trace))
        }
        #[cfg(feature = "planted")]
        Command::Planted { file, seconds } => planted::run(&file, Duration::from_secs(seconds)),
    }
}

fn parse_seeds(text: &str) -> Result<RangeInclusive<u64>> {
    let (first, last) = text
        .split_once("..")
        .context("seeds are given as A..B, for example 1..1000")?;
    let (first, last) = (first.parse()?, last.trim_start_matches('=').parse()?);
    ensure!(
        first <= last,
        "seeds {first}..{last}: the first is after the last"
    );
    Ok(first..=last)
}

fn read_seeds(file: &PathBuf) -> Result<Vec<u64>> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim());
    let seeds = lines.filter(|line| !line.is_empty());
    seeds
        .map(|line| {
            line.parse()
                .with_context(|| format!("{}: {line:?} is no seed", file.display()))
        })
        .collect()
}

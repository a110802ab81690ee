//! `pegasus-quick`: how many instructions the hot paths take, counted by callgrind. Counts do not depend on what else the
//! machine does, so that a tenth more is found at once and on any machine with the same compiler; times are `pegasus-bench`'s
//! business.
//!
//! Reading order: `cases` (what is counted), `count` (how), `record` (what it was held against).

#![forbid(unsafe_code)]

mod cases;
mod count;
mod record;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use record::Record;
use std::path::PathBuf;
use std::process::ExitCode;

/// Count the instructions of the hot paths, and hold them against those that were recorded.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Count all, and fail with the numbers if one takes a tenth more than was recorded (exit code 1)
    Check {
        /// What was recorded
        #[arg(long, default_value = "bench/quick/counts.toml")]
        counts: PathBuf,
    },
    /// Count all, and record them
    Update {
        #[arg(long, default_value = "bench/quick/counts.toml")]
        counts: PathBuf,
        /// Of which commit they are
        #[arg(long)]
        commit: String,
    },
    /// Only run one, for callgrind or perf to watch
    Run {
        #[arg(value_parser = clap::builder::PossibleValuesParser::new(cases::ALL.map(|case| case.name)))]
        case: String,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Check { counts } => check(&counts),
        Command::Update { counts, commit } => count::all()
            .and_then(|measured| Record::new(commit, measured).write(&counts))
            .map(|()| true),
        Command::Run { case } => cases::run(&case).map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("pegasus-quick: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn check(path: &std::path::Path) -> anyhow::Result<bool> {
    let record = Record::read(path).context("`make bench-quick UPDATE=1` records anew")?;
    let verdict = record.judge(&count::all()?);
    eprint!("{}", verdict.text());
    Ok(verdict.is_fine())
}

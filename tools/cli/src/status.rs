//! `pegasus status`: is the cluster healthy; if not, which partitions, since when, why, and what to do about it.
//!
//! Meta knows most of it (`facts.rs`); what a node alone knows, whether its cores answer, they are asked. What it means
//! is decided without asking anybody (`diagnose.rs`, `partition.rs`).

mod diagnose;
mod facts;
#[cfg(test)]
pub(crate) mod fake;
mod partition;
#[cfg(test)]
mod tests;

use crate::connect::Connect;
use crate::exit::{Exit, Failed, exit_of};
use crate::output::{Output, Style, note};
use clap::Args;
pub(crate) use diagnose::{Report, Severity, span};
pub(crate) use facts::Facts;
use std::time::Duration;

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Look again every so many seconds, until interrupted
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "2",
        value_parser = clap::value_parser!(u64).range(1..=3_600)
    )]
    watch: Option<u64>,
    /// Ask meta only, not the cores of the nodes
    #[arg(long)]
    quick: bool,
}

pub(crate) const AFTER_HELP: &str = "\
Exit codes, for scripts and probes:
  0  healthy: every partition serves and has all its replicas
  1  degraded: everything is served, and something is missing or about to become a problem
  2  unavailable: some partitions serve no reads or take no writes (and: the command line is wrong)
  4  nobody knows: meta does not answer; the addresses that were tried are named

Each finding names since when, why, and what to type. What needs nobody is said too: a copy on its way, the time until
a lost one is replaced.";

pub(crate) async fn run(
    options: &Status,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let Some(seconds) = options.watch else {
        let report = look(options, connect).await?;
        show(&report, out)?;
        return end(report.severity());
    };
    loop {
        let looked = look(options, connect).await;
        if out.style == Style::People {
            out.clear_screen()?;
        }
        match looked {
            Ok(report) if out.style == Style::Json => out.json_line(&report.to_json())?,
            Ok(report) => show(&report, out)?,
            // Meta may come back.
            Err(error) if exit_of(&error) == Exit::Unavailable => {
                note(format!("pegasus: {error:#}"))
            }
            Err(error) => return Err(error),
        }
        out.flush()?;
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

async fn look(options: &Status, connect: &Connect) -> anyhow::Result<Report> {
    let facts = Facts::collect(connect, !options.quick).await?;
    Ok(Report::of(&facts))
}

fn show(report: &Report, out: &mut Output) -> anyhow::Result<()> {
    match out.style {
        Style::Json => out.json(&report.to_json()),
        Style::People => Ok(out.line(report.to_text())?),
    }
}

/// The exit code is part of the answer, and said on standard output already.
fn end(severity: Severity) -> anyhow::Result<()> {
    match severity {
        Severity::Note => Ok(()),
        Severity::Degraded => Err(Failed::told(Exit::Failed)),
        // The same number as a wrong command line, as monitoring programs have it.
        Severity::Unavailable => Err(Failed::told(Exit::Usage)),
    }
}

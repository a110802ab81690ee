//! `pegasus tune check`: everything as a table, or as JSON.

use super::row::{Row, Verdict};
use super::{Subject, rows};
use crate::exit::{Exit, Failed};
use crate::output::{Output, Style, table};
use clap::Args;
use serde_json::json;
use std::io::IsTerminal as _;

/// Columns where there is no terminal to ask.
const WIDTH: u16 = 150;

#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    subject: Subject,
    /// Fail for advice, too
    #[arg(long)]
    strict: bool,
}

pub(super) fn run(options: &Check, out: &mut Output) -> anyhow::Result<()> {
    let settings = options.subject.settings()?;
    let rows = rows::all(&options.subject.root(), &settings);
    match out.style {
        Style::Json => out.json(&json!({ "rows": rows, "worst": worst(&rows).name() }))?,
        Style::People => show(&rows, out)?,
    }
    let limit = if options.strict {
        Verdict::Advice
    } else {
        Verdict::Warn
    };
    match rows.iter().any(|row| rank(row.verdict) >= rank(limit)) {
        true => Err(Failed::told(Exit::Failed)),
        false => Ok(()),
    }
}

const fn rank(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Ok => 0,
        Verdict::Unknown => 1,
        Verdict::Advice => 2,
        Verdict::Warn => 3,
    }
}

fn worst(rows: &[Row]) -> Verdict {
    let worst = rows
        .iter()
        .map(|row| row.verdict)
        .max_by_key(|verdict| rank(*verdict));
    worst.unwrap_or(Verdict::Ok)
}

fn show(rows: &[Row], out: &mut Output) -> anyhow::Result<()> {
    let mut shown = table(&["verdict", "what", "now", "should be", "why"], &[]);
    if !std::io::stdout().is_terminal() {
        shown.set_width(WIDTH);
    }
    for row in rows {
        shown.add_row([
            row.verdict.name(),
            &row.what(),
            &row.now,
            &row.wanted,
            &row.why,
        ]);
    }
    out.table(&shown)?;
    let count = |verdict| rows.iter().filter(|row| row.verdict == verdict).count();
    out.line(format!(
        "{} ok, {} unknown, {} advice, {} warn",
        count(Verdict::Ok),
        count(Verdict::Unknown),
        count(Verdict::Advice),
        count(Verdict::Warn)
    ))?;
    let fixable = rows.iter().filter(|row| !row.fixes.is_empty()).count();
    if fixable > 0 {
        out.line(format!(
            "`pegasus tune apply`, as root, puts {fixable} of them right; --dry-run shows how."
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tune::fake::Fake;

    #[test]
    fn the_worst_of_a_good_machine_is_ok() {
        let fake = Fake::good();
        let settings = fake.settings();
        assert_eq!(worst(&rows::all(&fake.root(), &settings)), Verdict::Ok);
        fake.set("sys/block/nvme0n1/queue/scheduler", "none [bfq]\n");
        assert_eq!(worst(&rows::all(&fake.root(), &settings)), Verdict::Advice);
        fake.set("proc/sys/kernel/io_uring_disabled", "2\n");
        assert_eq!(worst(&rows::all(&fake.root(), &settings)), Verdict::Warn);
    }
}

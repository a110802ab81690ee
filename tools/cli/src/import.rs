//! `pegasus import`: a file of rows becomes rows of a table.
//!
//! `lines` reads and parses ahead on a thread of its own, `pump` writes; between them only a few batches wait.

#[cfg(test)]
mod any_bytes;
pub(crate) mod columns;
mod lines;
mod pump;

use crate::connect::Connect;
use crate::exit::{Exit, Failed, exit_of};
use crate::interrupt::interrupted;
use crate::output::{Output, Style, note};
use crate::progress::Progress;
use crate::rows::put;
use clap::Args;
use columns::{Format, Row, Selection};
use lines::{Header, Input};
use pegasus_client::Table;
use pump::{BadLines, Options, Target};
use std::cell::Cell;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Args)]
#[command(after_help = "\
TSV is raw bytes without escapes: no tab or newline can be part of a cell. JSONL takes text, numbers and
{\"b64\": \"..\"} for binary; its fields are called hash_key, sort_key, value and ttl unless named otherwise.
Where two lines have the same key, the later one wins. A carriage return at the end of a line belongs to its last column.

A row is acknowledged when it is durable on all replicas. When an import stops it prints up to which line everything
is acknowledged; --from-line goes on there. Importing a line twice does no harm.

Examples:
  pegasus import data.tsv --table demo --format tsv --hash-key 1 --sort-key 2 --value 3
  pegasus import data.tsv --table demo --format tsv --header --hash-key id --value body --ttl expires_in
  zcat dump.jsonl.gz | pegasus import - --table demo --format jsonl")]
pub(crate) struct Import {
    /// The file; - is standard input
    file: PathBuf,
    /// The table to write to
    #[arg(long)]
    table: String,
    /// How the file is written
    #[arg(long, value_enum)]
    format: Format,
    /// Column (number from 1, or name with --header) or JSON field of the hash key [default: 1, hash_key]
    #[arg(long, value_name = "COLUMN")]
    hash_key: Option<String>,
    /// Column or field of the sort key [default: an empty sort key, sort_key]
    #[arg(long, value_name = "COLUMN")]
    sort_key: Option<String>,
    /// Column or field of the value [needed for TSV; default: value]
    #[arg(long, value_name = "COLUMN")]
    value: Option<String>,
    /// Column or field of the time to live in seconds; empty or 0 = the row stays [default: none, ttl]
    #[arg(long, value_name = "COLUMN")]
    ttl: Option<String>,
    /// The first line of the TSV file names the columns
    #[arg(long)]
    header: bool,
    /// Start at this line (the first is 1, a header counts)
    #[arg(
        long,
        value_name = "LINE",
        default_value_t = 1,
        allow_negative_numbers = true
    )]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    from_line: u64,
    /// Name lines that cannot be read as rows and leave them out, instead of stopping
    #[arg(long)]
    skip_bad: bool,
    /// Rows under way at the same time, 1 to 10000
    #[arg(
        long,
        value_name = "ROWS",
        default_value_t = 256,
        allow_negative_numbers = true
    )]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=10_000))]
    concurrency: u16,
    /// Seconds to try a row that is refused for the moment, before the import stops
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 60,
        allow_negative_numbers = true
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(..=86_400))]
    give_up_after: u32,
}

/// The last lines on standard output.
#[derive(Debug, serde::Serialize)]
struct Report {
    rows: u64,
    row_bytes: u64,
    bad_lines_skipped: u64,
    retries: u64,
    seconds: f64,
    acknowledged_to_line: u64,
    error: Option<String>,
}

pub(crate) async fn run(
    import: &Import,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    if import.header && import.format == Format::Jsonl {
        return Err(Failed::usage(
            "--header: JSONL has none, its fields have names",
        ));
    }
    let input = Input::open(&import.file)?;
    let total_bytes = input.total_bytes;
    let header = if import.header {
        Header::Present
    } else {
        Header::Absent
    };
    let lines = input.start(import.format, &import.selection(), header, import.from_line)?;
    let client = connect
        .client_with(|options| {
            options.inflight_max = options.inflight_max.max(import.concurrency.into())
        })
        .await?;
    let target = TableTarget {
        table: client.table(&import.table).await?,
        progress: Progress::new("imported", total_bytes),
        bad_named: Cell::new(0),
    };
    let (progress, result) = pump::run(
        &target,
        lines,
        &import.options(),
        import.from_line,
        interrupted(),
    )
    .await;
    target.progress.finish();
    report(&target.progress, &progress, &result, out)?;
    result.map_err(|error| {
        let exit = match exit_of(&error) {
            // Every row that was left is safe to write again: nothing is lost by going on.
            Exit::Unknown => Exit::Unavailable,
            exit => exit,
        };
        Failed::error(
            exit,
            format!(
                "{error:#}\n{}",
                how_far(progress.acknowledged_line, import.from_line)
            ),
        )
    })
}

/// Where an import that stopped goes on.
fn how_far(acknowledged_line: u64, from_line: u64) -> String {
    if acknowledged_line < from_line {
        return format!(
            "nothing from line {from_line} on is known to be acknowledged; the same command tries again"
        );
    }
    format!(
        "everything up to line {acknowledged_line} is acknowledged; go on with --from-line {}",
        acknowledged_line + 1
    )
}

impl Import {
    fn selection(&self) -> Selection {
        Selection {
            hash_key: self.hash_key.clone(),
            sort_key: self.sort_key.clone(),
            value: self.value.clone(),
            ttl: self.ttl.clone(),
        }
    }

    fn options(&self) -> Options {
        Options {
            concurrency: self.concurrency.into(),
            bad_lines: if self.skip_bad {
                BadLines::Skip
            } else {
                BadLines::Stop
            },
            give_up_after: Duration::from_secs(self.give_up_after.into()),
            retry_pause: Duration::from_millis(20),
        }
    }
}

fn report(
    shown: &Progress,
    progress: &pump::Progress,
    result: &anyhow::Result<()>,
    out: &mut Output,
) -> anyhow::Result<()> {
    match out.style {
        Style::Json => out.json(&Report {
            rows: progress.rows,
            row_bytes: progress.row_bytes,
            bad_lines_skipped: progress.skipped,
            retries: progress.retries,
            seconds: shown.elapsed().as_secs_f64(),
            acknowledged_to_line: progress.acknowledged_line,
            error: result.as_ref().err().map(|error| format!("{error:#}")),
        }),
        Style::People => {
            let sentence = shown.sentence(progress.rows, progress.row_bytes);
            let skipped = match progress.skipped {
                0 => String::new(),
                lines => format!(", {lines} bad lines left out"),
            };
            note(format!("{sentence}{skipped}"));
            Ok(())
        }
    }
}

struct TableTarget {
    table: Table,
    progress: Progress,
    bad_named: Cell<u32>,
}

impl Target for TableTarget {
    async fn put(&self, row: &Row) -> anyhow::Result<()> {
        put(
            &self.table,
            &row.hash_key,
            &row.sort_key,
            &row.value,
            row.ttl_seconds,
        )
        .await
    }

    fn progress(&self, progress: &pump::Progress) {
        self.progress.update(progress.rows, progress.file_bytes);
    }

    fn bad_line(&self, number: u64, reason: &anyhow::Error) {
        const NAMED_MAX: u32 = 20;
        let named = self.bad_named.get() + 1;
        self.bad_named.set(named);
        if named <= NAMED_MAX {
            self.progress
                .say(&format!("line {number} left out: {reason:#}"));
        } else if named == NAMED_MAX + 1 {
            self.progress.say("further bad lines are counted only");
        }
    }
}

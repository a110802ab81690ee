//! `pegasus copy-data`: rows of a table into another one, also of another cluster.

use super::sizes::row_bytes;
use super::state::{Copy, State};
use crate::connect::Connect;
use crate::exit::{Exit, Failed};
use crate::filters::{Selection, passes};
use crate::interrupt::interrupted;
use crate::output::{Output, Style, count, note};
use crate::patience::until_done;
use crate::progress::Progress;
use crate::walk::{Met, Pace, walk};
use clap::Args;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use pegasus_client::{Check, CheckKind, Expiry, Row, Set, Table};
use serde_json::json;
use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(Debug, Args)]
#[command(after_help = "\
The other table has to exist; it may have another number of partitions. Rows keep their times to live. Rows written to the
first table meanwhile may or may not be copied.

With --state the copy remembers how far it came; the same command goes on from there after Ctrl-C, or a failure, and the file
is removed at the end. Some rows may then be copied twice, which changes nothing but with --no-overwrite what is counted.

Examples:
  pegasus copy-data demo --to demo2
  pegasus copy-data demo --to demo --to-meta 10.0.0.9:34601 --rows-per-second 20000 --state demo.copy")]
pub(crate) struct CopyData {
    /// The table to read
    table: String,
    /// The table to write
    #[arg(long, value_name = "TABLE")]
    to: String,
    /// Meta servers of its cluster [default: this one]
    #[arg(long, value_name = "ADDR[,ADDR]", value_delimiter = ',', value_parser = crate::address)]
    to_meta: Vec<String>,
    #[command(flatten)]
    selection: Selection,
    /// Leave rows alone that are there already
    #[arg(long)]
    no_overwrite: bool,
    /// The copies do not expire
    #[arg(long)]
    no_ttl: bool,
    /// Copy keys only: values are empty
    #[arg(long)]
    no_value: bool,
    /// Rows under way in each of four partitions
    #[arg(long, value_name = "ROWS", default_value_t = 32)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_024))]
    concurrency: u32,
    /// At most so many a second
    #[arg(long, value_name = "ROWS")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    rows_per_second: Option<u32>,
    /// Remember in this file how far it came
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
}

/// A copy under way.
struct Running<'a> {
    options: &'a CopyData,
    to: Table,
    state: RefCell<State>,
    saved: Cell<Instant>,
    copied: Cell<u64>,
    bytes: Cell<u64>,
    skipped: Cell<u64>,
    pace: Pace,
    progress: Progress,
}

pub(crate) async fn run(
    options: &CopyData,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let from = connect.table(&options.table).await?;
    let other = match options.to_meta.is_empty() {
        true => connect.clone(),
        false => connect.at(options.to_meta.clone()),
    };
    let to = other.table(&options.to).await?;
    if from.id() == to.id() && cluster(connect).await? == cluster(&other).await? {
        return Err(Failed::usage("a table cannot be copied onto itself"));
    }
    let copy = description(options, &from, &to)?;
    let state = match &options.state {
        Some(path) => State::load(path, copy)?,
        None => State::new(copy),
    };
    let running = Running {
        options,
        to,
        state: RefCell::new(state),
        saved: Cell::new(Instant::now()),
        copied: Cell::new(0),
        bytes: Cell::new(0),
        skipped: Cell::new(0),
        pace: Pace::new(options.rows_per_second),
        progress: Progress::new("copied", None),
    };
    let result = tokio::select! {
        biased;
        () = interrupted() => Err(Failed::error(Exit::Interrupted, "interrupted")),
        result = running.all(&from) => result,
    };
    running.progress.finish();
    match result {
        Ok(()) => running.tell(out),
        Err(error) => Err(running.stopped(error)),
    }
}

/// Its number.
async fn cluster(connect: &Connect) -> anyhow::Result<u128> {
    Ok(connect.client().await?.list_nodes().await?.cluster_id)
}

fn description(options: &CopyData, from: &Table, to: &Table) -> anyhow::Result<Copy> {
    let scan = options.selection.scan(options.no_value)?;
    let value = options.selection.value()?;
    let filters = (&scan.hash_filter, &scan.sort_filter, &value);
    let how = (
        options.selection.partition,
        options.no_overwrite,
        options.no_ttl,
        options.no_value,
    );
    Ok(Copy {
        from: options.table.clone(),
        from_number: from.id(),
        partitions: from.partition_count(),
        to_meta: options.to_meta.clone(),
        to: options.to.clone(),
        to_number: to.id(),
        selection: format!("{filters:?} {how:?}"),
    })
}

impl Running<'_> {
    async fn all(&self, from: &Table) -> anyhow::Result<()> {
        let options = self.options;
        let filter = options.selection.value()?;
        let scan = options
            .selection
            .scan(options.no_value && filter.is_none())?;
        let start = |partition| self.state.borrow().start(partition);
        let each = async |partition, met| match met {
            Met::Rows(rows) => {
                let last = rows
                    .last()
                    .map(|row| (row.hash_key.clone(), row.sort_key.clone()));
                let rows = rows.into_iter().filter(|row| passes(row, filter.as_ref()));
                let copies = rows.map(|row| self.copy(row));
                let at_once = options.concurrency as usize;
                let copies = stream::iter(copies).buffer_unordered(at_once);
                copies.try_collect::<()>().await?;
                if let Some((hash_key, sort_key)) = last {
                    self.state
                        .borrow_mut()
                        .copied(partition, (&hash_key, &sort_key));
                }
                self.save_now_and_then()
            }
            Met::End => {
                self.state.borrow_mut().finished(partition);
                self.save_now_and_then()
            }
        };
        let partitions = options.selection.partitions(from)?;
        // Runs of partitions that are not done yet.
        let mut next = partitions.start;
        while next < partitions.end {
            let is_done = |partition: &u32| self.state.borrow().is_done(*partition);
            let first = (next..partitions.end)
                .find(|it| !is_done(it))
                .unwrap_or(partitions.end);
            let end = (first..partitions.end)
                .find(is_done)
                .unwrap_or(partitions.end);
            walk(from, first..end, &scan, start, each).await?;
            next = end;
        }
        Ok(())
    }

    async fn copy(&self, row: Row) -> anyhow::Result<()> {
        self.pace.take(1).await;
        let is_written = until_done(async || self.put(&row).await).await?;
        let (count, bytes) = (self.copied.get(), self.bytes.get());
        match is_written {
            true => self.copied.set(count + 1),
            false => self.skipped.set(self.skipped.get() + 1),
        }
        self.bytes.set(bytes + row_bytes(&row) as u64);
        self.progress.update(self.copied.get(), self.bytes.get());
        Ok(())
    }

    /// Whether the row was written.
    async fn put(&self, row: &Row) -> pegasus_client::Result<bool> {
        let expiry = match row.expire_at {
            0 => Expiry::Default,
            _ if self.options.no_ttl => Expiry::Default,
            second => Expiry::At(second),
        };
        let value = match self.options.no_value {
            true => &[][..],
            false => &row.value[..],
        };
        let (hash_key, sort_key) = (&row.hash_key, &row.sort_key);
        match self.options.no_overwrite {
            true if !hash_key.is_empty() => {
                let absent = Check {
                    sort_key: sort_key.clone(),
                    kind: CheckKind::NotExist,
                    operand: Vec::new().into(),
                };
                let set = Set {
                    sort_key: None,
                    value: value.to_vec().into(),
                    expiry,
                };
                let outcome = self.to.check_and_set(hash_key, &absent, &set).await?;
                return Ok(outcome.passed);
            }
            // Nothing is atomic on a row without a hash key.
            true if self.to.exist(hash_key, sort_key).await? => return Ok(false),
            _ => {}
        }
        (self.to.put_with_expiry(hash_key, sort_key, value, expiry)).await?;
        Ok(true)
    }

    fn save_now_and_then(&self) -> anyhow::Result<()> {
        const EVERY: Duration = Duration::from_secs(1);
        let Some(path) = &self.options.state else {
            return Ok(());
        };
        if self.saved.get().elapsed() < EVERY {
            return Ok(());
        }
        self.saved.set(Instant::now());
        self.save(path)
    }

    fn save(&self, path: &Path) -> anyhow::Result<()> {
        let mut state = self.state.borrow().clone();
        state.rows += self.copied.get();
        state.save(path)
    }

    fn stopped(&self, error: anyhow::Error) -> anyhow::Error {
        let rows = count(self.copied.get());
        let Some(path) = &self.options.state else {
            return error.context(format!("after {rows} rows"));
        };
        match self.save(path) {
            Ok(()) => {
                let place = path.display();
                error.context(format!(
                    "after {rows} rows; the same command goes on from {place}"
                ))
            }
            Err(unsaved) => {
                error.context(format!("after {rows} rows, not remembered: {unsaved:#}"))
            }
        }
    }

    fn tell(&self, out: &mut Output) -> anyhow::Result<()> {
        if let Some(path) = &self.options.state {
            // There is nothing to go on with.
            let _ = std::fs::remove_file(path);
        }
        let (copied, skipped) = (self.copied.get(), self.skipped.get());
        let before = self.state.borrow().rows;
        match out.style {
            Style::Json => out.json(&json!({
                "copied": copied, "left_alone": skipped, "copied_before": before, "bytes": self.bytes.get(),
                "seconds": self.progress.elapsed().as_secs_f64(),
            })),
            Style::People => {
                if before > 0 {
                    note(format!("{} rows were copied before", count(before)));
                }
                if skipped > 0 {
                    note(format!("{} rows were there already", count(skipped)));
                }
                Ok(out.line(self.progress.sentence(copied, self.bytes.get()))?)
            }
        }
    }
}

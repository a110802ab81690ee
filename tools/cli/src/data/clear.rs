//! `pegasus clear-data`: deletes rows of a table, which stays.

use crate::confirm::confirm;
use crate::connect::Connect;
use crate::exit::{Exit, Failed};
use crate::filters::{Selection, passes};
use crate::interrupt::interrupted;
use crate::output::{Output, Style, count};
use crate::patience::until_done;
use crate::progress::Progress;
use crate::rows::many::remove_all;
use crate::walk::{Met, Pace, walk};
use clap::Args;
use pegasus_client::{Row, Table};
use serde_json::json;
use std::cell::Cell;

#[derive(Debug, Args)]
#[command(after_help = "\
To get rid of a whole table, `table drop` is quicker, and can be undone. Rows written meanwhile may or may not be deleted.

Examples:
  pegasus clear-data demo --hash-prefix test-
  pegasus clear-data demo --yes --rows-per-second 5000")]
pub(crate) struct ClearData {
    /// Name of the table
    table: String,
    #[command(flatten)]
    selection: Selection,
    /// At most so many a second
    #[arg(long, value_name = "ROWS")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    rows_per_second: Option<u32>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn run(
    options: &ClearData,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let table = connect.table(&options.table).await?;
    let partitions = options.selection.partitions(&table)?;
    if !options.yes {
        confirm(&question(options, &table).await?)?;
    }
    let filter = options.selection.value()?;
    let scan = options.selection.scan(filter.is_none())?;
    let (removed, progress) = (Cell::new(0), Progress::new("deleted", None));
    let pace = Pace::new(options.rows_per_second);
    let each = async |_, met| {
        let Met::Rows(mut rows) = met else {
            return Ok(());
        };
        rows.retain(|row| passes(row, filter.as_ref()));
        for same in rows.chunk_by(|a, b| a.hash_key == b.hash_key) {
            for some in same.chunks(100) {
                remove(&table, some, &pace).await?;
                removed.set(removed.get() + some.len() as u64);
                progress.update(removed.get(), 0);
            }
        }
        Ok(())
    };
    let result = tokio::select! {
        biased;
        () = interrupted() => Err(Failed::error(Exit::Interrupted, "interrupted")),
        result = walk(&table, partitions, &scan, |_| None, each) => result,
    };
    progress.finish();
    if let Err(error) = result {
        return Err(error.context(format!("after {} rows", count(removed.get()))));
    }
    match out.style {
        Style::Json => out.json(&json!({ "table": options.table, "removed": removed.get() })),
        Style::People => Ok(out.line(format!("deleted {} rows", count(removed.get())))?),
    }
}

async fn remove(table: &Table, rows: &[Row], pace: &Pace) -> anyhow::Result<()> {
    let Some(first) = rows.first() else {
        return Ok(());
    };
    pace.take(u32::try_from(rows.len()).unwrap_or(u32::MAX))
        .await;
    until_done(async || remove_all(table, &first.hash_key, rows).await).await?;
    Ok(())
}

/// How many rows it is about is said where the servers can count them.
async fn question(options: &ClearData, table: &Table) -> anyhow::Result<String> {
    let name = &options.table;
    if options.selection.is_all()? {
        let rows = table.count(&options.selection.scan(true)?).await?;
        return Ok(format!("Delete all {} rows of table {name}?", count(rows)));
    }
    Ok(format!("Delete the rows of table {name} that fit?"))
}

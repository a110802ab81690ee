//! `pegasus export`: all rows of a table, in the forms that `pegasus import` reads.

mod target;

use crate::connect::Connect;
use crate::exit::{Exit, Failed};
use crate::import::columns::Format;
use crate::interrupt::interrupted;
use crate::output::{Output, Style, note};
use crate::patience::Patience;
use crate::progress::Progress;
use crate::text;
use anyhow::{Context as _, bail};
use clap::Args;
use pegasus_client::{FullScan, Row};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use target::Target;

#[derive(Debug, Args)]
#[command(after_help = "\
TSV has three columns: hash key, sort key, value, as raw bytes without escapes. A row that holds a tab or a newline
cannot be written that way: the export stops and names it; JSONL can write every row, and keeps times to live.
Rows come partition by partition, in the order of their keys within a hash key. Rows written during the export may or
may not be part of it.

Examples:
  pegasus export --table demo --format tsv --out demo.tsv
  pegasus export --table demo --format jsonl | gzip > demo.jsonl.gz")]
pub(crate) struct Export {
    /// The table to read
    #[arg(long)]
    table: String,
    /// How to write the rows
    #[arg(long, value_enum)]
    format: Format,
    /// The file to write, replaced as a whole once it is complete; pipes and devices are written as rows come
    /// [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(crate) async fn run(
    export: &Export,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let Some(path) = &export.out else {
        let written = write_rows(
            export,
            connect,
            BufWriter::new(io::stdout()),
            "standard output",
        );
        note(written.await?.sentence);
        return Ok(());
    };
    let written = match Target::open(path)? {
        Target::Stream(file) => write_to(export, connect, &file, path).await?,
        Target::Whole(part) => {
            let written = tokio::select! {
                biased;
                () = interrupted() => Err(Failed::error(
                    Exit::Interrupted,
                    format!("interrupted: {} is not written", path.display()),
                )),
                written = write_to(export, connect, &part.file, path) => written,
            }?;
            part.keep()?;
            written
        }
    };
    match out.style {
        Style::Json => out.json(&serde_json::json!({
            "rows": written.rows, "bytes": written.bytes, "seconds": written.seconds, "file": path,
        })),
        Style::People => {
            note(format!("{} to {}", written.sentence, path.display()));
            Ok(())
        }
    }
}

async fn write_to(
    export: &Export,
    connect: &Connect,
    file: &File,
    path: &Path,
) -> anyhow::Result<Written> {
    let out = BufWriter::with_capacity(1 << 20, file);
    write_rows(export, connect, out, &path.display().to_string()).await
}

struct Written {
    rows: u64,
    bytes: u64,
    seconds: f64,
    sentence: String,
}

async fn write_rows(
    export: &Export,
    connect: &Connect,
    mut out: impl Write,
    name: &str,
) -> anyhow::Result<Written> {
    let table = connect.table(&export.table).await?;
    let progress = Progress::new("exported", None);
    let mut scanner = table.full_scan(&FullScan::default());
    let (mut rows, mut bytes) = (0_u64, 0_u64);
    let mut line = Vec::new();
    let mut patience = Patience::new();
    while let Some(page) = scanner.next_page().await {
        let page = match page {
            Ok(page) => page,
            // The scanner asks again for the page that failed.
            Err(error) => {
                patience.wait_after(error).await?;
                continue;
            }
        };
        patience = Patience::new();
        for row in page {
            line.clear();
            write_row(export.format, &row, &mut line)?;
            out.write_all(&line).with_context(|| name.to_owned())?;
            rows += 1;
            bytes += line.len() as u64;
        }
        progress.update(rows, bytes);
    }
    out.flush().with_context(|| name.to_owned())?;
    progress.finish();
    Ok(Written {
        rows,
        bytes,
        seconds: progress.elapsed().as_secs_f64(),
        sentence: progress.sentence(rows, bytes),
    })
}

fn write_row(format: Format, row: &Row, line: &mut Vec<u8>) -> anyhow::Result<()> {
    match format {
        Format::Tsv => write_tsv(&[&row.hash_key, &row.sort_key, &row.value], line)?,
        Format::Jsonl => {
            serde_json::to_writer(&mut *line, &crate::rows::row_json(row)).context("row")?
        }
    }
    line.push(b'\n');
    Ok(())
}

fn write_tsv(cells: &[&[u8]; 3], line: &mut Vec<u8>) -> anyhow::Result<()> {
    for (index, (name, cell)) in ["hash key", "sort key", "value"]
        .into_iter()
        .zip(cells)
        .enumerate()
    {
        if let Some(byte) = cell.iter().find(|byte| matches!(byte, b'\t' | b'\n')) {
            let what = if *byte == b'\t' { "tab" } else { "newline" };
            bail!(
                "row with hash key {} and sort key {}: the {name} holds a {what}, which TSV cannot write; use --format jsonl",
                text::escape_short(cells[0], 100),
                text::escape_short(cells[1], 100)
            );
        }
        if index > 0 {
            line.push(b'\t');
        }
        line.extend_from_slice(cell);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn tsv_is_raw_bytes_in_the_order_hash_key_sort_key_value() {
        let mut line = Vec::new();
        write_tsv(&[b"h\xff", b"", b"v\\n\r"], &mut line).unwrap();
        assert_eq!(line, b"h\xff\t\tv\\n\r");
    }

    #[test]
    fn an_empty_hash_key_still_has_its_column() {
        let mut line = Vec::new();
        write_tsv(&[b"", b"s", b"v"], &mut line).unwrap();
        assert_eq!(line, b"\ts\tv");
    }

    #[test]
    fn a_row_that_tsv_cannot_write_is_named_with_the_way_out() {
        for (cells, what) in [
            ([&b"a\tb"[..], b"s", b"v"], "tab"),
            ([b"h", b"s", b"x\ny"], "newline"),
        ] {
            let sentence = write_tsv(&cells, &mut Vec::new()).unwrap_err().to_string();
            assert!(
                sentence.contains(what) && sentence.contains("jsonl"),
                "{sentence}"
            );
        }
    }
}

//! What goes to standard output: tables for people, JSON for machines. Everything else goes to standard error.

use crate::text;
use comfy_table::presets::{UTF8_BORDERS_ONLY, UTF8_FULL_CONDENSED};
use comfy_table::{CellAlignment, ContentArrangement, Table, TableStyle};
use serde::Serialize;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write};

/// Who reads the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    People,
    Json,
}

/// Which bytes of keys and values people see as escapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Escapes {
    /// Those that a terminal cannot show.
    Needed,
    All,
}

/// Standard output, or a file, buffered. A reader that has gone away (`| head`) ends the command quietly.
pub(crate) struct Output {
    pub(crate) style: Style,
    pub(crate) escapes: Escapes,
    out: BufWriter<Box<dyn Write>>,
    is_terminal: bool,
    is_empty: bool,
}

impl Output {
    pub(crate) fn new(style: Style) -> Self {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        Self::to(Box::new(stdout), is_terminal, style)
    }

    pub(crate) fn to_file(file: File, style: Style) -> Self {
        Self::to(Box::new(file), false, style)
    }

    fn to(out: Box<dyn Write>, is_terminal: bool, style: Style) -> Self {
        Self {
            style,
            escapes: Escapes::Needed,
            out: BufWriter::new(out),
            is_terminal,
            is_empty: true,
        }
    }

    /// A line of text.
    pub(crate) fn line(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        self.is_empty = false;
        writeln!(self.out, "{}", text.as_ref())
    }

    /// Bytes as they are, without a newline.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.is_empty &= bytes.is_empty();
        self.out.write_all(bytes)
    }

    /// Bytes of a key or value as people see them.
    pub(crate) fn escape(&self, bytes: &[u8]) -> String {
        match self.escapes {
            Escapes::Needed => text::escape(bytes),
            Escapes::All => text::escape_all(bytes),
        }
    }

    /// Whether nothing was written since the last time that this was asked.
    pub(crate) const fn take_is_empty(&mut self) -> bool {
        std::mem::replace(&mut self.is_empty, true)
    }

    /// One JSON value, indented.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        serde_json::to_writer_pretty(&mut self.out, value)?;
        self.line("")?;
        Ok(())
    }

    /// One JSON value on one line, for streams of them.
    pub(crate) fn json_line(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        serde_json::to_writer(&mut self.out, value)?;
        self.line("")?;
        Ok(())
    }

    pub(crate) fn table(&mut self, table: &Table) -> io::Result<()> {
        self.line(table.trim_fmt())
    }

    /// Before a table that takes the place of the last one; where there is no terminal, an empty line.
    pub(crate) fn clear_screen(&mut self) -> io::Result<()> {
        if self.is_terminal {
            return self.raw(b"\x1b[H\x1b[2J");
        }
        self.line("")
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("style", &self.style)
            .field("is_terminal", &self.is_terminal)
            .finish_non_exhaustive()
    }
}

/// A line on standard error. One that cannot be written (closed, full disk) is lost: the exit code still tells.
pub(crate) fn note(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "{}", text.as_ref());
}

/// An empty table with this header. Columns in `right` (from 0) hold numbers.
pub(crate) fn table(header: &[&str], right: &[usize]) -> Table {
    styled(UTF8_FULL_CONDENSED, header, right)
}

/// The same without lines between the columns, for tables with many of them.
pub(crate) fn wide_table(header: &[&str], right: &[usize]) -> Table {
    let mut table = styled(UTF8_BORDERS_ONLY, header, right);
    let last = header.len().saturating_sub(1);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((1, u16::from(index == last)));
    }
    table
}

fn styled(style: TableStyle, header: &[&str], right: &[usize]) -> Table {
    let mut table = Table::new();
    table
        .load_style(style)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header);
    for &index in right {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Bytes for people: `1.5 GiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{count} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// Bytes in at most six letters: `1.5K`.
pub(crate) fn bytes_short(count: u64) -> String {
    let text = bytes(count);
    match text.split_once(' ') {
        Some((number, "B")) => number.to_owned(),
        Some((number, unit)) => format!("{number}{}", unit.trim_end_matches("iB")),
        None => text,
    }
}

/// A whole number with its thousands apart: `12,345`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Something per second, to the nearest whole one.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate for people; the cast saturates"
)]
pub(crate) fn rate(per_second: f64) -> String {
    count(per_second.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_counts_read_well() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
        assert_eq!(
            (bytes_short(17), bytes_short(1536)),
            ("17".into(), "1.5K".into())
        );
        assert_eq!(count(7), "7");
        assert_eq!(count(1_234_567), "1,234,567");
    }
}

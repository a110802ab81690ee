//! A state as a file that people can read and any store can be made from (`docs/formats.md`, Export of meta).
//!
//! Lines of JSON: a header, one line for each change of [`Durable::snapshot`], an end with the checksum of all bytes before.
//! A change stands there in words, for people, and in the bytes of the stores, which alone are read back; both are of the
//! program that wrote it, and bytes of older programs stay readable as long as their stores do.

mod words;

use crate::state::{Change, ChangeError, ClusterId, Durable};
use crate::store::format::{FORMAT, FORMAT_MIN, change};
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, Write};
use words::words;

/// The version that is written, and the only one that is read.
pub const EXPORT_FORMAT: u16 = 1;
/// Longer lines are none of ours: 65,536 partitions in words and in bytes have about a third.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// The first line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    pegasus_meta_export: u16,
    /// Of the stores' bytes.
    store_format: u16,
    cluster: String,
    name: String,
    nodes: usize,
    /// Those that are dropped too.
    tables: usize,
    changes: usize,
}

/// One change.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    /// For people; not read.
    says: std::borrow::Cow<'a, str>,
    /// Hexadecimal.
    bytes: std::borrow::Cow<'a, str>,
}

/// The last line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    end: bool,
    /// Of all lines before, 8 hexadecimal digits.
    crc32c: String,
}

/// Why a file is no state.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("line {line}: {fault}")]
    Line { line: usize, fault: String },
    #[error("written in format {found}, this program knows {EXPORT_FORMAT}")]
    Format { found: u16 },
    #[error(
        "its state is written in format {found} of the stores, this program knows {FORMAT_MIN} to {FORMAT}"
    )]
    StoreFormat { found: u16 },
    #[error("it ends after line {lines}, without its last line: it was cut short")]
    CutShort { lines: usize },
    #[error(
        "checksum mismatch: its last line says {said}, it has {found}; it was changed or damaged"
    )]
    Checksum { said: String, found: String },
    #[error("what it holds does not fit together: {0}")]
    Change(#[from] ChangeError),
}

/// Writes all of `durable`.
///
/// # Errors
/// As `out`.
pub fn write(durable: &Durable, out: &mut impl Write) -> io::Result<()> {
    let changes = durable.snapshot();
    let mut out = Summed { out, crc: 0 };
    out.line(&Header {
        pegasus_meta_export: EXPORT_FORMAT,
        store_format: FORMAT,
        cluster: durable.cluster().id.to_string(),
        name: durable.cluster().name.clone(),
        nodes: durable.nodes().len(),
        tables: durable.tables().len(),
        changes: changes.len(),
    })?;
    for change in &changes {
        let mut bytes = Vec::new();
        change::encode_batch(std::slice::from_ref(change), &mut bytes);
        out.line(&Line {
            says: words(change).into(),
            bytes: hexadecimal(&bytes).into(),
        })?;
    }
    let crc32c = format!("{:08x}", out.crc);
    out.line(&End { end: true, crc32c })?;
    out.out.flush()
}

/// Reads what [`write()`] has written; nothing counts before all of it was checked.
///
/// # Errors
/// The file is damaged, of another kind or of another version, with the line.
pub fn read(input: &mut impl BufRead) -> Result<Durable, ImportError> {
    let mut lines = Lines {
        input,
        number: 0,
        crc: 0,
        line: String::new(),
    };
    let header = read_header(&mut lines)?;
    let mut changes: Vec<Change> = Vec::new();
    for _ in 0..header.changes {
        lines.next()?;
        if lines.parse::<End>().is_ok() {
            return Err(lines.fault("it ends before all changes that its header counts"));
        }
        let line: Line<'_> = lines.parse()?;
        let decoded = bytes_of(&line.bytes).and_then(|bytes| change::decode_batch(&bytes));
        match decoded.map(<[Change; 1]>::try_from) {
            Some(Ok([change])) => changes.push(change),
            _ => return Err(lines.fault("its bytes are no change")),
        }
    }
    let found = format!("{:08x}", lines.crc);
    lines.next()?;
    let end: End = lines.parse()?;
    if end.crc32c != found {
        let said = end.crc32c;
        return Err(ImportError::Checksum { said, found });
    }
    if !lines.is_at_end()? {
        return Err(lines.fault("something follows its last line"));
    }
    let durable = Durable::replay(&changes)?;
    if durable.cluster().id.to_string() != header.cluster {
        return Err(lines.fault("its changes are of another cluster than its header"));
    }
    Ok(durable)
}

fn read_header(lines: &mut Lines<'_, impl BufRead>) -> Result<Header, ImportError> {
    /// Of any version.
    #[derive(Deserialize)]
    struct Version {
        pegasus_meta_export: u16,
    }
    lines.next()?;
    let version: Version = lines
        .parse()
        .map_err(|_| lines.fault("it is not an export of meta"))?;
    let found = version.pegasus_meta_export;
    if found != EXPORT_FORMAT {
        return Err(ImportError::Format { found });
    }
    let header: Header = lines.parse()?;
    let found = header.store_format;
    if !(FORMAT_MIN..=FORMAT).contains(&found) {
        return Err(ImportError::StoreFormat { found });
    }
    Ok(header)
}

/// Which cluster an export is of, as far as its first line says.
///
/// # Errors
/// As [`read`].
pub fn cluster_of(input: &mut impl BufRead) -> Result<ClusterId, ImportError> {
    let mut lines = Lines {
        input,
        number: 0,
        crc: 0,
        line: String::new(),
    };
    let header = read_header(&mut lines)?;
    let id = u128::from_str_radix(&header.cluster, 16).ok();
    id.map(ClusterId)
        .ok_or_else(|| lines.fault("it names no cluster"))
}

struct Summed<'a, W> {
    out: &'a mut W,
    crc: u32,
}

impl<W: Write> Summed<'_, W> {
    fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.crc = crc32c::crc32c_append(self.crc, &bytes);
        self.out.write_all(&bytes)
    }
}

struct Lines<'a, R> {
    input: &'a mut R,
    number: usize,
    /// Of all lines read.
    crc: u32,
    line: String,
}

impl<R: BufRead> Lines<'_, R> {
    /// Reads one more line.
    fn next(&mut self) -> Result<(), ImportError> {
        self.line.clear();
        let mut bounded = io::Read::take(&mut *self.input, LINE_BYTES_MAX);
        let read = bounded.read_line(&mut self.line);
        let read = read.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => self.fault_after("it is no text"),
            _ => ImportError::Io(error),
        })?;
        if !self.line.ends_with('\n') {
            return Err(if read as u64 == LINE_BYTES_MAX {
                self.fault_after("it is longer than any line of an export")
            } else {
                ImportError::CutShort { lines: self.number }
            });
        }
        self.number += 1;
        self.crc = crc32c::crc32c_append(self.crc, self.line.as_bytes());
        Ok(())
    }

    fn parse<'b, T: Deserialize<'b>>(&'b self) -> Result<T, ImportError> {
        serde_json::from_str(self.line.trim_end()).map_err(|error| self.fault(&error.to_string()))
    }

    fn is_at_end(&mut self) -> Result<bool, ImportError> {
        Ok(self.input.fill_buf()?.is_empty())
    }

    fn fault(&self, fault: &str) -> ImportError {
        ImportError::Line {
            line: self.number,
            fault: fault.to_owned(),
        }
    }

    fn fault_after(&self, fault: &str) -> ImportError {
        ImportError::Line {
            line: self.number + 1,
            fault: fault.to_owned(),
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a text cannot fail.
            _ = write!(text, "{byte:02x}");
            text
        })
}

fn bytes_of(text: &str) -> Option<Vec<u8>> {
    let digit = |it: u8| {
        char::from(it)
            .to_digit(16)
            .and_then(|it| u8::try_from(it).ok())
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs
        .iter()
        .map(|[high, low]| Some((digit(*high)? << 4) | digit(*low)?));
    if rest.is_empty() {
        bytes.collect()
    } else {
        None
    }
}

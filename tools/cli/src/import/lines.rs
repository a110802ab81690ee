//! The reading side of an import: a thread that turns a file into batches of parsed lines, never far ahead.

use super::columns::{Format, Parser, Row, Selection};
use crate::exit::Failed;
use anyhow::{Context as _, ensure};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;
use tokio::sync::mpsc;

/// A line of the file and what it says.
#[derive(Debug)]
pub(crate) struct Line {
    /// From 1; a header counts.
    pub(crate) number: u64,
    /// Bytes of the file up to the end of this line.
    pub(crate) offset: u64,
    pub(crate) row: Result<Row, Defect>,
}

/// Why a line is not a row.
#[derive(Debug)]
pub(crate) enum Defect {
    /// The line can be left out.
    Bad(anyhow::Error),
    /// The file cannot be read from here on.
    Unreadable(anyhow::Error),
}

/// Lines in order.
pub(crate) type Batch = Vec<Line>;

/// Longer lines are refused: no row may be that large anyway.
const LINE_BYTES_MAX: u64 = 8 << 20;
/// A batch is handed over at the first of these.
const BATCH_LINES: usize = 256;
const BATCH_BYTES: u64 = 256 << 10;
/// Batches that may wait.
const BATCHES_AHEAD: usize = 4;

/// Bytes of a file, buffered.
trait Source: BufRead + Send {
    /// Whether more bytes are here, without a wait for them.
    fn has_more(&self) -> bool;
}

impl<R: io::Read + Send> Source for BufReader<R> {
    fn has_more(&self) -> bool {
        !self.buffer().is_empty()
    }
}

/// An open input.
pub(crate) struct Input {
    reader: Box<dyn Source>,
    /// Absent where it is not known (a pipe).
    pub(crate) total_bytes: Option<u64>,
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Input")
            .field("total_bytes", &self.total_bytes)
            .finish_non_exhaustive()
    }
}

impl Input {
    /// `-` is standard input.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        if path.as_os_str() == "-" {
            return Ok(Self {
                reader: Box::new(BufReader::new(io::stdin())),
                total_bytes: None,
            });
        }
        let file = File::open(path).with_context(|| path.display().to_string())?;
        let metadata = file
            .metadata()
            .with_context(|| path.display().to_string())?;
        ensure!(!metadata.is_dir(), "{}: is a directory", path.display());
        Ok(Self {
            reader: Box::new(BufReader::with_capacity(1 << 20, file)),
            total_bytes: metadata.is_file().then_some(metadata.len()),
        })
    }

    #[cfg(test)]
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        Self {
            reader: Box::new(BufReader::new(io::Cursor::new(bytes.to_vec()))),
            total_bytes: Some(bytes.len() as u64),
        }
    }

    /// Reads the header if there is one, makes the parser, and starts to read from line `from_line` (from 1) on.
    pub(crate) fn start(
        self,
        format: Format,
        selection: &Selection,
        header: Header,
        from_line: u64,
    ) -> anyhow::Result<mpsc::Receiver<Batch>> {
        let mut reader = LineReader {
            reader: self.reader,
            number: 0,
            offset: 0,
            failed: false,
        };
        let first = match header {
            Header::Present => reader.next().context("the header")?.map(|line| line.bytes),
            Header::Absent => None,
        };
        ensure!(
            first.is_some() || header == Header::Absent,
            "the file is empty, it has no header"
        );
        let parser = Parser::new(format, selection, first.as_deref())
            .map_err(|error| Failed::usage(format!("{error:#}")))?;
        let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
        std::thread::Builder::new()
            .name("reader".to_owned())
            .spawn(move || read_batches(reader, &parser, from_line, &sender))
            .context("reader thread")?;
        Ok(receiver)
    }
}

/// Whether the first line names the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    Present,
    Absent,
}

struct LineReader {
    reader: Box<dyn Source>,
    number: u64,
    offset: u64,
    failed: bool,
}

struct RawLine {
    number: u64,
    offset: u64,
    bytes: Vec<u8>,
}

impl LineReader {
    /// The next line without its newline; the last one may lack it.
    fn next(&mut self) -> io::Result<Option<RawLine>> {
        let mut bytes = Vec::new();
        let length = self
            .reader
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut bytes)? as u64;
        if length == 0 {
            return Ok(None);
        }
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        } else if length == LINE_BYTES_MAX {
            let sentence = format!("longer than {LINE_BYTES_MAX} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, sentence));
        }
        self.number += 1;
        self.offset += length;
        Ok(Some(RawLine {
            number: self.number,
            offset: self.offset,
            bytes,
        }))
    }
}

/// Ends at the end of the file, after an error, or when nobody listens any more.
fn read_batches(
    mut reader: LineReader,
    parser: &Parser,
    from_line: u64,
    sender: &mpsc::Sender<Batch>,
) {
    while !reader.failed {
        let batch = next_batch(&mut reader, parser, from_line);
        if batch.is_empty() || sender.blocking_send(batch).is_err() {
            return;
        }
    }
}

/// Empty only at the end of the file. Rows that are here do not wait for those that a slow pipe has not brought yet.
fn next_batch(reader: &mut LineReader, parser: &Parser, from_line: u64) -> Batch {
    let mut lines = Vec::new();
    let mut bytes = 0;
    while lines.len() < BATCH_LINES && bytes < BATCH_BYTES && !reader.failed {
        let line = match reader.next() {
            Ok(None) => break,
            Ok(Some(raw)) if raw.number < from_line => continue,
            Ok(Some(raw)) => {
                bytes += raw.bytes.len() as u64;
                Line {
                    number: raw.number,
                    offset: raw.offset,
                    row: parser.parse(&raw.bytes).map_err(Defect::Bad),
                }
            }
            Err(error) => {
                reader.failed = true;
                Line {
                    number: reader.number + 1,
                    offset: reader.offset,
                    row: Err(Defect::Unreadable(error.into())),
                }
            }
        };
        lines.push(line);
        if !reader.reader.has_more() {
            break;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn selection() -> Selection {
        Selection {
            hash_key: Some("1".into()),
            sort_key: None,
            value: Some("2".into()),
            ttl: None,
        }
    }

    fn read(content: &[u8], header: Header, from_line: u64) -> Vec<Line> {
        let mut receiver = Input::from_bytes(content)
            .start(Format::Tsv, &selection(), header, from_line)
            .unwrap();
        let mut lines = Vec::new();
        while let Some(batch) = receiver.blocking_recv() {
            lines.extend(batch);
        }
        lines
    }

    #[test]
    fn lines_come_with_their_numbers_and_the_last_may_lack_its_newline() {
        let lines = read(b"a\t1\nb\t2\nc\t3", Header::Absent, 1);
        let numbers: Vec<u64> = lines.iter().map(|line| line.number).collect();
        assert_eq!(numbers, [1, 2, 3]);
        assert_eq!(lines[2].row.as_ref().unwrap().hash_key, b"c");
        assert_eq!(lines[2].offset, 11);
    }

    #[test]
    fn a_header_counts_as_line_one_and_earlier_lines_are_passed_over() {
        let lines = read(b"k\tv\na\t1\nb\t2\n", Header::Present, 3);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].number, 3);
        assert_eq!(lines[0].row.as_ref().unwrap().hash_key, b"b");
    }

    #[test]
    fn a_large_file_arrives_in_many_batches_complete() {
        let content: Vec<u8> = (0..10_000)
            .flat_map(|n| format!("key-{n}\tvalue\n").into_bytes())
            .collect();
        let lines = read(&content, Header::Absent, 1);
        assert_eq!(lines.len(), 10_000);
        assert!(
            lines
                .iter()
                .zip(1..)
                .all(|(line, number)| line.number == number)
        );
    }

    #[test]
    fn passing_over_many_lines_does_not_end_the_file() {
        let content: Vec<u8> = (0..3_000)
            .flat_map(|n| format!("{n}\tv\n").into_bytes())
            .collect();
        assert_eq!(read(&content, Header::Absent, 2_901).len(), 100);
    }

    #[test]
    fn a_row_that_a_pipe_has_brought_does_not_wait_for_the_next_one() {
        let (output, mut input) = io::pipe().unwrap();
        let reader = Box::new(BufReader::new(output));
        let from_pipe = Input {
            reader,
            total_bytes: None,
        };
        let mut receiver = from_pipe
            .start(Format::Tsv, &selection(), Header::Absent, 1)
            .unwrap();
        for number in 1..=3 {
            io::Write::write_all(&mut input, b"a\tb\n").unwrap();
            // The pipe stays open: a reader that wanted more would wait for ever.
            let batch = receiver.blocking_recv().unwrap();
            assert_eq!((batch.len(), batch[0].number), (1, number));
        }
    }

    #[test]
    fn an_empty_file_has_no_lines_and_no_header() {
        assert!(read(b"", Header::Absent, 1).is_empty());
        let error = Input::from_bytes(b"").start(Format::Tsv, &selection(), Header::Present, 1);
        assert!(error.is_err());
    }

    #[test]
    fn a_line_without_end_is_refused_before_it_fills_the_memory() {
        let mut content = b"a\t1\n".to_vec();
        content.resize(
            content.len() + usize::try_from(LINE_BYTES_MAX).unwrap() + 10,
            b'x',
        );
        let lines = read(&content[..], Header::Absent, 1);
        assert!(lines[0].row.is_ok());
        assert_eq!((lines.len(), lines[1].number), (2, 2));
        assert!(
            matches!(&lines[1].row, Err(Defect::Unreadable(error)) if error.to_string().contains("longer than"))
        );
    }
}

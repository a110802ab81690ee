//! What clients send: arrays of bulk strings, or inline commands.

use crate::line::{Length, bulk_end, length, line};
use crate::{DecodeError, Limits, inline};
use bytes::{Buf as _, Bytes, BytesMut};
use std::ops::Range;

/// One command and its arguments; the name is argument 0. There is at least one.
#[derive(Clone, Debug)]
pub struct Command {
    /// Shares the receive buffer's memory.
    bytes: Bytes,
    arguments: Vec<Range<usize>>,
}

/// Cuts commands off the front of a receive buffer. Remembers how far it came, so that a command that arrives in many
/// pieces costs no more than one that arrives whole. One for each connection: it belongs to the buffer it is given.
#[derive(Clone, Debug, Default)]
pub struct CommandDecoder {
    limits: Limits,
    /// Bytes at the front of the buffer that are understood.
    position: usize,
    /// Bytes at the front of the buffer without the end of the line that is looked for.
    searched: usize,
    /// Arguments that are still to come, once the number is known.
    missing: Option<usize>,
    arguments: Vec<Range<usize>>,
}

impl Command {
    /// An argument, `None` beyond the last.
    #[must_use]
    pub fn argument(&self, index: usize) -> Option<&[u8]> {
        self.bytes.get(self.arguments.get(index)?.clone())
    }

    /// An argument that shares the receive buffer's memory, `None` beyond the last.
    #[must_use]
    pub fn shared(&self, index: usize) -> Option<Bytes> {
        let range = self.arguments.get(index)?;
        Some(self.bytes.slice(range.clone()))
    }

    /// How many arguments there are, the name included: at least 1.
    #[must_use]
    pub fn count(&self) -> usize {
        self.arguments.len()
    }

    /// The same command with these of its arguments only, which share its memory; positions beyond the last are left out.
    #[must_use]
    pub fn with_arguments(&self, positions: Range<usize>) -> Self {
        let start = positions.start.min(self.arguments.len());
        let end = positions.end.clamp(start, self.arguments.len());
        let name = self.arguments.first().into_iter();
        Self {
            bytes: self.bytes.clone(),
            arguments: name.chain(&self.arguments[start..end]).cloned().collect(),
        }
    }

    /// Bytes of the arguments together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.arguments.iter().map(ExactSizeIterator::len).sum()
    }

    /// All arguments, the name first.
    pub fn arguments(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.arguments
            .iter()
            .map(|range| self.bytes.get(range.clone()).unwrap_or_default())
    }
}

impl PartialEq for Command {
    fn eq(&self, other: &Self) -> bool {
        self.arguments().eq(other.arguments())
    }
}

impl Eq for Command {}

impl CommandDecoder {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Takes the next whole command out of `buffer`, or `None` when more bytes are needed. Empty lines and empty arrays
    /// are skipped, as in Redis.
    ///
    /// # Errors
    /// See [`DecodeError`]; the connection is of no more use then.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Command>, DecodeError> {
        loop {
            let found = match buffer.first() {
                None => return Ok(None),
                Some(b'*') => self.array(buffer)?,
                Some(_) => self.inline(buffer)?,
            };
            match found {
                Found::More => return Ok(None),
                Found::Nothing => {}
                Found::Command(command) => return Ok(Some(command)),
            }
        }
    }

    fn array(&mut self, buffer: &mut BytesMut) -> Result<Found, DecodeError> {
        let Some(mut missing) = self.count(buffer)? else {
            return Ok(Found::More);
        };
        while missing > 0 {
            let Some(argument) = self.bulk(buffer)? else {
                self.missing = Some(missing);
                return Ok(Found::More);
            };
            self.position = argument.end + 2;
            self.arguments.push(argument);
            missing -= 1;
        }
        let bytes = buffer.split_to(self.position).freeze();
        let arguments = std::mem::take(&mut self.arguments);
        self.restart();
        Ok(if arguments.is_empty() {
            Found::Nothing
        } else {
            Found::Command(Command { bytes, arguments })
        })
    }

    /// Arguments that are still to come.
    fn count(&mut self, buffer: &[u8]) -> Result<Option<usize>, DecodeError> {
        if self.missing.is_some() {
            return Ok(self.missing);
        }
        let Some((line, after)) = line(buffer, 1, &mut self.searched, LENGTH_BYTES_MAX)? else {
            return Ok(None);
        };
        let count = match length(line, "number of arguments", self.limits.elements_max)? {
            Length::Null => 0,
            Length::Of(count) => count,
        };
        self.position = after;
        self.arguments.reserve(count.min(ARGUMENTS_RESERVED));
        self.missing = Some(count);
        Ok(self.missing)
    }

    /// Where the content of the next bulk string lies, once it is all there.
    fn bulk(&mut self, buffer: &[u8]) -> Result<Option<Range<usize>>, DecodeError> {
        match buffer.get(self.position) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(found) => {
                return Err(DecodeError::Unexpected {
                    expected: "'$'",
                    found: *found,
                });
            }
        }
        let start = self.position + 1;
        let Some((line, content)) = line(buffer, start, &mut self.searched, LENGTH_BYTES_MAX)?
        else {
            return Ok(None);
        };
        let what = "bulk length";
        let Length::Of(bytes) = length(line, what, self.limits.bulk_bytes_max)? else {
            return Err(DecodeError::Invalid { what });
        };
        let end = content + bytes;
        if end + 2 > self.limits.total_bytes_max {
            return Err(DecodeError::TooLarge {
                what: "command length",
                found: (end + 2) as u64,
                max: self.limits.total_bytes_max,
            });
        }
        Ok(bulk_end(buffer, end)?.map(|_| content..end))
    }

    fn inline(&mut self, buffer: &mut BytesMut) -> Result<Found, DecodeError> {
        let max = self.limits.line_bytes_max.min(self.limits.total_bytes_max);
        let rest = buffer.get(self.searched..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(buffer.len(), |end| self.searched + end);
        if length > max {
            return Err(DecodeError::TooLarge {
                what: "inline request",
                found: length as u64,
                max,
            });
        }
        if end.is_none() {
            self.searched = buffer.len();
            return Ok(Found::More);
        }
        let words = inline::words(&buffer[..length], self.limits.elements_max)?;
        buffer.advance(length + 1);
        self.restart();
        Ok(Command::of_words(&words).map_or(Found::Nothing, Found::Command))
    }

    fn restart(&mut self) {
        self.position = 0;
        self.searched = 0;
        self.missing = None;
    }
}

impl Command {
    fn of_words(words: &[Vec<u8>]) -> Option<Self> {
        let mut end = 0;
        let arguments: Vec<_> = words
            .iter()
            .map(|word| {
                let start = end;
                end += word.len();
                start..end
            })
            .collect();
        let bytes = Bytes::from(words.concat());
        (!arguments.is_empty()).then_some(Self { bytes, arguments })
    }
}

enum Found {
    /// More bytes are needed.
    More,
    /// An empty line or array, skipped.
    Nothing,
    Command(Command),
}

/// Digits and a sign of the largest length, with room to spare.
const LENGTH_BYTES_MAX: usize = 32;
/// Memory follows received bytes, not a number somebody claims.
const ARGUMENTS_RESERVED: usize = 64;

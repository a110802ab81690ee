//! Where an answer ends. A walk over headers and lengths that stops where the bytes stop, and goes on from there.

use crate::line::{Length, bulk_end, length, line};
use crate::{DecodeError, Limits};

/// How far the walk over the value at the front of a buffer came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extent {
    /// Bytes at the front of the buffer that are understood.
    position: usize,
    /// Bytes at the front of the buffer without the end of the line that is looked for.
    searched: usize,
    /// Values seen.
    elements: usize,
    /// Values that are still to come in each open array, the innermost last.
    open: Vec<usize>,
}

/// However the limits are set: the reader of a value calls itself for each level.
const DEPTH_MAX: usize = 64;

/// What a header says about the rest of its value.
enum Rest {
    /// The value ends here.
    Ends(usize),
    /// So many values follow.
    Values {
        count: usize,
        after: usize,
    },
    More,
}

impl Extent {
    /// Bytes of the whole value at the front of `input`, once all of them are there.
    pub(crate) fn find(
        &mut self,
        input: &[u8],
        limits: &Limits,
    ) -> Result<Option<usize>, DecodeError> {
        loop {
            match self.value(input, limits)? {
                Rest::More => return Ok(None),
                Rest::Ends(end) => {
                    self.advance(end, limits)?;
                    self.close();
                }
                Rest::Values { count, after } => {
                    self.advance(after, limits)?;
                    self.enter(count, limits)?;
                }
            }
            if self.open.is_empty() {
                let end = self.position;
                *self = Self::default();
                return Ok(Some(end));
            }
        }
    }

    fn advance(&mut self, position: usize, limits: &Limits) -> Result<(), DecodeError> {
        self.elements += 1;
        check("number of elements", self.elements, limits.elements_max)?;
        check("length", position, limits.total_bytes_max)?;
        self.position = position;
        Ok(())
    }

    /// A value has ended, and with it every array of which it is the last.
    fn close(&mut self) {
        while let Some(missing) = self.open.last_mut() {
            *missing -= 1;
            if *missing > 0 {
                return;
            }
            self.open.pop();
        }
    }

    fn enter(&mut self, count: usize, limits: &Limits) -> Result<(), DecodeError> {
        check(
            "depth",
            self.open.len() + 1,
            limits.depth_max.min(DEPTH_MAX),
        )?;
        check(
            "number of elements",
            self.elements.saturating_add(count),
            limits.elements_max,
        )?;
        if count == 0 {
            self.close();
        } else {
            self.open.push(count);
        }
        Ok(())
    }

    fn value(&mut self, input: &[u8], limits: &Limits) -> Result<Rest, DecodeError> {
        let Some(marker) = input.get(self.position) else {
            return Ok(Rest::More);
        };
        check_marker(*marker)?;
        let start = self.position + 1;
        let Some((line, after)) = line(input, start, &mut self.searched, limits.line_bytes_max)?
        else {
            return Ok(Rest::More);
        };
        match marker {
            b'$' | b'!' | b'=' => bulk(input, *marker, line, after, limits),
            b'*' | b'~' | b'>' => Ok(match length(line, "array length", limits.elements_max)? {
                Length::Null if *marker == b'*' => Rest::Ends(after),
                Length::Null => {
                    return Err(DecodeError::Invalid {
                        what: "array length",
                    });
                }
                Length::Of(count) => Rest::Values { count, after },
            }),
            b'%' | b'|' => match length(line, "map length", limits.elements_max / 2)? {
                Length::Null => Err(DecodeError::Invalid { what: "map length" }),
                Length::Of(pairs) => Ok(Rest::Values {
                    // The value that attributes belong to follows them.
                    count: 2 * pairs + usize::from(*marker == b'|'),
                    after,
                }),
            },
            _ => Ok(Rest::Ends(after)),
        }
    }
}

fn bulk(
    input: &[u8],
    marker: u8,
    line: &[u8],
    after: usize,
    limits: &Limits,
) -> Result<Rest, DecodeError> {
    match length(line, "bulk length", limits.bulk_bytes_max)? {
        Length::Null if marker == b'$' => Ok(Rest::Ends(after)),
        Length::Null => Err(DecodeError::Invalid {
            what: "bulk length",
        }),
        Length::Of(bytes) => {
            check("length", after + bytes + 2, limits.total_bytes_max)?;
            Ok(bulk_end(input, after + bytes)?.map_or(Rest::More, Rest::Ends))
        }
    }
}

fn check_marker(found: u8) -> Result<(), DecodeError> {
    if b"+-:$*_#,(!=%~>|".contains(&found) {
        return Ok(());
    }
    Err(DecodeError::Unexpected {
        expected: "the type of a value",
        found,
    })
}

fn check(what: &'static str, found: usize, max: usize) -> Result<(), DecodeError> {
    if found > max {
        return Err(DecodeError::TooLarge {
            what,
            found: found as u64,
            max,
        });
    }
    Ok(())
}

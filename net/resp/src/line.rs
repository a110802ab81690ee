//! Lines, and the numbers on them.

use crate::DecodeError;

/// The line that starts at `start` and ends in CRLF, without its end, and the offset after it; `None` while it is not
/// all there. `searched` bytes of the input are known to hold no end: pieces of a long line are not searched again.
pub(crate) fn line<'a>(
    input: &'a [u8],
    start: usize,
    searched: &mut usize,
    bytes_max: usize,
) -> Result<Option<(&'a [u8], usize)>, DecodeError> {
    let from = start.max(*searched);
    let rest = input.get(from..).unwrap_or_default();
    let Some(end) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        *searched = input.len();
        check_length(input.len().saturating_sub(start), bytes_max)?;
        return Ok(None);
    };
    let end = from + end;
    *searched = end;
    check_length(end - start, bytes_max)?;
    if input[end] == b'\n' {
        return Err(DecodeError::Unexpected {
            expected: "CRLF",
            found: b'\n',
        });
    }
    match input.get(end + 1) {
        None => Ok(None),
        Some(b'\n') => Ok(Some((&input[start..end], end + 2))),
        Some(found) => Err(DecodeError::Unexpected {
            expected: "LF after CR",
            found: *found,
        }),
    }
}

fn check_length(bytes: usize, bytes_max: usize) -> Result<(), DecodeError> {
    if bytes > bytes_max {
        return Err(DecodeError::TooLarge {
            what: "line",
            found: bytes as u64,
            max: bytes_max,
        });
    }
    Ok(())
}

/// A decimal number with an optional sign.
pub(crate) fn integer(digits: &[u8]) -> Option<i64> {
    const DIGITS_MAX: usize = 20;
    if digits.len() > DIGITS_MAX {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// What a length on a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// -1: there is no string, no array.
    Null,
    Of(usize),
}

/// The length on a line, at most `max`.
pub(crate) fn length(digits: &[u8], what: &'static str, max: usize) -> Result<Length, DecodeError> {
    let number = integer(digits).ok_or(DecodeError::Invalid { what })?;
    if number == -1 {
        return Ok(Length::Null);
    }
    let found = u64::try_from(number).map_err(|_| DecodeError::Invalid { what })?;
    match usize::try_from(found) {
        Ok(length) if length <= max => Ok(Length::Of(length)),
        _ => Err(DecodeError::TooLarge { what, found, max }),
    }
}

/// Whether the CRLF that ends a bulk string is at `end`; `None` while it is not all there.
pub(crate) fn bulk_end(input: &[u8], end: usize) -> Result<Option<usize>, DecodeError> {
    let expected = "CRLF after a bulk string";
    for (offset, byte) in (end..).zip(b"\r\n") {
        match input.get(offset) {
            None => return Ok(None),
            Some(found) if found == byte => {}
            Some(found) => {
                return Err(DecodeError::Unexpected {
                    expected,
                    found: *found,
                });
            }
        }
    }
    Ok(Some(end + 2))
}

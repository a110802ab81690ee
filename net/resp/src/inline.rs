//! Inline commands: a line of words, as typed into telnet.
//!
//! Words are separated by white space. `"a word"` may hold `\n \r \t \b \a \\ \" \xHH`, `'a word'` only `\'`, and a
//! closing quote must end its word, as in Redis.

use crate::DecodeError;

/// Cuts a line into words.
pub(crate) fn words(line: &[u8], words_max: usize) -> Result<Vec<Vec<u8>>, DecodeError> {
    let mut words = Vec::new();
    let mut rest = trimmed(line);
    while !rest.is_empty() {
        if words.len() == words_max {
            return Err(DecodeError::TooLarge {
                what: "number of arguments",
                found: words_max as u64 + 1,
                max: words_max,
            });
        }
        let (word, after) = word(rest)?;
        words.push(word);
        rest = trimmed(after);
    }
    Ok(words)
}

/// What begins with the next word. A vertical tab is space here and not to `trim_ascii_start`: a word would begin, and end at
/// once, with no byte taken, again and again.
fn trimmed(line: &[u8]) -> &[u8] {
    let start = line.iter().position(|byte| !is_space(*byte));
    line.get(start.unwrap_or(line.len())..).unwrap_or_default()
}

fn word(mut rest: &[u8]) -> Result<(Vec<u8>, &[u8]), DecodeError> {
    let mut word = Vec::new();
    while let Some((first, after)) = rest.split_first() {
        match first {
            b'"' | b'\'' => {
                rest = quoted(*first, after, &mut word)?;
                return match rest.first() {
                    Some(byte) if !is_space(*byte) => Err(DecodeError::UnbalancedQuotes),
                    _ => Ok((word, rest)),
                };
            }
            byte if is_space(*byte) => break,
            byte => word.push(*byte),
        }
        rest = after;
    }
    Ok((word, rest))
}

/// Takes what is before the closing quote; returns what is after it.
fn quoted<'a>(quote: u8, mut rest: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], DecodeError> {
    loop {
        rest = match rest {
            [] => return Err(DecodeError::UnbalancedQuotes),
            [first, after @ ..] if *first == quote => return Ok(after),
            [b'\\', b'\'', after @ ..] if quote == b'\'' => {
                word.push(b'\'');
                after
            }
            [b'\\', b'x', high, low, after @ ..] if quote == b'"' && hex(*high, *low).is_some() => {
                word.extend(hex(*high, *low));
                after
            }
            [b'\\', escaped, after @ ..] if quote == b'"' => {
                word.push(unescaped(*escaped));
                after
            }
            [byte, after @ ..] => {
                word.push(*byte);
                after
            }
        };
    }
}

fn unescaped(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        other => other,
    }
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// What C's `isspace` takes for white space, as far as it can be within a line.
fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 11
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn cut(line: &str) -> Vec<Vec<u8>> {
        words(line.as_bytes(), 10).unwrap()
    }

    #[test]
    fn words_are_cut_at_white_space() {
        assert_eq!(
            cut("  SET  a\tb "),
            [b"SET".to_vec(), b"a".to_vec(), b"b".to_vec()]
        );
        assert!(cut(" \t").is_empty());
        assert_eq!(
            cut("\x0bPING\x0c\x0b x\x0b"),
            [b"PING".to_vec(), b"x".to_vec()]
        );
    }

    #[test]
    fn quoted_words_may_hold_anything() {
        assert_eq!(cut(r#"a"b c""#), [b"ab c"]);
        assert_eq!(cut(r#""\x41\n\"\\\q\xzz""#), [b"A\n\"\\qxzz"]);
        assert_eq!(cut(r"'it\'s \n'"), [br"it's \n"]);
        assert_eq!(cut("\"\""), [b""]);
    }

    #[test]
    fn a_quote_that_is_not_closed_or_not_at_the_end_is_refused() {
        for line in ["\"a", "'a", "\"a\"b", "'a\\'", "\"\\"] {
            assert_eq!(
                words(line.as_bytes(), 10),
                Err(DecodeError::UnbalancedQuotes),
                "{line}"
            );
        }
    }

    #[test]
    fn more_words_than_allowed_are_refused() {
        assert!(words(b"a b c", 3).is_ok());
        assert!(matches!(
            words(b"a b c d", 3),
            Err(DecodeError::TooLarge { max: 3, .. })
        ));
    }
}

//! Bytes as people and programs read them. Keys and values are any bytes; terminals and JSON are not.
//!
//! | form | used for | rule |
//! |---|---|---|
//! | escaped | people | printable UTF-8 as it is; `\\`, `\t`, `\n`, `\r`, `\0`; every other byte as `\xHH` |
//! | JSON | machines | a string if the bytes are UTF-8, otherwise `{"b64": "<standard base64>"}` |

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// The bytes with C-style escapes, safe to print on a terminal. `unescape` gives the bytes back.
pub(crate) fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            escape_letter(letter, &mut out);
        }
        for &byte in chunk.invalid() {
            push_hex(byte, &mut out);
        }
    }
    out
}

/// Every byte as `\xHH`.
pub(crate) fn escape_all(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 4);
    for &byte in bytes {
        push_hex(byte, &mut out);
    }
    out
}

/// As `escape`, cut after about `letters_max` letters; the cut shows as an ellipsis and the full length.
pub(crate) fn escape_short(bytes: &[u8], letters_max: usize) -> String {
    let full = escape(bytes);
    if full.chars().count() <= letters_max {
        return full;
    }
    let head: String = full.chars().take(letters_max).collect();
    format!("{head}... ({} bytes)", bytes.len())
}

fn escape_letter(letter: char, out: &mut String) {
    match letter {
        '\\' => out.push_str("\\\\"),
        '\t' => out.push_str("\\t"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\0' => out.push_str("\\0"),
        _ if letter.is_control() || is_reordering(letter) => {
            let mut buffer = [0; 4];
            for &byte in letter.encode_utf8(&mut buffer).as_bytes() {
                push_hex(byte, out);
            }
        }
        _ => out.push(letter),
    }
}

/// Letters that change the direction of what follows, or that cannot be seen: they could disguise a key.
fn is_reordering(letter: char) -> bool {
    matches!(letter, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn push_hex(byte: u8, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.push_str("\\x");
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

/// Why a text with escapes is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadEscape {
    /// Offset of the backslash, in bytes.
    pub(crate) at: usize,
}

impl std::fmt::Display for BadEscape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "byte {}: a backslash must be followed by one of \\ t n r 0 or by xHH",
            self.at
        )
    }
}

impl std::error::Error for BadEscape {}

/// The bytes that a text with C-style escapes stands for.
pub(crate) fn unescape(text: &[u8]) -> Result<Vec<u8>, BadEscape> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        if byte != b'\\' {
            out.push(byte);
            at += 1;
            continue;
        }
        let (value, length) =
            escaped_byte(text.get(at + 1..).unwrap_or_default()).ok_or(BadEscape { at })?;
        out.push(value);
        at += 1 + length;
    }
    Ok(out)
}

/// The byte that the letters after a backslash stand for, and how many letters that took.
pub(crate) fn escaped_byte(rest: &[u8]) -> Option<(u8, usize)> {
    match rest.first()? {
        b'\\' => Some((b'\\', 1)),
        b't' => Some((b'\t', 1)),
        b'n' => Some((b'\n', 1)),
        b'r' => Some((b'\r', 1)),
        b'0' => Some((0, 1)),
        b'x' => {
            let high = char::from(*rest.get(1)?).to_digit(16)?;
            let low = char::from(*rest.get(2)?).to_digit(16)?;
            u8::try_from(high * 16 + low).ok().map(|byte| (byte, 3))
        }
        _ => None,
    }
}

/// The bytes as a JSON value that `from_json` turns back.
pub(crate) fn to_json(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::String(text.to_owned()),
        Err(_) => serde_json::json!({ "b64": STANDARD.encode(bytes) }),
    }
}

/// The bytes of a JSON value: a string, `{"b64": ".."}`, or a number or boolean as it is written.
/// `None` for every other value.
pub(crate) fn from_json(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => Some(text.clone().into_bytes()),
        Value::Number(number) => Some(number.to_string().into_bytes()),
        Value::Bool(flag) => Some(flag.to_string().into_bytes()),
        Value::Object(fields) if fields.len() == 1 => {
            STANDARD.decode(fields.get("b64")?.as_str()?).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn every_byte_survives_escaping_and_unescaping() {
        let all: Vec<u8> = (0..=255).collect();
        let shown = escape(&all);
        assert!(shown.bytes().all(|b| b >= b' '));
        assert_eq!(unescape(shown.as_bytes()).unwrap(), all);
    }

    #[test]
    fn readable_text_stays_readable_and_the_rest_is_named() {
        assert_eq!(escape("naïve".as_bytes()), "naïve");
        assert_eq!(escape(b"a\tb\\c\x1b\xff"), "a\\tb\\\\c\\x1b\\xff");
        assert_eq!(escape("a\u{202e}b".as_bytes()), "a\\xe2\\x80\\xaeb");
    }

    #[test]
    fn a_wrong_escape_is_named_by_its_place() {
        assert_eq!(unescape(b"ab\\q"), Err(BadEscape { at: 2 }));
        assert_eq!(unescape(b"\\x4"), Err(BadEscape { at: 0 }));
        assert_eq!(unescape(b"\\"), Err(BadEscape { at: 0 }));
    }

    #[test]
    fn a_long_value_is_cut_and_its_length_given() {
        assert_eq!(escape_short(b"abcdef", 3), "abc... (6 bytes)");
        assert_eq!(escape_short(b"abc", 3), "abc");
    }

    #[test]
    fn json_keeps_text_readable_and_binary_exact() {
        assert_eq!(to_json(b"abc"), Value::String("abc".into()));
        let binary = to_json(b"\xff\x00");
        assert_eq!(binary, serde_json::json!({"b64": "/wA="}));
        assert_eq!(from_json(&binary).unwrap(), b"\xff\x00");
        assert_eq!(from_json(&serde_json::json!(17)).unwrap(), b"17");
        assert_eq!(from_json(&serde_json::json!({"b64": "?"})), None);
        assert_eq!(from_json(&serde_json::json!([1])), None);
    }
}

//! Structs to bytes.

use crate::Value;
use bytes::BufMut;

/// Which protocol a connection has agreed on (`HELLO`); RESP2 until then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    #[default]
    Resp2,
    Resp3,
}

/// Appends a command as an array of bulk strings; the first argument is its name.
pub fn encode_command<'a, I>(out: &mut impl BufMut, arguments: I)
where
    I: IntoIterator<Item = &'a [u8], IntoIter: ExactSizeIterator>,
{
    let arguments = arguments.into_iter();
    header(out, b'*', arguments.len());
    for argument in arguments {
        bulk(out, b'$', argument);
    }
}

/// Appends an answer. What RESP2 cannot say is said as Redis does there: maps, sets and pushes as arrays, a boolean as
/// 0 or 1, other scalars as strings, and no attributes. Line breaks in simple strings and errors become spaces.
pub fn encode_value(out: &mut impl BufMut, value: &Value, version: Version) {
    let resp3 = version == Version::Resp3;
    match value {
        Value::Simple(text) => line(out, b'+', text),
        Value::Error(text) => line(out, b'-', text),
        Value::BulkError(text) if resp3 => bulk(out, b'!', text),
        Value::BulkError(text) => line(out, b'-', text),
        Value::Integer(number) => integer(out, b':', *number),
        Value::Bulk(bytes) => bulk(out, b'$', bytes),
        Value::Array(values) => all(out, b'*', values, version),
        Value::Null | Value::NullArray if resp3 => out.put_slice(b"_\r\n"),
        Value::Null => out.put_slice(b"$-1\r\n"),
        Value::NullArray => out.put_slice(b"*-1\r\n"),
        Value::Boolean(yes) if resp3 => out.put_slice(if *yes { b"#t\r\n" } else { b"#f\r\n" }),
        Value::Boolean(yes) => integer(out, b':', i64::from(*yes)),
        Value::Double(number) if resp3 => line(out, b',', double(*number).as_bytes()),
        Value::Double(number) => bulk(out, b'$', double(*number).as_bytes()),
        Value::BigNumber(digits) if resp3 => line(out, b'(', digits),
        Value::BigNumber(digits) => bulk(out, b'$', digits),
        Value::Verbatim { format, text } if resp3 => verbatim(out, *format, text),
        Value::Verbatim { text, .. } => bulk(out, b'$', text),
        Value::Map(map) => pairs(out, if resp3 { b'%' } else { b'*' }, map, version),
        Value::Set(values) => all(out, if resp3 { b'~' } else { b'*' }, values, version),
        Value::Push(values) => all(out, if resp3 { b'>' } else { b'*' }, values, version),
        Value::Attributed { attributes, value } => {
            if resp3 {
                pairs(out, b'|', attributes, version);
            }
            encode_value(out, value, version);
        }
    }
}

/// Appends a bulk string, as [`encode_value`] does with [`Value::Bulk`].
pub fn encode_bulk(out: &mut impl BufMut, text: &[u8]) {
    bulk(out, b'$', text);
}

fn all(out: &mut impl BufMut, marker: u8, values: &[Value], version: Version) {
    header(out, marker, values.len());
    for value in values {
        encode_value(out, value, version);
    }
}

/// A RESP2 array has twice as many elements as the map has pairs.
fn pairs(out: &mut impl BufMut, marker: u8, map: &[(Value, Value)], version: Version) {
    let each = if marker == b'*' { 2 } else { 1 };
    header(out, marker, each * map.len());
    for (key, value) in map {
        encode_value(out, key, version);
        encode_value(out, value, version);
    }
}

fn bulk(out: &mut impl BufMut, marker: u8, bytes: &[u8]) {
    header(out, marker, bytes.len());
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
}

fn verbatim(out: &mut impl BufMut, format: [u8; 3], text: &[u8]) {
    header(out, b'=', text.len() + 4);
    out.put_slice(&format);
    out.put_u8(b':');
    out.put_slice(text);
    out.put_slice(b"\r\n");
}

fn line(out: &mut impl BufMut, marker: u8, text: &[u8]) {
    out.put_u8(marker);
    for piece in text.split_inclusive(|byte| matches!(byte, b'\r' | b'\n')) {
        match piece.split_last() {
            Some((b'\r' | b'\n', before)) => {
                out.put_slice(before);
                out.put_u8(b' ');
            }
            _ => out.put_slice(piece),
        }
    }
    out.put_slice(b"\r\n");
}

fn double(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    number.to_string()
}

fn header(out: &mut impl BufMut, marker: u8, length: usize) {
    integer(out, marker, i64::try_from(length).unwrap_or(i64::MAX));
}

/// Without `format!`: a header stands before every argument.
fn integer(out: &mut impl BufMut, marker: u8, number: i64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        start -= 1;
        #[allow(clippy::cast_possible_truncation, reason = "a digit is below 10")]
        let digit = (rest % 10) as u8;
        digits[start] = b'0' + digit;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.put_u8(marker);
    if number < 0 {
        out.put_u8(b'-');
    }
    out.put_slice(&digits[start..]);
    out.put_slice(b"\r\n");
}

//! What servers answer.

use crate::extent::Extent;
use crate::line::{Length, integer, length, line};
use crate::{DecodeError, Limits};
use bytes::{Bytes, BytesMut};

/// An answer, or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// One line: no CR, no LF.
    Simple(Bytes),
    /// One line; its first word is a code in capitals by convention.
    Error(Bytes),
    Integer(i64),
    Bulk(Bytes),
    Array(Vec<Self>),
    /// RESP2 has two of them: this one is `$-1`.
    Null,
    /// `*-1` in RESP2, in RESP3 the same as [`Value::Null`].
    NullArray,
    Boolean(bool),
    Double(f64),
    /// Decimal digits with an optional sign.
    BigNumber(Bytes),
    /// An error of any bytes.
    BulkError(Bytes),
    Verbatim {
        /// `txt` or `mkd`.
        format: [u8; 3],
        text: Bytes,
    },
    Map(Vec<(Self, Self)>),
    Set(Vec<Self>),
    /// Not an answer to anything: what the server says by itself.
    Push(Vec<Self>),
    /// A value with something about it that a reader may ignore.
    Attributed {
        attributes: Vec<(Self, Self)>,
        value: Box<Self>,
    },
}

/// Cuts answers off the front of a receive buffer. Remembers how far it came, so that an answer that arrives in many
/// pieces costs no more than one that arrives whole. One for each connection: it belongs to the buffer it is given.
#[derive(Clone, Debug, Default)]
pub struct ValueDecoder {
    limits: Limits,
    extent: Extent,
}

impl ValueDecoder {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            extent: Extent::default(),
        }
    }

    /// Takes the next whole value out of `buffer`, or `None` when more bytes are needed. Strings share the buffer's
    /// memory.
    ///
    /// # Errors
    /// See [`DecodeError`]; the connection is of no more use then.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Value>, DecodeError> {
        let Some(end) = self.extent.find(buffer, &self.limits)? else {
            return Ok(None);
        };
        let whole = buffer.split_to(end).freeze();
        let mut reader = Reader { whole, position: 0 };
        reader.value().map(Some)
    }
}

impl Value {
    /// The sentence of an error.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        match self {
            Self::Error(sentence) | Self::BulkError(sentence) => {
                Some(String::from_utf8_lossy(sentence).into_owned())
            }
            _ => None,
        }
    }

    /// What kind of value it is, for sentences about one that was not expected.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Simple(_) => "simple string",
            Self::Error(_) | Self::BulkError(_) => "error",
            Self::Integer(_) => "integer",
            Self::Bulk(_) => "bulk string",
            Self::Array(_) => "array",
            Self::Null | Self::NullArray => "null",
            Self::Boolean(_) => "boolean",
            Self::Double(_) => "double",
            Self::BigNumber(_) => "big number",
            Self::Verbatim { .. } => "verbatim string",
            Self::Map(_) => "map",
            Self::Set(_) => "set",
            Self::Push(_) => "push",
            Self::Attributed { .. } => "attributed value",
        }
    }
}

/// Reads a value whose extent is known: every length has been checked, and all bytes are there.
struct Reader {
    whole: Bytes,
    position: usize,
}

impl Reader {
    fn value(&mut self) -> Result<Value, DecodeError> {
        let invalid = DecodeError::Invalid { what: "value" };
        let marker = *self.whole.get(self.position).ok_or(invalid)?;
        let text = self.line()?;
        Ok(match marker {
            b'+' => Value::Simple(text),
            b'-' => Value::Error(text),
            b':' => Value::Integer(integer(&text).ok_or(DecodeError::Invalid { what: "integer" })?),
            b'$' => self.bulk(&text)?.map_or(Value::Null, Value::Bulk),
            b'!' => Value::BulkError(self.bulk(&text)?.ok_or(invalid)?),
            b'=' => verbatim(&self.bulk(&text)?.ok_or(invalid)?)?,
            b'*' => match count(&text)? {
                Some(count) => Value::Array(self.values(count)?),
                None => Value::NullArray,
            },
            b'~' => Value::Set(self.values(count(&text)?.ok_or(invalid)?)?),
            b'>' => Value::Push(self.values(count(&text)?.ok_or(invalid)?)?),
            b'%' => Value::Map(self.pairs(count(&text)?.ok_or(invalid)?)?),
            b'|' => Value::Attributed {
                attributes: self.pairs(count(&text)?.ok_or(invalid)?)?,
                value: Box::new(self.value()?),
            },
            _ => scalar(marker, text)?,
        })
    }

    /// The rest of the header's line.
    fn line(&mut self) -> Result<Bytes, DecodeError> {
        let start = self.position + 1;
        let (text, after) = line(&self.whole, start, &mut 0, usize::MAX)?
            .ok_or(DecodeError::Invalid { what: "line" })?;
        let text = start..start + text.len();
        self.position = after;
        Ok(self.whole.slice(text))
    }

    fn bulk(&mut self, digits: &[u8]) -> Result<Option<Bytes>, DecodeError> {
        let Some(bytes) = count(digits)? else {
            return Ok(None);
        };
        let content = self.position..self.position.saturating_add(bytes);
        if self.whole.len() < content.end.saturating_add(2) {
            return Err(DecodeError::Invalid {
                what: "bulk length",
            });
        }
        self.position = content.end + 2;
        Ok(Some(self.whole.slice(content)))
    }

    fn values(&mut self, count: usize) -> Result<Vec<Value>, DecodeError> {
        (0..count).map(|_| self.value()).collect()
    }

    fn pairs(&mut self, count: usize) -> Result<Vec<(Value, Value)>, DecodeError> {
        (0..count)
            .map(|_| Ok((self.value()?, self.value()?)))
            .collect()
    }
}

fn count(digits: &[u8]) -> Result<Option<usize>, DecodeError> {
    Ok(match length(digits, "length", usize::MAX)? {
        Length::Null => None,
        Length::Of(count) => Some(count),
    })
}

fn scalar(marker: u8, text: Bytes) -> Result<Value, DecodeError> {
    let invalid = |what| DecodeError::Invalid { what };
    match marker {
        b'_' if text.is_empty() => Ok(Value::Null),
        b'#' => match &text[..] {
            b"t" => Ok(Value::Boolean(true)),
            b"f" => Ok(Value::Boolean(false)),
            _ => Err(invalid("boolean")),
        },
        b',' => double(&text).map(Value::Double).ok_or(invalid("double")),
        b'(' if is_number(&text) => Ok(Value::BigNumber(text)),
        b'_' => Err(invalid("null")),
        b'(' => Err(invalid("big number")),
        found => Err(DecodeError::Unexpected {
            expected: "the type of a value",
            found,
        }),
    }
}

fn double(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let plain = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
    let named = ["inf", "-inf", "nan", "-nan"].contains(&text);
    if !named && !text.bytes().all(plain) {
        return None;
    }
    text.parse().ok()
}

fn is_number(text: &[u8]) -> bool {
    let digits = match text {
        [b'+' | b'-', digits @ ..] => digits,
        digits => digits,
    };
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

fn verbatim(content: &Bytes) -> Result<Value, DecodeError> {
    match content.split_first_chunk::<4>() {
        Some(([a, b, c, b':'], _)) => Ok(Value::Verbatim {
            format: [*a, *b, *c],
            text: content.slice(4..),
        }),
        _ => Err(DecodeError::Invalid {
            what: "verbatim string",
        }),
    }
}

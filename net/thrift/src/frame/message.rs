//! The body of a THFT request: one message of Thrift, with the name of the request and its number.

use super::Name;
use crate::binary::{Decode, Encode, Reader, read_only_field, write_only_field};
use crate::{DecodeError, Fault, Progress};

/// A request: name, number and arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    pub name: Name,
    /// Echoed in the answer.
    pub seqid: i32,
    /// A struct of one field.
    pub arguments: &'a [u8],
}

const CALL: u8 = 1;
const REPLY: u8 = 2;
const ONEWAY: u8 = 4;
/// In the upper half of the first word, if the encoding is strict.
const VERSION: u32 = 0x8001_0000;
/// Apache's longest name has 47 bytes; more are read to be answered, and no more than this.
const NAME_BYTES_MAX: usize = 256;

impl<'a> Message<'a> {
    /// Of a whole body.
    ///
    /// # Errors
    /// When it ends too early, or is no call.
    pub fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let (kind, name, seqid) = head(&mut reader)?;
        check_kind(kind)?;
        Ok(Self {
            name,
            seqid,
            arguments: reader.rest(),
        })
    }

    /// Name and number of a message of which only the beginning is there.
    ///
    /// # Errors
    /// When it is no call.
    pub fn peek(start: &[u8]) -> Result<Progress<(Name, i32)>, DecodeError> {
        match Message::decode(start) {
            Ok(message) => Ok(Progress::Done((message.name, message.seqid))),
            Err(DecodeError {
                fault: Fault::Truncated { needed, left },
                ..
            }) => {
                let missing = usize::try_from(needed.saturating_sub(left)).unwrap_or(usize::MAX);
                Ok(Progress::NeedMore(start.len().saturating_add(missing)))
            }
            Err(error) => Err(error),
        }
    }

    /// The request.
    ///
    /// # Errors
    /// When the arguments are of another type, or bytes are missing or left over.
    pub fn request<T: Decode<'a> + Default>(&self) -> Result<T, DecodeError> {
        read_only_field(&mut Reader::new(self.arguments))
    }
}

/// Appends a call.
pub fn encode_call<T: Encode>(name: &[u8], seqid: i32, request: &T, out: &mut Vec<u8>) {
    encode_head(CALL, name, b"", seqid, out);
    write_only_field(1, request, out);
}

/// Appends the head of an answer to the request with this name.
pub(super) fn encode_reply_head(name: &[u8], seqid: i32, out: &mut Vec<u8>) {
    encode_head(REPLY, name, super::name::ACK, seqid, out);
}

/// The head of an answer: its name and number.
pub(super) fn decode_reply_head(reader: &mut Reader<'_>) -> Result<(Name, i32), DecodeError> {
    let (kind, name, seqid) = head(reader)?;
    if kind != REPLY {
        return Err(unexpected(kind, REPLY));
    }
    Ok((name, seqid))
}

fn encode_head(kind: u8, name: &[u8], suffix: &[u8], seqid: i32, out: &mut Vec<u8>) {
    (VERSION | u32::from(kind)).cast_signed().encode(out);
    crate::binary::write_length(name.len() + suffix.len(), out);
    out.extend_from_slice(name);
    out.extend_from_slice(suffix);
    seqid.encode(out);
}

/// Kind, name and number; both encodings, with a version and without.
fn head(reader: &mut Reader<'_>) -> Result<(u8, Name, i32), DecodeError> {
    let within = |error: DecodeError| error.within("message", "head");
    let first = reader.i32().map_err(within)?;
    if first >= 0 {
        let name = name(reader, first)?;
        let kind = reader.byte().map_err(within)?;
        return Ok((kind, name, reader.i32().map_err(within)?));
    }
    let [high, version, _, kind] = first.to_be_bytes();
    if [high, version] != [0x80, 0x01] {
        let fault = Fault::Unexpected {
            found: first.into(),
            expected: VERSION.into(),
        };
        return Err(within(DecodeError::new("", fault)));
    }
    let length = reader.i32().map_err(within)?;
    let name = name(reader, length)?;
    Ok((kind, name, reader.i32().map_err(within)?))
}

fn name(reader: &mut Reader<'_>, length: i32) -> Result<Name, DecodeError> {
    let within = |error: DecodeError| error.within("message", "name");
    let fault = match usize::try_from(length) {
        Err(_) => Fault::Negative { found: length },
        Ok(length) if length > NAME_BYTES_MAX => Fault::TooLarge {
            found: length as u64,
            max: NAME_BYTES_MAX as u64,
        },
        Ok(length) => return Ok(Name::new(reader.take(length).map_err(within)?)),
    };
    Err(within(DecodeError::new("", fault)))
}

fn check_kind(kind: u8) -> Result<(), DecodeError> {
    match kind {
        CALL | ONEWAY => Ok(()),
        other => Err(unexpected(other, CALL)),
    }
}

fn unexpected(found: u8, expected: u8) -> DecodeError {
    let fault = Fault::Unexpected {
        found: found.into(),
        expected: expected.into(),
    };
    DecodeError::new("", fault).within("message", "type")
}

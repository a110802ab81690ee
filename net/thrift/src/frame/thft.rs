//! THFT: what all clients but the C++ one speak. Big-endian; header versions 0 and 1.

use super::message::{decode_reply_head, encode_call, encode_reply_head};
use super::{Extent, Frame, Limits, Name, Progress, length};
use crate::binary::{Decode, Encode, Reader, read_only_field, write_only_field};
use crate::{DecodeError, ErrorCode, Fault, FrameStatus};

pub const MAGIC: [u8; 4] = *b"THFT";
const V0_HEADER_BYTES: usize = 48;
const V0_BODY_LENGTH_AT: usize = 16;
const V1_HEADER_BYTES: usize = 16;
/// What stands between header and body in version 1 takes 37 bytes.
const META_BYTES_MAX: usize = 1024;
/// Answers begin with their own length, which counts itself.
const LENGTH_BYTES: usize = 4;

/// Which header a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Version {
    /// Go, Python, Node.
    #[default]
    V0,
    /// Java, Scala.
    V1,
}

/// The header of a request, of either version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Header {
    pub version: Version,
    /// The table; 0 or -1 for requests to meta.
    pub app_id: i32,
    pub partition_index: i32,
    /// Milliseconds; 0 = unspecified. Not to be relied upon: the Go client sends anything.
    pub timeout_ms: i32,
    /// Hash of the key, or the index of the partition, or 0.
    pub partition_hash: u64,
    /// Any replica may answer. Version 1 only.
    pub is_backup_request: bool,
}

structure! {
/// What version 1 has between header and body.
"thrift_request_meta_v1" => pub struct Meta {
    1 app_id: Option<i32>,
    2 partition_index: Option<i32>,
    3 client_timeout: Option<i32>,
    4 client_partition_hash: Option<i64>,
    5 is_backup_request: Option<bool>,
}
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    pub status: ErrorCode,
    /// That of the request, with `_ACK`.
    pub name: Name,
    pub seqid: i32,
    /// A struct of one field; empty if the status is not OK.
    pub result: &'a [u8],
}

/// A header without its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub header: Header,
    /// Bytes in front of the body.
    pub header_bytes: usize,
    /// Bytes of the body, up to 2^31 - 1.
    pub body_bytes: usize,
}

/// The request at the front of the input. Its body is a [`Message`](super::Message).
///
/// # Errors
/// When the header is not one, or announces more than the limits; the connection is of no more use then.
pub fn parse_request(
    input: &[u8],
    limits: &Limits,
) -> Result<Progress<Frame<Header>>, DecodeError> {
    let (version, extent) = match extent(input)? {
        Progress::NeedMore(bytes) => return Ok(Progress::NeedMore(bytes)),
        Progress::Done(found) => found,
    };
    if let Progress::NeedMore(bytes) = extent.whole(WHAT, input, limits)? {
        return Ok(Progress::NeedMore(bytes));
    }
    let header = header(version, input, extent.header_bytes)?;
    Ok(Progress::Done(extent.frame(header)))
}

/// Bytes of the request at the front of the input, without a look at what does not matter for that.
pub(crate) fn frame_length(input: &[u8], limits: &Limits) -> Result<Progress<usize>, DecodeError> {
    match extent(input)? {
        Progress::NeedMore(bytes) => Ok(Progress::NeedMore(bytes)),
        Progress::Done((_, extent)) => extent.whole(WHAT, input, limits),
    }
}

/// The header at the front of the input, whatever it says about the body.
///
/// # Errors
/// When it is not one.
pub fn parse_header(input: &[u8]) -> Result<Progress<Head>, DecodeError> {
    let (version, extent) = match extent(input)? {
        Progress::NeedMore(bytes) => return Ok(Progress::NeedMore(bytes)),
        Progress::Done(found) => found,
    };
    let Extent {
        header_bytes,
        body_bytes,
    } = extent;
    if input.len() < header_bytes {
        return Ok(Progress::NeedMore(header_bytes));
    }
    Ok(Progress::Done(Head {
        header: header(version, input, header_bytes)?,
        header_bytes,
        body_bytes,
    }))
}

/// Which version, and how long header and body are.
fn extent(input: &[u8]) -> Result<Progress<(Version, Extent)>, DecodeError> {
    if let Some(magic) = input.first_chunk::<4>()
        && *magic != MAGIC
    {
        let (found, expected) = (u32::from_be_bytes(*magic), u32::from_be_bytes(MAGIC));
        return Err(unexpected("magic", found, expected));
    }
    let Some(start) = input.first_chunk::<V1_HEADER_BYTES>() else {
        return Ok(Progress::NeedMore(V1_HEADER_BYTES));
    };
    let mut fields = Reader::new(start);
    let (_magic, version) = (fields.i32()?, fields.i32()?);
    match version {
        0 => extent_v0(input, fields.i32()?.cast_unsigned()),
        1 => extent_v1(fields),
        found => {
            let found = found.into();
            Err(DecodeError::new("", Fault::Unknown { found }).within(WHAT, "hdr_version"))
        }
    }
}

fn extent_v0(input: &[u8], header_bytes: u32) -> Result<Progress<(Version, Extent)>, DecodeError> {
    if header_bytes as usize != V0_HEADER_BYTES {
        return Err(unexpected("hdr_length", header_bytes, 48));
    }
    let Some(header) = input.first_chunk::<V0_HEADER_BYTES>() else {
        return Ok(Progress::NeedMore(V0_HEADER_BYTES));
    };
    let mut fields = Reader::new(header);
    fields.take(V0_BODY_LENGTH_AT)?;
    let extent = Extent {
        header_bytes: V0_HEADER_BYTES,
        body_bytes: length(WHAT, "body_length", fields.i32()?.cast_unsigned())?,
    };
    Ok(Progress::Done((Version::V0, extent)))
}

fn extent_v1(mut fields: Reader<'_>) -> Result<Progress<(Version, Extent)>, DecodeError> {
    let meta_bytes = length(WHAT, "meta_length", fields.i32()?.cast_unsigned())?;
    if meta_bytes > META_BYTES_MAX {
        let fault = Fault::TooLarge {
            found: meta_bytes as u64,
            max: META_BYTES_MAX as u64,
        };
        return Err(DecodeError::new("", fault).within(WHAT, "meta_length"));
    }
    let extent = Extent {
        header_bytes: V1_HEADER_BYTES + meta_bytes,
        body_bytes: length(WHAT, "body_length", fields.i32()?.cast_unsigned())?,
    };
    Ok(Progress::Done((Version::V1, extent)))
}

/// What stands in a header that is all there.
fn header(version: Version, input: &[u8], header_bytes: usize) -> Result<Header, DecodeError> {
    let header = input.get(..header_bytes).unwrap_or_default();
    match version {
        Version::V0 => header_v0(Reader::new(header)),
        Version::V1 => header_v1(Reader::new(header)),
    }
}

fn header_v0(mut fields: Reader<'_>) -> Result<Header, DecodeError> {
    // The checksums are always 0, and nobody looks at them.
    fields.take(V0_BODY_LENGTH_AT + 8)?;
    let (app_id, partition_index, timeout_ms) = (fields.i32()?, fields.i32()?, fields.i32()?);
    // The thread hash follows from table and partition.
    fields.i32()?;
    Ok(Header {
        version: Version::V0,
        app_id,
        partition_index,
        timeout_ms,
        partition_hash: fields.i64()?.cast_unsigned(),
        is_backup_request: false,
    })
}

fn header_v1(mut fields: Reader<'_>) -> Result<Header, DecodeError> {
    fields.take(V1_HEADER_BYTES)?;
    let meta = Meta::decode(&mut fields).map_err(|error| error.within(WHAT, "meta"))?;
    if !fields.rest().is_empty() {
        let bytes = fields.rest().len() as u64;
        return Err(DecodeError::new("", Fault::Trailing { bytes }).within(WHAT, "meta"));
    }
    let partition_hash = meta.client_partition_hash.unwrap_or_default();
    Ok(Header {
        version: Version::V1,
        app_id: meta.app_id.unwrap_or_default(),
        partition_index: meta.partition_index.unwrap_or_default(),
        timeout_ms: meta.client_timeout.unwrap_or_default(),
        partition_hash: partition_hash.cast_unsigned(),
        is_backup_request: meta.is_backup_request.unwrap_or_default(),
    })
}

/// Appends a request.
pub fn encode_request<T: Encode>(
    header: &Header,
    name: &[u8],
    seqid: i32,
    request: &T,
    out: &mut Vec<u8>,
) {
    let body_length_at = match header.version {
        Version::V0 => encode_v0(header, out),
        Version::V1 => encode_v1(header, out),
    };
    let body = out.len();
    encode_call(name, seqid, request, out);
    patch_length(body_length_at, out.len() - body, out);
}

/// Where the length of the body has to go.
fn encode_v0(header: &Header, out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&MAGIC);
    for word in [0, 48, 0] {
        i32::encode(&word, out);
    }
    let body_length_at = out.len();
    for word in [
        0,
        0,
        header.app_id,
        header.partition_index,
        header.timeout_ms,
        super::thread_hash(header.app_id, header.partition_index),
    ] {
        word.encode(out);
    }
    header.partition_hash.cast_signed().encode(out);
    body_length_at
}

fn encode_v1(header: &Header, out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&MAGIC);
    1_i32.encode(out);
    let meta_length_at = out.len();
    0_i32.encode(out);
    let body_length_at = out.len();
    0_i32.encode(out);
    let meta = out.len();
    Meta {
        app_id: Some(header.app_id),
        partition_index: Some(header.partition_index),
        client_timeout: Some(header.timeout_ms),
        client_partition_hash: Some(header.partition_hash.cast_signed()),
        is_backup_request: Some(header.is_backup_request),
    }
    .encode(out);
    patch_length(meta_length_at, out.len() - meta, out);
    body_length_at
}

/// Appends the answer to a request that was handled. `name` is that of the request.
#[inline]
pub fn encode_reply<T: Encode>(name: &[u8], seqid: i32, response: &T, out: &mut Vec<u8>) {
    let start = encode_reply_start(name, seqid, FrameStatus::Ok, out);
    write_only_field(0, response, out);
    patch_length(start, out.len() - start, out);
}

/// Appends the answer to a request that was not handled; with [`FrameStatus::Ok`] it would be malformed.
pub fn encode_error(name: &[u8], seqid: i32, status: FrameStatus, out: &mut Vec<u8>) {
    let start = encode_reply_start(name, seqid, status, out);
    patch_length(start, out.len() - start, out);
}

fn encode_reply_start(name: &[u8], seqid: i32, status: FrameStatus, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    0_i32.encode(out);
    status.name().encode(out);
    encode_reply_head(name, seqid, out);
    start
}

/// The extent of the answer at the front of the input; the header is nothing but its length.
///
/// # Errors
/// When the length is out of bounds.
pub fn parse_reply(input: &[u8], limits: &Limits) -> Result<Progress<Frame<()>>, DecodeError> {
    let Some(word) = input.first_chunk::<LENGTH_BYTES>() else {
        return Ok(Progress::NeedMore(LENGTH_BYTES));
    };
    let total = length("thft reply", "length", u32::from_be_bytes(*word))?;
    let Some(body_bytes) = total.checked_sub(LENGTH_BYTES) else {
        let fault = Fault::Truncated {
            needed: LENGTH_BYTES as u64,
            left: total as u64,
        };
        return Err(DecodeError::new("", fault).within("thft reply", "length"));
    };
    let extent = Extent {
        header_bytes: LENGTH_BYTES,
        body_bytes,
    };
    let whole = extent.whole("thft reply", input, limits)?;
    Ok(whole.map(|_| extent.frame(())))
}

impl<'a> Reply<'a> {
    /// Of the body of an answer.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let within = |error: DecodeError| error.within("thft reply", "error");
        let mut reader = Reader::new(body);
        let status = ErrorCode::decode(&mut reader).map_err(within)?;
        let (name, seqid) = decode_reply_head(&mut reader)?;
        Ok(Self {
            status,
            name,
            seqid,
            result: reader.rest(),
        })
    }

    /// What the request was answered with, if the status is OK.
    ///
    /// # Errors
    /// When the result is of another type, or bytes are missing or left over.
    pub fn response<T: Decode<'a> + Default>(&self) -> Result<T, DecodeError> {
        read_only_field(&mut Reader::new(self.result))
    }
}

const WHAT: &str = "thft header";

/// Overwrites the length at this place.
///
/// # Panics
/// When 2 GiB have been written.
fn patch_length(at: usize, length: usize, out: &mut [u8]) {
    let length = i32::try_from(length).expect("a frame is far shorter than 2 GiB");
    out[at..at + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
}

fn unexpected(part: &'static str, found: u32, expected: u32) -> DecodeError {
    let fault = Fault::Unexpected {
        found: found.into(),
        expected: expected.into(),
    };
    DecodeError::new("", fault).within(WHAT, part)
}

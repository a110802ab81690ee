//! RDSN: what the C++ client, the shell and Apache's servers speak. A header of 192 bytes, a C struct, little-endian.

use super::{Extent, Frame, Limits, Name, Progress, length};
use crate::binary::{Decode, Encode, Reader, read_only_field, write_only_field};
use crate::{DecodeError, Fault, FrameStatus, RpcAddress};

pub const MAGIC: [u8; 4] = *b"RDSN";
pub const HEADER_BYTES: usize = 192;
const WHAT: &str = "rdsn header";
const HEADER_CRC_AT: usize = 12;
const NO_CRC: [u8; 4] = [0; 4];

/// The header of a request or of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Header {
    /// The asker's number for the request, echoed.
    pub id: u64,
    pub trace_id: u64,
    /// Of the request; with `_ACK` in an answer.
    pub name: Name,
    /// The table; 0 or less for requests to meta.
    pub app_id: i32,
    pub partition_index: i32,
    pub context: Context,
    /// Who sends. Clients that do not listen leave it out or have no port a server would have.
    pub from: RpcAddress,
    /// Milliseconds; 0 = unspecified.
    pub timeout_ms: i32,
    pub thread_hash: i32,
    pub partition_hash: u64,
    /// Answers only: the name of an error, `ERR_OK` included.
    pub error: Name,
    /// Header and body carry checksums.
    pub has_checksums: bool,
}

/// Flags of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Context(pub u64);

impl Context {
    /// What a client sends: a request in binary Thrift, which may be forwarded.
    pub const REQUEST: Self = Self(Self::IS_REQUEST | Self::BINARY | Self::IS_FORWARD_SUPPORTED);
    const IS_REQUEST: u64 = 1;
    const FORMAT: u64 = 0xf << 6;
    const BINARY: u64 = 1 << 6;
    const IS_FORWARD_SUPPORTED: u64 = 1 << 10;
    const IS_BACKUP_REQUEST: u64 = 1 << 11;

    #[must_use]
    pub const fn is_request(self) -> bool {
        self.0 & Self::IS_REQUEST != 0
    }

    /// The sender follows `ERR_FORWARD_TO_OTHERS`.
    #[must_use]
    pub const fn is_forward_supported(self) -> bool {
        self.0 & Self::IS_FORWARD_SUPPORTED != 0
    }

    /// Any replica may answer.
    #[must_use]
    pub const fn is_backup_request(self) -> bool {
        self.0 & Self::IS_BACKUP_REQUEST != 0
    }

    /// The same, from any replica.
    #[must_use]
    pub const fn with_backup_request(self) -> Self {
        Self(self.0 | Self::IS_BACKUP_REQUEST)
    }

    /// The body is in binary Thrift; the other format is JSON, which nobody uses.
    #[must_use]
    pub const fn is_binary(self) -> bool {
        self.0 & Self::FORMAT == Self::BINARY
    }

    const fn reply(self) -> Self {
        Self(self.0 & !Self::IS_REQUEST)
    }
}

/// A header without its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub header: Header,
    /// Bytes of the body, up to 2^31 - 1.
    pub body_bytes: usize,
    body_checksum: u32,
}

/// The message at the front of the input, request or answer; checksums that are there are checked.
///
/// # Errors
/// When the header is not one, or announces more than the limits; the connection is of no more use then.
pub fn parse(input: &[u8], limits: &Limits) -> Result<Progress<Frame<Header>>, DecodeError> {
    if let Progress::NeedMore(bytes) = frame_length(input, limits)? {
        return Ok(Progress::NeedMore(bytes));
    }
    let head = match parse_header(input)? {
        Progress::NeedMore(bytes) => return Ok(Progress::NeedMore(bytes)),
        Progress::Done(head) => head,
    };
    let frame = extent(head.body_bytes).frame(head.header);
    head.check_body(input.get(frame.body.clone()).unwrap_or_default())?;
    Ok(Progress::Done(frame))
}

/// Bytes of the message at the front of the input, without a look at what does not matter for that.
pub(crate) fn frame_length(input: &[u8], limits: &Limits) -> Result<Progress<usize>, DecodeError> {
    check_magic(input)?;
    let Some(header) = input.first_chunk::<HEADER_BYTES>() else {
        return Ok(Progress::NeedMore(HEADER_BYTES));
    };
    let (_, body_bytes) = lengths(&mut Fields(Reader::new(header)))?;
    extent(body_bytes).whole(WHAT, input, limits)
}

/// The header at the front of the input, whatever it says about the body.
///
/// # Errors
/// When it is not one.
pub fn parse_header(input: &[u8]) -> Result<Progress<Head>, DecodeError> {
    check_magic(input)?;
    match input.first_chunk::<HEADER_BYTES>() {
        None => Ok(Progress::NeedMore(HEADER_BYTES)),
        Some(bytes) => head(bytes).map(Progress::Done),
    }
}

fn check_magic(input: &[u8]) -> Result<(), DecodeError> {
    match input.first_chunk::<4>() {
        Some(magic) if *magic != MAGIC => {
            let (found, expected) = (u32::from_be_bytes(*magic), u32::from_be_bytes(MAGIC));
            Err(unexpected("hdr_type", found, expected))
        }
        _ => Ok(()),
    }
}

const fn extent(body_bytes: usize) -> Extent {
    Extent {
        header_bytes: HEADER_BYTES,
        body_bytes,
    }
}

/// The beginning of a header: its checksum, and the length of the body.
fn lengths(fields: &mut Fields<'_>) -> Result<(u32, usize), DecodeError> {
    let (_magic, version, header_bytes) = (fields.u32()?, fields.u32()?, fields.u32()?);
    if version != 0 {
        return Err(unexpected("hdr_version", version, 0));
    }
    if header_bytes as usize != HEADER_BYTES {
        return Err(unexpected("hdr_length", header_bytes, 192));
    }
    let checksum = fields.u32()?;
    Ok((checksum, length(WHAT, "body_length", fields.u32()?)?))
}

fn head(bytes: &[u8; HEADER_BYTES]) -> Result<Head, DecodeError> {
    let mut fields = Fields(Reader::new(bytes));
    let (header_checksum, body_bytes) = lengths(&mut fields)?;
    if header_checksum != 0 {
        check("hdr_crc32", header_checksum, checksum(bytes))?;
    }
    let body_checksum = fields.u32()?;
    let (id, trace_id, name) = (fields.u64()?, fields.u64()?, fields.name()?);
    // The sender's own numbers for the name.
    fields.u64()?;
    let header = Header {
        id,
        trace_id,
        name,
        app_id: fields.i32()?,
        partition_index: fields.i32()?,
        context: Context(fields.u64()?),
        from: RpcAddress::of_bits(fields.u64()?),
        timeout_ms: fields.i32()?,
        thread_hash: fields.i32()?,
        partition_hash: fields.u64()?,
        error: fields.name()?,
        has_checksums: header_checksum != 0 || body_checksum != 0,
    };
    Ok(Head {
        header,
        body_bytes,
        body_checksum,
    })
}

impl Head {
    /// # Errors
    /// When the checksum of the body, if there is one, is not that of these bytes.
    pub(crate) fn check_body(&self, body: &[u8]) -> Result<(), DecodeError> {
        if self.body_checksum == 0 {
            return Ok(());
        }
        check("body_crc32", self.body_checksum, crc32c::crc32c(body))
    }
}

/// What a body holds: a struct of one field.
///
/// # Errors
/// When the field is of another type, or bytes are missing or left over.
pub fn decode_body<'a, T: Decode<'a> + Default>(body: &'a [u8]) -> Result<T, DecodeError> {
    read_only_field(&mut Reader::new(body))
}

impl Header {
    /// Of a client's request.
    #[must_use]
    pub fn request(name: Name, id: u64) -> Self {
        Self {
            id,
            name,
            context: Context::REQUEST,
            ..Self::default()
        }
    }

    /// To this partition; `partition_hash` is the hash of the key.
    #[must_use]
    pub const fn to_partition(
        self,
        app_id: i32,
        partition_index: i32,
        partition_hash: u64,
    ) -> Self {
        Self {
            app_id,
            partition_index,
            partition_hash,
            thread_hash: super::thread_hash(app_id, partition_index),
            ..self
        }
    }

    /// Of the answer to the request with this header. Has checksums if the request had.
    #[must_use]
    pub fn reply(&self, from: RpcAddress, status: FrameStatus) -> Self {
        Self {
            name: self.name.ack(),
            context: self.context.reply(),
            from,
            error: status.name().into(),
            ..*self
        }
    }

    /// # Errors
    /// When it is an answer, or its body is not in binary Thrift.
    pub(crate) fn check_request(&self) -> Result<(), DecodeError> {
        if self.context.is_request() && self.context.is_binary() {
            return Ok(());
        }
        let fault = Fault::Unexpected {
            found: self.context.0.cast_signed(),
            expected: Context::REQUEST.0.cast_signed(),
        };
        Err(DecodeError::new("", fault).within(WHAT, "context"))
    }

    /// Whether the sender has the port of a server, and so is none of the clients that are told where to go.
    #[must_use]
    pub fn is_of_server(&self) -> bool {
        self.from.v4().is_some_and(|address| address.port() > 1023)
    }
}

/// Appends a message with this header and what `value` is, a request or an answer.
pub fn encode<T: Encode>(header: &Header, value: &T, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    write_only_field(0, value, out);
    finish(header, start, out);
}

/// Appends a message without a body: the answer to a request that was not handled.
pub fn encode_empty(header: &Header, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    finish(header, start, out);
}

/// Appends the answer of a meta that does not lead: the client is to ask there.
pub fn encode_forward(request: &Header, from: RpcAddress, leader: RpcAddress, out: &mut Vec<u8>) {
    let header = Header {
        error: crate::ErrorCode::ForwardToOthers.name().into(),
        ..request.reply(from, FrameStatus::Ok)
    };
    encode(&header, &leader, out);
}

fn finish(header: &Header, start: usize, out: &mut [u8]) {
    let (head, body) = out[start..].split_at_mut(HEADER_BYTES);
    let mut bytes = header_bytes(header, body);
    if header.has_checksums {
        let checksum = checksum(&bytes).to_le_bytes();
        bytes[HEADER_CRC_AT..HEADER_CRC_AT + checksum.len()].copy_from_slice(&checksum);
    }
    head.copy_from_slice(&bytes);
}

fn header_bytes(header: &Header, body: &[u8]) -> [u8; HEADER_BYTES] {
    let body_length = u32::try_from(body.len()).expect("a body is far shorter than 4 GiB");
    let body_checksum = if header.has_checksums {
        crc32c::crc32c(body)
    } else {
        0
    };
    let mut bytes = [0; HEADER_BYTES];
    let mut rest = bytes.as_mut_slice();
    let mut put = |field: &[u8]| {
        let (here, after) = std::mem::take(&mut rest).split_at_mut(field.len());
        here.copy_from_slice(field);
        rest = after;
    };
    put(&MAGIC);
    put(&0_u32.to_le_bytes());
    put(&192_u32.to_le_bytes());
    put(&NO_CRC);
    put(&body_length.to_le_bytes());
    put(&body_checksum.to_le_bytes());
    put(&header.id.to_le_bytes());
    put(&header.trace_id.to_le_bytes());
    put(&header.name.padded());
    put(&0_u64.to_le_bytes());
    put(&header.app_id.to_le_bytes());
    put(&header.partition_index.to_le_bytes());
    put(&header.context.0.to_le_bytes());
    put(&header.from.bits().to_le_bytes());
    put(&header.timeout_ms.to_le_bytes());
    put(&header.thread_hash.to_le_bytes());
    put(&header.partition_hash.to_le_bytes());
    put(&header.error.padded());
    bytes
}

/// Of a header, with zeros where the checksum itself stands.
fn checksum(header: &[u8; HEADER_BYTES]) -> u32 {
    let (before, rest) = header.split_at(HEADER_CRC_AT);
    let (_, after) = rest.split_at(NO_CRC.len());
    crc32c::crc32c_append(
        crc32c::crc32c_append(crc32c::crc32c(before), &NO_CRC),
        after,
    )
}

fn check(part: &'static str, found: u32, expected: u32) -> Result<(), DecodeError> {
    if found != expected {
        return Err(DecodeError::new("", Fault::Checksum { found, expected }).within(WHAT, part));
    }
    Ok(())
}

fn unexpected(part: &'static str, found: u32, expected: u32) -> DecodeError {
    let fault = Fault::Unexpected {
        found: found.into(),
        expected: expected.into(),
    };
    DecodeError::new("", fault).within(WHAT, part)
}

/// Little-endian fields of a header that is long enough.
struct Fields<'a>(Reader<'a>);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let bytes = self.0.take(N)?;
        Ok(bytes.first_chunk().copied().unwrap_or([0; N]))
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    fn i32(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    fn name(&mut self) -> Result<Name, DecodeError> {
        self.array().map(|padded| Name::of_padded(&padded))
    }
}

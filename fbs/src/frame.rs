//! The native frame: a fixed header and a FlatBuffers body.
//!
//! | offset | size | field | |
//! |---|---|---|---|
//! | 0 | 4 | magic | `89 50 47 53`; the high bit of the first byte tells it from every text protocol |
//! | 4 | 1 | version | 1 |
//! | 5 | 1 | kind | `FrameKind`; the kind names the body's root table |
//! | 6 | 2 | flags | bit 0: reply, bit 1: failure (the body is `kv.Failure`) |
//! | 8 | 4 | body_length | bytes after the header, at most `BODY_BYTES_MAX` |
//! | 12 | 4 | crc | CRC32C of the header with this field as 0, then the body |
//! | 16 | 8 | request id | chosen by the asker, copied into the reply |
//! | 24 | 4 | table id | 0 where no partition is addressed |
//! | 28 | 4 | partition index | |
//! | 32 | 4 | timeout_ms | what is left of the asker's deadline; 0 = none given |
//! | 36 | 4 | reserved | 0 |
//!
//! All integers little-endian. The body starts at a multiple of 8 from the frame's start. Unknown flag bits and the
//! reserved field are ignored by readers and written as 0. Frames may lie at any address in memory: FlatBuffers are
//! read with unaligned loads.

mod kind;

pub use kind::FrameKind;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

/// First four bytes of every native frame.
pub const MAGIC: [u8; 4] = [0x89, b'P', b'G', b'S'];
/// The only version of the frame layout so far.
pub const VERSION: u8 = 1;
/// Bytes of the header.
pub const HEADER_BYTES: usize = 40;
/// The largest body anybody may send; a receiver may set a lower bound for its side. A frame over the bound is refused
/// by closing the connection.
pub const BODY_BYTES_MAX: usize = 64 << 20;
/// Flag: the frame answers a request with the same id.
pub const FLAG_REPLY: u16 = 1;
/// Flag: the body is `kv.Failure`, whatever the kind.
pub const FLAG_FAILURE: u16 = 2;

/// Why bytes are not a frame. The stream cannot be resynchronised after any of them: close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    #[error("not a native frame: first bytes {found:02x?}")]
    Magic { found: [u8; 4] },
    #[error("frame version {found}, only {VERSION} is known")]
    Version { found: u8 },
    #[error("unknown frame kind {found}")]
    Kind { found: u8 },
    #[error("frame body of {found} bytes, the limit is {max}")]
    TooLarge { found: usize, max: usize },
    #[error("frame checksum {found:08x}, computed {computed:08x}")]
    Checksum { found: u32, computed: u32 },
}

/// The fields of a frame header that carry meaning; length and checksum are filled in by [`encode_frame`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub kind: FrameKind,
    /// [`FLAG_REPLY`], [`FLAG_FAILURE`].
    pub flags: u16,
    /// Chosen by the asker, copied into the reply.
    pub request_id: u64,
    /// Table number, 0 where no partition is addressed.
    pub table: u32,
    /// Partition index within the table, from 0.
    pub partition: u32,
    /// What is left of the asker's deadline, in milliseconds; 0 = none given.
    pub timeout_ms: u32,
}

impl Header {
    /// A request that addresses no partition and names no deadline.
    #[must_use]
    pub const fn request(kind: FrameKind, request_id: u64) -> Self {
        Self {
            kind,
            flags: 0,
            request_id,
            table: 0,
            partition: 0,
            timeout_ms: 0,
        }
    }

    /// The same header addressed to a partition.
    #[must_use]
    pub const fn to_partition(mut self, table: u32, partition: u32) -> Self {
        self.table = table;
        self.partition = partition;
        self
    }

    /// The same header with what is left of the deadline, in milliseconds.
    #[must_use]
    pub const fn with_timeout_ms(mut self, timeout_ms: u32) -> Self {
        self.timeout_ms = timeout_ms;
        self
    }

    /// The header of the successful answer to `self`.
    #[must_use]
    pub const fn reply(&self) -> Self {
        Self {
            flags: FLAG_REPLY,
            timeout_ms: 0,
            ..*self
        }
    }

    /// The header of the answer that carries a `kv.Failure`.
    #[must_use]
    pub const fn failure(&self) -> Self {
        Self {
            flags: FLAG_REPLY | FLAG_FAILURE,
            timeout_ms: 0,
            ..*self
        }
    }

    #[must_use]
    pub const fn is_reply(&self) -> bool {
        self.flags & FLAG_REPLY != 0
    }

    #[must_use]
    pub const fn is_failure(&self) -> bool {
        self.flags & FLAG_FAILURE != 0
    }

    /// The header's bytes for a body of `body_length` bytes, with `crc` in its place.
    fn encode(&self, body_length: u32, crc: u32) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut out = &mut bytes[..];
        out.put_slice(&MAGIC);
        out.put_u8(VERSION);
        out.put_u8(self.kind.number());
        out.put_u16_le(self.flags);
        out.put_u32_le(body_length);
        out.put_u32_le(crc);
        out.put_u64_le(self.request_id);
        out.put_u32_le(self.table);
        out.put_u32_le(self.partition);
        out.put_u32_le(self.timeout_ms);
        bytes
    }
}

/// Appends one frame to `out` (a `Vec<u8>` or `BytesMut`): the body is copied once.
///
/// # Panics
/// If `body` is over [`BODY_BYTES_MAX`]: the sender checks sizes where it can answer with a sentence.
pub fn encode_frame(out: &mut impl BufMut, header: &Header, body: &[u8]) {
    assert!(
        body.len() <= BODY_BYTES_MAX,
        "frame body of {} bytes",
        body.len()
    );
    #[allow(clippy::cast_possible_truncation, reason = "the line above bounds it")]
    let body_length = body.len() as u32;
    let mut bytes = header.encode(body_length, 0);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes), body);
    bytes[CRC_OFFSET..CRC_OFFSET + 4].copy_from_slice(&crc.to_le_bytes());
    out.put_slice(&bytes);
    out.put_slice(body);
}

/// What [`parse`] found at the start of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// The frame's total length is known to be at least this many bytes, which are not all there yet.
    Incomplete { frame_bytes: usize },
    /// One whole frame of `HEADER_BYTES + body.len()` bytes, its checksum verified.
    Frame { header: Header, body: &'a [u8] },
}

/// Looks at the start of `input` for one frame, without copying. Garbage is refused from its first byte on.
///
/// # Errors
/// See [`DecodeError`]; a body over `body_bytes_max` is refused before it has arrived.
pub fn parse(input: &[u8], body_bytes_max: usize) -> Result<Parsed<'_>, DecodeError> {
    let Some((head, rest)) = input.split_first_chunk::<HEADER_BYTES>() else {
        check_prefix(input)?;
        return Ok(Parsed::Incomplete {
            frame_bytes: HEADER_BYTES,
        });
    };
    let (header, body_length, crc) = decode_header(head)?;
    if body_length > body_bytes_max {
        return Err(DecodeError::TooLarge {
            found: body_length,
            max: body_bytes_max,
        });
    }
    let Some(body) = rest.get(..body_length) else {
        return Ok(Parsed::Incomplete {
            frame_bytes: HEADER_BYTES + body_length,
        });
    };
    let computed = checksum(head, body);
    if computed != crc {
        return Err(DecodeError::Checksum {
            found: crc,
            computed,
        });
    }
    Ok(Parsed::Frame { header, body })
}

/// Header and body length of the frame at the start of `input`, once 40 bytes are there; nothing is checked but that
/// they are a header. For a receiver that answers a frame over its bound instead of closing.
///
/// # Errors
/// See [`DecodeError`].
pub fn peek(input: &[u8]) -> Result<Option<(Header, usize)>, DecodeError> {
    let Some(head) = input.first_chunk::<HEADER_BYTES>() else {
        check_prefix(input)?;
        return Ok(None);
    };
    let (header, body_length, _) = decode_header(head)?;
    Ok(Some((header, body_length)))
}

/// One received frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub header: Header,
    /// Shares the receive buffer's memory.
    pub body: Bytes,
}

/// Cuts frames off the front of a receive buffer.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    body_bytes_max: usize,
}

impl Decoder {
    /// A decoder that refuses bodies over `body_bytes_max` (requests and replies may have different bounds), at most
    /// [`BODY_BYTES_MAX`].
    #[must_use]
    pub const fn new(body_bytes_max: usize) -> Self {
        let body_bytes_max = if body_bytes_max < BODY_BYTES_MAX {
            body_bytes_max
        } else {
            BODY_BYTES_MAX
        };
        Self { body_bytes_max }
    }

    /// Takes the next whole frame out of `buffer`, or `None` when more bytes are needed; `buffer` then has room
    /// reserved for them once the header is there.
    ///
    /// # Errors
    /// See [`DecodeError`]; the buffer is left as it is.
    pub fn decode(&self, buffer: &mut BytesMut) -> Result<Option<Frame>, DecodeError> {
        let (header, body_length) = match parse(buffer, self.body_bytes_max)? {
            Parsed::Frame { header, body } => (header, body.len()),
            Parsed::Incomplete { frame_bytes } => {
                buffer.reserve(
                    frame_bytes
                        .saturating_sub(buffer.len())
                        .min(RESERVE_BYTES_MAX),
                );
                return Ok(None);
            }
        };
        buffer.advance(HEADER_BYTES);
        Ok(Some(Frame {
            header,
            body: buffer.split_to(body_length).freeze(),
        }))
    }
}

const CRC_OFFSET: usize = 12;
/// Memory follows received bytes, not a length somebody claims.
const RESERVE_BYTES_MAX: usize = 256 << 10;

fn checksum(head: &[u8; HEADER_BYTES], body: &[u8]) -> u32 {
    let mut zeroed = *head;
    zeroed[CRC_OFFSET..CRC_OFFSET + 4].fill(0);
    crc32c::crc32c_append(crc32c::crc32c(&zeroed), body)
}

fn check_prefix(input: &[u8]) -> Result<(), DecodeError> {
    let known = input.len().min(MAGIC.len());
    if input[..known] != MAGIC[..known] {
        let mut found = [0; 4];
        found[..known].copy_from_slice(&input[..known]);
        return Err(DecodeError::Magic { found });
    }
    Ok(())
}

fn decode_header(head: &[u8; HEADER_BYTES]) -> Result<(Header, usize, u32), DecodeError> {
    check_prefix(head)?;
    let mut input = &head[MAGIC.len()..];
    let version = input.get_u8();
    if version != VERSION {
        return Err(DecodeError::Version { found: version });
    }
    let kind = FrameKind::try_from(input.get_u8())?;
    let flags = input.get_u16_le();
    let body_length = input.get_u32_le() as usize;
    let crc = input.get_u32_le();
    let request_id = input.get_u64_le();
    let table = input.get_u32_le();
    let partition = input.get_u32_le();
    let timeout_ms = input.get_u32_le();
    Ok((
        Header {
            kind,
            flags,
            request_id,
            table,
            partition,
            timeout_ms,
        },
        body_length,
        crc,
    ))
}

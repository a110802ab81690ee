//! A request of either protocol, and the way back to its sender.

use crate::binary::{Decode, Encode, Reader, read_only_field};
use crate::frame::{Message, rdsn, thft};
use crate::{DecodeError, FrameStatus, Limits, Name, Progress, Rpc, RpcAddress};

/// Which protocol a connection speaks, decided once by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    Thft,
    Rdsn,
}

/// A request, before its arguments are looked at. They borrow from the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// `None`: no request of Apache Pegasus has this name.
    pub rpc: Option<Rpc>,
    /// The table; 0 or less where none is addressed.
    pub app_id: i32,
    pub partition_index: i32,
    /// What the client gave, in milliseconds; 0 or less = nothing. Not to be relied upon.
    pub timeout_ms: i32,
    /// Hash of the key, or the index of the partition, or 0.
    pub partition_hash: u64,
    /// Any replica may answer.
    pub is_backup_request: bool,
    /// Bytes of the body: what limits of the size of a write refer to.
    pub body_bytes: usize,
    pub reply_to: ReplyTo,
    arguments: &'a [u8],
}

/// All that is needed to answer a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "copied once for each request; a box would be allocated for each"
)]
pub enum ReplyTo {
    Thft { name: Name, seqid: i32 },
    Rdsn(rdsn::Header),
}

/// A request that is too large, while its beginning is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Oversized {
    pub rpc: Option<Rpc>,
    /// The partition, as in [`Call`].
    pub app_id: i32,
    pub partition_index: i32,
    pub is_backup_request: bool,
    pub body_bytes: usize,
    /// Bytes of the whole frame, to be thrown away after the answer.
    pub frame_bytes: usize,
    pub reply_to: ReplyTo,
}

/// The protocol of a stream that begins like this, `None` if it is neither. Asks for four bytes.
#[must_use]
pub fn detect(input: &[u8]) -> Progress<Option<Protocol>> {
    let Some(magic) = input.first_chunk::<4>() else {
        return Progress::NeedMore(4);
    };
    Progress::Done(match *magic {
        thft::MAGIC => Some(Protocol::Thft),
        rdsn::MAGIC => Some(Protocol::Rdsn),
        _ => None,
    })
}

/// Bytes of the request at the front of the input, once it is all there.
///
/// # Errors
/// When the header is not one, or announces more than the limits. Such a request can be answered, see [`oversized`];
/// otherwise the connection is of no more use.
#[inline]
pub fn frame_length(
    protocol: Protocol,
    input: &[u8],
    limits: &Limits,
) -> Result<Progress<usize>, DecodeError> {
    match protocol {
        Protocol::Thft => thft::frame_length(input, limits),
        Protocol::Rdsn => rdsn::frame_length(input, limits),
    }
}

/// Who sends the request at the front of the input, whose body may be of any size and need not be there.
///
/// # Errors
/// When it is no request.
pub fn oversized(protocol: Protocol, input: &[u8]) -> Result<Progress<Oversized>, DecodeError> {
    match protocol {
        Protocol::Thft => {
            let head = match thft::parse_header(input)? {
                Progress::NeedMore(bytes) => return Ok(Progress::NeedMore(bytes)),
                Progress::Done(head) => head,
            };
            let frame_bytes = head.header_bytes + head.body_bytes;
            let here = input.get(head.header_bytes..frame_bytes.min(input.len()));
            Ok(match Message::peek(here.unwrap_or_default())? {
                Progress::NeedMore(bytes) if bytes > head.body_bytes => {
                    return Err(cut_off(head.header_bytes + bytes, frame_bytes));
                }
                Progress::NeedMore(bytes) => Progress::NeedMore(head.header_bytes + bytes),
                Progress::Done((name, seqid)) => Progress::Done(Oversized {
                    rpc: name.rpc(),
                    app_id: head.header.app_id,
                    partition_index: head.header.partition_index,
                    is_backup_request: head.header.is_backup_request,
                    body_bytes: head.body_bytes,
                    frame_bytes,
                    reply_to: ReplyTo::Thft { name, seqid },
                }),
            })
        }
        Protocol::Rdsn => Ok(rdsn::parse_header(input)?.map(|head| Oversized {
            rpc: head.header.name.rpc(),
            app_id: head.header.app_id,
            partition_index: head.header.partition_index,
            is_backup_request: head.header.context.is_backup_request(),
            body_bytes: head.body_bytes,
            frame_bytes: rdsn::HEADER_BYTES + head.body_bytes,
            reply_to: ReplyTo::Rdsn(head.header),
        })),
    }
}

impl<'a> Call<'a> {
    /// Of a whole frame, as long as [`frame_length`] says.
    ///
    /// # Errors
    /// When the frame is none, its checksums are wrong, or its message is no call. The connection is of no more use then.
    #[inline]
    pub fn decode(protocol: Protocol, frame: &'a [u8]) -> Result<Self, DecodeError> {
        match protocol {
            Protocol::Thft => Self::of_thft(frame),
            Protocol::Rdsn => Self::of_rdsn(frame),
        }
    }

    fn of_thft(frame: &'a [u8]) -> Result<Self, DecodeError> {
        let head = match thft::parse_header(frame)? {
            Progress::NeedMore(bytes) => return Err(cut_off(bytes, frame.len())),
            Progress::Done(head) => head,
        };
        let end = head.header_bytes + head.body_bytes;
        let body = frame.get(head.header_bytes..end);
        let body = body.ok_or_else(|| cut_off(end, frame.len()))?;
        let message = Message::decode(body)?;
        let header = head.header;
        Ok(Self {
            rpc: message.name.rpc(),
            app_id: header.app_id,
            partition_index: header.partition_index,
            timeout_ms: header.timeout_ms,
            partition_hash: header.partition_hash,
            is_backup_request: header.is_backup_request,
            body_bytes: body.len(),
            reply_to: ReplyTo::Thft {
                name: message.name,
                seqid: message.seqid,
            },
            arguments: message.arguments,
        })
    }

    fn of_rdsn(frame: &'a [u8]) -> Result<Self, DecodeError> {
        let head = match rdsn::parse_header(frame)? {
            Progress::NeedMore(bytes) => return Err(cut_off(bytes, frame.len())),
            Progress::Done(head) => head,
        };
        let header = head.header;
        header.check_request()?;
        let end = rdsn::HEADER_BYTES + head.body_bytes;
        let body = frame.get(rdsn::HEADER_BYTES..end);
        let body = body.ok_or_else(|| cut_off(end, frame.len()))?;
        head.check_body(body)?;
        Ok(Self {
            rpc: header.name.rpc(),
            app_id: header.app_id,
            partition_index: header.partition_index,
            timeout_ms: header.timeout_ms,
            partition_hash: header.partition_hash,
            is_backup_request: header.context.is_backup_request(),
            body_bytes: body.len(),
            reply_to: ReplyTo::Rdsn(header),
            arguments: body,
        })
    }

    /// The name, also of an unknown request.
    #[must_use]
    pub const fn name(&self) -> &Name {
        self.reply_to.name()
    }

    /// What is asked for: the struct that belongs to the request. `T::default()` if the arguments are empty.
    ///
    /// # Errors
    /// When the arguments are of another type, or bytes are missing or left over. The frame is understood all the same:
    /// the request can be answered with an error, and the connection goes on.
    #[inline]
    pub fn request<T: Decode<'a> + Default>(&self) -> Result<T, DecodeError> {
        read_only_field(&mut Reader::new(self.arguments))
    }

    /// As [`Call::request`], with at most so many elements in all its lists together.
    ///
    /// # Errors
    /// See there.
    #[inline]
    pub fn request_within<T: Decode<'a> + Default>(
        &self,
        elements_max: u32,
    ) -> Result<T, DecodeError> {
        read_only_field(&mut Reader::with_elements_max(self.arguments, elements_max))
    }
}

impl ReplyTo {
    /// That of the request.
    #[must_use]
    pub const fn name(&self) -> &Name {
        match self {
            Self::Thft { name, .. } => name,
            Self::Rdsn(header) => &header.name,
        }
    }

    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        match self {
            Self::Thft { .. } => Protocol::Thft,
            Self::Rdsn(_) => Protocol::Rdsn,
        }
    }

    /// Appends the answer to a request that was handled. `from` is the server's own address.
    #[inline]
    pub fn reply<T: Encode>(&self, response: &T, from: RpcAddress, out: &mut Vec<u8>) {
        match self {
            Self::Thft { name, seqid } => {
                thft::encode_reply(name.as_bytes(), *seqid, response, out);
            }
            Self::Rdsn(header) => {
                rdsn::encode(&header.reply(from, FrameStatus::Ok), response, out);
            }
        }
    }

    /// Appends the answer of a meta that does not lead, where it is told in the header: to clients by RDSN. `false`: it is
    /// told in the answer's struct, and nothing was appended.
    pub fn forward(&self, from: RpcAddress, leader: RpcAddress, out: &mut Vec<u8>) -> bool {
        match self {
            Self::Rdsn(header) if !header.is_of_server() => {
                rdsn::encode_forward(header, from, leader, out);
                true
            }
            Self::Rdsn(_) | Self::Thft { .. } => false,
        }
    }

    /// Appends the answer to a request that was not handled, for this reason.
    pub fn fail(&self, status: FrameStatus, from: RpcAddress, out: &mut Vec<u8>) {
        match self {
            Self::Thft { name, seqid } => thft::encode_error(name.as_bytes(), *seqid, status, out),
            Self::Rdsn(header) => rdsn::encode_empty(&header.reply(from, status), out),
        }
    }
}

const fn cut_off(needed: usize, left: usize) -> DecodeError {
    let fault = crate::Fault::Truncated {
        needed: needed as u64,
        left: left as u64,
    };
    DecodeError::new("frame", fault)
}

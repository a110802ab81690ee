//! Where bytes become requests and answers become bytes: one front-end for each protocol, chosen by a connection's first bytes.

pub mod http;
pub mod native;
pub mod resp;
mod sniff;
pub mod thrift;

pub use sniff::{Spoken, sniff};

use crate::counters::CloseReason;
use crate::request::{Failure, Reply, Request, Response};
use bytes::{Bytes, BytesMut};
use pegasus_fbs::flatbuffers::FlatBufferBuilder;
use pegasus_thrift::Protocol;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;

/// What an answer needs from its request to find its way back, whatever the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag {
    /// The asker's number for the request.
    pub id: u64,
    /// The operation, as the protocol numbers it.
    pub kind: u8,
    pub table: u32,
    pub partition: u32,
}

/// What a front-end found in the received bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded {
    /// One whole request of `bytes` bytes on the wire.
    Request {
        tag: Tag,
        bytes: usize,
        request: Request,
    },
    /// Well framed, but not to be executed: answer with this.
    Refused { tag: Tag, failure: Failure },
    /// The front-end alone has answered, in `output`, or nothing is to be answered.
    Answered,
    /// There is more, and it waits for an answer that is still to come.
    Held,
}

/// One protocol. Keeps whatever state its stream needs; one value for each connection.
pub trait Frontend {
    /// Takes the next request off the front of `input`; `None` when more bytes are needed. What the front-end can answer
    /// alone it may append to `output`.
    ///
    /// # Errors
    /// When the stream cannot be understood any more: the connection is closed for this reason, without what is still
    /// in `output`.
    fn decode(
        &mut self,
        input: &mut BytesMut,
        output: &mut Vec<u8>,
    ) -> Result<Option<Decoded>, CloseReason>;

    /// Appends the answer to the request of `tag` to `output`, and what had to wait for it. Called once for each request,
    /// in any order.
    fn encode(&mut self, tag: &Tag, reply: &Reply, scratch: &mut Scratch, output: &mut Vec<u8>);

    /// As [`Frontend::encode`], of the answer to a get that found this value, which is copied once.
    fn encode_value(
        &mut self,
        tag: &Tag,
        value: &[u8],
        scratch: &mut Scratch,
        output: &mut Vec<u8>,
    ) {
        let value = Bytes::copy_from_slice(value);
        self.encode(tag, &Ok(Response::Value(value)), scratch, output);
    }

    /// Whether the stream stands within a frame, given what is left of its input: an end there is a truncation.
    fn is_within_frame(&self, input: &[u8]) -> bool;

    /// Whether nothing more is to be decoded: the connection is closed when all its answers have been sent.
    fn is_over(&self) -> bool {
        false
    }

    /// Bytes of answers that are encoded and wait for those before them, with what each costs to keep.
    fn held_bytes(&self) -> usize {
        0
    }
}

/// What front-ends say about their core.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Own {
    /// Where clients find it.
    pub address: Option<SocketAddr>,
    /// The same as text.
    pub name: String,
}

impl Own {
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address: Some(address),
            name: address.to_string(),
        }
    }
}

/// The front-end of a connection that speaks like this; `None` if nobody does.
#[must_use]
pub fn frontend_of(spoken: Spoken, own: &Rc<Own>) -> Option<Box<dyn Frontend>> {
    Some(match spoken {
        Spoken::Native => Box::new(native::Native::default()),
        Spoken::Thft => Box::new(thrift::Thrift::new(Protocol::Thft, Rc::clone(own))),
        Spoken::Rdsn => Box::new(thrift::Thrift::new(Protocol::Rdsn, Rc::clone(own))),
        Spoken::Http => Box::new(http::Http::default()),
        Spoken::Resp => Box::new(resp::Resp::new(own.address)),
        Spoken::Unknown => return None,
    })
}

/// Memory for encoding that all connections of a core share.
#[derive(Default)]
pub struct Scratch {
    pub(crate) builder: FlatBufferBuilder<'static>,
}

/// What a core keeps for the next answer; a larger answer gives its memory back.
const SCRATCH_BYTES_MAX: usize = 1 << 20;

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").finish_non_exhaustive()
    }
}

impl Scratch {
    fn trim(&mut self) {
        if self.builder.finished_data().len() > SCRATCH_BYTES_MAX {
            self.builder = FlatBufferBuilder::new();
        }
    }
}

//! One connection between two members: who the other one is, then requests, each answered before the next is sent.
//!
//! ```text
//! dialler                                   listener
//! Hello: who I am, whom I want, nonce  -->
//!                                      <--  HelloReply: who I am, nonce, proof
//! HelloProof                           -->
//! request (in parts)                   -->
//!                                      <--  its answer, or a failure
//! ```
//!
//! A proof is HMAC-SHA256(cluster token, role | the bytes of both hellos).

use super::codec::{MemberId, Put, Take};
use crate::state::ClusterId;
use bytes::BytesMut;
use hmac::{Hmac, Mac};
use pegasus_fbs::body::{self, FailureBody};
use pegasus_fbs::code::Code;
use pegasus_fbs::flatbuffers::FlatBufferBuilder;
use pegasus_fbs::frame::{Decoder, Frame, FrameKind, Header, encode_frame};
use sha2::Sha256;
use std::io;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Version of what members tell each other.
pub(super) const PROTOCOL: u64 = 1;
/// A longer message goes in several frames.
const PART_BYTES: usize = 1 << 20;
/// A message is at most this long: a snapshot.
const MESSAGE_BYTES_MAX: usize = (1 << 30) + (1 << 20);
/// Before the other side has proved itself.
const HELLO_BYTES_MAX: usize = 1_024;

/// Who a member says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) protocol: u64,
    pub(super) cluster: ClusterId,
    pub(super) member: MemberId,
    pub(super) incarnation: u64,
    pub(super) client_address: String,
    pub(super) peer_address: String,
    /// Whom the dialler wants; 0: whoever is there.
    pub(super) target: MemberId,
    pub(super) nonce: u64,
    pub(super) nonce_more: u64,
}

impl Put for Hello {
    fn put(&self, out: &mut Vec<u8>) {
        self.protocol.put(out);
        let (high, low) = self.cluster.halves();
        high.put(out);
        low.put(out);
        self.member.put(out);
        self.incarnation.put(out);
        self.client_address.put(out);
        self.peer_address.put(out);
        self.target.put(out);
        self.nonce.put(out);
        self.nonce_more.put(out);
    }
}

impl Take for Hello {
    fn read(input: &mut &[u8]) -> Option<Self> {
        Some(Self {
            protocol: u64::read(input)?,
            cluster: ClusterId::from_halves(u64::read(input)?, u64::read(input)?),
            member: u64::read(input)?,
            incarnation: u64::read(input)?,
            client_address: String::read(input)?,
            peer_address: String::read(input)?,
            target: u64::read(input)?,
            nonce: u64::read(input)?,
            nonce_more: u64::read(input)?,
        })
    }
}

/// Why two members do not talk.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{code}: {message}")]
    Refused { code: Code, message: String },
    #[error("it does not know this cluster's token")]
    Unproven,
    #[error("{0}")]
    Garbage(String),
    #[error("{0}")]
    Foreign(String),
}

/// A connection of a member.
#[derive(Debug)]
pub(super) struct Link {
    stream: TcpStream,
    buffer: BytesMut,
    bytes_max: usize,
}

impl Link {
    pub(super) fn new(stream: TcpStream) -> Self {
        _ = stream.set_nodelay(true);
        Self {
            stream,
            buffer: BytesMut::new(),
            bytes_max: HELLO_BYTES_MAX,
        }
    }

    /// Introduces us as `hello` to whoever listens; who that is.
    pub(super) async fn dial(
        mut self,
        hello: &Hello,
        token: &[u8],
    ) -> Result<(Self, Hello), LinkError> {
        let ours = hello.to_bytes();
        self.send(&request(FrameKind::GroupHello), &ours).await?;
        let reply = self.receive().await?;
        if reply.header.kind != FrameKind::GroupHelloReply {
            return Err(LinkError::Garbage(format!(
                "it answered a hello by {:?}",
                reply.header.kind
            )));
        }
        let (theirs, proof) = split_proof(&reply.body).ok_or_else(|| garbage("a hello"))?;
        if keyed(token, b"reply", &ours, theirs)
            .verify_slice(proof)
            .is_err()
        {
            return Err(LinkError::Unproven);
        }
        let them = Hello::from_bytes(theirs).ok_or_else(|| garbage("a hello"))?;
        let proof = keyed(token, b"dial", &ours, theirs).finalize().into_bytes();
        self.send(&request(FrameKind::GroupHelloProof), &proof)
            .await?;
        self.bytes_max = MESSAGE_BYTES_MAX;
        Ok((self, them))
    }

    /// Hears who has dialled; `judge` says what we are to them, or why they are refused.
    pub(super) async fn accept(
        mut self,
        token: &[u8],
        judge: impl FnOnce(&Hello) -> Result<Hello, (Code, String)>,
    ) -> Result<(Self, Hello), LinkError> {
        let hello = self.receive().await?;
        if hello.header.kind != FrameKind::GroupHello {
            return Err(LinkError::Garbage(format!(
                "{:?} where a hello should be",
                hello.header.kind
            )));
        }
        let them = Hello::from_bytes(&hello.body).ok_or_else(|| garbage("a hello"))?;
        let us = match judge(&them) {
            Ok(us) => us.to_bytes(),
            Err((code, message)) => {
                self.fail(&hello.header, code, &message).await?;
                return Err(LinkError::Refused { code, message });
            }
        };
        let proof = keyed(token, b"reply", &hello.body, &us)
            .finalize()
            .into_bytes();
        let reply = Header {
            kind: FrameKind::GroupHelloReply,
            ..hello.header.reply()
        };
        self.send(&reply, &[us.as_slice(), proof.as_slice()].concat())
            .await?;
        let proof = self.receive().await?;
        let proves = keyed(token, b"dial", &hello.body, &us)
            .verify_slice(&proof.body)
            .is_ok();
        if proof.header.kind != FrameKind::GroupHelloProof || !proves {
            return Err(LinkError::Unproven);
        }
        self.bytes_max = MESSAGE_BYTES_MAX;
        Ok((self, them))
    }

    /// Asks, and waits for the answer.
    pub(super) async fn ask(
        &mut self,
        kind: FrameKind,
        message: &[u8],
    ) -> Result<Vec<u8>, LinkError> {
        self.send(&request(kind), message).await?;
        let answer = self.receive().await?;
        if answer.header.kind != kind {
            return Err(LinkError::Garbage(format!(
                "it answered {kind:?} by {:?}",
                answer.header.kind
            )));
        }
        Ok(answer.body.to_vec())
    }

    /// Sends a message, in parts if it is long.
    pub(super) async fn send(
        &mut self,
        header: &Header,
        mut message: &[u8],
    ) -> Result<(), LinkError> {
        while message.len() > PART_BYTES {
            let (part, rest) = message.split_at(PART_BYTES);
            message = rest;
            self.send_frame(&request(FrameKind::GroupPart), part)
                .await?;
        }
        self.send_frame(header, message).await
    }

    async fn send_frame(&mut self, header: &Header, body: &[u8]) -> Result<(), LinkError> {
        let mut frame = Vec::new();
        encode_frame(&mut frame, header, body);
        Ok(self.stream.write_all(&frame).await?)
    }

    pub(super) async fn fail(
        &mut self,
        to: &Header,
        code: Code,
        message: &str,
    ) -> Result<(), LinkError> {
        let mut builder = FlatBufferBuilder::new();
        self.send_frame(&to.failure(), body::failure(&mut builder, code, message))
            .await
    }

    /// The next message as a whole.
    pub(super) async fn receive(&mut self) -> Result<Frame, LinkError> {
        let mut parts: Vec<u8> = Vec::new();
        loop {
            let frame = self.receive_frame().await?;
            if parts.len() + frame.body.len() > self.bytes_max {
                return Err(LinkError::Garbage(format!(
                    "a message of over {} bytes",
                    self.bytes_max
                )));
            }
            if frame.header.kind == FrameKind::GroupPart {
                parts.extend_from_slice(&frame.body);
            } else if frame.header.is_failure() {
                let failure = FailureBody::read(&frame.body).map_err(|_| garbage("a failure"))?;
                let (code, message) = (failure.code, failure.message);
                return Err(LinkError::Refused { code, message });
            } else if parts.is_empty() {
                return Ok(frame);
            } else {
                parts.extend_from_slice(&frame.body);
                let header = frame.header;
                return Ok(Frame {
                    header,
                    body: parts.into(),
                });
            }
        }
    }

    async fn receive_frame(&mut self) -> Result<Frame, LinkError> {
        let decoder = Decoder::new(self.bytes_max.min(PART_BYTES));
        loop {
            let decoded = decoder.decode(&mut self.buffer);
            if let Some(frame) = decoded.map_err(|error| LinkError::Garbage(error.to_string()))? {
                return Ok(frame);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::ConnectionReset).into());
            }
        }
    }
}

const fn request(kind: FrameKind) -> Header {
    Header::request(kind, 0)
}

fn garbage(what: &str) -> LinkError {
    LinkError::Garbage(format!("what should be {what} is none"))
}

fn split_proof(body: &[u8]) -> Option<(&[u8], &[u8])> {
    body.split_at_checked(body.len().checked_sub(32)?)
}

fn keyed(token: &[u8], role: &[u8], dialler: &[u8], listener: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(token).expect("HMAC takes keys of any length");
    let length = (dialler.len() as u64).to_le_bytes();
    for part in [b"group", role, &length, dialler, listener] {
        mac.update(part);
    }
    mac
}

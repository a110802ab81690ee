//! The native protocol: FlatBuffers in frames (`pegasus_fbs::frame`).
//!
//! A bad header or checksum ends the connection, because the stream cannot be trusted any more. A well-framed request
//! that is malformed, too large or of the wrong kind is answered, and the connection goes on.

mod decode;
mod encode;

use super::{Decoded, Frontend, Scratch, Tag};
use crate::counters::CloseReason;
use crate::request::{Failure, REQUEST_BODY_BYTES_MAX, Reply, Request};
use bytes::{Buf, BytesMut};
use pegasus_fbs::code::Code;
use pegasus_fbs::frame::{
    BODY_BYTES_MAX, DecodeError, Decoder, FrameKind, HEADER_BYTES, Header, peek,
};
use std::time::Duration;

/// One connection's state.
#[derive(Debug)]
pub struct Native {
    decoder: Decoder,
    /// Bytes of a refused body that are still to come and are thrown away.
    skip: usize,
}

impl Default for Native {
    fn default() -> Self {
        Self {
            decoder: Decoder::new(REQUEST_BODY_BYTES_MAX),
            skip: 0,
        }
    }
}

impl Frontend for Native {
    fn decode(
        &mut self,
        input: &mut BytesMut,
        _: &mut Vec<u8>,
    ) -> Result<Option<Decoded>, CloseReason> {
        let skipped = self.skip.min(input.len());
        input.advance(skipped);
        self.skip -= skipped;
        if input.is_empty() {
            return Ok(None);
        }
        match self.decoder.decode(input) {
            Ok(None) => Ok(None),
            Ok(Some(frame)) => request(&frame.header, &frame.body).map(Some),
            Err(DecodeError::TooLarge { found, .. }) if found <= BODY_BYTES_MAX => {
                self.refuse_too_large(input)
            }
            Err(DecodeError::TooLarge { .. }) => Err(CloseReason::FrameTooLarge),
            Err(
                DecodeError::Magic { .. } | DecodeError::Version { .. } | DecodeError::Kind { .. },
            ) => Err(CloseReason::BadFrame),
            Err(DecodeError::Checksum { .. }) => Err(CloseReason::BadFrame),
        }
    }

    fn encode(&mut self, tag: &Tag, reply: &Reply, scratch: &mut Scratch, output: &mut Vec<u8>) {
        encode::reply(tag, reply, &mut scratch.builder, output);
        scratch.trim();
    }

    fn encode_value(
        &mut self,
        tag: &Tag,
        value: &[u8],
        scratch: &mut Scratch,
        output: &mut Vec<u8>,
    ) {
        encode::value_reply(tag, value, &mut scratch.builder, output);
        scratch.trim();
    }

    fn is_within_frame(&self, input: &[u8]) -> bool {
        self.skip > 0 || !input.is_empty()
    }
}

impl Native {
    /// Answers at once and throws the body away as it comes, so that it costs no memory.
    fn refuse_too_large(&mut self, input: &mut BytesMut) -> Result<Option<Decoded>, CloseReason> {
        let Ok(Some((header, body_bytes))) = peek(input) else {
            return Err(CloseReason::BadFrame);
        };
        check_kind(&header)?;
        input.advance(HEADER_BYTES);
        let here = body_bytes.min(input.len());
        input.advance(here);
        self.skip = body_bytes - here;
        let message =
            format!("request body of {body_bytes} bytes, the limit is {REQUEST_BODY_BYTES_MAX}");
        Ok(Some(Decoded::Refused {
            tag: tag(&header),
            failure: Failure::new(Code::TooLarge, message),
        }))
    }
}

fn request(header: &Header, body: &bytes::Bytes) -> Result<Decoded, CloseReason> {
    check_kind(header)?;
    let tag = tag(header);
    let bytes = HEADER_BYTES + body.len();
    Ok(match decode::operation(header.kind, body) {
        Ok(operation) => Decoded::Request {
            tag,
            bytes,
            request: Request {
                table: header.table,
                partition: header.partition,
                timeout: (header.timeout_ms > 0)
                    .then(|| Duration::from_millis(header.timeout_ms.into())),
                operation,
            },
        },
        Err(failure) => Decoded::Refused { tag, failure },
    })
}

/// Frames between servers have no business on a client port; operators' requests are answered that meta wants them.
fn check_kind(header: &Header) -> Result<(), CloseReason> {
    if header.flags != 0 {
        return Err(CloseReason::BadFrame);
    }
    if header.kind.number() >= FrameKind::Register.number() {
        return Err(CloseReason::ForeignKind);
    }
    Ok(())
}

const fn tag(header: &Header) -> Tag {
    Tag {
        id: header.request_id,
        kind: header.kind.number(),
        table: header.table,
        partition: header.partition,
    }
}

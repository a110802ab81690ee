//! The protocols of Apache Pegasus, THFT and RDSN: requests of unmodified clients to operations, and back.
//!
//! A connection speaks one of the two. Answers leave in any order, by the number that the client gave its request. What
//! cannot be parsed ends the connection without a word, as in Apache Pegasus; a request that is understood as such and
//! not as a whole is answered, and the connection goes on.
//!
//! Source: `pegasus_thrift`, and the behaviour of Apache Pegasus' replica server.

mod asked;
mod decode;
mod encode;
mod resolve;
mod status;

use super::{Decoded, Frontend, Own, Scratch, Tag};
use crate::counters::CloseReason;
use crate::request::{Invalid, Operation, REQUEST_BODY_BYTES_MAX, Reply, Request};
use asked::{Asked, Asker};
use bytes::{Buf, Bytes, BytesMut};
use decode::{Meaning, Said};
use encode::Place;
use pegasus_thrift::frame::{Limits, Progress};
use pegasus_thrift::{
    Call, FrameStatus, Oversized, Protocol, Rpc, RpcAddress, frame_length, oversized,
};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// Bytes of a write, as Apache Pegasus counts them: the message, without the header. A larger one is answered with
/// `ERR_INVALID_DATA`.
pub const WRITE_BYTES_MAX: usize = REQUEST_BODY_BYTES_MAX;
/// Bytes of any other request: reads that name many keys. Larger ones are answered likewise.
pub const READ_BYTES_MAX: usize = 8 << 20;

const WRITE_LIMITS: Limits = Limits {
    body_bytes_max: WRITE_BYTES_MAX,
};
const READ_LIMITS: Limits = Limits {
    body_bytes_max: READ_BYTES_MAX,
};

/// One connection's state.
#[derive(Debug)]
pub struct Thrift {
    protocol: Protocol,
    own: Rc<Own>,
    from: RpcAddress,
    /// Bytes of a refused body that are still to come and are thrown away.
    skip: usize,
    asked: Asked,
}

impl Thrift {
    /// For a connection to the core that `own` describes.
    #[must_use]
    pub fn new(protocol: Protocol, own: Rc<Own>) -> Self {
        let from = match own.address {
            Some(SocketAddr::V4(address)) => RpcAddress::new(address),
            _ => RpcAddress::NONE,
        };
        Self {
            protocol,
            own,
            from,
            skip: 0,
            asked: Asked::default(),
        }
    }
}

impl Frontend for Thrift {
    fn decode(
        &mut self,
        input: &mut BytesMut,
        output: &mut Vec<u8>,
    ) -> Result<Option<Decoded>, CloseReason> {
        let skipped = self.skip.min(input.len());
        input.advance(skipped);
        self.skip -= skipped;
        if input.is_empty() {
            return Ok(None);
        }
        match frame_length(self.protocol, input, &WRITE_LIMITS) {
            Ok(Progress::NeedMore(_)) => Ok(None),
            Ok(Progress::Done(bytes)) => {
                let frame = input.split_to(bytes).freeze();
                self.take(&frame, output).map(Some)
            }
            Err(_) => self.take_large(input, output),
        }
    }

    fn encode(&mut self, tag: &Tag, reply: &Reply, _: &mut Scratch, output: &mut Vec<u8>) {
        let Some(asked) = self.asked.finish(tag) else {
            return;
        };
        let place = Place {
            from: self.from,
            server: &self.own.name,
            app_id: tag.table.cast_signed(),
            partition_index: tag.partition.cast_signed(),
        };
        if !asked.is_unanswered(reply) {
            encode::reply(&asked, &place, reply, output);
        }
    }

    fn is_within_frame(&self, input: &[u8]) -> bool {
        self.skip > 0 || !input.is_empty()
    }
}

impl Thrift {
    /// One whole frame.
    fn take(&mut self, frame: &Bytes, output: &mut Vec<u8>) -> Result<Decoded, CloseReason> {
        let call = Call::decode(self.protocol, frame).map_err(|_| CloseReason::BadFrame)?;
        let meaning = decode::meaning(&call, frame);
        let asker = Asker {
            rpc: call.rpc,
            to: &call.reply_to,
            app_id: call.app_id,
            partition_index: call.partition_index,
            is_backup: call.is_backup_request,
        };
        Ok(self.ask(&asker, meaning, frame.len(), timeout(&call, frame), output))
    }

    fn ask(
        &mut self,
        asker: &Asker<'_>,
        meaning: Meaning,
        bytes: usize,
        timeout: Option<Duration>,
        output: &mut Vec<u8>,
    ) -> Decoded {
        let (rpc, operation, indices) = match (asker.rpc, meaning) {
            (Some(rpc), Meaning::Operation(operation)) => (rpc, operation, Vec::new()),
            (
                Some(rpc),
                Meaning::Route {
                    table_name,
                    indices,
                },
            ) => (rpc, Operation::Route { table_name }, indices),
            (rpc, Meaning::Said(said)) => {
                if rpc.is_none_or(Rpc::is_answered) {
                    said.encode(asker.to, self.from, output);
                }
                return Decoded::Answered;
            }
            (None, _) => {
                asker
                    .to
                    .fail(FrameStatus::HandlerNotFound, self.from, output);
                return Decoded::Answered;
            }
        };
        let tag = self.asked.begin(rpc, asker, indices);
        Decoded::Request {
            request: Request {
                table: tag.table,
                partition: tag.partition,
                timeout,
                operation,
            },
            tag,
            bytes,
        }
    }

    /// A frame that is no frame, or is too large for a write.
    fn take_large(
        &mut self,
        input: &mut BytesMut,
        output: &mut Vec<u8>,
    ) -> Result<Option<Decoded>, CloseReason> {
        let head = match oversized(self.protocol, input).map_err(|_| CloseReason::BadFrame)? {
            Progress::NeedMore(_) => return Ok(None),
            Progress::Done(head) if head.body_bytes <= WRITE_BYTES_MAX => {
                return Err(CloseReason::BadFrame);
            }
            Progress::Done(head) => head,
        };
        if head.rpc.is_some_and(Rpc::is_write) || head.body_bytes > READ_BYTES_MAX {
            return Ok(Some(self.refuse_too_large(&head, input, output)));
        }
        match frame_length(self.protocol, input, &READ_LIMITS) {
            Ok(Progress::NeedMore(_)) => Ok(None),
            Ok(Progress::Done(bytes)) => {
                let frame = input.split_to(bytes).freeze();
                self.take(&frame, output).map(Some)
            }
            Err(_) => Err(CloseReason::BadFrame),
        }
    }

    /// Asks the partition at once, and throws the body away as it comes, so that it costs no memory.
    fn refuse_too_large(
        &mut self,
        head: &Oversized,
        input: &mut BytesMut,
        output: &mut Vec<u8>,
    ) -> Decoded {
        let here = head.frame_bytes.min(input.len());
        input.advance(here);
        self.skip = head.frame_bytes - here;
        let is_write = head.rpc.is_some_and(Rpc::is_write);
        let reason = Invalid::TooLarge {
            bytes: head.body_bytes as u64,
            max: if is_write {
                WRITE_BYTES_MAX as u64
            } else {
                READ_BYTES_MAX as u64
            },
        };
        let is_of_partition =
            head.rpc.is_some_and(Rpc::is_data) && head.app_id > 0 && head.partition_index >= 0;
        let meaning = if is_of_partition {
            Meaning::Operation(Operation::Invalid(reason))
        } else {
            Meaning::Said(Said::Failure(FrameStatus::InvalidData))
        };
        let asker = Asker {
            rpc: head.rpc,
            to: &head.reply_to,
            app_id: head.app_id,
            partition_index: head.partition_index,
            is_backup: head.is_backup_request,
        };
        self.ask(&asker, meaning, 0, None, output)
    }
}

/// What the client gave its request. The header of version 0 has no time that means something: the Go client cuts it
/// off, others send 0.
fn timeout(call: &Call<'_>, frame: &[u8]) -> Option<Duration> {
    let ms = u64::try_from(call.timeout_ms).ok().filter(|ms| *ms > 0)?;
    let is_v0 = call.reply_to.protocol() == Protocol::Thft && frame.get(4..8) == Some(&[0; 4]);
    (!is_v0).then(|| Duration::from_millis(ms))
}

#[cfg(test)]
mod tests;

//! The Redis protocol: RESP2, RESP3 and inline commands; answers in the order of the commands, whatever the order in which
//! they come.
//!
//! What a connection can answer alone (its protocol version, name, transaction in the making) it answers here; commands on
//! keys leave as [`Operation::Redis`]. A stream that is no RESP is told so, in Redis' words, and closed.

mod about;
mod failure;
mod session;
mod slots;

pub use about::REDIS_VERSION;
pub use failure::error_of;

use super::{Decoded, Frontend, Scratch, Tag};
use crate::counters::CloseReason;
use crate::request::{Operation, Redis, Reply, Request, Response};
use bytes::BytesMut;
use pegasus_redis::{Calls, answer};
use pegasus_resp::{CommandDecoder, Limits, Value};
use session::{Session, Verdict};
use slots::Slots;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A value that is too large to be stored is refused with a sentence up to this size of the command, and with the end of
/// the connection above it. Within that, MSET with many keys has room.
const LIMITS: Limits = Limits {
    line_bytes_max: 64 << 10,
    bulk_bytes_max: 4 << 20,
    total_bytes_max: 8 << 20,
    elements_max: 1 << 16,
    depth_max: 0,
};

/// One connection's state.
#[derive(Debug)]
pub struct Resp {
    decoder: CommandDecoder,
    session: Session,
    slots: Slots,
}

/// Numbers of connections, unique within the process: what CLIENT ID says.
static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

impl Resp {
    /// A connection to `local`, where that is known.
    #[must_use]
    pub fn new(local: Option<SocketAddr>) -> Self {
        Self {
            decoder: CommandDecoder::new(LIMITS),
            session: Session::new(CONNECTIONS.fetch_add(1, Ordering::Relaxed), local),
            slots: Slots::default(),
        }
    }

    fn answer(&mut self, value: &Value, output: &mut Vec<u8>) -> Decoded {
        let slot = self.slots.open(self.session.version());
        self.slots.fill(slot, value, output);
        Decoded::Answered
    }

    fn ask(&mut self, bytes: usize, calls: Calls) -> Decoded {
        let redis = Redis {
            table: self.session.table(),
            calls: Arc::new(calls),
        };
        let tag = Tag {
            id: self.slots.open(self.session.version()),
            kind: 0,
            table: 0,
            partition: 0,
        };
        Decoded::Request {
            tag,
            bytes,
            request: Request {
                table: 0,
                partition: 0,
                timeout: None,
                operation: Operation::Redis(redis),
            },
        }
    }
}

impl Frontend for Resp {
    fn decode(
        &mut self,
        input: &mut BytesMut,
        output: &mut Vec<u8>,
    ) -> Result<Option<Decoded>, CloseReason> {
        if self.session.is_over() {
            input.clear();
            return Ok(None);
        }
        let command = match self.decoder.decode(input) {
            Ok(Some(command)) => command,
            Ok(None) => return Ok(None),
            Err(error) => {
                self.session.end();
                input.clear();
                let value = failure::protocol_error(&error);
                return Ok(Some(self.answer(&value, output)));
            }
        };
        let bytes = command.bytes();
        Ok(Some(match self.session.take(command) {
            Verdict::Answer(value) => self.answer(&value, output),
            Verdict::Ask(calls) => self.ask(bytes, calls),
        }))
    }

    fn encode(&mut self, tag: &Tag, reply: &Reply, _: &mut Scratch, output: &mut Vec<u8>) {
        match reply {
            Ok(Response::Redis(value)) => self.slots.fill(tag.id, value, output),
            Ok(_) => {
                let value = answer::error("ERR internal: an answer of another protocol");
                self.slots.fill(tag.id, &value, output);
            }
            Err(failure) => self.slots.fill(tag.id, &error_of(failure), output),
        }
    }

    fn is_within_frame(&self, input: &[u8]) -> bool {
        !input.is_empty()
    }

    fn is_over(&self) -> bool {
        self.session.is_over()
    }

    fn held_bytes(&self) -> usize {
        self.slots.held_bytes()
    }
}

#[cfg(test)]
mod tests;

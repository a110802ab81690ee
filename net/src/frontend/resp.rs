//! The Redis protocol: RESP2, RESP3 and inline commands; answers in the order of the commands, whatever the order in which
//! they come.
//!
//! What a connection can answer alone (its protocol version, name, transaction in the making) it answers here; commands on
//! keys leave as [`Operation::Redis`], reads of a key not before the answers of writes of it, and the other way round. A stream that is no RESP is told so, in Redis' words, and closed.

mod about;
mod failure;
mod keys;
mod session;
mod slots;

pub use about::REDIS_VERSION;
pub use failure::error_of;

use super::{Decoded, Frontend, Scratch, Tag};
use crate::counters::CloseReason;
use crate::request::{Operation, Redis, Reply, Request, Response};
use bytes::BytesMut;
use keys::{Keys, Touched};
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
    keys: Keys,
    held: Option<Held>,
}

/// The command that waits for answers of others; nothing behind it is decoded.
#[derive(Debug)]
struct Held {
    bytes: usize,
    calls: Calls,
    touched: Touched,
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
            keys: Keys::default(),
            held: None,
        }
    }

    fn answer(&mut self, value: &Value, output: &mut Vec<u8>) -> Decoded {
        let slot = self.slots.open(self.session.version(), Touched::default());
        self.slots.fill(slot, value, output);
        Decoded::Answered
    }

    /// Asks for a command, if it need not wait.
    fn ask(&mut self, command: Held) -> Decoded {
        if self.keys.is_behind(&command.touched) {
            self.held = Some(command);
            return Decoded::Held;
        }
        let Held {
            bytes,
            calls,
            touched,
        } = command;
        self.keys.add(&touched);
        let redis = Redis {
            table: self.session.table(),
            calls: Arc::new(calls),
        };
        let tag = Tag {
            id: self.slots.open(self.session.version(), touched),
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
        if let Some(command) = self.held.take() {
            return Ok(Some(self.ask(command)));
        }
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
            Verdict::Ask(calls) => self.ask(Held {
                bytes,
                touched: Touched::of(&calls),
                calls,
            }),
        }))
    }

    fn encode(&mut self, tag: &Tag, reply: &Reply, _: &mut Scratch, output: &mut Vec<u8>) {
        let touched = match reply {
            Ok(Response::Redis(value)) => self.slots.fill(tag.id, value, output),
            Ok(_) => {
                let value = answer::error("ERR internal: an answer of another protocol");
                self.slots.fill(tag.id, &value, output)
            }
            Err(failure) => self.slots.fill(tag.id, &error_of(failure), output),
        };
        self.keys.remove(&touched);
    }

    fn encode_value(&mut self, tag: &Tag, value: &[u8], _: &mut Scratch, output: &mut Vec<u8>) {
        let touched = self.slots.fill_bulk(tag.id, value, output);
        self.keys.remove(&touched);
    }

    fn is_within_frame(&self, input: &[u8]) -> bool {
        !input.is_empty() || self.held.is_some()
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

//! What happens to connections: receiving, decoding within the window, answering, sending.

use super::timers::Timer;
use super::{Arrival, CoreIo, IoEvent, ReplyTo, Sent, give_receipts};
use crate::clock;
use crate::connection::{Connection, ConnectionId, Role};
use crate::counters::CloseReason;
use crate::frontend::{Decoded, Frontend, Own, Scratch, Tag, frontend_of, sniff};
use crate::request::Reply;
use crate::ring::Chunk;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

/// With this much unsent output a connection's requests wait: it does not read what it has asked for.
const OUTPUT_PAUSE_BYTES: usize = 1 << 20;
/// How often clients that do not read are looked for, within the time that they have.
const READER_LOOKS: u32 = 4;

/// Why decoding of a connection stopped.
enum Stop {
    /// All that is there has been decoded.
    NeedMore,
    /// No room for another request.
    Window,
    /// No room for another event in this turn.
    Budget,
    Close(CloseReason),
}

impl CoreIo {
    /// Answers a request. Nothing happens if its connection is gone.
    pub fn reply(&mut self, to: ReplyTo, reply: &Reply) {
        self.queue_reply(&to, reply, None);
    }

    /// Answers a request; [`CoreIo::take_sent`] gives `receipt` back, once, when the kernel has taken the answer or its
    /// connection is gone.
    pub fn reply_with_receipt(&mut self, to: ReplyTo, reply: &Reply, receipt: u32) {
        self.queue_reply(&to, reply, Some(receipt));
    }

    /// Answers a request that stays where it is, with a receipt or without, see [`CoreIo::reply_with_receipt`]. Once only.
    pub fn reply_at(&mut self, to: &ReplyTo, reply: &Reply, receipt: Option<u32>) {
        self.queue_reply(to, reply, receipt);
    }

    /// As [`CoreIo::reply_at`], to a get that found this value, which is copied once.
    pub fn reply_value(&mut self, to: &ReplyTo, value: &[u8], receipt: Option<u32>) {
        self.queue_answer(to, receipt, |frontend, tag, scratch, output| {
            frontend.encode_value(tag, value, scratch, output);
        });
    }

    /// The other end of the connection that a request came on; `None`: it is gone. Asks the kernel, about a microsecond.
    #[must_use]
    pub fn client_of(&self, to: &ReplyTo) -> Option<SocketAddr> {
        let connection = self.connections.get(to.connection)?;
        let address = socket2::SockRef::from(&*connection.socket).peer_addr();
        address.ok()?.as_socket()
    }

    fn queue_reply(&mut self, to: &ReplyTo, reply: &Reply, receipt: Option<u32>) {
        self.queue_answer(to, receipt, |frontend, tag, scratch, output| {
            frontend.encode(tag, reply, scratch, output);
        });
    }

    fn queue_answer(
        &mut self,
        to: &ReplyTo,
        receipt: Option<u32>,
        encode: impl FnOnce(&mut dyn Frontend, &Tag, &mut Scratch, &mut Vec<u8>),
    ) {
        let Some(connection) = self
            .connections
            .get_mut(to.connection)
            .filter(|connection| !connection.closing)
        else {
            let at_ns = self.ring.last_event_ns();
            self.sent
                .extend(receipt.map(|receipt| Sent { receipt, at_ns }));
            return;
        };
        // Given back when the output is sent, or with the connection.
        connection.output_receipts.extend(receipt);
        connection.requests -= 1;
        connection.request_bytes -= to.bytes;
        self.counters.request_bytes_inflight -= to.bytes as u64;
        let Role::Client(Some(frontend)) = &mut connection.role else {
            return;
        };
        if connection.output.capacity() == 0 {
            connection.output = self.outputs.take();
        }
        let before = connection.output.len();
        let (scratch, output) = (&mut self.scratch, &mut connection.output);
        encode(&mut **frontend, &to.tag, scratch, output);
        let added = connection.output.len() - before;
        self.counters.replies += 1;
        if connection.stalled && !connection.ready {
            connection.stalled = false;
            connection.ready = true;
            self.ready.push_back(to.connection);
        }
        self.note_output(to.connection, added);
    }

    /// Accounts for bytes just added to a connection's output; too many end it.
    pub(super) fn note_output(&mut self, id: ConnectionId, added: usize) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        self.counters.output_bytes_queued += added as u64;
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(id);
        }
        let over_own = connection.queued_bytes() > self.options.output_bytes_max;
        // Clients that do not read must not cost a peer its link.
        let over_all = connection.is_client()
            && self.counters.output_bytes_queued > self.options.output_bytes_total_max as u64;
        if over_own || over_all {
            self.close(id, CloseReason::SlowReader);
        }
    }

    /// Hands everything queued to the kernel: one send for each connection.
    pub(super) fn send_dirty(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            if let Some(connection) = self.connections.get_mut(id) {
                connection.dirty = false;
                self.send_output(id);
            }
        }
        self.dirty = dirty;
    }

    fn send_output(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if connection.sending > 0 || connection.output.is_empty() || connection.closing {
            return;
        }
        let buffer = std::mem::take(&mut connection.output);
        connection.sending = buffer.len();
        // Empty while nothing is being sent: the two lists keep their memory.
        std::mem::swap(
            &mut connection.sending_receipts,
            &mut connection.output_receipts,
        );
        self.counters.sends += 1;
        self.ring.send(&connection.socket, buffer, id.token());
    }

    pub(super) fn handle_sent(
        &mut self,
        id: ConnectionId,
        result: io::Result<()>,
        buffer: Vec<u8>,
        at_ns: u64,
    ) {
        let bytes = buffer.len();
        self.outputs.put(buffer);
        self.counters.output_bytes_queued -= bytes as u64;
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        connection.sending = 0;
        if connection.closing {
            self.remove_if_done(id);
            return;
        }
        if result.is_err() {
            self.close(id, CloseReason::SocketError);
            return;
        }
        self.counters.bytes_out += bytes as u64;
        give_receipts(&mut self.sent, &mut connection.sending_receipts, at_ns);
        if connection.stalled && !connection.ready {
            connection.stalled = false;
            connection.ready = true;
            self.ready.push_back(id);
        }
        self.send_output(id);
        self.close_if_over(id);
    }

    /// Closes clients that take nothing of what is sent to them. The kernel would wait for ever: it gives up a host that
    /// is gone, and not one that answers and leaves its window closed.
    pub(super) fn look_after_readers(&mut self, now: Instant) {
        let silence_max = self.options.reader_silence_max;
        self.timers
            .set(now + silence_max / READER_LOOKS, Timer::Readers);
        let silence_ns = u64::try_from(silence_max.as_nanos()).unwrap_or(u64::MAX);
        let before_ns = clock::now_ns().saturating_sub(silence_ns);
        for token in self.ring.stalled_sends(before_ns) {
            let id = ConnectionId::of_token(token);
            if self.connections.get(id).is_some_and(Connection::is_client) {
                self.close(id, CloseReason::SlowReader);
            }
        }
    }

    pub(super) fn arm_receive(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if connection.receiving || connection.ended || connection.closing {
            return;
        }
        connection.receiving = true;
        self.ring.receive(&connection.socket, id.token());
    }

    pub(super) fn handle_received(
        &mut self,
        id: ConnectionId,
        result: io::Result<Chunk>,
        at_ns: u64,
    ) {
        let chunk = match result {
            Ok(chunk) => chunk,
            Err(error) => return self.handle_receive_error(id, &error),
        };
        self.counters.receives += 1;
        let Some(connection) = self.connections.get_mut(id) else {
            self.ring.consume(chunk, |_| ());
            return;
        };
        connection.receiving = false;
        if connection.closing {
            self.ring.consume(chunk, |_| ());
            self.remove_if_done(id);
            return;
        }
        if chunk.is_empty() {
            connection.ended = true;
            self.ring.consume(chunk, |_| ());
        } else {
            let counters = &mut self.counters;
            connection.received_ns = at_ns;
            self.ring.consume(chunk, |bytes| {
                counters.bytes_in += bytes.len() as u64;
                connection.append_input(bytes);
            });
        }
        if !connection.ready {
            self.decode(id);
        }
    }

    fn handle_receive_error(&mut self, id: ConnectionId, error: &io::Error) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        connection.receiving = false;
        if connection.closing {
            self.remove_if_done(id);
            return;
        }
        match error.raw_os_error() {
            // All buffers are taken: those of this turn come back before the next.
            Some(libc::ENOBUFS | libc::EINTR | libc::EAGAIN) => self.arm_receive(id),
            _ => self.close(id, CloseReason::SocketError),
        }
    }

    pub(super) fn decode_ready(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.ready = false;
            if !connection.closing {
                self.decode(id);
            }
        }
    }

    /// Turns input into events until something stops it.
    fn decode(&mut self, id: ConnectionId) {
        let stop = loop {
            let Some(connection) = self
                .connections
                .get_mut(id)
                .filter(|connection| !connection.closing)
            else {
                return;
            };
            if self.events.len() >= self.options.events_per_poll_max {
                break Stop::Budget;
            }
            let stop = match connection.role {
                Role::Client(_) => self.decode_request(id),
                Role::Peer(_) => self
                    .decode_peer_frame(id)
                    .map_err(|stopped| stopped.map_or(Stop::NeedMore, Stop::Close)),
            };
            if let Err(stop) = stop {
                break stop;
            }
        };
        self.stop_decoding(id, stop);
    }

    fn stop_decoding(&mut self, id: ConnectionId, stop: Stop) {
        self.note_input(id);
        let Some(connection) = self
            .connections
            .get_mut(id)
            .filter(|connection| !connection.closing)
        else {
            return;
        };
        match stop {
            Stop::NeedMore => {
                connection.trim_input();
                if connection.ended {
                    self.close_if_over(id);
                } else {
                    self.arm_receive(id);
                }
            }
            Stop::Window => {
                self.counters.window_full += 1;
                connection.stalled = true;
            }
            Stop::Budget => {
                connection.ready = true;
                self.ready.push_back(id);
            }
            Stop::Close(reason) => self.close(id, reason),
        }
    }

    /// Accounts for what is left of a connection's input; clients together may not keep too much.
    fn note_input(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let kept = connection.input.len();
        let before = std::mem::replace(&mut connection.input_kept, kept);
        let total = self.counters.input_bytes_kept - before as u64 + kept as u64;
        self.counters.input_bytes_kept = total;
        if kept > before
            && connection.is_client()
            && total > self.options.input_bytes_total_max as u64
        {
            self.close(id, CloseReason::TooMuchInput);
        }
    }

    /// One request of a client.
    fn decode_request(&mut self, id: ConnectionId) -> Result<(), Stop> {
        let options = &self.options;
        let Some(connection) = self.connections.get_mut(id) else {
            return Err(Stop::NeedMore);
        };
        if connection.requests >= options.requests_inflight_max
            || connection.request_bytes >= options.request_bytes_inflight_max
            || connection.queued_bytes() >= OUTPUT_PAUSE_BYTES
        {
            return Err(Stop::Window);
        }
        let Connection {
            role: Role::Client(frontend),
            input,
            output,
            ended,
            ..
        } = connection
        else {
            return Err(Stop::NeedMore);
        };
        let frontend = match frontend {
            Some(frontend) => frontend,
            None => frontend.insert(open(input, &self.own_client)?),
        };
        let before = output.len();
        match frontend.decode(input, output).map_err(Stop::Close)? {
            None => {
                *ended |= frontend.is_over();
                Err(Stop::NeedMore)
            }
            Some(Decoded::Request {
                tag,
                bytes,
                request,
            }) => {
                connection.requests += 1;
                connection.request_bytes += bytes;
                self.counters.request_bytes_inflight += bytes as u64;
                let arrival = Arrival {
                    received_ns: connection.received_ns,
                    looked_at_ns: self.looked_at_ns,
                    // Known when `poll` returns.
                    decoded_ns: self.looked_at_ns,
                };
                self.counters.requests += 1;
                self.events.push(IoEvent::Request {
                    from: ReplyTo {
                        connection: id,
                        bytes,
                        tag,
                    },
                    request,
                    arrival,
                });
                Ok(())
            }
            Some(Decoded::Held) => Err(Stop::Window),
            Some(Decoded::Answered) => {
                let added = output.len() - before;
                self.counters.requests += 1;
                self.note_output(id, added);
                Ok(())
            }
            Some(Decoded::Refused { tag, failure }) => {
                connection.requests += 1;
                self.counters.requests += 1;
                self.counters.requests_refused += 1;
                self.reply(
                    ReplyTo {
                        connection: id,
                        bytes: 0,
                        tag,
                    },
                    &Err(failure),
                );
                Ok(())
            }
        }
    }

    /// A connection whose other side has ended lives until its answers are out.
    pub(super) fn close_if_over(&mut self, id: ConnectionId) {
        let Some(connection) = self
            .connections
            .get_mut(id)
            .filter(|connection| !connection.closing)
        else {
            return;
        };
        if connection.queued_bytes() > 0 {
            return;
        }
        if let Some(reason) = connection.close_when_sent {
            self.close(id, reason);
            return;
        }
        if !connection.ended || connection.ready || connection.stalled {
            return;
        }
        let within_frame = match &connection.role {
            Role::Client(Some(frontend)) => frontend.is_within_frame(&connection.input),
            Role::Client(None) | Role::Peer(_) => !connection.input.is_empty(),
        };
        if connection.requests == 0 {
            self.close(
                id,
                if within_frame {
                    CloseReason::Truncated
                } else {
                    CloseReason::EndOfStream
                },
            );
        }
    }
}

/// The front-end for a stream that begins like this.
fn open(input: &[u8], own: &Rc<Own>) -> Result<Box<dyn Frontend>, Stop> {
    let spoken = sniff(input).ok_or(Stop::NeedMore)?;
    frontend_of(spoken, own).ok_or(Stop::Close(CloseReason::UnknownProtocol))
}

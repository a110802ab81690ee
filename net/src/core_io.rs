//! All input and output of one core thread behind one [`CoreIo::poll`].

mod clients;
mod links;
mod timers;

use crate::aligned::{AlignedBuf, AlignedPool};
use crate::clock;
use crate::connection::{Connection, ConnectionId, Connections, OutputPool, Role};
use crate::counters::{CloseReason, Counters};
use crate::frontend::{Own, Scratch, Tag};
use crate::options::{NetOptions, PeerId};
use crate::peer::handshake::Handshaker;
use crate::peer::{Links, Stage};
use crate::request::Request;
use crate::ring::{Completion, Completions, Ring, StartError};
use crate::waker::Waker;
use bytes::Bytes;
use pegasus_fbs::frame::FrameKind;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;
use timers::{Timer, Timers};

/// What `poll` reports.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "events live in a vector that is used again and again; a box would be an allocation for each request"
)]
pub enum IoEvent {
    /// Answer it once, by [`CoreIo::reply`] on this core.
    Request {
        from: ReplyTo,
        request: Request,
        arrival: Arrival,
    },
    /// A frame of a peer whose link is up; in order within one link.
    PeerFrame {
        from: PeerId,
        kind: FrameKind,
        body: Bytes,
    },
    /// The link to this core is up. Whatever either side sent on an earlier one may be lost.
    PeerUp { peer: PeerId, node_incarnation: u64 },
    /// The link is gone; after a `PeerUp` only. It is redialled at once if [`CoreIo::connect_peer`] asked for it.
    PeerDown { peer: PeerId, reason: CloseReason },
    /// A dial was refused: nobody listens there. It is dialled again after a pause.
    PeerRefused { peer: PeerId },
    /// The write and its flush are done, or one of them failed: then nothing is known of the bytes on disk.
    LogWritten { id: u64, result: io::Result<()> },
    /// Somebody called [`Waker::wake`].
    Woken,
}

/// Where an answer goes. Plain data: it may travel to another core and back.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "every request needs an answer, or its connection's window stays smaller for ever"]
pub struct ReplyTo {
    connection: ConnectionId,
    /// What the request counts in the connection's window.
    bytes: usize,
    tag: Tag,
}

impl ReplyTo {
    /// The same number for all requests of one connection of a core, and another one for every other connection.
    #[must_use]
    pub const fn connection_number(&self) -> u64 {
        self.connection.token()
    }

    /// Bytes of the request as it came.
    #[must_use]
    pub const fn request_bytes(&self) -> usize {
        self.bytes
    }
}

/// When a request came in, by [`clock::now_ns`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Arrival {
    /// The core found its last byte.
    pub received_ns: u64,
    /// The core began to decode what lay there, this request among it.
    pub looked_at_ns: u64,
    /// All of that was decoded.
    pub decoded_ns: u64,
}

/// An answer has left, see [`CoreIo::reply_with_receipt`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    pub receipt: u32,
    /// The core found that the kernel had taken the last of it, or that its connection was gone; by [`clock::now_ns`].
    pub at_ns: u64,
}

/// Why `send_peer` did not take a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("no link to core {peer}")]
pub struct NotConnected {
    pub peer: PeerId,
}

/// Who connects to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Audience {
    Clients,
    Peers,
}

/// The I/O of one core. Made and used on the core's thread only.
#[derive(Debug)]
pub struct CoreIo {
    options: NetOptions,
    /// Dropped first: it waits for what the kernel still does with our memory.
    ring: Ring,
    waker: Waker,
    counters: Counters,
    completions: Completions,
    /// Reported by the next `poll`.
    events: Vec<IoEvent>,
    sent: Vec<Sent>,
    looked_at_ns: u64,
    polled_ns: u64,
    listeners: Vec<(Rc<OwnedFd>, Audience)>,
    connections: Connections,
    /// Connections with output that has not been handed to the kernel, each once.
    dirty: Vec<ConnectionId>,
    /// Connections with input to decode, each once, in turns.
    ready: VecDeque<ConnectionId>,
    outputs: OutputPool,
    logs: AlignedPool,
    scratch: Scratch,
    timers: Timers,
    links: Links,
    /// `None` until `start_peers`.
    handshaker: Option<Handshaker>,
    own_peer_address: Option<SocketAddr>,
    own_client: Rc<Own>,
}

/// Longest sleep in one system call; a turn that finds nothing sleeps again.
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// Connections that only peers may open, over `connections_max`.
const PEER_RESERVE: usize = 1024;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl CoreIo {
    /// Sets up the ring of the calling thread, which must be the core's own (and pinned already, if it is to be).
    ///
    /// # Errors
    /// One clear sentence about what the kernel refuses.
    pub fn new(options: NetOptions, waker: Waker) -> Result<Self, StartError> {
        Ok(Self {
            ring: Ring::new(&options, waker.clone())?,
            options,
            waker,
            counters: Counters::default(),
            completions: Completions::default(),
            events: Vec::new(),
            sent: Vec::new(),
            looked_at_ns: 0,
            polled_ns: 0,
            listeners: Vec::new(),
            connections: Connections::default(),
            dirty: Vec::new(),
            ready: VecDeque::new(),
            outputs: OutputPool::default(),
            logs: AlignedPool::default(),
            scratch: Scratch::default(),
            timers: Timers::default(),
            links: Links::default(),
            handshaker: None,
            own_peer_address: None,
            own_client: Rc::default(),
        })
    }

    /// Serves clients on a socket made by [`crate::listener::bind`].
    ///
    /// # Errors
    /// The socket does not say where it listens.
    pub fn listen_clients(&mut self, listener: TcpListener) -> io::Result<()> {
        if self.own_client.address.is_none() {
            self.announce(listener.local_addr()?);
        }
        self.listen(listener, Audience::Clients);
        self.look_after_readers(Instant::now());
        Ok(())
    }

    /// Says where clients find this core, if it is not where it listens. Counts for connections that come later.
    pub fn announce(&mut self, client_address: SocketAddr) {
        self.own_client = Rc::new(Own::new(client_address));
    }

    /// A pooled buffer for [`CoreIo::write_log`], of at least `capacity` bytes.
    #[must_use]
    pub fn log_buffer(&mut self, capacity: usize) -> AlignedBuf {
        self.logs.take(capacity)
    }

    /// Writes `buffer` at `offset` of `file` and flushes the file's data; `LogWritten` with `id` follows once. Several may
    /// be in flight; a flush covers the write it came with, no other.
    ///
    /// # Panics
    /// If buffer and offset are not whole blocks, which O_DIRECT (with which `file` must be open) refuses.
    pub fn write_log(&mut self, file: &Arc<File>, offset: u64, buffer: AlignedBuf, id: u64) {
        self.counters.log_writes += 1;
        self.counters.log_bytes += buffer.len() as u64;
        self.ring.write_log(file, offset, buffer, id);
    }

    /// Log writes without a `LogWritten` yet.
    #[must_use]
    pub const fn log_writes_in_flight(&self) -> usize {
        self.ring.log_writes_in_flight()
    }

    /// One turn: sends what was queued, waits at most `wait` for something to happen, and appends at most
    /// `events_per_poll_max` events (a few more when links break), log completions first. Returns without an event only
    /// when the time is over.
    ///
    /// # Errors
    /// When the kernel refuses to run the ring: final for this core.
    pub fn poll(&mut self, wait: Duration, events: &mut Vec<IoEvent>) -> io::Result<()> {
        let started = Instant::now();
        let mut now = started;
        loop {
            self.turn(now, wait.saturating_sub(now - started))?;
            now = Instant::now();
            if !self.events.is_empty() || now - started >= wait {
                self.polled_ns = clock::now_ns();
                for event in &mut self.events {
                    if let IoEvent::Request { arrival, .. } = event {
                        arrival.decoded_ns = self.polled_ns;
                    }
                }
                events.append(&mut self.events);
                return Ok(());
            }
        }
    }

    /// Whether the last `poll` had to leave something behind that has come.
    #[must_use]
    pub fn has_undecoded(&self) -> bool {
        !self.ready.is_empty() || !self.completions.is_empty()
    }

    /// When `poll` returned, by [`clock::now_ns`].
    #[must_use]
    pub const fn polled_ns(&self) -> u64 {
        self.polled_ns
    }

    /// Moves the receipts of answers that have left since the last call to `sent`. Whoever asks for receipts calls this
    /// in every turn.
    pub fn take_sent(&mut self, sent: &mut Vec<Sent>) {
        sent.append(&mut self.sent);
    }

    #[must_use]
    pub const fn waker(&self) -> &Waker {
        &self.waker
    }

    /// What has happened since the start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let ring = self.ring.counters();
        let mut counters = self.counters.clone();
        counters.connections = self.connections.len() as u64;
        counters.system_calls = ring.system_calls;
        counters.sleeps = ring.sleeps;
        counters
    }

    fn listen(&mut self, listener: TcpListener, audience: Audience) {
        let listener = Rc::new(OwnedFd::from(listener));
        self.ring.accept(&listener, self.listeners.len() as u64);
        self.listeners.push((listener, audience));
    }

    fn turn(&mut self, now: Instant, wait: Duration) -> io::Result<()> {
        self.run_timers(now);
        self.send_dirty();
        let backlog =
            !self.events.is_empty() || !self.completions.is_empty() || !self.ready.is_empty();
        let wait = if backlog {
            Duration::ZERO
        } else {
            wait.min(self.timers.wait(now)).min(SLEEP_MAX)
        };
        let before = self.ring.last_event_ns();
        self.ring.turn(wait, &mut self.completions)?;
        self.looked_at_ns = match self.ring.last_event_ns() {
            found if found > before => found,
            _ if backlog => clock::now_ns(),
            _ => before,
        };
        if self.waker.take_notification() {
            self.events.push(IoEvent::Woken);
        }
        while let Some(completion) = self.completions.log.pop_front() {
            self.handle_completion(completion);
        }
        while self.events.len() < self.options.events_per_poll_max
            && let Some(completion) = self.completions.others.pop_front()
        {
            self.handle_completion(completion);
        }
        // Each once: a connection that still has input has gone to the back of the queue.
        for _ in 0..self.ready.len() {
            if self.events.len() >= self.options.events_per_poll_max {
                break;
            }
            if let Some(id) = self.ready.pop_front() {
                self.decode_ready(id);
            }
        }
        Ok(())
    }

    fn handle_completion(&mut self, completion: Completion) {
        match completion {
            Completion::LogWritten { id, result, buffer } => {
                self.logs.put(buffer);
                self.events.push(IoEvent::LogWritten { id, result });
            }
            Completion::Accepted {
                token,
                result,
                armed,
            } => self.handle_accepted(token, result, armed),
            Completion::Received {
                token,
                result,
                at_ns,
            } => self.handle_received(ConnectionId::of_token(token), result, at_ns),
            Completion::Sent {
                token,
                result,
                buffer,
                at_ns,
            } => {
                self.handle_sent(ConnectionId::of_token(token), result, buffer, at_ns);
            }
            Completion::Connected { token, result } => {
                self.handle_connected(ConnectionId::of_token(token), result)
            }
        }
    }

    fn handle_accepted(&mut self, token: u64, result: io::Result<OwnedFd>, armed: bool) {
        let Some((_, audience)) = usize::try_from(token)
            .ok()
            .and_then(|index| self.listeners.get(index))
        else {
            return;
        };
        let audience = *audience;
        if !armed {
            // Out of descriptors, most likely: give the others time to end.
            let pause = if result.is_ok() {
                Duration::ZERO
            } else {
                ACCEPT_PAUSE
            };
            self.timers
                .set(Instant::now() + pause, Timer::Accept(token));
        }
        match result {
            Ok(socket) => self.admit(socket, audience),
            Err(error) => tracing::warn!(%error, "cannot accept a connection"),
        }
    }

    fn admit(&mut self, socket: OwnedFd, audience: Audience) {
        self.counters.accepted += 1;
        // Clients must not keep peers out.
        let reserve = match audience {
            Audience::Clients => 0,
            Audience::Peers => PEER_RESERVE,
        };
        if self.connections.len() >= self.options.connections_max.saturating_add(reserve) {
            self.counters.count_closed(CloseReason::TooManyConnections);
            return;
        }
        let role = match audience {
            Audience::Clients => Role::Client(None),
            Audience::Peers => Role::Peer(Stage::AwaitHello),
        };
        let id = self.connections.insert(Connection::new(socket, role));
        if audience == Audience::Peers {
            self.timers.set(
                Instant::now() + crate::peer::HANDSHAKE_WAIT_MAX,
                Timer::Handshake(id),
            );
        }
        self.arm_receive(id);
    }

    fn run_timers(&mut self, now: Instant) {
        while let Some(timer) = self.timers.take_due(now) {
            match timer {
                Timer::Accept(token) => {
                    if let Some((listener, _)) = usize::try_from(token)
                        .ok()
                        .and_then(|index| self.listeners.get(index))
                    {
                        self.ring.accept(listener, token);
                    }
                }
                Timer::Handshake(id) => self.handle_handshake_timeout(id),
                Timer::Dial(peer) => self.handle_dial_due(peer),
                Timer::Readers => self.look_after_readers(now),
            }
        }
    }

    /// Ends a connection: it no longer exists for anybody but the kernel.
    fn close(&mut self, id: ConnectionId, reason: CloseReason) {
        let Some(connection) = self
            .connections
            .get_mut(id)
            .filter(|connection| !connection.closing)
        else {
            return;
        };
        connection.closing = true;
        self.counters.count_closed(reason);
        self.counters.output_bytes_queued -= connection.output.len() as u64;
        self.counters.input_bytes_kept -= connection.input_kept as u64;
        connection.input_kept = 0;
        self.counters.request_bytes_inflight -= connection.request_bytes as u64;
        connection.request_bytes = 0;
        connection.output = Vec::new();
        for receipts in [
            &mut connection.sending_receipts,
            &mut connection.output_receipts,
        ] {
            give_receipts(&mut self.sent, receipts, self.ring.last_event_ns());
        }
        connection.input = bytes::BytesMut::new();
        if let Some(operation) = connection.connecting {
            self.ring.cancel(operation);
        }
        // Ends a receive and a send in flight. It fails only if the socket is gone already.
        let _ = socket2::SockRef::from(&*connection.socket).shutdown(Shutdown::Both);
        let role = std::mem::replace(&mut connection.role, Role::Client(None));
        self.remove_if_done(id);
        if let Role::Peer(stage) = role {
            self.handle_peer_closed(id, &stage, reason);
        }
    }

    /// Frees a closed connection once the kernel has nothing of it any more.
    fn remove_if_done(&mut self, id: ConnectionId) {
        if self
            .connections
            .get(id)
            .is_some_and(|connection| connection.closing && !connection.has_operations())
        {
            self.connections.remove(id);
        }
    }
}

fn give_receipts(sent: &mut Vec<Sent>, receipts: &mut Vec<u32>, at_ns: u64) {
    sent.extend(receipts.drain(..).map(|receipt| Sent { receipt, at_ns }));
}

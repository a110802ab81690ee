//! One connection: its buffers, its window, and what it is used for. What happens to it is in `core_io`.

use crate::counters::CloseReason;
use crate::frontend::Frontend;
use crate::peer::Stage;
use crate::ring::OperationId;
use bytes::BytesMut;
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// What a connection is used for.
pub(crate) enum Role {
    /// `None` until its first bytes have told the protocol.
    Client(Option<Box<dyn Frontend>>),
    Peer(Stage),
}

pub(crate) struct Connection {
    pub(crate) socket: Rc<OwnedFd>,
    pub(crate) role: Role,
    /// Received and not decoded yet: less than one frame, or what the window kept out.
    pub(crate) input: BytesMut,
    /// Length of `input` as the core's total has it.
    pub(crate) input_kept: usize,
    /// Encoded and not handed to the kernel yet. Holds no memory while empty.
    pub(crate) output: Vec<u8>,
    /// Receipts of the answers in `output`, and of those in the send in flight.
    pub(crate) output_receipts: Vec<u32>,
    pub(crate) sending_receipts: Vec<u32>,
    /// When bytes were last added to `input`: the last byte of every whole request in it.
    pub(crate) received_ns: u64,
    /// Bytes of the send in flight; 0 = none.
    pub(crate) sending: usize,
    /// A receive is in flight.
    pub(crate) receiving: bool,
    /// A connect is in flight.
    pub(crate) connecting: Option<OperationId>,
    /// The other side will send no more.
    pub(crate) ended: bool,
    /// Shut down: waits only for its operations to come back.
    pub(crate) closing: bool,
    /// Close once everything queued has been sent.
    pub(crate) close_when_sent: Option<CloseReason>,
    /// In the list of connections with output to send.
    pub(crate) dirty: bool,
    /// In the list of connections with input to decode.
    pub(crate) ready: bool,
    /// Decoding stopped because the window or the output was full.
    pub(crate) stalled: bool,
    /// Requests without an answer, and their bytes.
    pub(crate) requests: usize,
    pub(crate) request_bytes: usize,
}

impl Connection {
    pub(crate) fn new(socket: OwnedFd, role: Role) -> Self {
        Self {
            socket: Rc::new(socket),
            role,
            input: BytesMut::new(),
            input_kept: 0,
            output: Vec::new(),
            output_receipts: Vec::new(),
            sending_receipts: Vec::new(),
            received_ns: 0,
            sending: 0,
            receiving: false,
            connecting: None,
            ended: false,
            closing: false,
            close_when_sent: None,
            dirty: false,
            ready: false,
            stalled: false,
            requests: 0,
            request_bytes: 0,
        }
    }

    /// Adds received bytes. An empty buffer takes exactly their size, so that small requests cost small memory.
    pub(crate) fn append_input(&mut self, bytes: &[u8]) {
        if self.input.is_empty() {
            self.input = BytesMut::from(bytes);
        } else {
            self.input.extend_from_slice(bytes);
        }
    }

    /// Gives the input's memory back when nothing is left in it; slices of it live on.
    pub(crate) fn trim_input(&mut self) {
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
    }

    pub(crate) const fn is_client(&self) -> bool {
        matches!(self.role, Role::Client(_))
    }

    /// Bytes on their way out, those of answers that wait for others among them.
    pub(crate) fn queued_bytes(&self) -> usize {
        let held = match &self.role {
            Role::Client(Some(frontend)) => frontend.held_bytes(),
            Role::Client(None) | Role::Peer(_) => 0,
        };
        self.output.len() + self.sending + held
    }

    /// Whether the kernel still has something of it.
    pub(crate) const fn has_operations(&self) -> bool {
        self.receiving || self.sending > 0 || self.connecting.is_some()
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("input", &self.input.len())
            .field("output", &self.queued_bytes())
            .field("requests", &self.requests)
            .field("closing", &self.closing)
            .finish_non_exhaustive()
    }
}

/// Names a connection for as long as it lives; its slot's next connection has another generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnectionId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl ConnectionId {
    pub(crate) const fn token(self) -> u64 {
        (self.generation as u64) << 32 | self.slot as u64
    }

    #[allow(clippy::cast_possible_truncation, reason = "the two halves of a token")]
    pub(crate) const fn of_token(token: u64) -> Self {
        Self {
            slot: token as u32,
            generation: (token >> 32) as u32,
        }
    }
}

/// All connections of a core.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    /// Boxed: slots are many, and most connections of a burst are gone afterwards.
    connection: Option<Box<Connection>>,
}

impl Connections {
    pub(crate) fn insert(&mut self, connection: Connection) -> ConnectionId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).expect("connections are bounded far below 2^32")
        });
        let entry = &mut self.slots[slot as usize];
        entry.connection = Some(Box::new(connection));
        ConnectionId {
            slot,
            generation: entry.generation,
        }
    }

    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        slot.connection.as_deref_mut()
    }

    pub(crate) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        let slot = self.slots.get(id.slot as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        slot.connection.as_deref()
    }

    pub(crate) fn remove(&mut self, id: ConnectionId) {
        let Some(slot) = self.slots.get_mut(id.slot as usize) else {
            return;
        };
        if slot.generation == id.generation && slot.connection.take().is_some() {
            slot.generation = slot.generation.wrapping_add(1);
            self.free.push(id.slot);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

/// Output buffers that go from connection to connection.
#[derive(Debug, Default)]
pub(crate) struct OutputPool {
    free: Vec<Vec<u8>>,
}

const POOLED_MAX: usize = 64;
const POOLED_BYTES_MAX: usize = 64 << 10;

impl OutputPool {
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.free.pop().unwrap_or_default()
    }

    pub(crate) fn put(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= POOLED_BYTES_MAX && self.free.len() < POOLED_MAX {
            buffer.clear();
            self.free.push(buffer);
        }
    }
}

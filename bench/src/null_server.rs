//! A server that answers at once, from memory: what is measured against it is the bench itself.
//!
//! It speaks the native protocol and that of Redis over loopback TCP, on a thread of its own, and has as little to do as
//! a server can: one epoll loop, no durability, no copies of anything. The first byte of a connection says which protocol.
//! What it stores is behind [`Rows`], so that tests can put a liar in the place of [`Memory`].

mod native;
mod redis;
mod rows;

pub(crate) use rows::{Memory, Rows};

use anyhow::{Context as _, anyhow};
use bytes::BytesMut;
use native::Native;
use redis::Redis;
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use std::collections::HashMap;
use std::io::{ErrorKind, PipeWriter, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;

/// A running server. Dropping it ends its thread and closes its connections.
#[derive(Debug)]
pub(crate) struct NullServer {
    pub(crate) address: SocketAddr,
    /// The thread ends when the other end of this pipe is closed.
    end: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl NullServer {
    /// Starts one on a free port; `cpu` is where it is pinned to.
    ///
    /// # Errors
    /// When the system gives no socket, no thread, or no such CPU.
    pub(crate) fn start(
        rows: impl Rows + Send + 'static,
        cpu: Option<usize>,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("null server")?;
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let (ended, end) = std::io::pipe().context("null server")?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        watch(&epoll, &listener, LISTENER)?;
        watch(&epoll, &ended, ENDED)?;
        let server = Server {
            epoll,
            listener,
            connections: HashMap::new(),
            opened: FIRST_CONNECTION,
            rows,
            native: Native::new(address),
            scratch: vec![0; READ_BYTES],
        };
        let (pinned, is_pinned) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("null-server".to_owned())
            .spawn(move || {
                let _ = pinned.send(cpu.map_or(Ok(()), crate::affinity::pin));
                // Closed at the end of this thread and not before: a pipe without a reader looks ended too.
                let _ended = ended;
                server.run();
            })
            .context("null server")?;
        is_pinned
            .recv()
            .map_err(|_| anyhow!("null server ended"))??;
        Ok(Self {
            address,
            end: Some(end),
            thread: Some(thread),
        })
    }
}

impl Drop for NullServer {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Server<R> {
    epoll: OwnedFd,
    listener: TcpListener,
    connections: HashMap<u64, Connection>,
    /// Number of the next connection.
    opened: u64,
    rows: R,
    native: Native,
    /// What a read fills.
    scratch: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    input: BytesMut,
    output: Vec<u8>,
    /// Bytes of the output that the socket has taken.
    written: usize,
    protocol: Protocol,
}

enum Protocol {
    /// Nothing has arrived yet.
    Unknown,
    Native,
    Redis(Redis),
}

const LISTENER: u64 = 0;
const ENDED: u64 = 1;
const FIRST_CONNECTION: u64 = 2;
const READ_BYTES: usize = 256 << 10;

impl<R: Rows> Server<R> {
    fn run(mut self) {
        let mut events = Vec::with_capacity(64);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.accept(),
                    ENDED => return,
                    number => self.serve(number),
                }
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let ready = stream
                .set_nonblocking(true)
                .and_then(|()| stream.set_nodelay(true))
                .and_then(|()| watch(&self.epoll, &stream, self.opened).map_err(Into::into));
            if ready.is_ok() {
                self.connections
                    .insert(self.opened, Connection::new(stream));
                self.opened += 1;
            }
        }
    }

    /// Closes the connection at its end and on anything that is not the protocol.
    fn serve(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let served = connection.serve(&mut self.scratch, &mut self.rows, &mut self.native);
        if served != Some(Open::Yes) {
            self.connections.remove(&number);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Yes,
    No,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            output: Vec::new(),
            written: 0,
            protocol: Protocol::Unknown,
        }
    }

    /// Answers what has arrived; `None` when it cannot be. Notices come once for each arrival, so it is read to its end.
    fn serve(
        &mut self,
        scratch: &mut [u8],
        rows: &mut impl Rows,
        native: &mut Native,
    ) -> Option<Open> {
        loop {
            self.send()?;
            if !self.output.is_empty() {
                // A client that does not read its answers is not read from. There will be a notice of room.
                return Some(Open::Yes);
            }
            let arrived = match self.stream.read(scratch) {
                Ok(0) => return Some(Open::No),
                Ok(bytes) => bytes,
                Err(error) if is_passing(&error) => return Some(Open::Yes),
                Err(_) => return None,
            };
            self.input.extend_from_slice(&scratch[..arrived]);
            self.answer(rows, native)?;
            self.send()?;
            if arrived < scratch.len() {
                return Some(Open::Yes);
            }
        }
    }

    fn answer(&mut self, rows: &mut impl Rows, native: &mut Native) -> Option<()> {
        if let (Protocol::Unknown, Some(first)) = (&self.protocol, self.input.first()) {
            self.protocol = if *first == pegasus_fbs::frame::MAGIC[0] {
                Protocol::Native
            } else {
                Protocol::Redis(Redis::default())
            };
        }
        match &mut self.protocol {
            Protocol::Unknown => Some(()),
            Protocol::Native => native.answer(&mut self.input, &mut self.output, rows),
            Protocol::Redis(redis) => redis.answer(&mut self.input, &mut self.output, rows),
        }
    }

    fn send(&mut self) -> Option<()> {
        while self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(0) => return None,
                Ok(bytes) => self.written += bytes,
                Err(error) if is_passing(&error) => return Some(()),
                Err(_) => return None,
            }
        }
        self.output.clear();
        self.written = 0;
        Some(())
    }
}

fn is_passing(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Wakes for bytes to read, and for room to write when there was none.
fn watch(epoll: &OwnedFd, source: impl std::os::fd::AsFd, number: u64) -> rustix::io::Result<()> {
    use epoll::EventFlags as Flags;
    let flags = if number < FIRST_CONNECTION {
        Flags::IN
    } else {
        Flags::IN | Flags::OUT | Flags::RDHUP | Flags::ET
    };
    epoll::add(epoll, source, epoll::EventData::new_u64(number), flags)
}

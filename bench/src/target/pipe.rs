//! A socket whose requests leave in batches: what the connections of several protocols have in common.
//!
//! Requests are encoded straight into a shared outgoing buffer. One task owns the socket; when it wakes it writes
//! everything that has gathered with one call, and gives each answer that comes to who waits for it.

use super::link::Problem;
use bytes::BytesMut;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Who waits for which answer. An asker that has gone keeps its place until the answer comes.
pub(super) trait Waiting: Send + 'static {
    /// Requests without an answer.
    fn count(&self) -> usize;
    /// Takes all whole answers from the front of the buffer, each to its asker.
    ///
    /// # Errors
    /// Bytes that are no answer, or one that nobody can have asked for, in words.
    fn take(&mut self, buffer: &mut BytesMut) -> Result<(), String>;
    /// Nobody is answered any more; askers learn it by the end of their channels.
    fn clear(&mut self);
}

/// One open socket. Dropping it closes the socket.
#[derive(Debug)]
pub(super) struct Pipe<W: Waiting> {
    shared: Arc<Shared<W>>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Shared<W> {
    state: Mutex<State<W>>,
    /// Wakes the task that owns the socket: there is something to write.
    written: Notify,
}

#[derive(Debug)]
struct State<W> {
    outgoing: Vec<u8>,
    waiting: W,
    last_received: Instant,
    /// Why the connection ended; nothing is accepted any more.
    closed: Option<String>,
}

const BUFFER_BYTES: usize = 64 << 10;
/// A buffer that grew beyond this is not kept.
const BUFFER_BYTES_KEPT: usize = 1 << 20;
/// Requests without an answer. A server that is this far behind gets no more.
const WAITING_MAX: usize = 1 << 20;
/// A server that owes answers and is silent for so long is given up: it may be a host that has vanished.
const SILENCE_MAX: Duration = Duration::from_secs(3);

impl<W: Waiting> Pipe<W> {
    /// Takes over a connected socket.
    pub(super) fn new(stream: TcpStream, waiting: W) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                outgoing: Vec::with_capacity(BUFFER_BYTES),
                waiting,
                last_received: Instant::now(),
                closed: None,
            }),
            written: Notify::new(),
        });
        let task = tokio::spawn(run(stream, Arc::clone(&shared))).abort_handle();
        Self { shared, task }
    }

    /// Sends a request: `append` appends exactly one, and notes who waits for its answer.
    pub(super) fn send<T>(
        &self,
        append: impl FnOnce(&mut W, &mut Vec<u8>) -> T,
    ) -> Result<T, Problem> {
        let mut state = self.shared.lock();
        let state = &mut *state;
        if let Some(reason) = &state.closed {
            return Err(Problem::Unsent(reason.clone()));
        }
        if state.waiting.count() >= WAITING_MAX {
            return Err(Problem::Unsent(format!(
                "{WAITING_MAX} requests wait for answers"
            )));
        }
        if state.outgoing.is_empty() {
            self.shared.written.notify_one();
        }
        Ok(append(&mut state.waiting, &mut state.outgoing))
    }

    /// Waits for the answer of one request.
    pub(super) async fn answer<T>(&self, waiting: oneshot::Receiver<T>) -> Result<T, Problem> {
        waiting
            .await
            .map_err(|_| Problem::Lost(self.shared.reason()))
    }

    /// Whether new requests would be refused.
    pub(super) fn is_closed(&self) -> bool {
        self.shared.lock().closed.is_some()
    }

    /// A request had no answer by its deadline.
    pub(super) fn on_timeout(&self) {
        let silence = self.shared.lock().last_received.elapsed();
        if silence > SILENCE_MAX {
            self.task.abort();
            self.shared.close("server is silent");
        }
    }
}

impl<W: Waiting> Drop for Pipe<W> {
    fn drop(&mut self) {
        self.task.abort();
        self.shared.close("connection no longer used");
    }
}

impl<W: Waiting> Shared<W> {
    fn lock(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self, reason: &str) {
        let mut state = self.lock();
        state.closed.get_or_insert_with(|| reason.to_owned());
        state.waiting.clear();
        state.outgoing = Vec::new();
    }

    fn reason(&self) -> String {
        let state = self.lock();
        state
            .closed
            .clone()
            .unwrap_or_else(|| "connection lost".to_owned())
    }
}

async fn run<W: Waiting>(mut stream: TcpStream, shared: Arc<Shared<W>>) {
    let (reading, writing) = stream.split();
    let ended = tokio::select! {
        biased;
        result = read_answers(reading, &shared) => result,
        result = write_requests(writing, &shared) => result,
    };
    let reason = ended.map_or_else(
        |error| format!("connection lost: {error}"),
        |()| "connection closed".to_owned(),
    );
    shared.close(&reason);
}

async fn read_answers<W: Waiting>(mut socket: ReadHalf<'_>, shared: &Shared<W>) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(BUFFER_BYTES);
    loop {
        if buffer.capacity() - buffer.len() < BUFFER_BYTES / 4 {
            buffer.reserve(BUFFER_BYTES);
        }
        if socket.read_buf(&mut buffer).await? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "closed by the server",
            ));
        }
        let mut state = shared.lock();
        state.last_received = Instant::now();
        state
            .waiting
            .take(&mut buffer)
            .map_err(|sentence| io::Error::new(io::ErrorKind::InvalidData, sentence))?;
    }
}

async fn write_requests<W: Waiting>(
    mut socket: WriteHalf<'_>,
    shared: &Shared<W>,
) -> io::Result<()> {
    let mut batch = Vec::with_capacity(BUFFER_BYTES);
    loop {
        shared.written.notified().await;
        std::mem::swap(&mut shared.lock().outgoing, &mut batch);
        socket.write_all(&batch).await?;
        batch.clear();
        if batch.capacity() > BUFFER_BYTES_KEPT {
            batch = Vec::with_capacity(BUFFER_BYTES);
        }
    }
}

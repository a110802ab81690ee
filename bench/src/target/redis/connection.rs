//! One connection: commands leave in batches, answers arrive in the order of the commands.
//!
//! Commands are encoded straight into a shared outgoing buffer. One task owns the socket; when it wakes it writes
//! everything that has gathered with one call.

use crate::target::link::{self, Address, Problem, dial};
use anyhow::{Context as _, bail, ensure};
use bytes::BytesMut;
use pegasus_resp::{Limits, Value, ValueDecoder, encode_command};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

/// Dropping it closes the socket.
#[derive(Debug)]
pub(super) struct Connection {
    shared: Arc<Shared>,
    task: AbortHandle,
    /// What the server said about itself (`HELLO`); empty if it does not know that command.
    pub(super) greeting: Vec<(String, String)>,
}

/// The answer of one command, when it is there; an error when the connection ends before.
pub(super) type Waiting = oneshot::Receiver<Value>;

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Wakes the task that owns the socket: there is something to write.
    written: Notify,
}

#[derive(Debug)]
struct State {
    outgoing: BytesMut,
    /// Who waits for an answer, in the order of the commands. An asker that has gone keeps its place.
    waiting: VecDeque<oneshot::Sender<Value>>,
    last_received: Instant,
    /// Why the connection ended; nothing is accepted any more.
    closed: Option<String>,
}

const BUFFER_BYTES: usize = 64 << 10;
/// A buffer that grew beyond this is not kept.
const BUFFER_BYTES_KEPT: usize = 1 << 20;
/// Commands without an answer. A server that is this far behind gets no more.
const WAITING_MAX: usize = 1 << 20;
/// A server that owes answers and is silent for so long is given up: it may be a host that has vanished.
const SILENCE_MAX: Duration = Duration::from_secs(3);

impl Connection {
    /// Sends a command; `encode` appends exactly one.
    pub(super) fn send(&self, encode: impl FnOnce(&mut BytesMut)) -> Result<Waiting, Problem> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.shared.lock();
        if let Some(reason) = &state.closed {
            return Err(Problem::Unsent(reason.clone()));
        }
        if state.waiting.len() == WAITING_MAX {
            return Err(Problem::Unsent(format!(
                "{WAITING_MAX} commands wait for answers"
            )));
        }
        if state.outgoing.is_empty() {
            self.shared.written.notify_one();
        }
        encode(&mut state.outgoing);
        state.waiting.push_back(sender);
        Ok(receiver)
    }

    /// Sends a command of these words and waits.
    pub(super) async fn ask(&self, command: &[&[u8]]) -> Result<Value, Problem> {
        let waiting = self.send(|out| encode_command(out, command.iter().copied()))?;
        self.answer(waiting).await
    }

    /// Waits for the answer of one command.
    pub(super) async fn answer(&self, waiting: Waiting) -> Result<Value, Problem> {
        match waiting.await {
            Ok(value) => Ok(value),
            Err(_) => Err(Problem::Lost(self.shared.reason())),
        }
    }

    /// `HELLO` for RESP3; a server that does not know it speaks RESP2. Then `PING`, and the database.
    async fn greet(&mut self, database: &str) -> anyhow::Result<()> {
        let hello = self.ask(&[b"HELLO", b"3"]).await.map_err(problem)?;
        match hello.error() {
            Some(error) if error.starts_with("NOAUTH") => bail!("{error}"),
            Some(_) => {}
            None => self.greeting = super::answer::pairs_as_text(&hello),
        }
        let pong = self.ask(&[b"PING"]).await.map_err(problem)?;
        ensure!(
            pong == Value::Simple("PONG".into()),
            "PING was answered with {}",
            pong.error().unwrap_or_else(|| pong.kind().to_owned())
        );
        if !database.is_empty() {
            let select = self.ask(&[b"SELECT", database.as_bytes()]).await;
            if let Some(error) = select.map_err(problem)?.error() {
                bail!("database {database}: {error}");
            }
        }
        Ok(())
    }
}

impl link::Connection for Connection {
    /// The database, or with our servers the table; empty: what the server takes by default.
    type Options = String;

    async fn open(address: &Address, database: &String) -> anyhow::Result<Self> {
        let stream = dial(address).await?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                outgoing: BytesMut::with_capacity(BUFFER_BYTES),
                waiting: VecDeque::new(),
                last_received: Instant::now(),
                closed: None,
            }),
            written: Notify::new(),
        });
        let task = tokio::spawn(run(stream, Arc::clone(&shared))).abort_handle();
        let mut connection = Self {
            shared,
            task,
            greeting: Vec::new(),
        };
        timeout(address.timeout, connection.greet(database))
            .await
            .context("no answer to HELLO and PING")
            .flatten()
            .with_context(|| {
                format!("{} does not greet as a Redis server does", address.address)
            })?;
        Ok(connection)
    }

    fn is_closed(&self) -> bool {
        self.shared.lock().closed.is_some()
    }

    fn on_timeout(&self) {
        let silence = self.shared.lock().last_received.elapsed();
        if silence > SILENCE_MAX {
            self.task.abort();
            self.shared.close("server is silent");
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
        self.shared.close("connection no longer used");
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever waits learns it by the end of its channel.
    fn close(&self, reason: &str) {
        let mut state = self.lock();
        state.closed.get_or_insert_with(|| reason.to_owned());
        state.waiting.clear();
        state.outgoing = BytesMut::new();
    }

    fn reason(&self) -> String {
        let state = self.lock();
        state
            .closed
            .clone()
            .unwrap_or_else(|| "connection lost".to_owned())
    }
}

async fn run(mut stream: TcpStream, shared: Arc<Shared>) {
    let (reading, writing) = stream.split();
    let ended = tokio::select! {
        biased;
        result = read_answers(reading, &shared) => result,
        result = write_commands(writing, &shared) => result,
    };
    let reason = ended.map_or_else(
        |error| format!("connection lost: {error}"),
        |()| "connection closed".to_owned(),
    );
    shared.close(&reason);
}

async fn read_answers(mut socket: ReadHalf<'_>, shared: &Shared) -> io::Result<()> {
    let invalid = |sentence: String| io::Error::new(io::ErrorKind::InvalidData, sentence);
    let mut decoder = ValueDecoder::new(Limits::DEFAULT);
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
        while let Some(value) = decoder
            .decode(&mut buffer)
            .map_err(|error| invalid(error.to_string()))?
        {
            if matches!(value, Value::Push(_)) {
                continue;
            }
            let asker = state
                .waiting
                .pop_front()
                .ok_or_else(|| invalid("an answer that nobody asked for".to_owned()))?;
            // The asker may have gone; its answer is then of no use.
            let _ = asker.send(value);
        }
    }
}

async fn write_commands(mut socket: WriteHalf<'_>, shared: &Shared) -> io::Result<()> {
    let mut batch = BytesMut::with_capacity(BUFFER_BYTES);
    loop {
        shared.written.notified().await;
        std::mem::swap(&mut shared.lock().outgoing, &mut batch);
        socket.write_all(&batch).await?;
        batch.clear();
        if batch.capacity() > BUFFER_BYTES_KEPT {
            batch = BytesMut::with_capacity(BUFFER_BYTES);
        }
    }
}

fn problem(problem: Problem) -> anyhow::Error {
    match problem {
        Problem::Unsent(reason) | Problem::Lost(reason) => anyhow::anyhow!(reason),
        Problem::Refused(failure) => anyhow::anyhow!(failure.to_string()),
    }
}

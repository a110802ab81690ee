//! One connection: commands leave in batches, answers arrive in the order of the commands.

use crate::target::link::{self, Address, Problem, dial};
use crate::target::pipe::{self, Pipe};
use anyhow::{Context as _, bail, ensure};
use bytes::BytesMut;
use pegasus_resp::{Limits, Value, ValueDecoder, encode_command};
use std::collections::VecDeque;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Dropping it closes the socket.
#[derive(Debug)]
pub(super) struct Connection {
    pipe: Pipe<Askers>,
    /// What the server said about itself (`HELLO`); empty if it does not know that command.
    pub(super) greeting: Vec<(String, String)>,
}

/// The answer of one command, when it is there; an error when the connection ends before.
pub(super) type Waiting = oneshot::Receiver<Value>;

/// Who waits for an answer, in the order of the commands.
#[derive(Debug)]
struct Askers {
    decoder: ValueDecoder,
    waiting: VecDeque<oneshot::Sender<Value>>,
}

impl Connection {
    /// Sends a command; `encode` appends exactly one.
    pub(super) fn send(&self, encode: impl FnOnce(&mut Vec<u8>)) -> Result<Waiting, Problem> {
        self.pipe.send(|askers, out| {
            let (sender, receiver) = oneshot::channel();
            encode(out);
            askers.waiting.push_back(sender);
            receiver
        })
    }

    /// Sends a command of these words and waits.
    pub(super) async fn ask(&self, command: &[&[u8]]) -> Result<Value, Problem> {
        let waiting = self.send(|out| encode_command(out, command.iter().copied()))?;
        self.answer(waiting).await
    }

    /// Waits for the answer of one command.
    pub(super) async fn answer(&self, waiting: Waiting) -> Result<Value, Problem> {
        self.pipe.answer(waiting).await
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
        let askers = Askers {
            decoder: ValueDecoder::new(Limits::DEFAULT),
            waiting: VecDeque::new(),
        };
        let mut connection = Self {
            pipe: Pipe::new(dial(address).await?, askers),
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
        self.pipe.is_closed()
    }

    fn on_timeout(&self) {
        self.pipe.on_timeout();
    }
}

impl pipe::Waiting for Askers {
    fn count(&self) -> usize {
        self.waiting.len()
    }

    fn take(&mut self, buffer: &mut BytesMut) -> Result<(), String> {
        while let Some(value) = self
            .decoder
            .decode(buffer)
            .map_err(|error| error.to_string())?
        {
            if matches!(value, Value::Push(_)) {
                continue;
            }
            let asker = self.waiting.pop_front();
            let asker = asker.ok_or("an answer that nobody asked for")?;
            // The asker may have gone; its answer is then of no use.
            let _ = asker.send(value);
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.waiting.clear();
    }
}

fn problem(problem: Problem) -> anyhow::Error {
    match problem {
        Problem::Unsent(reason) | Problem::Lost(reason) => anyhow::anyhow!(reason),
        Problem::Refused(failure) => anyhow::anyhow!(failure.to_string()),
    }
}

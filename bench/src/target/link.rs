//! A connection to one server that is made again when it was lost, and operations that outlive it.
//!
//! What the native client does for clusters, done for one address: an operation is tried until its deadline. One that
//! was not sent is tried again, and so is a read whatever happened to it; a write that was sent and not answered is
//! given up, because its outcome is unknown.

use super::{Execution, Failure};
use std::borrow::Cow;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{sleep, timeout};

/// What is behind a link.
pub(super) trait Connection: Sized {
    /// What there is to choose about it.
    type Options;
    /// Everything that has to be said first is said when this returns.
    async fn open(address: &Address, options: &Self::Options) -> anyhow::Result<Self>;
    /// Whether new requests would be refused.
    fn is_closed(&self) -> bool;
    /// An operation on it had no answer by its deadline.
    fn on_timeout(&self) {}
}

/// Where a link leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// `HOST:PORT`.
    pub(super) address: String,
    /// For one try to connect.
    pub(super) timeout: Duration,
}

#[derive(Debug)]
pub(super) struct Link<C: Connection> {
    address: Address,
    options: C::Options,
    current: Mutex<Option<Arc<C>>>,
    dialling: AsyncMutex<()>,
    retries: AtomicU64,
}

/// Whether repeating an operation can do harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Read,
    Write,
}

/// Why one attempt brought no answer.
#[derive(Debug)]
pub(super) enum Problem {
    /// No byte of it was sent.
    Unsent(String),
    /// It was sent, and the connection ended.
    Lost(String),
    /// The server said no.
    Refused(Failure),
}

const PAUSE_MIN: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(100);

impl<C: Connection> Link<C> {
    /// A link whose connection is open.
    pub(super) async fn open(address: Address, options: C::Options) -> anyhow::Result<Self> {
        let link = Self::new(address, options);
        link.connection().await?;
        Ok(link)
    }

    /// A link that is dialled when it is first needed.
    pub(super) fn new(address: Address, options: C::Options) -> Self {
        Self {
            address,
            options,
            current: Mutex::new(None),
            dialling: AsyncMutex::new(()),
            retries: AtomicU64::new(0),
        }
    }

    /// Runs one operation until it has an answer, a refusal, or no time left. `attempt` is given whether it was sent.
    pub(super) async fn call<T>(
        &self,
        class: Class,
        within: Duration,
        attempt: impl AsyncFn(&C, &Cell<bool>) -> Result<T, Problem>,
    ) -> Result<T, Failure> {
        let sent = Cell::new(false);
        let last = Cell::new(None);
        match timeout(within, self.attempts(class, &attempt, &sent, &last)).await {
            Ok(result) => result,
            Err(_) => Err(self.expired(class, within, sent.get(), last.take())),
        }
    }

    pub(super) fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// The open connection, made if there is none, once for everybody who waits.
    pub(super) async fn connection(&self) -> anyhow::Result<Arc<C>> {
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        let _dialling = self.dialling.lock().await;
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        let connection = Arc::new(C::open(&self.address, &self.options).await?);
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Arc::clone(&connection));
        Ok(connection)
    }

    fn current(&self) -> Option<Arc<C>> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().filter(|c| !c.is_closed()).cloned()
    }

    async fn attempts<T>(
        &self,
        class: Class,
        attempt: &impl AsyncFn(&C, &Cell<bool>) -> Result<T, Problem>,
        sent: &Cell<bool>,
        last: &Cell<Option<String>>,
    ) -> Result<T, Failure> {
        let mut pause = PAUSE_MIN;
        loop {
            sent.set(false);
            let problem = match self.connection().await {
                Ok(connection) => match attempt(&connection, sent).await {
                    Ok(answer) => return Ok(answer),
                    Err(problem) => problem,
                },
                Err(error) => Problem::Unsent(format!("{error:#}")),
            };
            match problem {
                Problem::Refused(failure) => return Err(failure),
                Problem::Lost(reason) if class == Class::Write => {
                    return Err(Failure::connection(Execution::Unknown, reason));
                }
                Problem::Lost(reason) | Problem::Unsent(reason) => last.set(Some(reason)),
            }
            self.retries.fetch_add(1, Ordering::Relaxed);
            sleep(pause).await;
            pause = (2 * pause).min(PAUSE_MAX);
        }
    }

    fn expired(&self, class: Class, within: Duration, sent: bool, last: Option<String>) -> Failure {
        if sent && let Some(connection) = self.current() {
            connection.on_timeout();
        }
        let last = last.map(|reason| Failure::connection(Execution::NotExecuted, reason));
        Failure::expired(class, within, sent, last)
    }
}

impl Failure {
    /// The deadline came: `sent` says whether an attempt was under way, `last` why the one before it failed.
    pub(super) fn expired(class: Class, within: Duration, sent: bool, last: Option<Self>) -> Self {
        match (sent, class, last) {
            (true, Class::Write, _) => Self::timeout(Execution::Unknown, within),
            (true, Class::Read, _) | (false, _, None) => {
                Self::timeout(Execution::NotExecuted, within)
            }
            (false, _, Some(failure)) => failure,
        }
    }

    /// There is no connection, or the one there was ended.
    pub(super) fn connection(execution: Execution, message: String) -> Self {
        Self {
            code: Cow::Borrowed("connection"),
            execution,
            permanent: false,
            message,
        }
    }
}

/// Opens a socket: what every protocol here starts with.
pub(super) async fn dial(address: &Address) -> anyhow::Result<tokio::net::TcpStream> {
    use anyhow::{Context as _, ensure};
    let Address {
        address,
        timeout: within,
        ..
    } = address;
    let stream = timeout(*within, tokio::net::TcpStream::connect(address))
        .await
        .with_context(|| format!("{address}: no answer within {} ms", within.as_millis()))?
        .with_context(|| format!("cannot connect to {address}"))?;
    // A port of the ephemeral range that nobody listens on can be connected to itself on loopback.
    ensure!(
        stream.local_addr()? != stream.peer_addr()?,
        "cannot connect to {address}: nobody listens there"
    );
    stream.set_nodelay(true)?;
    Ok(stream)
}

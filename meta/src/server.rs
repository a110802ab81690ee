//! The thin server around the state machine: one port for nodes, clients and operators.
//!
//! ```text
//! connection tasks --letters--> decider (one thread: State + Store) --frames--> outbox of each connection
//! ```
//!
//! The decider takes what has gathered, applies all of it, makes it durable with one flush, and only then lets answers
//! and pushes go. Everything is bounded: letters (connections wait), outboxes (a connection that does not read is
//! closed), frames, connections.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the server has sockets, a clock and a thread"
)]

mod answers;
#[cfg(any(test, feature = "fuzzing"))]
pub mod any_bytes;
mod apache;
mod backup;
mod chair;
mod clock;
mod collector;
mod connection;
mod decider;
mod facts;
mod http;
mod letter;
mod outbox;
mod redirect;
mod register;
mod sniff;
mod wire;

pub use backup::BackupOptions;
pub use collector::collect;

use crate::leadership::{Alone, Leadership, Wake};
use crate::state::{ClusterId, HealOptions, State};
use crate::store::{Store, StoreError};
use clock::Clock;
use facts::Place;
use letter::Letter;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// Letters that wait for the decider; connections wait when there are more.
const LETTERS_MAX: usize = 1024;
/// How often the state machine is told the time.
const TICK_PERIOD: Duration = Duration::from_millis(100);

/// A taken port is tried again for 5 s in all.
const BIND_TRIES: u32 = 25;
const BIND_PAUSE: Duration = Duration::from_millis(200);

/// How to serve.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The cluster's secret. Empty: nodes may join from loopback addresses only.
    pub token: Vec<u8>,
    /// Default 4,096; more are closed at once.
    pub connections_max: usize,
    /// Where backups go. Default: nowhere.
    pub backup: BackupOptions,
}

impl ServerOptions {
    /// Defaults at `listen`, without a token.
    #[must_use]
    pub fn at(listen: SocketAddr) -> Self {
        Self {
            listen,
            token: Vec::new(),
            connections_max: 4096,
            backup: BackupOptions::default(),
        }
    }
}

/// What happened since start; they only grow.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections accepted.
    pub connections: AtomicU64,
    /// Connections closed because there were too many.
    pub connections_refused: AtomicU64,
    /// Connections closed because they sent something that is no frame, or a frame over its bound.
    pub garbage: AtomicU64,
    /// Nodes refused at registration.
    pub registrations_refused: AtomicU64,
    /// Connections closed because they did not read what they were sent.
    pub overflows: AtomicU64,
    /// Full Syncs sent because a node's digest differed, registrations not counted.
    pub resyncs: AtomicU64,
    /// Configurations of partitions that were changed.
    pub configuration_changes: AtomicU64,
    /// Times that changes were made durable.
    pub store_flushes: AtomicU64,
}

impl Counters {
    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    letters: mpsc::Sender<Letter>,
    counters: Arc<Counters>,
    clock: Clock,
    token: Vec<u8>,
    cluster: ClusterId,
    backup: Arc<BackupOptions>,
    stop: watch::Receiver<bool>,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    counters: Arc<Counters>,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
    decider: std::thread::JoinHandle<()>,
    failure: oneshot::Receiver<StoreError>,
}

impl Server {
    /// Binds and serves. Needs a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// The address cannot be bound, or the thread cannot be made.
    pub async fn start(
        state: State,
        store: Box<dyn Store + Send>,
        options: ServerOptions,
    ) -> io::Result<Self> {
        let heal = *state.options();
        let alone = Alone::new(store, state.into_durable());
        Self::start_led(Box::new(alone), heal, options).await
    }

    /// Binds and serves: decides while `leadership` says that this process leads, and otherwise says who does.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_led(
        mut leadership: Box<dyn Leadership>,
        heal: HealOptions,
        options: ServerOptions,
    ) -> io::Result<Self> {
        let counters = Arc::new(Counters::default());
        let shared = Arc::clone(&counters);
        let cluster = leadership.cluster();
        Self::start_with(
            cluster,
            counters,
            options,
            move |clock, place, letters, mailbox| {
                // A full mailbox is being read, and whoever reads it looks.
                leadership.start(Wake::new(move || _ = letters.try_send(Letter::Look)));
                chair::Chair::new(leadership, heal, (clock, place), shared).run(mailbox)
            },
        )
        .await
    }

    /// Binds, and lets `decide` take the letters on a thread of its own.
    async fn start_with(
        cluster: ClusterId,
        counters: Arc<Counters>,
        options: ServerOptions,
        decide: impl FnOnce(
            Clock,
            Place,
            mpsc::Sender<Letter>,
            mpsc::Receiver<Letter>,
        ) -> Result<(), StoreError>
        + Send
        + 'static,
    ) -> io::Result<Self> {
        let listener = bind(options.listen).await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let (letters, mailbox) = mpsc::channel(LETTERS_MAX);
        let (failed, failure) = oneshot::channel();
        let clock = Clock::new();
        let own = letters.clone();
        let decider = std::thread::Builder::new()
            .name("meta-decider".to_owned())
            .spawn(move || {
                if let Err(error) = decide(clock, Place::alone(address), own, mailbox) {
                    _ = failed.send(error)
                }
            })?;
        let shared = Shared {
            letters,
            counters: Arc::clone(&counters),
            clock,
            token: options.token,
            cluster,
            backup: Arc::new(options.backup),
            stop: stopped,
        };
        tokio::spawn(backup::keep(
            shared.letters.clone(),
            clock,
            Arc::clone(&shared.backup),
            shared.stop.clone(),
        ));
        let accepting = tokio::spawn(accept(listener, Arc::new(shared), options.connections_max));
        Ok(Self {
            address,
            counters,
            stop,
            accepting,
            decider,
            failure,
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Waits until the store has failed for good: nothing can be promised any more, the process must end.
    pub async fn failed(&mut self) -> StoreError {
        match (&mut self.failure).await {
            Ok(error) => error,
            // The decider ends without a failure only when it is told to stop.
            Err(_) => std::future::pending().await,
        }
    }

    /// Closes all connections, finishes what was begun, and lets go of the store.
    ///
    /// # Panics
    /// If the decider has panicked.
    pub async fn stop(self) {
        _ = self.stop.send(true);
        _ = self.accepting.await;
        let joined = tokio::task::spawn_blocking(|| self.decider.join()).await;
        assert!(matches!(joined, Ok(Ok(()))), "the decider has panicked");
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, connections_max: usize) {
    let permits = Arc::new(Semaphore::new(connections_max));
    let mut stop = shared.stop.clone();
    let mut tick = tokio::time::interval(TICK_PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            _ = stop.changed() => break,
            _ = tick.tick() => drop(shared.letters.try_send(letter::tick(shared.clock.now_ms()))),
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                let Some((stream, peer)) = accepted_or_rest(accepted).await else { continue };
                Counters::count(&shared.counters.connections);
                let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                    Counters::count(&shared.counters.connections_refused);
                    continue;
                };
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    connection::serve(stream, peer, &shared).await;
                    drop(permit);
                });
            }
        }
    }
    while connections.join_next().await.is_some() {}
    _ = shared.letters.send(Letter::Stop).await;
}

/// Our ports lie where the system takes outgoing ones from: one that is taken may be free in a moment.
async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    for _ in 0..BIND_TRIES {
        match TcpListener::bind(address).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                tokio::time::sleep(BIND_PAUSE).await
            }
            bound => return bound,
        }
    }
    TcpListener::bind(address).await
}

/// Accept fails for want of descriptors: rest a little instead of spinning.
async fn accepted_or_rest(
    accepted: io::Result<(TcpStream, SocketAddr)>,
) -> Option<(TcpStream, SocketAddr)> {
    match accepted {
        Ok(accepted) => Some(accepted),
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(Duration::from_millis(20)).await;
            None
        }
    }
}

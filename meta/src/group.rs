//! Several meta processes as one: what their leader decides a majority has on disk before anybody is told (Raft, by openraft).
//!
//! ```text
//! decider --Store::append--> openraft --entries--> log of each member --committed--> machine of each member
//!                                        peers.rs, serve.rs, link.rs   log.rs          machine.rs
//! ```
//!
//! `raft` has the words that openraft and we share, `codec` their bytes, `dir` says who the member of a directory is, `term`
//! is the store of a leader. Reading order: `raft`, `machine`, `log`, `link`, `peers`, `serve`, `term`, then this file.
//!
//! What keeps it safe:
//!
//! 1. A batch names the batch that it follows, and changes nothing if another one has come in between.
//! 2. A vote, and an entry, is on disk before anybody is told of it.
//! 3. A member is a directory: one that has lost it is a stranger under its number, and neither votes nor is believed.
//! 4. A number that a member had is never given again.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a group has a port and a runtime of its own"
)]

mod codec;
mod dir;
mod link;
mod log;
mod machine;
mod members;
mod peers;
mod raft;
mod serve;
mod term;
#[cfg(test)]
mod tests;

pub use codec::MemberId;
pub use dir::{Identity, found, is_member, prepare};

use crate::leadership::{ChangeDone, Leadership, MemberChange, MetaMember, Standing, Term, Wake};
use crate::state::{ClusterId, Durable};
use crate::store::StoreError;
use crate::store::files::remove_unfinished;
use log::Log;
use machine::Machine;
use openraft::{Config, SnapshotPolicy};
use peers::{Network, Peers, Us};
use raft::{Batch, Member, Raft};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use term::{GroupStore, PATIENCE, deposed};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// A batch, and what a group begins with, are at most this long.
const BATCH_BYTES_MAX: usize = 48 << 20;
/// How often a leader is heard of.
const HEARTBEAT_MS: u64 = 100;
/// Followers wait `ELECTION_MAX_MS` and then between these two before they ask to lead: a leader that is killed is followed
/// after 0.75 to 1.05 s.
const ELECTION_MIN_MS: u64 = 300;
const ELECTION_MAX_MS: u64 = 450;
/// For a snapshot to be sent and taken over.
const SNAPSHOT_TIMEOUT_MS: u64 = 120_000;
/// Entries after which each member makes a snapshot, and how many it keeps for members that lag.
const SNAPSHOT_ENTRIES: u64 = 4_096;
const KEPT_ENTRIES: u64 = 512;
/// Heartbeats, votes, and disk writes that wait.
const THREADS: usize = 3;
/// A leader that a majority has not answered for so long does not act as one, in milliseconds.
const UNHEARD_MS: u64 = 1_500;
/// A taken port is tried again for 5 s in all.
const BIND_TRIES: u32 = 25;
const BIND_PAUSE: Duration = Duration::from_millis(200);

/// How to be a member.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    /// Made by [`found`] or [`prepare`].
    pub dir: PathBuf,
    /// Where other members connect. Default port 35601; 0 takes a free one.
    pub listen: SocketAddr,
    /// `ip:port` by which others reach it; empty: as it listens.
    pub advertise: String,
    /// `ip:port` by which clients and nodes reach this process.
    pub client_address: String,
    /// The cluster's secret. Empty: members talk over loopback only.
    pub token: Vec<u8>,
}

/// A member of a group, running.
pub struct Group {
    identity: Identity,
    raft: Raft,
    machine: Machine,
    peers: Arc<Peers>,
    address: SocketAddr,
    runtime: Runtime,
    /// Kept for its lock.
    _lock: File,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group")
            .field("member", &self.identity.member)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Group {
    /// Opens a member's directory, listens to the others and takes part from now on. Not to be called on a thread of an
    /// async runtime.
    ///
    /// # Errors
    /// The directory is none of a member, or cannot be read, or is used; the port cannot be bound.
    pub fn open(options: GroupOptions) -> Result<Self, StoreError> {
        let (identity, lock) = dir::open(&options.dir)?;
        remove_unfinished(&options.dir)?;
        let log = Log::open(&options.dir, identity.cluster)?;
        let machine = Machine::open(&options.dir, identity.cluster)?;
        expect_whole(&options, &log, &machine)?;
        log.let_go_behind(machine.stored());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("meta-group")
            .enable_all()
            .build()
            .map_err(failed("threads of the group"))?;
        let listen = options.listen;
        let listener = runtime.block_on(bind(listen));
        let listener =
            listener.map_err(failed(&format!("cannot listen on {listen} for the group")))?;
        let address = listener.local_addr().map_err(failed("the group's port"))?;
        let us = Us {
            cluster: identity.cluster,
            member: identity.member,
            incarnation: identity.incarnation,
            client_address: options.client_address,
            peer_address: Some(options.advertise)
                .filter(|it| !it.is_empty())
                .unwrap_or_else(|| address.to_string()),
            token: options.token,
        };
        let peers = Arc::new(Peers::new(us.clone()));
        let raft = runtime.block_on(start(&identity, &us, &peers, log, machine.clone()))?;
        runtime.spawn(serve::serve(listener, Arc::new(us), raft.clone()));
        Ok(Self {
            identity,
            raft,
            machine,
            peers,
            address,
            runtime,
            _lock: lock,
        })
    }

    /// Where it listens to other members.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whose directory it is.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    async fn read_all(&self) -> Result<(u64, Arc<Durable>), StoreError> {
        term::confirm(&self.raft).await?;
        // One that was started again within its own term leads on without an entry of its own to go by.
        let last = self.raft.metrics().borrow().last_log_index;
        let applied = self.raft.wait(Some(PATIENCE));
        let applied = applied.applied_index_at_least(last, "what was agreed on");
        if applied.await.is_err() {
            return Err(deposed("what was agreed on is not here yet", false));
        }
        let content = self.machine.content();
        match (content.durable, &self.identity.seed) {
            (Some(durable), _) => Ok((content.number, durable)),
            (None, Some(seed)) => {
                let changes = seed.as_slice().into();
                let number = term::write(
                    &self.raft,
                    Batch {
                        follows: 0,
                        changes,
                    },
                )
                .await?;
                let durable = self.machine.content().durable;
                durable
                    .map(|durable| (number, durable))
                    .ok_or_else(|| deposed("the group has not begun", true))
            }
            (None, None) => Err(deposed("the group has not begun", false)),
        }
    }
}

impl Leadership for Group {
    fn cluster(&self) -> ClusterId {
        self.identity.cluster
    }

    fn start(&mut self, wake: Wake) {
        let mut metrics = self.raft.metrics();
        self.runtime.spawn(async move {
            let mut before = None;
            loop {
                let now = {
                    let metrics = metrics.borrow_and_update();
                    let has_failed = metrics.running_state.is_err();
                    (metrics.state, metrics.current_leader, has_failed)
                };
                if before != Some(now) {
                    before = Some(now);
                    wake.wake();
                }
                if metrics.changed().await.is_err() {
                    return wake.wake();
                }
            }
        });
    }

    fn standing(&mut self) -> Result<Standing, StoreError> {
        let metrics = self.raft.metrics().borrow().clone();
        if let Err(error) = metrics.running_state {
            return Err(StoreError::Group(format!(
                "member {}: {error}",
                self.identity.member
            )));
        }
        let membership = metrics.membership_config.membership();
        let is_alone = membership.voter_ids().count() == 1;
        let is_heard = metrics
            .millis_since_quorum_ack
            .is_none_or(|ms| ms < UNHEARD_MS);
        if metrics.state.is_leader() && (is_alone || is_heard) {
            return Ok(Standing::Leads);
        }
        let leader = metrics
            .current_leader
            .filter(|&it| it != self.identity.member);
        let leader = leader.and_then(|id| membership.get_node(&id));
        Ok(Standing::Follows {
            leader: leader.map(|it| it.client_address.clone()),
        })
    }

    fn begin(&mut self) -> Result<Term, StoreError> {
        let (number, durable) = self.runtime.block_on(self.read_all())?;
        let metrics = self.raft.metrics().borrow().clone();
        if !metrics.state.is_leader() {
            return Err(deposed("its term is over", false));
        }
        let store = GroupStore {
            raft: self.raft.clone(),
            machine: self.machine.clone(),
            runtime: self.runtime.handle().clone(),
            term: metrics.current_term,
            number,
        };
        Ok(Term {
            store: Box::new(store),
            durable: Durable::clone(&durable),
            number: metrics.current_term,
        })
    }

    fn members(&self) -> Vec<MetaMember> {
        members::list(&self.raft, &self.peers)
    }

    fn change_members(&mut self, change: MemberChange, done: ChangeDone) {
        let (raft, peers) = (self.raft.clone(), Arc::clone(&self.peers));
        let highest = self.machine.content().highest_member;
        self.runtime.spawn(async move {
            done(members::change(&raft, &peers, highest, change).await);
        });
    }

    fn resign(&mut self) {
        let raft = &self.raft;
        let stopped = async { tokio::time::timeout(PATIENCE, raft.shutdown()).await };
        if self.runtime.block_on(stopped).is_err() {
            tracing::warn!("the group did not stop in time");
        }
    }
}

/// What the directory of a member holds: all that it has heard of, as if it went on alone. That is everything that anybody
/// was told if a majority agreed with this member last; what was on its way when it stopped may be in it or not.
///
/// # Errors
/// The directory is none of a member, or cannot be read, or is used.
pub fn read(dir: &Path) -> Result<Durable, StoreError> {
    let (identity, _lock) = dir::open(dir)?;
    let log = Log::open(dir, identity.cluster)?;
    let machine = Machine::open(dir, identity.cluster)?;
    let mut content = machine.content();
    content.replay(log.entries_after(machine.last_applied()))?;
    let durable = content.durable;
    durable
        .map(Arc::unwrap_or_clone)
        .ok_or_else(|| StoreError::Group(format!("{}: the group has not begun", dir.display())))
}

async fn start(
    identity: &Identity,
    us: &Us,
    peers: &Arc<Peers>,
    log: Log,
    machine: Machine,
) -> Result<Raft, StoreError> {
    let config = Config {
        cluster_name: identity.cluster.to_string(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_MIN_MS,
        election_timeout_max: ELECTION_MAX_MS,
        install_snapshot_timeout: SNAPSHOT_TIMEOUT_MS,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_ENTRIES),
        max_in_snapshot_log_to_keep: KEPT_ENTRIES,
        ..Config::default()
    };
    let config = Arc::new(config.validate().map_err(|error| group(&error))?);
    let network = Network(Arc::clone(peers));
    let raft = Raft::new(identity.member, config, network, log, machine).await;
    let raft = raft.map_err(|error| group(&error))?;
    let is_begun = raft.is_initialized().await.map_err(|error| group(&error))?;
    if identity.seed.is_some() && !is_begun {
        let us = Member {
            client_address: us.client_address.clone(),
            peer_address: us.peer_address.clone(),
            incarnation: us.incarnation,
        };
        let alone = BTreeMap::from([(identity.member, us)]);
        raft.initialize(alone)
            .await
            .map_err(|error| group(&error))?;
    }
    Ok(raft)
}

/// The log goes on where the snapshot ends, or before.
fn expect_whole(options: &GroupOptions, log: &Log, machine: &Machine) -> Result<(), StoreError> {
    let purged = log.purged().map_or(0, |it| it.index);
    let applied = machine.last_applied().map_or(0, |it| it.index);
    if purged > applied {
        return Err(StoreError::Missing {
            path: options.dir.clone(),
            expected: applied + 1,
            found: purged + 1,
        });
    }
    Ok(())
}

/// Our ports lie where the system takes outgoing ones from: one that is taken may be free in a moment.
async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    for _ in 0..BIND_TRIES {
        match TcpListener::bind(address).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                tokio::time::sleep(BIND_PAUSE).await;
            }
            bound => return bound,
        }
    }
    TcpListener::bind(address).await
}

fn failed(what: &str) -> impl Fn(io::Error) -> StoreError + '_ {
    move |error| StoreError::Group(format!("{what}: {error}"))
}

fn group(error: &impl ToString) -> StoreError {
    StoreError::Group(error.to_string())
}

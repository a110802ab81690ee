//! Start-up and shutdown of a data node: everything is checked and opened before anything is promised, and ends in the
//! opposite order.

mod assemble;

use crate::allocator;
use crate::background::Background;
use crate::compaction::Compaction;
use crate::config::{Config, ConfigError, NumaSetting};
use crate::data_dir::{DataDir, DataDirError};
use crate::engine_pool::EnginePool;
use crate::engine_watch::EngineWatch;
use crate::inbox::{CoreInput, InboxSender};
use crate::meta_link::{self, LinkIdentity, MetaLink, Parting, SessionError};
use crate::open_shard::OpenShardError;
use crate::placement::{self, Machine, MemoryPlan};
use crate::ports::{self, CoreSockets};
use crate::route_relay::RouteRelay;
use crate::scrub::Scrub;
use crate::shard_loop::{CoreError, Finished};
use crate::stall::Watchdog;
use crate::start_checks::{self, CpuClaims, StartError};
use crate::transfer::{TransferThreads, Transfers};
use pegasus_fbs::code::Code;
use pegasus_host::Root;
use pegasus_net::listener::BindError;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

/// Why a node does not start; each is one sentence that names the thing.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("CPUs of this machine: {0}")]
    Machine(io::Error),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Ring(#[from] pegasus_net::StartError),
    #[error(transparent)]
    Meta(#[from] SessionError),
    #[error("data directory {path}: {error}")]
    Foreign { path: PathBuf, error: SessionError },
    #[error("shard {shard}: {error}")]
    Shard { shard: u16, error: OpenShardError },
    #[error("core {core}: {error}")]
    Core { core: u16, error: String },
    #[error("statistics page of core {core}: {error}")]
    Stats { core: u16, error: io::Error },
    #[error("{what}: {error}")]
    Thread {
        what: &'static str,
        error: io::Error,
    },
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    client_addresses: Vec<SocketAddr>,
    inboxes: Vec<InboxSender>,
    cores: Vec<JoinHandle<Result<Finished, CoreError>>>,
    shared: Shared,
    /// Threads that end when nobody can ask them any more.
    helpers: Vec<JoinHandle<()>>,
    scrub: Scrub,
    compaction: Compaction,
    transfers: TransferThreads,
    meta: MetaLink,
    watch: EngineWatch,
    watchdog: Watchdog,
    claims: CpuClaims,
    dir: DataDir,
}

/// Handles that keep helper threads alive.
#[derive(Debug)]
struct Shared {
    pool: EnginePool,
    background: Background,
    transfers: Transfers,
    relay: RouteRelay,
}

impl Node {
    /// Starts a node and returns when its cores run. `is_stopped` is asked while a fresh node waits for meta.
    ///
    /// # Errors
    /// Whatever is not right with configuration, machine, directory, ports or cluster.
    pub fn start(config: &Config, is_stopped: &dyn Fn() -> bool) -> Result<Self, NodeError> {
        config.check()?;
        let process = &config.process;
        let cores = u16::try_from(process.cpu.cores.count()).unwrap_or(u16::MAX);
        start_checks::check_limits(cores.into(), process.listen.connections_max.into())?;
        pegasus_net::probe()?;
        let token = start_checks::read_token(process.token_file.as_deref())?;
        let mut dir = DataDir::open(&process.dir, cores)?;
        let root = Root::system();
        let machine = Machine::of(&root).map_err(NodeError::Machine)?;
        let claims = start_checks::claim_cpus(
            &process.cpu.claims_dir,
            &process.cpu.cores,
            &process.cpu.background,
            process.cpu.poll,
            &machine,
        )?;
        let memory = place(&root, &machine, config, &claims);
        allocator::start_background_threads();
        let sockets = ports::bind_all(&process.listen, cores)?;
        let mut identity = link_identity(&dir, &claims, &sockets.cores, token);
        join(&mut dir, &mut identity, config, is_stopped)?;
        assemble::assemble(config, dir, claims, &memory, sockets, identity)
    }

    /// Where clients connect, by core number.
    #[must_use]
    pub fn client_addresses(&self) -> &[SocketAddr] {
        &self.client_addresses
    }

    /// Whether a core has ended by itself: the node cannot go on.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.cores.iter().any(JoinHandle::is_finished)
    }

    /// Has meta take over what this node leads, while it works on, for `limit` at most. Clients are told where to go.
    pub fn leave(&self, limit: Duration) {
        if limit.is_zero() {
            return;
        }
        match self.meta.leave(limit) {
            Parting::Free => tracing::info!("nothing is led from here any more"),
            Parting::Late(held) => {
                tracing::warn!(
                    held,
                    "time to hand over is up, the rest waits for failovers"
                );
            }
            Parting::Alone => {
                tracing::warn!("meta is not there to hand over what is led from here")
            }
        }
    }

    /// Stops accepting, lets requests in work end within a bound, and makes everything applied durable.
    ///
    /// # Errors
    /// A core had failed before, or panicked.
    pub fn stop(self) -> Result<(), NodeError> {
        for inbox in &self.inboxes {
            inbox.send(CoreInput::Stop);
        }
        let mut failure = None;
        let mut finished = Vec::new();
        for (core, thread) in (0..).zip(self.cores) {
            match thread.join() {
                Ok(Ok(end)) => finished.push(end),
                Ok(Err(error)) => {
                    failure = Some(NodeError::Core {
                        core,
                        error: error.to_string(),
                    })
                }
                Err(_) => {
                    failure = Some(NodeError::Core {
                        core,
                        error: "its thread panicked".to_owned(),
                    })
                }
            }
        }
        self.meta.stop();
        self.compaction.stop();
        drop((self.shared, self.scrub, self.watch, self.watchdog));
        self.transfers.stop();
        for helper in self.helpers {
            let _ = helper.join();
        }
        flush_all(finished);
        drop((self.claims, self.dir));
        failure.map_or(Ok(()), Err)
    }
}

/// Where memory comes from; the calling thread, and so all threads of the node, take it from there from now on.
fn place(root: &Root, machine: &Machine, config: &Config, claims: &CpuClaims) -> MemoryPlan {
    let process = &config.process;
    let plan = match (process.memory.numa, claims.pinned) {
        (NumaSetting::Any, _) => MemoryPlan::Any("memory.numa = any"),
        (NumaSetting::Local, false) => MemoryPlan::Any("the cores are not pinned"),
        (NumaSetting::Local, true) => machine.memory_plan(&claims.cpus, config.memory_bytes()),
    };
    plan.apply_to_all();
    placement::report(
        root,
        machine,
        claims,
        &process.cpu.background,
        &plan,
        &process.dir,
    );
    plan
}

/// A fresh node needs a number before it can do anything; one that has it only asks whether it is welcome.
fn join(
    dir: &mut DataDir,
    identity: &mut LinkIdentity,
    config: &Config,
    is_stopped: &dyn Fn() -> bool,
) -> Result<(), NodeError> {
    let meta = &config.process.meta;
    let registered = match identity.node {
        Some(_) => meta_link::greet(meta, identity).map_err(|error| match error {
            SessionError::Foreign { .. }
            | SessionError::Refused {
                code: Code::WrongCluster,
                ..
            } => NodeError::Foreign {
                path: dir.root().into(),
                error,
            },
            error => NodeError::Meta(error),
        })?,
        None => Some(meta_link::join(meta, identity, is_stopped)?),
    };
    if let Some(registered) = registered {
        dir.join(registered.cluster, registered.node)?;
        identity.cluster = Some(registered.cluster);
        identity.node = Some(registered.node);
    }
    Ok(())
}

fn link_identity(
    dir: &DataDir,
    claims: &CpuClaims,
    sockets: &[CoreSockets],
    token: Vec<u8>,
) -> LinkIdentity {
    let known = dir.identity();
    let stats_dir = std::path::absolute(dir.stats_dir()).unwrap_or_else(|_| dir.stats_dir());
    LinkIdentity {
        cluster: known.cluster,
        node: known.node,
        incarnation: known.incarnation,
        token,
        client_addresses: sockets
            .iter()
            .map(|sockets| sockets.client_address)
            .collect(),
        peer_addresses: sockets.iter().map(|sockets| sockets.peer_address).collect(),
        cpus: claims.cpus.clone(),
        stats_dir: stats_dir.display().to_string(),
        host: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
    }
}

/// One thread for each core: their databases have nothing in common.
fn flush_all(finished: Vec<Finished>) {
    std::thread::scope(|scope| {
        for Finished { store, unflushed } in finished {
            scope.spawn(move || {
                for partition in unflushed {
                    if let Err(error) = store.flush(partition) {
                        tracing::warn!(%partition, %error, "not flushed at the end, the log will replay it");
                    }
                }
            });
        }
    });
}

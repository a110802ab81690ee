//! Putting a node together, once everything that could be refused has been checked: shards are opened in parallel, then
//! helper threads are started, then the cores, then the link to meta.

use super::{Node, NodeError, Shared};
use crate::background::backup::{BackupCore, BackupParts, Backups};
use crate::background::{Background, CoreFiles, SegmentOptions};
use crate::compaction::{Compaction, CompactionParts};
use crate::config::{ClusterConfig, Config, Millis, Poll, ProcessConfig};
use crate::data_dir::DataDir;
use crate::drive_speed::{self, Budgets};
use crate::engine_pool::EnginePool;
use crate::engine_watch::{DiskWatch, EngineWatch, NoticeBoard, WatchedCore};
use crate::inbox::{CoreInput, InboxSender, inbox};
use crate::members::Members;
use crate::meta_link::{KnownRoutes, LinkIdentity, MetaLink, MetaLinkOptions, MetaSender, mailbox};
use crate::open_shard::{OpenOptions, OpenedShard, open_shard};
use crate::placement::{self, MemoryPlan};
use crate::ports::{CoreSockets, NodeSockets};
use crate::route_relay::RouteRelay;
use crate::scrub::{Scrub, ScrubbedCore};
use crate::shard_loop::{
    CoreError, CoreHandles, CoreLimits, CoreParts, Finished, MeshMessage, ShardLoop,
};
use crate::slow::SlowLog;
use crate::stall::{Pulse, Watchdog};
use crate::start_checks::CpuClaims;
use crate::stats::Stats;
use crate::stats::relay::{Names, StatsRelay};
use crate::transfer::{TransferCore, TransferOptions, TransferThreads, Transfers};
use crate::view::{NodeView, TableTotals};
use crate::{clock, data_dir, log_flush};
use crossbeam_channel::{Receiver, Sender, bounded};
use pegasus_engine::RocksStore;
use pegasus_engine::rocks::EngineOptions;
use pegasus_fbs::stats_page::Gauge;
use pegasus_host::Root;
use pegasus_net::mesh::{MeshEnd, mesh};
use pegasus_net::waker::Waker;
use pegasus_net::{CoreIo, Identity, LeaseTerms, LogFlush, NetOptions, PollPolicy};
use pegasus_replication::ids::{CoreAddress, CoreId, NodeId};
use pegasus_replication::log::{LogIdentity, LogOptions};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Messages in the ring between two cores.
const MESH_CAPACITY: usize = 1024;

/// Who this node is, all parts known.
#[derive(Clone, Copy, Debug)]
struct Known {
    cluster: data_dir::ClusterId,
    node: NodeId,
    incarnation: u64,
}

/// What one core's thread needs before it can make the rest itself.
struct CoreSeed {
    address: CoreAddress,
    waker: Waker,
    cpu: Option<u32>,
    memory: MemoryPlan,
    net: NetOptions,
    sockets: CoreSockets,
    identity: Identity,
    opened: OpenedShard,
    mesh: MeshEnd<MeshMessage>,
    inbox: Receiver<CoreInput>,
    handles: CoreHandles,
    stats: Stats,
    pulse: Arc<Pulse>,
    limits: CoreLimits,
    redis_table: Arc<str>,
}

pub(super) fn assemble(
    config: &Config,
    dir: DataDir,
    claims: CpuClaims,
    memory: &MemoryPlan,
    sockets: NodeSockets,
    identity: LinkIdentity,
) -> Result<Node, NodeError> {
    let process = &config.process;
    let own = dir.identity();
    let (Some(cluster), Some(node)) = (own.cluster, own.node) else {
        return Err(NodeError::Core {
            core: 0,
            error: "the node has no number yet".to_owned(),
        });
    };
    let known = Known {
        cluster,
        node,
        incarnation: own.incarnation.0,
    };
    let NodeSockets {
        cores: sockets,
        transfer,
    } = sockets;
    let count = u16::try_from(sockets.len()).unwrap_or(u16::MAX);

    let log_flush = log_flush::choose(dir.root(), process.log.flush);
    let board = NoticeBoard::default();
    let speed = drive_speed::load(&Root::system(), dir.root());
    let slow_own_flush_ms = config.cluster.slow_own_flush_ms.0;
    if let Some(warning) = speed
        .as_ref()
        .and_then(|speed| drive_speed::slow_flush_warning(slow_own_flush_ms, speed))
    {
        tracing::warn!("{warning}");
    }
    let budgets = drive_speed::budgets(process, speed.as_ref());
    tracing::info!(?budgets, "background work");
    let opening = Opening {
        config,
        dir: &dir,
        known,
        budgets,
        memory,
    };
    let shards = opening.all(count, &board)?;

    let wakers = (0..count)
        .map(|_| Waker::new())
        .collect::<Result<Vec<_>, _>>()
        .map_err(thread("wakers"))?;
    let (inboxes, receivers): (Vec<_>, Vec<_>) = wakers.iter().cloned().map(inbox).unzip();
    let (meta_sender, mail) = mailbox();
    let own = peer_identity(known, 0, &identity, &config.cluster);
    let (transfers, transfer_threads) =
        start_transfers(process, budgets, &dir, &inboxes, transfer, own)?;
    let (shared, mut helpers, routes) = start_helpers(process, &dir, &inboxes, transfers)?;
    let addresses = sockets.iter().map(|sockets| sockets.client_address);
    let backup_cores = (0..).zip(&shards).zip(&inboxes).zip(addresses);
    let backup_cores = backup_cores.map(|(((core, opened), inbox), address)| BackupCore {
        store: opened.engine.store().clone(),
        inbox: inbox.clone(),
        address,
        learn_dir: dir.shard(CoreId(core)).learn,
    });
    let (backups, backup_thread) =
        start_backups(process, &dir, known, backup_cores.collect(), &meta_sender)?;
    helpers.push(backup_thread);

    let (scrub, scrub_thread) = start_scrub(process, &dir, known, &shards, &inboxes)?;
    helpers.push(scrub_thread);
    let stores: Vec<_> = shards
        .iter()
        .map(|opened| opened.engine.store().clone())
        .collect();
    let tables = Arc::clone(&routes.known);
    let (compaction, compaction_thread) = start_compaction(process, &dir, &stores, tables)?;
    helpers.push(compaction_thread);

    let watched = shards.iter().zip(&inboxes);
    let watched = watched.map(|(opened, inbox)| WatchedCore {
        store: opened.engine.store().clone(),
        inbox: inbox.clone(),
    });
    let disk = DiskWatch::new(dir.root(), process);
    let watch = EngineWatch::start(board, watched.collect(), disk, meta_sender.clone())
        .map_err(thread("engine watch"))?;

    let pulses: Vec<Arc<Pulse>> = (0..count).map(|_| Arc::default()).collect();
    let watchdog = Watchdog::start(pulses.clone(), process.stall.limit_ms.duration())
        .map_err(thread("watchdog"))?;

    let client_addresses: Vec<_> = sockets
        .iter()
        .map(|sockets| sockets.client_address)
        .collect();
    let names = Names {
        cluster: format!("{:032x}", known.cluster.0),
        addresses: client_addresses.clone(),
    };
    let slow = SlowLog::default();
    let stats = create_stats(config, &dir, node, count, &slow)?;
    let pages = stats.iter().map(Stats::page).collect();
    let view = NodeView {
        names,
        pages,
        stores,
        known: Arc::clone(&routes.known),
        scrub: scrub.clone(),
        compaction: compaction.clone(),
        slow,
        configuration: config.to_toml(),
        totals: TableTotals::default(),
    };
    let (stats_relay, stats_thread) = StatsRelay::start(view).map_err(thread("stats relay"))?;
    helpers.push(stats_thread);
    let mut stats = stats.into_iter();
    let mut cores = Vec::new();
    let mut parts = sockets
        .into_iter()
        .zip(shards)
        .zip(mesh(&wakers, MESH_CAPACITY))
        .zip(receivers);
    for core in 0..count {
        let Some((((sockets, opened), mesh), inbox)) = parts.next() else {
            break;
        };
        let Some(stats) = stats.next() else {
            break;
        };
        let index = usize::from(core);
        let seed = CoreSeed {
            address: CoreAddress {
                node,
                core: CoreId(core),
            },
            waker: wakers[index].clone(),
            cpu: claims.pinned.then(|| claims.cpus[index]),
            memory: memory.clone(),
            net: net_options(process, claims.poll, log_flush),
            sockets,
            identity: peer_identity(known, core, &identity, &config.cluster),
            opened,
            mesh,
            inbox,
            handles: handles(
                &inboxes[index],
                &shared,
                &stats_relay,
                &meta_sender,
                &backups,
            ),
            stats,
            pulse: Arc::clone(&pulses[index]),
            limits: CoreLimits {
                requests_max: process.memory.requests_max,
                request_bytes_max: process.memory.requests.0,
                write_bytes_max: config.cluster.write_max.usize(),
            },
            redis_table: Arc::from(process.redis_table.as_str()),
        };
        cores.push(start_core(seed)?);
    }
    let options = MetaLinkOptions {
        addresses: process.meta.clone(),
        identity,
        cores: inboxes.clone(),
        members: Members::open(dir.root()).map_err(thread("writer of MEMBERS"))?,
        known: routes.known,
        backups,
    };
    let meta = MetaLink::start(options, meta_sender, mail).map_err(thread("link to meta"))?;
    helpers.extend(routes.threads);
    Ok(Node {
        client_addresses,
        inboxes,
        cores,
        shared,
        helpers,
        scrub,
        compaction,
        transfers: transfer_threads,
        meta,
        watch,
        watchdog,
        claims,
        dir,
    })
}

/// The relay's thread and the routes it shares with the link to meta.
struct Routes {
    known: Arc<Mutex<KnownRoutes>>,
    threads: Vec<JoinHandle<()>>,
}

fn start_helpers(
    process: &ProcessConfig,
    dir: &DataDir,
    inboxes: &[InboxSender],
    transfers: Transfers,
) -> Result<(Shared, Vec<JoinHandle<()>>, Routes), NodeError> {
    let cpus = process.cpu.background.clone();
    let pool_cpus = cpus.clone();
    let (pool, mut helpers) = EnginePool::start(process.cpu.engine_threads, move || {
        placement::pin(&pool_cpus)
    })
    .map_err(thread("engine pool"))?;
    let files = (0..).zip(inboxes).map(|(core, inbox)| {
        let log_dir = dir.shard(CoreId(core)).log;
        CoreFiles {
            log_dir,
            inbox: inbox.clone(),
        }
    });
    let options = SegmentOptions {
        segment_bytes: process.log.segment.0,
        recycled_max: process.log.recycled_max,
    };
    let (background, thread_of_background) =
        Background::start(files.collect(), options, move || {
            placement::background(&cpus)
        })
        .map_err(thread("background executor"))?;
    helpers.push(thread_of_background);
    let known = Arc::default();
    let (relay, relay_thread) = RouteRelay::start(process.meta.clone(), Arc::clone(&known))
        .map_err(thread("route relay"))?;
    Ok((
        Shared {
            pool,
            background,
            transfers,
            relay,
        },
        helpers,
        Routes {
            known,
            threads: vec![relay_thread],
        },
    ))
}

fn start_transfers(
    process: &ProcessConfig,
    budgets: Budgets,
    dir: &DataDir,
    inboxes: &[InboxSender],
    listener: TcpListener,
    identity: Identity,
) -> Result<(Transfers, TransferThreads), NodeError> {
    let cores = (0..).zip(inboxes).map(|(core, inbox)| {
        let shard = dir.shard(CoreId(core));
        TransferCore {
            log_dir: shard.log,
            learn_dir: shard.learn,
            inbox: inbox.clone(),
        }
    });
    let options = TransferOptions {
        bytes_per_second: budgets.transfer_bytes_per_s,
        sessions_max: process.transfer.sessions_max,
    };
    let cpus = process.cpu.background.clone();
    let on_start = move || placement::background(&cpus);
    Transfers::start(listener, identity, cores.collect(), options, on_start)
        .map_err(thread("transfers"))
}

fn start_backups(
    process: &ProcessConfig,
    dir: &DataDir,
    known: Known,
    cores: Vec<BackupCore>,
    meta: &MetaSender,
) -> Result<(Backups, JoinHandle<()>), NodeError> {
    let disk = DiskWatch::new(dir.root(), process);
    let parts = BackupParts {
        config: process.backup.clone(),
        cores,
        source: format!("{:032x}/{}", known.cluster.0, known.node),
        meta: meta.clone(),
        room: Box::new(move || disk.room()),
    };
    let cpus = process.cpu.background.clone();
    Backups::start(parts, move || placement::background(&cpus)).map_err(thread("backups"))
}

fn start_scrub(
    process: &ProcessConfig,
    dir: &DataDir,
    known: Known,
    shards: &[OpenedShard],
    inboxes: &[InboxSender],
) -> Result<(Scrub, JoinHandle<()>), NodeError> {
    let cores = (0..).zip(shards).zip(inboxes);
    let cores = cores.map(|((core, opened), inbox)| ScrubbedCore {
        store: opened.engine.store().clone(),
        log_dir: dir.shard(CoreId(core)).log,
        log_identity: LogIdentity {
            cluster: known.cluster.0,
            node: known.node,
            shard: CoreId(core),
        },
        inbox: inbox.clone(),
    });
    let cpus = process.cpu.background.clone();
    let on_start = move || placement::background(&cpus);
    Scrub::start(dir.root(), cores.collect(), &process.scrub, on_start).map_err(thread("scrub"))
}

fn start_compaction(
    process: &ProcessConfig,
    dir: &DataDir,
    stores: &[RocksStore],
    known: Arc<Mutex<KnownRoutes>>,
) -> Result<(Compaction, JoinHandle<()>), NodeError> {
    let parts = CompactionParts {
        stores: stores.to_vec(),
        known,
    };
    let cpus = process.cpu.background.clone();
    let on_start = move || placement::background(&cpus);
    Compaction::start(parts, dir.root(), on_start).map_err(thread("compaction"))
}

/// The pages of all cores, before any core runs: each answers for all.
fn create_stats(
    config: &Config,
    dir: &DataDir,
    node: NodeId,
    count: u16,
    slow: &SlowLog,
) -> Result<Vec<Stats>, NodeError> {
    let started_us = clock::wall_us();
    let stages = config.process.stats.stages;
    let create = |core| {
        let path = dir.stats_page(CoreId(core));
        let mut stats = Stats::create(&path, node, CoreId(core), started_us, stages)
            .map_err(|error| NodeError::Stats { core, error })?;
        let threshold = config.process.stats.slow_request_ms;
        stats.report_slow(slow.reporter(threshold.duration()));
        for (gauge, bound) in bounds(config) {
            stats.set(gauge, bound);
        }
        Ok(stats)
    };
    (0..count).map(create).collect()
}

/// What the statistics page has gauges for and the configuration bounds.
fn bounds(config: &Config) -> [(Gauge, u64); 8] {
    let memory = &config.process.memory;
    let row_cache = memory.cache.0 / 100 * u64::from(memory.row_cache_percent);
    [
        (Gauge::CacheBytesMax, memory.cache.0),
        (Gauge::RowCacheBytesMax, row_cache),
        (Gauge::MemtableBytesMax, memory.memtables.0),
        (Gauge::RequestBytesMax, memory.requests.0),
        (Gauge::RequestsInflightMax, memory.requests_max as u64),
        (Gauge::NetBufferBytesMax, memory.network.0),
        (Gauge::LogPendingBytesMax, config.cluster.log_pending_max.0),
        (Gauge::LogUsedBytesMax, config.process.log_budget_bytes()),
    ]
}

fn handles(
    inbox: &InboxSender,
    shared: &Shared,
    stats: &StatsRelay,
    meta: &MetaSender,
    backups: &Backups,
) -> CoreHandles {
    CoreHandles {
        own_inbox: inbox.clone(),
        pool: shared.pool.clone(),
        background: shared.background.clone(),
        transfers: shared.transfers.clone(),
        meta: meta.clone(),
        relay: shared.relay.clone(),
        stats: stats.clone(),
        backups: backups.clone(),
    }
}

/// What opening the shards of a node needs.
struct Opening<'a> {
    config: &'a Config,
    dir: &'a DataDir,
    known: Known,
    budgets: Budgets,
    memory: &'a MemoryPlan,
}

impl Opening<'_> {
    /// Opens all shards at once, each on a thread of its own on the background CPUs, which RocksDB's threads inherit.
    fn all(&self, count: u16, board: &NoticeBoard) -> Result<Vec<OpenedShard>, NodeError> {
        let cpus = &self.config.process.cpu.background;
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..count)
                .map(|core| {
                    let (paths, options) = (self.dir.shard(CoreId(core)), self.options(core));
                    let sink = board.sink(usize::from(core));
                    scope.spawn(move || {
                        placement::pin(cpus);
                        self.memory.apply_to_core(usize::from(core));
                        open_shard(&paths, &options, sink)
                    })
                })
                .collect();
            let opened = (0..)
                .zip(threads)
                .map(|(shard, thread)| match thread.join() {
                    Ok(result) => result.map_err(|error| NodeError::Shard { shard, error }),
                    Err(_) => Err(NodeError::Core {
                        core: shard,
                        error: "opening its shard panicked".to_owned(),
                    }),
                });
            opened.collect()
        })
    }

    fn options(&self, core: u16) -> OpenOptions {
        let (config, known) = (self.config, self.known);
        let process = &config.process;
        let memtables = process.memory.memtables.usize();
        let row_cache_bytes =
            process.memory.cache.usize() / 100 * usize::from(process.memory.row_cache_percent);
        let defaults = EngineOptions::default();
        OpenOptions {
            cluster: known.cluster,
            address: CoreAddress {
                node: known.node,
                core: CoreId(core),
            },
            replication: config.replication(),
            log: LogOptions {
                segment_bytes: process.log.segment.0,
                budget_bytes: process.log_budget_bytes(),
                writes_inflight_max: process.log.writes_inflight_max,
                ..LogOptions::default()
            },
            engine: EngineOptions {
                compaction_bytes_per_s: self.budgets.compaction_bytes_per_s,
                block_cache_bytes: process.memory.cache.usize() - row_cache_bytes,
                row_cache_bytes,
                memtable_bytes_max: memtables,
                replica_memtable_bytes_max: defaults.replica_memtable_bytes_max.min(memtables),
                ..defaults
            },
        }
    }
}

fn net_options(process: &ProcessConfig, poll: Poll, log_flush: LogFlush) -> NetOptions {
    let poll = match poll {
        Poll::Adaptive => PollPolicy::Adaptive,
        Poll::Busy => PollPolicy::Busy,
        Poll::Sleep => PollPolicy::Sleep,
    };
    NetOptions {
        poll,
        log_flush,
        connections_max: process.listen.connections_max as usize,
        output_bytes_total_max: process.memory.network.usize(),
        ..NetOptions::default()
    }
}

fn peer_identity(
    known: Known,
    core: u16,
    identity: &LinkIdentity,
    cluster: &ClusterConfig,
) -> Identity {
    let millis = |period: Millis| u32::try_from(period.0).unwrap_or(u32::MAX);
    Identity {
        cluster: known.cluster.0,
        node: known.node.0,
        core,
        node_incarnation: known.incarnation,
        disk_format: data_dir::DISK_FORMAT,
        token: identity.token.clone(),
        leases: LeaseTerms {
            lease_ms: millis(cluster.lease_period_ms),
            grace_ms: millis(cluster.grace_period_ms),
        },
    }
}

/// Starts a core's thread and waits until its ring is set up and its ports are served.
fn start_core(seed: CoreSeed) -> Result<JoinHandle<Result<Finished, CoreError>>, NodeError> {
    let core = seed.address.core.0;
    let (started, is_started) = bounded(1);
    let thread_of_core = std::thread::Builder::new()
        .name(format!("core-{core}"))
        .spawn(move || run_core(seed, &started))
        .map_err(thread("data core"))?;
    match is_started.recv() {
        Ok(Ok(())) => Ok(thread_of_core),
        Ok(Err(error)) => Err(NodeError::Core { core, error }),
        Err(_) => Err(NodeError::Core {
            core,
            error: "its thread ended while it started".to_owned(),
        }),
    }
}

fn run_core(seed: CoreSeed, started: &Sender<Result<(), String>>) -> Result<Finished, CoreError> {
    placement::pin(seed.cpu.as_slice());
    seed.memory.apply_to_core(usize::from(seed.address.core.0));
    let CoreSeed {
        address,
        waker,
        cpu: _,
        memory: _,
        net,
        sockets,
        identity,
        opened,
        mesh,
        inbox,
        handles,
        stats,
        pulse,
        limits,
        redis_table,
    } = seed;
    let io = CoreIo::new(net, waker)
        .map_err(|error| error.to_string())
        .and_then(|mut io| {
            io.start_peers(sockets.peer, identity)
                .map_err(|error| error.to_string())?;
            io.announce(sockets.client_address);
            io.listen_clients(sockets.client)
                .map_err(|error| error.to_string())?;
            Ok(io)
        });
    let io = match io {
        Ok(io) => io,
        Err(error) => {
            let _ = started.send(Err(error.clone()));
            return Err(CoreError::new(address.core, std::io::Error::other(error)));
        }
    };
    let OpenedShard {
        shard,
        engine,
        damaged,
    } = opened;
    let parts = CoreParts {
        address,
        io,
        shard,
        engine,
        damaged,
        mesh,
        inbox,
        handles,
        stats,
        pulse,
        limits,
        redis_table,
    };
    let core = ShardLoop::new(parts);
    let _ = started.send(Ok(()));
    core.run()
}

fn thread(what: &'static str) -> impl Fn(std::io::Error) -> NodeError {
    move |error| NodeError::Thread { what, error }
}

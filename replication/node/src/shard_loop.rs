//! The loop of one data core: collect what has happened, decide, perform. One thread, one ring, no locks.
//!
//! ```text
//!   poll -> collect -> decide -> log write, sends -> (submit) -> engine work -> decide -> answers -> poll
//! ```
//!
//! The log write and the prepares of a turn are handed to the kernel before the engine works, so that the disk and the
//! network are never behind it. Reading order: this file, `collect`, `admit`, `perform`, `engine_work`, `answer`.

mod admit;
mod answer;
mod apply;
mod arrivals;
pub(crate) mod atomic;
mod backing_up;
mod collect;
mod engine_work;
mod fair;
mod gauges;
mod hot_gates;
mod learning;
mod outbox;
mod peers;
mod perform;
mod quick;
mod ranges;
pub mod read;
pub mod redis;
mod refusal;
mod report;
mod requests;
mod scanners;
mod throttling;
mod waits;
mod write;
mod write_pace;

pub use answer::MeshMessage;

use crate::background::Background;
use crate::background::backup::Backups;
use crate::clock::{self, ClockWatch};
use crate::directory::Directory;
use crate::engine_pool::EnginePool;
use crate::inbox::{CoreInput, InboxSender};
use crate::log_file::LogFiles;
use crate::meta_link::MetaSender;
use crate::route_relay::RouteRelay;
use crate::stall::{Phase, Pulse};
use crate::stats::Stats;
use crate::stats::relay::StatsRelay;
use crate::transfer::Transfers;
use arrivals::Arrivals;
use crossbeam_channel::Receiver;
use engine_work::EngineWork;
use hot_gates::HotGates;
use learning::Learning;
use outbox::Outbox;
use peers::Peers;
use pegasus_engine::{Engine, RocksEngine, RocksStore};
use pegasus_fbs::flatbuffers::FlatBufferBuilder;
use pegasus_fbs::stats_page::Timing;
use pegasus_net::mesh::MeshEnd;
use pegasus_net::{CoreIo, IoEvent, Sent};
use pegasus_replication::event::{Effects, Event, Pressure};
use pegasus_replication::ids::{CoreAddress, CoreId, Instant, PartitionId};
use pegasus_replication::replica::Replica;
use pegasus_replication::shard::Shard;
use perform::Held;
use quick::QuickReads;
use redis::RedisWork;
use report::Reports;
use requests::Requests;
use scanners::Scanners;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use throttling::Throttling;
use waits::Waits;

/// How long requests in work may take to end when the node stops.
const STOP_TIME: Duration = Duration::from_secs(5);
/// A core that stops goes when nobody has asked it for this long: clients have heard by then that they are to go elsewhere.
const QUIET_TIME: Duration = Duration::from_millis(50);
/// ... and after this long in any case: some ask again and again.
const QUIET_MAX: Duration = Duration::from_millis(500);
/// Between two looks at what others had no room for, or the engine refused.
const RETRY_PERIOD: Duration = Duration::from_millis(1);
/// Longest sleep: the statistics page shows that the core lives.
const SLEEP_MAX: Duration = Duration::from_millis(500);

/// What a core's thread is given; the rest it makes itself.
#[derive(Debug)]
pub struct CoreParts {
    pub address: CoreAddress,
    pub io: CoreIo,
    pub shard: Shard,
    pub engine: RocksEngine,
    /// Replicas whose files are damaged, and how.
    pub damaged: Vec<(PartitionId, String)>,
    pub mesh: MeshEnd<MeshMessage>,
    pub inbox: Receiver<CoreInput>,
    pub handles: CoreHandles,
    pub stats: Stats,
    pub pulse: Arc<Pulse>,
    pub limits: CoreLimits,
    /// Name of the table of Redis clients that have selected none.
    pub redis_table: Arc<str>,
}

/// The other threads of the node, as a core reaches them.
#[derive(Clone, Debug)]
pub struct CoreHandles {
    pub own_inbox: InboxSender,
    pub pool: EnginePool,
    pub background: Background,
    pub transfers: Transfers,
    pub meta: MetaSender,
    pub relay: RouteRelay,
    pub stats: StatsRelay,
    pub backups: Backups,
}

/// Bounds of one core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreLimits {
    pub requests_max: usize,
    /// Bytes of all requests of clients that have no answer yet.
    pub request_bytes_max: u64,
    pub write_bytes_max: usize,
}

/// Why a core's loop has ended before its time.
#[derive(Debug, thiserror::Error)]
#[error("core {core}: the ring has failed: {error}")]
pub struct CoreError {
    core: CoreId,
    error: io::Error,
}

impl CoreError {
    pub(crate) const fn new(core: CoreId, error: io::Error) -> Self {
        Self { core, error }
    }
}

/// One data core at work.
pub struct ShardLoop {
    address: CoreAddress,
    io: CoreIo,
    shard: Shard,
    engine: RocksEngine,
    store: RocksStore,
    damaged: Vec<(PartitionId, String)>,
    files: LogFiles,
    mesh: MeshEnd<MeshMessage>,
    inbox: Receiver<CoreInput>,
    own_inbox: InboxSender,
    relay: RouteRelay,
    stats_relay: StatsRelay,
    backups: Backups,
    outbox: Outbox,
    peers: Peers,
    directory: Arc<Directory>,
    arrivals: Arrivals,
    throttling: Throttling,
    quick: QuickReads,
    requests: Requests,
    redis: RedisWork,
    scanners: Scanners,
    engine_work: EngineWork,
    hot_gates: HotGates,
    held: Held,
    learning: Learning,
    /// The replication core waits for entries of these.
    learning_due: Vec<PartitionId>,
    /// Fetches that could not be started, and why.
    learning_failed: Vec<PartitionId>,
    reports: Reports,
    stats: Stats,
    pulse: Arc<Pulse>,
    builder: FlatBufferBuilder<'static>,
    /// Reported by the ring and not looked at yet.
    events: Vec<IoEvent>,
    effects: Effects,
    now: Instant,
    /// When the present phase of the turn began, for the stages of requests.
    stamp: Instant,
    /// Receipts of answers that have left, on their way to the statistics.
    sent: Vec<Sent>,
    waits: Waits,
    clocks: ClockWatch,
    /// Something was queued on the ring since the last `poll`.
    has_queued_io: bool,
    disk: Pressure,
    is_without_segment: bool,
    pressure: Pressure,
    stop_at: Option<Instant>,
    /// When a request was last refused because the node stops, or it was told to.
    asked_at: Instant,
    /// A core that stops waits for quiet until then.
    quiet_by: Instant,
    request_bytes_max: u64,
    write_bytes_max: usize,
}

/// What is left of a core after its loop, for the node to flush.
#[derive(Debug)]
pub struct Finished {
    pub store: RocksStore,
    /// Replicas whose memtables hold what is not in files.
    pub unflushed: Vec<PartitionId>,
}

impl ShardLoop {
    #[must_use]
    pub fn new(parts: CoreParts) -> Self {
        let CoreParts {
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
        } = parts;
        let CoreHandles {
            own_inbox,
            pool,
            background,
            transfers,
            meta,
            relay,
            stats: stats_relay,
            backups,
        } = handles;
        let outbox = Outbox::new(
            address.core,
            meta,
            pool,
            background,
            transfers,
            own_inbox.clone(),
        );
        Self {
            address,
            io,
            shard,
            store: engine.store().clone(),
            engine,
            damaged,
            files: LogFiles::default(),
            mesh,
            inbox,
            own_inbox,
            relay,
            stats_relay,
            backups,
            outbox,
            peers: Peers::default(),
            directory: Arc::default(),
            arrivals: Arrivals::default(),
            throttling: Throttling::default(),
            quick: QuickReads::default(),
            requests: Requests::new(limits.requests_max),
            redis: RedisWork::new(redis_table, limits.requests_max, clock::now()),
            scanners: Scanners::default(),
            engine_work: EngineWork::default(),
            hot_gates: HotGates::default(),
            held: Held::default(),
            learning: Learning::default(),
            learning_due: Vec::new(),
            learning_failed: Vec::new(),
            reports: Reports::default(),
            stats,
            pulse,
            builder: FlatBufferBuilder::new(),
            events: Vec::new(),
            effects: Effects::new(),
            now: clock::now(),
            stamp: clock::now(),
            sent: Vec::new(),
            waits: Waits::default(),
            clocks: ClockWatch::default(),
            has_queued_io: false,
            disk: Pressure::None,
            is_without_segment: false,
            pressure: Pressure::None,
            stop_at: None,
            asked_at: clock::now(),
            quiet_by: clock::now(),
            request_bytes_max: limits.request_bytes_max,
            write_bytes_max: limits.write_bytes_max,
        }
    }

    /// Runs until the node stops.
    ///
    /// # Errors
    /// The kernel refuses to run the ring.
    pub fn run(mut self) -> Result<Finished, CoreError> {
        let core = self.address.core;
        self.shard.start(self.now, &mut self.effects);
        for (partition, error) in std::mem::take(&mut self.damaged) {
            self.decide(Event::ReplicaFailed { partition, error });
        }
        self.perform();
        while !self.is_finished() {
            self.turn().map_err(|error| CoreError::new(core, error))?;
        }
        Ok(self.finish())
    }

    fn turn(&mut self) -> io::Result<()> {
        let wait = self.wait();
        self.pulse.enter(Phase::Waiting);
        self.poll(wait)?;
        self.pulse.turn();
        self.now = Instant(self.io.polled_ns());
        self.stamp = self.now;
        self.stats.begin_turn();
        self.io.take_sent(&mut self.sent);
        self.stats.sent(&mut self.sent);
        let started = self.now;
        self.arrivals.begin_turn(self.now);
        self.resume_delayed();
        self.collect_io();
        self.look_again()?;
        self.collect();
        self.take_queued();
        self.admit_waiting();
        self.continue_learning();
        if self.stats.measures_stages() {
            self.stamp = clock::now();
        }
        self.perform();
        if self.engine_work.is_waiting() || self.engine_work.is_stuck() {
            self.submit()?;
            self.stamp = self.work();
            self.take_queued();
            self.perform();
        }
        self.settle_redis();
        self.hot_gates.cool(&self.shard);
        self.relieve_pressure();
        self.report();
        self.outbox.flush(&mut self.mesh);
        self.publish();
        let ended = clock::now();
        self.stats.end_encoding(ended);
        self.stats.record(Timing::Turn, ended.since(started));
        Ok(())
    }

    /// Hands what was queued to the kernel before the engine takes its time.
    fn submit(&mut self) -> io::Result<()> {
        if self.has_queued_io {
            if self.stats.has_encoded() {
                self.stats.end_encoding(clock::now());
            }
            self.pulse.enter(Phase::Submit);
            self.poll(Duration::ZERO)?;
        }
        Ok(())
    }

    fn poll(&mut self, wait: Duration) -> io::Result<()> {
        self.has_queued_io = false;
        self.io.poll(wait, &mut self.events)
    }

    /// Tells the replication core and keeps what it wants.
    fn decide(&mut self, event: Event) {
        self.shard.handle(self.now, event, &mut self.effects);
        self.compute_all();
    }

    /// How long nothing needs to be done.
    fn wait(&self) -> Duration {
        let has_work = !self.events.is_empty()
            || !self.inbox.is_empty()
            || !self.effects.is_empty()
            || !self.learning_due.is_empty()
            || !self.learning_failed.is_empty()
            || self.redis.has_work()
            || !self.arrivals.is_empty()
            || self.engine_work.is_waiting();
        if has_work {
            return Duration::ZERO;
        }
        let mut until = self.now.after(SLEEP_MAX).min(self.reports.deadline());
        until = self
            .shard
            .deadline()
            .map_or(until, |deadline| until.min(deadline));
        until = self
            .stats
            .deadline()
            .map_or(until, |deadline| until.min(deadline));
        until = self
            .redis
            .deadline()
            .map_or(until, |deadline| until.min(deadline));
        until = self
            .throttling
            .deadline()
            .map_or(until, |deadline| until.min(deadline));
        if self.is_stopping() {
            until = until.min(self.asked_at.after(QUIET_TIME).min(self.quiet_by));
        }
        if self.outbox.is_waiting() || self.engine_work.is_stuck() {
            until = until.min(self.now.after(RETRY_PERIOD));
        }
        until.since(clock::now())
    }

    /// Writes are refused before they get a decree when the disk or the engine is too full.
    fn relieve_pressure(&mut self) {
        let engine = self.engine.pressure();
        self.throttling.pace.set_files(engine.level0_files);
        let pressure = match self.disk {
            Pressure::DiskFull => Pressure::DiskFull,
            _ if self.is_without_segment => Pressure::DiskFull,
            _ if engine.is_high() => Pressure::Engine,
            _ => Pressure::None,
        };
        if pressure != self.pressure {
            tracing::info!(
                core = self.address.core.0,
                ?pressure,
                "pressure on new writes has changed"
            );
            self.pressure = pressure;
            self.decide(Event::Pressure { pressure });
        }
    }

    const fn is_stopping(&self) -> bool {
        self.stop_at.is_some()
    }

    fn is_finished(&self) -> bool {
        let Some(stop_at) = self.stop_at else {
            return false;
        };
        let is_idle = self.requests.count() == 0
            && self.arrivals.is_empty()
            && self.throttling.delayed_count() == 0
            && self.redis.is_idle()
            && self.io.log_writes_in_flight() == 0
            && self.events.is_empty()
            && !self.engine_work.is_waiting();
        let quiet_at = self.asked_at.after(QUIET_TIME).min(self.quiet_by);
        let is_quiet = self.now >= quiet_at;
        (is_idle && is_quiet) || self.now >= stop_at
    }

    /// Puts the markers in place, so that the flush which follows makes all that is applied durable.
    fn finish(mut self) -> Finished {
        // Answers of the last turn are still in the ring.
        let _ = self.poll(Duration::ZERO);
        let partitions: Vec<PartitionId> = self.shard.replicas().map(Replica::partition).collect();
        let has_data = |partition: &PartitionId| self.engine.unflushed_bytes(*partition) > 0;
        let unflushed: Vec<PartitionId> = partitions.into_iter().filter(has_data).collect();
        for partition in &unflushed {
            if let Err(error) = self.engine.begin_flush(*partition) {
                tracing::debug!(%partition, %error, "no marker at the end");
            }
        }
        self.gather();
        self.stats.stop(clock::wall_us());
        Finished {
            store: self.store,
            unflushed,
        }
    }
}

impl std::fmt::Debug for ShardLoop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShardLoop")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

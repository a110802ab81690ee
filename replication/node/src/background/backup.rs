//! Backups of this node's replicas to targets, and replicas made from backups.
//!
//! ```text
//!  link to meta --orders--> desk --> the thread: one task for each --files--> target
//!  cores --replicas to make--^           |--lay out--> core (flush, link)     |--export, import--> engine
//!                                        '--progress, every second--> link to meta
//! ```
//!
//! One thread on background CPUs with a tokio runtime, which object stores need; tokio is named in `background*` only. The
//! desk is a set of what is wanted, not a queue: an order that is repeated is the same order, so it is bounded by the
//! replicas. Whatever goes wrong at a target is tried again with growing pauses, then told to meta, which decides.

mod restore;
mod send;

pub(crate) use restore::unfinished;

use crate::config::BackupConfig;
use crate::engine_pool::PoolDone;
use crate::inbox::{CoreInput, InboxSender};
use crate::meta_link::{
    BackupOrder, BackupReport, MetaMail, MetaSender, ReplicaKey, RestoreOrder, RestoreReport,
    RunState,
};
use pegasus_backup::pace::{Pace, Progress};
use pegasus_backup::{Target, TargetError};
use pegasus_engine::RocksStore;
use pegasus_replication::ids::{CoreId, Decree, PartitionId, ReplicaIncarnation};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::task::{AbortHandle, LocalSet};

/// Between two words to meta.
const REPORT_PERIOD: Duration = Duration::from_secs(1);
/// Backups that have ended and are remembered, so that an order that is repeated is answered.
const REMEMBERED_MAX: usize = 16_384;
/// Threads for files and for the engine.
const BLOCKING_THREADS_MAX: usize = 8;
/// For what is under way in the engine when the node stops.
const STOP_TIME_MAX: Duration = Duration::from_secs(30);
/// Pauses between attempts; behind the last one meta is told.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

/// One core, as backups see it.
#[derive(Clone, Debug)]
pub struct BackupCore {
    pub store: RocksStore,
    pub inbox: InboxSender,
    /// Where its clients connect: names the directories of its backups.
    pub address: SocketAddr,
    /// For files on their way, on the file system of its database.
    pub learn_dir: PathBuf,
}

/// What the thread is given.
pub struct BackupParts {
    pub config: BackupConfig,
    pub cores: Vec<BackupCore>,
    /// Whose table files they are: cluster and node.
    pub source: String,
    pub meta: MetaSender,
    /// Bytes that the disk has above what writes need.
    pub room: Box<dyn Fn() -> u64 + Send + Sync>,
}

/// Where orders are left; cheap to clone. The thread ends when all are gone.
#[derive(Clone, Debug)]
pub struct Backups {
    desk: Arc<Desk>,
    // Dropped with the last handle.
    _open: Arc<Open>,
}

/// What a core is asked for: its replica as a directory for others to read.
#[derive(Debug)]
pub struct LayOutRequest {
    pub partition: PartitionId,
    pub incarnation: ReplicaIncarnation,
    /// Does not exist yet; on the file system of the core's database.
    pub directory: PathBuf,
    pub answer: crossbeam_channel::Sender<Result<Decree, String>>,
}

/// Ends the thread when nobody can order anything any more.
#[derive(Debug)]
struct Open(Arc<Desk>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.wishes().is_stopping = true;
        self.0.news.notify_one();
    }
}

#[derive(Debug, Default)]
struct Desk {
    wishes: Mutex<Wishes>,
    news: Notify,
}

/// What has been ordered since the thread last looked, but for `restores`, which stay.
#[derive(Debug, Default)]
struct Wishes {
    backups: BTreeMap<(u64, PartitionId), BackupOrder>,
    restores: BTreeMap<ReplicaKey, RestoreWish>,
    /// Restores that meta has ordered as before: it may not have heard what came of them.
    asked_again: Vec<ReplicaKey>,
    forgotten: Vec<ReplicaKey>,
    is_stopping: bool,
}

#[derive(Clone, Debug)]
struct RestoreWish {
    order: RestoreOrder,
    /// The core that waits for its replica.
    core: Option<CoreId>,
    /// It has changed since the thread last looked.
    is_new: bool,
}

impl Desk {
    /// Held for moments only: data cores take it when they make a replica.
    fn wishes(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backups {
    /// Starts the thread. `on_start` places it (CPUs, priority).
    ///
    /// # Errors
    /// The process may not have more threads, or the kernel refuses the runtime.
    pub fn start(
        parts: BackupParts,
        on_start: impl FnOnce() + Send + 'static,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let desk = Arc::new(Desk::default());
        let handle = Self {
            _open: Arc::new(Open(Arc::clone(&desk))),
            desk: Arc::clone(&desk),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .build()?;
        let thread = std::thread::Builder::new()
            .name("backup".to_owned())
            .spawn(move || {
                // Threads that the runtime starts for files inherit it.
                on_start();
                let mut keeper = Keeper::new(parts, desk);
                // One thread: what it does need not be fit to move to another.
                LocalSet::new().block_on(&runtime, keeper.run());
                runtime.shutdown_timeout(STOP_TIME_MAX);
            })?;
        Ok((handle, thread))
    }

    /// Meta wants this backup, still wants it, or does not want it any more.
    pub fn order(&self, order: BackupOrder) {
        let place = (order.backup_id, order.key.partition);
        self.desk.wishes().backups.insert(place, order);
        self.desk.news.notify_one();
    }

    /// Meta wants this replica made from a backup. To be said before its core is told to make it.
    pub fn restore(&self, order: RestoreOrder) {
        let mut wishes = self.desk.wishes();
        let known = wishes.restores.get(&order.key);
        if known.is_some_and(|known| known.order == order) {
            wishes.asked_again.push(order.key);
            drop(wishes);
            self.desk.news.notify_one();
            return;
        }
        let core = known.and_then(|known| known.core);
        let wish = RestoreWish {
            core,
            is_new: true,
            order,
        };
        wishes.restores.insert(wish.order.key, wish);
        drop(wishes);
        self.desk.news.notify_one();
    }

    /// Meta has ordered this replica to be deleted. To be said after its core has been told.
    pub fn forget(&self, key: ReplicaKey) {
        let mut wishes = self.desk.wishes();
        if wishes.restores.contains_key(&key) {
            wishes.forgotten.push(key);
            drop(wishes);
            self.desk.news.notify_one();
        }
    }

    /// Whether the storage of this replica comes from a backup: then `core` is told by [`PoolDone::Created`].
    #[must_use]
    pub fn takes_over(&self, core: CoreId, key: ReplicaKey) -> bool {
        let mut wishes = self.desk.wishes();
        let Some(wish) = wishes.restores.get_mut(&key) else {
            return false;
        };
        (wish.core, wish.is_new) = (Some(core), true);
        drop(wishes);
        self.desk.news.notify_one();
        true
    }
}

/// What all tasks share.
struct Plane {
    config: BackupConfig,
    cores: Vec<BackupCore>,
    source: String,
    room: Box<dyn Fn() -> u64 + Send + Sync>,
    sending: Pace,
    receiving: Pace,
    /// Of local files that are looked at.
    reading: Pace,
    permits: Semaphore,
    targets: Mutex<BTreeMap<String, Target>>,
    staged: std::sync::atomic::AtomicU64,
}

impl Plane {
    /// The open target `name`.
    fn target(&self, name: &str) -> Result<Target, TargetError> {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(target) = targets.get(name) {
            return Ok(target.clone());
        }
        let config = self.config.targets.get(name).cloned().unwrap_or_default();
        let target = Target::open(name, &config)?;
        targets.insert(name.to_owned(), target.clone());
        Ok(target)
    }

    fn core(&self, core: CoreId) -> Option<&BackupCore> {
        self.cores.get(usize::from(core.0))
    }
}

/// One backup or restore.
struct Run<R> {
    report: R,
    progress: Arc<Progress>,
    task: AbortHandle,
    /// Meta has not heard what `report` says.
    is_news: bool,
}

/// A task has ended.
enum Ended {
    Backup((u64, PartitionId), Result<send::Sent, String>),
    Restore(ReplicaKey, u32, Result<Decree, restore::RestoreError>),
}

struct Keeper {
    desk: Arc<Desk>,
    plane: Arc<Plane>,
    meta: MetaSender,
    backups: BTreeMap<(u64, PartitionId), Run<BackupReport>>,
    restores: BTreeMap<ReplicaKey, Run<RestoreReport>>,
    ended: (
        tokio::sync::mpsc::UnboundedSender<Ended>,
        tokio::sync::mpsc::UnboundedReceiver<Ended>,
    ),
}

impl Keeper {
    fn new(parts: BackupParts, desk: Arc<Desk>) -> Self {
        let config = parts.config;
        let plane = Plane {
            sending: Pace::new(config.bytes_per_second.0),
            reading: Pace::new(config.bytes_per_second.0),
            receiving: Pace::new(config.restore_bytes_per_second.0),
            permits: Semaphore::new(config.partitions_max),
            config,
            cores: parts.cores,
            source: parts.source,
            room: parts.room,
            targets: Mutex::default(),
            staged: Default::default(),
        };
        Self {
            desk,
            plane: Arc::new(plane),
            meta: parts.meta,
            backups: BTreeMap::new(),
            restores: BTreeMap::new(),
            // Bounded by the runs, each of which ends once.
            ended: tokio::sync::mpsc::unbounded_channel(),
        }
    }

    /// Until nobody can order anything any more.
    async fn run(&mut self) {
        let mut period = tokio::time::interval(REPORT_PERIOD);
        period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let desk = Arc::clone(&self.desk);
            tokio::select! {
                () = desk.news.notified() => {
                    if self.take_orders() {
                        return;
                    }
                }
                Some(ended) = self.ended.1.recv() => self.on_ended(ended),
                _ = period.tick() => self.note_progress(),
            }
            self.report();
        }
    }

    /// True: stop.
    fn take_orders(&mut self) -> bool {
        let desk = Arc::clone(&self.desk);
        let mut wishes = desk.wishes();
        if wishes.is_stopping {
            return true;
        }
        let backups = std::mem::take(&mut wishes.backups);
        let forgotten = std::mem::take(&mut wishes.forgotten);
        let gone: Vec<_> = forgotten
            .iter()
            .filter_map(|key| Some((*key, wishes.restores.remove(key)?)))
            .collect();
        let mut wanted = Vec::new();
        for wish in wishes.restores.values_mut().filter(|wish| wish.is_new) {
            wish.is_new = false;
            wanted.push(wish.clone());
        }
        let asked_again = std::mem::take(&mut wishes.asked_again);
        drop(wishes);
        for key in asked_again {
            if let Some(run) = self.restores.get_mut(&key) {
                run.is_news = true;
            }
        }
        for (place, order) in backups {
            self.on_backup(place, order);
        }
        for (key, wish) in gone {
            self.forget_restore(key, wish.core);
        }
        for wish in wanted {
            self.on_restore(wish);
        }
        false
    }

    fn on_backup(&mut self, place: (u64, PartitionId), order: BackupOrder) {
        if let Some(run) = self.backups.get_mut(&place) {
            run.is_news = true;
            match run.report.state {
                RunState::Running if order.cancel => {
                    run.task.abort();
                    run.report.state = RunState::Cancelled;
                    return;
                }
                // Of another incarnation: what was done for the one before, if all of it, is found at the target.
                _ if run.report.key != order.key && !order.cancel => run.task.abort(),
                // Asked for again after it had failed: made anew.
                RunState::Failed | RunState::Cancelled if !order.cancel => {}
                _ => return,
            }
        }
        let pace = match order.bytes_per_second {
            0 => self.plane.config.bytes_per_second.0,
            ordered => ordered,
        };
        self.plane.sending.set(pace);
        self.plane.reading.set(pace);
        let (progress, state) = (Arc::<Progress>::default(), RunState::Running);
        let report = BackupReport {
            backup_id: order.backup_id,
            key: order.key,
            state: if order.cancel {
                RunState::Cancelled
            } else {
                state
            },
            decree: Decree::ZERO,
            timestamp_ms: 0,
            bytes_total: 0,
            bytes_done: 0,
            bytes_sent: 0,
            error: String::new(),
        };
        let is_cancelled = order.cancel;
        let (plane, told, ended) = (
            Arc::clone(&self.plane),
            Arc::clone(&progress),
            self.ended.0.clone(),
        );
        let task = tokio::task::spawn_local(async move {
            if !is_cancelled {
                let result = send::send(&plane, &order, &told).await;
                let _ = ended.send(Ended::Backup(place, result));
            }
        });
        let run = Run {
            report,
            progress,
            task: task.abort_handle(),
            is_news: true,
        };
        self.backups.insert(place, run);
        self.forget_old();
    }

    /// The oldest that have ended.
    fn forget_old(&mut self) {
        if self.backups.len() > REMEMBERED_MAX {
            let mut over = self
                .backups
                .iter()
                .filter(|(_, run)| run.report.state != RunState::Running);
            if let Some(place) = over.next().map(|(place, _)| *place) {
                self.backups.remove(&place);
            }
        }
    }

    fn on_restore(&mut self, wish: RestoreWish) {
        // Its core will ask, in a moment.
        let Some(core) = wish.core else { return };
        let (key, order) = (wish.order.key, wish.order);
        if let Some(run) = self.restores.get_mut(&key) {
            run.is_news = true;
            let is_another = order.attempt > run.report.attempt || order.make_empty;
            if run.report.state == RunState::Done || !is_another {
                return;
            }
            run.task.abort();
        }
        let progress = Arc::<Progress>::default();
        let report = RestoreReport {
            key,
            state: RunState::Running,
            attempt: order.attempt,
            bytes_total: 0,
            bytes_done: 0,
            is_permanent: false,
            error: String::new(),
        };
        let (plane, told, ended) = (
            Arc::clone(&self.plane),
            Arc::clone(&progress),
            self.ended.0.clone(),
        );
        let task = tokio::task::spawn_local(async move {
            let attempt = order.attempt;
            let result = restore::restore(&plane, core, &order, &told).await;
            let _ = ended.send(Ended::Restore(key, attempt, result));
        });
        let run = Run {
            report,
            progress,
            task: task.abort_handle(),
            is_news: true,
        };
        self.restores.insert(key, run);
    }

    /// The core waits for an answer before it can let go of the replica.
    fn forget_restore(&mut self, key: ReplicaKey, core: Option<CoreId>) {
        let Some(run) = self.restores.remove(&key) else {
            return;
        };
        run.task.abort();
        if let Some(core) = core.and_then(|core| self.plane.core(core)) {
            restore::remove_files(core, key);
            if run.report.state != RunState::Done {
                tell_created(core, key, Ok(Decree::ZERO));
            }
        }
    }

    fn on_ended(&mut self, ended: Ended) {
        match ended {
            Ended::Backup(place, result) => {
                let Some(run) = self.backups.get_mut(&place) else {
                    return;
                };
                if run.report.state != RunState::Running {
                    return;
                }
                run.is_news = true;
                let report = &mut run.report;
                match result {
                    Ok(sent) => {
                        (report.state, report.decree) = (RunState::Done, sent.decree);
                        report.timestamp_ms = sent.timestamp_ms;
                    }
                    Err(error) => {
                        tracing::warn!(backup = place.0, partition = %place.1, error, "a backup has failed");
                        (report.state, report.error) = (RunState::Failed, error);
                    }
                }
                let bytes = run.progress.bytes();
                (report.bytes_total, report.bytes_done) = (bytes.total, bytes.done);
                report.bytes_sent = bytes.sent;
            }
            Ended::Restore(key, attempt, result) => self.on_restored(key, attempt, result),
        }
    }

    fn on_restored(
        &mut self,
        key: ReplicaKey,
        attempt: u32,
        result: Result<Decree, restore::RestoreError>,
    ) {
        let Some(run) = self
            .restores
            .get_mut(&key)
            .filter(|run| run.report.attempt == attempt)
        else {
            return;
        };
        run.is_news = true;
        let report = &mut run.report;
        let bytes = run.progress.bytes();
        (report.bytes_total, report.bytes_done) = (bytes.total, bytes.done);
        match result {
            Ok(decree) => {
                report.state = RunState::Done;
                let core = self
                    .desk
                    .wishes()
                    .restores
                    .get(&key)
                    .and_then(|wish| wish.core);
                if let Some(core) = core.and_then(|core| self.plane.core(core)) {
                    tell_created(core, key, Ok(decree));
                }
            }
            Err(error) => {
                tracing::warn!(partition = %key.partition, error = error.sentence, "a partition could not be restored");
                report.state = RunState::Failed;
                (report.error, report.is_permanent) = (error.sentence, error.is_permanent);
            }
        }
    }

    fn note_progress(&mut self) {
        let running = self
            .backups
            .values_mut()
            .filter(|run| run.report.state == RunState::Running);
        for run in running {
            let bytes = run.progress.bytes();
            let now = (bytes.total, bytes.done, bytes.sent);
            let report = &mut run.report;
            run.is_news |= now != (report.bytes_total, report.bytes_done, report.bytes_sent);
            (report.bytes_total, report.bytes_done, report.bytes_sent) = now;
        }
        let running = self
            .restores
            .values_mut()
            .filter(|run| run.report.state == RunState::Running);
        for run in running {
            let bytes = run.progress.bytes();
            let now = (bytes.total, bytes.done);
            let report = &mut run.report;
            run.is_news |= now != (report.bytes_total, report.bytes_done);
            (report.bytes_total, report.bytes_done) = now;
        }
    }

    /// Tells meta what it has not heard. What does not fit is told later; what is lost on the way is asked for again.
    fn report(&mut self) {
        let news = |run: &&mut Run<BackupReport>| run.is_news;
        let mut backups: Vec<_> = self.backups.values_mut().filter(news).collect();
        let news = |run: &&mut Run<RestoreReport>| run.is_news;
        let mut restores: Vec<_> = self.restores.values_mut().filter(news).collect();
        if backups.is_empty() && restores.is_empty() {
            return;
        }
        let mail = MetaMail::Backups {
            backups: backups.iter().map(|run| run.report.clone()).collect(),
            restores: restores.iter().map(|run| run.report.clone()).collect(),
        };
        if self.meta.send(mail).is_ok() {
            backups.iter_mut().for_each(|run| run.is_news = false);
            restores.iter_mut().for_each(|run| run.is_news = false);
        }
    }
}

fn tell_created(core: &BackupCore, key: ReplicaKey, result: Result<Decree, String>) {
    core.inbox.send(CoreInput::Pool(PoolDone::Created {
        partition: key.partition,
        incarnation: key.incarnation,
        result,
    }));
}

/// Does `attempt` until it succeeds, has failed for good, or the pauses are used up.
async fn persist<T, E: std::fmt::Display>(
    what: &str,
    may_pass: impl Fn(&E) -> bool,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T, E> {
    for pause in PAUSES {
        match attempt().await {
            Err(error) if may_pass(&error) => {
                tracing::info!(%error, ?pause, "{what} did not go on, it is tried again");
                tokio::time::sleep(pause.mul_f64(rand::random_range(0.75..1.25))).await;
            }
            result => return result,
        }
    }
    attempt().await
}

impl std::fmt::Debug for BackupParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackupParts")
            .field("config", &self.config)
            .field("cores", &self.cores)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

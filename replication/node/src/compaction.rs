//! Compacting by hand: all files of a table's replicas are rewritten without what is overwritten or has expired, when an
//! operator orders it or when the settings of the table ask for it. RocksDB's own threads do it, at the pace of all
//! compactions (`engine/src/rocks/pace.rs`); the threads here only wait for them.
//!
//! The same thread keeps replicas in the shape that their tables ask for ([`Shape`]): both follow what meta has told of tables,
//! and both are looked at once a second.

mod finished;
mod wishes;

pub use wishes::Wishes;

use crate::directory::Directory;
use crate::meta_link::KnownRoutes;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use finished::{Finished, Key};
use pegasus_engine::RocksStore;
use pegasus_engine::rocks::{Shape, StoreError, Thorough};
use pegasus_replication::ids::{PartitionId, TableId};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Orders that wait to be looked at.
const ORDERS_MAX: usize = 64;
/// Compactions at a time, whatever settings say: each is a thread that waits.
const RUNNING_MAX: usize = 16;
/// How often settings are compared with what is.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// How far compacting is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactionStatus {
    /// Something is under way: replicas done, and of how many, since there was nothing.
    pub running: Option<(u64, u64)>,
    /// Orders that are not begun.
    pub waiting: u64,
    /// Unix seconds of the last time that everything was done; 0 = none since the start.
    pub finished_unix_s: u64,
}

/// Replicas of one table by how compacting them is, as Apache Pegasus counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactionCounts {
    pub idle: u64,
    pub queued: u64,
    pub running: u64,
    /// Done since the node started, and not asked for again.
    pub finished: u64,
}

/// The running thread, and how to order from it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Compaction {
    letters: Sender<Letter>,
    shared: Arc<Shared>,
}

/// Where the thread gets what it works on.
#[derive(Debug)]
pub struct CompactionParts {
    /// One for each core.
    pub stores: Vec<RocksStore>,
    /// What meta has told of tables.
    pub known: Arc<Mutex<KnownRoutes>>,
}

#[derive(Debug)]
struct Shared {
    stores: Vec<RocksStore>,
    state: Mutex<State>,
}

/// What others may ask about.
#[derive(Debug, Default)]
struct State {
    /// Orders in the channel.
    orders: u64,
    queue: VecDeque<Job>,
    running: HashSet<PartitionId>,
    finished: HashSet<PartitionId>,
    done: u64,
    total: u64,
    finished_unix_s: u64,
    is_stopped: bool,
}

/// One replica to be compacted.
#[derive(Clone, Debug)]
struct Job {
    store: RocksStore,
    key: Key,
    thorough: Thorough,
    /// It begins when fewer than so many are running.
    running_max: usize,
}

#[derive(Debug)]
enum Letter {
    /// The replicas of a table, or of all.
    Order(Option<TableId>),
    Done(Key),
    Stop,
}

impl Compaction {
    /// Starts the thread; `root` is the node's directory. `on_start` places it, and those that it starts (CPUs, priority).
    ///
    /// # Errors
    /// The process may not have more threads.
    pub fn start(
        parts: CompactionParts,
        root: &Path,
        on_start: impl Fn() + Send + Sync + 'static,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (letters, mail) = bounded(ORDERS_MAX + RUNNING_MAX);
        let shared = Arc::new(Shared {
            stores: parts.stores,
            state: Mutex::default(),
        });
        let mut upkeep = Upkeep {
            shared: Arc::clone(&shared),
            letters: letters.clone(),
            known: parts.known,
            finished: Finished::read(root),
            shapes: HashMap::new(),
            place: Arc::new(on_start),
        };
        let thread = std::thread::Builder::new()
            .name("compaction".to_owned())
            .spawn(move || {
                (upkeep.place)();
                upkeep.run(&mail);
            })?;
        Ok((Self { letters, shared }, thread))
    }

    /// Orders the replicas of a table that this node has, or of all tables. False: too many orders wait. Never blocks.
    #[must_use]
    pub fn begin(&self, table: Option<TableId>) -> bool {
        // Counted under the lock that the thread takes it off again under, so that it never counts below zero.
        let mut state = self.shared.lock();
        if state.orders >= ORDERS_MAX as u64 {
            return false;
        }
        let is_taken = self.letters.try_send(Letter::Order(table)).is_ok();
        state.orders += u64::from(is_taken);
        is_taken
    }

    #[must_use]
    pub fn status(&self) -> CompactionStatus {
        let state = self.shared.lock();
        let is_running = state.done < state.total;
        CompactionStatus {
            running: is_running.then_some((state.done, state.total)),
            waiting: state.orders,
            finished_unix_s: state.finished_unix_s,
        }
    }

    /// How the replicas of a table are, of those that this node has.
    #[must_use]
    pub fn counts(&self, table: TableId) -> CompactionCounts {
        let here = self.shared.replicas_of(Some(table));
        let state = self.shared.lock();
        let is_queued =
            |partition: &PartitionId| state.queue.iter().any(|it| it.key.0 == *partition);
        let mut counts = CompactionCounts::default();
        for (_, (partition, _)) in &here {
            let count = if state.running.contains(partition) {
                &mut counts.running
            } else if is_queued(partition) {
                &mut counts.queued
            } else if state.finished.contains(partition) {
                &mut counts.finished
            } else {
                &mut counts.idle
            };
            *count += 1;
        }
        counts
    }

    /// Ends what is under way, within milliseconds; nothing is begun any more.
    pub fn stop(self) {
        {
            let mut state = self.shared.lock();
            state.is_stopped = true;
            state.queue.clear();
        }
        for store in &self.shared.stores {
            store.stop_compacting();
        }
        // Without room the thread finds it out by itself.
        let _ = self.letters.try_send(Letter::Stop);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replicas_of(&self, table: Option<TableId>) -> Vec<(&RocksStore, Key)> {
        let all = self.stores.iter().flat_map(|store| {
            let here = store.partitions().into_iter();
            here.map(move |key| (store, key))
        });
        all.filter(|(_, (partition, _))| table.is_none_or(|table| partition.table == table))
            .collect()
    }
}

/// The thread's own.
struct Upkeep {
    shared: Arc<Shared>,
    letters: Sender<Letter>,
    known: Arc<Mutex<KnownRoutes>>,
    finished: Finished,
    /// As they were set in this life of the process; all others have the usual one.
    shapes: HashMap<Key, Shape>,
    place: Arc<dyn Fn() + Send + Sync>,
}

impl Upkeep {
    fn run(&mut self, mail: &Receiver<Letter>) {
        let mut look_at = Instant::now();
        loop {
            match mail.recv_timeout(look_at.saturating_duration_since(Instant::now())) {
                Ok(Letter::Order(table)) => self.take_order(table),
                Ok(Letter::Done(key)) => self.on_done(key),
                Ok(Letter::Stop)
                | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            if self.shared.lock().is_stopped {
                return self.wait_for_running(mail);
            }
            if Instant::now() >= look_at {
                self.look();
                look_at = Instant::now() + LOOK_PERIOD;
            }
            self.begin_next();
        }
    }

    /// What runs holds a handle of a database, which is about to be closed.
    fn wait_for_running(&mut self, mail: &Receiver<Letter>) {
        while !self.shared.lock().running.is_empty() {
            if let Ok(Letter::Done(key)) = mail.recv() {
                self.on_done(key);
            }
        }
    }

    fn directory(&self) -> Arc<Directory> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&known.directory)
    }

    /// All that settings ask for.
    fn look(&mut self) {
        let (directory, now_s) = (self.directory(), unix_s());
        let shared = Arc::clone(&self.shared);
        let here = shared.replicas_of(None);
        let keys: HashSet<Key> = here.iter().map(|(_, key)| *key).collect();
        self.shapes.retain(|key, _| keys.contains(key));
        self.finished.retain(|key| keys.contains(key));
        let mut due: BTreeMap<TableId, Vec<Job>> = BTreeMap::new();
        for (store, key) in here {
            let last_s = self.finished.last_s(key, now_s);
            let Some(table) = directory.tables.get(&key.0.table) else {
                continue;
            };
            self.keep_shape(store, key, table.settings.shape());
            let wishes = table.settings.wishes();
            if let Some(thorough) = wishes.due(last_s, now_s) {
                due.entry(key.0.table).or_default().push(Job {
                    store: store.clone(),
                    key,
                    thorough,
                    running_max: usize::try_from(wishes.running_max).unwrap_or(usize::MAX),
                });
            }
        }
        for (table, jobs) in due {
            let count = self.enqueue(jobs);
            if count > 0 {
                tracing::info!(%table, replicas = count, "compacting as the table's settings ask");
            }
        }
        self.finished.write();
    }

    fn keep_shape(&mut self, store: &RocksStore, key: Key, wanted: Shape) {
        let now = self.shapes.get(&key).copied().unwrap_or_default();
        if now == wanted {
            return;
        }
        match store.set_shape(key.0, wanted) {
            Ok(()) => {
                tracing::info!(partition = %key.0, ?wanted, "a replica is kept in another shape");
                self.shapes.insert(key, wanted);
            }
            Err(error) => {
                tracing::warn!(partition = %key.0, %error, "a replica is not kept as its table asks")
            }
        }
    }

    fn take_order(&mut self, table: Option<TableId>) {
        let directory = self.directory();
        let shared = Arc::clone(&self.shared);
        let is_disabled = |partition: &PartitionId| {
            let table = directory.tables.get(&partition.table);
            table.is_some_and(|table| table.settings.wishes().is_disabled)
        };
        let here = shared.replicas_of(table);
        let (disabled, wanted): (Vec<_>, Vec<_>) = here
            .into_iter()
            .partition(|(_, (partition, _))| is_disabled(partition));
        let jobs = wanted.into_iter().map(|(store, key)| Job {
            store: store.clone(),
            key,
            thorough: Thorough::default(),
            running_max: 1,
        });
        let count = self.enqueue(jobs.collect());
        let table = table.map_or_else(|| "all".to_owned(), |table| table.to_string());
        let disabled = disabled.len();
        tracing::info!(table, replicas = count, disabled, "compacting by hand");
        let mut state = self.shared.lock();
        state.orders = state.orders.saturating_sub(1);
        state.note_end();
    }

    /// How many are new in the queue.
    fn enqueue(&self, jobs: Vec<Job>) -> usize {
        let mut state = self.shared.lock();
        let queued: HashSet<PartitionId> = state.queue.iter().map(|it| it.key.0).collect();
        let before = state.queue.len();
        for job in jobs {
            let partition = job.key.0;
            if !queued.contains(&partition) && !state.running.contains(&partition) {
                state.finished.remove(&partition);
                state.queue.push_back(job);
            }
        }
        let count = state.queue.len() - before;
        state.total += count as u64;
        count
    }

    fn begin_next(&mut self) {
        loop {
            let job = {
                let mut state = self.shared.lock();
                let running = state.running.len();
                let may_begin = |job: &&Job| running < job.running_max.clamp(1, RUNNING_MAX);
                if state.queue.front().filter(may_begin).is_none() {
                    return;
                }
                let Some(job) = state.queue.pop_front() else {
                    return;
                };
                state.running.insert(job.key.0);
                job
            };
            let key = job.key;
            if let Err(error) = self.begin(job) {
                tracing::warn!(partition = %key.0, %error, "a replica was not compacted");
                self.on_done(key);
            }
        }
    }

    fn begin(&self, job: Job) -> std::io::Result<()> {
        let (place, letters) = (Arc::clone(&self.place), self.letters.clone());
        let run = move || {
            place();
            let partition = job.key.0;
            match job.store.compact(partition, job.thorough) {
                // Dropped since it was listed.
                Ok(()) | Err(StoreError::NoReplica { .. }) => {}
                Err(error) => tracing::warn!(%partition, %error, "a replica was not compacted"),
            }
            drop(job.store);
            let _ = letters.send(Letter::Done(job.key));
        };
        let thread = std::thread::Builder::new().name("compact".to_owned());
        thread.spawn(run).map(drop)
    }

    fn on_done(&mut self, key: Key) {
        let mut state = self.shared.lock();
        state.running.remove(&key.0);
        // A stop has cut it short.
        if !state.is_stopped {
            self.finished.note(key, unix_s());
        }
        state.finished.insert(key.0);
        state.done += 1;
        state.note_end();
        if state.total == 0 {
            drop(state);
            self.finished.write();
            tracing::info!("compacting by hand is done");
        }
    }
}

impl State {
    /// Nothing is left to do: the next begins to count from none.
    fn note_end(&mut self) {
        if self.queue.is_empty() && self.running.is_empty() && self.orders == 0 {
            (self.done, self.total) = (0, 0);
            self.finished_unix_s = unix_s();
        }
    }
}

fn unix_s() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

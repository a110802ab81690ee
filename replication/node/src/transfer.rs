//! Copies of replicas, from a primary's node to a learner's: a checkpoint's files, or what the log holds behind a decree.
//!
//! ```text
//!  learner's node (fetch)                              primary's node (serve)
//!  Hello/HelloReply/HelloProof as between peers, on the transfer port
//!  Open(checkpoint) ---------------------------------> the core flushes and links the replica's files aside
//!                   <--------------------------------- Manifest
//!  Fetch(file, offset) ------------------------------> Chunk, Chunk, ... (zstd)      once for each file it lacks
//!  Open(logs after a, up to b, of some replicas) ----> one pass over the core's log
//!                   <--------------------------------- Entries, Entries, ... (zstd), of each replica in order
//! ```
//!
//! A few blocking threads, because there are few sessions, and because waiting is what they do most: for the byte budget, for the
//! disk, for the other side, for the learner's core to take what has arrived (`docs/decisions/0015-transfer-threads.md`). Cores hand
//! jobs over without waiting and are told by their inbox. Files that have arrived whole stay for the next attempt, whoever dies.

mod arrival;
mod budget;
mod fetch;
mod frames;
mod jobs;
mod log_source;
mod serve;

pub use fetch::{FetchJob, Fetched, Permit, Wanted};
pub(crate) use log_source::LogSource;

use crate::inbox::InboxSender;
use budget::Budget;
use crossbeam_channel::Sender;
use jobs::{Jobs, Work};
use pegasus_net::Identity;
use pegasus_replication::ids::{Ballot, CoreId, Decree, PartitionId, ReplicaIncarnation};
use pegasus_replication::log::Position;
use pegasus_replication::log::recover::SuffixRange;
use std::fs;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Jobs that wait for a thread; a core has at most one for each of its learners.
const JOBS_MAX: usize = 65_536;
/// Every read and write of a session.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
/// Beginning of the name of a directory that a checkpoint was linked into for somebody else.
const EXPORT_PREFIX: &str = "export-";
/// Files of an attempt that nobody has come back to for so long are deleted at start.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// One core, as transfers see it.
#[derive(Clone, Debug)]
pub struct TransferCore {
    pub log_dir: PathBuf,
    pub learn_dir: PathBuf,
    pub inbox: InboxSender,
}

/// Bounds of all transfers of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferOptions {
    /// Bytes that leave, bytes that arrive, and bytes of logs that are read to find what leaves: each.
    pub bytes_per_second: u64,
    /// Checkpoints in each direction; logs have room beside them.
    pub sessions_max: usize,
}

/// What a core is asked for: its replica's files, in a directory of their own.
#[derive(Debug)]
pub struct ExportRequest {
    pub partition: PartitionId,
    pub incarnation: ReplicaIncarnation,
    /// Does not exist yet; on the file system of the core's database.
    pub directory: PathBuf,
    pub answer: Sender<Result<Exported, String>>,
}

/// What a core is asked for: where somebody who wants these entries begins to read its log.
#[derive(Debug)]
pub struct LogStartRequest {
    pub ranges: Vec<SuffixRange>,
    pub answer: Sender<Position>,
}

/// What is in that directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    pub decree: Decree,
    pub ballot: Ballot,
}

/// Where cores drop their jobs; cheap to clone.
#[derive(Clone, Debug)]
pub struct Transfers {
    shared: Arc<Shared>,
    newest: Arc<AtomicU64>,
}

/// What ends the threads.
#[derive(Debug)]
pub struct TransferThreads {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What all threads of a node share.
#[derive(Debug)]
struct Shared {
    /// With core 0; sessions put their own core in.
    identity: Identity,
    cores: Vec<TransferCore>,
    sending: Budget,
    receiving: Budget,
    /// What of a log has to be read to find what a learner wants.
    searching: Budget,
    jobs: Jobs,
    sessions_max: usize,
    /// Checkpoints that are given.
    checkpoints_given: AtomicUsize,
    is_stopping: AtomicBool,
    /// Open connections, to be ended at a stop.
    streams: Mutex<Vec<(u64, TcpStream)>>,
    next_stream: AtomicU64,
    next_export: AtomicU64,
}

impl Transfers {
    /// Serves `listener` and carries out jobs. `on_start` places each thread (CPUs, priority).
    ///
    /// # Errors
    /// The process may not have more threads, or the directories of earlier transfers cannot be looked at.
    pub fn start(
        listener: TcpListener,
        identity: Identity,
        cores: Vec<TransferCore>,
        options: TransferOptions,
        on_start: impl Fn() + Clone + Send + 'static,
    ) -> io::Result<(Self, TransferThreads)> {
        for core in &cores {
            clean(&core.learn_dir)?;
        }
        let shared = Arc::new(Shared {
            identity,
            cores,
            sending: Budget::new(options.bytes_per_second),
            receiving: Budget::new(options.bytes_per_second),
            searching: Budget::new(options.bytes_per_second),
            jobs: Jobs::new(options.sessions_max),
            sessions_max: options.sessions_max,
            checkpoints_given: AtomicUsize::new(0),
            is_stopping: AtomicBool::new(false),
            streams: Mutex::default(),
            next_stream: AtomicU64::new(0),
            next_export: AtomicU64::new(0),
        });
        let mut threads = serve::start(listener, &shared, on_start.clone())?;
        for _ in 0..shared.threads() {
            let (shared, on_start) = (Arc::clone(&shared), on_start.clone());
            threads.push(spawn("transfer-fetch", move || {
                on_start();
                while let Some(work) = shared.jobs.next() {
                    match work {
                        Work::Checkpoint(job, _slot) => fetch::checkpoint(&shared, &job),
                        Work::Logs(jobs) => fetch::logs(&shared, jobs),
                    }
                }
            })?);
        }
        let transfers = Self {
            shared: Arc::clone(&shared),
            newest: Arc::default(),
        };
        Ok((transfers, TransferThreads { shared, threads }))
    }

    /// Queues a job without waiting.
    ///
    /// # Errors
    /// There is no room: the job comes back, try again later.
    pub fn fetch(&self, job: FetchJob) -> Result<(), FetchJob> {
        self.shared.jobs.add(job)
    }

    /// A number that no job of this life has had.
    #[must_use]
    pub fn next_job(&self) -> u64 {
        self.newest.fetch_add(1, Ordering::Relaxed)
    }
}

impl TransferThreads {
    /// Ends all sessions and threads. Jobs that wait are dropped.
    pub fn stop(self) {
        self.shared.is_stopping.store(true, Ordering::SeqCst);
        self.shared.jobs.stop();
        for (_, stream) in self.shared.streams().iter() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// In each direction: one more than there may be checkpoints, so that a log never waits for one.
    const fn threads(&self) -> usize {
        self.sessions_max + 1
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::SeqCst)
    }

    fn streams(&self) -> std::sync::MutexGuard<'_, Vec<(u64, TcpStream)>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The identity of one core of this node.
    fn identity_of(&self, core: CoreId) -> Identity {
        Identity {
            core: core.0,
            ..self.identity.clone()
        }
    }

    /// Keeps `stream` where a stop finds it, until the result is dropped.
    fn guard(&self, stream: TcpStream) -> StreamGuard<'_> {
        let number = self.next_stream.fetch_add(1, Ordering::Relaxed);
        let guard = StreamGuard {
            shared: self,
            number,
        };
        if self.is_stopping() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.streams().push((number, stream));
        guard
    }
}

struct StreamGuard<'a> {
    shared: &'a Shared,
    number: u64,
}

impl Drop for StreamGuard<'_> {
    fn drop(&mut self) {
        self.shared
            .streams()
            .retain(|(number, _)| *number != self.number);
    }
}

/// Deletes what nobody will come back for.
fn clean(learn_dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(learn_dir)? {
        let entry = entry?;
        let is_export = entry
            .file_name()
            .to_string_lossy()
            .starts_with(EXPORT_PREFIX);
        let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
        if entry.file_type()?.is_dir() && (is_export || age > STALE) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run)
}

#[cfg(test)]
mod tests;

//! The background plane: one thread with a glommio executor for bulk bytes, on background CPUs if there are any.
//!
//! Jobs come over a bounded channel. The thread sleeps in that channel, not in the executor, because glommio offers no
//! way to wake an executor from a foreign thread; it then runs all jobs that wait at once, each as a task. glommio is
//! named in `background*` only.

pub mod backup;
pub mod segments;

use crate::inbox::InboxSender;
use crossbeam_channel::{Receiver, Sender, bounded};
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};
use pegasus_replication::log::SegmentId;
use segments::SegmentKeeper;
use std::io;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

/// Jobs that wait; a core has at most one segment asked for and frees them rarely.
const JOBS_MAX: usize = 65_536;
/// Memory for I/O of the executor, pinned where the kernel counts it.
const IO_MEMORY_BYTES: usize = 4 << 20;
/// How long a job that failed waits, for example on a full disk.
const RETRY_PERIOD: Duration = Duration::from_millis(200);

/// What a core wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackgroundJob {
    /// Make this segment of this core ready; answered by `CoreInput::Segment`.
    Prepare { core: usize, segment: SegmentId },
    /// This segment is not needed any more: keep it for reuse or delete it.
    Free { core: usize, segment: SegmentId },
}

/// What the plane needs to know of one core.
#[derive(Debug)]
pub struct CoreFiles {
    pub log_dir: PathBuf,
    pub inbox: InboxSender,
}

/// Bounds of segment preparation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentOptions {
    pub segment_bytes: u64,
    /// Freed segments kept for reuse, per core.
    pub recycled_max: usize,
}

/// Where cores drop their jobs; cheap to clone. The thread ends when all are gone.
#[derive(Clone, Debug)]
pub struct Background {
    jobs: Sender<BackgroundJob>,
}

impl Background {
    /// Starts the plane. `on_start` places the thread (CPUs, priority).
    ///
    /// # Errors
    /// The kernel refuses the executor, or the process may not have more threads.
    pub fn start(
        cores: Vec<CoreFiles>,
        options: SegmentOptions,
        on_start: impl FnOnce() + Send + 'static,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let (jobs, queue) = bounded(JOBS_MAX);
        let (started, is_started) = bounded(1);
        let thread = std::thread::Builder::new()
            .name("background".to_owned())
            .spawn(move || {
                on_start();
                let executor = LocalExecutorBuilder::new(Placement::Unbound)
                    .io_memory(IO_MEMORY_BYTES)
                    .name("background")
                    .make();
                match executor {
                    Ok(executor) => {
                        let _ = started.send(Ok(()));
                        run(&executor, &queue, &SegmentKeeper::new(cores, options));
                    }
                    Err(error) => {
                        let _ = started.send(Err(io::Error::other(error.to_string())));
                    }
                }
            })?;
        is_started.recv().map_err(io::Error::other)??;
        Ok((Self { jobs }, thread))
    }

    /// Queues a job without waiting.
    ///
    /// # Errors
    /// There is no room: the job comes back, try again later.
    pub fn submit(&self, job: BackgroundJob) -> Result<(), BackgroundJob> {
        self.jobs
            .try_send(job)
            .map_err(crossbeam_channel::TrySendError::into_inner)
    }
}

fn run(executor: &LocalExecutor, queue: &Receiver<BackgroundJob>, keeper: &SegmentKeeper) {
    let mut retries: Vec<BackgroundJob> = Vec::new();
    loop {
        let first = if retries.is_empty() {
            match queue.recv() {
                Ok(job) => Some(job),
                Err(_) => return,
            }
        } else {
            match queue.recv_timeout(RETRY_PERIOD) {
                Ok(job) => Some(job),
                Err(crossbeam_channel::RecvTimeoutError::Timeout) => None,
                Err(crossbeam_channel::RecvTimeoutError::Disconnected) => return,
            }
        };
        let jobs = std::mem::take(&mut retries)
            .into_iter()
            .chain(first)
            .chain(queue.try_iter());
        let jobs: Vec<BackgroundJob> = jobs.collect();
        retries = executor.run(keeper.do_all(jobs));
    }
}

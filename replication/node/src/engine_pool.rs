//! Threads for engine calls that may block: create, remove, flush, durable markers, reads that need the disk.
//!
//! Two classes with threads of their own, so that no read waits behind a flush. Each class has one bounded queue; a full
//! one gives the job back and the core decides what that means (busy for a read, later for the rest). The result of a job
//! goes to the inbox of the core that asked.

use crate::inbox::{CoreInput, InboxSender};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use pegasus_engine::Applied;
use pegasus_replication::event::Compute;
use pegasus_replication::ids::{Decree, PartitionId, ReplicaIncarnation, Ticket};
use std::io;
use std::thread::JoinHandle;

use crate::shard_loop::atomic::ComputeOutcome;
use crate::shard_loop::read::ReadOutcome;

/// Jobs of one class that wait for a thread.
const QUEUE_MAX: usize = 4096;

/// Which threads run a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolClass {
    /// A client waits for it.
    Read,
    /// Create, remove, flush, markers.
    Upkeep,
}

/// What came of a job.
#[derive(Debug)]
pub enum PoolDone {
    /// The storage is there, with everything up to a decree if it is from a backup.
    Created {
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
        result: Result<Decree, String>,
    },
    Removed {
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
        result: Result<(), String>,
    },
    /// Our flush of this replica has ended: durable up to this decree, or why not.
    Flushed {
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
        result: Result<Decree, String>,
    },
    /// A flush of RocksDB's own has ended: durable up to this decree.
    Durable {
        partition: PartitionId,
        decree: Decree,
    },
    /// A file of this replica is damaged.
    Damaged {
        partition: PartitionId,
        error: String,
    },
    /// An atomic operation.
    Computed {
        compute: Compute,
        outcome: Box<ComputeOutcome>,
    },
    Read {
        ticket: Ticket,
        outcome: ReadOutcome,
    },
    /// A checkpoint has taken the place of the replica's storage, or nothing has.
    Installed {
        job: u64,
        partition: PartitionId,
        installed: Result<Applied, String>,
    },
}

/// A job: run on a pool thread, each result is sent to the inbox of its core.
pub type Job = Box<dyn FnOnce(&mut dyn FnMut(PoolDone)) + Send>;

struct Task {
    job: Job,
    core: InboxSender,
}

/// A handle for one core or many; cheap to clone. The threads end when all handles are gone.
#[derive(Clone, Debug)]
pub struct EnginePool {
    reads: Sender<Task>,
    upkeep: Sender<Task>,
}

impl EnginePool {
    /// Starts `threads` for each class, half of them at least one, on the CPUs of `on_start` (called on each thread).
    ///
    /// # Errors
    /// The process may not have more threads.
    pub fn start(
        threads: usize,
        on_start: impl Fn() + Clone + Send + 'static,
    ) -> io::Result<(Self, Vec<JoinHandle<()>>)> {
        let (reads, read_queue) = bounded(QUEUE_MAX);
        let (upkeep, upkeep_queue) = bounded(QUEUE_MAX);
        let each = threads.div_ceil(2).max(1);
        let mut handles = Vec::new();
        for (name, queue) in [("engine-read", read_queue), ("engine-upkeep", upkeep_queue)] {
            for _ in 0..each {
                handles.push(spawn(name, queue.clone(), on_start.clone())?);
            }
        }
        Ok((Self { reads, upkeep }, handles))
    }

    /// Queues a job whose results go to `core`.
    ///
    /// # Errors
    /// The queue of its class is full: the job comes back.
    pub fn submit(&self, class: PoolClass, core: &InboxSender, job: Job) -> Result<(), Job> {
        let queue = match class {
            PoolClass::Read => &self.reads,
            PoolClass::Upkeep => &self.upkeep,
        };
        queue
            .try_send(Task {
                job,
                core: core.clone(),
            })
            .map_err(|error| match error {
                TrySendError::Full(task) | TrySendError::Disconnected(task) => task.job,
            })
    }
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Task")
    }
}

fn spawn(
    name: &str,
    queue: Receiver<Task>,
    on_start: impl Fn() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            on_start();
            for Task { job, core } in queue {
                job(&mut |done| core.send(CoreInput::Pool(done)));
            }
        })
}

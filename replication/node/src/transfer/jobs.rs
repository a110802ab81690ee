//! Jobs that wait for a thread, and what one thread takes at a time: a checkpoint, or all logs that one core of another node
//! is asked for. A node that comes back has many copies that need about the same piece of a log.

use super::frames::RANGES_MAX;
use super::{FetchJob, JOBS_MAX, Wanted};
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
pub(super) struct Jobs {
    waiting: Mutex<Waiting>,
    has_changed: Condvar,
    /// At a time, so that logs, which take moments, do not wait for hours behind them.
    checkpoints_max: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    jobs: VecDeque<FetchJob>,
    /// On their way.
    checkpoints: usize,
    is_stopping: bool,
}

/// What a thread carries out in one session.
#[derive(Debug)]
pub(super) enum Work<'j> {
    Checkpoint(FetchJob, CheckpointSlot<'j>),
    /// Of one core of ours, from one core of another node; each partition once.
    Logs(Vec<FetchJob>),
}

/// One of the checkpoints on their way.
#[derive(Debug)]
pub(super) struct CheckpointSlot<'j>(&'j Jobs);

impl Jobs {
    pub(super) fn new(checkpoints_max: usize) -> Self {
        Self {
            waiting: Mutex::default(),
            has_changed: Condvar::new(),
            checkpoints_max,
        }
    }

    /// Queues a job without waiting.
    ///
    /// # Errors
    /// There is no room: the job comes back.
    pub(super) fn add(&self, job: FetchJob) -> Result<(), FetchJob> {
        let mut waiting = self.lock();
        if waiting.jobs.len() >= JOBS_MAX {
            return Err(job);
        }
        waiting.jobs.push_back(job);
        drop(waiting);
        self.has_changed.notify_one();
        Ok(())
    }

    /// Waits for the oldest job that may begin, and takes what goes with it. `None`: the node stops.
    pub(super) fn next(&self) -> Option<Work<'_>> {
        let mut waiting = self.lock();
        loop {
            if waiting.is_stopping {
                return None;
            }
            if let Some(work) = self.take(&mut waiting) {
                return Some(work);
            }
            waiting = self
                .has_changed
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets go of everybody who waits.
    pub(super) fn stop(&self) {
        self.lock().is_stopping = true;
        self.has_changed.notify_all();
    }

    fn take(&self, waiting: &mut Waiting) -> Option<Work<'_>> {
        let has_slot = waiting.checkpoints < self.checkpoints_max;
        let may_begin = |job: &FetchJob| has_slot || job.wanted != Wanted::Checkpoint;
        let index = waiting.jobs.iter().position(may_begin)?;
        let first = waiting.jobs.remove(index)?;
        if first.wanted == Wanted::Checkpoint {
            waiting.checkpoints += 1;
            return Some(Work::Checkpoint(first, CheckpointSlot(self)));
        }
        let mut logs = vec![first];
        waiting.jobs.retain(|job| {
            let goes_along = logs.len() < RANGES_MAX && goes_with(job, &logs);
            if goes_along {
                logs.push(job.clone());
            }
            !goes_along
        });
        Some(Work::Logs(logs))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CheckpointSlot<'_> {
    fn drop(&mut self) {
        self.0.lock().checkpoints -= 1;
        self.0.has_changed.notify_one();
    }
}

fn goes_with(job: &FetchJob, logs: &[FetchJob]) -> bool {
    let first = &logs[0];
    job.wanted != Wanted::Checkpoint
        && (job.core, job.source, job.source_address)
            == (first.core, first.source, first.source_address)
        && logs.iter().all(|other| other.partition != job.partition)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use pegasus_replication::ids::{
        CoreAddress, CoreId, Decree, NodeId, PartitionId, ReplicaIncarnation, TableId,
    };
    use std::sync::Arc;

    const LOG: Wanted = Wanted::Log {
        after: Decree(1),
        up_to: Decree(2),
    };

    fn job(index: u32, source: u32, wanted: Wanted) -> FetchJob {
        FetchJob {
            number: u64::from(index),
            core: CoreId(0),
            partition: PartitionId {
                table: TableId(1),
                index,
            },
            source: CoreAddress {
                node: NodeId(source),
                core: CoreId(0),
            },
            source_incarnation: ReplicaIncarnation(1),
            source_address: ([127, 0, 0, 1], 9).into(),
            wanted,
            is_cancelled: Arc::default(),
        }
    }

    fn taken(work: &Work<'_>) -> Vec<u32> {
        match work {
            Work::Checkpoint(job, _) => vec![job.partition.index],
            Work::Logs(jobs) => jobs.iter().map(|job| job.partition.index).collect(),
        }
    }

    #[test]
    fn logs_of_one_source_go_together_and_a_partition_once() {
        let jobs = Jobs::new(1);
        for (index, source) in [(1, 1), (2, 2), (3, 1), (1, 1), (4, 2)] {
            jobs.add(job(index, source, LOG)).unwrap();
        }
        let taken: Vec<_> = (0..3).map(|_| taken(&jobs.next().unwrap())).collect();
        assert_eq!(taken, [vec![1, 3], vec![2, 4], vec![1]]);
    }

    #[test]
    fn logs_pass_checkpoints_that_have_to_wait() {
        let jobs = Jobs::new(1);
        for index in 1..=2 {
            jobs.add(job(index, 1, Wanted::Checkpoint)).unwrap();
        }
        jobs.add(job(3, 1, LOG)).unwrap();
        let first = jobs.next().unwrap();
        assert_eq!(taken(&first), [1]);
        assert_eq!(taken(&jobs.next().unwrap()), [3]);
        drop(first);
        assert_eq!(taken(&jobs.next().unwrap()), [2]);
        jobs.stop();
        assert!(jobs.next().is_none());
    }
}

//! What a run does, and what its report says about that.

use crate::arrival::Arrival;
use crate::keys::Distribution;
use crate::outcome::Setup;
use crate::target::{Description, Target};
use crate::worker::{Loading, Task};
use crate::workload::Workload;
use anyhow::ensure;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How the load is spread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) threads: usize,
    /// Sessions; for a cluster each has one connection to every core it needs.
    pub(crate) connections: usize,
    /// Workers of each connection.
    pub(crate) inflight: usize,
}

/// What to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    /// Write every record once.
    Load(Loading),
    RunFor {
        warm_up: Duration,
        time: Duration,
    },
    RunOperations(u64),
}

/// Operations start at this rate, whatever the server does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rate {
    /// Of all threads together, more than zero.
    pub(crate) per_second: f64,
    pub(crate) arrival: Arrival,
}

/// How answers are checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verification {
    /// Every answer is checked.
    pub(crate) verify: bool,
    /// What the records hold before and after the run.
    pub(crate) state: Option<PathBuf>,
}

/// Where and how.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) target: Target,
    /// What the target says about itself.
    pub(crate) description: Description,
    pub(crate) shape: Shape,
    /// Threads are pinned to these in turn; empty: the scheduler chooses.
    pub(crate) cpus: Vec<usize>,
    pub(crate) work: Work,
    /// `None`: a closed loop. Only with [`Work::RunFor`].
    pub(crate) rate: Option<Rate>,
    /// What the rate is a share of, if it was chosen so.
    pub(crate) knee: Option<f64>,
    pub(crate) task: Task,
    /// `None` for a load.
    pub(crate) workload: Option<Workload>,
    pub(crate) distribution: Distribution,
    pub(crate) verification: Verification,
    pub(crate) trace: Option<PathBuf>,
}

impl Shape {
    pub(crate) fn workers(self) -> usize {
        self.connections.saturating_mul(self.inflight)
    }

    /// # Errors
    /// Names the option that is out of range.
    pub(crate) fn check(self) -> anyhow::Result<()> {
        ensure!(
            (1..=256).contains(&self.threads),
            "--threads {}: 1 to 256 are allowed",
            self.threads
        );
        ensure!(
            (self.threads..=10_000).contains(&self.connections),
            "--connections {}: {} (one for each thread) to 10000 are allowed",
            self.connections,
            self.threads
        );
        ensure!(
            (1..=10_000).contains(&self.inflight),
            "--inflight {}: 1 to 10000 are allowed",
            self.inflight
        );
        ensure!(
            self.workers() <= 100_000,
            "connections x inflight is {}, at most 100000",
            self.workers()
        );
        Ok(())
    }
}

impl Plan {
    pub(crate) fn warm_up(&self) -> Duration {
        match self.work {
            Work::RunFor { warm_up, .. } => warm_up,
            Work::Load(_) | Work::RunOperations(_) => Duration::ZERO,
        }
    }

    /// The CPU of a thread, if it is pinned.
    pub(crate) fn cpu_of(&self, thread: usize) -> Option<usize> {
        self.cpus.get(thread % self.cpus.len().max(1)).copied()
    }

    /// For the report.
    pub(crate) fn setup(&self, started: SystemTime) -> Setup {
        let started = started.duration_since(UNIX_EPOCH).unwrap_or_default();
        Setup {
            bench_version: env!("CARGO_PKG_VERSION").to_owned(),
            started_unix_ms: milliseconds(started),
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            pinned_to: self.cpus.clone(),
            target: self.description.clone(),
            workload: self.workload,
            mix: self.task.mix.parts().collect(),
            distribution: self.workload.map(|_| self.distribution),
            records: self.task.records,
            layout: self.task.layout,
            threads: self.shape.threads,
            connections: self.shape.connections,
            inflight: self.shape.inflight,
            workers: self.shape.workers(),
            rate: self.rate.map(|rate| rate.per_second),
            knee: self.knee,
            timeout_ms: milliseconds(self.task.timeout),
            warm_up_seconds: self.warm_up().as_secs_f64(),
            seed: self.task.seed,
        }
    }
}

pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

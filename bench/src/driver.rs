//! A run: threads, connections, workers, and the progress bar meanwhile.
//!
//! Each thread has a runtime of its own and shares nothing with the others but a few counters, so that the bench itself
//! disturbs what it measures as little as possible. `connections` clients are divided between the threads, each with
//! `inflight` workers.

use crate::affinity;
use crate::keys::Chooser;
use crate::record::{Recorder, Shared};
use crate::worker::{Task, Until, Worker};
use anyhow::{Context as _, anyhow, ensure};
use futures::future::{join_all, try_join_all};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pegasus_client::{Client, ClientOptions, Error, Table};
use std::cell::RefCell;
use std::io::IsTerminal as _;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::task::LocalSet;

/// How the load is spread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) threads: usize,
    /// Clients, each with one connection to every core it needs.
    pub(crate) connections: usize,
    /// Workers of each client.
    pub(crate) inflight: usize,
}

/// What to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    /// Write every record once; one that fails is tried again for so long.
    Load {
        give_up_after: Duration,
    },
    RunFor {
        warm_up: Duration,
        time: Duration,
    },
    RunOperations(u64),
}

/// Where and how.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) meta: Vec<String>,
    pub(crate) table: String,
    pub(crate) shape: Shape,
    /// Threads are pinned to these in turn; empty: the scheduler chooses.
    pub(crate) cpus: Vec<usize>,
    /// Deadline of one operation.
    pub(crate) timeout: Duration,
    pub(crate) work: Work,
    pub(crate) task: Task,
    /// One for each worker.
    pub(crate) choosers: Vec<Chooser>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) recorder: Recorder,
    /// Measured time, without warm-up and without reading everything again.
    pub(crate) elapsed: Duration,
    pub(crate) longest_gap: Duration,
    /// Successful operations in each second.
    pub(crate) per_second: Vec<u64>,
    /// Attempts that clients made again by themselves, within an operation's deadline; warm-up and reading everything
    /// again included.
    pub(crate) retries: u64,
    /// A record that could not be loaded.
    pub(crate) load_error: Option<Error>,
}

impl Shape {
    pub(crate) fn workers(self) -> usize {
        self.connections * self.inflight
    }

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

/// When the clock starts: what every thread is given then.
#[derive(Clone, Debug)]
struct Go {
    shared: Arc<Shared>,
    until: Arc<Until>,
}

/// A thread that is connected and waits for the clock.
struct Connected {
    go: mpsc::Sender<Go>,
    handle: JoinHandle<Share>,
}

/// One thread's part of the outcome.
struct Share {
    recorder: Recorder,
    retries: u64,
    load_error: Option<Error>,
}

/// Runs the plan to its end. An error means that it could not be run (no cluster, no table); operations that fail are
/// part of the outcome.
pub(crate) fn run(plan: &Arc<Plan>) -> anyhow::Result<Outcome> {
    let threads = plan.connect_threads()?;
    let go = plan.start_clock();
    for thread in &threads {
        // A thread that has gone panicked; joining it tells.
        let _ = thread.go.send(go.clone());
    }
    let per_second = watch(plan, &threads, &go.shared);
    go.shared.note_gap();
    let mut outcome = Outcome {
        recorder: Recorder::new(),
        elapsed: go.shared.measured(),
        longest_gap: go.shared.longest_gap(),
        per_second,
        retries: 0,
        load_error: None,
    };
    for thread in threads {
        let share = thread
            .handle
            .join()
            .map_err(|_| anyhow!("a bench thread panicked"))?;
        outcome.recorder.add(share.recorder);
        outcome.retries += share.retries;
        outcome.load_error = outcome.load_error.or(share.load_error);
    }
    Ok(outcome)
}

impl Plan {
    /// Threads with all their connections open and routes known, so that neither is measured.
    fn connect_threads(self: &Arc<Self>) -> anyhow::Result<Vec<Connected>> {
        let (ready, all_ready) = mpsc::channel();
        let mut threads = Vec::new();
        for index in 0..self.shape.threads {
            let (go, wait) = mpsc::channel();
            let (plan, ready) = (Arc::clone(self), ready.clone());
            let handle = std::thread::Builder::new()
                .name(format!("bench-{index}"))
                .spawn(move || plan.thread(index, &ready, &wait))
                .context("bench thread")?;
            threads.push(Connected { go, handle });
        }
        for _ in &threads {
            all_ready.recv().context("a bench thread panicked")??;
        }
        Ok(threads)
    }

    fn start_clock(&self) -> Go {
        let (warm_up, until) = match self.work {
            Work::RunFor { warm_up, time } => {
                (warm_up, Until::Time(Instant::now() + warm_up + time))
            }
            Work::RunOperations(count) => {
                (Duration::ZERO, Until::Operations(AtomicU64::new(count)))
            }
            Work::Load { .. } => (
                Duration::ZERO,
                Until::Operations(AtomicU64::new(self.task.records)),
            ),
        };
        Go {
            shared: Arc::new(Shared::new(warm_up, self.shape.threads as u64)),
            until: Arc::new(until),
        }
    }

    fn thread(
        &self,
        index: usize,
        ready: &mpsc::Sender<anyhow::Result<()>>,
        wait: &mpsc::Receiver<Go>,
    ) -> Share {
        let mut share = Share {
            recorder: Recorder::new(),
            retries: 0,
            load_error: None,
        };
        let connected = self
            .pin(index)
            .and_then(|()| runtime())
            .and_then(|runtime| {
                let tables = runtime.block_on(self.connect(index))?;
                Ok((runtime, tables))
            });
        let (runtime, tables) = match connected {
            Ok(connected) => connected,
            Err(error) => {
                let _ = ready.send(Err(error));
                return share;
            }
        };
        let _ = ready.send(Ok(()));
        // Nobody sends when another thread could not connect.
        let Ok(go) = wait.recv() else {
            return share;
        };
        let recorder = Rc::new(RefCell::new(Recorder::new()));
        share.load_error =
            LocalSet::new().block_on(&runtime, self.work(index, &tables, &go, &recorder));
        share.recorder = recorder.replace(Recorder::new());
        share.retries = tables.iter().map(|(client, _)| client.retries()).sum();
        share
    }

    fn pin(&self, thread: usize) -> anyhow::Result<()> {
        match self.cpus.get(thread % self.cpus.len().max(1)) {
            Some(cpu) => affinity::pin(*cpu),
            None => Ok(()),
        }
    }

    /// This thread's connections.
    async fn connect(&self, thread: usize) -> anyhow::Result<Vec<(Client, Table)>> {
        let connections = (thread..self.shape.connections).step_by(self.shape.threads);
        try_join_all(connections.map(|_| async {
            let mut options = ClientOptions::new(self.meta.clone());
            options.timeout = CONNECT_TIMEOUT;
            options.inflight_max = options.inflight_max.max(self.shape.inflight);
            let client = Client::connect(options)
                .await
                .with_context(|| format!("cluster at {}", self.meta.join(", ")))?;
            let table = client
                .table(&self.table)
                .await
                .with_context(|| format!("table {}", self.table))?;
            // The first request to a core opens the connection to it.
            for partition in 0..table.partition_count() {
                if let Some(primary) = table.primary_of(partition) {
                    let _ = client.ping(&primary).await;
                }
            }
            let table = table.with_timeout(self.timeout);
            Ok((client, table))
        }))
        .await
    }

    /// All workers of a thread, to their end.
    async fn work(
        &self,
        thread: usize,
        tables: &[(Client, Table)],
        go: &Go,
        recorder: &Rc<RefCell<Recorder>>,
    ) -> Option<Error> {
        let task = Arc::new(self.task.clone());
        let mut running = Vec::new();
        for (index, (_, table)) in tables.iter().enumerate() {
            let connection = thread + index * self.shape.threads;
            let first = connection * self.shape.inflight;
            for chooser in self.choosers.iter().skip(first).take(self.shape.inflight) {
                let (recorder, shared) = (Rc::clone(recorder), Arc::clone(&go.shared));
                let worker = Worker::new(
                    Arc::clone(&task),
                    table.clone(),
                    chooser.clone(),
                    recorder,
                    shared,
                );
                running.push(tokio::task::spawn_local(
                    self.one(worker, Arc::clone(&go.until)),
                ));
            }
        }
        let mut load_error = None;
        let mut workers = Vec::new();
        for ended in join_all(running).await {
            let (worker, error) = ended.expect("a worker that panics ends its thread");
            workers.push(worker);
            load_error = load_error.or(error);
        }
        go.shared.thread_ends();
        if self.task.verify {
            join_all(workers.iter_mut().map(Worker::sweep)).await;
        }
        load_error
    }

    fn one(
        &self,
        mut worker: Worker,
        until: Arc<Until>,
    ) -> impl Future<Output = (Worker, Option<Error>)> + use<> {
        let work = self.work;
        async move {
            let error = match work {
                Work::Load { give_up_after } => worker.load(give_up_after).await.err(),
                Work::RunFor { .. } | Work::RunOperations(_) => {
                    worker.run(&until).await;
                    None
                }
            };
            (worker, error)
        }
    }

    /// What the progress bar counts to: operations, or milliseconds.
    fn whole(&self) -> u64 {
        match self.work {
            Work::Load { .. } => self.task.records,
            Work::RunFor { warm_up, time } => milliseconds(warm_up + time),
            Work::RunOperations(count) => count,
        }
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("runtime")
}

/// Shows progress until all threads have done their measured part; gives the operations of each second.
fn watch(plan: &Plan, threads: &[Connected], shared: &Shared) -> Vec<u64> {
    const LOOK_EVERY: Duration = Duration::from_millis(20);
    const LINE_EVERY: usize = 10;
    let terminal = std::io::stderr().is_terminal();
    let bar = progress_bar(plan.whole(), terminal);
    let start = Instant::now();
    let mut per_second: Vec<u64> = Vec::new();
    let mut counted = 0;
    while !shared.is_over() && threads.iter().any(|thread| !thread.handle.is_finished()) {
        std::thread::sleep(LOOK_EVERY);
        let operations = shared.operations();
        bar.set_position(match plan.work {
            Work::RunFor { .. } => milliseconds(start.elapsed()),
            _ => operations,
        });
        if start.elapsed() < Duration::from_secs(per_second.len() as u64 + 1) {
            continue;
        }
        per_second.push(operations - counted);
        let sentence = format!("{} op/s, {} failed", operations - counted, shared.errors());
        counted = operations;
        bar.set_message(sentence.clone());
        if !terminal && per_second.len().is_multiple_of(LINE_EVERY) {
            eprintln!(
                "{} s: {operations} operations, {sentence}",
                per_second.len()
            );
        }
    }
    bar.finish_and_clear();
    per_second
}

fn progress_bar(whole: u64, terminal: bool) -> ProgressBar {
    let style = ProgressStyle::with_template("[{bar:40}] {percent:>3} % {elapsed_precise} {msg}")
        .expect("the template is a constant and well-formed")
        .progress_chars("=> ");
    let bar = ProgressBar::new(whole).with_style(style);
    if !terminal {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

//! A run: threads, connections, workers.
//!
//! Each thread has a runtime of its own and shares nothing with the others but a few counters, so that the bench itself
//! disturbs what it measures as little as possible. `connections` sessions are divided between the threads, each with
//! `inflight` workers.

mod gather;

use crate::affinity;
use crate::arrival::Schedule;
use crate::keys::Chooser;
use crate::outcome::{Outcome, ThreadUse};
use crate::pace::{End, Gate, Pace, Until};
use crate::plan::{Plan, Work};
use crate::progress;
use crate::record::{Recorder, Shared};
use crate::target::{ConnectOptions, Failure, Session};
use crate::trace::TraceFile;
use crate::usage::Sample;
use crate::value::version_base;
use crate::verify::{History, State, StateKey};
use crate::worker::Worker;
use anyhow::{Context as _, anyhow};
use futures::future::{join_all, try_join_all};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::task::LocalSet;

/// What a run left.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) outcome: Outcome,
    /// A record that could not be loaded.
    pub(crate) load_failure: Option<Failure>,
    /// Records that a resumed load found whole.
    pub(crate) skipped: u64,
}

/// When the clock starts: what every thread is given then.
#[derive(Clone, Debug)]
struct Go {
    shared: Arc<Shared>,
    until: Arc<Until>,
    trace: Option<Arc<TraceFile>>,
}

/// What all threads have from the beginning.
#[derive(Debug)]
struct Common {
    plan: Plan,
    chooser: Chooser,
    history: Option<Arc<History>>,
}

/// A thread that is connected and waits for the clock.
struct Connected {
    go: mpsc::Sender<Go>,
    handle: JoinHandle<anyhow::Result<Share>>,
}

/// One thread's part of what happened.
struct Share {
    recorder: Recorder,
    usage: ThreadUse,
    retries: u64,
    load_failure: Option<Failure>,
}

/// Runs the plan to its end. An error means that it could not be run (nobody there, no table, no file); operations that
/// fail are part of the outcome.
pub(crate) fn run(plan: &Plan) -> anyhow::Result<Finished> {
    run_beside(plan, |_| Ok(()))
}

/// The same with something that goes on beside it on a thread of its own, from the moment on at which the clock starts: it
/// may divide the measured time into periods, and end it.
///
/// # Errors
/// Those of [`run`], and what `beside` returns.
pub(crate) fn run_beside(
    plan: &Plan,
    beside: impl FnOnce(&Stage) -> anyhow::Result<()> + Send,
) -> anyhow::Result<Finished> {
    let common = Arc::new(Common::new(plan)?);
    let threads = connect_threads(&common)?;
    let started = SystemTime::now();
    let go = start_clock(plan)?;
    for thread in &threads {
        // A thread that has gone failed; joining it tells.
        let _ = thread.go.send(go.clone());
    }
    let stage = Stage(go.clone());
    let ended = std::thread::scope(|scope| {
        let beside = scope.spawn(|| beside(&stage));
        progress::watch(plan, &go.shared, || {
            go.shared.is_over() || threads.iter().all(|thread| thread.handle.is_finished())
        });
        beside.join()
    });
    let mut shares = Vec::new();
    for thread in threads {
        let share = thread.handle.join();
        shares.push(share.map_err(|_| anyhow!("a bench thread panicked"))??);
    }
    ended.map_err(|_| anyhow!("what goes on beside the run panicked"))??;
    go.shared.end_gaps();
    common.keep_state()?;
    let finished = gather::gather(&common, &go.shared, shares, started);
    if let Some(trace) = &go.trace {
        trace.finish()?;
    }
    Ok(finished)
}

/// A run that is under way, for what goes on beside it.
#[derive(Debug)]
pub(crate) struct Stage(Go);

impl Stage {
    /// When the warm-up is over.
    pub(crate) fn measured_from(&self) -> Instant {
        self.0.shared.measured_from()
    }

    /// A named stretch of the measured time begins now.
    pub(crate) fn begin_period(&self, name: &str, is_event: bool) {
        self.0.shared.begin_period(name, is_event);
    }

    /// All threads have ended: the planned time is over, or they failed.
    pub(crate) fn is_over(&self) -> bool {
        self.0.shared.is_over()
    }

    /// Nothing is started any more.
    pub(crate) fn stop(&self) {
        if let Until::Time(end) = &*self.0.until {
            end.stop();
        }
    }
}

impl Common {
    fn new(plan: &Plan) -> anyhow::Result<Self> {
        let mut plan = plan.clone();
        // Not earlier: versions have to be newer than those of the load before it.
        plan.task.version_base = version_base();
        let is_load = matches!(plan.work, Work::Load(_));
        let verifies = plan.verification.verify && !is_load;
        let state = match &plan.verification.state {
            Some(path) if verifies && path.exists() => Some(State::read(path, &state_key(&plan))?),
            _ => None,
        };
        if let Some(path) = &plan.verification.state {
            before_writing(path, state.as_ref(), is_load)?;
        }
        let task = &plan.task;
        let history = verifies.then(|| {
            Arc::new(History::new(
                task.layout,
                task.records,
                task.version_base,
                state,
            ))
        });
        Ok(Self {
            chooser: Chooser::new(plan.distribution, plan.task.records),
            plan,
            history,
        })
    }

    /// A run leaves its knowledge to the next one.
    fn keep_state(&self) -> anyhow::Result<()> {
        match (&self.plan.verification.state, &self.history) {
            (Some(path), Some(history)) => history.state(state_key(&self.plan)).write(path),
            _ => Ok(()),
        }
    }

    /// This thread's connections.
    async fn connect(&self, thread: usize) -> anyhow::Result<Vec<Session>> {
        let shape = self.plan.shape;
        let options = ConnectOptions {
            layout: self.plan.task.layout,
            inflight: shape.inflight,
            timeout: CONNECT_TIMEOUT,
        };
        let connections = (thread..shape.connections).step_by(shape.threads);
        try_join_all(connections.map(|_| self.plan.target.connect(&options))).await
    }

    fn thread(
        &self,
        thread: usize,
        ready: &mpsc::Sender<anyhow::Result<()>>,
        wait: &mpsc::Receiver<Go>,
    ) -> anyhow::Result<Share> {
        let connected = self.prepare(thread);
        let (local, runtime, sessions) = match connected {
            Ok(connected) => connected,
            Err(error) => {
                let _ = ready.send(Err(error));
                return Err(anyhow!("not connected"));
            }
        };
        let _ = ready.send(Ok(()));
        // Nobody sends when another thread could not connect.
        let go = wait.recv().context("another thread could not connect")?;
        local.block_on(&runtime, self.work(thread, &sessions, &go))
    }

    fn prepare(
        &self,
        thread: usize,
    ) -> anyhow::Result<(LocalSet, tokio::runtime::Runtime, Vec<Session>)> {
        if let Some(cpu) = self.plan.cpu_of(thread) {
            affinity::pin(cpu)?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("runtime")?;
        let local = LocalSet::new();
        let sessions = local.block_on(&runtime, self.connect(thread))?;
        Ok((local, runtime, sessions))
    }

    /// All workers of a thread, to their end.
    async fn work(&self, thread: usize, sessions: &[Session], go: &Go) -> anyhow::Result<Share> {
        let trace = go.trace.as_ref().map(|file| file.of_thread(thread));
        let recorder = Rc::new(RefCell::new(Recorder::new(
            Arc::clone(&go.shared),
            thread,
            trace,
        )));
        let pace = self.pace(thread, go, &recorder)?;
        let at_start = sample_at(go.shared.measured_from());
        let (workers, load_failure) = self
            .drive(self.workers(thread, sessions, &recorder), &pace)
            .await;
        let at_end = Sample::of_this_thread();
        let usage = at_start
            .take()
            .unwrap_or(at_end)
            .until(&at_end, self.plan.cpu_of(thread));
        go.shared.thread_ends();
        self.sweep(&workers, &go.shared).await;
        let recorder = recorder.replace(Recorder::new(Arc::clone(&go.shared), thread, None));
        Ok(Share {
            recorder,
            usage,
            retries: sessions.iter().map(Session::retries).sum(),
            load_failure,
        })
    }

    fn workers(
        &self,
        thread: usize,
        sessions: &[Session],
        recorder: &Rc<RefCell<Recorder>>,
    ) -> Vec<Worker> {
        let task = Arc::new(self.plan.task.clone());
        let shape = self.plan.shape;
        let mut workers = Vec::new();
        for (index, session) in sessions.iter().enumerate() {
            let connection = thread + index * shape.threads;
            for worker in 0..shape.inflight {
                workers.push(Worker::new(
                    Arc::clone(&task),
                    (connection * shape.inflight + worker) as u64,
                    session.clone(),
                    self.chooser.clone(),
                    self.history.clone(),
                    Rc::clone(recorder),
                ));
            }
        }
        workers
    }

    async fn drive(&self, workers: Vec<Worker>, pace: &Pace) -> (Vec<Worker>, Option<Failure>) {
        let ring = match pace {
            Pace::Open(gate) => {
                let gate = Rc::clone(gate);
                Some(tokio::task::spawn_local(async move { gate.ring().await }))
            }
            Pace::Closed(_) => None,
        };
        let work = self.plan.work;
        let running = workers.into_iter().map(|mut worker| {
            let pace = pace.clone();
            tokio::task::spawn_local(async move {
                let failure = match work {
                    Work::Load(loading) => worker.load(loading).await.err(),
                    Work::RunFor { .. } | Work::RunOperations(_) => {
                        worker.run(&pace).await;
                        None
                    }
                };
                (worker, failure)
            })
        });
        let running: Vec<_> = running.collect();
        let mut workers = Vec::new();
        let mut load_failure = None;
        for ended in join_all(running).await {
            let (worker, failure) = ended.expect("a worker that panics ends its thread");
            workers.push(worker);
            load_failure = load_failure.or(failure);
        }
        if let Some(ring) = ring {
            ring.abort();
        }
        (workers, load_failure)
    }

    fn pace(
        &self,
        thread: usize,
        go: &Go,
        recorder: &Rc<RefCell<Recorder>>,
    ) -> anyhow::Result<Pace> {
        let (Some(rate), Until::Time(end)) = (self.plan.rate, &*go.until) else {
            return Ok(Pace::Closed(Arc::clone(&go.until)));
        };
        let seed = self.plan.task.seed ^ (thread as u64 + 1).rotate_left(40);
        let schedule = Schedule::new(
            rate.arrival,
            rate.per_second,
            (thread, self.plan.shape.threads),
            go.shared.start(),
            SmallRng::seed_from_u64(seed),
        );
        let timeout = self.plan.task.timeout;
        let gate = Gate::new(schedule, Arc::clone(end), timeout, Rc::clone(recorder))?;
        Ok(Pace::Open(Rc::new(gate)))
    }

    /// Reads all records again that anything is known about, when no thread writes any more.
    async fn sweep(&self, workers: &[Worker], shared: &Shared) {
        const LOOK_EVERY: Duration = Duration::from_millis(5);
        let Some(history) = &self.history else {
            return;
        };
        while !shared.is_over() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let records = history.touched();
        let all = self.plan.shape.workers();
        let share = |number: u64| -> Vec<u64> {
            let first = usize::try_from(number).unwrap_or(usize::MAX);
            records.iter().skip(first).step_by(all).copied().collect()
        };
        let shares: Vec<Vec<u64>> = workers.iter().map(|it| share(it.number())).collect();
        let sweeps = workers.iter().zip(&shares);
        join_all(sweeps.map(|(worker, records)| worker.sweep(records))).await;
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Threads with all their connections open and routes known, so that neither is measured.
fn connect_threads(common: &Arc<Common>) -> anyhow::Result<Vec<Connected>> {
    let (ready, all_ready) = mpsc::channel();
    let mut threads = Vec::new();
    for index in 0..common.plan.shape.threads {
        let (go, wait) = mpsc::channel();
        let (common, ready) = (Arc::clone(common), ready.clone());
        let handle = std::thread::Builder::new()
            .name(format!("bench-{index}"))
            .spawn(move || common.thread(index, &ready, &wait))
            .context("bench thread")?;
        threads.push(Connected { go, handle });
    }
    drop(ready);
    for _ in &threads {
        all_ready.recv().context("a bench thread panicked")??;
    }
    Ok(threads)
}

fn start_clock(plan: &Plan) -> anyhow::Result<Go> {
    let warm_up = plan.warm_up();
    let trace = match &plan.trace {
        Some(path) => {
            let began = SystemTime::now() + warm_up;
            let began = began.duration_since(UNIX_EPOCH).unwrap_or_default();
            let nanoseconds = u64::try_from(began.as_nanos()).unwrap_or(u64::MAX);
            Some(TraceFile::create(path, nanoseconds)?)
        }
        None => None,
    };
    let start = Instant::now();
    let until = match plan.work {
        Work::RunFor { warm_up, time } => Until::Time(Arc::new(End::at(start + warm_up + time))),
        Work::RunOperations(count) => Until::Operations(AtomicU64::new(count)),
        Work::Load(_) => Until::Operations(AtomicU64::new(plan.task.records)),
    };
    Ok(Go {
        shared: Arc::new(Shared::new(start, warm_up, plan.shape.threads)),
        until: Arc::new(until),
        trace,
    })
}

/// Takes a sample of this thread's times at a moment; the cell holds it from then on.
fn sample_at(moment: Instant) -> Rc<std::cell::Cell<Option<Sample>>> {
    let cell = Rc::new(std::cell::Cell::new(None));
    if moment <= Instant::now() {
        cell.set(Some(Sample::of_this_thread()));
        return cell;
    }
    let later = Rc::clone(&cell);
    tokio::task::spawn_local(async move {
        tokio::time::sleep_until(moment.into()).await;
        later.set(Some(Sample::of_this_thread()));
    });
    cell
}

fn state_key(plan: &Plan) -> StateKey {
    StateKey {
        target: plan.target.to_string(),
        layout: plan.task.layout,
        records: plan.task.records,
    }
}

/// A state file must not claim more than is true while records change.
fn before_writing(path: &Path, state: Option<&State>, is_load: bool) -> anyhow::Result<()> {
    match state {
        _ if is_load => match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| path.display().to_string())
            }
            _ => Ok(()),
        },
        Some(state) => state.begun().write(path),
        None => Ok(()),
    }
}

/// After a load that is complete: every record is as it wrote it.
///
/// # Errors
/// Names the file that cannot be written.
pub(crate) fn keep_loaded_state(plan: &Plan) -> anyhow::Result<()> {
    match &plan.verification.state {
        Some(path) => State::loaded(state_key(plan)).write(path),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;

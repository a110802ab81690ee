//! How one operation gets its answer: attempts, retries and the deadline over all of them.
//!
//! ```text
//! attempt --- answer ------------------------------> done
//!    |------- refused, not executed ---- retry* ---> attempt      (redirected, refreshed, after a pause)
//!    |------- never sent --------------- retry* ---> attempt
//!    |------- sent, connection lost ---- read, or a write with leave to: attempt; another write: Unknown
//!    |------- sent, partition moved ---- read, or a write with leave to: attempt at once; another write waits on
//!    '------- deadline ----------------- sent or ambiguous write: Unknown; otherwise NotExecuted
//!  * unless so little time is left that a write would more likely become unknown than answered
//! ```

use crate::encode::RequestId;
use crate::endpoint::{DialOptions, Endpoint, Endpoints};
use crate::error::{Error, Result};
use crate::options::ClientOptions;
use crate::pipeline::Body;
use crate::route::{Router, Routers, Routes};
use bytes::Bytes;
use pegasus_fbs::body::FailureBody;
use pegasus_fbs::code::Code;
use pegasus_fbs::frame::{BODY_BYTES_MAX, FrameKind};
use rand::Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{Instant, sleep_until};

mod attempt;
mod progress;

pub(crate) use attempt::exchange;
use attempt::{send, too_large};
use progress::{Next, Pause, Progress};

/// What all handles of a client share: addresses and connections.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) options: ClientOptions,
    endpoints: Endpoints,
    routers: Arc<Routers>,
    /// Held while routes are fetched.
    fetching: AsyncMutex<()>,
    seeds: Vec<Arc<Endpoint>>,
    /// The configured address that answered last is asked first.
    preferred: AtomicUsize,
    /// Identifies this client in request ids, at random.
    client_id: u64,
    sequence: AtomicU64,
    /// Attempts that were followed by another one.
    retries: AtomicU64,
}

/// Whether repeating an operation can do harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Read,
    Write,
}

/// Which partition an operation goes to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    Hash(u64),
    Partition(u32),
}

/// One operation, independent of where it will be sent.
#[derive(Clone, Copy)]
pub(crate) struct Operation<'a> {
    pub(crate) kind: FrameKind,
    pub(crate) class: Class,
    pub(crate) target: Target,
    pub(crate) weight: usize,
    pub(crate) body: Body<'a>,
}

/// What the caller chose for one operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallOptions {
    pub(crate) timeout: Duration,
    pub(crate) refusal_timeout: Duration,
    pub(crate) retry_unknown: bool,
}

/// A definite answer.
#[derive(Debug)]
pub(crate) enum Answer {
    Body(Bytes),
    NotFound,
}

/// Why one attempt brought no answer.
#[derive(Debug)]
pub(crate) enum Problem {
    /// No byte of it was sent.
    Unsent(String),
    /// It was sent, and the connection ended.
    Lost(String),
    /// The server said no.
    Refused(FailureBody),
    /// The deadline has passed.
    Expired,
    /// The partition has left the core that was asked.
    Moved { sent: bool },
}

/// When an operation has to end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) deadline: Instant,
    /// Nothing leaves after this: with so little time left, a refusal that is certain is worth more.
    pub(crate) start_by: Instant,
}

/// Far beyond what pauses leave room for within any sensible deadline.
const ATTEMPTS_MAX: u32 = 10_000;
const PAUSE_MIN: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// While a failover may be under way: it takes less than a second, and the first attempt after it should follow soon.
const PAUSE_MAX_AT_FIRST: Duration = Duration::from_millis(25);
const AT_FIRST: Duration = Duration::from_secs(1);
/// A write that is not started so long before its deadline is not started.
const START_BEFORE: Duration = Duration::from_millis(5);
/// Longer than anybody waits, short enough to add to any time.
const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 3_600);
/// Routes are not waited for any longer than this: the primary that is known may answer again.
const REFRESH_WAIT_MAX: Duration = Duration::from_millis(200);

impl Driver {
    pub(crate) fn new(options: ClientOptions) -> Self {
        let routers = Arc::<Routers>::default();
        let dial = DialOptions {
            connect_timeout: options.connect_timeout,
            inflight_max: options.inflight_max,
            routers: Arc::clone(&routers),
        };
        let endpoints = Endpoints::new(dial);
        let seeds = options
            .addresses
            .iter()
            .map(|address| endpoints.at(address))
            .collect();
        Self {
            options,
            endpoints,
            routers,
            fetching: AsyncMutex::default(),
            seeds,
            preferred: AtomicUsize::new(0),
            client_id: rand::rng().random_range(1..=u64::MAX),
            sequence: AtomicU64::new(0),
            retries: AtomicU64::new(0),
        }
    }

    /// A new identity for a write that may be sent more than once.
    pub(crate) fn next_request_id(&self) -> RequestId {
        RequestId {
            client: self.client_id,
            sequence: self.sequence.fetch_add(1, Ordering::Relaxed) + 1,
        }
    }

    pub(crate) fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    pub(crate) fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    pub(crate) fn routers(&self) -> &Routers {
        &self.routers
    }

    /// Held while routes are fetched: a client with many tables asks for one after the other.
    pub(crate) fn fetching(&self) -> &AsyncMutex<()> {
        &self.fetching
    }

    /// The configured addresses, the one that answered last first.
    pub(crate) fn seeds(&self) -> Vec<Arc<Endpoint>> {
        let mut seeds = self.seeds.clone();
        let first = self.preferred.load(Ordering::Relaxed);
        seeds.rotate_left(first.min(self.seeds.len()));
        seeds
    }

    pub(crate) fn prefer_seed(&self, endpoint: &Arc<Endpoint>) {
        if let Some(index) = self
            .seeds
            .iter()
            .position(|seed| Arc::ptr_eq(seed, endpoint))
        {
            self.preferred.store(index, Ordering::Relaxed);
        }
    }
}

/// Runs one data operation until it has an answer, a final refusal, or no time left.
pub(crate) async fn call(
    router: &Arc<Router>,
    operation: Operation<'_>,
    options: CallOptions,
) -> Result<Answer> {
    if operation.weight > BODY_BYTES_MAX {
        return Err(Error::failed(
            Code::TooLarge,
            too_large(operation.weight).message,
        ));
    }
    let started = Instant::now();
    let limits = Limits::new(started, options.timeout);
    let mut progress = Progress::new(operation.class, options, started);
    let result = attempts(router, operation, limits, &mut progress).await;
    if result.is_err() && progress.sent {
        // Nobody answered: the partition may have moved. The next operation should not find out the same way.
        router.refresh_in_background();
    }
    result
}

async fn attempts(
    router: &Arc<Router>,
    operation: Operation<'_>,
    limits: Limits,
    progress: &mut Progress,
) -> Result<Answer> {
    let mut left = progress.time_limit();
    for attempt in 0..ATTEMPTS_MAX {
        let routes = router.routes();
        let partition = partition_of(operation.target, &routes, router.name())?;
        let primary = routes.primary(partition);
        let sent = match &primary {
            Some(primary) => {
                let place = (routes.table_id, partition);
                send(router, primary, place, operation, limits, left, progress).await
            }
            None => Err(Problem::Unsent(format!(
                "partition {}.{partition} has no primary",
                routes.table_id
            ))),
        };
        let problem = match sent {
            Ok(answer) => return Ok(answer),
            Err(problem) => problem,
        };
        let mut next = progress.judge(problem)?;
        router.driver().retries.fetch_add(1, Ordering::Relaxed);
        if let Some(primary) = &primary {
            learn(router, &routes, partition, primary, &mut next);
        }
        if let Pause::AtLeast(retry_after) = next.pause {
            let Some(end) = pause_end(attempt, &next, retry_after, limits, progress) else {
                break;
            };
            if next.refresh {
                let limit = limits.start_by.min(Instant::now() + REFRESH_WAIT_MAX);
                let refreshed = router.refresh(routes.generation, limit).await;
                refreshed.map_err(|error| progress.final_error(error))?;
            }
            sleep_until(end).await;
        }
        let now = Instant::now();
        if now >= limits.start_by {
            break;
        }
        left = limits.deadline - now;
    }
    Err(progress.give_up())
}

/// What an answer of the core that was thought to be primary says about routes.
fn learn(
    router: &Router,
    routes: &Routes,
    partition: u32,
    primary: &Arc<Endpoint>,
    next: &mut Next,
) {
    if let Some((address, ballot)) = next.redirect.take()
        && !router.redirect(partition, primary, &address, ballot)
    {
        *next = Next::refresh(Duration::ZERO);
    }
    if next.refresh {
        router.routes().doubt(partition, primary);
    }
    if next.disown {
        routes.disown();
    }
}

/// When to try again; `None` = there is no time for that.
fn pause_end(
    attempt: u32,
    next: &Next,
    retry_after: Duration,
    limits: Limits,
    progress: &Progress,
) -> Option<Instant> {
    let now = Instant::now();
    let left = limits.start_by.saturating_duration_since(now);
    if retry_after >= left || left < PAUSE_MIN {
        return None;
    }
    let longest = if next.refresh && progress.elapsed(now) < AT_FIRST {
        PAUSE_MAX_AT_FIRST
    } else {
        PAUSE_MAX
    };
    // Towards the end shorter and shorter: the last attempt is not given away.
    Some(now + backoff(attempt, longest).min(left / 2).max(retry_after))
}

impl Limits {
    pub(crate) fn new(started: Instant, timeout: Duration) -> Self {
        let deadline = started + timeout.min(TIMEOUT_MAX);
        Self {
            deadline,
            start_by: deadline - START_BEFORE.min(timeout / 4),
        }
    }
}

fn partition_of(target: Target, routes: &Routes, table: &str) -> Result<u32> {
    let count = routes.partition_count();
    match target {
        Target::Hash(hash) => Ok(u32::try_from(hash % u64::from(count.max(1))).unwrap_or(0)),
        Target::Partition(index) if index < count => Ok(index),
        Target::Partition(index) => {
            let message = format!("partition {index} of table {table:?}, which has {count}");
            Err(Error::failed(Code::InvalidArgument, message))
        }
    }
}

/// Doubles from 2 ms to `longest`, at random between half and whole of it, so that clients do not come back in step.
fn backoff(attempt: u32, longest: Duration) -> Duration {
    let whole = PAUSE_MIN.saturating_mul(1 << attempt.min(10)).min(longest);
    whole.mul_f64(rand::rng().random_range(0.5..1.0))
}

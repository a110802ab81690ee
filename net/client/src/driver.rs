//! How one operation gets its answer: attempts, retries and the deadline over all of them.
//!
//! ```text
//! attempt --- answer ------------------------------> done
//!    |------- refused, not executed ---- retry* ---> attempt      (redirected, refreshed, after a pause)
//!    |------- never sent --------------- retry* ---> attempt
//!    |------- sent, connection lost ---- read, or a write with leave to: attempt; another write: Unknown
//!    '------- deadline ----------------- sent or ambiguous write: Unknown; otherwise NotExecuted
//!  * within the deadline and ATTEMPTS_MAX
//! ```

use crate::encode::RequestId;
use crate::endpoint::{DialOptions, Endpoint, Endpoints};
use crate::error::{Error, Result};
use crate::options::ClientOptions;
use crate::pending::Lost;
use crate::pipeline::{Body, Pipeline, Request};
use crate::route::{Router, Routes};
use bytes::Bytes;
use pegasus_fbs::body::FailureBody;
use pegasus_fbs::code::Code;
use pegasus_fbs::frame::{BODY_BYTES_MAX, FrameKind, Header};
use rand::Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

mod progress;

use progress::{Pause, Progress};

/// What all handles of a client share: addresses and connections.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) options: ClientOptions,
    endpoints: Endpoints,
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
}

const ATTEMPTS_MAX: u32 = 100;
const PAUSE_MIN: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(100);

impl Driver {
    pub(crate) fn new(options: ClientOptions) -> Self {
        let dial = DialOptions {
            connect_timeout: options.connect_timeout,
            inflight_max: options.inflight_max,
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
    let deadline = started + options.timeout;
    let mut progress = Progress::new(operation.class, options, started);
    let result = attempts(router, operation, deadline, &mut progress).await;
    if result.is_err() && progress.sent {
        // Nobody answered: the partition may have moved. The next operation should not find out the same way.
        router.refresh_in_background();
    }
    result
}

async fn attempts(
    router: &Arc<Router>,
    operation: Operation<'_>,
    deadline: Instant,
    progress: &mut Progress,
) -> Result<Answer> {
    let mut left = progress.time_limit();
    for attempt in 0..ATTEMPTS_MAX {
        let routes = router.routes();
        let partition = partition_of(operation.target, &routes, router.name())?;
        let problem = match send(&routes, partition, operation, deadline, left, progress).await {
            Ok(answer) => return Ok(answer),
            Err(Problem::Expired) => return Err(progress.expired()),
            Err(problem) => problem,
        };
        let next = progress.judge(problem)?;
        router.driver().retries.fetch_add(1, Ordering::Relaxed);
        if let Pause::AtLeast(retry_after) = next.pause {
            let pause = backoff(attempt).max(retry_after);
            if Instant::now() + pause >= deadline {
                break;
            }
            if next.refresh {
                match timeout_at(deadline, router.refresh(routes.generation)).await {
                    Ok(refreshed) => refreshed.map_err(|error| progress.final_error(error))?,
                    Err(_) => return Err(progress.expired()),
                }
            }
            if timeout_at(deadline, sleep(pause)).await.is_err() {
                return Err(progress.expired());
            }
        }
        left = deadline.saturating_duration_since(Instant::now());
        if let Some(address) = next.redirect {
            router
                .routes()
                .set_primary(partition, router.driver().endpoints().at(&address));
        }
    }
    Err(progress.give_up())
}

async fn send(
    routes: &Routes,
    partition: u32,
    operation: Operation<'_>,
    deadline: Instant,
    left: Duration,
    progress: &mut Progress,
) -> std::result::Result<Answer, Problem> {
    let Some(endpoint) = routes.primary(partition) else {
        return Err(Problem::Unsent(format!(
            "partition {}.{partition} has no primary",
            routes.table_id
        )));
    };
    let header = Header::request(operation.kind, 0)
        .to_partition(routes.table_id, partition)
        .with_timeout_ms(u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1));
    progress.sent = false;
    exchange(
        &endpoint,
        header,
        Some(operation.body),
        operation.weight,
        Some(deadline),
        || progress.sent = true,
    )
    .await
}

/// One request to one address, and its answer; without a `deadline` the caller bounds the time. `on_sent` is called when the request may leave from then on.
pub(crate) async fn exchange(
    endpoint: &Endpoint,
    header: Header,
    body: Option<Body<'_>>,
    weight: usize,
    deadline: Option<Instant>,
    on_sent: impl FnOnce(),
) -> std::result::Result<Answer, Problem> {
    let pipeline = match endpoint.open_connection() {
        Some(pipeline) => pipeline,
        None => connect(endpoint, deadline).await?,
    };
    let frame = match pipeline
        .request(
            Request {
                header,
                body,
                weight,
                deadline,
            },
            on_sent,
        )
        .await
    {
        Ok(frame) => frame,
        Err(Lost::Unsent(reason)) => {
            return Err(Problem::Unsent(format!("{}: {reason}", endpoint.address())));
        }
        Err(Lost::TooLarge(bytes)) => return Err(Problem::Refused(too_large(bytes))),
        Err(Lost::Sent(reason)) => {
            return Err(Problem::Lost(format!("{}: {reason}", endpoint.address())));
        }
        Err(Lost::Expired) => return Err(Problem::Expired),
    };
    if !frame.header.is_failure() {
        return Ok(Answer::Body(frame.body));
    }
    match FailureBody::read(&frame.body) {
        Ok(failure) if failure.code == Code::NotFound => Ok(Answer::NotFound),
        Ok(failure) => Err(Problem::Refused(failure)),
        Err(error) => Err(Problem::Lost(format!("{}: {error}", endpoint.address()))),
    }
}

async fn connect(
    endpoint: &Endpoint,
    deadline: Option<Instant>,
) -> std::result::Result<Arc<Pipeline>, Problem> {
    let connected = match deadline {
        Some(deadline) => timeout_at(deadline, endpoint.connect())
            .await
            .map_err(|_| Problem::Expired)?,
        None => endpoint.connect().await,
    };
    connected.map_err(Problem::Unsent)
}

/// The answer the server would give, without sending it that much.
fn too_large(bytes: usize) -> FailureBody {
    FailureBody {
        code: Code::TooLarge,
        message: format!("request of {bytes} bytes, the limit is {BODY_BYTES_MAX}"),
        retry_after: Duration::ZERO,
        primary: String::new(),
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

/// Doubles from 2 ms to 100 ms, at random between half and whole of it, so that clients do not come back in step.
fn backoff(attempt: u32) -> Duration {
    let whole = PAUSE_MIN
        .saturating_mul(1 << attempt.min(10))
        .min(PAUSE_MAX);
    whole.mul_f64(rand::rng().random_range(0.5..1.0))
}

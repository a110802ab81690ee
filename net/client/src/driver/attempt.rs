//! One attempt: one request to one core, and its answer.

use super::progress::Progress;
use super::{Answer, Class, Limits, Operation, Problem};
use crate::endpoint::Endpoint;
use crate::pending::Lost;
use crate::pipeline::{Pipeline, Request};
use crate::route::Router;
use pegasus_fbs::body::FailureBody;
use pegasus_fbs::code::Code;
use pegasus_fbs::frame::{BODY_BYTES_MAX, Header};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// A host that vanished refuses nothing: dialling it for so long is silence too.
const SILENT_AFTER: Duration = Duration::from_millis(300);
/// How often somebody who waits for a silent host then looks whether the partition has moved.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Sends an operation to the core `primary` of its partition (table, index), with `left` of its time.
pub(super) async fn send(
    router: &Arc<Router>,
    primary: &Arc<Endpoint>,
    (table, partition): (u32, u32),
    operation: Operation<'_>,
    limits: Limits,
    left: Duration,
    progress: &mut Progress,
) -> Result<Answer, Problem> {
    progress.sent = false;
    let pipeline = match primary.open_connection() {
        Some(pipeline) => pipeline,
        None => Box::pin(connect(router, primary, partition, limits)).await?,
    };
    let header = Header::request(operation.kind, 0)
        .to_partition(table, partition)
        .with_timeout_ms(u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1));
    let request = Request {
        header,
        body: Some(operation.body),
        weight: operation.weight,
        deadline: Some(limits.deadline),
        start_by: Some(limits.start_by),
        repeatable: operation.class == Class::Read || progress.may_repeat_unknown(),
    };
    ask(&pipeline, primary, request, || progress.sent = true).await
}

/// One request to one address, and its answer; the caller bounds the time. `on_sent` is called when the request may leave
/// from then on.
pub(crate) async fn exchange(
    endpoint: &Endpoint,
    request: Request<'_>,
    on_sent: impl FnOnce(),
) -> Result<Answer, Problem> {
    let pipeline = match endpoint.open_connection() {
        Some(pipeline) => pipeline,
        None => endpoint.connect().await.map_err(Problem::Unsent)?,
    };
    if request
        .start_by
        .is_some_and(|limit| Instant::now() >= limit)
    {
        return Err(Problem::Expired);
    }
    ask(&pipeline, endpoint, request, on_sent).await
}

async fn ask(
    pipeline: &Pipeline,
    endpoint: &Endpoint,
    request: Request<'_>,
    on_sent: impl FnOnce(),
) -> Result<Answer, Problem> {
    let frame = match pipeline.request(request, on_sent).await {
        Ok(frame) => frame,
        Err(lost) => return Err(problem_of(lost, endpoint)),
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

fn problem_of(lost: Lost, endpoint: &Endpoint) -> Problem {
    let address = endpoint.address();
    match lost {
        Lost::Unsent(reason) => Problem::Unsent(format!("{address}: {reason}")),
        Lost::TooLarge(bytes) => Problem::Refused(too_large(bytes)),
        Lost::Sent(reason) => Problem::Lost(format!("{address}: {reason}")),
        Lost::Expired => Problem::Expired,
        Lost::Moved { sent } => Problem::Moved { sent },
    }
}

/// Waits for a connection until it is there, the partition has moved, or it is too late to send anything.
async fn connect(
    router: &Arc<Router>,
    primary: &Arc<Endpoint>,
    partition: u32,
    limits: Limits,
) -> Result<Arc<Pipeline>, Problem> {
    let mut connected = pin!(primary.connect());
    let mut look_at = Instant::now() + SILENT_AFTER;
    loop {
        tokio::select! {
            biased;
            connected = &mut connected => return connected.map_err(Problem::Unsent),
            () = sleep_until(look_at.min(limits.start_by)) => {}
        }
        let now = Instant::now();
        if now >= limits.start_by {
            return Err(Problem::Expired);
        }
        look_at = now + LOOK_INTERVAL;
        if router.is_elsewhere(partition, primary) {
            return Err(Problem::Moved { sent: false });
        }
        router.refresh_in_background();
    }
}

/// The answer the server would give, without sending it that much.
pub(super) fn too_large(bytes: usize) -> FailureBody {
    FailureBody {
        code: Code::TooLarge,
        message: format!("request of {bytes} bytes, the limit is {BODY_BYTES_MAX}"),
        retry_after: Duration::ZERO,
        primary: String::new(),
        ballot: 0,
    }
}

//! One connection to one core: requests leave in batches, replies arrive in any order.
//!
//! Requests are encoded straight into a shared outgoing buffer. One task owns the socket; when it wakes it writes
//! everything that has gathered with one call, so the busier the connection the larger its writes.

use crate::pending::{Lost, Outcome, Pending, Terms};
use crate::route::Routers;
use bytes::BytesMut;
use pegasus_fbs::flatbuffers::FlatBufferBuilder;
use pegasus_fbs::frame::{BODY_BYTES_MAX, Frame, FrameKind, Header, encode_frame};
use std::cell::RefCell;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

mod silence;
mod socket;

use silence::{Finding, LOOK_INTERVAL, Silence};

/// Builds a request body: creates the root table and finishes it.
pub(crate) type Body<'a> = &'a (dyn Fn(&mut FlatBufferBuilder<'static>) + Sync);

/// A request's address and size on one connection.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    /// The id is filled in here.
    pub(crate) header: Header,
    /// `None` = an empty body.
    pub(crate) body: Option<Body<'a>>,
    /// About how many bytes the body has; decides how many places in flight it takes.
    pub(crate) weight: usize,
    /// When the asker has no use for an answer any more; `None` if the asker sees to that.
    pub(crate) deadline: Option<Instant>,
    /// When it must have left, or it does not leave at all.
    pub(crate) start_by: Option<Instant>,
    /// Whether it may be sent to another core although this one may have executed it.
    pub(crate) repeatable: bool,
}

impl<'a> Request<'a> {
    /// A request for no partition, whose asker bounds the time.
    pub(crate) fn unbounded(header: Header, body: Option<Body<'a>>) -> Self {
        Self {
            header,
            body,
            weight: 0,
            deadline: None,
            start_by: None,
            repeatable: true,
        }
    }
}

/// How a connection is used.
#[derive(Clone, Debug)]
pub(crate) struct PipelineOptions {
    pub(crate) places_max: usize,
    /// Of the server, to see which partitions are still there.
    pub(crate) address: String,
    pub(crate) routers: Arc<Routers>,
}

/// One open connection. Dropping the last handle closes it.
#[derive(Debug)]
pub(crate) struct Pipeline {
    shared: Arc<Shared>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Wakes the task that owns the socket: there is something to write.
    written: Notify,
    /// Wakes the same task: something is due earlier than it knows.
    timed: Notify,
    /// Wakes requests that were not sent yet: the server was heard again, the connection has ended, or their partition
    /// may be elsewhere.
    turned: Notify,
    closed: AtomicBool,
    places: Semaphore,
    options: PipelineOptions,
}

#[derive(Debug)]
struct State {
    outgoing: BytesMut,
    pending: Pending,
    /// Number of the newest request whose bytes were given to the socket.
    sent_upto: u64,
    silence: Silence,
    /// The earliest deadline there was when the task last looked, or an earlier one since.
    next_deadline: Option<Instant>,
    /// When the task looks after deadlines and silence; `None` = nobody waits.
    next_check: Option<Instant>,
    /// Why the connection ended; nothing is accepted any more.
    closed: Option<String>,
}

/// A request takes one more place for each so many bytes.
const BYTES_PER_PLACE: usize = 16 << 10;
const BUFFER_BYTES: usize = 64 << 10;
/// A buffer that grew beyond this is not kept.
const BUFFER_BYTES_KEPT: usize = 1 << 20;
/// The probe's id; requests have none below 2^32.
const PROBE_ID: u64 = 0;

impl Pipeline {
    /// Takes over a connected socket; must be called within a tokio runtime.
    pub(crate) fn new(stream: TcpStream, options: PipelineOptions) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                outgoing: BytesMut::with_capacity(BUFFER_BYTES),
                pending: Pending::default(),
                sent_upto: 0,
                silence: Silence::new(Instant::now()),
                next_deadline: None,
                next_check: None,
                closed: None,
            }),
            written: Notify::new(),
            timed: Notify::new(),
            turned: Notify::new(),
            closed: AtomicBool::new(false),
            places: Semaphore::new(options.places_max),
            options,
        });
        let task = tokio::spawn(socket::run(stream, Arc::clone(&shared))).abort_handle();
        Self { shared, task }
    }

    /// Whether new requests would be refused.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }

    /// Whether the server owes answers and has said nothing for 300 ms.
    pub(crate) fn is_silent(&self) -> bool {
        self.shared.lock().silence.is_silent()
    }

    /// Some partitions have moved to another core: requests for them that may be repeated end, so that they are.
    pub(crate) fn leave_moved(&self) {
        self.shared.leave_moved();
    }

    /// Sends one request and waits for its reply until its deadline; without one the caller sees to that, and dropping
    /// the future gives the request up. A timer of its own for each request would cost more than all else here: the
    /// connection's task has one for all of them. `on_sent` is called when the request may leave from then on.
    pub(crate) async fn request(&self, request: Request<'_>, on_sent: impl FnOnce()) -> Outcome {
        let places_max = self.shared.options.places_max;
        let places = (1 + request.weight / BYTES_PER_PLACE).min(places_max);
        let places = u32::try_from(places).unwrap_or(u32::MAX);
        let _permit = match self.shared.places.try_acquire_many(places) {
            Ok(permit) => permit,
            Err(_) => Box::pin(self.shared.wait_for_places(places, &request)).await?,
        };
        let (id, receiver) = match self.shared.enqueue(&request)? {
            Some(enqueued) => enqueued,
            None => Box::pin(self.shared.enqueue_when_heard(&request)).await?,
        };
        on_sent();
        let mut registered = Registered {
            shared: &self.shared,
            id: Some(id),
        };
        let outcome = receiver.await;
        registered.id = None;
        outcome.unwrap_or_else(|_| Err(Lost::Sent("connection task ended".into())))
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.task.abort();
        self.shared.close("connection no longer used");
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the state is locked; if something did, the state is still consistent enough to close.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn wait_for_places(
        &self,
        places: u32,
        request: &Request<'_>,
    ) -> Result<SemaphorePermit<'_>, Lost> {
        let mut acquired = pin!(self.places.acquire_many(places));
        loop {
            tokio::select! {
                biased;
                turned = until(request.start_by, self.turned.notified()) => turned?,
                acquired = &mut acquired => {
                    return acquired.map_err(|_| Lost::Unsent("connection closed".into()));
                }
            }
            self.check_still_here(request)?;
        }
    }

    /// Holds a request back while the server is silent: what was never sent can be sent to the next primary.
    async fn enqueue_when_heard(&self, request: &Request<'_>) -> Result<Enqueued, Lost> {
        loop {
            let mut turned = pin!(self.turned.notified());
            turned.as_mut().enable();
            if let Some(enqueued) = self.enqueue(request)? {
                return Ok(enqueued);
            }
            self.check_still_here(request)?;
            until(request.start_by, turned).await?;
        }
    }

    fn check_still_here(&self, request: &Request<'_>) -> Result<(), Lost> {
        let (table, partition) = (request.header.table, request.header.partition);
        let routes = self.options.routers.snapshot();
        if routes.is_elsewhere(table, partition, &self.options.address) {
            return Err(Lost::Moved { sent: false });
        }
        Ok(())
    }

    /// `None`: not now, the server is silent and the request could not be taken back.
    fn enqueue(&self, request: &Request<'_>) -> Result<Option<Enqueued>, Lost> {
        let Some(build) = request.body else {
            return self.enqueue_body(request, &[]);
        };
        with_builder(build, |body| self.enqueue_body(request, body))
    }

    fn enqueue_body(&self, request: &Request<'_>, body: &[u8]) -> Result<Option<Enqueued>, Lost> {
        if body.len() > BODY_BYTES_MAX {
            return Err(Lost::TooLarge(body.len()));
        }
        let (sender, receiver) = oneshot::channel();
        let mut state = self.lock();
        if let Some(reason) = &state.closed {
            return Err(Lost::Unsent(reason.clone()));
        }
        if !request.repeatable && state.silence.is_silent() {
            return Ok(None);
        }
        let terms = Terms {
            deadline: request.deadline,
            table: request.header.table,
            partition: request.header.partition,
            repeatable: request.repeatable,
        };
        let request_id = state.pending.insert(terms, sender);
        if state.is_due_earlier(request.deadline) {
            self.timed.notify_one();
        }
        if state.outgoing.is_empty() {
            self.written.notify_one();
        }
        encode_frame(
            &mut state.outgoing,
            &Header {
                request_id,
                ..request.header
            },
            body,
        );
        Ok(Some((request_id, receiver)))
    }

    fn close(&self, reason: &str) {
        let mut state = self.lock();
        if state.closed.is_none() {
            state.closed = Some(reason.to_owned());
        }
        self.closed.store(true, Ordering::Release);
        let sent_upto = state.sent_upto;
        state.pending.fail_all(sent_upto, reason);
        state.outgoing = BytesMut::new();
        drop(state);
        self.places.close();
        self.turned.notify_waiters();
    }

    fn handle(&self, frame: Frame) -> io::Result<()> {
        if !frame.header.is_reply() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "server sent a request",
            ));
        }
        let waiting = self.lock().pending.take(frame.header.request_id);
        if let Some(sender) = waiting {
            // The asker may have gone in this moment; its answer is then of no use.
            let _ = sender.send(Ok(frame));
        }
        Ok(())
    }

    fn on_received(&self) {
        if self.lock().silence.end() {
            self.turned.notify_waiters();
        }
    }

    /// Ends requests whose deadline has come, and follows up a silence.
    fn check(&self) -> io::Result<()> {
        let finding = self.lock().check(Instant::now());
        match finding {
            Finding::Alive => {}
            Finding::Probe => self.probe(),
            Finding::Silent => {
                self.options.routers.on_silence(&self.options.address);
                self.leave_moved();
            }
            Finding::Dead => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "server is silent"));
            }
        }
        Ok(())
    }

    fn probe(&self) {
        let mut state = self.lock();
        if state.outgoing.is_empty() {
            self.written.notify_one();
        }
        encode_frame(
            &mut state.outgoing,
            &Header::request(FrameKind::Ping, PROBE_ID),
            &[],
        );
    }

    /// Routes are looked up without the lock: a router that goes away may drop connections, and with them take locks.
    fn leave_moved(&self) {
        self.turned.notify_waiters();
        let repeatable = self.lock().pending.repeatable();
        if repeatable.is_empty() {
            return;
        }
        let routes = self.options.routers.snapshot();
        for (id, table, partition) in repeatable {
            if !routes.is_elsewhere(table, partition, &self.options.address) {
                continue;
            }
            if let Some(sender) = self.lock().pending.take(id) {
                let _ = sender.send(Err(Lost::Moved { sent: true }));
            }
        }
    }
}

impl State {
    /// Notes a new request's deadline; says whether the task has to look earlier than it would.
    fn is_due_earlier(&mut self, deadline: Option<Instant>) -> bool {
        if let Some(deadline) = deadline
            && self.next_deadline.is_none_or(|next| deadline < next)
        {
            self.next_deadline = Some(deadline);
        }
        let due = match self.next_check {
            None => {
                let now = Instant::now();
                self.silence.begin(now);
                earlier(now + LOOK_INTERVAL, deadline)
            }
            Some(next) => earlier(next, deadline),
        };
        let is_earlier = self.next_check != Some(due);
        self.next_check = Some(due);
        is_earlier
    }

    fn check(&mut self, now: Instant) -> Finding {
        if self.next_deadline.is_some_and(|next| next <= now) {
            self.next_deadline = self.pending.expire(now);
        }
        // Requests that are held back are not pending, but wait for the end of the silence.
        if self.pending.is_empty() && !self.silence.is_silent() {
            // The last of them may have just ended at its deadline.
            let finding = self.silence.look(now);
            self.next_deadline = None;
            self.next_check = (finding == Finding::Silent).then(|| now + LOOK_INTERVAL);
            return finding;
        }
        self.next_check = Some(earlier(now + LOOK_INTERVAL, self.next_deadline));
        self.silence.look(now)
    }
}

type Enqueued = (u64, oneshot::Receiver<Outcome>);

fn earlier(due: Instant, deadline: Option<Instant>) -> Instant {
    deadline.map_or(due, |deadline| deadline.min(due))
}

/// Waits until `limit`, if there is one.
async fn until<T>(limit: Option<Instant>, done: impl Future<Output = T>) -> Result<T, Lost> {
    match limit {
        Some(limit) => timeout_at(limit, done).await.map_err(|_| Lost::Expired),
        None => Ok(done.await),
    }
}

/// Forgets a request whose asker has gone.
struct Registered<'a> {
    shared: &'a Shared,
    id: Option<u64>,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.shared.lock().pending.take(id);
        }
    }
}

/// Builds a body with this thread's FlatBuffers builder, whose memory is used again, and hands it to `use_body`.
fn with_builder<T>(build: Body<'_>, use_body: impl FnOnce(&[u8]) -> T) -> T {
    thread_local! {
        static BUILDER: RefCell<FlatBufferBuilder<'static>> = RefCell::new(FlatBufferBuilder::with_capacity(1 << 10));
    }
    BUILDER.with_borrow_mut(|builder| {
        builder.reset();
        build(builder);
        let result = use_body(builder.finished_data());
        if builder.finished_data().len() > BUFFER_BYTES_KEPT {
            *builder = FlatBufferBuilder::with_capacity(1 << 10);
        }
        result
    })
}

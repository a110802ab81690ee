//! One connection to one core: requests leave in batches, replies arrive in any order.
//!
//! Requests are encoded straight into a shared outgoing buffer. One task owns the socket; when it wakes it writes
//! everything that has gathered with one call, so the busier the connection the larger its writes.

use crate::pending::{Lost, Outcome, Pending};
use bytes::BytesMut;
use pegasus_fbs::flatbuffers::FlatBufferBuilder;
use pegasus_fbs::frame::{
    BODY_BYTES_MAX, Decoder, Frame, FrameKind, HEADER_BYTES, Header, encode_frame,
};
use std::cell::RefCell;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{Notify, Semaphore, SemaphorePermit, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at};

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
    /// Wakes the same task: a deadline comes earlier than it knows.
    timed: Notify,
    closed: AtomicBool,
    places: Semaphore,
    places_max: usize,
}

#[derive(Debug)]
struct State {
    outgoing: BytesMut,
    pending: Pending,
    /// Number of the newest request whose bytes were given to the socket.
    sent_upto: u64,
    last_received: Instant,
    /// When the task looks for requests whose deadline has come.
    next_check: Option<Instant>,
    /// Why the connection ended; nothing is accepted any more.
    closed: Option<String>,
}

/// A request takes one more place for each so many bytes.
const BYTES_PER_PLACE: usize = 16 << 10;
const BUFFER_BYTES: usize = 64 << 10;
/// A buffer that grew beyond this is not kept.
const BUFFER_BYTES_KEPT: usize = 1 << 20;
/// A server that owes replies and is silent for so long is asked for a sign of life, and given up after the second time.
/// Without it a host that vanished would look like a slow one until TCP gives up, a quarter of an hour later.
const PROBE_AFTER: Duration = Duration::from_secs(1);
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// The probe's id; requests have none below 2^32.
const PROBE_ID: u64 = 0;

impl Pipeline {
    /// Takes over a connected socket; must be called within a tokio runtime.
    pub(crate) fn new(stream: TcpStream, places_max: usize) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                outgoing: BytesMut::with_capacity(BUFFER_BYTES),
                pending: Pending::default(),
                sent_upto: 0,
                last_received: Instant::now(),
                next_check: None,
                closed: None,
            }),
            written: Notify::new(),
            timed: Notify::new(),
            closed: AtomicBool::new(false),
            places: Semaphore::new(places_max),
            places_max,
        });
        let task = tokio::spawn(run(stream, Arc::clone(&shared))).abort_handle();
        Self { shared, task }
    }

    /// Whether new requests would be refused.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }

    /// Sends one request and waits for its reply until its deadline; without one the caller sees to that, and dropping
    /// the future gives the request up. A timer of its own for each request would cost more than all else here: the
    /// connection's task has one for all of them. `on_sent` is called when the request may leave from then on.
    pub(crate) async fn request(&self, request: Request<'_>, on_sent: impl FnOnce()) -> Outcome {
        let places = (1 + request.weight / BYTES_PER_PLACE).min(self.shared.places_max);
        let places = u32::try_from(places).unwrap_or(u32::MAX);
        let _permit = match self.shared.places.try_acquire_many(places) {
            Ok(permit) => permit,
            Err(_) => {
                self.shared
                    .wait_for_places(places, request.deadline)
                    .await?
            }
        };
        let (sender, receiver) = oneshot::channel();
        let id = self.shared.enqueue(&request, sender)?;
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
        deadline: Option<Instant>,
    ) -> Result<SemaphorePermit<'_>, Lost> {
        let acquired = self.places.acquire_many(places);
        let acquired = match deadline {
            Some(deadline) => timeout_at(deadline, acquired)
                .await
                .map_err(|_| Lost::Expired)?,
            None => acquired.await,
        };
        acquired.map_err(|_| Lost::Unsent("connection closed".into()))
    }

    fn enqueue(
        &self,
        request: &Request<'_>,
        sender: oneshot::Sender<Outcome>,
    ) -> Result<u64, Lost> {
        let Some(build) = request.body else {
            return self.enqueue_body(request, &[], sender);
        };
        with_builder(build, |body| self.enqueue_body(request, body, sender))
    }

    fn enqueue_body(
        &self,
        request: &Request<'_>,
        body: &[u8],
        sender: oneshot::Sender<Outcome>,
    ) -> Result<u64, Lost> {
        if body.len() > BODY_BYTES_MAX {
            return Err(Lost::TooLarge(body.len()));
        }
        let mut state = self.lock();
        if let Some(reason) = &state.closed {
            return Err(Lost::Unsent(reason.clone()));
        }
        let request_id = state.pending.insert(request.deadline, sender);
        if let Some(deadline) = request.deadline
            && state.next_check.is_none_or(|next| deadline < next)
        {
            state.next_check = Some(deadline);
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
        Ok(request_id)
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
        self.places.close();
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

    /// Asks a silent server that owes replies for a sign of life, or gives it up.
    fn check_silence(&self) -> io::Result<()> {
        let mut state = self.lock();
        let silence = state.last_received.elapsed();
        if state.pending.is_empty() || silence < PROBE_AFTER {
            return Ok(());
        }
        if silence > SILENCE_MAX {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "server is silent"));
        }
        if state.outgoing.is_empty() {
            self.written.notify_one();
        }
        encode_frame(
            &mut state.outgoing,
            &Header::request(FrameKind::Ping, PROBE_ID),
            &[],
        );
        Ok(())
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

async fn run(mut stream: TcpStream, shared: Arc<Shared>) {
    let (reading, writing) = stream.split();
    let ended = tokio::select! {
        biased;
        result = read_replies(reading, &shared) => result,
        result = write_requests(writing, &shared) => result,
        result = watch_silence(&shared) => result,
        () = watch_deadlines(&shared) => Ok(()),
    };
    let reason = ended.map_or_else(
        |error| format!("connection lost: {error}"),
        |()| "connection closed".to_owned(),
    );
    shared.close(&reason);
}

async fn read_replies(mut socket: ReadHalf<'_>, shared: &Shared) -> io::Result<()> {
    let decoder = Decoder::new(BODY_BYTES_MAX);
    let mut buffer = BytesMut::with_capacity(BUFFER_BYTES);
    loop {
        if buffer.capacity() - buffer.len() < HEADER_BYTES {
            buffer.reserve(BUFFER_BYTES);
        }
        if socket.read_buf(&mut buffer).await? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "closed by the server",
            ));
        }
        shared.lock().last_received = Instant::now();
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        while let Some(frame) = decoder.decode(&mut buffer).map_err(invalid)? {
            shared.handle(frame)?;
        }
    }
}

async fn write_requests(mut socket: WriteHalf<'_>, shared: &Shared) -> io::Result<()> {
    let mut batch = BytesMut::with_capacity(BUFFER_BYTES);
    loop {
        shared.written.notified().await;
        {
            let mut state = shared.lock();
            std::mem::swap(&mut state.outgoing, &mut batch);
            state.sent_upto = state.pending.newest();
            if let Some(reason) = &state.closed {
                return Err(io::Error::other(reason.clone()));
            }
        }
        socket.write_all(&batch).await?;
        batch.clear();
        if batch.capacity() > BUFFER_BYTES_KEPT {
            batch = BytesMut::with_capacity(BUFFER_BYTES);
        }
    }
}

async fn watch_silence(shared: &Shared) -> io::Result<()> {
    let mut ticks = interval(PROBE_AFTER);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // An idle connection was silent for a long time for a good reason: silence counts from the first tick on that
    // finds somebody waiting.
    let mut waited_before = false;
    loop {
        ticks.tick().await;
        let waiting = {
            let mut state = shared.lock();
            let waiting = !state.pending.is_empty();
            if waiting && !waited_before {
                state.last_received = Instant::now();
            }
            waiting
        };
        waited_before = waiting;
        shared.check_silence()?;
    }
}

/// Ends requests at their deadlines. Asleep until the earliest there was when it last looked: with one and the same time
/// limit for all requests it wakes about once in that time, however many are answered meanwhile. Never ends.
async fn watch_deadlines(shared: &Shared) {
    loop {
        let next = shared.lock().next_check;
        match next {
            None => shared.timed.notified().await,
            Some(next) => {
                tokio::select! {
                    () = sleep_until(next) => {
                        let mut state = shared.lock();
                        state.next_check = state.pending.expire(Instant::now());
                    }
                    () = shared.timed.notified() => {}
                }
            }
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

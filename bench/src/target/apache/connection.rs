//! One connection: requests leave in batches, answers arrive in any order and name their request.

use super::{Form, Frame};
use crate::target::link::{self, Address, Problem, dial};
use bytes::{Buf as _, Bytes, BytesMut};
use pegasus_thrift::binary::Encode;
use pegasus_thrift::data::Request;
use pegasus_thrift::frame::thft::Version;
use pegasus_thrift::frame::{Limits, Name, Progress, rdsn, thft};
use pegasus_thrift::{DecodeError, ErrorCode, Rpc};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Dropping it closes the socket.
#[derive(Debug)]
pub(super) struct Connection {
    form: Form,
    shared: Arc<Shared>,
    task: AbortHandle,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    /// Of the frame.
    pub(super) status: ErrorCode,
    /// A struct of one field; empty if the status is not OK.
    pub(super) result: Frame,
}

/// The answer of one request, when it is there; an error when the connection ends before.
pub(super) type Waiting = oneshot::Receiver<Answer>;

/// Whom a request is for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct To {
    pub(super) app_id: i32,
    pub(super) partition_index: i32,
    pub(super) partition_hash: u64,
    /// What the server is told that it has.
    pub(super) timeout: Duration,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Wakes the task that owns the socket: there is something to write.
    written: Notify,
}

#[derive(Debug)]
struct State {
    outgoing: Vec<u8>,
    next_id: i32,
    /// Who waits for which answer. An asker that has gone keeps its place until the answer comes.
    waiting: HashMap<i32, oneshot::Sender<Answer>>,
    last_received: Instant,
    /// Why the connection ended; nothing is accepted any more.
    closed: Option<String>,
}

const BUFFER_BYTES: usize = 64 << 10;
/// A buffer that grew beyond this is not kept.
const BUFFER_BYTES_KEPT: usize = 1 << 20;
/// Requests without an answer. A server that is this far behind gets no more.
const WAITING_MAX: usize = 1 << 20;
/// A server that owes answers and is silent for so long is given up: it may be a host that has vanished.
const SILENCE_MAX: Duration = Duration::from_secs(3);

impl Connection {
    /// Sends a request to a partition.
    pub(super) fn send(&self, to: &To, request: &Request<'_>) -> Result<Waiting, Problem> {
        self.append(|form, id, out| match form {
            Form::ThftV0 => request.encode_thft(&to.thft(Version::V0), id, out),
            Form::ThftV1 => request.encode_thft(&to.thft(Version::V1), id, out),
            Form::Rdsn => request.encode_rdsn(&to.rdsn(request.rpc(), id), out),
        })
    }

    /// Sends a request to the server as such, and waits.
    pub(super) async fn ask_server<T: Encode>(
        &self,
        rpc: Rpc,
        request: &T,
    ) -> Result<Answer, Problem> {
        let (to, name) = (To::default(), rpc.name().as_bytes());
        let waiting = self.append(|form, id, out| match form {
            Form::ThftV0 => {
                thft::encode_request(&to.thft(Version::V0), name, id, request, out);
            }
            Form::ThftV1 => {
                thft::encode_request(&to.thft(Version::V1), name, id, request, out);
            }
            Form::Rdsn => rdsn::encode(&to.rdsn(rpc, id), request, out),
        })?;
        self.answer(waiting).await
    }

    /// Waits for the answer of one request.
    pub(super) async fn answer(&self, waiting: Waiting) -> Result<Answer, Problem> {
        waiting
            .await
            .map_err(|_| Problem::Lost(self.shared.reason()))
    }

    fn new(form: Form, stream: TcpStream) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                outgoing: Vec::with_capacity(BUFFER_BYTES),
                next_id: 0,
                waiting: HashMap::new(),
                last_received: Instant::now(),
                closed: None,
            }),
            written: Notify::new(),
        });
        let task = tokio::spawn(run(form, stream, Arc::clone(&shared))).abort_handle();
        Self { form, shared, task }
    }

    /// `encode` appends exactly one request of this number.
    fn append(&self, encode: impl FnOnce(Form, i32, &mut Vec<u8>)) -> Result<Waiting, Problem> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.shared.lock();
        let state = &mut *state;
        if let Some(reason) = &state.closed {
            return Err(Problem::Unsent(reason.clone()));
        }
        if state.waiting.len() >= WAITING_MAX {
            return Err(Problem::Unsent(format!(
                "{WAITING_MAX} requests wait for answers"
            )));
        }
        if state.outgoing.is_empty() {
            self.shared.written.notify_one();
        }
        // Never negative; one that is still waited for would be two billion requests old.
        state.next_id = state.next_id.checked_add(1).unwrap_or(1);
        encode(self.form, state.next_id, &mut state.outgoing);
        state.waiting.insert(state.next_id, sender);
        Ok(receiver)
    }
}

impl link::Connection for Connection {
    type Options = Form;

    async fn open(address: &Address, form: &Form) -> anyhow::Result<Self> {
        Ok(Self::new(*form, dial(address).await?))
    }

    fn is_closed(&self) -> bool {
        self.shared.lock().closed.is_some()
    }

    fn on_timeout(&self) {
        let silence = self.shared.lock().last_received.elapsed();
        if silence > SILENCE_MAX {
            self.task.abort();
            self.shared.close("server is silent");
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
        self.shared.close("connection no longer used");
    }
}

impl To {
    fn thft(&self, version: Version) -> thft::Header {
        thft::Header {
            version,
            app_id: self.app_id,
            partition_index: self.partition_index,
            timeout_ms: self.timeout_ms(),
            partition_hash: self.partition_hash,
            is_backup_request: false,
        }
    }

    fn rdsn(&self, rpc: Rpc, id: i32) -> rdsn::Header {
        let header = rdsn::Header::request(Name::from(rpc.name()), u64::from(id.unsigned_abs()))
            .to_partition(self.app_id, self.partition_index, self.partition_hash);
        rdsn::Header {
            timeout_ms: self.timeout_ms(),
            ..header
        }
    }

    fn timeout_ms(&self) -> i32 {
        i32::try_from(self.timeout.as_millis()).unwrap_or(i32::MAX)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever waits learns it by the end of its channel.
    fn close(&self, reason: &str) {
        let mut state = self.lock();
        state.closed.get_or_insert_with(|| reason.to_owned());
        state.waiting.clear();
        state.outgoing = Vec::new();
    }

    fn reason(&self) -> String {
        let state = self.lock();
        state
            .closed
            .clone()
            .unwrap_or_else(|| "connection lost".to_owned())
    }
}

async fn run(form: Form, mut stream: TcpStream, shared: Arc<Shared>) {
    let (reading, writing) = stream.split();
    let ended = tokio::select! {
        biased;
        result = read_answers(form, reading, &shared) => result,
        result = write_requests(writing, &shared) => result,
    };
    let reason = ended.map_or_else(
        |error| format!("connection lost: {error}"),
        |()| "connection closed".to_owned(),
    );
    shared.close(&reason);
}

async fn read_answers(form: Form, mut socket: ReadHalf<'_>, shared: &Shared) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(BUFFER_BYTES);
    loop {
        if buffer.capacity() - buffer.len() < BUFFER_BYTES / 4 {
            buffer.reserve(BUFFER_BYTES);
        }
        if socket.read_buf(&mut buffer).await? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "closed by the server",
            ));
        }
        let mut state = shared.lock();
        state.last_received = Instant::now();
        while let Some((id, answer)) = decode(form, &mut buffer)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?
        {
            // The asker may have gone; its answer is then of no use.
            if let Some(asker) = state.waiting.remove(&id) {
                let _ = asker.send(answer);
            }
        }
    }
}

/// The answer at the front of the buffer, taken out of it, and the number of its request.
fn decode(form: Form, buffer: &mut BytesMut) -> Result<Option<(i32, Answer)>, DecodeError> {
    match form {
        Form::Rdsn => {
            let Progress::Done(frame) = rdsn::parse(buffer, &Limits::DEFAULT)? else {
                return Ok(None);
            };
            let mut result = buffer.split_to(frame.consumed).freeze();
            result.advance(frame.body.start);
            let error = frame.header.error;
            let status = ErrorCode::of_name(error.as_bytes()).unwrap_or(ErrorCode::Unknown);
            // A number that is none of ours is nobody's.
            let id = i32::try_from(frame.header.id).unwrap_or_default();
            Ok(Some((id, Answer { status, result })))
        }
        Form::ThftV0 | Form::ThftV1 => {
            let Progress::Done(frame) = thft::parse_reply(buffer, &Limits::DEFAULT)? else {
                return Ok(None);
            };
            let mut body: Bytes = buffer.split_to(frame.consumed).freeze();
            body.advance(frame.body.start);
            let reply = thft::Reply::decode(&body)?;
            let answer = Answer {
                status: reply.status,
                result: body.slice_ref(reply.result),
            };
            Ok(Some((reply.seqid, answer)))
        }
    }
}

async fn write_requests(mut socket: WriteHalf<'_>, shared: &Shared) -> io::Result<()> {
    let mut batch = Vec::with_capacity(BUFFER_BYTES);
    loop {
        shared.written.notified().await;
        std::mem::swap(&mut shared.lock().outgoing, &mut batch);
        socket.write_all(&batch).await?;
        batch.clear();
        if batch.capacity() > BUFFER_BYTES_KEPT {
            batch = Vec::with_capacity(BUFFER_BYTES);
        }
    }
}

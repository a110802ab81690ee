//! One connection: requests leave in batches, answers arrive in any order and name their request.

use super::{Form, Frame};
use crate::target::link::{self, Address, Problem, dial};
use crate::target::pipe::{self, Pipe};
use bytes::{Buf as _, Bytes, BytesMut};
use pegasus_thrift::binary::Encode;
use pegasus_thrift::data::Request;
use pegasus_thrift::frame::thft::Version;
use pegasus_thrift::frame::{Limits, Name, Progress, rdsn, thft};
use pegasus_thrift::{DecodeError, ErrorCode, Rpc};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::oneshot;

/// Dropping it closes the socket.
#[derive(Debug)]
pub(super) struct Connection {
    pipe: Pipe<Askers>,
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

/// Who waits for which answer, by the number of the request.
#[derive(Debug)]
struct Askers {
    form: Form,
    next_id: i32,
    waiting: HashMap<i32, oneshot::Sender<Answer>>,
}

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
        self.pipe.answer(waiting).await
    }

    /// `encode` appends exactly one request of this number.
    fn append(&self, encode: impl FnOnce(Form, i32, &mut Vec<u8>)) -> Result<Waiting, Problem> {
        self.pipe.send(|askers, out| {
            let (sender, receiver) = oneshot::channel();
            // Never negative; one that is still waited for would be two billion requests old.
            askers.next_id = askers.next_id.checked_add(1).unwrap_or(1);
            encode(askers.form, askers.next_id, out);
            askers.waiting.insert(askers.next_id, sender);
            receiver
        })
    }
}

impl link::Connection for Connection {
    type Options = Form;

    async fn open(address: &Address, form: &Form) -> anyhow::Result<Self> {
        let askers = Askers {
            form: *form,
            next_id: 0,
            waiting: HashMap::new(),
        };
        let pipe = Pipe::new(dial(address).await?, askers);
        Ok(Self { pipe })
    }

    fn is_closed(&self) -> bool {
        self.pipe.is_closed()
    }

    fn on_timeout(&self) {
        self.pipe.on_timeout();
    }
}

impl pipe::Waiting for Askers {
    fn count(&self) -> usize {
        self.waiting.len()
    }

    fn take(&mut self, buffer: &mut BytesMut) -> Result<(), String> {
        while let Some((id, answer)) =
            decode(self.form, buffer).map_err(|error| error.to_string())?
        {
            // The asker may have gone; its answer is then of no use.
            if let Some(asker) = self.waiting.remove(&id) {
                let _ = asker.send(answer);
            }
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.waiting.clear();
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

//! gRPC over one HTTP/2 connection: unary calls, each a stream of its own, so that answers come in any order.
//!
//! A call is a POST with one message behind a five-byte prefix, answered by one message and a status in the trailers
//! (gRPC over HTTP/2, <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).

use crate::target::link::{self, Address, Problem, dial};
use crate::target::{Execution, Failure};
use anyhow::Context as _;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, client};
use http::{HeaderMap, Request, Uri};
use prost::Message;
use std::borrow::Cow;
use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// Dropping it closes the socket.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Bytes>,
    address: String,
    /// Why it ended.
    closed: Arc<Mutex<Option<String>>>,
    task: AbortHandle,
}

/// Bytes that may be under way to us, of a stream and of all of them.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// The longest answer.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// A flag (not compressed) and the length of the message.
const PREFIX_BYTES: usize = 5;

impl Connection {
    /// One call of a method (`/package.Service/Method`).
    pub(super) async fn call<Q: Message, A: Message + Default>(
        &self,
        method: &'static str,
        question: &Q,
        sent: &Cell<bool>,
    ) -> Result<A, Problem> {
        let unsent = |error: h2::Error| Problem::Unsent(self.reason(&error));
        let lost = |error: h2::Error| Problem::Lost(self.reason(&error));
        let request = self.request(method)?;
        let mut sender = self.sender.clone().ready().await.map_err(unsent)?;
        let (answer, mut body) = sender.send_request(request, false).map_err(unsent)?;
        sent.set(true);
        body.send_data(prefixed(question), true).map_err(lost)?;
        let (head, mut body) = answer.await.map_err(lost)?.into_parts();
        if !head.status.is_success() {
            let sentence = format!("HTTP status {}", head.status);
            return Err(refused(
                Cow::Borrowed("http"),
                Execution::Unknown,
                true,
                sentence,
            ));
        }
        let message = whole(&mut body).await.map_err(lost)?;
        let trailers = body.trailers().await.map_err(lost)?;
        status(trailers.as_ref().unwrap_or(&head.headers))?;
        parsed(message)
    }

    fn request(&self, method: &'static str) -> Result<Request<()>, Problem> {
        Uri::builder()
            .scheme("http")
            .authority(&self.address[..])
            .path_and_query(method)
            .build()
            .and_then(|uri| {
                Request::post(uri)
                    .header("content-type", "application/grpc")
                    .header("te", "trailers")
                    .body(())
            })
            .map_err(|error| Problem::Unsent(format!("{}: {error}", self.address)))
    }

    /// What ended the connection says more than what happened to the stream.
    fn reason(&self, error: &h2::Error) -> String {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        closed
            .clone()
            .unwrap_or_else(|| format!("connection lost: {error}"))
    }
}

impl link::Connection for Connection {
    type Options = ();

    async fn open(address: &Address, (): &()) -> anyhow::Result<Self> {
        let stream = dial(address).await?;
        let handshake = client::Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .enable_push(false)
            .handshake(stream);
        let (sender, connection) = timeout(address.timeout, handshake)
            .await
            .context("no answer to the HTTP/2 preface")?
            .with_context(|| format!("{} speaks no HTTP/2", address.address))?;
        let closed = Arc::new(Mutex::new(None));
        let note = Arc::clone(&closed);
        let task = tokio::spawn(async move {
            let reason = match connection.await {
                Ok(()) => "connection closed".to_owned(),
                Err(error) => format!("connection lost: {error}"),
            };
            *note.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
        })
        .abort_handle();
        Ok(Self {
            sender,
            address: address.address.clone(),
            closed,
            task,
        })
    }

    fn is_closed(&self) -> bool {
        self.closed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn prefixed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).expect("requests are bounded by the layout"));
    message.encode(&mut bytes).expect("a BytesMut grows");
    bytes.freeze()
}

/// The body of an answer, whole.
async fn whole(body: &mut RecvStream) -> Result<Bytes, h2::Error> {
    let mut pieces = BytesMut::new();
    let mut first = Bytes::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        if pieces.len() + piece.len() > MESSAGE_BYTES_MAX + PREFIX_BYTES {
            return Err(h2::Reason::ENHANCE_YOUR_CALM.into());
        }
        // Nearly always there is only one.
        if first.is_empty() && pieces.is_empty() {
            first = piece;
        } else {
            pieces.extend_from_slice(&std::mem::take(&mut first));
            pieces.extend_from_slice(&piece);
        }
    }
    Ok(if pieces.is_empty() {
        first
    } else {
        pieces.freeze()
    })
}

fn parsed<A: Message + Default>(mut message: Bytes) -> Result<A, Problem> {
    let strange = |what: &str| {
        let sentence = format!("the answer is no gRPC message: {what}");
        refused(
            Cow::Borrowed("protocol"),
            Execution::Unknown,
            true,
            sentence,
        )
    };
    if message.len() < PREFIX_BYTES {
        return Err(strange("it is empty"));
    }
    let compressed = message.get_u8();
    let length = message.get_u32() as usize;
    if compressed != 0 || length != message.len() {
        return Err(strange("its prefix is wrong"));
    }
    A::decode(message).map_err(|error| strange(&error.to_string()))
}

/// Numbers of gRPC's status codes, their names, whether they say that nothing was done, and whether for good.
const STATUS: [(&str, Execution, bool); 17] = [
    ("ok", Execution::NotExecuted, false),
    ("cancelled", Execution::Unknown, false),
    ("unknown", Execution::Unknown, false),
    ("invalid_argument", Execution::NotExecuted, true),
    ("deadline_exceeded", Execution::Unknown, false),
    ("not_found", Execution::NotExecuted, true),
    ("already_exists", Execution::NotExecuted, true),
    ("permission_denied", Execution::NotExecuted, true),
    // Too many requests, or no space: refused at the door.
    ("resource_exhausted", Execution::NotExecuted, false),
    ("failed_precondition", Execution::NotExecuted, true),
    ("aborted", Execution::Unknown, false),
    ("out_of_range", Execution::NotExecuted, true),
    ("unimplemented", Execution::NotExecuted, true),
    ("internal", Execution::Unknown, false),
    // No leader, leader changed, request timed out: some of them after the proposal.
    ("unavailable", Execution::Unknown, false),
    ("data_loss", Execution::Unknown, false),
    ("unauthenticated", Execution::NotExecuted, true),
];

fn status(trailers: &HeaderMap) -> Result<(), Problem> {
    let text = |name: &str| {
        let value = trailers.get(name).map(|value| value.as_bytes());
        String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
    };
    let number = text("grpc-status");
    if number == "0" {
        return Ok(());
    }
    let known = number
        .parse()
        .ok()
        .and_then(|number: usize| STATUS.get(number));
    let (code, execution, permanent) =
        known
            .copied()
            .unwrap_or(("unknown", Execution::Unknown, false));
    let sentence = format!("grpc status {number:?}: {}", text("grpc-message"));
    Err(refused(Cow::Borrowed(code), execution, permanent, sentence))
}

fn refused(
    code: Cow<'static, str>,
    execution: Execution,
    permanent: bool,
    message: String,
) -> Problem {
    Problem::Refused(Failure {
        code,
        execution,
        permanent,
        message,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::target::etcd::messages::{PutRequest, RangeResponse};

    #[test]
    fn a_message_stands_behind_its_length() {
        let put = PutRequest {
            key: Bytes::from_static(b"k"),
            value: Bytes::new(),
        };
        assert_eq!(&prefixed(&put)[..], b"\0\0\0\0\x03\x0a\x01k");
        assert_eq!(parsed::<PutRequest>(prefixed(&put)).unwrap(), put);
    }

    #[test]
    fn answers_that_are_no_messages_are_refused() {
        for bytes in [
            &b""[..],
            b"\0\0\0\0",
            b"\x01\0\0\0\0",
            b"\0\0\0\0\x05a",
            b"\0\0\0\0\x01\xff",
        ] {
            let answer = parsed::<RangeResponse>(Bytes::from_static(bytes));
            assert!(matches!(answer, Err(Problem::Refused(_))), "{bytes:?}");
        }
    }

    #[test]
    fn a_status_says_what_happened() {
        let trailers = |number: &str| {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", number.parse().unwrap());
            trailers.insert("grpc-message", "why".parse().unwrap());
            trailers
        };
        assert!(status(&trailers("0")).is_ok());
        for (number, code, execution) in [
            ("8", "resource_exhausted", Execution::NotExecuted),
            ("14", "unavailable", Execution::Unknown),
            ("99", "unknown", Execution::Unknown),
            ("x", "unknown", Execution::Unknown),
        ] {
            let Err(Problem::Refused(failure)) = status(&trailers(number)) else {
                panic!("{number} is no success");
            };
            assert_eq!((&failure.code[..], failure.execution), (code, execution));
            assert!(failure.message.contains("why"));
        }
        assert!(status(&HeaderMap::new()).is_err());
    }
}

//! Frames on their way to one connection, bounded.

use super::Counters;
use super::letter::Failed;
use pegasus_fbs::body::{self, FailureBody};
use pegasus_fbs::code::Code;
use pegasus_fbs::flatbuffers::FlatBufferBuilder;
use pegasus_fbs::frame::{BODY_BYTES_MAX, HEADER_BYTES, Header, encode_frame};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// Frames that wait for one connection; one that reads slower is closed, and asks again.
const FRAMES_MAX: usize = 256;

/// The sending side, cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Outbox {
    frames: mpsc::Sender<Vec<u8>>,
    kick: Arc<Notify>,
    counters: Arc<Counters>,
}

impl Outbox {
    pub(super) fn new(counters: Arc<Counters>) -> (Self, mpsc::Receiver<Vec<u8>>) {
        let (frames, receiver) = mpsc::channel(FRAMES_MAX);
        (
            Self {
                frames,
                kick: Arc::new(Notify::new()),
                counters,
            },
            receiver,
        )
    }

    /// Sends one frame without waiting; without room the connection is closed. A body over the limit is answered by a
    /// failure.
    pub(super) fn send(&self, header: &Header, body: &[u8]) {
        if body.len() > BODY_BYTES_MAX {
            return self.fail(
                header,
                Code::TooLarge,
                &format!("the answer would have {} bytes", body.len()),
            );
        }
        let mut frame = Vec::with_capacity(HEADER_BYTES + body.len());
        encode_frame(&mut frame, header, body);
        self.send_bytes(frame);
    }

    /// Sends bytes of whatever protocol the connection speaks, without waiting; without room the connection is closed.
    pub(super) fn send_bytes(&self, bytes: Vec<u8>) {
        if bytes.is_empty() {
            // That is how the writer is told to end.
            return;
        }
        if let Err(mpsc::error::TrySendError::Full(_)) = self.frames.try_send(bytes) {
            Counters::count(&self.counters.overflows);
            self.kick();
        }
    }

    /// Answers `header` by a failure.
    pub(super) fn fail(&self, header: &Header, code: Code, message: &str) {
        let mut builder = FlatBufferBuilder::new();
        self.send(
            &header.failure(),
            body::failure(&mut builder, code, message),
        );
    }

    /// Answers `header` by a failure that may name whom to ask instead.
    pub(super) fn refuse(&self, header: &Header, failed: &Failed) {
        let mut builder = FlatBufferBuilder::new();
        let failure = FailureBody {
            code: failed.code,
            message: failed.message.clone(),
            retry_after: Duration::ZERO,
            primary: failed.leader.clone(),
            ballot: 0,
        };
        self.send(&header.failure(), failure.write(&mut builder));
    }

    /// Lets the writer end after what is there; `false`: there is no room even for that.
    pub(super) fn send_last(&self) -> bool {
        self.frames.try_send(Vec::new()).is_ok()
    }

    /// Makes the connection close.
    pub(super) fn kick(&self) {
        self.kick.notify_one();
    }

    /// Resolves once it was kicked.
    pub(super) async fn kicked(&self) {
        self.kick.notified().await;
    }
}

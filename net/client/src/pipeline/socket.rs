//! The task that owns a connection's socket.

use super::{BUFFER_BYTES, BUFFER_BYTES_KEPT, Shared};
use bytes::BytesMut;
use pegasus_fbs::frame::{BODY_BYTES_MAX, Decoder, HEADER_BYTES};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::sleep_until;

/// Serves the connection until it ends, one way or the other.
pub(super) async fn run(mut stream: TcpStream, shared: Arc<Shared>) {
    let (reading, writing) = stream.split();
    let ended = tokio::select! {
        biased;
        result = read_replies(reading, &shared) => result,
        result = write_requests(writing, &shared) => result,
        result = watch_time(&shared) => result,
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
        shared.on_received();
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

/// Ends requests at their deadlines and notices silence. Asleep while nobody waits; otherwise it wakes ten times a second,
/// however many requests are answered meanwhile.
async fn watch_time(shared: &Shared) -> io::Result<()> {
    loop {
        let next = shared.lock().next_check;
        let Some(next) = next else {
            shared.timed.notified().await;
            continue;
        };
        tokio::select! {
            () = sleep_until(next) => shared.check()?,
            () = shared.timed.notified() => {}
        }
    }
}

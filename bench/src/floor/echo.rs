//! The echo of the floor: the client is tokio, as the bench's own clients are; the server does the least a server can.

use super::{Ends, Poll};
use crate::affinity;
use crate::histogram::Latency;
use anyhow::{Context as _, anyhow};
use std::io::{ErrorKind, Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Round trips before the clock starts.
const WARM_UP: u32 = 200;

/// Round trips, one at a time, for so long.
pub(super) fn measure(ends: Ends, duration: Duration) -> anyhow::Result<Latency> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("echo server")?;
    let address = listener.local_addr().context("echo server")?;
    let server = thread("echo-server", move || {
        affinity::pin(ends.server_cpu)?;
        serve(&listener, ends).context("echo server")
    })?;
    // A thread of its own, so that pinning ends with it.
    let client = thread("echo-client", move || {
        ends.client_cpu.map_or(Ok(()), affinity::pin)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("runtime")?;
        runtime
            .block_on(ask(address, ends.frame_bytes, duration))
            .context("echo client")
    })?;
    // Without a client there is no connection, and the server would wait for one: its end comes first.
    let latency = client
        .join()
        .map_err(|_| anyhow!("the echo client panicked"))??;
    server
        .join()
        .map_err(|_| anyhow!("the echo server panicked"))??;
    Ok(latency)
}

pub(super) fn thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<JoinHandle<anyhow::Result<T>>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .with_context(|| name.to_owned())
}

/// Answers one connection until its client is gone.
fn serve(listener: &TcpListener, ends: Ends) -> std::io::Result<()> {
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(ends.poll == Poll::Busy)?;
    let mut frame = vec![0; ends.frame_bytes];
    while read_frame(&mut stream, &mut frame)? {
        write_frame(&mut stream, &frame)?;
    }
    Ok(())
}

/// False at the end of the stream. A stream that does not block is asked until it has something.
fn read_frame(stream: &mut impl Read, frame: &mut [u8]) -> std::io::Result<bool> {
    let mut left = frame;
    while !left.is_empty() {
        match stream.read(left) {
            Ok(0) => return Ok(false),
            Ok(count) => left = &mut left[count..],
            Err(error) if is_not_yet(&error) => std::hint::spin_loop(),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn write_frame(stream: &mut TcpStream, frame: &[u8]) -> std::io::Result<()> {
    let mut left = frame;
    while !left.is_empty() {
        match stream.write(left) {
            Ok(count) => left = &left[count..],
            Err(error) if is_not_yet(&error) => std::hint::spin_loop(),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_not_yet(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

async fn ask(
    address: SocketAddr,
    frame_bytes: usize,
    duration: Duration,
) -> std::io::Result<Latency> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut frame = vec![0x5A; frame_bytes];
    for _ in 0..WARM_UP {
        round_trip(&mut stream, &mut frame).await?;
    }
    let mut latency = Latency::new();
    let end = Instant::now() + duration;
    loop {
        let start = Instant::now();
        if start >= end {
            return Ok(latency);
        }
        round_trip(&mut stream, &mut frame).await?;
        latency.record(start.elapsed());
    }
}

async fn round_trip(stream: &mut tokio::net::TcpStream, frame: &mut [u8]) -> std::io::Result<()> {
    stream.write_all(frame).await?;
    stream.read_exact(frame).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn server(poll: Poll) -> (TcpStream, JoinHandle<std::io::Result<()>>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let ends = Ends {
            frame_bytes: 5,
            poll,
            server_cpu: 0,
            client_cpu: None,
        };
        let server = std::thread::spawn(move || serve(&listener, ends));
        (TcpStream::connect(address).unwrap(), server)
    }

    /// Gives one byte at a time, and nothing every other time.
    struct Dribble<'a> {
        bytes: &'a [u8],
        calls: usize,
    }

    impl Read for Dribble<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.calls += 1;
            if self.calls.is_multiple_of(2) {
                return Err(ErrorKind::WouldBlock.into());
            }
            let count = 1.min(buffer.len());
            Read::read(&mut self.bytes, &mut buffer[..count])
        }
    }

    #[test]
    fn a_frame_that_comes_byte_by_byte_is_read_whole() {
        let mut stream = Dribble {
            bytes: b"hello wor",
            calls: 0,
        };
        let mut frame = [0; 5];
        assert!(read_frame(&mut stream, &mut frame).unwrap());
        assert_eq!(&frame, b"hello");
        assert!(!read_frame(&mut stream, &mut frame).unwrap());
    }

    #[test]
    fn servers_of_both_poll_modes_answer_frames_that_come_in_pieces_and_end_with_their_client() {
        for poll in [Poll::Sleep, Poll::Busy] {
            let (mut client, server) = server(poll);
            client.write_all(b"hello wo").unwrap();
            client.write_all(b"rl").unwrap();
            let mut answer = [0; 10];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"hello worl", "{poll:?}");
            drop(client);
            server.join().unwrap().unwrap();
        }
    }
}

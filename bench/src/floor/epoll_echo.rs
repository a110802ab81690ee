//! A second echo, written by itself on plain epoll at both ends, that shares nothing with the first but the machine: no
//! tokio, no histogram. It is there to find out whether the first tells the truth.

use super::echo::thread;
use super::{Ends, Poll};
use crate::affinity;
use anyhow::{Context as _, anyhow};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Median of the round trips within `duration`, in microseconds.
pub(super) fn measure(ends: Ends, duration: Duration) -> anyhow::Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("epoll echo")?;
    let mut client = TcpStream::connect(listener.local_addr()?).context("epoll echo")?;
    let (mut served, _) = listener.accept().context("epoll echo")?;
    let server = thread("epoll-echo-server", move || {
        affinity::pin(ends.server_cpu)?;
        let epoll = watched(&served)?;
        let mut frame = vec![0; ends.frame_bytes];
        while receive(&epoll, &mut served, &mut frame, ends.poll)? {
            served.write_all(&frame)?;
        }
        Ok(())
    })?;
    let asked = thread("epoll-echo-client", move || {
        ends.client_cpu.map_or(Ok(()), affinity::pin)?;
        let epoll = watched(&client)?;
        let mut frame = vec![0x5A; ends.frame_bytes];
        let mut nanoseconds = Vec::new();
        let end = Instant::now() + duration;
        loop {
            let start = Instant::now();
            client.write_all(&frame)?;
            receive(&epoll, &mut client, &mut frame, Poll::Sleep)?;
            nanoseconds.push(start.elapsed().as_nanos());
            if start >= end {
                nanoseconds.sort_unstable();
                return Ok(nanoseconds[nanoseconds.len() / 2] as f64 / 1_000.0);
            }
        }
    })?;
    let median = asked.join().map_err(|_| anyhow!("epoll echo panicked"))?;
    server
        .join()
        .map_err(|_| anyhow!("epoll echo panicked"))??;
    median
}

/// An epoll instance that waits for bytes of one stream.
fn watched(stream: &TcpStream) -> anyhow::Result<rustix::fd::OwnedFd> {
    stream.set_nodelay(true)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let data = epoll::EventData::new_u64(0);
    epoll::add(&epoll, stream, data, epoll::EventFlags::IN)?;
    Ok(epoll)
}

/// Waits for a whole frame; false at the end of the stream.
fn receive(
    epoll: &rustix::fd::OwnedFd,
    stream: &mut TcpStream,
    frame: &mut [u8],
    poll: Poll,
) -> anyhow::Result<bool> {
    let at_once = Timespec::default();
    let mut events = Vec::with_capacity(1);
    let mut filled = 0;
    while filled < frame.len() {
        let timeout = (poll == Poll::Busy).then_some(&at_once);
        if epoll::wait(epoll, spare_capacity(&mut events), timeout)? == 0 {
            continue;
        }
        events.clear();
        match stream.read(&mut frame[filled..])? {
            0 => return Ok(false),
            count => filled += count,
        }
    }
    Ok(true)
}

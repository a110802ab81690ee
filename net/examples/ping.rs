//! Round trips of one connection to a server of the native protocol, one at a time; the client polls its socket.
//!
//! `ping ADDRESS [ROUNDS] [CPU]`: prints p50, p99 and p99.9 in microseconds.

use bytes::BytesMut;
use pegasus_fbs::frame::{BODY_BYTES_MAX, Decoder, FrameKind, Header, encode_frame};
use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

const WARM_UP: usize = 1000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().ok_or("which address?")?;
    let rounds: usize = arguments
        .next()
        .map_or(Ok(50_000), |rounds| rounds.parse())?;
    if let Some(cpu) = arguments.next() {
        let mut set = rustix::thread::CpuSet::new();
        set.set(cpu.parse()?);
        rustix::thread::sched_setaffinity(Some(rustix::thread::gettid()), &set)?;
    }
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    let mut request = Vec::new();
    encode_frame(&mut request, &Header::request(FrameKind::Ping, 1), &[]);
    let mut nanos = Vec::with_capacity(rounds);
    for _ in 0..rounds + WARM_UP {
        let started = Instant::now();
        stream.write_all(&request)?;
        receive(&mut stream)?;
        nanos.push(started.elapsed().as_nanos());
    }
    let measured = &mut nanos[WARM_UP..];
    measured.sort_unstable();
    let at = |per_mille: usize| {
        measured
            .get(measured.len() * per_mille / 1000)
            .map_or(0, |nanos| nanos / 100)
    };
    let (p50, p99, p999) = (at(500), at(990), at(999));
    let micros = |tenths: u128| format!("{}.{}", tenths / 10, tenths % 10);
    writeln!(
        std::io::stdout(),
        "p50 {} p99 {} p99.9 {} us",
        micros(p50),
        micros(p99),
        micros(p999)
    )?;
    Ok(())
}

/// Waits for one frame without sleeping.
fn receive(stream: &mut TcpStream) -> Result<(), Box<dyn Error>> {
    let mut input = BytesMut::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return Err("the server has closed the connection".into()),
            Ok(count) => input.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error.into()),
        }
        if Decoder::new(BODY_BYTES_MAX).decode(&mut input)?.is_some() {
            return Ok(());
        }
    }
}

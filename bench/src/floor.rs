//! This machine's own limits: what no server on it can beat, measured with the same histogram as everything else.
//!
//! - **echo**: one frame to a thread in this process and back, over loopback TCP, one at a time. The client side is the
//!   one the real client has (tokio, one thread); the server side blocks in `read` and is pinned to a CPU, as a data
//!   core is.
//! - **flush**: overwrite 4 KiB of a file whose blocks were written before, with O_DIRECT, then `fdatasync`, one at a
//!   time: the cheapest durable write there is.

use crate::affinity;
use crate::histogram::{Latency, Percentiles};
use anyhow::{Context as _, anyhow, ensure};
use rustix::fs::{OFlags, fdatasync};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The limits, as `floor --json` writes and `run --floor` reads them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Floor {
    /// "pegasus-bench-floor/1"
    pub(crate) schema: String,
    pub(crate) echo_frame_bytes: usize,
    pub(crate) echo_server_cpu: usize,
    /// Absent: the scheduler chose.
    pub(crate) echo_client_cpu: Option<usize>,
    pub(crate) echo: Percentiles,
    pub(crate) flush_bytes: usize,
    pub(crate) flush_dir: PathBuf,
    pub(crate) flush: Percentiles,
    pub(crate) seconds_each: f64,
    pub(crate) cpus: usize,
}

pub(crate) const SCHEMA: &str = "pegasus-bench-floor/1";
const BLOCK_BYTES: usize = 4096;
/// Blocks that the flush test goes round over.
const BLOCKS: u64 = 4096;

/// What to measure.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Where to flush.
    pub(crate) dir: PathBuf,
    pub(crate) frame_bytes: usize,
    /// Time for each of the two.
    pub(crate) each: Duration,
    /// `None`: the first CPU that this process may use.
    pub(crate) server_cpu: Option<usize>,
    /// `None`: the scheduler chooses.
    pub(crate) client_cpu: Option<usize>,
}

/// Measures both.
pub(crate) fn measure(options: &Options) -> anyhow::Result<Floor> {
    let (frame_bytes, each, dir) = (options.frame_bytes, options.each, options.dir.as_path());
    let allowed = affinity::allowed()?;
    let server_cpu = options
        .server_cpu
        .or(allowed.first().copied())
        .context("no CPU is allowed")?;
    for cpu in options.client_cpu.into_iter().chain([server_cpu]) {
        ensure!(
            allowed.contains(&cpu),
            "CPU {cpu}: not one that this program may use ({allowed:?})"
        );
    }
    ensure!(
        (1..=1 << 20).contains(&frame_bytes),
        "a frame has 1 byte to 1 MiB, not {frame_bytes}"
    );
    let echo = echo(frame_bytes, each, server_cpu, options.client_cpu)?;
    let flush = flush(dir, each)?;
    Ok(Floor {
        schema: SCHEMA.to_owned(),
        echo_frame_bytes: frame_bytes,
        echo_server_cpu: server_cpu,
        echo_client_cpu: options.client_cpu,
        echo: echo.percentiles(),
        flush_bytes: BLOCK_BYTES,
        flush_dir: dir.to_owned(),
        flush: flush.percentiles(),
        seconds_each: each.as_secs_f64(),
        cpus: std::thread::available_parallelism().map_or(0, usize::from),
    })
}

/// Reads what an earlier `floor --json` wrote.
pub(crate) fn load(path: &Path) -> anyhow::Result<Floor> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let floor: Floor = serde_json::from_str(&text)
        .with_context(|| format!("{} is not a floor report", path.display()))?;
    ensure!(
        floor.schema == SCHEMA,
        "{}: schema {}, this program knows {SCHEMA}",
        path.display(),
        floor.schema
    );
    Ok(floor)
}

fn echo(
    frame_bytes: usize,
    duration: Duration,
    server_cpu: usize,
    client_cpu: Option<usize>,
) -> anyhow::Result<Latency> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("echo server")?;
    let address = listener.local_addr().context("echo server")?;
    let server = thread("echo server", move || {
        affinity::pin(server_cpu)?;
        serve_echo(&listener, frame_bytes).context("echo server")
    })?;
    // A thread of its own, so that pinning ends with it.
    let client = thread("echo client", move || {
        client_cpu.map_or(Ok(()), affinity::pin)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("runtime")?;
        runtime.block_on(ask_echo(address, frame_bytes, duration))
    })?;
    let latency = client
        .join()
        .map_err(|_| anyhow!("the echo client panicked"))?;
    // Without a client there is no connection, and the server would wait for one.
    let latency = latency?;
    server
        .join()
        .map_err(|_| anyhow!("the echo server panicked"))??;
    Ok(latency)
}

fn thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<JoinHandle<anyhow::Result<T>>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .with_context(|| name.to_owned())
}

fn serve_echo(listener: &TcpListener, frame_bytes: usize) -> std::io::Result<()> {
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut frame = vec![0; frame_bytes];
    loop {
        match stream.read_exact(&mut frame) {
            Ok(()) => stream.write_all(&frame)?,
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

async fn ask_echo(
    address: SocketAddr,
    frame_bytes: usize,
    duration: Duration,
) -> anyhow::Result<Latency> {
    const WARM_UP: u32 = 1_000;
    let mut stream = tokio::net::TcpStream::connect(address)
        .await
        .context("echo client")?;
    stream.set_nodelay(true).context("echo client")?;
    let mut frame = vec![0x5A; frame_bytes];
    let mut latency = Latency::new();
    for _ in 0..WARM_UP {
        round_trip(&mut stream, &mut frame)
            .await
            .context("echo client")?;
    }
    let end = Instant::now() + duration;
    loop {
        let start = Instant::now();
        if start >= end {
            return Ok(latency);
        }
        round_trip(&mut stream, &mut frame)
            .await
            .context("echo client")?;
        latency.record(start.elapsed());
    }
}

async fn round_trip(stream: &mut tokio::net::TcpStream, frame: &mut [u8]) -> std::io::Result<()> {
    stream.write_all(frame).await?;
    stream.read_exact(frame).await?;
    Ok(())
}

fn flush(dir: &Path, duration: Duration) -> anyhow::Result<Latency> {
    let file = FloorFile::create(dir)?;
    let mut buffer = vec![0_u8; 2 * BLOCK_BYTES];
    let offset = buffer.as_ptr().align_offset(BLOCK_BYTES);
    let block = buffer
        .get_mut(offset..offset.saturating_add(BLOCK_BYTES))
        .context("no aligned block in the buffer")?;
    for index in 0..BLOCKS {
        file.write_block(block, index)?;
    }
    file.sync()?;
    block.fill(0x5A);
    let mut latency = Latency::new();
    let end = Instant::now() + duration;
    for index in (0..BLOCKS).cycle() {
        let start = Instant::now();
        if start >= end {
            break;
        }
        file.write_block(block, index)?;
        file.sync()?;
        latency.record(start.elapsed());
    }
    Ok(latency)
}

/// A file that is deleted when it is dropped.
#[derive(Debug)]
struct FloorFile {
    file: File,
    path: PathBuf,
}

impl FloorFile {
    fn create(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join(format!("pegasus-bench-floor-{}.tmp", std::process::id()));
        let direct = i32::try_from(OFlags::DIRECT.bits()).context("O_DIRECT")?;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .custom_flags(direct)
            .open(&path)
            .with_context(|| format!("{}: cannot open with O_DIRECT", path.display()))?;
        Ok(Self { file, path })
    }

    fn write_block(&self, block: &[u8], index: u64) -> anyhow::Result<()> {
        let offset = index * BLOCK_BYTES as u64;
        self.file
            .write_all_at(block, offset)
            .with_context(|| self.path.display().to_string())
    }

    fn sync(&self) -> anyhow::Result<()> {
        fdatasync(&self.file).with_context(|| self.path.display().to_string())
    }
}

impl Drop for FloorFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn options(dir: &Path, frame_bytes: usize) -> Options {
        let each = Duration::from_millis(30);
        Options {
            dir: dir.to_owned(),
            frame_bytes,
            each,
            server_cpu: None,
            client_cpu: None,
        }
    }

    #[test]
    fn a_short_measurement_gives_both_limits_and_leaves_nothing_behind() {
        // The build directory: unlike /tmp it never is a memory file system without O_DIRECT.
        let dir = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
        let floor = measure(&options(dir.path(), 128)).unwrap();
        assert!(floor.echo.count > 0);
        assert!(floor.flush.count > 0);
        assert!(floor.echo.p50_us > 0.0);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let path = dir.path().join("floor.json");
        std::fs::write(&path, serde_json::to_string(&floor).unwrap()).unwrap();
        assert_eq!(load(&path).unwrap(), floor);
    }

    #[test]
    fn another_schema_and_a_bad_frame_size_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, "{}").unwrap();
        assert!(load(&path).is_err());
        assert!(measure(&options(dir.path(), 0)).is_err());
    }
}

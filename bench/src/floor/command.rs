//! `pegasus-bench floor`: the command line.

use super::{Floor, Options, Poll, measure};
use crate::report;
use anyhow::ensure;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Bytes of a frame when nothing else is said: a get of a 100-byte value takes about so many each way.
pub(crate) const FRAME_BYTES: usize = 200;

#[derive(Debug, Args)]
pub(crate) struct FloorOptions {
    /// Directory to flush in: on the disk that the server will use
    #[arg(long)]
    dir: PathBuf,
    /// Seconds for each of the two limits; with --check as much again for their references
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// How the echo server waits: as the nodes to be compared do (poll in their configuration)
    #[arg(long, value_enum, default_value_t = Poll::Sleep)]
    poll: Poll,
    /// Hold both limits against others: an echo on plain epoll, and fio if it is installed. A floor that is more than
    /// 20 % off is called invalid
    #[arg(long)]
    check: bool,
    /// Bytes of an echoed frame; a get of a 100-byte value takes about 200 bytes each way
    #[arg(long, value_name = "BYTES", default_value_t = FRAME_BYTES)]
    frame_size: usize,
    /// CPU of the echo server [default: the first allowed one]
    #[arg(long, value_name = "CPU")]
    server_cpu: Option<usize>,
    /// CPU of its client; on the server's own CPU answers come faster than any other client sees them
    /// [default: the scheduler chooses]
    #[arg(long, value_name = "CPU")]
    client_cpu: Option<usize>,
    /// Write the limits to this file, as JSON (- for standard output, instead of the text)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl FloorOptions {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        ensure!(
            (0.001..=3600.0).contains(&self.seconds),
            "--seconds {}: 0.001 to 3600 are allowed",
            self.seconds
        );
        let floor = measure(&Options {
            dir: self.dir.clone(),
            frame_bytes: self.frame_size,
            each: Duration::from_secs_f64(self.seconds),
            poll: self.poll,
            server_cpu: self.server_cpu,
            client_cpu: self.client_cpu,
            check: self.check,
        })?;
        report::publish(self.json.as_deref(), &floor, || report::floor_text(&floor))
    }
}

impl Floor {
    /// Reads one, or measures one for two seconds each with its references: what `run` and `sweep` compare with.
    pub(crate) fn quick(
        dir: PathBuf,
        poll: Poll,
        server_cpu: Option<usize>,
        client_cpu: Option<usize>,
    ) -> anyhow::Result<Self> {
        measure(&Options {
            dir,
            frame_bytes: FRAME_BYTES,
            each: Duration::from_secs(2),
            poll,
            server_cpu,
            client_cpu,
            check: true,
        })
    }
}

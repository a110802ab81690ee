//! This machine's own limits: what no server on it can beat, measured with the same histogram as everything else.
//!
//! - **echo** (`floor/echo.rs`): one frame to a thread in this process and back, over loopback TCP, one at a time. The
//!   client side is the one the real client has (tokio, one thread, asleep while it waits); the server side is pinned
//!   to a CPU, as a data core is, and waits for bytes as the data core does: asleep, or polling ([`Poll`]).
//! - **flush** (`floor/flush.rs`): overwrite 4 KiB of a file whose blocks were written before, with O_DIRECT, then
//!   `fdatasync`, one at a time: the cheapest durable write there is.
//!
//! A floor is only as good as its own measurement, so it is held against two references (`floor/check.rs`): an echo
//! written a second time on plain epoll (`floor/epoll_echo.rs`), and `fio`. A floor that is not within a fifth of both
//! says that it is invalid, and so does every report that is compared with it.

mod check;
mod command;
mod echo;
mod epoll_echo;
mod fio;
mod flush;

pub(crate) use check::{Check, Validity, Verdict, median};
pub(crate) use command::FloorOptions;

use crate::affinity;
use crate::histogram::{Latency, Percentiles};
use crate::report::Machine;
use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The limits, as `floor --json` writes and `run --floor` reads them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Floor {
    /// [`SCHEMA`]
    pub(crate) schema: String,
    pub(crate) machine: Machine,
    /// How the echo's server waited.
    pub(crate) poll: Poll,
    pub(crate) echo_frame_bytes: usize,
    pub(crate) echo_server_cpu: usize,
    /// Absent: the scheduler chose.
    pub(crate) echo_client_cpu: Option<usize>,
    pub(crate) echo: Percentiles,
    pub(crate) flush_bytes: usize,
    pub(crate) flush_dir: PathBuf,
    pub(crate) flush: Percentiles,
    pub(crate) seconds_each: f64,
    /// Absent: it was not checked.
    pub(crate) check: Option<Check>,
    pub(crate) verdict: Verdict,
}

/// Fields are only ever added; anything else makes it another number.
pub(crate) const SCHEMA: &str = "pegasus-bench-floor/2";

/// How a server waits for bytes. A round trip to one that sleeps costs one wake-up more, which is most of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Poll {
    /// Asleep in the kernel (`poll = "sleep"` of a node)
    #[default]
    Sleep,
    /// Asking again and again, on a CPU of its own (`poll = "busy"`; also `"adaptive"` while the core has work)
    Busy,
}

impl Poll {
    /// What a server that waits so does.
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::Sleep => "which sleeps while it waits",
            Self::Busy => "which polls while it waits",
        }
    }
}

/// What to measure.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Where to flush.
    pub(crate) dir: PathBuf,
    pub(crate) frame_bytes: usize,
    /// Time for each of the two, and for each of their references.
    pub(crate) each: Duration,
    pub(crate) poll: Poll,
    /// `None`: the first CPU that this process may use.
    pub(crate) server_cpu: Option<usize>,
    /// `None`: the scheduler chooses.
    pub(crate) client_cpu: Option<usize>,
    /// Measure the references, too.
    pub(crate) check: bool,
}

/// The ends of an echo: who waits where and how.
#[derive(Clone, Copy, Debug)]
struct Ends {
    frame_bytes: usize,
    poll: Poll,
    server_cpu: usize,
    client_cpu: Option<usize>,
}

/// The measurement is cut into so many rounds, in which floor and references take turns: another guest's burst of work
/// then meets them all.
const ROUNDS: u32 = 5;

/// Measures both limits, and their references if wanted.
pub(crate) fn measure(options: &Options) -> anyhow::Result<Floor> {
    let ends = options.ends()?;
    let slice = options.each / ROUNDS;
    let mut blocks = flush::Blocks::create(&options.dir)?;
    let mut echo = Latency::new();
    let mut flush = Latency::new();
    let mut check = options.check.then(check::Rounds::new);
    for _ in 0..ROUNDS {
        let echo_round = echo::measure(ends, slice)?;
        let flush_round = blocks.measure(slice)?;
        if let Some(check) = &mut check {
            check.add_echo(&echo_round, epoll_echo::measure(ends, slice)?);
            check.add_flush(&flush_round, fio::measure(&blocks, slice));
        }
        echo.add(&echo_round);
        flush.add(&flush_round.whole);
    }
    let check = check.map(check::Rounds::finish);
    Ok(Floor {
        schema: SCHEMA.to_owned(),
        machine: Machine::of_this_host(),
        poll: options.poll,
        echo_frame_bytes: options.frame_bytes,
        echo_server_cpu: ends.server_cpu,
        echo_client_cpu: options.client_cpu,
        echo: echo.percentiles(),
        flush_bytes: flush::BLOCK_BYTES,
        flush_dir: std::path::absolute(&options.dir).unwrap_or_else(|_| options.dir.clone()),
        flush: flush.percentiles(),
        seconds_each: options.each.as_secs_f64(),
        verdict: Verdict::of(check.as_ref()),
        check,
    })
}

impl Options {
    fn ends(&self) -> anyhow::Result<Ends> {
        ensure!(
            (1..=1 << 20).contains(&self.frame_bytes),
            "a frame has 1 byte to 1 MiB, not {}",
            self.frame_bytes
        );
        let allowed = affinity::allowed()?;
        let server_cpu = self
            .server_cpu
            .or(allowed.first().copied())
            .context("no CPU is allowed")?;
        for cpu in self.client_cpu.into_iter().chain([server_cpu]) {
            ensure!(
                allowed.contains(&cpu),
                "CPU {cpu}: not one that this program may use ({allowed:?})"
            );
        }
        ensure!(
            self.poll == Poll::Sleep || (allowed.len() > 1 && self.client_cpu != Some(server_cpu)),
            "an echo server that polls needs CPU {server_cpu} for itself: the client has to be on another one"
        );
        Ok(Ends {
            frame_bytes: self.frame_bytes,
            poll: self.poll,
            server_cpu,
            client_cpu: self.client_cpu,
        })
    }
}

/// Reads what an earlier `floor --json` wrote.
pub(crate) fn load(path: &Path) -> anyhow::Result<Floor> {
    let value = crate::report::read_json(path, &[SCHEMA], "pegasus-bench floor --json")?;
    serde_json::from_value(value)
        .with_context(|| format!("{} is not a whole floor report", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn options(dir: &Path, frame_bytes: usize) -> Options {
        Options {
            dir: dir.to_owned(),
            frame_bytes,
            each: Duration::from_millis(30),
            poll: Poll::Sleep,
            server_cpu: None,
            client_cpu: None,
            check: false,
        }
    }

    /// Below the package: unlike /tmp it never is a memory file system without O_DIRECT.
    fn disk() -> tempfile::TempDir {
        tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap()
    }

    #[test]
    fn a_short_measurement_gives_both_limits_and_leaves_nothing_behind() {
        let dir = disk();
        let floor = measure(&options(dir.path(), 128)).unwrap();
        assert!(floor.echo.count > 0);
        assert!(floor.flush.count > 0);
        assert!(floor.echo.p50_us > 0.0);
        assert_eq!(floor.verdict.validity, Validity::Unchecked);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let path = dir.path().join("floor.json");
        std::fs::write(&path, serde_json::to_string(&floor).unwrap()).unwrap();
        assert_eq!(load(&path).unwrap(), floor);
    }

    #[test]
    fn a_checked_measurement_tells_both_references_or_why_one_is_missing() {
        let dir = disk();
        let checked = Options {
            check: true,
            ..options(dir.path(), 128)
        };
        let floor = measure(&checked).unwrap();
        let check = floor.check.unwrap();
        assert!(check.echo.reference_p50_us > 0.0);
        assert!(check.flush.is_some() != check.flush_missing.is_some());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn another_schema_and_a_bad_frame_size_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        for text in ["{}", "[", r#"{"schema": "pegasus-bench-floor/1"}"#] {
            std::fs::write(&path, text).unwrap();
            let error = format!("{:#}", load(&path).unwrap_err());
            assert!(error.contains("pegasus-bench"), "{error}");
        }
        assert!(measure(&options(dir.path(), 0)).is_err());
    }

    #[test]
    fn a_polling_server_does_not_share_its_cpu() {
        let cpu = affinity::allowed().unwrap()[0];
        let shared = Options {
            poll: Poll::Busy,
            server_cpu: Some(cpu),
            client_cpu: Some(cpu),
            ..options(Path::new("/"), 128)
        };
        let error = measure(&shared).unwrap_err().to_string();
        assert!(error.contains("for itself"), "{error}");
    }
}

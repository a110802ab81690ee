//! A process in the background: started in its own session, found again by a pid file, and never mistaken for another.
//!
//! A pid file holds `PID START BOOT`: the process id, its start time in clock ticks since boot, and the id of that
//! boot. A pid that was given to another process since then has another start time, so it is never signalled.

use anyhow::{Context as _, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// One process of a local cluster and the directory that belongs to it.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    /// `meta`, `node-1`, ...
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
}

impl Process {
    pub(crate) fn new(name: impl Into<String>, cluster_dir: &Path) -> Self {
        let name = name.into();
        let dir = cluster_dir.join(&name);
        Self { name, dir }
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.dir.join("log")
    }

    fn pid_path(&self) -> PathBuf {
        self.dir.join("pid")
    }

    /// Where the process keeps its own files.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The pid, if the process that was started last still runs.
    pub(crate) fn running(&self) -> Option<u32> {
        self.life().pid()
    }

    /// What became of the process that was started last.
    pub(crate) fn life(&self) -> Life {
        match Identity::load(&self.pid_path()) {
            Some(known) if known.is_alive() => Life::Runs {
                pid: known.pid,
                paused: stat(known.pid).is_some_and(|stat| stat.is_paused()),
            },
            Some(_) => Life::Ended,
            None => Life::None,
        }
    }

    /// Removes the pid file of a process that has ended because it was told to: from now on it was never started.
    pub(crate) fn forget(&self) -> anyhow::Result<()> {
        match fs::remove_file(self.pid_path()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| self.pid_path().display().to_string())
            }
            _ => Ok(()),
        }
    }

    /// Starts `program` as a process of its own session that outlives this one; its output goes to the log file.
    /// `program` is run by this very binary (`background`), which writes the pid file first.
    pub(crate) fn start(&self, program: &Path, arguments: &[String]) -> anyhow::Result<()> {
        fs::create_dir_all(&self.dir).with_context(|| self.dir.display().to_string())?;
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())
            .with_context(|| self.log_path().display().to_string())?;
        let myself = std::env::current_exe().context("cannot tell where this program is")?;
        let child = Command::new(myself)
            .arg(BACKGROUND_COMMAND)
            .arg(self.pid_path())
            .arg(program)
            .args(arguments)
            // The output is a file: no terminal colours in it.
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("log file")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("{}: cannot start", self.name))?;
        // The pid file is written by the child too (it survives this command being killed here); written by both,
        // it is there when this function returns.
        let identity =
            Identity::of(child.id()).with_context(|| format!("{}: ended at once", self.name))?;
        identity.save(&self.pid_path())
    }

    /// Sends a signal if the process still runs; `false` if it does not.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<bool> {
        let Some(known) = Identity::load(&self.pid_path()) else {
            return Ok(false);
        };
        known
            .signal(signal)
            .with_context(|| format!("{}: cannot signal process {}", self.name, known.pid))
    }

    /// The last lines of the log, for a process that died.
    pub(crate) fn last_log_lines(&self, count: usize) -> String {
        const TAIL_BYTES: u64 = 16 << 10;
        let read = || -> std::io::Result<String> {
            let mut file = fs::File::open(self.log_path())?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
            let mut bytes = Vec::new();
            file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let text = read().unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

/// What became of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Never started, or ended by `local stop`.
    None,
    /// `paused`: stopped by a signal, it does nothing.
    Runs { pid: u32, paused: bool },
    /// It was started, is gone, and no command of ours has ended it.
    Ended,
}

impl Life {
    pub(crate) fn pid(self) -> Option<u32> {
        match self {
            Self::Runs { pid, .. } => Some(pid),
            Self::None | Self::Ended => None,
        }
    }
}

/// Hidden subcommand: `pegasus in-background PID_FILE PROGRAM ARGUMENT...`.
pub(crate) const BACKGROUND_COMMAND: &str = "in-background";

/// Leaves the terminal's session, writes the pid file and becomes `program`. Returns only on failure.
pub(crate) fn become_background(
    pid_file: &Path,
    program: &Path,
    arguments: &[std::ffi::OsString],
) -> anyhow::Result<()> {
    rustix::process::setsid().context("cannot leave the session")?;
    Identity::of(std::process::id())
        .context("cannot read my own start time")?
        .save(pid_file)?;
    let error = Command::new(program).args(arguments).exec();
    bail!("cannot run {}: {error}", program.display())
}

/// Which process a pid means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pid: u32,
    start_ticks: u64,
    boot: String,
}

impl Identity {
    fn of(pid: u32) -> Option<Self> {
        Some(Self {
            pid,
            start_ticks: start_ticks(pid)?,
            boot: boot_id()?,
        })
    }

    fn load(path: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(path).ok()?)
    }

    /// What the text of a pid file says.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        Some(Self {
            pid: words.next()?.parse().ok()?,
            start_ticks: words.next()?.parse().ok()?,
            boot: words.next()?.to_owned(),
        })
    }

    fn save(&self, path: &Path) -> anyhow::Result<()> {
        // Two processes may write the same content at the same time: each through a file of its own.
        let new = path.with_extension(format!("new-{}", std::process::id()));
        fs::write(&new, format!("{self}\n")).with_context(|| new.display().to_string())?;
        fs::rename(&new, path).with_context(|| path.display().to_string())
    }

    fn is_alive(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// The handle is opened before the identity is checked, so the process cannot change in between.
    fn signal(&self, signal: Signal) -> anyhow::Result<bool> {
        let pid = i32::try_from(self.pid)
            .ok()
            .and_then(Pid::from_raw)
            .context("not a process id")?;
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        if !self.is_alive() {
            return Ok(false);
        }
        match pidfd_send_signal(&handle, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.pid, self.start_ticks, self.boot)
    }
}

/// A process as anybody on this machine sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sight {
    /// How long it has been running.
    pub(crate) age: Duration,
    /// Stopped by a signal.
    pub(crate) is_paused: bool,
}

/// The process of this number; `None` if there is none.
pub(crate) fn sight(pid: u32) -> Option<Sight> {
    // The unit of /proc on every Linux.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = stat(pid)?;
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    #[allow(clippy::cast_precision_loss, reason = "seconds since boot")]
    let started = stat.start_ticks as f64 / TICKS_PER_SECOND;
    Some(Sight {
        age: Duration::try_from_secs_f64((uptime - started).max(0.0)).ok()?,
        is_paused: stat.is_paused(),
    })
}

/// What `/proc/PID/stat` says.
struct Stat {
    /// `R`, `S`, `T` (stopped by a signal), ...
    state: char,
    start_ticks: u64,
}

impl Stat {
    fn is_paused(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }
}

/// `None` if there is no such process; a zombie counts as gone.
fn stat(pid: u32) -> Option<Stat> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in field 2 may hold spaces and brackets, so count from its end.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    if matches!(state, 'Z' | 'X') {
        return None;
    }
    let start_ticks = fields.nth(18)?.parse().ok()?;
    Some(Stat { state, start_ticks })
}

fn start_ticks(pid: u32) -> Option<u64> {
    stat(pid).map(|stat| stat.start_ticks)
}

fn boot_id() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn process(dir: &Path) -> Process {
        let process = Process::new("node-1", dir);
        fs::create_dir_all(&process.dir).unwrap();
        process
    }

    #[test]
    fn a_running_process_is_found_by_its_pid_file() {
        let dir = tempfile::tempdir().unwrap();
        let process = process(dir.path());
        assert_eq!(process.running(), None);
        let me = Identity::of(std::process::id()).unwrap();
        me.save(&process.pid_path()).unwrap();
        assert_eq!(Identity::load(&process.pid_path()), Some(me));
        assert_eq!(process.running(), Some(std::process::id()));
    }

    #[test]
    fn a_reused_pid_is_neither_running_nor_signalled() {
        let dir = tempfile::tempdir().unwrap();
        let process = process(dir.path());
        let mut other = Identity::of(std::process::id()).unwrap();
        other.start_ticks += 1;
        other.save(&process.pid_path()).unwrap();
        assert_eq!(process.running(), None);
        // It would end this test run if it arrived.
        assert!(!process.signal(Signal::KILL).unwrap());
    }

    #[test]
    fn a_pid_file_of_an_earlier_boot_means_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let process = process(dir.path());
        let mut earlier = Identity::of(std::process::id()).unwrap();
        earlier.boot = "0".into();
        earlier.save(&process.pid_path()).unwrap();
        assert_eq!(process.running(), None);
    }

    #[test]
    fn a_broken_pid_file_means_not_running() {
        let dir = tempfile::tempdir().unwrap();
        let process = process(dir.path());
        for content in ["", "x", "1", "1 2", "99999999999 1 b"] {
            fs::write(process.pid_path(), content).unwrap();
            assert_eq!(process.running(), None, "{content:?}");
            assert!(!process.signal(Signal::KILL).unwrap());
        }
    }

    #[test]
    fn a_signal_ends_a_process_of_ours_and_the_second_one_finds_it_gone() {
        let dir = tempfile::tempdir().unwrap();
        let process = process(dir.path());
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        Identity::of(child.id())
            .unwrap()
            .save(&process.pid_path())
            .unwrap();
        assert_eq!(
            process.life(),
            Life::Runs {
                pid: child.id(),
                paused: false
            }
        );
        assert!(process.signal(Signal::TERM).unwrap());
        child.wait().unwrap();
        assert!(!process.signal(Signal::TERM).unwrap());
        assert_eq!(process.life(), Life::Ended);
        process.forget().unwrap();
        assert_eq!(process.life(), Life::None);
        process.forget().unwrap();
    }

    #[test]
    fn the_last_log_lines_are_the_last_ones() {
        let dir = tempfile::tempdir().unwrap();
        let process = process(dir.path());
        assert_eq!(process.last_log_lines(3), "");
        fs::write(process.log_path(), "a\nb\nc\nd\n").unwrap();
        assert_eq!(process.last_log_lines(2), "c\nd");
    }
}

//! Reads everything a node has on disk, slowly, and checks it: the table files of each replica, then the log of each core.
//!
//! A bad table file takes its replica out of service, to be rebuilt from its peers. A bad batch of the log is harmless as long as
//! the process lives, because the engine holds what was in it: the replicas concerned are flushed, and then nothing needs it any
//! more. A pass is due some days after the last one, or when an operator asks; it works for a share of the time and rests for
//! the rest.

use crate::config::ScrubConfig;
use crate::engine_pool::PoolDone;
use crate::inbox::{CoreInput, InboxSender};
use crate::transfer::LogSource;
use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use pegasus_engine::RocksStore;
use pegasus_engine::rocks::StoreError;
use pegasus_replication::ids::PartitionId;
use pegasus_replication::log::recover::{Damage, SegmentSource, recover};
use pegasus_replication::log::{LogIdentity, SegmentId};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where the end of the last whole pass is kept: Unix seconds, in decimal digits.
const FILE: &str = "SCRUBBED";
/// Longest rest at a time, so that a stop is noticed.
const REST_MAX: Duration = Duration::from_secs(3600);
/// Between two reads of the log.
const LOG_READ_BYTES: usize = 1 << 20;

/// One core, as scrubbing sees it.
#[derive(Debug)]
pub struct ScrubbedCore {
    pub store: RocksStore,
    pub log_dir: PathBuf,
    pub log_identity: LogIdentity,
    pub inbox: InboxSender,
}

/// How far scrubbing is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubStatus {
    /// A pass is under way: replicas checked so far, and of how many. (0, 0): it is ordered.
    pub running: Option<(u64, u64)>,
    /// Unix seconds of the end of the last whole pass; 0 = none yet.
    pub finished_unix_s: u64,
    /// What the last pass, or the one under way, has found; at most [`FINDINGS_MAX`].
    pub findings: Vec<String>,
}

/// Findings kept.
pub const FINDINGS_MAX: usize = 64;

/// The running thread, and how to ask it. Cheap to clone; the thread ends when all are gone.
#[derive(Clone, Debug)]
pub struct Scrub {
    orders: Sender<()>,
    status: Arc<Mutex<ScrubStatus>>,
}

impl Scrub {
    /// Starts the thread. `on_start` places it (CPUs, priority).
    ///
    /// # Errors
    /// The process may not have more threads.
    pub fn start(
        root: &Path,
        cores: Vec<ScrubbedCore>,
        config: &ScrubConfig,
        on_start: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (orders, queue) = bounded(1);
        let path = root.join(FILE);
        let status = Arc::new(Mutex::new(ScrubStatus {
            finished_unix_s: read_finished(&path),
            ..ScrubStatus::default()
        }));
        let mut scrubber = Scrubber {
            cores,
            path,
            period: (config.period_hours > 0)
                .then(|| Duration::from_secs(config.period_hours * 3600)),
            share_percent: u32::from(config.share_percent),
            queue,
            status: Arc::clone(&status),
        };
        let thread = std::thread::Builder::new()
            .name("scrub".to_owned())
            .spawn(move || {
                on_start();
                scrubber.run();
            })?;
        Ok((Self { orders, status }, thread))
    }

    /// Orders a pass now. False: one is ordered or under way already.
    #[must_use]
    pub fn begin(&self) -> bool {
        let mut status = lock(&self.status);
        if status.running.is_some() {
            return false;
        }
        // Said here already, so that nobody who looks now takes the last pass for this one.
        status.running = Some((0, 0));
        !matches!(self.orders.try_send(()), Err(TrySendError::Full(())))
    }

    #[must_use]
    pub fn status(&self) -> ScrubStatus {
        lock(&self.status).clone()
    }
}

struct Scrubber {
    cores: Vec<ScrubbedCore>,
    path: PathBuf,
    /// `None`: only when asked.
    period: Option<Duration>,
    share_percent: u32,
    queue: Receiver<()>,
    status: Arc<Mutex<ScrubStatus>>,
}

/// Everybody who could ask is gone.
struct Stopped;

impl Scrubber {
    fn run(&mut self) {
        while self.wait().is_ok() {
            tracing::info!("scrubbing all replicas and logs");
            if self.pass().is_err() {
                return;
            }
        }
    }

    /// Until a pass is due or ordered.
    fn wait(&self) -> Result<(), Stopped> {
        loop {
            let rest = self.rest();
            if rest.is_zero() {
                return Ok(());
            }
            match self.queue.recv_timeout(rest.min(REST_MAX)) {
                Ok(()) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(Stopped),
            }
        }
    }

    fn rest(&self) -> Duration {
        let Some(period) = self.period else {
            return REST_MAX;
        };
        let finished = Duration::from_secs(lock(&self.status).finished_unix_s);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        // A clock that was set back must not put it off for ever.
        period
            .saturating_sub(now.saturating_sub(finished))
            .min(period)
    }

    fn pass(&mut self) -> Result<(), Stopped> {
        let replicas: Vec<(usize, PartitionId)> = (0..)
            .zip(&self.cores)
            .flat_map(|(core, files)| {
                let here = files.store.partitions();
                here.into_iter()
                    .map(move |(partition, _)| (core, partition))
            })
            .collect();
        let total = replicas.len() as u64;
        self.update(|status| {
            status.running = Some((0, total));
            status.findings.clear();
        });
        for (done, (core, partition)) in (1..).zip(replicas) {
            let started = Instant::now();
            self.check_replica(core, partition);
            self.update(|status| status.running = Some((done, total)));
            self.pause(started.elapsed())?;
        }
        for core in 0..self.cores.len() {
            self.check_log(core)?;
        }
        self.finish();
        Ok(())
    }

    fn check_replica(&self, core: usize, partition: PartitionId) {
        let files = &self.cores[core];
        match files.store.scrub(partition) {
            // Dropped since they were listed.
            Ok(()) | Err(StoreError::NoReplica { .. }) => {}
            Err(StoreError::Corruption { detail, .. }) => {
                self.find(format!("replica {partition} on core {core}: {detail}"));
                let error = format!("scrubbing found damage: {detail}");
                files
                    .inbox
                    .send(CoreInput::Pool(PoolDone::Damaged { partition, error }));
            }
            Err(error) => {
                tracing::warn!(%partition, core, %error, "a replica could not be scrubbed")
            }
        }
    }

    /// Looks twice: a segment that is freed and used again between listing and reading looks like damage once.
    fn check_log(&self, core: usize) -> Result<(), Stopped> {
        let first = self.damage_of_log(core)?;
        if first.is_empty() {
            return Ok(());
        }
        let again = self.damage_of_log(core)?;
        for damage in first.into_iter().filter(|damage| again.contains(damage)) {
            self.on_log_damage(core, &damage);
        }
        Ok(())
    }

    fn on_log_damage(&self, core: usize, damage: &Damage) {
        self.find(format!("log of core {core}: {damage:?}"));
        let concerned: BTreeSet<PartitionId> = match damage {
            Damage::Corrupt {
                lost: Some(items), ..
            } => items.iter().map(|item| item.partition).collect(),
            // Nobody knows what was there: whatever the log may be needed for.
            _ => {
                let all = self.cores[core].store.partitions();
                all.into_iter().map(|(partition, _)| partition).collect()
            }
        };
        for partition in concerned {
            self.cores[core].inbox.send(CoreInput::Flush { partition });
        }
    }

    fn damage_of_log(&self, core: usize) -> Result<Vec<Damage>, Stopped> {
        let files = &self.cores[core];
        let source = match LogSource::open(&files.log_dir) {
            Ok(source) => source,
            Err(error) => {
                tracing::warn!(core, %error, "the log could not be scrubbed");
                return Ok(Vec::new());
            }
        };
        let mut paced = Paced {
            source,
            scrubber: self,
            is_stopped: false,
        };
        // Without markers nothing of it is kept in memory.
        let recovered = recover(&mut paced, files.log_identity, &BTreeMap::new());
        if paced.is_stopped {
            return Err(Stopped);
        }
        let damage = recovered.map(|recovery| recovery.damage);
        Ok(damage
            .unwrap_or_default()
            .into_iter()
            .filter(|damage| !matches!(damage, Damage::TornTail { .. }))
            .collect())
    }

    fn finish(&self) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        self.update(|status| {
            status.running = None;
            status.finished_unix_s = now;
        });
        let findings = lock(&self.status).findings.len();
        tracing::info!(findings, "scrubbing is done");
        if let Err(error) = write_finished(&self.path, now) {
            tracing::warn!(path = %self.path.display(), %error, "the end of scrubbing is not recorded");
        }
    }

    fn find(&self, finding: String) {
        tracing::error!(finding, "scrubbing found damage");
        self.update(|status| {
            if status.findings.len() < FINDINGS_MAX {
                status.findings.push(finding);
            }
        });
    }

    /// Rests so long that work takes its share of the time. An order meanwhile changes nothing: it is being done.
    fn pause(&self, worked: Duration) -> Result<(), Stopped> {
        let rest = worked * (100 - self.share_percent) / self.share_percent;
        match self.queue.recv_timeout(rest) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => Err(Stopped),
        }
    }

    fn update(&self, change: impl FnOnce(&mut ScrubStatus)) {
        change(&mut lock(&self.status));
    }
}

/// A log that is read at the pace of scrubbing.
struct Paced<'s> {
    source: LogSource,
    scrubber: &'s Scrubber,
    is_stopped: bool,
}

impl SegmentSource for Paced<'_> {
    fn segments(&self) -> Vec<(SegmentId, u64)> {
        self.source.segments()
    }

    fn read(&mut self, segment: SegmentId, offset: u64, length: usize) -> Result<Bytes, String> {
        if self.is_stopped {
            return Err("stopped".to_owned());
        }
        let started = Instant::now();
        let bytes = self.source.read(segment, offset, length);
        if length >= LOG_READ_BYTES {
            self.is_stopped = self.scrubber.pause(started.elapsed()).is_err();
        }
        bytes
    }
}

fn lock(status: &Mutex<ScrubStatus>) -> std::sync::MutexGuard<'_, ScrubStatus> {
    status.lock().unwrap_or_else(PoisonError::into_inner)
}

/// 0 if there was no pass, or nobody knows.
fn read_finished(path: &Path) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim().parse().unwrap_or_default()
}

fn write_finished(path: &Path, unix_s: u64) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut file = fs::File::create(&new)?;
    writeln!(file, "{unix_s}")?;
    file.sync_all()?;
    fs::rename(new, path)
}

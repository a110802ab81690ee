//! One thread that looks after the databases and the disk of a node: what RocksDB tells from its own threads, and free
//! space once a second.
//!
//! RocksDB's threads must not wait, so they only note on a board what has happened; notes about the same replica are one
//! note, which bounds the board by the replicas. The thread then makes the slow calls and tells the cores.

use crate::config::{DiskConfig, ProcessConfig};
use crate::engine_pool::PoolDone;
use crate::inbox::{CoreInput, InboxSender};
use crate::meta_link::{MetaMail, MetaSender, ReplicaKey};
use pegasus_engine::RocksStore;
use pegasus_engine::rocks::{Notice, NoticeSink};
use pegasus_replication::event::Pressure;
use pegasus_replication::ids::PartitionId;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Free space under so many reserves is near.
const NEAR_FACTOR: u64 = 4;
/// How often sizes of replicas are looked at, where files have changed.
const SIZES_PERIOD: Duration = Duration::from_secs(5);

/// What the databases have told and nobody has looked after yet.
#[derive(Debug, Default)]
struct Notes {
    flushed: BTreeSet<(usize, PartitionId)>,
    damaged: BTreeMap<(usize, PartitionId), String>,
    /// Databases in an error that stops their writes.
    broken: BTreeSet<usize>,
    changed: BTreeSet<usize>,
    is_stopped: bool,
}

/// Where RocksDB's threads leave their notes.
#[derive(Clone, Debug, Default)]
pub struct NoticeBoard {
    shared: Arc<(Mutex<Notes>, Condvar)>,
}

/// What the watch needs to know of one core.
#[derive(Debug)]
pub struct WatchedCore {
    pub store: RocksStore,
    pub inbox: InboxSender,
}

/// The running watch.
#[derive(Debug)]
pub struct EngineWatch {
    board: NoticeBoard,
    thread: Option<JoinHandle<()>>,
}

impl NoticeBoard {
    /// The sink for the database of one core.
    #[must_use]
    pub fn sink(&self, core: usize) -> NoticeSink {
        let board = self.clone();
        NoticeSink::new(move |notice| board.note(core, notice))
    }

    fn note(&self, core: usize, notice: Notice) {
        let mut notes = self.lock();
        match notice {
            Notice::Flushed { partition, .. } => {
                notes.flushed.insert((core, partition));
            }
            Notice::Damaged {
                partition, detail, ..
            } => {
                notes.damaged.entry((core, partition)).or_insert(detail);
            }
            Notice::BackgroundError { .. } => {
                notes.broken.insert(core);
            }
            Notice::ShapeChanged => {
                notes.changed.insert(core);
            }
        }
        self.shared.1.notify_one();
    }

    /// Takes all notes; waits for some until `until`.
    fn take(&self, until: Instant) -> Notes {
        let mut notes = self.lock();
        while notes.is_empty() {
            let Some(left) = until
                .checked_duration_since(Instant::now())
                .filter(|left| !left.is_zero())
            else {
                break;
            };
            notes = self
                .shared
                .1
                .wait_timeout(notes, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        let is_stopped = notes.is_stopped;
        let taken = std::mem::take(&mut *notes);
        notes.is_stopped = is_stopped;
        taken
    }

    fn stop(&self) {
        self.lock().is_stopped = true;
        self.shared.1.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notes {
    fn is_empty(&self) -> bool {
        let is_quiet = self.flushed.is_empty() && self.damaged.is_empty();
        is_quiet && self.broken.is_empty() && self.changed.is_empty() && !self.is_stopped
    }
}

impl EngineWatch {
    /// Starts the watch over the databases of all cores and the disk under `dir`.
    ///
    /// # Errors
    /// The process may not have more threads.
    pub fn start(
        board: NoticeBoard,
        cores: Vec<WatchedCore>,
        disk: DiskWatch,
        meta: MetaSender,
    ) -> std::io::Result<Self> {
        let watched = board.clone();
        let thread = std::thread::Builder::new()
            .name("engine-watch".to_owned())
            .spawn(move || {
                let mut watch = Watch {
                    resized: (0..cores.len()).collect(),
                    cores,
                    disk,
                    meta,
                    broken: BTreeSet::new(),
                };
                watch.run(&watched);
            })?;
        Ok(Self {
            board,
            thread: Some(thread),
        })
    }
}

impl Drop for EngineWatch {
    fn drop(&mut self) {
        self.board.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Watch {
    cores: Vec<WatchedCore>,
    disk: DiskWatch,
    meta: MetaSender,
    broken: BTreeSet<usize>,
    /// Cores whose replicas have other files than when they were looked at last.
    resized: BTreeSet<usize>,
}

impl Watch {
    fn run(&mut self, board: &NoticeBoard) {
        let mut look_at = Instant::now();
        let mut sizes_at = look_at;
        loop {
            let notes = board.take(look_at);
            if notes.is_stopped {
                return;
            }
            self.look_after(notes);
            if Instant::now() >= look_at {
                self.look_at_disk();
                if sizes_at <= Instant::now() {
                    self.look_at_sizes();
                    sizes_at = Instant::now() + SIZES_PERIOD;
                }
                look_at = Instant::now() + self.disk.period();
                self.resume();
            }
        }
    }

    fn look_after(&mut self, notes: Notes) {
        for core in notes.changed {
            self.resized.insert(core);
            self.cores[core].store.refresh_pressure();
        }
        for (core, partition) in notes.flushed {
            let WatchedCore { store, inbox } = &self.cores[core];
            // A replica that was dropped meanwhile has no marker any more.
            if let Ok(marker) = store.durable(partition) {
                inbox.send(CoreInput::Pool(PoolDone::Durable {
                    partition,
                    decree: marker.decree,
                }));
            }
        }
        for ((core, partition), error) in notes.damaged {
            self.cores[core]
                .inbox
                .send(CoreInput::Pool(PoolDone::Damaged { partition, error }));
        }
        for core in notes.broken {
            if self.broken.insert(core) {
                tracing::error!(
                    core,
                    "the database of this core cannot write, trying to resume it"
                );
            }
        }
    }

    /// A database that stopped on a full disk goes on when there is space again.
    fn resume(&mut self) {
        let cores = &self.cores;
        self.broken
            .retain(|core| match cores[*core].store.resume() {
                Ok(()) => {
                    tracing::info!(core, "the database of this core writes again");
                    false
                }
                Err(error) => {
                    tracing::debug!(core, error, "the database of this core cannot write yet");
                    true
                }
            });
    }

    fn look_at_disk(&mut self) {
        let Some(space) = self.disk.look() else {
            return;
        };
        let Space {
            total,
            free,
            pressure,
        } = space;
        for core in &self.cores {
            core.inbox.send(CoreInput::Disk {
                pressure,
                total,
                free,
            });
        }
        // Without room meta is told next time.
        let is_full = pressure == Pressure::DiskFull;
        let _ = self.meta.send(MetaMail::Disk {
            total,
            free,
            is_full,
        });
    }

    /// Tells meta how large the replicas are of which files have come or gone.
    fn look_at_sizes(&mut self) {
        for core in std::mem::take(&mut self.resized) {
            let store = &self.cores[core].store;
            let sizes = store.partitions().into_iter();
            let sizes = sizes.map(|(partition, incarnation)| {
                let key = ReplicaKey {
                    partition,
                    incarnation,
                };
                (key, store.file_bytes(partition))
            });
            let told = self.meta.send(MetaMail::Sizes(sizes.collect()));
            if told.is_err() {
                self.resized.insert(core);
                return;
            }
        }
    }
}

/// Free space and the watermarks it is held against.
#[derive(Debug)]
pub struct DiskWatch {
    dir: PathBuf,
    period: Duration,
    watermarks: Watermarks,
    pressure: Pressure,
    is_near: bool,
}

/// Where writes stop and start again.
#[derive(Clone, Debug)]
struct Watermarks {
    config: DiskConfig,
    process: ProcessConfig,
    cores: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Space {
    total: u64,
    free: u64,
    pressure: Pressure,
}

impl DiskWatch {
    #[must_use]
    pub fn new(dir: &Path, process: &ProcessConfig) -> Self {
        let cores = process.cpu.cores.count() as u64;
        let watermarks = Watermarks {
            config: process.disk.clone(),
            process: process.clone(),
            cores,
        };
        let period = process.disk.check_period_ms.duration();
        Self {
            dir: dir.into(),
            period,
            watermarks,
            pressure: Pressure::None,
            is_near: true,
        }
    }

    /// Bytes that may still come before writes are refused; 0 if the file system does not say.
    #[must_use]
    pub fn room(&self) -> u64 {
        let Ok(stat) = rustix::fs::statvfs(&self.dir) else {
            return 0;
        };
        let total = stat.f_blocks.saturating_mul(stat.f_frsize);
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let refused = total / 100 * u64::from(self.watermarks.config.refuse_percent);
        let below_share = refused.saturating_sub(total.saturating_sub(free));
        let above_reserve = free.saturating_sub(self.watermarks.reserve(total));
        below_share.min(above_reserve)
    }

    /// Near the reserve it is looked at ten times as often: flushes and compactions come in bursts.
    fn period(&self) -> Duration {
        if self.is_near {
            self.period / 10
        } else {
            self.period
        }
    }

    /// `None`: the file system does not say.
    fn look(&mut self) -> Option<Space> {
        let stat = match rustix::fs::statvfs(&self.dir) {
            Ok(stat) => stat,
            Err(error) => {
                tracing::warn!(dir = %self.dir.display(), %error, "free space is not known");
                return None;
            }
        };
        let total = stat.f_blocks.saturating_mul(stat.f_frsize);
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let pressure = self.watermarks.pressure(total, free, self.pressure);
        self.is_near = free < self.watermarks.reserve(total).saturating_mul(NEAR_FACTOR);
        if pressure != self.pressure {
            let is_full = pressure == Pressure::DiskFull;
            tracing::warn!(total, free, is_full, "free space has crossed a watermark");
            self.pressure = pressure;
        }
        Some(Space {
            total,
            free,
            pressure,
        })
    }
}

impl Watermarks {
    /// Free bytes below which writes stop whatever the share in use.
    fn reserve(&self, total: u64) -> u64 {
        self.process.disk_reserve_bytes(total, self.cores)
    }

    /// Between the watermarks everything stays as it was.
    fn pressure(&self, total: u64, free: u64, before: Pressure) -> Pressure {
        let used_percent = (total.saturating_sub(free)).saturating_mul(100) / total.max(1);
        let reserve = self.reserve(total);
        if used_percent >= u64::from(self.config.refuse_percent) || free < reserve {
            return Pressure::DiskFull;
        }
        let has_room = free >= reserve.saturating_add(reserve / 4);
        if used_percent <= u64::from(self.config.resume_percent) && has_room {
            Pressure::None
        } else {
            before
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ByteSize;

    #[test]
    fn writes_stop_at_one_watermark_and_start_again_at_the_other() {
        let mut process = ProcessConfig::default();
        process.disk.reserve = ByteSize(40);
        let watermarks = Watermarks {
            config: process.disk.clone(),
            process,
            cores: 1,
        };
        let (none, full) = (Pressure::None, Pressure::DiskFull);
        assert_eq!(watermarks.pressure(1000, 200, none), none);
        assert_eq!(watermarks.pressure(1000, 100, none), full);
        assert_eq!(watermarks.pressure(1000, 120, full), full);
        assert_eq!(watermarks.pressure(1000, 120, none), none);
        assert_eq!(watermarks.pressure(1000, 150, full), none);
        assert_eq!(
            watermarks.pressure(10, 9, none),
            full,
            "the reserve is larger than the disk"
        );
    }
}

//! How fast the drive below a directory is: durable overwrites, random reads, bandwidth, all past the page cache and bounded in bytes and time.
//!
//! One file without a name is filled, then overwritten and read by every phase, so that no phase pays for the file system's own bookkeeping, and nothing is
//! left behind however the process ends.

use crate::blocks::{AlignedBuffer, BLOCK_BYTES, DirectFile};
use crate::speed::{Bandwidth, DriveSpeed, Latencies, SPEED_FORMAT};
use crate::{Root, drive, mount};
use hdrhistogram::Histogram;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Bytes of a file that is not worth measuring with: everything of it fits the drive's own cache.
pub const FILE_BYTES_MIN: u64 = 16 << 20;
/// More takes long and tells nothing more.
pub const FILE_BYTES_MAX: u64 = 64 << 30;
const PIECE_BYTES: usize = 1 << 20;
const SEQUENTIAL_DEPTH: usize = 4;
const RANDOM_DEPTH: usize = 32;
/// Durable overwrites go round and round in so much, as a log segment is gone through.
const FLUSHED_BYTES: u64 = 16 << 20;
/// The filling may take so many times what a phase may; the file is what is there by then.
const FILL_PHASES: u32 = 8;

/// What a measurement may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of the file, [`FILE_BYTES_MIN`] to [`FILE_BYTES_MAX`]. Larger than the drive's cache is better.
    pub file_bytes: u64,
    /// Time of each of the five phases.
    pub each: Duration,
}

/// What is being done, for whoever waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Fill,
    SequentialWrite,
    SequentialRead,
    RandomReadDepth1,
    RandomReadDepth32,
    Flush,
}

impl Phase {
    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fill => "filling a file",
            Self::SequentialWrite => "sequential writes",
            Self::SequentialRead => "sequential reads",
            Self::RandomReadDepth1 => "random reads, one at a time",
            Self::RandomReadDepth32 => "random reads, 32 at a time",
            Self::Flush => "durable overwrites",
        }
    }
}

/// Why there is no result; each names the directory.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    #[error("{dir}: {error}")]
    Io { dir: PathBuf, error: io::Error },
    #[error("{dir}: {error}; its file system does not know O_DIRECT, which a node needs")]
    NotDirect { dir: PathBuf, error: io::Error },
    #[error(
        "{dir}: {free} bytes are free, twice the {wanted} of the file are needed; name a smaller file"
    )]
    Space {
        dir: PathBuf,
        free: u64,
        wanted: u64,
    },
    #[error("{dir}: the drive took {seconds} s for {filled} bytes, too slow to be measured")]
    Slow {
        dir: PathBuf,
        filled: u64,
        seconds: u64,
    },
    #[error("file of {bytes} bytes: {FILE_BYTES_MIN} to {FILE_BYTES_MAX} are allowed")]
    Bytes { bytes: u64 },
    #[error("stopped")]
    Stopped,
}

/// Measures the drive of `dir`. `is_stopped` ends it within one read or write; `tell` hears of each phase.
///
/// # Errors
/// [`MeasureError`]; nothing is left behind.
pub fn measure(
    root: &Root,
    dir: &Path,
    bounds: &Bounds,
    is_stopped: &AtomicBool,
    tell: &mut dyn FnMut(Phase),
) -> Result<DriveSpeed, MeasureError> {
    let bytes = bounds.file_bytes;
    if !(FILE_BYTES_MIN..=FILE_BYTES_MAX).contains(&bytes) {
        return Err(MeasureError::Bytes { bytes });
    }
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::InvalidInput => MeasureError::NotDirect {
            dir: dir.into(),
            error,
        },
        _ => MeasureError::Io {
            dir: dir.into(),
            error,
        },
    };
    check_space(dir, bytes)?;
    let file = DirectFile::unnamed(dir).map_err(failed)?;
    let mut work = Work {
        file: &file,
        file_bytes: 0,
        each: bounds.each,
        is_stopped,
    };
    tell(Phase::Fill);
    let started = Instant::now();
    let filled = work.fill(bytes).map_err(failed)?;
    work.file_bytes = filled;
    work.check_stopped()?;
    if filled < FILE_BYTES_MIN {
        let seconds = started.elapsed().as_secs();
        return Err(MeasureError::Slow {
            dir: dir.into(),
            filled,
            seconds,
        });
    }
    let mut phase = |phase: Phase| {
        tell(phase);
        let result = work.run(phase).map_err(failed)?;
        work.check_stopped()?;
        Ok::<_, MeasureError>(result)
    };
    let (write, read) = (
        phase(Phase::SequentialWrite)?,
        phase(Phase::SequentialRead)?,
    );
    let (single, many) = (
        phase(Phase::RandomReadDepth1)?,
        phase(Phase::RandomReadDepth32)?,
    );
    let flush = phase(Phase::Flush)?;
    let place = Place::of(root, dir);
    Ok(DriveSpeed {
        format: SPEED_FORMAT,
        measured_unix_s: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
        drives: place.drives,
        drives_bytes: place.drives_bytes,
        file_system: place.file_system,
        file_bytes: filled,
        flush: flush.latencies(),
        read_depth_1: single.latencies(),
        read_depth_32: many.latencies(),
        sequential: Bandwidth {
            write_bytes_per_s: write.bytes_per_s(),
            read_bytes_per_s: read.bytes_per_s(),
        },
    })
}

/// What is below a directory, as far as the kernel tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Names of the drives.
    pub drives: Vec<String>,
    /// Bytes of all of them; 0 if one does not tell.
    pub drives_bytes: u64,
    /// Such as `ext4`.
    pub file_system: String,
}

impl Place {
    /// Looks; what is not told stays empty.
    #[must_use]
    pub fn of(root: &Root, dir: &Path) -> Self {
        let Ok(mount) = mount::existing(dir).and_then(|dir| mount::of(root, &dir)) else {
            return Self::default();
        };
        let drives = drive::of(root, &mount).unwrap_or_default();
        let sizes: Option<Vec<u64>> = drives.iter().map(|drive| drive.bytes(root).ok()).collect();
        Self {
            drives_bytes: sizes.map_or(0, |sizes| sizes.iter().sum()),
            drives: drives.into_iter().map(|drive| drive.name).collect(),
            file_system: mount.kind,
        }
    }
}

fn check_space(dir: &Path, wanted: u64) -> Result<(), MeasureError> {
    let space = rustix::fs::statvfs(dir).map_err(|error| MeasureError::Io {
        dir: dir.into(),
        error: error.into(),
    })?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if free / 2 < wanted {
        return Err(MeasureError::Space {
            dir: dir.into(),
            free,
            wanted,
        });
    }
    Ok(())
}

struct Work<'a> {
    file: &'a DirectFile,
    file_bytes: u64,
    each: Duration,
    is_stopped: &'a AtomicBool,
}

/// What one phase did.
struct Done {
    count: u64,
    elapsed: Duration,
    nanoseconds: Histogram<u64>,
}

impl Work<'_> {
    fn check_stopped(&self) -> Result<(), MeasureError> {
        match self.is_stopped.load(Ordering::Relaxed) {
            true => Err(MeasureError::Stopped),
            false => Ok(()),
        }
    }

    /// Writes the file from its beginning until it is as large as wanted or the time is over; the bytes there are, flushed.
    fn fill(&self, bytes: u64) -> io::Result<u64> {
        let piece = AlignedBuffer::new(PIECE_BYTES)?;
        let end = Instant::now() + self.each * FILL_PHASES;
        let mut filled = 0;
        while filled + PIECE_BYTES as u64 <= bytes
            && Instant::now() < end
            && !self.is_stopped.load(Ordering::Relaxed)
        {
            self.file.write_at(&piece, filled)?;
            filled += PIECE_BYTES as u64;
        }
        self.file.sync()?;
        Ok(filled)
    }

    fn run(&self, phase: Phase) -> io::Result<Done> {
        let next = AtomicU64::new(0);
        let after = |bytes: u64, piece: usize| {
            next.fetch_add(1, Ordering::Relaxed) % (bytes / piece as u64) * piece as u64
        };
        match phase {
            Phase::Fill | Phase::SequentialWrite => {
                self.together(SEQUENTIAL_DEPTH, PIECE_BYTES, |_, piece| {
                    self.file
                        .write_at(piece, after(self.file_bytes, PIECE_BYTES))
                })
            }
            Phase::SequentialRead => self.together(SEQUENTIAL_DEPTH, PIECE_BYTES, |_, piece| {
                self.file
                    .read_at(piece, after(self.file_bytes, PIECE_BYTES))
            }),
            Phase::RandomReadDepth1 => self.random_reads(1),
            Phase::RandomReadDepth32 => self.random_reads(RANDOM_DEPTH),
            Phase::Flush => self.together(1, BLOCK_BYTES, |_, block| {
                self.file.write_at(
                    block,
                    after(FLUSHED_BYTES.min(self.file_bytes), BLOCK_BYTES),
                )?;
                self.file.sync()
            }),
        }
    }

    fn random_reads(&self, depth: usize) -> io::Result<Done> {
        let blocks = self.file_bytes / BLOCK_BYTES as u64;
        self.together(depth, BLOCK_BYTES, |random, block| {
            self.file
                .read_at(block, random.next() % blocks * BLOCK_BYTES as u64)
        })
    }

    /// Runs `operation` on `depth` threads until the time is over.
    fn together(
        &self,
        depth: usize,
        piece_bytes: usize,
        operation: impl Fn(&mut Random, &mut AlignedBuffer) -> io::Result<()> + Sync,
    ) -> io::Result<Done> {
        let started = Instant::now();
        let end = started + self.each;
        let done = Mutex::new(Ok(histogram()));
        let worker = |number: usize| {
            let outcome = self.alone(number, piece_bytes, end, &operation);
            let mut all = done
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            match (&mut *all, outcome) {
                (Ok(sum), Ok(own)) => {
                    let _ = sum.add(own);
                }
                (Ok(_), Err(error)) => *all = Err(error),
                (Err(_), _) => {}
            }
        };
        let worker = &worker;
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for number in 0..depth {
                threads
                    .push(std::thread::Builder::new().spawn_scoped(scope, move || worker(number))?);
            }
            Ok::<_, io::Error>(())
        })?;
        let elapsed = started.elapsed();
        let nanoseconds = done
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner)?;
        Ok(Done {
            count: nanoseconds.len(),
            elapsed,
            nanoseconds,
        })
    }

    fn alone(
        &self,
        number: usize,
        piece_bytes: usize,
        end: Instant,
        operation: &impl Fn(&mut Random, &mut AlignedBuffer) -> io::Result<()>,
    ) -> io::Result<Histogram<u64>> {
        let mut own = histogram();
        let mut piece = AlignedBuffer::new(piece_bytes)?;
        let mut random = Random(number as u64 + 1);
        loop {
            let start = Instant::now();
            // At least one, so that a slow drive has a figure.
            if (start >= end && !own.is_empty()) || self.is_stopped.load(Ordering::Relaxed) {
                return Ok(own);
            }
            operation(&mut random, &mut piece)?;
            own.saturating_record(
                u64::try_from(start.elapsed().as_nanos())
                    .unwrap_or(u64::MAX)
                    .max(1),
            );
        }
    }
}

impl Done {
    fn latencies(&self) -> Latencies {
        let at = |quantile: f64| self.nanoseconds.value_at_quantile(quantile) as f64 / 1_000.0;
        Latencies {
            per_second: (self.count as f64 / self.elapsed.as_secs_f64())
                .round()
                .max(1.0),
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: at(1.0),
        }
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is positive, and the cast saturates"
    )]
    fn bytes_per_s(&self) -> u64 {
        ((self.count as f64 * PIECE_BYTES as f64 / self.elapsed.as_secs_f64()) as u64).max(1)
    }
}

/// 1 ns to 100 s, three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 100_000_000_000, 3)
        .expect("bounds and digits are constants that the histogram allows")
}

/// SplitMix64: which block is read next matters to nobody, as long as it is not the next one.
struct Random(u64);

impl Random {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Bounds = Bounds {
        file_bytes: FILE_BYTES_MIN,
        each: Duration::from_millis(20),
    };

    /// Below the package: unlike /tmp it never is a memory file system.
    fn disk() -> tempfile::TempDir {
        tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap()
    }

    #[test]
    fn a_short_measurement_has_all_figures_and_leaves_nothing_behind() {
        let dir = disk();
        let mut phases = Vec::new();
        let stopped = AtomicBool::new(false);
        let mut tell = |phase| {
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
            phases.push(phase);
        };
        let speed = measure(&Root::system(), dir.path(), &SHORT, &stopped, &mut tell).unwrap();
        assert_eq!((phases.len(), phases[0]), (6, Phase::Fill));
        assert_eq!(speed.file_bytes, FILE_BYTES_MIN);
        speed.save(dir.path()).unwrap();
        assert_eq!(DriveSpeed::load(dir.path()).unwrap(), Some(speed));
    }

    #[test]
    fn a_stop_ends_it_before_the_next_phase() {
        let dir = disk();
        let stopped = AtomicBool::new(false);
        let mut phases = 0;
        let mut tell = |_| {
            phases += 1;
            stopped.store(phases == 3, Ordering::Relaxed);
        };
        let error = measure(&Root::system(), dir.path(), &SHORT, &stopped, &mut tell).unwrap_err();
        assert!(matches!(error, MeasureError::Stopped), "{error}");
        assert_eq!(phases, 3);
    }

    #[test]
    fn bad_sizes_and_directories_are_named() {
        let dir = disk();
        let stopped = AtomicBool::new(false);
        let with = |dir: &Path, file_bytes| {
            let bounds = Bounds {
                file_bytes,
                ..SHORT
            };
            measure(&Root::system(), dir, &bounds, &stopped, &mut |_| {}).unwrap_err()
        };
        assert!(matches!(
            with(dir.path(), 1),
            MeasureError::Bytes { bytes: 1 }
        ));
        assert!(matches!(
            with(dir.path(), u64::MAX),
            MeasureError::Bytes { .. }
        ));
        let missing = dir.path().join("none");
        assert!(
            with(&missing, FILE_BYTES_MIN)
                .to_string()
                .contains("none: ")
        );
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(matches!(
            with(&file, FILE_BYTES_MIN),
            MeasureError::Io { .. }
        ));
    }
}

//! Reading a page: one consistent copy, and the difference of two.

use super::{
    COUNTERS_AT, Counter, GAUGES_AT, Gauge, HISTOGRAM_WORDS, HISTOGRAMS_AT, Histogram, MAGIC,
    PAGE_BYTES, PUBLISHED_AT, SEQUENCE_AT, STOPPED_AT, Timing, VERSION, load, pair,
};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use thiserror::Error;

/// How often a torn read is repeated. A publication takes well under a microsecond, so even two torn reads in a row are
/// rare; only a process killed in that moment leaves the page torn for good.
const READS_MAX: usize = 1_000;

/// Whose page it is: one life of one core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    pub node: u32,
    pub core: u32,
    pub pid: u32,
    /// Start of the process, microseconds since 1970.
    pub started_unix_us: u64,
}

/// A copy of one page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    identity: Identity,
    published_unix_us: u64,
    is_stopped: bool,
    torn: bool,
    values: Vec<u64>,
    histograms: Vec<Histogram>,
}

/// What happened between two snapshots of a page.
#[derive(Clone, Debug)]
pub struct Interval {
    elapsed: Duration,
    later: Snapshot,
}

/// Why a file is not a readable statistics page.
#[derive(Debug, Error)]
pub enum ReadError {
    #[error("statistics page {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} is not a statistics page", path.display())]
    NotAPage { path: PathBuf },
    #[error("statistics page {}: format {found}, this program reads {VERSION}", path.display())]
    Version { path: PathBuf, found: u64 },
    #[error("statistics page {}: other counters than this program knows", path.display())]
    Shape { path: PathBuf },
}

/// Reads the page at `path` (about 300 KiB) by ordinary file reads, without disturbing its writer.
///
/// # Errors
/// When the file cannot be read or is no page of this version.
pub fn read_at(path: &Path) -> Result<Snapshot, ReadError> {
    let io_error = |source| ReadError::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(io_error)?;
    let mut bytes = vec![0; PAGE_BYTES];
    read_full(&file, &mut bytes[..COUNTERS_AT * 8], 0, path)?;
    check_header(&bytes, path)?;
    read_full(
        &file,
        &mut bytes[HISTOGRAMS_AT * 8..],
        HISTOGRAMS_AT * 8,
        path,
    )?;
    let torn = !read_consistently(&file, &mut bytes[..HISTOGRAMS_AT * 8], path)?;
    Ok(decode(|index| word(&bytes, index), torn))
}

/// A copy taken by the writer's own thread.
pub(super) fn from_words(words: &[AtomicU64]) -> Snapshot {
    decode(|index| words.get(index).map_or(0, load), false)
}

/// Reads header, counters and gauges until the sequence is even and the same before and after. False when it never was.
fn read_consistently(file: &File, bytes: &mut [u8], path: &Path) -> Result<bool, ReadError> {
    for _ in 0..READS_MAX {
        let mut sequence = [0; 8];
        read_full(file, &mut sequence, SEQUENCE_AT * 8, path)?;
        read_full(file, bytes, 0, path)?;
        let before = u64::from_le_bytes(sequence);
        read_full(file, &mut sequence, SEQUENCE_AT * 8, path)?;
        if before & 1 == 0 && before == u64::from_le_bytes(sequence) {
            return Ok(true);
        }
        std::thread::yield_now();
    }
    Ok(false)
}

fn read_full(file: &File, bytes: &mut [u8], offset: usize, path: &Path) -> Result<(), ReadError> {
    file.read_exact_at(bytes, offset as u64)
        .map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => ReadError::NotAPage {
                path: path.to_owned(),
            },
            _ => ReadError::Io {
                path: path.to_owned(),
                source,
            },
        })
}

fn check_header(bytes: &[u8], path: &Path) -> Result<(), ReadError> {
    if word(bytes, 0) != MAGIC {
        return Err(ReadError::NotAPage {
            path: path.to_owned(),
        });
    }
    let found = word(bytes, 1);
    if found != VERSION {
        return Err(ReadError::Version {
            path: path.to_owned(),
            found,
        });
    }
    let values = pair(Counter::COUNT as u64, Gauge::COUNT as u64);
    let histograms = pair(Timing::COUNT as u64, HISTOGRAM_WORDS as u64);
    if (word(bytes, 5), word(bytes, 6)) != (values, histograms) {
        return Err(ReadError::Shape {
            path: path.to_owned(),
        });
    }
    Ok(())
}

fn decode(word: impl Fn(usize) -> u64, torn: bool) -> Snapshot {
    let (node, core) = halves(word(2));
    let (pid, _) = halves(word(3));
    Snapshot {
        identity: Identity {
            node,
            core,
            pid,
            started_unix_us: word(4),
        },
        published_unix_us: word(PUBLISHED_AT),
        is_stopped: word(STOPPED_AT) == 1,
        torn,
        values: (COUNTERS_AT..HISTOGRAMS_AT).map(&word).collect(),
        histograms: (0..Timing::COUNT)
            .map(|index| HISTOGRAMS_AT + index * HISTOGRAM_WORDS)
            .map(|start| Histogram::from_words((start..start + HISTOGRAM_WORDS).map(&word)))
            .collect(),
    }
}

fn word(bytes: &[u8], index: usize) -> u64 {
    bytes
        .get(index * 8..)
        .and_then(<[u8]>::first_chunk)
        .map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

fn halves(word: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = word.to_le_bytes();
    (
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    )
}

impl Snapshot {
    /// Whose page it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// When the writer last published, microseconds since 1970. Seconds ago means a stuck or dead core.
    #[must_use]
    pub fn published_unix_us(&self) -> u64 {
        self.published_unix_us
    }

    /// Whether the core has ended as it should ([`Writer::stop`](super::Writer::stop)).
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Whether counters and gauges may be of two different moments, which happens only when the process died while it
    /// published.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        self.torn
    }

    /// Total since the start of the process.
    #[must_use]
    pub fn counter(&self, counter: Counter) -> u64 {
        self.values[counter as usize]
    }

    /// Sum of several counters, for example [`Counter::requests`]. Saturates: what a damaged file holds is not ours.
    #[must_use]
    pub fn sum(&self, counters: &[Counter]) -> u64 {
        let values = counters.iter().map(|counter| self.counter(*counter));
        values.fold(0, u64::saturating_add)
    }

    #[must_use]
    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.values[GAUGES_AT - COUNTERS_AT + gauge as usize]
    }

    #[must_use]
    pub fn histogram(&self, timing: Timing) -> &Histogram {
        &self.histograms[timing as usize]
    }

    /// What happened after `earlier`. If that is of an earlier life of the core, everything since this life's start.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Interval {
        let mut later = self.clone();
        if earlier.identity != self.identity {
            let elapsed_us = self
                .published_unix_us
                .saturating_sub(self.identity.started_unix_us);
            return Interval {
                elapsed: Duration::from_micros(elapsed_us),
                later,
            };
        }
        for (now, then) in later
            .values
            .iter_mut()
            .zip(&earlier.values)
            .take(Counter::COUNT)
        {
            *now = now.saturating_sub(*then);
        }
        for (now, then) in later.histograms.iter_mut().zip(&earlier.histograms) {
            *now = now.since(then);
        }
        let elapsed_us = self
            .published_unix_us
            .saturating_sub(earlier.published_unix_us);
        Interval {
            elapsed: Duration::from_micros(elapsed_us),
            later,
        }
    }
}

impl Interval {
    /// Time between the two publications; zero when the writer did not publish in between.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Growth of a counter.
    #[must_use]
    pub fn count(&self, counter: Counter) -> u64 {
        self.later.counter(counter)
    }

    /// Growth of several counters together.
    #[must_use]
    pub fn sum(&self, counters: &[Counter]) -> u64 {
        self.later.sum(counters)
    }

    /// Growth of a counter per second; 0 when no time has passed.
    #[must_use]
    pub fn rate(&self, counter: Counter) -> f64 {
        self.rate_of(&[counter])
    }

    /// Growth of several counters together per second; 0 when no time has passed.
    #[must_use]
    pub fn rate_of(&self, counters: &[Counter]) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
        let count = self.sum(counters) as f64;
        if seconds > 0.0 { count / seconds } else { 0.0 }
    }

    /// The gauge at the end of the interval.
    #[must_use]
    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.later.gauge(gauge)
    }

    /// Durations recorded within the interval.
    #[must_use]
    pub fn histogram(&self, timing: Timing) -> &Histogram {
        self.later.histogram(timing)
    }
}

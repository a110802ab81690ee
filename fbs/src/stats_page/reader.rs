//! Reading a page: one consistent copy, and the difference of two.

use super::partitions::{self, PARTITION_WORDS, PARTITIONS_MAX, PartitionStats};
use super::slow::{self, SLOW_WORDS, SlowRequest};
use super::{
    COUNTERS_AT, Class, Counter, GAUGES_AT, Gauge, HISTOGRAM_WORDS, HISTOGRAMS_AT, Histogram,
    MAGIC, PAGE_WORDS, PARTITIONS_AT, PARTITIONS_USED_AT, PUBLISHED_AT, SEQUENCE_AT, SHAPE,
    SLOW_AT, STAGES_ON_AT, STOPPED_AT, Stage, Timing, VERSION, halves, load,
};
use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering, fence};
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
    measures_stages: bool,
    values: Vec<u64>,
    histograms: Vec<Histogram>,
    slow: Vec<SlowRequest>,
    partitions: Vec<PartitionStats>,
}

/// What happened between two snapshots of a page.
#[derive(Clone, Debug)]
pub struct Interval {
    elapsed: Duration,
    later: Snapshot,
}

/// Why words are not a readable statistics page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PageError {
    #[error("not a statistics page")]
    NotAPage,
    #[error("a statistics page of format {found}, this program reads {VERSION}")]
    Version { found: u64 },
    #[error("a statistics page with other counters than this program knows")]
    Shape,
}

/// Why a file is not a readable statistics page.
#[derive(Debug, Error)]
pub enum ReadError {
    #[error("statistics page {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: {source}", path.display())]
    Page { path: PathBuf, source: PageError },
}

/// Reads the page at `path` (about 700 KiB) by ordinary file reads, without disturbing its writer.
///
/// # Errors
/// When the file cannot be read or is no page of this version.
pub fn read_at(path: &Path) -> Result<Snapshot, ReadError> {
    let io_error = |source| ReadError::Io {
        path: path.to_owned(),
        source,
    };
    let page_error = |source| ReadError::Page {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(io_error)?;
    let read = |start: usize, words: &mut [u64]| {
        read_words(&file, start, words).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => page_error(PageError::NotAPage),
            _ => io_error(error),
        })
    };
    let mut header = [0; COUNTERS_AT];
    read(0, &mut header)?;
    check_header(&header).map_err(page_error)?;
    let words = copy(read)?;
    Snapshot::of_words(&words).map_err(page_error)
}

/// A copy of a page that its writer may be changing at this moment: counters and gauges of one moment, whole slow
/// requests. If its writer stands still in the middle of a publication, word 7 stays odd.
///
/// # Panics
/// If the page is shorter than [`PAGE_WORDS`].
#[must_use]
pub fn copy_of(page: &[AtomicU64]) -> Vec<u64> {
    let read = |start: usize, words: &mut [u64]| {
        fence(Ordering::Acquire);
        for (word, source) in words.iter_mut().zip(&page[start..]) {
            *word = load(source);
        }
        fence(Ordering::Acquire);
        Ok::<(), Infallible>(())
    };
    let Ok(words) = copy(read);
    words
}

/// One consistent copy, whatever the words are read from.
fn copy<E>(read: impl Fn(usize, &mut [u64]) -> Result<(), E>) -> Result<Vec<u64>, E> {
    let mut words = vec![0; PAGE_WORDS];
    read(HISTOGRAMS_AT, &mut words[HISTOGRAMS_AT..SLOW_AT])?;
    copy_slots(
        &read,
        SLOW_AT,
        SLOW_WORDS,
        &mut words[SLOW_AT..PARTITIONS_AT],
    )?;
    let mut used = [0];
    read(PARTITIONS_USED_AT, &mut used)?;
    let used = usize::try_from(used[0]).map_or(PARTITIONS_MAX, |used| used.min(PARTITIONS_MAX));
    let partitions = &mut words[PARTITIONS_AT..][..used * PARTITION_WORDS];
    copy_slots(&read, PARTITIONS_AT, PARTITION_WORDS, partitions)?;
    if !copy_values(&read, &mut words[..HISTOGRAMS_AT])? {
        words[SEQUENCE_AT] |= 1;
    }
    Ok(words)
}

/// Copies slots of `length` words, which begin with their sequence, and empties those that were written meanwhile.
fn copy_slots<E>(
    read: &impl Fn(usize, &mut [u64]) -> Result<(), E>,
    start: usize,
    length: usize,
    slots: &mut [u64],
) -> Result<(), E> {
    let mut before = vec![0; slots.len()];
    let mut after = before.clone();
    read(start, &mut before)?;
    read(start, slots)?;
    read(start, &mut after)?;
    for at in (0..slots.len()).step_by(length) {
        if before[at] != slots[at] || after[at] != slots[at] {
            slots[at] = 0;
        }
    }
    Ok(())
}

/// Reads header, counters and gauges until the sequence is even and the same before and after. False when it never was.
fn copy_values<E>(
    read: &impl Fn(usize, &mut [u64]) -> Result<(), E>,
    words: &mut [u64],
) -> Result<bool, E> {
    for _ in 0..READS_MAX {
        let (mut before, mut after) = ([0], [0]);
        read(SEQUENCE_AT, &mut before)?;
        read(0, words)?;
        read(SEQUENCE_AT, &mut after)?;
        if before[0] & 1 == 0 && before == after {
            return Ok(true);
        }
        std::thread::yield_now();
    }
    Ok(false)
}

fn read_words(file: &File, start: usize, words: &mut [u64]) -> io::Result<()> {
    let mut bytes = vec![0; words.len() * 8];
    file.read_exact_at(&mut bytes, start as u64 * 8)?;
    let (chunks, _) = bytes.as_chunks();
    for (word, chunk) in words.iter_mut().zip(chunks) {
        *word = u64::from_le_bytes(*chunk);
    }
    Ok(())
}

/// `words` has at least the header.
fn check_header(words: &[u64]) -> Result<(), PageError> {
    if words[0] != MAGIC {
        return Err(PageError::NotAPage);
    }
    if words[1] != VERSION {
        return Err(PageError::Version { found: words[1] });
    }
    if SHAPE.iter().any(|(at, value)| words[*at] != *value) {
        return Err(PageError::Shape);
    }
    Ok(())
}

impl Snapshot {
    /// The page that these words are a copy of ([`copy_of`], or [`expand`](super::expand) of what came over the wire).
    ///
    /// # Errors
    /// When they are no page of this version.
    pub fn of_words(words: &[u64]) -> Result<Self, PageError> {
        if words.len() < PAGE_WORDS {
            return Err(PageError::NotAPage);
        }
        check_header(words)?;
        let (node, core) = halves(words[2]);
        let (pid, _) = halves(words[3]);
        let histograms = words[HISTOGRAMS_AT..SLOW_AT].chunks_exact(HISTOGRAM_WORDS);
        Ok(Self {
            identity: Identity {
                node,
                core,
                pid,
                started_unix_us: words[4],
            },
            published_unix_us: words[PUBLISHED_AT],
            is_stopped: words[STOPPED_AT] == 1,
            torn: words[SEQUENCE_AT] & 1 == 1,
            measures_stages: words[STAGES_ON_AT] == 1,
            values: words[COUNTERS_AT..HISTOGRAMS_AT].to_vec(),
            histograms: histograms
                .map(|words| Histogram::from_words(words.iter().copied()))
                .collect(),
            slow: slow::decode(&words[SLOW_AT..PARTITIONS_AT]),
            partitions: partitions::decode(&words[PARTITIONS_AT..PAGE_WORDS]),
        })
    }

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

    /// Whether the node measures stages: without, there are no [`Timing::stages`] and no slow requests.
    #[must_use]
    pub fn measures_stages(&self) -> bool {
        self.measures_stages
    }

    /// The slowest requests of the last minutes, the slowest first; see [`SlowRequest`].
    #[must_use]
    pub fn slow_requests(&self) -> &[SlowRequest] {
        &self.slow
    }

    /// The replicas of the core, by table and partition: at most
    /// [`PARTITIONS_MAX`](super::PARTITIONS_MAX), [`Gauge::PartitionsUntold`] are left out.
    #[must_use]
    pub fn partitions(&self) -> &[PartitionStats] {
        &self.partitions
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

    /// Everything since the start of the process.
    #[must_use]
    pub fn since_start(&self) -> Interval {
        let elapsed_us = self
            .published_unix_us
            .saturating_sub(self.identity.started_unix_us);
        Interval {
            elapsed: Duration::from_micros(elapsed_us),
            later: self.clone(),
        }
    }

    /// What happened after `earlier`. If that is of an earlier life of the core, everything since this life's start.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Interval {
        if earlier.identity != self.identity {
            return self.since_start();
        }
        let mut later = self.clone();
        for (now, then) in later
            .values
            .iter_mut()
            .zip(&earlier.values)
            .take(Counter::COUNT)
        {
            *now = now.saturating_sub(*then);
        }
        later
            .slow
            .retain(|slow| slow.answered_unix_us > earlier.published_unix_us);
        for (now, then) in later.histograms.iter_mut().zip(&earlier.histograms) {
            *now = now.since(then);
        }
        for now in &mut later.partitions {
            let name = (now.table, now.partition);
            let then = earlier
                .partitions
                .binary_search_by_key(&name, |it| (it.table, it.partition));
            if let Ok(then) = then {
                *now = now.since(&earlier.partitions[then]);
            }
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

    /// The slowest of the requests answered within the interval, the slowest first: those that the page kept.
    #[must_use]
    pub fn slow_requests(&self) -> &[SlowRequest] {
        &self.later.slow
    }

    /// The replicas of the core, by table and partition, with what was counted within the interval.
    #[must_use]
    pub fn partitions(&self) -> &[PartitionStats] {
        &self.later.partitions
    }

    /// The stages of all requests of a class within the interval, in the order in which a request goes through them.
    pub fn stages(&self, class: Class) -> impl Iterator<Item = (Stage, &Histogram)> {
        class
            .stages()
            .map(|(stage, timing)| (stage, self.histogram(timing)))
    }
}

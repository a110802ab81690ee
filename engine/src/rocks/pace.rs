//! How fast compactions go: slowly, as long as nothing is behind.
//!
//! A compaction that runs as fast as it can takes a CPU and bursts of the drive's time for seconds, and on a machine with few
//! CPUs clients wait for it, whatever its priority. It has time: files of level 0 cost reads little before they are many. So
//! compactions of a database together take so many bytes a second, twice as many for each file of level 0 that a replica has
//! gathered beyond [`LEVEL0_FILES_USUAL`]: as fast as writes make necessary and not faster. From [`LEVEL0_FILES_BEHIND`] files on
//! they run free, long before writes would be refused. So do those of the other databases of the process, because they have the
//! threads that it needs.
//!
//! The limiter of RocksDB is no help: it counts flushes too, which must not wait, and its rate cannot follow what is behind.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Level-0 files that start a compaction.
pub(super) const LEVEL0_FILES_USUAL: u32 = 4;
/// Level-0 files of a replica from which on compactions do not wait.
pub(super) const LEVEL0_FILES_BEHIND: u32 = 2 * LEVEL0_FILES_USUAL;

/// A compaction looks at its pace after so many bytes: rests are short, and a stop does not wait for one.
const STEP_BYTES: u64 = 128 << 10;

/// Time that was not used is not saved up beyond this.
const BURST: Duration = Duration::from_millis(10);

/// Databases of this process that are behind.
static BEHIND: LazyLock<Arc<AtomicU32>> = LazyLock::new(Arc::default);

/// The pace of all compactions of one database; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Pace(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bytes_per_s: u64,
    /// When everything taken so far is paid for.
    paid_at: Mutex<Instant>,
    /// The rate is doubled so often.
    doublings: AtomicU32,
    is_behind: AtomicBool,
    all_behind: Arc<AtomicU32>,
}

/// One compaction, as far as it is.
#[derive(Debug)]
pub(super) struct Paced {
    pace: Pace,
    unpaid: u64,
}

impl Pace {
    pub(super) fn new(bytes_per_s: u64) -> Self {
        Self::among(bytes_per_s, Arc::clone(&BEHIND))
    }

    fn among(bytes_per_s: u64, all_behind: Arc<AtomicU32>) -> Self {
        Self(Arc::new(Shared {
            bytes_per_s: bytes_per_s.max(1),
            paid_at: Mutex::new(Instant::now()),
            doublings: AtomicU32::new(0),
            is_behind: AtomicBool::new(false),
            all_behind,
        }))
    }

    pub(super) fn begin(&self) -> Paced {
        Paced {
            pace: self.clone(),
            unpaid: 0,
        }
    }

    /// The most files of level 0 that a replica has.
    pub(super) fn set_level0_files(&self, most: u32) {
        let doublings = most.clamp(LEVEL0_FILES_USUAL, LEVEL0_FILES_BEHIND) - LEVEL0_FILES_USUAL;
        self.0.doublings.store(doublings, Ordering::Relaxed);
        self.0.set_behind(most >= LEVEL0_FILES_BEHIND);
    }

    fn reserve(&self, bytes: u64, now: Instant) -> Duration {
        if self.0.all_behind.load(Ordering::Relaxed) > 0 {
            return Duration::ZERO;
        }
        let bytes_per_s = self.0.bytes_per_s as f64
            * f64::from(1_u32 << self.0.doublings.load(Ordering::Relaxed));
        let cost = Duration::from_secs_f64(bytes as f64 / bytes_per_s);
        let mut paid_at = self
            .0
            .paid_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let floor = now.checked_sub(BURST).unwrap_or(now);
        *paid_at = (*paid_at).max(floor) + cost;
        paid_at.saturating_duration_since(now)
    }
}

impl Shared {
    fn set_behind(&self, is_behind: bool) {
        match (self.is_behind.swap(is_behind, Ordering::Relaxed), is_behind) {
            (false, true) => self.all_behind.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.all_behind.fetch_sub(1, Ordering::Relaxed),
            _ => return,
        };
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.set_behind(false);
    }
}

impl Paced {
    /// Rests until the bytes that have passed are paid for.
    pub(super) fn pass(&mut self, bytes: usize) {
        self.unpaid += bytes as u64;
        if self.unpaid >= STEP_BYTES {
            let bytes = std::mem::take(&mut self.unpaid);
            thread::sleep(self.pace.reserve(bytes, Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compactions_together_get_the_bytes_of_the_pace() {
        let pace = Pace::among(1_000_000, Arc::default());
        let now = Instant::now() + Duration::from_secs(1);
        assert_eq!(pace.reserve(10_000, now), Duration::ZERO);
        assert_eq!(pace.reserve(100_000, now), Duration::from_millis(100));
        assert_eq!(pace.reserve(100_000, now), Duration::from_millis(200));
        let later = now + Duration::from_millis(200);
        assert_eq!(pace.reserve(100_000, later), Duration::from_millis(100));
    }

    #[test]
    fn the_pace_doubles_with_each_file_that_waits() {
        let pace = Pace::among(1_000_000, Arc::default());
        let mut now = Instant::now() + Duration::from_secs(1);
        let mut rest_ms = |files| {
            now += Duration::from_secs(10);
            pace.set_level0_files(files);
            // The first takes what a burst may.
            pace.reserve(0, now);
            pace.reserve(80_000, now).as_millis() + BURST.as_millis()
        };
        assert_eq!([0, 4].map(&mut rest_ms), [80, 80]);
        assert_eq!([5, 6, 7].map(&mut rest_ms), [40, 20, 10]);
        assert_eq!(rest_ms(4), 80, "and slows down again");
    }

    #[test]
    fn nobody_rests_while_any_database_is_behind() {
        let all: Arc<AtomicU32> = Arc::default();
        let pace = Pace::among(1, Arc::clone(&all));
        let other = Pace::among(1, all);
        let now = Instant::now();
        let rests = || pace.reserve(1 << 30, now) > Duration::ZERO;
        assert!(rests());
        other.set_level0_files(LEVEL0_FILES_BEHIND);
        other.set_level0_files(LEVEL0_FILES_BEHIND + 1);
        assert!(!rests());
        other.set_level0_files(LEVEL0_FILES_BEHIND - 1);
        assert!(rests());
        other.set_level0_files(LEVEL0_FILES_BEHIND);
        assert!(!rests());
        drop(other);
        assert!(rests(), "a database that is closed is not behind");
    }
}

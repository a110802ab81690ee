//! How fast writes are admitted while the compactions of their replica are behind.
//!
//! Level 0 of a replica must not grow without bound: each of its files costs every read a look. Refusing writes at the bound
//! alone makes clients fail for as long as compactions take, and then start again all at once. So writes slow down well before
//! it, as RocksDB's own write controller has it: from [`SLOW_FILES`] files on a replica takes the bytes a second that it took
//! when it got there, times [`STEP`] for each file more, and whoever comes earlier waits. Where writes settle is as fast as
//! compactions go. Replicas that are not behind are not slowed down.
//!
//! Nothing here reads a clock.

use pegasus_replication::ids::{Instant, PartitionId};
use std::collections::HashMap;
use std::time::Duration;

/// Level-0 files of a replica from which on its writes slow down: half of those at which they are refused.
pub(super) const SLOW_FILES: u32 = pegasus_engine::EnginePressure::LEVEL0_FILES_MAX / 2;

/// For each file more.
const STEP: f64 = 0.8;

/// How long it is looked how many bytes come, before they are slowed down.
const MEASURE: Duration = Duration::from_millis(100);

/// Writes never become slower than this, for each replica.
const BYTES_PER_S_MIN: f64 = 256.0 * 1024.0;

/// The pace of all replicas of one core that are behind.
#[derive(Debug, Default)]
pub(super) struct WritePace {
    replicas: HashMap<PartitionId, Paced>,
    is_behind: bool,
}

#[derive(Debug)]
struct Paced {
    since: Instant,
    /// That came since then.
    bytes: u64,
    /// What came when it got behind, bytes a second; not known at first.
    base: Option<f64>,
    /// When everything admitted so far is paid for.
    paid_at: Instant,
}

impl WritePace {
    /// Tells how many level-0 files the replica has that has most of them.
    #[inline]
    pub(super) fn set_files(&mut self, most: u32) {
        let is_behind = most >= SLOW_FILES;
        if self.is_behind && !is_behind {
            self.replicas.clear();
        }
        self.is_behind = is_behind;
    }

    /// Whether any replica is behind: [`Self::pause`] is only asked then.
    #[inline]
    pub(super) const fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// How long a write waits before it is admitted, at most `longest`. `files`: level-0 files of its replica.
    pub(super) fn pause(
        &mut self,
        partition: PartitionId,
        files: u32,
        bytes: u64,
        now: Instant,
        longest: Duration,
    ) -> Duration {
        if files < SLOW_FILES {
            self.replicas.remove(&partition);
            return Duration::ZERO;
        }
        let paced = self.replicas.entry(partition).or_insert(Paced {
            since: now,
            bytes: 0,
            base: None,
            paid_at: now,
        });
        let Some(base) = paced.base(bytes, now) else {
            return Duration::ZERO;
        };
        let step = i32::try_from(files - SLOW_FILES + 1).unwrap_or(i32::MAX);
        let bytes_per_s = (base * STEP.powi(step)).max(BYTES_PER_S_MIN);
        let begin = paced.paid_at.max(now);
        let pause = begin.since(now);
        if pause >= longest {
            // Its client would give up. What is too much after all is refused at the bound.
            return longest;
        }
        paced.paid_at = begin.after(Duration::from_secs_f64(bytes as f64 / bytes_per_s));
        pause
    }
}

impl Paced {
    /// Bytes a second that came when the replica got behind.
    fn base(&mut self, bytes: u64, now: Instant) -> Option<f64> {
        if self.base.is_none() {
            self.bytes += bytes;
            let looked = now.since(self.since);
            if looked >= MEASURE {
                self.base = Some(self.bytes as f64 / looked.as_secs_f64());
            }
        }
        self.base
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pegasus_replication::ids::TableId;

    const LONGEST: Duration = Duration::from_millis(500);

    fn partition(index: u32) -> PartitionId {
        PartitionId {
            table: TableId(1),
            index,
        }
    }

    /// A replica to which 10 MB a second come when it gets behind; the moment when that is known.
    fn behind(files: u32) -> (WritePace, Instant) {
        let mut pace = WritePace::default();
        pace.set_files(files);
        let mut now = Instant(0);
        while pace.replicas.values().all(|it| it.base.is_none()) {
            now = now.after(Duration::from_millis(1));
            pace.pause(partition(0), files, 10_000, now, LONGEST);
        }
        let base = pace.replicas[&partition(0)].base;
        assert!(
            base.is_some_and(|base| (9e6..11e6).contains(&base)),
            "{base:?}"
        );
        (pace, now)
    }

    #[test]
    fn replicas_that_are_not_behind_are_not_slowed_down() {
        let mut pace = WritePace::default();
        pace.set_files(SLOW_FILES);
        for moment in 0..1_000 {
            let now = Instant(moment * 1_000_000);
            let pause = pace.pause(partition(1), SLOW_FILES - 1, 1 << 20, now, LONGEST);
            assert_eq!(pause, Duration::ZERO);
        }
        assert!(pace.replicas.is_empty());
    }

    #[test]
    fn each_file_more_takes_a_fifth_of_the_pace() {
        let seconds = |files| {
            let (mut pace, now) = behind(files);
            let before = pace.replicas[&partition(0)].paid_at.max(now);
            pace.pause(partition(0), files, 1_000_000, now, LONGEST);
            pace.replicas[&partition(0)]
                .paid_at
                .since(before)
                .as_secs_f64()
        };
        let (first, fifth) = (seconds(SLOW_FILES), seconds(SLOW_FILES + 4));
        assert!(
            (0.11..0.14).contains(&first),
            "1 MB at 8 MB/s took {first} s"
        );
        assert!(
            (fifth / first * STEP.powi(4) - 1.0).abs() < 0.05,
            "{fifth} after {first}"
        );
    }

    #[test]
    fn many_writers_together_get_the_pace_and_none_waits_longer_than_it_can() {
        let (mut pace, now) = behind(SLOW_FILES + 9);
        // 10 MB/s x 0.8^10 = 1.07 MB/s: of 1,000 writes of 1 KB that come at once about half go within half a second.
        let mut pauses: Vec<_> = (0..1_000)
            .map(|_| pace.pause(partition(0), SLOW_FILES + 9, 1000, now, LONGEST))
            .collect();
        pauses.sort_unstable();
        let within = pauses.iter().filter(|pause| **pause < LONGEST).count();
        assert!((450..=600).contains(&within), "{within}");
        assert_eq!(pauses.last(), Some(&LONGEST));
    }

    #[test]
    fn a_trickle_is_not_delayed_and_nothing_is_slower_than_the_floor() {
        let mut pace = WritePace::default();
        pace.set_files(u32::MAX);
        let mut now = Instant(0);
        for _ in 0..100 {
            let pause = pace.pause(partition(0), u32::MAX, 100, now, LONGEST);
            assert_eq!(pause, Duration::ZERO);
            now = now.after(Duration::from_millis(10));
        }
    }

    #[test]
    fn who_has_caught_up_starts_anew() {
        let (mut pace, _) = behind(SLOW_FILES + 9);
        assert_eq!(pace.replicas.len(), 1);
        pace.set_files(3);
        assert!(!pace.is_behind() && pace.replicas.is_empty());
    }
}

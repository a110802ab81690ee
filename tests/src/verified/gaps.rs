//! How long no operation on a partition succeeded.

use pegasus_replication::ids::Instant;
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
struct Gap {
    last: Instant,
    longest: Duration,
}

/// Of each partition of a table.
#[derive(Debug)]
pub(crate) struct Gaps {
    partitions: Vec<Gap>,
    closed: bool,
}

impl Gaps {
    pub(crate) fn of(partitions: usize, from: Instant) -> Self {
        let gap = Gap {
            last: from,
            longest: Duration::ZERO,
        };
        Self {
            partitions: vec![gap; partitions],
            closed: false,
        }
    }

    pub(crate) fn succeed(&mut self, partition: u32, now: Instant) {
        if self.closed {
            return;
        }
        let gap = &mut self.partitions[partition as usize];
        gap.longest = gap.longest.max(now.since(gap.last));
        gap.last = now;
    }

    /// When an operation on it succeeded last.
    pub(crate) fn last(&self, partition: u32) -> Instant {
        self.partitions[partition as usize].last
    }

    /// Begins anew.
    pub(crate) fn forget(&mut self, now: Instant) {
        for gap in &mut self.partitions {
            gap.longest = Duration::ZERO;
            gap.last = now;
        }
    }

    /// Counts what lasts now, and nothing after it.
    pub(crate) fn close(&mut self, now: Instant) {
        for partition in (0..).take(self.partitions.len()) {
            self.succeed(partition, now);
        }
        self.closed = true;
    }

    /// The longest of all, with its partition.
    pub(crate) fn longest(&self) -> (Duration, u32) {
        let gaps = self.partitions.iter().map(|gap| gap.longest);
        gaps.zip(0..).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Instant {
        Instant(milliseconds * 1_000_000)
    }

    #[test]
    fn the_longest_gap_of_all_partitions_counts_also_at_the_end() {
        let mut gaps = Gaps::of(2, ms(0));
        gaps.succeed(0, ms(400));
        gaps.forget(ms(1_000));
        gaps.succeed(0, ms(1_100));
        gaps.succeed(1, ms(1_150));
        gaps.succeed(0, ms(1_300));
        assert_eq!(gaps.longest(), (Duration::from_millis(200), 0));
        gaps.close(ms(1_500));
        assert_eq!(gaps.longest(), (Duration::from_millis(350), 1));
        gaps.succeed(1, ms(9_000));
        assert_eq!(gaps.longest(), (Duration::from_millis(350), 1));
    }
}

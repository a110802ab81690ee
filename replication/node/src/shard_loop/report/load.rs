//! What each replica has to do: requests a second, smoothed over a minute, told again only when they have changed notably, so
//! that a steady load costs no heartbeats.

use crate::meta_link::ReplicaLoad;
use pegasus_replication::ids::{Instant, PartitionId};
use std::collections::BTreeMap;

/// What was measured so long ago counts a third of what is measured now, in seconds.
const SMOOTH_SECONDS: f64 = 60.0;
/// Rates below this are told as nothing.
const RATE_MIN: f64 = 0.5;

/// What was counted since some beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) reads: u64,
    pub(super) writes: u64,
}

/// The rates of all replicas of a core.
#[derive(Debug, Default)]
pub(super) struct Loads(BTreeMap<PartitionId, Rates>);

#[derive(Debug)]
struct Rates {
    last: Totals,
    at: Instant,
    reads: f64,
    writes: f64,
    told: ReplicaLoad,
}

impl Loads {
    /// Forgets all but these.
    pub(super) fn keep(&mut self, partitions: &[PartitionId]) {
        if self.0.len() > partitions.len() {
            let mut kept: Vec<PartitionId> = partitions.to_vec();
            kept.sort_unstable();
            self.0.retain(|id, _| kept.binary_search(id).is_ok());
        }
    }

    pub(super) fn forget(&mut self, partition: PartitionId) {
        self.0.remove(&partition);
    }

    /// Takes what was counted up to now. Counts that fall begin anew.
    pub(super) fn measure(&mut self, partition: PartitionId, total: Totals, now: Instant) {
        let rates = self.0.entry(partition).or_insert(Rates {
            last: total,
            at: now,
            reads: 0.0,
            writes: 0.0,
            told: ReplicaLoad::default(),
        });
        let seconds = now.since(rates.at).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let share = 1.0 - (-seconds / SMOOTH_SECONDS).exp();
        let rate = |now: u64, before: u64| per_second(now.saturating_sub(before), seconds);
        rates.reads += share * (rate(total.reads, rates.last.reads) - rates.reads);
        rates.writes += share * (rate(total.writes, rates.last.writes) - rates.writes);
        (rates.last, rates.at) = (total, now);
        if differs(rates.reads, rates.told.reads) || differs(rates.writes, rates.told.writes) {
            rates.told = ReplicaLoad {
                reads: rounded(rates.reads),
                writes: rounded(rates.writes),
            };
        }
    }

    /// What meta is to know.
    pub(super) fn told(&self, partition: PartitionId) -> ReplicaLoad {
        self.0
            .get(&partition)
            .map_or(ReplicaLoad::default(), |it| it.told)
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "counts of a second are far below 2^52"
)]
fn per_second(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds
}

/// By an eighth, and by more than what is nothing.
fn differs(rate: f64, told: u32) -> bool {
    let told = f64::from(told);
    let gap = (rate - told).abs();
    gap > told / 8.0 && gap > RATE_MIN
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is positive; what is above 2^32 is told as that"
)]
fn rounded(rate: f64) -> u32 {
    rate.round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use pegasus_replication::ids::TableId;
    use std::time::Duration;

    const ID: PartitionId = PartitionId {
        table: TableId(1),
        index: 0,
    };

    /// `reads` a second for so many seconds, on top of what was before.
    fn run(loads: &mut Loads, from: u64, seconds: u64, reads: u64) -> Vec<ReplicaLoad> {
        let start = Instant::default();
        let base = loads.0.get(&ID).map_or(0, |it| it.last.reads);
        (1..=seconds)
            .map(|second| {
                let total = Totals {
                    reads: base + second * reads,
                    writes: 0,
                };
                let now = start.after(Duration::from_secs(from + second));
                loads.measure(ID, total, now);
                loads.told(ID)
            })
            .collect()
    }

    #[test]
    fn a_steady_load_is_approached_and_then_not_told_again() {
        let mut loads = Loads::default();
        run(&mut loads, 0, 600, 1_000);
        let told = loads.told(ID).reads;
        assert!((870..=1_000).contains(&told), "{told}");
        let later = run(&mut loads, 600, 600, 1_000);
        assert!(
            later.iter().all(|it| it.reads.abs_diff(told) <= 130),
            "it wavers"
        );
        let changes = later.windows(2).filter(|it| it[0] != it[1]).count();
        assert!(changes <= 1, "{changes} times");
    }

    #[test]
    fn a_load_that_ends_is_nothing_in_the_end() {
        let mut loads = Loads::default();
        run(&mut loads, 0, 300, 1_000);
        run(&mut loads, 300, 900, 0);
        assert_eq!(loads.told(ID), ReplicaLoad::default());
    }

    #[test]
    fn a_count_that_falls_is_no_load_and_a_replica_that_is_gone_is_forgotten() {
        let mut loads = Loads::default();
        run(&mut loads, 0, 10, 1_000);
        let now = Instant::default().after(Duration::from_secs(11));
        let before = loads.0[&ID].reads;
        loads.measure(
            ID,
            Totals {
                reads: 0,
                writes: 0,
            },
            now,
        );
        assert!(loads.0[&ID].reads < before);
        loads.keep(&[]);
        assert_eq!(loads.told(ID), ReplicaLoad::default());
    }
}

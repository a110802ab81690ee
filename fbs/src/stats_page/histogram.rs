//! A log-linear latency histogram with a fixed shape, as words of the statistics page.
//!
//! Durations count in units of 16 ns. The first 64 buckets are one unit wide (up to 1.024 us); from there each power of
//! two is split into 64 buckets, so a bucket is at most 1/64 (1.6 %) of its value wide, up to 68.7 s; what is longer
//! counts as that.
//!
//! | word | contents |
//! |---|---|
//! | 0 | sum of all durations, nanoseconds |
//! | 1 | longest duration since the start, nanoseconds |
//! | 2, 3 | 0 |
//! | 4.. | buckets: how many durations fell into each |

use super::{load, store};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

const UNIT_BITS: u32 = 4;
const SPLIT_BITS: u32 = 6;
const SPLIT: usize = 1 << SPLIT_BITS;
const POWERS: usize = 26;
const BUCKETS: usize = (POWERS + 1) * SPLIT;
const UNITS_MAX: u64 = (1 << (SPLIT_BITS as usize + POWERS)) - 1;
const BUCKETS_AT: usize = 4;

/// Words of one histogram in the page.
pub const HISTOGRAM_WORDS: usize = BUCKETS_AT + BUCKETS;

/// How many durations fell where; a copy taken from a page, the difference of two, or the sum of several cores'.
#[derive(Clone, PartialEq, Eq)]
pub struct Histogram {
    sum_ns: u64,
    max_ns: u64,
    buckets: Box<[u64]>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            sum_ns: 0,
            max_ns: 0,
            buckets: vec![0; BUCKETS].into_boxed_slice(),
        }
    }
}

impl Histogram {
    /// Reads [`HISTOGRAM_WORDS`] words.
    pub(super) fn from_words(mut words: impl Iterator<Item = u64>) -> Self {
        let sum_ns = words.next().unwrap_or(0);
        let max_ns = words.next().unwrap_or(0);
        let mut histogram = Self {
            sum_ns,
            max_ns,
            ..Self::default()
        };
        for (bucket, word) in histogram.buckets.iter_mut().zip(words.skip(BUCKETS_AT - 2)) {
            *bucket = word;
        }
        histogram
    }

    /// Records one duration; the page itself is written by `Writer::record`.
    pub fn record(&mut self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns = self.sum_ns.saturating_add(nanos);
        self.max_ns = self.max_ns.max(nanos);
        self.buckets[index_of(nanos)] += 1;
    }

    /// Adds what another one counted, for example that of another core.
    pub fn merge(&mut self, other: &Self) {
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
        for (bucket, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *bucket = bucket.saturating_add(*more);
        }
    }

    /// What was recorded after `earlier`, an older copy of the same histogram. The longest duration of the interval is
    /// then known to a bucket only.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut histogram = Self {
            sum_ns: self.sum_ns.saturating_sub(earlier.sum_ns),
            ..Self::default()
        };
        for (bucket, (now, then)) in histogram
            .buckets
            .iter_mut()
            .zip(self.buckets.iter().zip(&earlier.buckets))
        {
            *bucket = now.saturating_sub(*then);
        }
        let longest = histogram
            .buckets
            .iter()
            .rposition(|count| *count > 0)
            .map_or(0, upper_ns);
        histogram.max_ns = longest.min(self.max_ns);
        histogram
    }

    /// How many durations were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets
            .iter()
            .fold(0, |sum: u64, count| sum.saturating_add(*count))
    }

    /// The duration that the fraction `quantile` (0 to 1) of all recorded ones does not exceed, at most 1.6 % too
    /// high. `None` when nothing was recorded.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let count = self.count();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a rank between 1 and the count"
        )]
        let rank = ((quantile.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0_u64;
        for (index, bucket) in self.buckets.iter().enumerate() {
            seen = seen.saturating_add(*bucket);
            if seen >= rank {
                return Some(Duration::from_nanos(upper_ns(index).min(self.max_ns)));
            }
        }
        None
    }

    /// How many durations did not exceed each of these bounds, which must grow; those in the same bucket as a bound count
    /// as longer, so that it is at most 1.6 % off.
    #[must_use]
    pub fn within(&self, bounds: &[Duration]) -> Vec<u64> {
        let mut index = 0;
        let mut seen = 0_u64;
        let mut count_until = |bound: &Duration| {
            while index < BUCKETS && u128::from(upper_ns(index)) <= bound.as_nanos() {
                seen = seen.saturating_add(self.buckets[index]);
                index += 1;
            }
            seen
        };
        bounds.iter().map(&mut count_until).collect()
    }

    /// The longest duration; `None` when nothing was recorded.
    #[must_use]
    pub fn max(&self) -> Option<Duration> {
        (self.count() > 0).then(|| Duration::from_nanos(self.max_ns))
    }

    /// All durations together.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_ns)
    }

    /// The mean; `None` when nothing was recorded.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        self.sum_ns
            .checked_div(self.count())
            .map(Duration::from_nanos)
    }
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count())
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("max", &self.max())
            .finish()
    }
}

/// Adds `count` durations to a histogram in the page: `sum_ns` together, each in the bucket of `nanos`. The caller is its
/// only writer.
#[inline]
pub(super) fn record(words: &[AtomicU64], nanos: u64, sum_ns: u64, count: u64) {
    let [sum, max, _, _, buckets @ ..] = words else {
        return;
    };
    // Most stages of most requests take no time at all.
    if sum_ns > 0 {
        store(sum, load(sum).wrapping_add(sum_ns));
        if nanos > load(max) {
            store(max, nanos);
        }
    }
    let bucket = &buckets[index_of(nanos)];
    store(bucket, load(bucket).wrapping_add(count));
}

#[inline]
fn index_of(nanos: u64) -> usize {
    let units = (nanos >> UNIT_BITS).min(UNITS_MAX);
    #[allow(clippy::cast_possible_truncation, reason = "units fit 32 bits")]
    let units = units as usize;
    if units < SPLIT {
        return units;
    }
    let shift = units.ilog2() - SPLIT_BITS;
    (shift as usize + 1) * SPLIT + (units >> shift) - SPLIT
}

/// The longest duration that falls into a bucket.
fn upper_ns(index: usize) -> u64 {
    let upper_units = if index < SPLIT {
        index as u64 + 1
    } else {
        let shift = index / SPLIT - 1;
        ((index % SPLIT + SPLIT) as u64 + 1) << shift
    };
    (upper_units << UNIT_BITS) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_follow_each_other_without_gap_or_overlap() {
        for index in 0..BUCKETS {
            assert_eq!(index_of(upper_ns(index)), index);
            if index + 1 < BUCKETS {
                assert_eq!(index_of(upper_ns(index) + 1), index + 1);
            }
        }
    }

    #[test]
    fn the_range_reaches_a_minute() {
        assert!(upper_ns(BUCKETS - 1) > 60_000_000_000);
        assert_eq!(index_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn an_empty_histogram_has_no_percentiles() {
        let histogram = Histogram::default();
        assert_eq!(
            (histogram.quantile(0.5), histogram.max(), histogram.mean()),
            (None, None, None)
        );
    }

    #[test]
    fn durations_are_counted_up_to_bounds_that_grow() {
        let mut histogram = Histogram::default();
        for micros in [1, 50, 50, 900, 5_000] {
            histogram.record(Duration::from_micros(micros));
        }
        let bounds = [10, 100, 1_000, 1_000_000].map(Duration::from_micros);
        assert_eq!(histogram.within(&bounds), [1, 3, 4, 5]);
        assert_eq!(histogram.within(&[Duration::from_secs(1_000)]), [5]);
        assert_eq!(histogram.within(&[]), [0; 0]);
    }

    #[test]
    fn a_difference_holds_only_the_interval() {
        let mut earlier = Histogram::default();
        earlier.record(Duration::from_secs(3));
        let mut later = earlier.clone();
        later.record(Duration::from_micros(50));
        let interval = later.since(&earlier);
        assert_eq!(interval.count(), 1);
        assert!(interval.max().unwrap() < Duration::from_micros(51));
        assert_eq!(interval.mean(), Some(Duration::from_micros(50)));
    }

    proptest! {
        #[test]
        fn percentiles_are_within_one_part_in_64(
            mut values in proptest::collection::vec(1_000_u64..60_000_000_000, 1..300),
            quantile in 0.0_f64..=1.0,
        ) {
            let mut histogram = Histogram::default();
            for value in &values {
                histogram.record(Duration::from_nanos(*value));
            }
            values.sort_unstable();
            let rank = ((quantile * values.len() as f64).ceil() as usize).max(1) - 1;
            let exact = values[rank] as f64;
            let found = histogram.quantile(quantile).unwrap().as_nanos() as f64;
            prop_assert!(found >= exact && found <= exact * (1.0 + 1.0 / 64.0) + 16.0, "{found} for {exact}");
        }

        #[test]
        fn merging_equals_recording_both(
            left in proptest::collection::vec(0_u64..1_000_000_000, 0..50),
            right in proptest::collection::vec(0_u64..1_000_000_000, 0..50),
        ) {
            let build = |values: &mut dyn Iterator<Item = &u64>| {
                let mut histogram = Histogram::default();
                values.for_each(|value| histogram.record(Duration::from_nanos(*value)));
                histogram
            };
            let mut merged = build(&mut left.iter());
            merged.merge(&build(&mut right.iter()));
            prop_assert_eq!(merged, build(&mut left.iter().chain(&right)));
        }
    }
}

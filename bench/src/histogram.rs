//! Latencies: a histogram of three significant digits, and the percentiles that reports show.

use anyhow::Context as _;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Latencies of one kind of operation, 1 ns to 100 s with three significant digits; outside of that the bound is recorded.
#[derive(Clone, Debug)]
pub(crate) struct Latency {
    nanoseconds: Histogram<u64>,
}

/// Below 1,024 times this a histogram has fewer than three digits, so it is far below anything that is measured.
const LOWEST_NS: u64 = 1;
const HIGHEST_NS: u64 = 100_000_000_000;

impl Latency {
    pub(crate) fn new() -> Self {
        let nanoseconds = Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, 3)
            .expect("bounds and digits are constants that the histogram allows");
        Self { nanoseconds }
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(HIGHEST_NS);
        self.nanoseconds
            .saturating_record(nanoseconds.max(LOWEST_NS));
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.nanoseconds
            .add(&other.nanoseconds)
            .expect("both have the same bounds");
    }

    pub(crate) fn count(&self) -> u64 {
        self.nanoseconds.len()
    }

    /// Forgets everything and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.nanoseconds.reset();
    }

    /// The whole histogram as data.
    pub(crate) fn buckets(&self) -> Buckets {
        let bucket = |step: hdrhistogram::iterators::IterationValue<u64>| {
            (step.value_iterated_to(), step.count_at_value())
        };
        Buckets(self.nanoseconds.iter_recorded().map(bucket).collect())
    }

    /// Adds what another histogram held.
    ///
    /// # Errors
    /// When a value lies outside of what a histogram holds.
    pub(crate) fn add_buckets(&mut self, buckets: &Buckets) -> anyhow::Result<()> {
        for (value_ns, count) in &buckets.0 {
            self.nanoseconds
                .record_n(*value_ns, *count)
                .with_context(|| format!("histogram: a latency of {value_ns} ns"))?;
        }
        Ok(())
    }

    /// # Errors
    /// Those of [`Latency::add_buckets`].
    pub(crate) fn from_buckets(buckets: &Buckets) -> anyhow::Result<Self> {
        let mut latency = Self::new();
        latency.add_buckets(buckets)?;
        Ok(latency)
    }

    /// The latency that a share `quantile` (0 to 1) does not exceed, in microseconds.
    pub(crate) fn at_us(&self, quantile: f64) -> f64 {
        microseconds(self.nanoseconds.value_at_quantile(quantile))
    }

    pub(crate) fn percentiles(&self) -> Percentiles {
        let at = |quantile: f64| microseconds(self.nanoseconds.value_at_quantile(quantile));
        Percentiles {
            count: self.count(),
            mean_us: round(self.nanoseconds.mean() / 1_000.0),
            min_us: microseconds(self.nanoseconds.min()),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            p9999_us: at(0.9999),
            max_us: microseconds(self.nanoseconds.max()),
        }
    }
}

/// A histogram as pairs of a latency in nanoseconds and how often it occurred, ascending. The latency is the highest
/// of those that a bucket cannot tell apart, which is within 0.1 % of all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Buckets(pub(crate) Vec<(u64, u64)>);

impl Buckets {
    /// Adds those of another one.
    pub(crate) fn merge(&mut self, other: Self) {
        if self.0.is_empty() {
            self.0 = other.0;
            return;
        }
        self.0.extend(other.0);
        self.0.sort_unstable();
        self.0.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 += next.1;
            }
            same
        });
    }
}

/// What a histogram says, in microseconds with three significant digits. All zero when `count` is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Percentiles {
    pub(crate) count: u64,
    pub(crate) mean_us: f64,
    pub(crate) min_us: f64,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) p9999_us: f64,
    pub(crate) max_us: f64,
}

fn microseconds(nanoseconds: u64) -> f64 {
    round(nanoseconds as f64 / 1_000.0)
}

/// To a tenth of a microsecond, so that reports do not show digits nobody measured.
fn round(microseconds: f64) -> f64 {
    (microseconds * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut latency = Latency::new();
        for microsecond in 1..=1_000 {
            latency.record(Duration::from_micros(microsecond));
        }
        let shown = latency.percentiles();
        assert_eq!(shown.count, 1_000);
        assert!((shown.p50_us - 500.0).abs() < 1.0, "{shown:?}");
        assert!((shown.p99_us - 990.0).abs() < 1.5, "{shown:?}");
        assert!((shown.max_us - 1_000.0).abs() < 1.5, "{shown:?}");
        assert!((shown.min_us - 1.0).abs() < 0.11, "{shown:?}");
    }

    #[test]
    fn extremes_are_kept_at_the_bounds_and_histograms_add_up() {
        let mut latency = Latency::new();
        latency.record(Duration::ZERO);
        latency.record(Duration::from_secs(1_000_000));
        let mut sum = Latency::new();
        sum.add(&latency);
        sum.add(&latency);
        assert_eq!(sum.count(), 4);
        assert!(sum.percentiles().max_us > 99_000_000.0);
    }

    #[test]
    fn a_histogram_survives_being_data() {
        let mut latency = Latency::new();
        for nanoseconds in [100, 101, 5_000, 123_456, 123_456, 98_765_432] {
            latency.record(Duration::from_nanos(nanoseconds));
        }
        let text = serde_json::to_string(&latency.buckets()).unwrap();
        let again = Latency::from_buckets(&serde_json::from_str(&text).unwrap()).unwrap();
        assert_eq!(again.percentiles(), latency.percentiles());
        assert_eq!(again.buckets(), latency.buckets());
        assert!(Latency::from_buckets(&Buckets(vec![(u64::MAX, 1)])).is_err());
    }
}

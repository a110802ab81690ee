//! What is drawn: percentile curves out of histograms, and time series thinned to what a chart can show.

use crate::histogram::{Latency, Percentiles};
use crate::outcome::Interval;
use crate::workload::Kind;

/// Points of a percentile curve in a factor of ten.
const POINTS_A_DECADE: u32 = 12;
/// Points of a time series at most; more are not told apart.
pub(super) const POINTS_MAX: usize = 360;

/// Pairs of `1 / (1 - q)` and the latency that a share q does not exceed, in microseconds: from the fastest operation at
/// 1 to the slowest at the number of operations. Empty for an empty histogram.
pub(super) fn percentiles(latency: &Latency) -> Vec<(f64, f64)> {
    let count = latency.count() as f64;
    if count < 1.0 {
        return Vec::new();
    }
    let mut points: Vec<(f64, f64)> = (0..)
        .map(|index| 10_f64.powf(f64::from(index) / f64::from(POINTS_A_DECADE)))
        .take_while(|x| *x < count)
        .map(|x| (x, latency.at_us(1.0 - 1.0 / x)))
        .collect();
    points.push((count, latency.at_us(1.0)));
    points
}

/// Some seconds of a run together: the worst of their percentiles, for a median of medians would hide a bad second.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Span {
    pub(super) at_seconds: f64,
    pub(super) operations_per_second: f64,
    pub(super) errors: u64,
    /// `None`: no operation of that kind ended then.
    pub(super) latency: Option<Percentiles>,
}

/// The series of one kind, or of all together, in at most [`POINTS_MAX`] spans.
pub(super) fn spans(series: &[Interval], kind: Option<Kind>) -> Vec<Span> {
    let size = series.len().div_ceil(POINTS_MAX).max(1);
    series.chunks(size).map(|chunk| span(chunk, kind)).collect()
}

fn span(chunk: &[Interval], kind: Option<Kind>) -> Span {
    let seconds: f64 = chunk.iter().map(|interval| interval.seconds).sum();
    let operations: u64 = chunk.iter().map(|interval| interval.operations).sum();
    let latency = chunk
        .iter()
        .filter_map(|interval| match kind {
            Some(kind) => interval.latencies.get(&kind),
            None => Some(&interval.all),
        })
        .filter(|latency| latency.count > 0)
        .cloned()
        .reduce(worse);
    Span {
        at_seconds: chunk.first().map_or(0.0, |first| first.at_seconds),
        operations_per_second: if seconds > 0.0 {
            operations as f64 / seconds
        } else {
            0.0
        },
        errors: chunk.iter().map(|interval| interval.errors).sum(),
        latency,
    }
}

fn worse(one: Percentiles, other: Percentiles) -> Percentiles {
    Percentiles {
        count: one.count + other.count,
        mean_us: one.mean_us.max(other.mean_us),
        min_us: one.min_us.min(other.min_us),
        p50_us: one.p50_us.max(other.p50_us),
        p90_us: one.p90_us.max(other.p90_us),
        p99_us: one.p99_us.max(other.p99_us),
        p999_us: one.p999_us.max(other.p999_us),
        p9999_us: one.p9999_us.max(other.p9999_us),
        max_us: one.max_us.max(other.max_us),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::examples;
    use std::time::Duration;

    #[test]
    fn a_percentile_curve_goes_from_the_fastest_to_the_slowest() {
        let mut latency = Latency::new();
        for microsecond in 1..=1_000 {
            latency.record(Duration::from_micros(microsecond));
        }
        let points = percentiles(&latency);
        let near = |x: f64| {
            let (_, y) = points
                .iter()
                .min_by(|a, b| (a.0 - x).abs().total_cmp(&(b.0 - x).abs()))
                .copied()
                .unwrap_or_default();
            y
        };
        assert_eq!(points[0].0, 1.0);
        assert!((points[0].1 - 1.0).abs() < 0.11, "{points:?}");
        assert!((near(10.0) - 900.0).abs() < 2.0, "{points:?}");
        assert!((near(100.0) - 990.0).abs() < 2.0, "{points:?}");
        assert!(
            points
                .last()
                .is_some_and(|(x, y)| *x == 1_000.0 && (*y - 1_000.0).abs() < 1.5)
        );
        assert!(
            points
                .windows(2)
                .all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1)
        );
        assert!(percentiles(&Latency::new()).is_empty());
    }

    #[test]
    fn a_long_series_is_thinned_and_keeps_its_worst_second() {
        let mut series = Vec::new();
        for second in 0..3_600_u32 {
            let mut interval = examples::outcome(50.0, 1.0).series.remove(0);
            interval.at_seconds = f64::from(second);
            if second == 1_800 {
                interval.all.p99_us = 77_000.0;
                interval.errors = 3;
            }
            series.push(interval);
        }
        let spans = spans(&series, None);
        assert_eq!(spans.len(), POINTS_MAX);
        let worst = spans
            .iter()
            .filter_map(|span| span.latency.as_ref())
            .map(|latency| latency.p99_us)
            .fold(0.0, f64::max);
        assert_eq!(worst, 77_000.0);
        assert_eq!(spans.iter().map(|span| span.errors).sum::<u64>(), 3);
        assert_eq!(spans[0].operations_per_second, 2.0);
    }

    #[test]
    fn a_second_without_an_operation_has_no_latency() {
        let mut series = examples::outcome(50.0, 1.0).series;
        series[3].all = Percentiles::default();
        let spans = spans(&series, None);
        assert_eq!(spans[3].latency, None);
        assert!(spans[4].latency.is_some());
        assert!(super::spans(&series, Some(Kind::Scan))[4].latency.is_none());
    }
}

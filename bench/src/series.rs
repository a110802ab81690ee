//! How a run went over time: a histogram for each slice of a second and each kind.
//!
//! A slice that has ended is kept as its few used buckets. When there are too many slices, pairs are put together and
//! slices are twice as long from then on, so that a run of days takes no more memory than one of an hour.

use crate::histogram::{Buckets, Latency};
use crate::outcome::Interval;
use crate::workload::Kind;
use std::collections::BTreeMap;
use std::time::Duration;

/// Slices are this many at most.
const SLICES_MAX: usize = 3_600;

/// What one thread saw, later of all threads.
#[derive(Debug)]
pub(crate) struct Series {
    slice_seconds: u64,
    ended: Vec<Slice>,
    current: Vec<Latency>,
    current_errors: u64,
}

#[derive(Clone, Debug, Default)]
struct Slice {
    /// By kind.
    latencies: Vec<Buckets>,
    errors: u64,
}

impl Series {
    pub(crate) fn new() -> Self {
        Self {
            slice_seconds: 1,
            ended: Vec::new(),
            current: Kind::ALL.iter().map(|_| Latency::new()).collect(),
            current_errors: 0,
        }
    }

    /// A success that ended `at` after the begin of the measured time. Calls come in the order of time, or nearly.
    pub(crate) fn success(&mut self, kind: Kind, latency: Duration, at: Duration) {
        self.go_to(at);
        self.current[kind.index()].record(latency);
    }

    pub(crate) fn error(&mut self, at: Duration) {
        self.go_to(at);
        self.current_errors += 1;
    }

    /// Adds what another thread saw. Neither must have more operations coming.
    pub(crate) fn add(&mut self, mut other: Self) {
        self.end_slice();
        other.end_slice();
        while self.slice_seconds < other.slice_seconds {
            self.join_pairs();
        }
        while other.slice_seconds < self.slice_seconds {
            other.join_pairs();
        }
        if self.ended.len() < other.ended.len() {
            self.ended.resize_with(other.ended.len(), Slice::default);
        }
        for (mine, theirs) in self.ended.iter_mut().zip(other.ended) {
            mine.add(theirs);
        }
    }

    /// All slices of a measured time of `elapsed`, without holes.
    pub(crate) fn intervals(mut self, elapsed: Duration) -> Vec<Interval> {
        self.end_slice();
        let whole = self.slice_seconds as f64;
        let elapsed = elapsed.as_secs_f64();
        while self.ended.last().is_some_and(Slice::is_empty) {
            self.ended.pop();
        }
        while (self.ended.len() as f64) * whole < elapsed && self.ended.len() < SLICES_MAX {
            self.ended.push(Slice::default());
        }
        let interval = |(index, slice): (usize, &Slice)| {
            let at_seconds = index as f64 * whole;
            slice.interval(at_seconds, whole.min((elapsed - at_seconds).max(0.0)))
        };
        self.ended.iter().enumerate().map(interval).collect()
    }

    fn go_to(&mut self, at: Duration) {
        while at.as_secs() / self.slice_seconds > self.ended.len() as u64 {
            self.end_slice();
            if self.ended.len() >= SLICES_MAX {
                self.join_pairs();
            }
        }
    }

    fn end_slice(&mut self) {
        let latencies = self.current.iter_mut().map(|latency| {
            if latency.count() == 0 {
                return Buckets::default();
            }
            let buckets = latency.buckets();
            latency.clear();
            buckets
        });
        self.ended.push(Slice {
            latencies: latencies.collect(),
            errors: std::mem::take(&mut self.current_errors),
        });
    }

    fn join_pairs(&mut self) {
        let mut joined: Vec<Slice> = Vec::with_capacity(self.ended.len() / 2 + 1);
        for (index, slice) in self.ended.drain(..).enumerate() {
            match joined.last_mut() {
                Some(last) if index % 2 == 1 => last.add(slice),
                _ => joined.push(slice),
            }
        }
        self.ended = joined;
        self.slice_seconds *= 2;
    }
}

impl Slice {
    fn add(&mut self, other: Self) {
        self.errors += other.errors;
        if self.latencies.is_empty() {
            self.latencies = other.latencies;
            return;
        }
        for (mine, theirs) in self.latencies.iter_mut().zip(other.latencies) {
            mine.merge(theirs);
        }
    }

    fn is_empty(&self) -> bool {
        self.errors == 0 && self.latencies.iter().all(|buckets| buckets.0.is_empty())
    }

    fn interval(&self, at_seconds: f64, seconds: f64) -> Interval {
        let mut all = Latency::new();
        let mut latencies = BTreeMap::new();
        for (kind, buckets) in Kind::ALL.into_iter().zip(&self.latencies) {
            if buckets.0.is_empty() {
                continue;
            }
            let latency = Latency::from_buckets(buckets)
                .expect("the buckets are those of a histogram with the same bounds");
            all.add(&latency);
            latencies.insert(kind, latency.percentiles());
        }
        Interval {
            at_seconds,
            seconds,
            operations: all.count(),
            errors: self.errors,
            all: all.percentiles(),
            latencies,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn operations_belong_to_the_second_in_which_they_ended_and_threads_add_up() {
        let mut series = Series::new();
        series.success(Kind::Read, at(1), at(0));
        series.success(Kind::Read, at(3), at(999));
        series.error(at(3_500));
        let mut other = Series::new();
        other.success(Kind::Update, at(7), at(1_500));
        series.add(other);
        let intervals = series.intervals(at(4_250));
        let shown: Vec<_> = intervals
            .iter()
            .map(|i| (i.at_seconds, i.seconds, i.operations, i.errors))
            .collect();
        assert_eq!(
            shown,
            [
                (0.0, 1.0, 2, 0),
                (1.0, 1.0, 1, 0),
                (2.0, 1.0, 0, 0),
                (3.0, 1.0, 0, 1),
                (4.0, 0.25, 0, 0)
            ]
        );
        assert!((intervals[0].all.max_us - 3_000.0).abs() < 4.0);
        assert!((intervals[1].latencies[&Kind::Update].p50_us - 7_000.0).abs() < 8.0);
    }

    #[test]
    fn slices_get_longer_instead_of_more() {
        let mut series = Series::new();
        let seconds = 3 * SLICES_MAX as u64;
        for second in 0..seconds {
            series.success(Kind::Read, at(1), Duration::from_secs(second));
        }
        let intervals = series.intervals(Duration::from_secs(seconds));
        assert!(intervals.len() <= SLICES_MAX);
        assert!(
            intervals
                .iter()
                .all(|i| i.operations == 4 && i.seconds == 4.0),
            "{:?}",
            intervals[0]
        );
        assert_eq!(intervals.iter().map(|i| i.operations).sum::<u64>(), seconds);
    }

    #[test]
    fn threads_with_slices_of_different_length_add_up() {
        let mut long = Series::new();
        for second in 0..SLICES_MAX as u64 + 1 {
            long.success(Kind::Read, at(1), Duration::from_secs(second));
        }
        let mut short = Series::new();
        short.success(Kind::Read, at(1), at(2_500));
        short.add(long);
        let intervals = short.intervals(Duration::from_secs(SLICES_MAX as u64 + 1));
        assert_eq!((intervals[0].operations, intervals[1].operations), (2, 3));
    }
}

//! What happened: one recorder for each thread, added up at the end.

use crate::histogram::Latency;
use crate::period::{PeriodRecords, Periods};
use crate::series::Series;
use crate::target::{Execution, Failure};
use crate::trace::{Trace, TraceCode, Traced};
use crate::verify::Violation;
use crate::workload::Kind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What threads share while they run: counts for the progress bar, and the moment of the last success.
#[derive(Debug)]
pub(crate) struct Shared {
    start: Instant,
    measured_from: Instant,
    threads: Vec<Counters>,
    /// Threads that still measure, and when the last of them was done.
    measuring: AtomicU64,
    ended_us: AtomicU64,
    /// Microseconds from `measured_from`.
    last_success_us: AtomicU64,
    longest_gap_us: AtomicU64,
    periods: Periods,
}

/// Written by one thread and read by the progress bar; a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Counters {
    operations: AtomicU64,
    errors: AtomicU64,
}

/// Successes closer together than this do not move the moment of the last one, so that threads seldom write to the same
/// memory. Gaps are known to this precision.
const GAP_PRECISION_US: u64 = 50;

impl Shared {
    /// Operations that are meant to start within `warm_up` of `start` are not recorded.
    pub(crate) fn new(start: Instant, warm_up: Duration, threads: usize) -> Self {
        Self {
            start,
            measured_from: start + warm_up,
            threads: (0..threads).map(|_| Counters::default()).collect(),
            measuring: AtomicU64::new(threads as u64),
            ended_us: AtomicU64::new(0),
            last_success_us: AtomicU64::new(0),
            longest_gap_us: AtomicU64::new(0),
            periods: Periods::default(),
        }
    }

    pub(crate) fn start(&self) -> Instant {
        self.start
    }

    pub(crate) fn measured_from(&self) -> Instant {
        self.measured_from
    }

    /// A thread has done its measured part.
    pub(crate) fn thread_ends(&self) {
        self.ended_us.fetch_max(
            microseconds(self.measured_from.elapsed()),
            Ordering::Relaxed,
        );
        self.measuring.fetch_sub(1, Ordering::Release);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.measuring.load(Ordering::Acquire) == 0
    }

    /// Time that counts, up to the end of the last thread.
    pub(crate) fn measured(&self) -> Duration {
        Duration::from_micros(self.ended_us.load(Ordering::Relaxed))
    }

    /// Operations that succeeded in measured time.
    pub(crate) fn operations(&self) -> u64 {
        self.sum(|counters| &counters.operations)
    }

    pub(crate) fn errors(&self) -> u64 {
        self.sum(|counters| &counters.errors)
    }

    /// A named stretch of the measured time begins now.
    pub(crate) fn begin_period(&self, name: &str, is_event: bool) {
        let now = microseconds(self.measured_from.elapsed());
        let open_gap_us = now.saturating_sub(self.last_success_us.load(Ordering::Relaxed));
        self.periods.begin(name, is_event, open_gap_us);
    }

    pub(crate) fn periods(&self) -> &Periods {
        &self.periods
    }

    /// The end of the measured time ends the last gap.
    pub(crate) fn end_gaps(&self) {
        self.note_success(self.measured_from + self.measured(), 0);
    }

    /// The longest time in which no operation of any worker succeeded.
    pub(crate) fn longest_gap(&self) -> Duration {
        Duration::from_micros(self.longest_gap_us.load(Ordering::Relaxed))
    }

    /// A success ends the gap before it.
    fn note_success(&self, at: Instant, precision_us: u64) {
        let now = microseconds(at.saturating_duration_since(self.measured_from));
        if now <= self.last_success_us.load(Ordering::Relaxed) + precision_us {
            return;
        }
        let before = self.last_success_us.fetch_max(now, Ordering::Relaxed);
        let gap = now.saturating_sub(before);
        self.periods.note_gap(gap);
        if gap > self.longest_gap_us.load(Ordering::Relaxed) {
            self.longest_gap_us.fetch_max(gap, Ordering::Relaxed);
        }
    }

    fn sum(&self, pick: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        let counts = self.threads.iter().map(pick);
        counts.map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Failures of one kind and code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ErrorCount {
    pub(crate) kind: Kind,
    /// The server's word for it; `timeout`, `connection` or `client` when the client gave up by itself.
    pub(crate) code: String,
    /// `not_executed` or `unknown`.
    pub(crate) execution: String,
    pub(crate) count: u64,
    /// What the first of them said.
    pub(crate) example: String,
}

/// When one operation was meant to start, did, and ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// The same as `started` in a closed loop.
    pub(crate) intended: Instant,
    pub(crate) started: Instant,
    pub(crate) ended: Instant,
}

/// An operation that came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Found,
    /// It found nothing.
    Missing,
}

/// One thread's share; after [`Recorder::add`] that of all.
#[derive(Debug)]
pub(crate) struct Recorder {
    shared: Arc<Shared>,
    thread: usize,
    latencies: Vec<Latency>,
    pub(crate) series: Series,
    pub(crate) periods: PeriodRecords,
    /// From the intended start to the actual one; open loop only.
    pub(crate) start_delay: Latency,
    pub(crate) never_sent: u64,
    errors: BTreeMap<(Kind, String, Execution), (u64, String)>,
    pub(crate) misses: u64,
    pub(crate) scanned_records: u64,
    pub(crate) violations: u64,
    pub(crate) examples: Vec<Violation>,
    /// Records read once more after the run.
    pub(crate) swept: u64,
    /// Of these, how many could not be read.
    pub(crate) unread: u64,
    /// Records that were there already when a load was resumed.
    pub(crate) skipped: u64,
    trace: Option<Trace>,
}

/// Violations that are kept whole.
const EXAMPLES_MAX: usize = 10;

impl Recorder {
    pub(crate) fn new(shared: Arc<Shared>, thread: usize, trace: Option<Trace>) -> Self {
        Self {
            shared,
            thread,
            latencies: Kind::ALL.iter().map(|_| Latency::new()).collect(),
            series: Series::new(),
            periods: PeriodRecords::default(),
            start_delay: Latency::new(),
            never_sent: 0,
            errors: BTreeMap::new(),
            misses: 0,
            scanned_records: 0,
            violations: 0,
            examples: Vec::new(),
            swept: 0,
            unread: 0,
            skipped: 0,
            trace,
        }
    }

    /// An operation has ended. Warm-up leaves no mark.
    pub(crate) fn operation(&mut self, kind: Kind, times: Times, result: &Result<Done, Failure>) {
        if times.intended < self.shared.measured_from {
            return;
        }
        match result {
            Ok(done) => self.success(kind, times, *done),
            Err(failure) => self.failure(kind, times, failure),
        }
        let code = match result {
            Ok(Done::Found) => TraceCode::Done,
            Ok(Done::Missing) => TraceCode::Missing,
            Err(failure) => match failure.execution {
                Execution::NotExecuted => TraceCode::NotExecuted,
                Execution::Unknown => TraceCode::Unknown,
            },
        };
        let (started, ended) = (self.since(times.started), self.since(times.ended));
        self.trace(times.intended, started, ended, Some(kind), code);
    }

    /// In an open loop, how late an operation was started.
    pub(crate) fn started(&mut self, intended: Instant, started: Instant) {
        if intended >= self.shared.measured_from {
            self.start_delay
                .record(started.saturating_duration_since(intended));
        }
    }

    /// An operation was meant to start, and no worker was free until its deadline.
    pub(crate) fn never_sent(&mut self, intended: Instant) {
        if intended < self.shared.measured_from {
            return;
        }
        self.never_sent += 1;
        self.periods.never_sent(&self.shared.periods, intended);
        self.trace(intended, u64::MAX, u64::MAX, None, TraceCode::NeverSent);
    }

    /// Violations count from the first moment on, warm-up or not.
    pub(crate) fn violations(&mut self, violations: Vec<Violation>) {
        self.violations += violations.len() as u64;
        let room = EXAMPLES_MAX.saturating_sub(self.examples.len());
        self.examples.extend(violations.into_iter().take(room));
    }

    pub(crate) fn add(&mut self, other: Self) {
        for (mine, theirs) in self.latencies.iter_mut().zip(&other.latencies) {
            mine.add(theirs);
        }
        for (key, (count, example)) in other.errors {
            self.errors.entry(key).or_insert((0, example)).0 += count;
        }
        self.series.add(other.series);
        self.periods.add(other.periods);
        self.start_delay.add(&other.start_delay);
        self.never_sent += other.never_sent;
        self.misses += other.misses;
        self.scanned_records += other.scanned_records;
        self.violations += other.violations;
        self.examples.extend(other.examples);
        self.examples.truncate(EXAMPLES_MAX);
        self.swept += other.swept;
        self.unread += other.unread;
        self.skipped += other.skipped;
    }

    pub(crate) fn latency(&self, kind: Kind) -> &Latency {
        &self.latencies[kind.index()]
    }

    pub(crate) fn error_counts(&self) -> Vec<ErrorCount> {
        let count = |((kind, code, execution), (count, example)): (
            &(Kind, String, Execution),
            &(u64, String),
        )| ErrorCount {
            kind: *kind,
            code: code.clone(),
            execution: execution.name().to_owned(),
            count: *count,
            example: example.clone(),
        };
        self.errors.iter().map(count).collect()
    }

    /// Whether operations that are meant to start now leave a mark.
    pub(crate) fn is_measuring(&self, intended: Instant) -> bool {
        intended >= self.shared.measured_from
    }

    fn success(&mut self, kind: Kind, times: Times, done: Done) {
        let latency = times.ended.saturating_duration_since(times.intended);
        self.latencies[kind.index()].record(latency);
        self.periods.success(&self.shared.periods, kind, times);
        let at = times
            .ended
            .saturating_duration_since(self.shared.measured_from);
        self.series.success(kind, latency, at);
        self.misses += u64::from(done == Done::Missing);
        let counters = &self.shared.threads[self.thread];
        increment(&counters.operations);
        self.shared.note_success(times.ended, GAP_PRECISION_US);
    }

    fn failure(&mut self, kind: Kind, times: Times, failure: &Failure) {
        let at = times
            .ended
            .saturating_duration_since(self.shared.measured_from);
        self.series.error(at);
        self.periods.error(&self.shared.periods, times);
        increment(&self.shared.threads[self.thread].errors);
        let key = (kind, failure.code.to_string(), failure.execution);
        let entry = self
            .errors
            .entry(key)
            .or_insert_with(|| (0, failure.message.clone()));
        entry.0 += 1;
    }

    fn trace(
        &mut self,
        intended: Instant,
        started: u64,
        ended: u64,
        kind: Option<Kind>,
        code: TraceCode,
    ) {
        let intended = self.since(intended);
        if let Some(trace) = &mut self.trace {
            trace.add(Traced {
                intended,
                started,
                ended,
                kind,
                code,
            });
        }
    }

    /// Nanoseconds from the begin of the measured time.
    fn since(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.shared.measured_from);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX - 1)
    }
}

/// The one writer needs no locked instruction.
fn increment(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    fn failed(code: &'static str, execution: Execution) -> Result<Done, Failure> {
        Err(Failure {
            code: Cow::Borrowed(code),
            execution,
            permanent: false,
            message: "later".to_owned(),
        })
    }

    fn times(start: Instant, milliseconds: u64) -> Times {
        Times {
            intended: start,
            started: start,
            ended: start + Duration::from_millis(milliseconds),
        }
    }

    #[test]
    fn errors_are_counted_by_kind_and_code_and_threads_add_up() {
        let start = Instant::now();
        let shared = Arc::new(Shared::new(start, Duration::ZERO, 2));
        let mut recorders: Vec<Recorder> = (0..2)
            .map(|thread| Recorder::new(Arc::clone(&shared), thread, None))
            .collect();
        for recorder in &mut recorders {
            recorder.operation(Kind::Read, times(start, 1), &Ok(Done::Found));
            recorder.operation(
                Kind::Update,
                times(start, 1),
                &failed("busy", Execution::NotExecuted),
            );
            recorder.operation(
                Kind::Update,
                times(start, 1),
                &failed("timeout", Execution::Unknown),
            );
        }
        let (mut sum, other) = (recorders.remove(0), recorders.remove(0));
        sum.add(other);
        assert_eq!(sum.latency(Kind::Read).count(), 2);
        let errors = sum.error_counts();
        let shown: Vec<_> = errors
            .iter()
            .map(|e| (e.kind, e.code.as_str(), e.execution.as_str(), e.count))
            .collect();
        assert_eq!(
            shown,
            [
                (Kind::Update, "busy", "not_executed", 2),
                (Kind::Update, "timeout", "unknown", 2)
            ]
        );
        assert_eq!((shared.operations(), shared.errors()), (2, 4));
    }

    #[test]
    fn nothing_of_the_warm_up_is_recorded() {
        let start = Instant::now();
        let shared = Arc::new(Shared::new(start, Duration::from_secs(3600), 1));
        let mut recorder = Recorder::new(Arc::clone(&shared), 0, None);
        recorder.operation(Kind::Read, times(start, 1), &Ok(Done::Missing));
        recorder.operation(
            Kind::Read,
            times(start, 1),
            &failed("busy", Execution::NotExecuted),
        );
        recorder.never_sent(start);
        recorder.started(start, start + Duration::from_secs(1));
        assert_eq!(recorder.latency(Kind::Read).count(), 0);
        assert_eq!(
            (
                recorder.misses,
                recorder.never_sent,
                recorder.start_delay.count()
            ),
            (0, 0, 0)
        );
        assert!(recorder.error_counts().is_empty());
        shared.thread_ends();
        shared.end_gaps();
        assert_eq!(
            (shared.measured(), shared.longest_gap()),
            (Duration::ZERO, Duration::ZERO)
        );
    }

    #[test]
    fn latencies_count_from_the_intended_start() {
        let start = Instant::now();
        let shared = Arc::new(Shared::new(start, Duration::ZERO, 1));
        let mut recorder = Recorder::new(shared, 0, None);
        let late = Times {
            intended: start,
            started: start + Duration::from_millis(900),
            ended: start + Duration::from_millis(901),
        };
        recorder.operation(Kind::Read, late, &Ok(Done::Found));
        assert!(recorder.latency(Kind::Read).percentiles().max_us > 900_000.0);
    }

    #[test]
    fn the_longest_gap_is_the_longest_time_without_a_success() {
        let start = Instant::now();
        let shared = Arc::new(Shared::new(start, Duration::ZERO, 1));
        let mut recorder = Recorder::new(Arc::clone(&shared), 0, None);
        for milliseconds in [1, 2, 500, 501] {
            recorder.operation(Kind::Read, times(start, milliseconds), &Ok(Done::Found));
        }
        assert_eq!(shared.longest_gap(), Duration::from_millis(498));
    }
}

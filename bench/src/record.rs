//! What happened: one recorder for each thread, added up at the end.

use crate::histogram::Latency;
use crate::verify::Violation;
use crate::workload::Kind;
use pegasus_client::{Code, Error, Execution};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What threads share while they run: counts for the progress bar, and the moment of the last success.
#[derive(Debug)]
pub(crate) struct Shared {
    start: Instant,
    /// Microseconds from `start` from which on operations count.
    measured_from_us: u64,
    operations: AtomicU64,
    errors: AtomicU64,
    /// Threads that still measure, and when the last of them was done.
    threads: AtomicU64,
    ended_us: AtomicU64,
    /// Microseconds from `start`.
    last_success_us: AtomicU64,
    longest_gap_us: AtomicU64,
}

impl Shared {
    /// Operations that start within `warm_up` are not recorded.
    pub(crate) fn new(warm_up: Duration, threads: u64) -> Self {
        let measured_from_us = microseconds(warm_up);
        Self {
            start: Instant::now(),
            measured_from_us,
            operations: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            threads: AtomicU64::new(threads),
            ended_us: AtomicU64::new(0),
            last_success_us: AtomicU64::new(measured_from_us),
            longest_gap_us: AtomicU64::new(0),
        }
    }

    pub(crate) fn is_measured(&self, operation_start: Instant) -> bool {
        microseconds(operation_start.duration_since(self.start)) >= self.measured_from_us
    }

    /// A thread has done its measured part.
    pub(crate) fn thread_ends(&self) {
        self.ended_us
            .fetch_max(microseconds(self.start.elapsed()), Ordering::Relaxed);
        self.threads.fetch_sub(1, Ordering::Release);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.threads.load(Ordering::Acquire) == 0
    }

    /// Time that counts, up to the end of the last thread.
    pub(crate) fn measured(&self) -> Duration {
        let ended_us = self.ended_us.load(Ordering::Relaxed);
        Duration::from_micros(ended_us.saturating_sub(self.measured_from_us))
    }

    /// Operations that succeeded in measured time.
    pub(crate) fn operations(&self) -> u64 {
        self.operations.load(Ordering::Relaxed)
    }

    pub(crate) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// A success ends the gap before it; the end of the run ends the last one.
    pub(crate) fn note_gap(&self) {
        let now = microseconds(self.start.elapsed());
        let before = self.last_success_us.fetch_max(now, Ordering::Relaxed);
        let gap = now.saturating_sub(before);
        if gap > self.longest_gap_us.load(Ordering::Relaxed) {
            self.longest_gap_us.fetch_max(gap, Ordering::Relaxed);
        }
    }

    /// The longest time in which no operation of any worker succeeded.
    pub(crate) fn longest_gap(&self) -> Duration {
        Duration::from_micros(self.longest_gap_us.load(Ordering::Relaxed))
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Failures of one kind and code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ErrorCount {
    pub(crate) kind: Kind,
    /// The server's code by name; "none" when the client gave up by itself.
    pub(crate) code: String,
    /// "not_executed" or "unknown".
    pub(crate) execution: String,
    pub(crate) count: u64,
    /// What the first of them said.
    pub(crate) example: String,
}

/// One thread's share.
#[derive(Debug)]
pub(crate) struct Recorder {
    latencies: Vec<Latency>,
    errors: BTreeMap<(Kind, String, &'static str), (u64, String)>,
    pub(crate) misses: u64,
    pub(crate) range_rows: u64,
    pub(crate) violations: u64,
    pub(crate) examples: Vec<Violation>,
    /// Records read once more after the run.
    pub(crate) swept: u64,
    /// Of these, how many could not be read.
    pub(crate) unread: u64,
}

/// Violations that are kept whole.
const EXAMPLES_MAX: usize = 10;

impl Recorder {
    pub(crate) fn new() -> Self {
        Self {
            latencies: Kind::ALL.iter().map(|_| Latency::new()).collect(),
            errors: BTreeMap::new(),
            misses: 0,
            range_rows: 0,
            violations: 0,
            examples: Vec::new(),
            swept: 0,
            unread: 0,
        }
    }

    pub(crate) fn success(&mut self, kind: Kind, start: Instant, shared: &Shared) {
        if !shared.is_measured(start) {
            return;
        }
        self.latencies[kind.index()].record(start.elapsed());
        shared.operations.fetch_add(1, Ordering::Relaxed);
        shared.note_gap();
    }

    pub(crate) fn error(&mut self, kind: Kind, start: Instant, error: &Error, shared: &Shared) {
        if !shared.is_measured(start) {
            return;
        }
        shared.errors.fetch_add(1, Ordering::Relaxed);
        let code = error.code().map_or("none", Code::name).to_owned();
        let execution = match error.execution() {
            Execution::Unknown => "unknown",
            _ => "not_executed",
        };
        let entry = self
            .errors
            .entry((kind, code, execution))
            .or_insert_with(|| (0, error.to_string()));
        entry.0 += 1;
    }

    /// Violations count from the first moment on, warm-up or not.
    pub(crate) fn violation(&mut self, violation: Violation) {
        self.violations += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(violation);
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        for (mine, theirs) in self.latencies.iter_mut().zip(&other.latencies) {
            mine.add(theirs);
        }
        for (key, (count, example)) in other.errors {
            self.errors.entry(key).or_insert((0, example)).0 += count;
        }
        self.misses += other.misses;
        self.range_rows += other.range_rows;
        self.violations += other.violations;
        self.examples.extend(other.examples);
        self.examples.truncate(EXAMPLES_MAX);
        self.swept += other.swept;
        self.unread += other.unread;
    }

    pub(crate) fn latency(&self, kind: Kind) -> &Latency {
        &self.latencies[kind.index()]
    }

    pub(crate) fn error_counts(&self) -> Vec<ErrorCount> {
        let count = |((kind, code, execution), (count, example)): (
            &(Kind, String, &str),
            &(u64, String),
        )| ErrorCount {
            kind: *kind,
            code: code.clone(),
            execution: (*execution).to_owned(),
            count: *count,
            example: example.clone(),
        };
        self.errors.iter().map(count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pegasus_client::Cause;

    fn busy() -> Error {
        Error::NotExecuted(Cause {
            code: Some(Code::Busy),
            message: "later".to_owned(),
        })
    }

    #[test]
    fn errors_are_counted_by_kind_and_code_and_threads_add_up() {
        let shared = Shared::new(Duration::ZERO, 1);
        let mut sum = Recorder::new();
        for _ in 0..2 {
            let mut recorder = Recorder::new();
            recorder.success(Kind::Read, Instant::now(), &shared);
            recorder.error(Kind::Update, Instant::now(), &busy(), &shared);
            recorder.error(
                Kind::Update,
                Instant::now(),
                &Error::Unknown(Cause {
                    code: None,
                    message: String::new(),
                }),
                &shared,
            );
            sum.add(recorder);
        }
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
                (Kind::Update, "none", "unknown", 2)
            ]
        );
        assert_eq!(shared.errors(), 4);
    }

    #[test]
    fn nothing_of_the_warm_up_is_recorded() {
        let shared = Shared::new(Duration::from_secs(3600), 1);
        let mut recorder = Recorder::new();
        recorder.success(Kind::Read, Instant::now(), &shared);
        recorder.error(Kind::Read, Instant::now(), &busy(), &shared);
        assert_eq!(recorder.latency(Kind::Read).count(), 0);
        assert!(recorder.error_counts().is_empty());
        shared.thread_ends();
        assert_eq!(shared.measured(), Duration::ZERO);
        shared.note_gap();
        assert_eq!(shared.longest_gap(), Duration::ZERO);
    }

    #[test]
    fn a_run_without_any_success_is_one_gap() {
        let shared = Shared::new(Duration::ZERO, 1);
        while shared.start.elapsed() < Duration::from_micros(100) {
            std::hint::spin_loop();
        }
        shared.thread_ends();
        assert!(shared.is_over() && shared.measured() >= Duration::from_micros(100));
        shared.note_gap();
        assert!(shared.longest_gap() >= Duration::from_micros(100));
    }
}

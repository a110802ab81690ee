//! Named stretches of the measured time: quiet, something that is done to the servers, what comes after it. Whoever injects
//! begins them; recorders ask to which one an operation belongs.
//!
//! An operation that overlaps an event belongs to the event, for it may owe its latency to it. Any other belongs to
//! the stretch in which it was meant to start.

use crate::histogram::Latency;
use crate::outcome::{Measured, Period, PeriodLatency, TimesQuiet};
use crate::record::Times;
use crate::workload::Kind;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Instant;

/// Shared by all threads; empty in an ordinary run.
#[derive(Debug, Default)]
pub(crate) struct Periods {
    begun: RwLock<Vec<Begun>>,
    /// So that an ordinary run takes no lock.
    are_any: AtomicBool,
    /// The longest time without a success since the last one began.
    gap_us: AtomicU64,
}

#[derive(Clone, Debug)]
struct Begun {
    name: String,
    is_event: bool,
    at: Instant,
    /// Once it is over.
    gap_us: u64,
}

/// What one thread saw in each of them, later all threads.
#[derive(Debug, Default)]
pub(crate) struct PeriodRecords(Vec<PeriodRecord>);

#[derive(Debug)]
struct PeriodRecord {
    /// By kind.
    latencies: Vec<Latency>,
    errors: u64,
    never_sent: u64,
}

impl Periods {
    /// A stretch begins now, and the one before it ends. `open_gap_us`: for how long nothing has succeeded.
    pub(crate) fn begin(&self, name: &str, is_event: bool, open_gap_us: u64) {
        let mut begun = self.begun.write().unwrap_or_else(PoisonError::into_inner);
        self.end_last(&mut begun, open_gap_us);
        begun.push(Begun {
            name: name.to_owned(),
            is_event,
            at: Instant::now(),
            gap_us: 0,
        });
        self.are_any.store(true, Ordering::Release);
    }

    pub(crate) fn note_gap(&self, gap_us: u64) {
        if self.are_any.load(Ordering::Relaxed) {
            self.gap_us.fetch_max(gap_us, Ordering::Relaxed);
        }
    }

    fn end_last(&self, begun: &mut [Begun], open_gap_us: u64) {
        let gap = self.gap_us.swap(0, Ordering::Relaxed);
        if let Some(last) = begun.last_mut() {
            last.gap_us = gap.max(open_gap_us);
        }
    }

    fn of(&self, times: Times) -> Option<usize> {
        if !self.are_any.load(Ordering::Acquire) {
            return None;
        }
        let begun = self.begun.read().unwrap_or_else(PoisonError::into_inner);
        let last_before = |moment| begun.iter().rposition(|it| it.at <= moment);
        let ended = last_before(times.ended)?;
        let intended = last_before(times.intended).unwrap_or(ended);
        let event = (intended..=ended).find(|index| begun[*index].is_event);
        Some(event.unwrap_or(intended))
    }

    /// What was recorded in each, and its quotients with the first one, which is the quiet one.
    pub(crate) fn outcomes(
        &self,
        records: &PeriodRecords,
        measured_from: Instant,
        end: Instant,
    ) -> Vec<Period> {
        let mut begun = self.begun.write().unwrap_or_else(PoisonError::into_inner);
        self.end_last(&mut begun, 0);
        let seconds = |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64();
        let empty = PeriodRecord::new();
        let mut periods: Vec<Period> = Vec::new();
        for (index, it) in begun.iter().enumerate() {
            let record = records.0.get(index).unwrap_or(&empty);
            let next = begun.get(index + 1).map_or(end, |next| next.at);
            let quiet = periods.first().filter(|_| index > 0);
            periods.push(Period {
                name: it.name.clone(),
                is_event: it.is_event,
                at_seconds: seconds(measured_from, it.at),
                seconds: seconds(it.at.max(measured_from), next),
                operations: record.latencies.iter().map(Latency::count).sum(),
                errors: record.errors,
                never_sent: record.never_sent,
                longest_gap_ms: it.gap_us as f64 / 1_000.0,
                latencies: record.latencies(quiet),
            });
        }
        periods
    }
}

impl PeriodRecords {
    pub(crate) fn success(&mut self, periods: &Periods, kind: Kind, times: Times) {
        let latency = times.ended.saturating_duration_since(times.intended);
        if let Some(record) = self.of(periods, times) {
            record.latencies[kind.index()].record(latency);
        }
    }

    pub(crate) fn error(&mut self, periods: &Periods, times: Times) {
        if let Some(record) = self.of(periods, times) {
            record.errors += 1;
        }
    }

    pub(crate) fn never_sent(&mut self, periods: &Periods, intended: Instant) {
        let times = Times {
            intended,
            started: intended,
            ended: intended,
        };
        if let Some(record) = self.of(periods, times) {
            record.never_sent += 1;
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.grow(other.0.len());
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            for (latency, more) in mine.latencies.iter_mut().zip(&theirs.latencies) {
                latency.add(more);
            }
            mine.errors += theirs.errors;
            mine.never_sent += theirs.never_sent;
        }
    }

    fn of(&mut self, periods: &Periods, times: Times) -> Option<&mut PeriodRecord> {
        let index = periods.of(times)?;
        self.grow(index + 1);
        self.0.get_mut(index)
    }

    fn grow(&mut self, count: usize) {
        while self.0.len() < count {
            self.0.push(PeriodRecord::new());
        }
    }
}

impl PeriodRecord {
    fn new() -> Self {
        Self {
            latencies: Kind::ALL.iter().map(|_| Latency::new()).collect(),
            errors: 0,
            never_sent: 0,
        }
    }

    fn latencies(&self, quiet: Option<&Period>) -> BTreeMap<Kind, PeriodLatency> {
        let latencies = Kind::ALL.into_iter().zip(&self.latencies);
        let latencies = latencies.filter(|(_, latency)| latency.count() > 0);
        latencies
            .map(|(kind, latency)| {
                let measured = Measured::new(latency);
                let quiet = quiet.and_then(|quiet| quiet.latencies.get(&kind));
                let times_quiet = quiet.map(|quiet| TimesQuiet::of(&measured, &quiet.measured));
                let latency = PeriodLatency {
                    measured,
                    times_quiet,
                };
                (kind, latency)
            })
            .collect()
    }
}

impl TimesQuiet {
    fn of(here: &Measured, quiet: &Measured) -> Self {
        let times = |here: f64, quiet: f64| {
            if quiet > 0.0 { here / quiet } else { 0.0 }
        };
        let (here, quiet) = (&here.percentiles, &quiet.percentiles);
        Self {
            p50: times(here.p50_us, quiet.p50_us),
            p99: times(here.p99_us, quiet.p99_us),
            p999: times(here.p999_us, quiet.p999_us),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Three stretches that began so many milliseconds ago.
    fn periods(begin: Instant) -> Periods {
        let periods = Periods::default();
        let begun = |name: &str, is_event, at_ms| Begun {
            name: name.to_owned(),
            is_event,
            at: begin + Duration::from_millis(at_ms),
            gap_us: 0,
        };
        *periods.begun.write().expect("not poisoned") = vec![
            begun("quiet", false, 0),
            begun("kill", true, 1_000),
            begun("after kill", false, 2_000),
        ];
        periods.are_any.store(true, Ordering::Release);
        periods
    }

    fn times(begin: Instant, intended_ms: u64, ended_ms: u64) -> Times {
        let at = |ms| begin + Duration::from_millis(ms);
        Times {
            intended: at(intended_ms),
            started: at(intended_ms),
            ended: at(ended_ms),
        }
    }

    #[test]
    fn an_operation_that_overlaps_an_event_belongs_to_it() {
        let begin = Instant::now();
        let periods = periods(begin);
        let of = |intended, ended| periods.of(times(begin, intended, ended));
        assert_eq!(of(10, 20), Some(0));
        assert_eq!(of(990, 1_010), Some(1), "it was under way when it began");
        assert_eq!(of(1_500, 1_501), Some(1));
        assert_eq!(of(1_990, 2_500), Some(1), "it was meant to start within");
        assert_eq!(of(900, 2_500), Some(1), "it went on beyond");
        assert_eq!(of(2_100, 2_500), Some(2));
        assert_eq!(Periods::default().of(times(begin, 0, 1)), None);
    }

    #[test]
    fn what_happens_in_an_event_is_told_as_times_the_quiet() {
        let begin = Instant::now();
        let periods = periods(begin);
        let (mut records, mut other) = (PeriodRecords::default(), PeriodRecords::default());
        records.success(&periods, Kind::Read, times(begin, 100, 101));
        other.success(&periods, Kind::Read, times(begin, 1_100, 1_104));
        other.error(&periods, times(begin, 1_200, 1_300));
        other.never_sent(&periods, begin + Duration::from_millis(1_400));
        records.add(other);
        let end = begin + Duration::from_millis(3_500);
        let told = periods.outcomes(&records, begin, end);
        let shown: Vec<_> = told
            .iter()
            .map(|it| (it.name.as_str(), it.operations, it.errors, it.never_sent))
            .collect();
        assert_eq!(
            shown,
            [
                ("quiet", 1, 0, 0),
                ("kill", 1, 1, 1),
                ("after kill", 0, 0, 0)
            ]
        );
        assert!((told[1].at_seconds - 1.0).abs() < 1e-6);
        assert!((told[2].seconds - 1.5).abs() < 1e-6);
        assert_eq!(told[0].latencies[&Kind::Read].times_quiet, None);
        let times = told[1].latencies[&Kind::Read].times_quiet.as_ref();
        let times = times.expect("there is a quiet one");
        assert!((times.p99 - 4.0).abs() < 0.1, "{times:?}");
    }

    #[test]
    fn a_gap_belongs_to_the_stretch_in_which_it_was_open() {
        let begin = Instant::now();
        let periods = Periods::default();
        periods.note_gap(9_000_000);
        periods.begin("quiet", false, 0);
        periods.note_gap(3_000);
        periods.begin("kill", true, 1_000);
        periods.begin("after", false, 500_000);
        let gaps: Vec<f64> = periods
            .outcomes(&PeriodRecords::default(), begin, begin)
            .iter()
            .map(|it| it.longest_gap_ms)
            .collect();
        assert_eq!(gaps, [3.0, 500.0, 0.0]);
    }
}

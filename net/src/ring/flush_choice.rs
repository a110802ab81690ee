//! Which of two ways makes a log write durable sooner, here and now.
//!
//! A write that is flushed by itself (`RWF_DSYNC`) spares two wake-ups of a write with an `fdatasync` behind it, but where the
//! drive has no FUA its flush is sent by a kernel worker on one CPU, and waits for that CPU when it is busy; the `fdatasync` is
//! sent by a worker that runs on any. Which takes less time depends on who else runs where, so it is measured: nearly all writes
//! go the way that was quicker lately, and from time to time a few go the other way. Both are as durable as each other.
//!
//! ```text
//!   settled --a period is over, or writes take twice as long--> looking (LOOKS writes go the other way) --> settled
//! ```
//!
//! Looking costs a few writes what the slower way takes, so it becomes rare where it changes nothing.

use crate::options::LogFlush;

/// Writes of one look at the other way.
const LOOKS: u32 = 4;
/// Writes of the preferred way between two looks, at least, so that its average says something.
const WRITES_MIN: u32 = 16;
const PERIOD_MIN_NS: u64 = 100_000_000;
const PERIOD_MAX_NS: u64 = 10_000_000_000;
/// A sample counts at most so many times the average: a pause of the machine says nothing of the way.
const OUTLIER: u64 = 8;

#[derive(Debug)]
pub(super) struct FlushChoice {
    preferred: LogFlush,
    /// `None` where there is nothing to choose.
    measures: Option<Measures>,
}

#[derive(Debug, Default)]
struct Measures {
    /// Averages of what writes took, nanoseconds; 0 = not known.
    preferred_ns: u64,
    other_ns: u64,
    /// The preferred way's when it was compared last.
    settled_ns: u64,
    period_ns: u64,
    looked_at_ns: u64,
    /// Writes of the preferred way since.
    writes: u32,
    /// Writes that still go the other way, and those whose end has not been seen.
    looks_to_start: u32,
    looks_to_end: u32,
}

impl FlushChoice {
    pub(super) fn new(flush: LogFlush) -> Self {
        match flush {
            LogFlush::Fastest => Self {
                preferred: LogFlush::Fdatasync,
                measures: Some(Measures {
                    period_ns: PERIOD_MIN_NS,
                    ..Measures::default()
                }),
            },
            fixed => Self {
                preferred: fixed,
                measures: None,
            },
        }
    }

    /// How the next write is made durable; never `Fastest`.
    pub(super) fn choose(&mut self, now_ns: u64) -> LogFlush {
        let Some(measures) = &mut self.measures else {
            return self.preferred;
        };
        measures.look_if_due(now_ns);
        if measures.looks_to_start == 0 {
            return self.preferred;
        }
        measures.looks_to_start -= 1;
        other(self.preferred)
    }

    /// A write that went this way has ended well.
    pub(super) fn note(&mut self, way: LogFlush, took_ns: u64) {
        let Some(measures) = &mut self.measures else {
            return;
        };
        if way == self.preferred {
            measures.writes = measures.writes.saturating_add(1);
            measures.preferred_ns = averaged(measures.preferred_ns, took_ns, 16);
            return;
        }
        measures.other_ns = averaged(measures.other_ns, took_ns, LOOKS.into());
        measures.looks_to_end = measures.looks_to_end.saturating_sub(1);
        // Much slower: no need to see it again.
        if took_ns > 4 * measures.preferred_ns {
            measures.looks_to_end -= measures.looks_to_start.min(measures.looks_to_end);
            measures.looks_to_start = 0;
        }
        if measures.looks_to_end == 0 && measures.compare() {
            self.preferred = other(self.preferred);
            tracing::debug!(way = ?self.preferred, "log writes are made durable the other way, which is quicker now");
        }
    }
}

impl Measures {
    fn look_if_due(&mut self, now_ns: u64) {
        let is_looking = self.looks_to_start > 0 || self.looks_to_end > 0;
        if is_looking || self.writes < WRITES_MIN {
            return;
        }
        let since = now_ns.saturating_sub(self.looked_at_ns);
        let is_worse = self.settled_ns > 0 && self.preferred_ns > 2 * self.settled_ns;
        if since >= self.period_ns || is_worse && since >= PERIOD_MIN_NS {
            self.looked_at_ns = now_ns;
            self.looks_to_start = LOOKS;
            self.looks_to_end = LOOKS;
            self.other_ns = 0;
        }
    }

    /// Whether the other way is preferred from now on: an eighth quicker, so that two alike do not change places all the time.
    fn compare(&mut self) -> bool {
        self.writes = 0;
        let is_quicker = self.other_ns + self.other_ns / 8 < self.preferred_ns;
        if is_quicker {
            std::mem::swap(&mut self.preferred_ns, &mut self.other_ns);
            self.period_ns = PERIOD_MIN_NS;
        } else {
            self.period_ns = (2 * self.period_ns).min(PERIOD_MAX_NS);
        }
        self.settled_ns = self.preferred_ns;
        is_quicker
    }
}

const fn other(way: LogFlush) -> LogFlush {
    match way {
        LogFlush::Dsync => LogFlush::Fdatasync,
        _ => LogFlush::Dsync,
    }
}

/// The average, moved by one part in `weight` towards the sample.
fn averaged(average: u64, sample: u64, weight: u64) -> u64 {
    if average == 0 {
        return sample.max(1);
    }
    let sample = sample.min(OUTLIER * average);
    (average - average / weight + sample / weight).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: u64 = 1_000_000;

    /// A machine on which a write takes so long, by its way; one write at a time.
    struct Machine {
        choice: FlushChoice,
        now_ns: u64,
        fdatasync_ns: u64,
        dsync_ns: u64,
    }

    impl Machine {
        fn new(fdatasync_ns: u64, dsync_ns: u64) -> Self {
            Self {
                choice: FlushChoice::new(LogFlush::Fastest),
                now_ns: 0,
                fdatasync_ns,
                dsync_ns,
            }
        }

        /// How many of the writes went by themselves.
        fn dsyncs(&mut self, writes: u32) -> u32 {
            let mut dsyncs = 0;
            for _ in 0..writes {
                let way = self.choice.choose(self.now_ns);
                let took_ns = match way {
                    LogFlush::Dsync => self.dsync_ns,
                    _ => self.fdatasync_ns,
                };
                dsyncs += u32::from(way == LogFlush::Dsync);
                self.now_ns += took_ns;
                self.choice.note(way, took_ns);
            }
            dsyncs
        }
    }

    #[test]
    fn nearly_all_writes_go_the_quicker_way() {
        let mut machine = Machine::new(MILLISECOND, MILLISECOND / 2);
        machine.dsyncs(1_000);
        assert!(machine.dsyncs(10_000) > 9_900);
        let mut machine = Machine::new(MILLISECOND / 2, MILLISECOND);
        machine.dsyncs(1_000);
        assert!(machine.dsyncs(10_000) < 100);
    }

    #[test]
    fn the_way_changes_when_the_machine_does() {
        let mut machine = Machine::new(MILLISECOND, MILLISECOND / 2);
        assert!(machine.dsyncs(100_000) > 99_000);
        machine.dsync_ns = 10 * MILLISECOND;
        // Seen at once, though looks had become rare.
        assert!(machine.dsyncs(1_000) < 100);
        machine.dsync_ns = MILLISECOND / 2;
        machine.dsyncs(30_000);
        assert!(machine.dsyncs(1_000) > 900);
    }

    #[test]
    fn one_that_is_much_slower_is_tried_once_a_look_and_ever_more_rarely() {
        let mut machine = Machine::new(MILLISECOND, 20 * MILLISECOND);
        // A minute and a half.
        assert!(machine.dsyncs(90_000) <= 20);
    }

    #[test]
    fn two_ways_alike_do_not_change_places() {
        let mut machine = Machine::new(MILLISECOND, MILLISECOND);
        assert!(machine.dsyncs(100_000) < 200);
    }

    #[test]
    fn a_pause_of_the_machine_is_not_held_against_a_way() {
        let mut machine = Machine::new(MILLISECOND, MILLISECOND / 2);
        machine.dsyncs(1_000);
        machine.choice.note(LogFlush::Dsync, 1_000 * MILLISECOND);
        assert!(machine.dsyncs(1_000) > 900);
    }

    #[test]
    fn what_is_set_is_done() {
        for fixed in [LogFlush::Fdatasync, LogFlush::Dsync, LogFlush::WriteThrough] {
            let mut choice = FlushChoice::new(fixed);
            for now_ns in 0..1_000 {
                assert_eq!(choice.choose(now_ns * PERIOD_MIN_NS), fixed);
                choice.note(fixed, MILLISECOND);
            }
        }
    }
}

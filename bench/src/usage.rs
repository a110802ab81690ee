//! What a thread of the bench took of its CPU, as the kernel counts it.

use crate::outcome::{BUSY_PERCENT_MAX, BenchUse, ThreadUse};
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// Times of the calling thread, up to a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    at: Instant,
    ran: Duration,
    /// Had work, and something else ran on its CPU. Zero on kernels without scheduler statistics.
    waited: Duration,
}

impl Sample {
    pub(crate) fn of_this_thread() -> Self {
        let ran = clock_gettime(ClockId::ThreadCPUTime);
        Self {
            at: Instant::now(),
            ran: Duration::new(
                u64::try_from(ran.tv_sec).unwrap_or(0),
                u32::try_from(ran.tv_nsec).unwrap_or(0),
            ),
            waited: waited().unwrap_or_default(),
        }
    }

    /// From this one to a later one of the same thread.
    pub(crate) fn until(&self, later: &Self, cpu: Option<usize>) -> ThreadUse {
        let elapsed = later.at.saturating_duration_since(self.at).as_secs_f64();
        let percent = |part: Duration| {
            if elapsed > 0.0 {
                (part.as_secs_f64() / elapsed * 1_000.0).round() / 10.0
            } else {
                0.0
            }
        };
        let ran = later.ran.saturating_sub(self.ran);
        ThreadUse {
            cpu,
            cpu_seconds: ran.as_secs_f64(),
            busy_percent: percent(ran),
            waiting_percent: percent(later.waited.saturating_sub(self.waited)),
        }
    }
}

/// Time in the run queue: the second number of `schedstat` (kernel documentation, scheduler/sched-stats).
fn waited() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

impl BenchUse {
    pub(crate) fn new(threads: Vec<ThreadUse>, operations: u64) -> Self {
        let cpu_seconds: f64 = threads.iter().map(|thread| thread.cpu_seconds).sum();
        let cpu_us = cpu_seconds * 1e6 / operations.max(1) as f64;
        Self {
            cpu_us_per_operation: (cpu_us * 100.0).round() / 100.0,
            bottleneck: threads.iter().any(ThreadUse::is_bottleneck),
            threads,
            calibration: None,
        }
    }
}

impl ThreadUse {
    pub(crate) fn is_bottleneck(&self) -> bool {
        self.busy_percent + self.waiting_percent > BUSY_PERCENT_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(busy_percent: f64, waiting_percent: f64) -> ThreadUse {
        ThreadUse {
            cpu: None,
            cpu_seconds: 2.0,
            busy_percent,
            waiting_percent,
        }
    }

    #[test]
    fn a_thread_that_spins_is_busy() {
        let before = Sample::of_this_thread();
        let mut later = before;
        while later.ran.saturating_sub(before.ran) < Duration::from_millis(5) {
            later = Sample::of_this_thread();
        }
        let used = before.until(&later, Some(1));
        assert!(
            used.cpu_seconds >= 0.005 && used.busy_percent > 0.0,
            "{used:?}"
        );
        assert_eq!(used.cpu, Some(1));
    }

    #[test]
    fn one_thread_without_rest_makes_the_bench_a_bottleneck() {
        let rested = BenchUse::new(vec![thread(50.0, 10.0), thread(89.0, 1.0)], 1_000_000);
        assert!(!rested.bottleneck);
        assert!((rested.cpu_us_per_operation - 4.0).abs() < 0.01);
        assert!(BenchUse::new(vec![thread(50.0, 0.0), thread(91.0, 0.0)], 1).bottleneck);
        assert!(BenchUse::new(vec![thread(30.0, 65.0)], 0).bottleneck);
    }
}

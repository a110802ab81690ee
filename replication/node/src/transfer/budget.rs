//! The byte budget of transfers: all sessions of a node together take so many bytes a second from disk and network.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes per second, shared by all sessions. A session that has taken bytes waits until they are paid for.
#[derive(Debug)]
pub(super) struct Budget {
    bytes_per_second: u64,
    /// When everything taken so far is paid for.
    paid_at: Mutex<Instant>,
}

/// Idle time is not saved up for longer than this: a burst would be felt by the cores.
const BURST: Duration = Duration::from_millis(50);

impl Budget {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second: bytes_per_second.max(1),
            paid_at: Mutex::new(Instant::now()),
        }
    }

    /// Takes `bytes` and sleeps until they are paid for.
    pub(super) fn take(&self, bytes: usize) {
        thread::sleep(self.reserve(bytes, Instant::now()));
    }

    fn reserve(&self, bytes: usize, now: Instant) -> Duration {
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let mut paid_at = self.paid_at.lock().unwrap_or_else(PoisonError::into_inner);
        let from = now
            .checked_sub(BURST)
            .map_or(*paid_at, |floor| paid_at.max(floor));
        *paid_at = from + cost;
        paid_at.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn sessions_together_get_the_bytes_of_the_budget_and_one_burst() {
        let budget = Budget::new(1_000_000);
        let now = Instant::now();
        *budget.paid_at.lock().unwrap() = now - Duration::from_secs(10);
        assert_eq!(budget.reserve(50_000, now), Duration::ZERO);
        assert_eq!(budget.reserve(100_000, now), Duration::from_millis(100));
        assert_eq!(budget.reserve(100_000, now), Duration::from_millis(200));
        let later = now + Duration::from_millis(200);
        assert_eq!(budget.reserve(100_000, later), Duration::from_millis(100));
    }
}

//! The byte budget of everything that goes to targets and comes from them, and how far it has got.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How much may go at once after a rest.
const BURST: Duration = Duration::from_millis(100);

/// Bytes per second, shared by all that take from it.
#[derive(Debug)]
pub struct Pace {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bytes_per_second: u64,
    /// When all that was taken will have gone.
    free_at: Option<Instant>,
}

impl Pace {
    /// `bytes_per_second` = 0: no bound.
    #[must_use]
    pub const fn new(bytes_per_second: u64) -> Self {
        let state = State {
            bytes_per_second,
            free_at: None,
        };
        Self {
            state: Mutex::new(state),
        }
    }

    /// From the next [`Pace::take`] on. What was taken at another pace is forgotten.
    pub fn set(&self, bytes_per_second: u64) {
        let mut state = self.state();
        if state.bytes_per_second != bytes_per_second {
            *state = State {
                bytes_per_second,
                free_at: None,
            };
        }
    }

    /// Waits until so many bytes may go.
    pub async fn take(&self, bytes: usize) {
        let until = self.state().reserve(bytes as u64, Instant::now());
        if let Some(until) = until {
            tokio::time::sleep_until(until).await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// When they may go, if not at once.
    fn reserve(&mut self, bytes: u64, now: Instant) -> Option<Instant> {
        if self.bytes_per_second == 0 {
            return None;
        }
        let rested = now.checked_sub(BURST).unwrap_or(now);
        let begin = self.free_at.map_or(rested, |free_at| free_at.max(rested));
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let end = begin.checked_add(takes).unwrap_or(begin);
        self.free_at = Some(end);
        (end > now).then_some(end)
    }
}

/// How far a job has got, in bytes.
#[derive(Debug, Default)]
pub struct Progress {
    total: AtomicU64,
    done: AtomicU64,
    sent: AtomicU64,
}

/// What [`Progress`] says at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgressBytes {
    /// Of all files.
    pub total: u64,
    /// Of those that are where they belong.
    pub done: u64,
    /// That went over the wire, also in attempts that failed.
    pub sent: u64,
}

impl Progress {
    #[must_use]
    pub fn bytes(&self) -> ProgressBytes {
        ProgressBytes {
            total: self.total.load(Ordering::Relaxed),
            done: self.done.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
        }
    }

    /// A new attempt: nothing is known to be done.
    pub(crate) fn begin(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
    }

    pub(crate) fn add_done(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_at_the_pace_that_is_set_and_a_little_at_once_after_a_rest() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut state = State {
            bytes_per_second: 1000,
            free_at: None,
        };
        assert_eq!(state.reserve(100, start), None);
        assert_eq!(state.reserve(1000, start), Some(start + second));
        assert_eq!(
            state.reserve(500, start + second),
            Some(start + second + second / 2)
        );
        state.bytes_per_second = 0;
        assert_eq!(state.reserve(1 << 40, start), None);
    }

    #[test]
    fn a_slow_pace_leaves_no_debt_to_a_faster_one() {
        let (pace, now) = (Pace::new(1), Instant::now());
        assert!(pace.state().reserve(1 << 20, now) > Some(now + Duration::from_secs(1 << 19)));
        pace.set(1 << 30);
        assert_eq!(pace.state().reserve(1 << 20, now), None);
    }
}

//! The time that commands carry.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Unix milliseconds as this machine shows them now.
pub(super) fn wall_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(0)
}

/// Unix milliseconds that never go back: the wall clock at start, then a monotonic one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
    start_unix_ms: u64,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            start_unix_ms: wall_ms(),
        }
    }

    /// When it was made, in Unix seconds.
    pub(super) const fn started_s(&self) -> u64 {
        self.start_unix_ms / 1_000
    }

    pub(super) fn now_ms(&self) -> u64 {
        let passed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.start_unix_ms.saturating_add(passed)
    }
}

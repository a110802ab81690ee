//! The clocks of a core: one that counts suspension, for deadlines; and the wall, for expiry and stamps.

use pegasus_replication::ids::Instant;
use rustix::time::{ClockId, clock_gettime};

/// `CLOCK_BOOTTIME`: never goes back, goes on while the machine is suspended.
#[must_use]
pub fn now() -> Instant {
    Instant(nanos(ClockId::Boottime))
}

/// Microseconds since 1970 UTC. May jump.
#[must_use]
pub fn wall_us() -> u64 {
    nanos(ClockId::Realtime) / 1000
}

fn nanos(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    // Both clocks start at 0 or later; a wall before 1970 counts as 1970.
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(time.tv_nsec).unwrap_or_default();
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// Tells when the clocks cannot be trusted: between two looks one of them has gone another way than the other.
#[derive(Debug, Default)]
pub struct ClockWatch {
    /// Wall minus boot time at the last look, in microseconds.
    offset_us: Option<i128>,
}

/// A step of the wall clock below this is drift and slewing between two looks.
const DISAGREEMENT_US: u128 = 50_000;

impl ClockWatch {
    /// True: the clocks have moved apart since the last look.
    pub fn has_jumped(&mut self, now: Instant, wall_us: u64) -> bool {
        let offset = i128::from(wall_us) - i128::from(now.0 / 1000);
        let before = self.offset_us.replace(offset);
        before.is_some_and(|before| before.abs_diff(offset) > DISAGREEMENT_US)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_one_clock_is_seen_once_and_time_that_passes_is_not() {
        let mut watch = ClockWatch::default();
        let second = 1_000_000;
        assert!(!watch.has_jumped(Instant(7), 9 * second));
        assert!(!watch.has_jumped(Instant(5_000_000_007), 14 * second));
        assert!(watch.has_jumped(Instant(6_000_000_007), 15 * second + 60_000));
        assert!(!watch.has_jumped(Instant(7_000_000_007), 16 * second + 60_000));
        assert!(watch.has_jumped(Instant(8_000_000_007), 10 * second));
    }
}

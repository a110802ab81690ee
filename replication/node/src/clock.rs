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

//! The clock of a core's stamps: the one that its node uses for leases and deadlines, so that stamps of both can be compared.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_BOOTTIME`: never goes back, goes on while the machine is suspended. About 30 ns.
#[must_use]
pub fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    // The clock starts at 0.
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(time.tv_nsec).unwrap_or_default();
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

//! Expiry: Redis counts milliseconds, rows expire at whole seconds. A time to live is rounded up to the second at which the
//! row expires, so that nothing goes too early; what is left is rounded down, so that nobody reads more than was set.

/// Unix second of 2016-01-01 00:00:00 UTC, the epoch of every stored expiry (Apache Pegasus).
pub const EPOCH_UNIX_S: u64 = 1_451_606_400;

/// What becomes of a row that is given an expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// It is over at once.
    Past,
    /// Seconds since 2016, never 0. Times beyond 2152 are stored as the last second there is.
    At(u32),
}

/// The expiry for Unix time `at_ms`, as of `now_ms`.
#[must_use]
pub fn expiry(at_ms: i64, now_ms: u64) -> Expiry {
    match u64::try_from(at_ms) {
        Ok(at_ms) if at_ms > now_ms => {
            let second = at_ms.div_ceil(1000).saturating_sub(EPOCH_UNIX_S);
            Expiry::At(u32::try_from(second).unwrap_or(u32::MAX).max(1))
        }
        _ => Expiry::Past,
    }
}

/// The Unix second at which a row with `expire_at` (not 0) goes.
#[must_use]
pub const fn unix_s(expire_at: u32) -> u64 {
    EPOCH_UNIX_S + expire_at as u64
}

/// Whole seconds that a row with `expire_at` (not 0) has left.
#[must_use]
pub const fn left_s(expire_at: u32, now_ms: u64) -> u64 {
    (unix_s(expire_at) * 1000).saturating_sub(now_ms) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = EPOCH_UNIX_S * 1000 + 10_700;

    #[test]
    fn times_are_rounded_up_to_the_second() {
        let now = i64::try_from(NOW_MS).expect("far below 2^63");
        assert_eq!(expiry(now + 1500, NOW_MS), Expiry::At(13));
        assert_eq!(expiry(now + 1300, NOW_MS), Expiry::At(12));
        assert_eq!(expiry(now + 1, NOW_MS), Expiry::At(11));
        assert_eq!(expiry(now, NOW_MS), Expiry::Past);
        assert_eq!(expiry(-1, NOW_MS), Expiry::Past);
        assert_eq!(expiry(i64::MAX, NOW_MS), Expiry::At(u32::MAX));
    }

    #[test]
    fn what_is_left_is_never_more_than_was_set() {
        let now = i64::try_from(NOW_MS).expect("far below 2^63");
        for seconds in 1..50 {
            let Expiry::At(expire_at) = expiry(now + seconds * 1000, NOW_MS) else {
                panic!("it lies ahead");
            };
            assert_eq!(left_s(expire_at, NOW_MS), seconds.unsigned_abs());
        }
        assert_eq!(left_s(5, NOW_MS), 0);
    }
}

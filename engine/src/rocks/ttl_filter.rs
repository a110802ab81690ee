//! The compaction filter that drops rows which have expired, and keeps compactions at their pace.

use super::options::Clock;
use super::pace::{Pace, Paced};
use crate::key::HASH_KEY_LENGTH_BYTES;
use crate::value::{self, TableVersion};
use rocksdb::CompactionDecision;
use rocksdb::compaction_filter::CompactionFilter;
use rocksdb::compaction_filter_factory::{CompactionFilterContext, CompactionFilterFactory};
use std::ffi::CStr;

/// A row is dropped only so long after its expiry: readers judge by the primary's clock, which may run behind the
/// clock of the machine that compacts.
const MARGIN_S: u32 = 60;

const NAME: &CStr = c"pegasus.ExpiryFilter";

/// Makes one filter per compaction; the time is read once for each.
#[derive(Debug)]
pub(super) struct TtlFilterFactory {
    clock: Clock,
    pace: Pace,
}

impl TtlFilterFactory {
    pub(super) const fn new(clock: Clock, pace: Pace) -> Self {
        Self { clock, pace }
    }
}

impl CompactionFilterFactory for TtlFilterFactory {
    type Filter = TtlFilter;

    fn create(&mut self, _: CompactionFilterContext) -> TtlFilter {
        TtlFilter {
            dropped_until_s: self.clock.now_s().saturating_sub(MARGIN_S),
            paced: self.pace.begin(),
        }
    }

    fn name(&self) -> &CStr {
        NAME
    }
}

/// Drops rows that expired at or before a fixed second.
#[derive(Debug)]
pub(super) struct TtlFilter {
    dropped_until_s: u32,
    paced: Paced,
}

impl CompactionFilter for TtlFilter {
    fn filter(&mut self, _level: u32, key: &[u8], stored: &[u8]) -> CompactionDecision {
        self.paced.pass(key.len() + stored.len());
        // The marker is no row. A value that cannot be read is kept for the reader to complain about.
        if key.len() < HASH_KEY_LENGTH_BYTES {
            return CompactionDecision::Keep;
        }
        match value::decode(stored, TableVersion::V1) {
            Ok(value) if value::is_expired(value.expire_at, self.dropped_until_s) => {
                CompactionDecision::Remove
            }
            _ => CompactionDecision::Keep,
        }
    }

    fn name(&self) -> &CStr {
        NAME
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Header;

    fn decides_to_drop(key: &[u8], stored: &[u8], now_s: u32) -> bool {
        let mut filter = TtlFilter {
            dropped_until_s: now_s.saturating_sub(MARGIN_S),
            paced: Pace::new(1 << 20).begin(),
        };
        matches!(filter.filter(0, key, stored), CompactionDecision::Remove)
    }

    #[test]
    fn rows_are_dropped_a_margin_after_their_expiry() {
        let stored = Header::new(100, 0);
        assert!(!decides_to_drop(b"\x00\x00", stored.as_ref(), 100));
        assert!(!decides_to_drop(b"\x00\x00", stored.as_ref(), 159));
        assert!(decides_to_drop(b"\x00\x00", stored.as_ref(), 160));
        assert!(!decides_to_drop(
            b"\x00\x00",
            Header::new(0, 0).as_ref(),
            u32::MAX
        ));
    }

    #[test]
    fn the_marker_and_unreadable_values_are_kept() {
        assert!(!decides_to_drop(
            b"\x00",
            Header::new(1, 0).as_ref(),
            u32::MAX
        ));
        assert!(!decides_to_drop(b"\x00\x00", b"\x00", u32::MAX));
    }
}

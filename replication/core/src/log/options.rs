//! Sizes of a log, and which of them it can work with.

use super::batch::{BLOCK, ITEM_BYTES, ITEMS_MAX};
use super::record::PAYLOAD_BYTES_MAX;

/// Sizes of one shard's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Length of a segment in bytes, a multiple of 4,096. Default 64 MiB, 64 KiB to 1 GiB.
    /// Small: more files and repeated state; big: space is freed in big steps.
    pub segment_bytes: u64,
    /// Where a batch stops growing, in bytes; a single larger record still goes through. Default 1 MiB.
    pub batch_bytes_max: usize,
    /// Writes with their flush under way at once. Default 2, 1 to 16.
    pub writes_inflight_max: usize,
    /// Bytes of segments in use at which new writes are refused; half of it is where replicas are flushed.
    /// Default 1 GiB, at least four segments.
    pub budget_bytes: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            batch_bytes_max: 1 << 20,
            writes_inflight_max: 2,
            budget_bytes: 1 << 30,
        }
    }
}

impl LogOptions {
    /// Refuses sizes a log cannot work with, with a sentence.
    ///
    /// # Errors
    /// Names the field and its range.
    pub fn check(&self) -> Result<(), String> {
        if !self.segment_bytes.is_multiple_of(BLOCK)
            || !(64 << 10..=1 << 30).contains(&self.segment_bytes)
        {
            return Err(format!(
                "log segment_bytes {} is not a multiple of 4096 between 64 KiB and 1 GiB",
                self.segment_bytes
            ));
        }
        if !(4096..=16 << 20).contains(&self.batch_bytes_max) {
            return Err(format!(
                "log batch_bytes_max {} is not between 4 KiB and 16 MiB",
                self.batch_bytes_max
            ));
        }
        if !(1..=16).contains(&self.writes_inflight_max) {
            return Err(format!(
                "log writes_inflight_max {} is not between 1 and 16",
                self.writes_inflight_max
            ));
        }
        if self.budget_bytes < 4 * self.segment_bytes {
            return Err(format!(
                "log budget_bytes {} is less than four segments",
                self.budget_bytes
            ));
        }
        Ok(())
    }

    /// Largest payload one entry may have, in bytes: admission refuses larger ones.
    #[must_use]
    pub fn payload_bytes_max(&self) -> usize {
        usize::try_from(self.segment_bytes / 4)
            .map_or(PAYLOAD_BYTES_MAX, |quarter| quarter.min(PAYLOAD_BYTES_MAX))
    }

    /// So many that the lists of two batches take at most a quarter of a segment.
    pub(super) fn items_max(&self) -> usize {
        let fitting = self.segment_bytes / 4 / (2 * ITEM_BYTES as u64);
        usize::try_from(fitting).map_or(ITEMS_MAX, |fitting| fitting.min(ITEMS_MAX))
    }
}

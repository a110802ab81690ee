//! What comes into the log: records that wait for the next write, and older ones that are written again.

use super::ShardLog;
use super::record::{Record, RecordKind, Stamp};
use crate::ids::{Decree, PartitionId};

/// Bytes of records appended again that may wait: they yield to clients.
const REAPPEND_PENDING_BYTES_MAX: usize = 1 << 20;

impl ShardLog {
    /// Queues a record for the next write. On a failed log it is dropped, and never becomes durable.
    ///
    /// # Panics
    /// If the payload is over [`LogOptions::payload_bytes_max`](super::LogOptions::payload_bytes_max), or an entry has decree 0: admission's mistake.
    pub fn append(&mut self, record: Record) {
        self.check_record(&record);
        self.withdraw_voided(&record);
        if self.failed.is_none() {
            self.appended += 1;
            self.pending_bytes += record.encoded_bytes();
            self.pending.push_back(record);
        }
    }

    /// Entries that wait to be written again and that `record` voids: behind it they would count as the newer copy.
    fn withdraw_voided(&mut self, record: &Record) {
        let (stamp, bytes) = (record.stamp(), &mut self.reappended_bytes);
        let voids = |old: &Stamp| match stamp.kind {
            RecordKind::Entry => old.decree >= stamp.decree && old.ballot < stamp.ballot,
            RecordKind::Cut => old.decree > stamp.decree,
            RecordKind::Removed => true,
            _ => false,
        };
        self.reappended.retain(|waiting| {
            let old = waiting.stamp();
            let is_void = old.partition == stamp.partition && voids(&old);
            *bytes -= if is_void { waiting.encoded_bytes() } else { 0 };
            !is_void
        });
    }

    /// Queues an entry again, in decree order, so that the oldest segment can be freed; it yields to
    /// everything appended. `false`: too many wait already (or the log has failed), try after the next write.
    pub fn reappend(&mut self, record: Record) -> bool {
        self.check_record(&record);
        let bytes = record.encoded_bytes();
        let is_full = !self.reappended.is_empty()
            && self.reappended_bytes + bytes > REAPPEND_PENDING_BYTES_MAX;
        if is_full || self.failed.is_some() {
            return false;
        }
        self.reappended_bytes += bytes;
        self.reappended.push_back(record);
        true
    }

    /// Whether records of this partition wait to be written again.
    #[must_use]
    pub fn is_reappending(&self, partition: PartitionId) -> bool {
        let mut waiting = self.reappended.iter();
        waiting.any(|record| record.stamp().partition == partition)
    }

    /// Bytes of records appended and not yet durable: bound them at admission.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
            + self
                .inflight
                .iter()
                .map(|write| write.record_bytes)
                .sum::<usize>()
    }

    /// Records queued by [`Self::append`] in this life; the first is number 1.
    #[must_use]
    pub const fn appended_count(&self) -> u64 {
        self.appended
    }

    /// How many of them, in order, writes have taken.
    #[must_use]
    pub fn taken_count(&self) -> u64 {
        self.appended - self.pending.len() as u64
    }

    /// Whether records wait for a write of theirs.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.has_records()
    }

    fn check_record(&self, record: &Record) {
        if let Record::Entry { entry, .. } = record {
            assert!(entry.decree > Decree::ZERO, "decrees start at 1");
            assert!(
                entry.mutation.payload.len() <= self.options.payload_bytes_max(),
                "payload over the log's bound"
            );
        }
    }

    pub(super) fn has_records(&self) -> bool {
        !(self.carried.is_empty() && self.pending.is_empty() && self.reappended.is_empty())
    }
}

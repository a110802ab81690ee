//! The log disk of one core: it keeps what was flushed, and of the rest whatever chance decides.

use crate::random::Random;
use bytes::Bytes;
use pegasus_replication::log::{LogWrite, LogWriteId, SegmentId, SegmentSource};
use std::collections::BTreeMap;

/// What the disk writes at once or not at all.
const BLOCK_BYTES: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct Disk {
    segments: BTreeMap<SegmentId, Vec<u8>>,
    /// Written and not yet flushed.
    pending: Vec<LogWrite>,
    /// Freed segments: their old contents come back in new ones.
    recycled: Vec<Vec<u8>>,
}

impl Disk {
    /// A segment of zeros or of old contents, durable at once: it was made ready off the core.
    pub(crate) fn prepare(&mut self, segment: SegmentId, bytes: usize) {
        let recycled = self.recycled.pop();
        self.segments
            .entry(segment)
            .or_insert_with(|| recycled.unwrap_or_else(|| vec![0; bytes]));
    }

    pub(crate) fn free(&mut self, segment: SegmentId) {
        assert!(
            self.pending.iter().all(|write| write.segment != segment),
            "a segment with writes in flight is freed"
        );
        self.recycled.extend(self.segments.remove(&segment));
    }

    pub(crate) fn write(&mut self, write: LogWrite) {
        self.pending.push(write);
    }

    /// The flush of this write is complete. Writes complete in any order.
    pub(crate) fn flush(&mut self, id: LogWriteId) {
        let at = self
            .pending
            .iter()
            .position(|write| write.id == id)
            .expect("only a pending write completes");
        let write = self.pending.swap_remove(at);
        self.put(&write, |_| true);
    }

    /// Each block of each unflushed write reaches the disk or does not.
    pub(crate) fn crash(&mut self, random: &mut Random) {
        for write in std::mem::take(&mut self.pending) {
            match random.below(3) {
                0 => {}
                1 => self.put(&write, |_| true),
                _ => self.put(&write, |_| random.one_in(2)),
            }
        }
    }

    fn put(&mut self, write: &LogWrite, mut keeps: impl FnMut(usize) -> bool) {
        let segment = self
            .segments
            .get_mut(&write.segment)
            .expect("a write goes to a prepared segment");
        let offset = usize::try_from(write.offset).expect("segments are small");
        assert!(
            offset + write.bytes.len() <= segment.len(),
            "a log write beyond the end of its segment"
        );
        for (number, block) in write.bytes.chunks(BLOCK_BYTES).enumerate() {
            if keeps(number) {
                let start = offset + number * BLOCK_BYTES;
                segment[start..start + block.len()].copy_from_slice(block);
            }
        }
    }
}

impl SegmentSource for Disk {
    fn segments(&self) -> Vec<(SegmentId, u64)> {
        self.segments
            .iter()
            .map(|(id, bytes)| (*id, bytes.len() as u64))
            .collect()
    }

    fn read(&mut self, segment: SegmentId, offset: u64, length: usize) -> Result<Bytes, String> {
        let bytes = self.segments.get(&segment).ok_or("no such segment")?;
        let start = usize::try_from(offset).map_err(|error| error.to_string())?;
        let slice = bytes
            .get(start..start + length)
            .ok_or("beyond the end of the segment")?;
        Ok(Bytes::copy_from_slice(slice))
    }
}

//! The log drive of a node.

use super::World;
use bytes::Bytes;
use pegasus_replication::event::Event;
use pegasus_replication::log::{LogWrite, SegmentId, SegmentSource};
use std::collections::{BTreeMap, VecDeque};

pub(crate) const SEGMENT_BYTES: u64 = 64 << 10;

/// Segments as the drive holds them; writes count when they are completed.
#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) segments: BTreeMap<SegmentId, Vec<u8>>,
    pub(crate) pending: VecDeque<LogWrite>,
}

impl Disk {
    pub(crate) fn store(&mut self, write: &LogWrite) {
        let file = self
            .segments
            .get_mut(&write.segment)
            .expect("a prepared segment");
        let at = usize::try_from(write.offset).unwrap();
        file[at..at + write.bytes.len()].copy_from_slice(&write.bytes);
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
        let file = self.segments.get(&segment).ok_or("no such segment")?;
        let at = usize::try_from(offset).unwrap();
        Ok(Bytes::copy_from_slice(&file[at..at + length]))
    }
}

impl World {
    /// Completes the oldest log write. False: none is under way.
    pub(crate) fn step_disk(&mut self, node: u32) -> bool {
        let disk = &mut self.nodes.get_mut(&node).unwrap().disk;
        let Some(write) = disk.pending.pop_front() else {
            return false;
        };
        disk.store(&write);
        self.feed(node, Event::LogDurable { write: write.id });
        true
    }
}

//! A disk that keeps what was flushed and, at a crash, any part of what was not.

use super::random::Random;
use crate::ids::{CoreId, NodeId};
use crate::log::{LogIdentity, LogOptions, LogWrite, LogWriteId, SegmentId, SegmentSource};
use bytes::Bytes;
use std::collections::BTreeMap;

pub(super) const IDENTITY: LogIdentity = LogIdentity {
    cluster: 0x0123_4567_89ab_cdef,
    node: NodeId(3),
    shard: CoreId(1),
};

pub(super) const OPTIONS: LogOptions = LogOptions {
    segment_bytes: 64 << 10,
    batch_bytes_max: 16 << 10,
    writes_inflight_max: 2,
    budget_bytes: 1 << 20,
};

const BLOCK: usize = 4096;
const SECTOR: usize = 512;

#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) files: BTreeMap<SegmentId, Vec<u8>>,
    pub(super) unflushed: Vec<LogWrite>,
    /// Freed files, contents and all: the next segment is made of one of them.
    pub(super) recycled: Vec<Vec<u8>>,
    /// Offsets of blocks that cannot be read.
    pub(super) unreadable: Vec<(SegmentId, u64)>,
}

impl Disk {
    pub(super) fn prepare(&mut self, segment: SegmentId) {
        let blank = || vec![0; OPTIONS.segment_bytes as usize];
        let old = self
            .files
            .insert(segment, self.recycled.pop().unwrap_or_else(blank));
        assert!(old.is_none(), "a segment number is used once");
    }

    pub(super) fn free(&mut self, segment: SegmentId) {
        self.recycled.push(
            self.files
                .remove(&segment)
                .expect("only what exists is freed"),
        );
    }

    pub(super) fn write(&mut self, write: LogWrite) {
        assert_eq!(write.offset as usize % BLOCK, 0);
        assert_eq!(write.bytes.len() % BLOCK, 0);
        self.unflushed.push(write);
    }

    pub(super) fn flush(&mut self, index: usize) -> LogWriteId {
        let write = self.unflushed.remove(index);
        let start = write.offset as usize;
        let file = self
            .files
            .get_mut(&write.segment)
            .expect("written to an existing segment");
        file[start..start + write.bytes.len()].copy_from_slice(&write.bytes);
        write.id
    }

    /// What is there after a power cut: of every unflushed write any blocks, and some of them in part.
    pub(super) fn crash(&self, random: &mut Random) -> Self {
        let mut after = Self {
            files: self.files.clone(),
            ..Self::default()
        };
        for write in &self.unflushed {
            let file = after
                .files
                .get_mut(&write.segment)
                .expect("written to an existing segment");
            for (index, block) in write.bytes.chunks(BLOCK).enumerate() {
                let start = write.offset as usize + index * BLOCK;
                let kept = match random.below(4) {
                    0 => 0,
                    1 => random.below((BLOCK / SECTOR) as u64) as usize * SECTOR,
                    _ => BLOCK,
                };
                file[start..start + kept].copy_from_slice(&block[..kept]);
            }
        }
        after
    }

    pub(super) fn flip(&mut self, segment: SegmentId, offset: usize, mask: u8) {
        assert_ne!(mask, 0);
        self.files.get_mut(&segment).expect("an existing segment")[offset] ^= mask;
    }
}

impl SegmentSource for Disk {
    fn segments(&self) -> Vec<(SegmentId, u64)> {
        self.files
            .iter()
            .rev()
            .map(|(id, file)| (*id, file.len() as u64))
            .collect()
    }

    fn read(&mut self, segment: SegmentId, offset: u64, length: usize) -> Result<Bytes, String> {
        let end = offset + length as u64;
        if self
            .unreadable
            .iter()
            .any(|(id, at)| *id == segment && *at >= offset && *at < end)
        {
            return Err("medium error".to_owned());
        }
        let file = &self.files[&segment];
        Ok(Bytes::copy_from_slice(&file[offset as usize..end as usize]))
    }
}

//! The log disk of one core: it keeps what was flushed, and of the rest whatever chance decides. A bad one also damages
//! what was flushed: flipped bits, blocks that went elsewhere, blocks that went nowhere.

use crate::random::Random;
use bytes::Bytes;
use pegasus_replication::log::{LogWrite, LogWriteId, Position, SegmentId, SegmentSource};
use std::collections::{BTreeMap, BTreeSet};

const BLOCK_BYTES: usize = 4096;

/// Bytes that were written together.
#[derive(Clone, Copy, Debug)]
struct Extent {
    segment: SegmentId,
    offset: usize,
    bytes: usize,
}

#[derive(Debug)]
pub(crate) struct Disk {
    segments: BTreeMap<SegmentId, Vec<u8>>,
    /// Written and not yet flushed.
    pending: Vec<LogWrite>,
    /// Freed segments: their old contents come back in new ones.
    recycled: Vec<Vec<u8>>,
    /// What the disk writes at once or not at all: 512 or 4,096 bytes.
    sector_bytes: usize,
    life: LifeOfLog,
    /// What may be damaged after the last crash: flushed, and named as flushed by something flushed later.
    vouched: Vec<Extent>,
}

/// What was written since the log was opened last.
#[derive(Debug, Default)]
struct LifeOfLog {
    extents: BTreeMap<LogWriteId, Extent>,
    flushed: BTreeSet<LogWriteId>,
    /// The log has been told that they are flushed.
    told: BTreeSet<LogWriteId>,
    /// It has been told so of all writes up to this one.
    told_upto: u64,
    /// `told_upto` when each write was made: what its header says.
    said: BTreeMap<LogWriteId, u64>,
}

impl Disk {
    pub(crate) fn new(sector_bytes: usize) -> Self {
        Self {
            segments: BTreeMap::new(),
            pending: Vec::new(),
            recycled: Vec::new(),
            sector_bytes,
            life: LifeOfLog::default(),
            vouched: Vec::new(),
        }
    }

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
        let offset = usize::try_from(write.offset).expect("segments are small");
        let extent = Extent {
            segment: write.segment,
            offset,
            bytes: write.bytes.len(),
        };
        self.life.extents.insert(write.id, extent);
        self.life.said.insert(write.id, self.life.told_upto);
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
        self.life.flushed.insert(id);
    }

    /// The log learns that this write is flushed.
    pub(crate) fn tell(&mut self, id: LogWriteId) {
        let life = &mut self.life;
        life.told.insert(id);
        while life.told.contains(&LogWriteId(life.told_upto + 1)) {
            life.told_upto += 1;
        }
    }

    /// Where recovery must not end before: the disk itself says that everything up to here was flushed.
    pub(crate) fn vouched_end(&self) -> Position {
        let ends = self.vouched.iter().map(|extent| Position {
            segment: extent.segment,
            offset: (extent.offset + extent.bytes) as u64,
        });
        ends.max().unwrap_or(Position::START)
    }

    /// Each sector of each unflushed write reaches the disk or does not.
    pub(crate) fn crash(&mut self, random: &mut Random) {
        for write in std::mem::take(&mut self.pending) {
            match random.below(3) {
                0 => {}
                1 => self.put(&write, |_| true),
                _ => self.put(&write, |_| random.one_in(2)),
            }
        }
        let life = std::mem::take(&mut self.life);
        let said = life
            .said
            .iter()
            .filter(|(id, _)| life.flushed.contains(id))
            .map(|(_, upto)| *upto)
            .max()
            .unwrap_or_default();
        let vouched = life.extents.range(..=LogWriteId(said));
        self.vouched = vouched
            .map(|(_, extent)| *extent)
            .filter(|extent| self.segments.contains_key(&extent.segment))
            .collect();
    }

    /// Damages what was flushed before the last crash; false if nothing could be. Never the last writes: nothing on the
    /// disk says that they were flushed, so that nobody could tell them from torn ones.
    pub(crate) fn damage(&mut self, random: &mut Random) -> bool {
        let vouched: Vec<Extent> = self
            .vouched
            .iter()
            .filter(|extent| self.segments.contains_key(&extent.segment))
            .copied()
            .collect();
        if vouched.is_empty() {
            return false;
        }
        for _ in 0..=random.below(3) {
            let extent = *random.pick(&vouched);
            match random.below(3) {
                0 => self.flip(extent, random),
                1 => self.replace_block(extent, vec![0; BLOCK_BYTES], random),
                _ => {
                    let source = *random.pick(&vouched);
                    let from = self.segments[&source.segment].as_slice();
                    let block = from[source.offset..source.offset + BLOCK_BYTES].to_vec();
                    self.replace_block(extent, block, random);
                }
            }
        }
        true
    }

    fn flip(&mut self, extent: Extent, random: &mut Random) {
        let at = extent.offset + random.index(extent.bytes);
        let bit = 1 << random.below(8);
        let segment = self.segments.get_mut(&extent.segment);
        segment.expect("only extents of segments that are there")[at] ^= bit;
    }

    fn replace_block(&mut self, extent: Extent, block: Vec<u8>, random: &mut Random) {
        let at = extent.offset + BLOCK_BYTES * random.index(extent.bytes / BLOCK_BYTES);
        let segment = self.segments.get_mut(&extent.segment);
        segment.expect("only extents of segments that are there")[at..at + BLOCK_BYTES]
            .copy_from_slice(&block);
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
        for (number, sector) in write.bytes.chunks(self.sector_bytes).enumerate() {
            if keeps(number) {
                let start = offset + number * self.sector_bytes;
                segment[start..start + sector.len()].copy_from_slice(sector);
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

//! Segments: the header block that opens one, and the hand-over from one to the next (docs/formats.md, "Segment").
//!
//! ```text
//!   unused --PrepareSegment--> preparing --SegmentReady--> ready --open--> opening --durable--> current --full--> closed --FreeSegment--> unused
//! ```
//!
//! Whoever prepares a segment only makes a file of the right length whose blocks are allocated and written
//! (zeros, or whatever a recycled segment held). The log itself writes the header block as its first write
//! to the segment and flushes it before any batch, because only then is the final length of the predecessor known.

use super::batch::{BLOCK, BLOCK_BYTES, position};
use super::record::{LogIdentity, LogIncarnation, le_u32, le_u64};
use super::{Position, SegmentId};
use crate::ids::{CoreId, NodeId};
use thiserror::Error;

/// Version of everything in a log: header block, batches and records.
pub const LOG_FORMAT_VERSION: u32 = 1;
const SEGMENT_MAGIC: u64 = u64::from_le_bytes(*b"PGSLOGSG");

/// The first block of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) identity: LogIdentity,
    pub(crate) incarnation: LogIncarnation,
    pub(crate) segment: SegmentId,
    pub(crate) segment_bytes: u64,
    /// Where the log ends before this segment; what its segment holds from there on is void. Segment 0: none.
    pub(crate) predecessor: Position,
    pub(crate) flushed_upto: Position,
    /// Of the first batch that follows.
    pub(crate) next_sequence: u64,
}

/// What the first block of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderBlock {
    Valid(SegmentHeader),
    /// Zeros, garbage or a flipped bit.
    Invalid,
    /// A header, whole, of a format this program does not know.
    Version(u32),
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        assert!(self.predecessor.segment < self.segment);
        assert!(self.flushed_upto.segment < self.segment);
        let mut out = Vec::with_capacity(BLOCK_BYTES);
        out.extend_from_slice(&SEGMENT_MAGIC.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&LOG_FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&self.identity.cluster.to_le_bytes());
        out.extend_from_slice(&self.identity.node.0.to_le_bytes());
        out.extend_from_slice(&self.identity.shard.0.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        for field in [
            self.incarnation.0,
            self.segment.0,
            self.segment_bytes,
            self.predecessor.segment.0,
            self.predecessor.offset,
            self.flushed_upto.segment.0,
            self.flushed_upto.offset,
            self.next_sequence,
        ] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.resize(BLOCK_BYTES, 0);
        let checksum = crc32c::crc32c(out.get(12..).expect("a block is longer"));
        out.get_mut(8..12)
            .expect("a block is longer")
            .copy_from_slice(&checksum.to_le_bytes());
        out
    }

    pub(crate) fn decode(block: &[u8]) -> HeaderBlock {
        Self::decode_fields(block).unwrap_or(HeaderBlock::Invalid)
    }

    fn decode_fields(block: &[u8]) -> Option<HeaderBlock> {
        let block = block.get(..BLOCK_BYTES)?;
        if le_u64(block, 0)? != SEGMENT_MAGIC
            || le_u32(block, 8)? != crc32c::crc32c(block.get(12..)?)
        {
            return None;
        }
        let version = le_u32(block, 12)?;
        if version != LOG_FORMAT_VERSION {
            return Some(HeaderBlock::Version(version));
        }
        let header = Self {
            identity: LogIdentity {
                cluster: u128::from_le_bytes(block.get(16..32)?.try_into().ok()?),
                node: NodeId(le_u32(block, 32)?),
                shard: CoreId(u16::from_le_bytes(block.get(36..38)?.try_into().ok()?)),
            },
            incarnation: LogIncarnation(le_u64(block, 40)?),
            segment: SegmentId(le_u64(block, 48)?),
            segment_bytes: le_u64(block, 56)?,
            predecessor: position(block, 64)?,
            flushed_upto: position(block, 80)?,
            next_sequence: le_u64(block, 96)?,
        };
        let is_plausible = header.predecessor.segment < header.segment
            && header.flushed_upto.segment < header.segment;
        is_plausible.then_some(HeaderBlock::Valid(header))
    }
}

/// The segment being written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CurrentSegment {
    pub(crate) id: SegmentId,
    /// Where the next batch goes.
    pub(crate) offset: u64,
    pub(crate) predecessor: Position,
    /// The header block is on stable storage: batches may follow.
    pub(crate) is_open: bool,
}

impl CurrentSegment {
    pub(crate) const fn opening(id: SegmentId, predecessor: Position) -> Self {
        Self {
            id,
            offset: BLOCK,
            predecessor,
            is_open: false,
        }
    }

    pub(crate) const fn end(&self) -> Position {
        Position {
            segment: self.id,
            offset: self.offset,
        }
    }
}

/// Segments that are not in use yet: one is asked for ahead of need, so that rotation never waits for a file system.
#[derive(Debug)]
pub(crate) struct NextSegment {
    next_id: SegmentId,
    requested: Option<SegmentId>,
    ready: Option<SegmentId>,
}

/// A report about a segment that nobody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("segment {} is ready but was not asked for", .segment.0)]
pub struct UnexpectedSegment {
    pub segment: SegmentId,
}

impl NextSegment {
    pub(crate) const fn new(next_id: SegmentId) -> Self {
        Self {
            next_id,
            requested: None,
            ready: None,
        }
    }

    /// The segment to prepare now, told once.
    pub(crate) fn request(&mut self) -> Option<SegmentId> {
        if self.requested.is_some() || self.ready.is_some() {
            return None;
        }
        let id = self.next_id;
        self.next_id = SegmentId(id.0 + 1);
        self.requested = Some(id);
        Some(id)
    }

    pub(crate) fn on_ready(&mut self, segment: SegmentId) -> Result<(), UnexpectedSegment> {
        if self.requested != Some(segment) {
            return Err(UnexpectedSegment { segment });
        }
        self.requested = None;
        self.ready = Some(segment);
        Ok(())
    }

    pub(crate) fn take(&mut self) -> Option<SegmentId> {
        self.ready.take()
    }
}

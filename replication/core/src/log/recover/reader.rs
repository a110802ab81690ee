//! Reads batches from a `SegmentSource`, in windows, without copying payloads.

use super::chain::ChainSegment;
use super::{SegmentId, SegmentSource};
use crate::log::batch::{BATCH_FIXED_BYTES, BLOCK, BLOCK_BYTES, BatchHeader, BatchItem};
use crate::log::record::{
    LogIdentity, LogIncarnation, NumberedRecord, Record, Seal, padded_bytes, record_bytes,
};
use crate::log::{Position, RecordError};
use bytes::Bytes;

/// Bytes read at once by recovery. An entry that survives keeps its window in memory.
const WINDOW_BYTES: usize = 1 << 20;

/// A batch whose header is right.
#[derive(Debug)]
pub(super) struct BatchRead {
    pub(super) header: BatchHeader,
    /// Every record, or those that could be read.
    pub(super) records: Vec<NumberedRecord>,
    pub(super) is_whole: bool,
}

impl BatchRead {
    /// The replicas some of whose records could not be read.
    pub(super) fn lost_items(&self) -> Vec<BatchItem> {
        let is_lost = |item: &&BatchItem| {
            let is_of_item = |placed: &&NumberedRecord| {
                let stamp = placed.record.stamp();
                stamp.partition == item.partition && stamp.incarnation == item.incarnation
            };
            self.records.iter().filter(is_of_item).count() != item.records as usize
        };
        self.header.items.iter().filter(is_lost).copied().collect()
    }
}

/// A window over one segment at a time.
pub(super) struct Reader<'s, S: ?Sized> {
    source: &'s mut S,
    pub(super) identity: LogIdentity,
    segment: SegmentId,
    window_bytes: usize,
    window_offset: u64,
    window: Bytes,
}

impl<'s, S: SegmentSource + ?Sized> Reader<'s, S> {
    pub(super) fn new(source: &'s mut S, identity: LogIdentity) -> Self {
        Self::with_window(source, identity, WINDOW_BYTES)
    }

    /// Reads at least `window_bytes` at once, where there are so many.
    pub(super) fn with_window(
        source: &'s mut S,
        identity: LogIdentity,
        window_bytes: usize,
    ) -> Self {
        Self {
            source,
            identity,
            segment: SegmentId(0),
            window_bytes,
            window_offset: 0,
            window: Bytes::new(),
        }
    }

    /// Segments on disk by number, with their lengths.
    pub(super) fn segments(&self) -> Vec<(SegmentId, u64)> {
        let mut segments = self.source.segments();
        segments.sort_unstable();
        segments.dedup_by_key(|segment| segment.0);
        segments
    }

    /// `length` bytes from `offset`, a multiple of a block. `None`: they pass the end of the segment.
    pub(super) fn bytes(
        &mut self,
        segment: SegmentId,
        file_bytes: u64,
        offset: u64,
        length: usize,
    ) -> Option<Bytes> {
        if offset.checked_add(length as u64)? > file_bytes {
            return None;
        }
        if let Some(slice) = self.slice(segment, offset, length) {
            return Some(slice);
        }
        let left = usize::try_from(file_bytes - offset).unwrap_or(usize::MAX);
        let wanted = length.max(self.window_bytes).min(left);
        self.window = self.read(segment, offset, wanted);
        self.window_offset = offset;
        self.segment = segment;
        self.slice(segment, offset, length)
    }

    /// Only that, not a window. `None`: the file is shorter.
    pub(super) fn first_block(&mut self, segment: SegmentId, file_bytes: u64) -> Option<Bytes> {
        (file_bytes >= BLOCK).then(|| self.read(segment, 0, BLOCK_BYTES))
    }

    fn slice(&self, segment: SegmentId, offset: u64, length: usize) -> Option<Bytes> {
        let start = usize::try_from(offset.checked_sub(self.window_offset)?).ok()?;
        let end = start.checked_add(length)?;
        (segment == self.segment && end <= self.window.len()).then(|| self.window.slice(start..end))
    }

    /// Blocks that the disk refuses are zeros here: bad like any other block that is not what was written.
    fn read(&mut self, segment: SegmentId, offset: u64, length: usize) -> Bytes {
        if let Ok(bytes) = self.source.read(segment, offset, length)
            && bytes.len() == length
        {
            return bytes;
        }
        let mut patched = Vec::with_capacity(length);
        while patched.len() < length {
            let wanted = BLOCK_BYTES.min(length - patched.len());
            match self
                .source
                .read(segment, offset + patched.len() as u64, wanted)
            {
                Ok(block) if block.len() == wanted => patched.extend_from_slice(&block),
                _ => patched.resize(patched.len() + wanted, 0),
            }
        }
        Bytes::from(patched)
    }

    /// The header at `offset`, if a batch of this segment's life starts there.
    pub(super) fn header(&mut self, segment: &ChainSegment, offset: u64) -> Option<BatchHeader> {
        let header = self.header_of(segment.id, segment.file_bytes, offset, segment.incarnation)?;
        (header.end().offset <= segment.end).then_some(header)
    }

    fn header_of(
        &mut self,
        segment: SegmentId,
        file_bytes: u64,
        offset: u64,
        incarnation: LogIncarnation,
    ) -> Option<BatchHeader> {
        let block = self.bytes(segment, file_bytes, offset, BLOCK_BYTES)?;
        let claimed = BatchHeader::claimed_bytes(&block)?;
        assert!(claimed >= BATCH_FIXED_BYTES);
        let whole = self.bytes(
            segment,
            file_bytes,
            offset,
            claimed.max(BLOCK_BYTES).next_multiple_of(BLOCK_BYTES),
        )?;
        let seal = Seal::new(&self.identity, incarnation, segment);
        BatchHeader::decode(&whole, &seal, incarnation, Position { segment, offset })
    }

    /// The first batch header of a segment whose own header is bad, of whatever life it says it is.
    pub(super) fn probe(&mut self, segment: SegmentId, file_bytes: u64) -> Option<BatchHeader> {
        let mut offset = BLOCK;
        while let Some(block) = self.bytes(segment, file_bytes, offset, BLOCK_BYTES) {
            let claimed = BatchHeader::claimed_bytes(&block)
                .and_then(|_| BatchHeader::claimed_incarnation(&block));
            let header = claimed
                .and_then(|incarnation| self.header_of(segment, file_bytes, offset, incarnation));
            if header.is_some() {
                return header;
            }
            offset += BLOCK;
        }
        None
    }

    /// Every valid batch header from `from` on, wherever a batch may start.
    pub(super) fn scan_headers(
        &mut self,
        segment: &ChainSegment,
        from: u64,
        mut on_header: impl FnMut(&BatchHeader),
    ) {
        assert_eq!(from % BLOCK, 0);
        let mut offset = from;
        while offset < segment.end {
            if let Some(header) = self.header(segment, offset) {
                on_header(&header);
            }
            offset += BLOCK;
        }
    }

    /// The batch at `offset`. `None`: its header is bad.
    pub(super) fn batch(&mut self, segment: &ChainSegment, offset: u64) -> Option<BatchRead> {
        let header = self.header(segment, offset)?;
        let length = usize::try_from(header.batch_bytes).ok()?;
        let bytes = self.bytes(segment.id, segment.file_bytes, offset, length)?;
        let seal = Seal::new(&self.identity, segment.incarnation, segment.id);
        let records_end = usize::try_from(header.header_bytes + header.records_bytes).ok()?;
        let mut at = usize::try_from(header.header_bytes).ok()?;
        let mut records = Vec::with_capacity(header.record_count.min(1 << 16) as usize);
        let mut is_whole = true;
        while at < records_end {
            let rest = bytes.slice(at..records_end);
            match Record::decode(&rest, &seal, offset + at as u64) {
                Ok(placed) => {
                    at += placed.record.encoded_bytes();
                    records.push(placed);
                }
                Err(error) => {
                    is_whole = false;
                    let Some(next) = behind_bad_record(&rest, error) else {
                        break;
                    };
                    at += next;
                }
            }
        }
        is_whole = is_whole && records.len() == header.record_count as usize && at == records_end;
        Some(BatchRead {
            header,
            records,
            is_whole,
        })
    }
}

/// Where to look for the next record: the length may be right although something else is not.
/// If it is not, whatever stands there fails its own checksum, and the rest of the batch is lost.
fn behind_bad_record(rest: &[u8], error: RecordError) -> Option<usize> {
    if matches!(error, RecordError::Length { .. }) {
        return None;
    }
    record_bytes(rest).ok().map(padded_bytes)
}

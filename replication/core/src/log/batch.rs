//! A batch: the records of one write and flush, under a header with its own checksum (docs/formats.md, "Batch of the log").

use super::record::{LogIncarnation, NumberedRecord, Record, Seal, Stamp, le_u32, le_u64};
use super::{Position, RecordKind, SegmentId};
use crate::ids::{Ballot, Decree, PartitionId, ReplicaIncarnation, TableId};
use std::collections::BTreeMap;

/// Batches start at multiples of this and are multiples of it long: the unit of O_DIRECT writes.
pub(crate) const BLOCK_BYTES: usize = 4096;
/// The same as a file offset.
pub(crate) const BLOCK: u64 = 4096;
/// Most (partition, incarnation) pairs in one batch.
pub(crate) const ITEMS_MAX: usize = 1024;

pub(crate) const BATCH_FIXED_BYTES: usize = 112;
pub(crate) const ITEM_BYTES: usize = 48;
const BATCH_MAGIC: u32 = u32::from_le_bytes(*b"PGB1");
/// A batch is never longer, even if one record of the largest payload is in it.
const BATCH_BYTES_MAX: u64 = 64 << 20;

const FLAG_ADOPT: u32 = 1;
const FLAG_CUT: u32 = 2;
const FLAG_REMOVED: u32 = 4;
const FLAG_CARRIED: u32 = 8;
const FLAG_SUSPECT: u32 = 16;

/// What one batch holds of one replica: enough to say what is lost if its records cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchItem {
    pub partition: PartitionId,
    pub incarnation: ReplicaIncarnation,
    /// Highest ballot of its entries; `Ballot::NONE` without entries.
    pub ballot: Ballot,
    /// Lowest and highest decree of its entries; zero without entries.
    pub first: Decree,
    pub last: Decree,
    /// Records of every kind.
    pub records: u32,
    flags: u32,
}

impl BatchItem {
    pub(crate) const fn new(partition: PartitionId, incarnation: ReplicaIncarnation) -> Self {
        Self {
            partition,
            incarnation,
            ballot: Ballot::NONE,
            first: Decree::ZERO,
            last: Decree::ZERO,
            records: 0,
            flags: 0,
        }
    }

    pub(crate) fn add(&mut self, stamp: &Stamp) {
        assert_eq!(self.partition, stamp.partition);
        assert_eq!(self.incarnation, stamp.incarnation);
        self.records += 1;
        match stamp.kind {
            RecordKind::Entry => {
                self.ballot = self.ballot.max(stamp.ballot);
                self.first = if self.has_entries() {
                    self.first.min(stamp.decree)
                } else {
                    stamp.decree
                };
                self.last = self.last.max(stamp.decree);
            }
            RecordKind::Adopt => self.flags |= FLAG_ADOPT,
            RecordKind::Cut => self.flags |= FLAG_CUT,
            RecordKind::Removed => self.flags |= FLAG_REMOVED,
            RecordKind::Suspect => self.flags |= FLAG_SUSPECT,
            RecordKind::Carried => self.flags |= FLAG_CARRIED,
            RecordKind::Committed => {}
        }
    }

    #[must_use]
    pub const fn has_entries(&self) -> bool {
        self.last.0 > 0
    }

    pub(crate) const fn has_adopt(&self) -> bool {
        self.flags & FLAG_ADOPT != 0
    }

    pub(crate) const fn has_carried(&self) -> bool {
        self.flags & FLAG_CARRIED != 0
    }

    /// A record that voids earlier ones or their replica: nothing later makes up for its loss.
    pub(crate) const fn has_voiding(&self) -> bool {
        self.flags & (FLAG_CUT | FLAG_REMOVED | FLAG_SUSPECT) != 0
    }

    fn encode_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.partition.table.0.to_le_bytes());
        out.extend_from_slice(&self.partition.index.to_le_bytes());
        for field in [self.incarnation.0, self.ballot.0, self.first.0, self.last.0] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&self.records.to_le_bytes());
        out.extend_from_slice(&self.flags.to_le_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            partition: PartitionId {
                table: TableId(le_u32(bytes, 0)?),
                index: le_u32(bytes, 4)?,
            },
            incarnation: ReplicaIncarnation(le_u64(bytes, 8)?),
            ballot: Ballot(le_u64(bytes, 16)?),
            first: Decree(le_u64(bytes, 24)?),
            last: Decree(le_u64(bytes, 32)?),
            records: le_u32(bytes, 40)?,
            flags: le_u32(bytes, 44)?,
        })
    }
}

/// The records of a batch being put together, and how long they make it.
#[derive(Debug)]
pub(crate) struct BatchPlan {
    pub(crate) records: Vec<Record>,
    items: BTreeMap<(PartitionId, ReplicaIncarnation), BatchItem>,
    records_bytes: usize,
    previous_items: usize,
    items_max: usize,
    /// Where a group stops growing; one record may pass it.
    wanted_bytes: usize,
    room_bytes: u64,
}

impl BatchPlan {
    pub(crate) fn new(
        previous_items: usize,
        items_max: usize,
        wanted_bytes: usize,
        room_bytes: u64,
    ) -> Self {
        assert!(items_max > 0);
        assert!(previous_items <= ITEMS_MAX);
        Self {
            records: Vec::new(),
            items: BTreeMap::new(),
            records_bytes: 0,
            previous_items,
            items_max,
            wanted_bytes,
            room_bytes,
        }
    }

    /// May `record` join? Otherwise the batch is full, or the room in its segment.
    pub(crate) fn may_add(&self, record: &Record) -> bool {
        let stamp = record.stamp();
        let is_new = !self
            .items
            .contains_key(&(stamp.partition, stamp.incarnation));
        let items = self.items.len() + usize::from(is_new);
        let bytes = self.header_bytes_with(items) + self.records_bytes + record.encoded_bytes();
        let fits = bytes.next_multiple_of(BLOCK_BYTES) as u64 <= self.room_bytes;
        let wanted = self.records.is_empty() || bytes <= self.wanted_bytes;
        fits && wanted && items <= self.items_max
    }

    pub(crate) fn add(&mut self, record: Record) {
        let stamp = record.stamp();
        let key = (stamp.partition, stamp.incarnation);
        self.items
            .entry(key)
            .or_insert(BatchItem::new(key.0, key.1))
            .add(&stamp);
        self.records_bytes += record.encoded_bytes();
        self.records.push(record);
        assert!(self.batch_bytes() as u64 <= self.room_bytes);
    }

    pub(crate) fn items(&self) -> Vec<BatchItem> {
        self.items.values().copied().collect()
    }

    /// Length of the batch as it stands, padding included.
    pub(crate) fn batch_bytes(&self) -> usize {
        (self.header_bytes_with(self.items.len()) + self.records_bytes)
            .next_multiple_of(BLOCK_BYTES)
    }

    pub(crate) fn has_room(&self) -> bool {
        self.batch_bytes() as u64 <= self.room_bytes
    }

    const fn header_bytes_with(&self, items: usize) -> usize {
        BATCH_FIXED_BYTES + ITEM_BYTES * (items + self.previous_items)
    }
}

/// What stands before the records of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) incarnation: LogIncarnation,
    pub(crate) at: Position,
    /// Grows by one from batch to batch, over segments and lives.
    pub(crate) sequence: u64,
    /// Everything before this position was known flushed when the batch was built.
    pub(crate) flushed_upto: Position,
    /// Segments below this one are not needed by anybody, once this batch is durable.
    pub(crate) oldest_needed: SegmentId,
    /// End of the log before this segment; repeats the segment's header. Segment 0: none.
    pub(crate) predecessor: Position,
    pub(crate) items: Vec<BatchItem>,
    /// `items` of the batch before, in case that one cannot be read.
    pub(crate) previous_items: Vec<BatchItem>,
    pub(crate) record_count: u32,
    /// Lengths in bytes: of this header, of the records, of the whole with padding. Set by `encode`.
    pub(crate) header_bytes: u64,
    pub(crate) records_bytes: u64,
    pub(crate) batch_bytes: u64,
}

impl BatchHeader {
    pub(crate) const fn end(&self) -> Position {
        Position {
            segment: self.at.segment,
            offset: self.at.offset + self.batch_bytes,
        }
    }

    /// The bytes of the batch, a multiple of `BLOCK_BYTES`. Computes the three lengths and the count itself.
    pub(crate) fn encode(&self, records: &[NumberedRecord], seal: &Seal) -> Vec<u8> {
        assert!(self.items.len() <= ITEMS_MAX);
        assert_eq!(self.at.offset % BLOCK, 0);
        let header_bytes =
            BATCH_FIXED_BYTES + ITEM_BYTES * (self.items.len() + self.previous_items.len());
        let records_bytes: usize = records
            .iter()
            .map(|placed| placed.record.encoded_bytes())
            .sum();
        let batch_bytes = (header_bytes + records_bytes).next_multiple_of(BLOCK_BYTES);

        let mut out = Vec::with_capacity(batch_bytes);
        out.extend_from_slice(&BATCH_MAGIC.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        for length in [header_bytes, batch_bytes, records_bytes, records.len()] {
            out.extend_from_slice(&bounded(length).to_le_bytes());
        }
        for field in [
            self.incarnation.0,
            self.at.segment.0,
            self.at.offset,
            self.sequence,
            self.flushed_upto.segment.0,
            self.flushed_upto.offset,
            self.oldest_needed.0,
            self.predecessor.segment.0,
            self.predecessor.offset,
        ] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&bounded(self.items.len()).to_le_bytes());
        out.extend_from_slice(&bounded(self.previous_items.len()).to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        assert_eq!(out.len(), BATCH_FIXED_BYTES);
        for item in self.items.iter().chain(&self.previous_items) {
            item.encode_into(&mut out);
        }
        assert_eq!(out.len(), header_bytes);
        let checksum = seal.checksum(
            self.at.offset,
            out.get(8..).expect("longer than its fixed part"),
        );
        out.get_mut(4..8)
            .expect("longer than its fixed part")
            .copy_from_slice(&checksum.to_le_bytes());

        for NumberedRecord { number, record } in records {
            let offset = self.at.offset + out.len() as u64;
            record.encode_into(*number, &mut out, seal, offset);
        }
        assert_eq!(out.len(), header_bytes + records_bytes);
        out.resize(batch_bytes, 0);
        out
    }

    /// How long the header at the start of `bytes` claims to be, if this may be one. No checksum is read yet.
    pub(crate) fn claimed_bytes(bytes: &[u8]) -> Option<usize> {
        if le_u32(bytes, 0)? != BATCH_MAGIC {
            return None;
        }
        let claimed = usize::try_from(le_u32(bytes, 8)?).ok()?;
        let items = claimed.checked_sub(BATCH_FIXED_BYTES)?;
        (items % ITEM_BYTES == 0 && items / ITEM_BYTES <= 2 * ITEMS_MAX).then_some(claimed)
    }

    /// The log incarnation that the header at the start of `bytes` claims, unchecked.
    pub(crate) fn claimed_incarnation(bytes: &[u8]) -> Option<LogIncarnation> {
        le_u64(bytes, 24).map(LogIncarnation)
    }

    /// The header at the start of `bytes`, which stand at `at`. `None`: no header of this place.
    pub(crate) fn decode(
        bytes: &[u8],
        seal: &Seal,
        incarnation: LogIncarnation,
        at: Position,
    ) -> Option<Self> {
        let header_bytes = Self::claimed_bytes(bytes)?;
        let header = bytes.get(..header_bytes)?;
        if le_u32(header, 4)? != seal.checksum(at.offset, header.get(8..)?) {
            return None;
        }
        let item_count = usize::try_from(le_u32(header, 96)?).ok()?;
        let previous_count = usize::try_from(le_u32(header, 100)?).ok()?;
        let mut items = header
            .get(BATCH_FIXED_BYTES..)?
            .chunks_exact(ITEM_BYTES)
            .map(BatchItem::decode)
            .collect::<Option<Vec<_>>>()?;
        if item_count.checked_add(previous_count)? != items.len() {
            return None;
        }
        let previous_items = items.split_off(item_count);
        let decoded = Self {
            incarnation: LogIncarnation(le_u64(header, 24)?),
            at: position(header, 32)?,
            sequence: le_u64(header, 48)?,
            flushed_upto: position(header, 56)?,
            oldest_needed: SegmentId(le_u64(header, 72)?),
            predecessor: position(header, 80)?,
            items,
            previous_items,
            record_count: le_u32(header, 20)?,
            header_bytes: header_bytes as u64,
            records_bytes: u64::from(le_u32(header, 16)?),
            batch_bytes: u64::from(le_u32(header, 12)?),
        };
        (decoded.is_plausible() && decoded.at == at && decoded.incarnation == incarnation)
            .then_some(decoded)
    }

    fn is_plausible(&self) -> bool {
        let used = self.header_bytes + self.records_bytes;
        self.batch_bytes == used.next_multiple_of(BLOCK)
            && self.batch_bytes <= BATCH_BYTES_MAX
            && self.flushed_upto <= self.at
            && self.predecessor.segment < self.at.segment
    }
}

pub(crate) fn position(bytes: &[u8], at: usize) -> Option<Position> {
    Some(Position {
        segment: SegmentId(le_u64(bytes, at)?),
        offset: le_u64(bytes, at + 8)?,
    })
}

fn bounded(length: usize) -> u32 {
    u32::try_from(length).expect("every length of a batch is far below 4 GiB")
}

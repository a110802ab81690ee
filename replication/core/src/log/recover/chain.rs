//! Which segments make up the log: from the newest back, each names the one before.

use super::reader::Reader;
use super::{Damage, RecoverError, SegmentSource};
use crate::log::batch::BLOCK_BYTES;
use crate::log::record::LogIncarnation;
use crate::log::segment::{HeaderBlock, SegmentHeader};
use crate::log::{Position, SegmentId};

/// One segment of the log.
#[derive(Clone, Debug)]
pub(super) struct ChainSegment {
    pub(super) id: SegmentId,
    pub(super) file_bytes: u64,
    /// Final length as the successor names it; the file's length where none does.
    pub(super) end: u64,
    /// The successor is missing: the segment ends at the first batch that cannot be read.
    pub(super) is_end_unknown: bool,
    /// A segment before this one is missing although it is needed.
    pub(super) is_after_gap: bool,
    pub(super) incarnation: LogIncarnation,
    pub(super) predecessor: Position,
    /// `None`: bad, but there are batches.
    pub(super) header: Option<SegmentHeader>,
}

/// As if no segment were needed: one that is missing is no damage, and nothing before it is looked for.
const NOTHING_CLAIMED: SegmentId = SegmentId(u64::MAX);

impl ChainSegment {
    const fn of_header(header: SegmentHeader, file_bytes: u64) -> Self {
        Self {
            id: header.segment,
            file_bytes,
            end: file_bytes,
            is_end_unknown: false,
            is_after_gap: false,
            incarnation: header.incarnation,
            predecessor: header.predecessor,
            header: Some(header),
        }
    }
}

#[derive(Debug)]
pub(super) struct Chain {
    /// Oldest first.
    pub(super) segments: Vec<ChainSegment>,
    /// Every file, by number.
    pub(super) on_disk: Vec<SegmentId>,
    pub(super) highest: SegmentId,
    pub(super) incarnation_max: LogIncarnation,
    pub(super) damage: Vec<Damage>,
}

impl Chain {
    pub(super) fn discover<S: SegmentSource + ?Sized>(
        reader: &mut Reader<'_, S>,
    ) -> Result<Self, RecoverError> {
        let files = reader.segments();
        let mut chain = Self {
            segments: Vec::new(),
            on_disk: files.iter().map(|(id, _)| *id).collect(),
            highest: files.last().map_or(SegmentId(0), |(id, _)| *id),
            incarnation_max: LogIncarnation(0),
            damage: Vec::new(),
        };
        let mut live = Vec::new();
        for (id, file_bytes) in files {
            live.extend(chain.open(reader, id, file_bytes)?);
        }
        let claim = oldest_claimed(reader, &live);
        chain.link(live, claim);
        assert!(chain.segments.is_sorted_by(|one, two| one.id < two.id));
        Ok(chain)
    }

    /// The segments that their own headers vouch for, oldest first, from behind the newest gap on. Reads one block of each:
    /// enough for who can do without what is damaged.
    pub(super) fn by_headers<S: SegmentSource + ?Sized>(
        reader: &mut Reader<'_, S>,
    ) -> Result<Vec<ChainSegment>, RecoverError> {
        let mut live = Vec::new();
        for (id, file_bytes) in reader.segments() {
            let header = read_header(reader, id, file_bytes)?;
            let header = header.filter(|header| header.segment == id);
            live.extend(header.map(|header| ChainSegment::of_header(header, file_bytes)));
        }
        let mut chain = Self {
            segments: Vec::new(),
            on_disk: Vec::new(),
            highest: SegmentId(0),
            incarnation_max: LogIncarnation(0),
            damage: Vec::new(),
        };
        chain.link(live, NOTHING_CLAIMED);
        Ok(chain.segments)
    }

    /// Looks at one file. `None`: not part of any log of ours, e.g. prepared or recycled and never opened.
    fn open<S: SegmentSource + ?Sized>(
        &mut self,
        reader: &mut Reader<'_, S>,
        id: SegmentId,
        file_bytes: u64,
    ) -> Result<Option<ChainSegment>, RecoverError> {
        let header = read_header(reader, id, file_bytes)?;
        if let Some(header) = header {
            self.incarnation_max = self.incarnation_max.max(header.incarnation);
        }
        if let Some(header) = header.filter(|header| header.segment == id) {
            return Ok(Some(ChainSegment::of_header(header, file_bytes)));
        }
        let Some(batch) = reader.probe(id, file_bytes) else {
            return Ok(None);
        };
        self.damage.push(Damage::SegmentHeader { segment: id });
        self.incarnation_max = self.incarnation_max.max(batch.incarnation);
        Ok(Some(ChainSegment {
            id,
            file_bytes,
            end: file_bytes,
            is_end_unknown: false,
            is_after_gap: false,
            incarnation: batch.incarnation,
            predecessor: batch.predecessor,
            header: None,
        }))
    }

    /// Keeps those of `live` (by number) that the newest one leads back to.
    fn link(&mut self, mut live: Vec<ChainSegment>, claim: SegmentId) {
        let mut next = live.pop();
        while let Some(mut segment) = next.take() {
            let wanted = segment.predecessor;
            live.retain(|other| other.id < segment.id);
            let found = live.iter().rposition(|other| other.id == wanted.segment);
            if let Some(index) = found {
                live.truncate(index + 1);
                next = live.pop();
                if let Some(predecessor) = &mut next {
                    predecessor.end = wanted.offset.min(predecessor.file_bytes);
                }
            } else if wanted.segment >= claim && wanted.segment > SegmentId(0) {
                self.damage.push(Damage::SegmentMissing {
                    segment: wanted.segment,
                });
                segment.is_after_gap = true;
                live.retain(|other| other.id < wanted.segment);
                next = live.pop();
                if let Some(predecessor) = &mut next {
                    predecessor.is_end_unknown = true;
                }
            }
            self.segments.push(segment);
        }
        self.segments.reverse();
    }
}

/// What the first block of a file says, whichever segment it says it is.
fn read_header<S: SegmentSource + ?Sized>(
    reader: &mut Reader<'_, S>,
    id: SegmentId,
    file_bytes: u64,
) -> Result<Option<SegmentHeader>, RecoverError> {
    let block = reader.first_block(id, file_bytes).unwrap_or_default();
    match SegmentHeader::decode(&block) {
        HeaderBlock::Version(found) => Err(RecoverError::Version {
            segment: id.0,
            found,
        }),
        HeaderBlock::Valid(header) if header.identity != reader.identity => {
            Err(RecoverError::Foreign {
                segment: id.0,
                found: header.identity,
            })
        }
        HeaderBlock::Valid(header) => Ok(Some(header)),
        HeaderBlock::Invalid => Ok(None),
    }
}

/// The oldest segment needed, as the newest batches say it: older files may be gone.
fn oldest_claimed<S: SegmentSource + ?Sized>(
    reader: &mut Reader<'_, S>,
    live: &[ChainSegment],
) -> SegmentId {
    let mut claim = SegmentId(0);
    for segment in live.iter().rev() {
        reader.scan_headers(segment, BLOCK_BYTES as u64, |header| {
            claim = claim.max(header.oldest_needed)
        });
        if claim > SegmentId(0) {
            break;
        }
    }
    claim
}

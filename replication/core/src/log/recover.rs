//! Recovery: what survives of a log after a crash, and what is damaged.
//!
//! A log is a chain of segments, each naming its predecessor and that one's final length; a segment is a run
//! of batches without a gap. The first bad batch decides: the *limit* is the largest `flushed_upto` in any valid
//! header from there on. At or above the limit the log ends at the bad batch, even if valid ones follow (a drive may persist
//! block 2 and not block 1 of an unfinished flush); nothing from there on was ever acknowledged. Below the
//! limit it is corruption: recovery goes on behind it and finds out which replicas have lost something.
//!
//! A replica has lost nothing if its marker covers what is lost, or if its entries are contiguous all the same.
//! Everything that cannot be shown to be whole is *suspect*: kept, not served, rebuilt from its peers.
//! Recovery writes nothing, so a crash in the middle of it changes nothing.
//!
//! `chain` finds the segments, `reader` reads batches, `replay` applies them; `suffix` reads a log in use for learners.

mod chain;
mod reader;
mod replay;
mod suffix;

pub use suffix::{Suffix, SuffixError, SuffixPiece, SuffixRange};

use super::batch::{BLOCK, BatchHeader};
use super::{BatchItem, LogIdentity, LogIncarnation, LogStart, Position, SegmentId};
use crate::ids::{Ballot, Decree, PartitionId, ReplicaIncarnation};
use crate::message::Entry;
use bytes::Bytes;
use chain::{Chain, ChainSegment};
use reader::{BatchRead, Reader};
use replay::Replay;
use std::collections::BTreeMap;
use thiserror::Error;

/// Where recovery reads segments from. Whatever it returns must survive a further crash: the node flushes
/// every segment file before it recovers.
pub trait SegmentSource {
    /// Every segment on disk with its length in bytes, in any order.
    fn segments(&self) -> Vec<(SegmentId, u64)>;

    /// Exactly `length` bytes from `offset`; never asked beyond the segment's length. At most 64 MiB at once.
    ///
    /// # Errors
    /// What the disk said. Blocks that cannot be read count as bad, they do not stop recovery.
    fn read(&mut self, segment: SegmentId, offset: u64, length: usize) -> Result<Bytes, String>;
}

/// What the engine says of a replica it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    pub incarnation: ReplicaIncarnation,
    /// Durable in the engine up to here.
    pub decree: Decree,
}

/// What the log knows of one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredReplica {
    pub incarnation: ReplicaIncarnation,
    /// Highest ballot adopted.
    pub adopted: Ballot,
    /// Highest commit point known, the marker included.
    pub committed: Decree,
    /// Surviving entries above the marker, contiguous, in decree order; of a suspect replica those before the damage.
    pub entries: Vec<Entry>,
    /// Why this replica must not serve before it is rebuilt: the log has lost something of it.
    pub suspect: Option<String>,
}

/// What was wrong with the log. A torn tail is normal after a crash; everything else is for an operator's eyes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The log ends here, with an unfinished write that was never acknowledged.
    TornTail { at: Position },
    /// A batch below the flushed position is not readable; the lists say what was in it, `None`: unknown.
    Corrupt {
        at: Position,
        lost: Option<Vec<BatchItem>>,
    },
    /// The header block of a segment is bad; its batches vouch for it.
    SegmentHeader { segment: SegmentId },
    /// A segment that is needed is not there.
    SegmentMissing { segment: SegmentId },
}

/// Why a log cannot be used at all.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecoverError {
    #[error("segment {segment}: belongs to cluster {:032x} node {} shard {}", .found.cluster, .found.node, .found.shard)]
    Foreign { segment: u64, found: LogIdentity },
    #[error("segment {segment}: log format {found} is not known here")]
    Version { segment: u64, found: u32 },
}

/// What recovery found.
#[derive(Debug)]
pub struct Recovery {
    /// Replicas with a marker or with records; one that is only in the log has no storage any more.
    pub replicas: BTreeMap<PartitionId, RecoveredReplica>,
    pub damage: Vec<Damage>,
    /// For `ShardLog::new`.
    pub start: LogStart,
}

/// Reads the whole log of `identity`. `markers`: the replicas the engine holds.
///
/// # Errors
/// If a segment belongs to somebody else or is of another format: the directory must not be used.
pub fn recover<S: SegmentSource + ?Sized>(
    source: &mut S,
    identity: LogIdentity,
    markers: &BTreeMap<PartitionId, Marker>,
) -> Result<Recovery, RecoverError> {
    let mut reader = Reader::new(source, identity);
    let chain = Chain::discover(&mut reader)?;
    let mut walk = Walk::new(&chain, Replay::new(markers));
    walk.read_segments(&mut reader);
    Ok(walk.finish(identity))
}

/// The pass over the chain, oldest batch first.
struct Walk<'a, 'm> {
    chain: &'a Chain,
    replay: Replay<'m>,
    damage: Vec<Damage>,
    /// Known from the first bad batch on.
    limit: Option<Limit>,
    /// Sequence number of the next batch. `None`: any, at the start and behind a missing segment.
    expected: Option<u64>,
    /// Unreadable batches without a header between the last good batch and the next one.
    gap: Option<Position>,
    /// End of what survives.
    end: Position,
    previous_items: Vec<BatchItem>,
    oldest_needed: SegmentId,
    is_cut: bool,
}

/// What the headers from the first bad batch on say.
#[derive(Clone, Copy, Debug)]
struct Limit {
    flushed_upto: Position,
    has_batches: bool,
}

impl<'a, 'm> Walk<'a, 'm> {
    fn new(chain: &'a Chain, replay: Replay<'m>) -> Self {
        Self {
            chain,
            replay,
            damage: chain.damage.clone(),
            limit: None,
            expected: None,
            gap: None,
            end: Position::START,
            previous_items: Vec::new(),
            oldest_needed: SegmentId(0),
            is_cut: false,
        }
    }

    fn read_segments<S: SegmentSource + ?Sized>(&mut self, reader: &mut Reader<'_, S>) {
        if self.chain.segments.is_empty() {
            self.lose_everything();
        }
        for (index, segment) in self.chain.segments.iter().enumerate() {
            if segment.is_after_gap {
                self.replay.lose_unknown();
                self.expected = None;
                self.gap = None;
            }
            if self.expected.is_none() {
                self.expected = segment.header.as_ref().map(|header| header.next_sequence);
            }
            self.replay.add_segment(segment.id, segment.file_bytes);
            self.end = Position {
                segment: segment.id,
                offset: BLOCK,
            };
            self.read_segment(reader, index, segment);
            if self.is_cut {
                return;
            }
        }
        self.close_gap_at_end();
    }

    /// No log at all: of a new shard if it has no replicas, lost otherwise.
    fn lose_everything(&mut self) {
        if self.replay.has_markers() {
            self.damage.push(Damage::SegmentMissing {
                segment: SegmentId(1),
            });
            self.replay.lose_unknown();
        }
    }

    fn read_segment<S: SegmentSource + ?Sized>(
        &mut self,
        reader: &mut Reader<'_, S>,
        index: usize,
        segment: &ChainSegment,
    ) {
        let mut offset = BLOCK;
        while offset < segment.end && !self.is_cut {
            let at = Position {
                segment: segment.id,
                offset,
            };
            let read = reader
                .batch(segment, offset)
                .filter(|read| self.is_expected(&read.header));
            if let Some(read) = read.as_ref().filter(|read| read.is_whole) {
                self.on_header(&read.header);
                self.replay.apply(offset, &read.records);
            } else if segment.is_end_unknown {
                // What is missing behind this segment is unknown already, and so is where it ended.
                return;
            } else if at >= self.limit(reader, index, at).flushed_upto
                || planted!(CorruptionTakenForTornTail)
            {
                self.cut(at, read.is_some());
                return;
            } else {
                self.on_corrupt(at, read.as_ref());
            }
            offset = read.map_or(offset + BLOCK, |read| {
                read.header.at.offset + read.header.batch_bytes
            });
            assert!(offset > at.offset, "recovery moves on");
        }
    }

    /// Behind a gap batches may be missing; elsewhere each follows the one before.
    fn is_expected(&self, header: &BatchHeader) -> bool {
        match self.expected {
            Some(expected) if self.gap.is_some() => header.sequence >= expected,
            Some(expected) => header.sequence == expected,
            None => true,
        }
    }

    /// A header in its place: settles what an unreadable stretch before it has held.
    fn on_header(&mut self, header: &BatchHeader) {
        if let Some(at) = self.gap.take() {
            let missing = self
                .expected
                .and_then(|expected| header.sequence.checked_sub(expected));
            match missing {
                Some(0) => {}
                Some(1) => self.lose(at, header.previous_items.clone()),
                Some(_) | None => self.lose_unknown(at),
            }
        }
        self.expected = header.sequence.checked_add(1);
        self.end = header.end();
        self.previous_items.clone_from(&header.items);
        self.oldest_needed = self.oldest_needed.max(header.oldest_needed);
    }

    /// A bad batch below the limit. With a header its list says what is lost and its length where to go on.
    fn on_corrupt(&mut self, at: Position, read: Option<&BatchRead>) {
        let Some(read) = read else {
            self.gap.get_or_insert(at);
            return;
        };
        self.on_header(&read.header);
        let lost = read.lost_items();
        self.lose(at, lost);
        self.replay.apply(at.offset, &read.records);
    }

    fn lose(&mut self, at: Position, lost: Vec<BatchItem>) {
        for item in &lost {
            self.replay.lose(item);
        }
        self.damage.push(Damage::Corrupt {
            at,
            lost: Some(lost),
        });
    }

    fn lose_unknown(&mut self, at: Position) {
        self.replay.lose_unknown();
        self.damage.push(Damage::Corrupt { at, lost: None });
    }

    fn cut(&mut self, at: Position, has_header: bool) {
        let has_batches = self.limit.is_some_and(|limit| limit.has_batches);
        if has_header || has_batches {
            self.damage.push(Damage::TornTail { at });
        }
        self.close_gap_at_end();
        self.end = at;
        self.is_cut = true;
    }

    /// Unreadable batches with nothing behind them that could tell what they held.
    fn close_gap_at_end(&mut self) {
        let Some(at) = self.gap.take() else { return };
        self.lose_unknown(at);
        if let Some(limit) = self.limit {
            self.end = self.end.max(limit.flushed_upto);
        }
        // Two batches or more are missing: the next life must not close this gap by its sequence numbers.
        self.expected = self.expected.map(|expected| expected.saturating_add(2));
    }

    /// The largest `flushed_upto` in any valid header behind the first bad batch. Computed once.
    fn limit<S: SegmentSource + ?Sized>(
        &mut self,
        reader: &mut Reader<'_, S>,
        index: usize,
        at: Position,
    ) -> Limit {
        if let Some(limit) = self.limit {
            return limit;
        }
        let mut limit = Limit {
            flushed_upto: Position::START,
            has_batches: false,
        };
        for segment in self.chain.segments.iter().skip(index) {
            let from = if segment.id == at.segment {
                at.offset
            } else {
                BLOCK
            };
            if let Some(header) = segment.header.as_ref().filter(|_| segment.id > at.segment) {
                limit.flushed_upto = limit.flushed_upto.max(header.flushed_upto);
            }
            reader.scan_headers(segment, from, |header| {
                limit.has_batches = true;
                limit.flushed_upto = limit.flushed_upto.max(header.flushed_upto);
            });
        }
        self.limit = Some(limit);
        limit
    }

    fn finish(self, identity: LogIdentity) -> Recovery {
        let end = self.end;
        let survivors = self
            .chain
            .segments
            .iter()
            .map(|segment| segment.id)
            .filter(|id| *id <= end.segment);
        let survivors: Vec<SegmentId> = survivors.collect();
        let void_segments = self
            .chain
            .on_disk
            .iter()
            .copied()
            .filter(|id| !survivors.contains(id))
            .collect();
        let outcome = self.replay.finish();
        let start = LogStart {
            identity,
            incarnation: LogIncarnation(self.chain.incarnation_max.0.saturating_add(1)),
            next_segment: SegmentId(self.chain.highest.0.saturating_add(1)),
            predecessor: end,
            next_sequence: self.expected.unwrap_or(1),
            previous_items: self.previous_items,
            index: outcome.index,
            replicas: outcome.notes,
            oldest_needed: self.oldest_needed,
            void_segments,
        };
        assert!(
            start.next_segment > start.predecessor.segment,
            "never appends to an old segment"
        );
        Recovery {
            replicas: outcome.replicas,
            damage: self.damage,
            start,
        }
    }
}

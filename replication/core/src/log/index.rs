//! Who needs which segment: moves truncation and names the replicas that hold it back.

use super::batch::BLOCK;
use super::record::{RecordKind, Stamp};
use super::{Position, SegmentId};
use crate::ids::{Ballot, Decree, PartitionId, ReplicaIncarnation};
use std::collections::{BTreeMap, VecDeque};

/// A replica with less than this unflushed in the oldest segment has its records appended again
/// instead of being flushed: a tiny SST costs more than a few records.
pub const REAPPEND_BYTES_MAX: u64 = 256 << 10;

/// A replica that holds back the oldest segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocker {
    pub partition: PartitionId,
    pub incarnation: ReplicaIncarnation,
    /// The segment held back.
    pub segment: SegmentId,
    /// Decrees in it that the engine does not hold durably.
    pub first: Decree,
    pub last: Decree,
    /// Bytes of its records there that are not durable in the engine; an upper bound.
    pub bytes: u64,
    pub remedy: Remedy,
}

/// What frees the segment at the lowest cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Hand `first..=last` to `ShardLog::reappend`, if they are at hand; otherwise flush.
    Reappend,
    /// Flush the replica's memtable.
    Flush,
}

/// What one segment holds of one replica that may still be needed.
#[derive(Clone, Copy, Debug)]
struct Use {
    incarnation: ReplicaIncarnation,
    ballot: Ballot,
    first: Decree,
    last: Decree,
    bytes: u64,
}

/// Whether what is kept for learners holds segments back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pins {
    Count,
    /// The log is too full.
    Broken,
}

#[derive(Debug)]
struct SegmentUse {
    id: SegmentId,
    users: BTreeMap<PartitionId, Use>,
    /// Decrees that it holds of each replica without a gap, needed or not: a learner may still want them.
    held: BTreeMap<PartitionId, (Decree, Decree)>,
    /// Where to begin to read for a learner, oldest first.
    stretches: Vec<Stretch>,
    stretch_bytes: u64,
}

/// Some batches of a segment that follow one another.
#[derive(Debug)]
struct Stretch {
    /// Of the first of them.
    offset: u64,
    /// The highest decree of which there is an entry in it, whether that counts or not.
    highest: BTreeMap<PartitionId, Decree>,
}

/// Parts of a segment that are told apart. A learner that comes back has half a part more read than it needs, on average; each
/// part takes some 50 bytes for each replica that has written in it.
const STRETCHES_PER_SEGMENT: u64 = 16;

/// Per segment, oldest first, the replicas that still need it and from which decree on.
#[derive(Debug, Default)]
pub(crate) struct SegmentIndex {
    segments: VecDeque<SegmentUse>,
    /// What the engine holds durably.
    durable: BTreeMap<PartitionId, Decree>,
    /// Last entry noted of each partition: an entry that just follows it touches no older segment.
    tails: BTreeMap<PartitionId, Decree>,
    /// This segment and those behind it are kept for a copy of the partition, for as long as there is room.
    pins: BTreeMap<PartitionId, SegmentId>,
}

impl SegmentIndex {
    pub(crate) fn add_segment(&mut self, id: SegmentId, segment_bytes: u64) {
        assert!(
            self.segments.back().is_none_or(|last| last.id < id),
            "segments grow"
        );
        self.segments.push_back(SegmentUse {
            id,
            users: BTreeMap::new(),
            held: BTreeMap::new(),
            stretches: Vec::new(),
            stretch_bytes: segment_bytes / STRETCHES_PER_SEGMENT,
        });
    }

    /// The records that are noted from now on are in a batch at `offset` of the newest segment.
    pub(crate) fn begin_batch(&mut self, offset: u64) {
        let newest = self.segments.back_mut().expect("a batch needs a segment");
        let begun = newest.stretches.last().map(|last| last.offset);
        assert!(offset >= BLOCK && begun.is_none_or(|begun| begun <= offset));
        if begun.is_none_or(|begun| offset - begun >= newest.stretch_bytes) {
            newest.stretches.push(Stretch {
                offset,
                highest: BTreeMap::new(),
            });
        }
    }

    /// A record of `bytes` has been placed in the newest segment.
    pub(crate) fn note(&mut self, stamp: &Stamp, bytes: u64) {
        assert!(!self.segments.is_empty(), "a record needs a segment");
        match stamp.kind {
            RecordKind::Entry => self.note_entry(stamp, bytes),
            RecordKind::Cut => {
                self.void_from(stamp.partition, stamp.decree.next(), Ballot(u64::MAX));
                for segment in &mut self.segments {
                    segment.held.remove(&stamp.partition);
                }
                if let Some(tail) = self.tails.get_mut(&stamp.partition) {
                    *tail = stamp.decree.min(*tail);
                }
            }
            RecordKind::Removed => self.forget(stamp.partition),
            RecordKind::Adopt
            | RecordKind::Committed
            | RecordKind::Carried
            | RecordKind::Suspect => {}
        }
    }

    fn note_entry(&mut self, stamp: &Stamp, bytes: u64) {
        let tail = self
            .tails
            .get(&stamp.partition)
            .copied()
            .unwrap_or(Decree::ZERO);
        if stamp.decree <= tail {
            self.void_from(stamp.partition, stamp.decree, stamp.ballot);
            self.replace(stamp, bytes);
        }
        self.tails.insert(stamp.partition, tail.max(stamp.decree));
        self.note_held(stamp.partition, stamp.decree);
        self.note_place(stamp.partition, stamp.decree);
        if self
            .durable
            .get(&stamp.partition)
            .is_some_and(|durable| stamp.decree <= *durable)
        {
            return;
        }
        let newest = self.segments.back_mut().expect("asserted by note");
        let entry = newest.users.entry(stamp.partition).or_insert(Use {
            incarnation: stamp.incarnation,
            ballot: stamp.ballot,
            first: stamp.decree,
            last: stamp.decree,
            bytes: 0,
        });
        if entry.incarnation != stamp.incarnation {
            *entry = Use {
                incarnation: stamp.incarnation,
                ballot: stamp.ballot,
                first: stamp.decree,
                last: stamp.decree,
                bytes: 0,
            };
        }
        entry.ballot = entry.ballot.max(stamp.ballot);
        entry.first = entry.first.min(stamp.decree);
        entry.last = entry.last.max(stamp.decree);
        entry.bytes += bytes;
    }

    /// Entries from `first` on with a ballot below `ballot` are void: nobody needs them.
    fn void_from(&mut self, partition: PartitionId, first: Decree, ballot: Ballot) {
        for segment in &mut self.segments {
            let Some(entry) = segment.users.get_mut(&partition) else {
                continue;
            };
            if entry.ballot >= ballot || entry.last < first {
                continue;
            }
            if entry.first >= first {
                segment.users.remove(&partition);
            } else {
                entry.last = first.previous();
            }
        }
    }

    /// An entry has been written again: the copy in an older segment is not needed, if it is the first needed there.
    fn replace(&mut self, stamp: &Stamp, bytes: u64) {
        let older = self.segments.len().saturating_sub(1);
        for segment in self.segments.iter_mut().take(older) {
            let Some(entry) = segment.users.get_mut(&stamp.partition) else {
                continue;
            };
            if entry.first == stamp.decree {
                entry.first = stamp.decree.next();
                entry.bytes = entry.bytes.saturating_sub(bytes);
            }
            if entry.first > entry.last {
                segment.users.remove(&stamp.partition);
            }
        }
    }

    /// Keeps the range of the newest segment without gaps: what is appended again far behind it does not count.
    fn note_held(&mut self, partition: PartitionId, decree: Decree) {
        let newest = self.segments.back_mut().expect("asserted by note");
        let (first, last) = newest.held.entry(partition).or_insert((decree, decree));
        if decree.next() == *first {
            *first = decree;
        } else if decree == last.next() {
            *last = decree;
        } else if decree > *last {
            (*first, *last) = (decree, decree);
        }
    }

    fn note_place(&mut self, partition: PartitionId, decree: Decree) {
        let newest = self.segments.back_mut().expect("asserted by note");
        let stretch = newest.stretches.last_mut().expect("a record is in a batch");
        let highest = stretch.highest.entry(partition).or_insert(decree);
        *highest = decree.max(*highest);
    }

    /// No entry of this partition behind decree `after` is before this place; it is the beginning of a batch. `None`: there is
    /// none at all.
    pub(crate) fn begin_behind(&self, partition: PartitionId, after: Decree) -> Option<Position> {
        let is_behind = |highest: &Decree| *highest > after;
        self.segments.iter().find_map(|segment| {
            let mut stretches = segment.stretches.iter();
            let first = stretches.find(|it| it.highest.get(&partition).is_some_and(is_behind))?;
            Some(Position {
                segment: segment.id,
                offset: first.offset,
            })
        })
    }

    /// The first decree from which on the segments from `oldest` on hold everything of this partition, as far as is known.
    pub(crate) fn first_held(&self, partition: PartitionId, oldest: SegmentId) -> Option<Decree> {
        let tail = self.tails.get(&partition)?;
        let mut known = tail.next();
        let newest_first = self.segments.iter().rev();
        for segment in newest_first.take_while(|segment| segment.id >= oldest) {
            let range = segment.held.get(&partition);
            if let Some((first, last)) = range
                && last.next() >= known
            {
                known = known.min(*first);
            }
        }
        (known <= *tail).then_some(known)
    }

    /// Keeps entries of this partition from `decree` on, those that come too.
    pub(crate) fn pin(&mut self, partition: PartitionId, decree: Decree) {
        let holds = |segment: &&SegmentUse| {
            let range = segment.held.get(&partition);
            range.is_some_and(|(_, last)| *last >= decree)
        };
        let first = self.segments.iter().find(holds).or(self.segments.back());
        let first = first.map_or(SegmentId(0), |segment| segment.id);
        self.pins.insert(partition, first);
    }

    pub(crate) fn unpin(&mut self, partition: PartitionId) {
        self.pins.remove(&partition);
    }

    /// The oldest segment with entries that are pinned.
    fn oldest_pinned(&self) -> Option<SegmentId> {
        self.pins.values().min().copied()
    }

    /// The engine's marker says: durable up to `decree`. Never goes back.
    pub(crate) fn set_durable(&mut self, partition: PartitionId, decree: Decree) {
        let durable = self.durable.entry(partition).or_default();
        *durable = decree.max(*durable);
        let decree = *durable;
        for segment in &mut self.segments {
            let Some(entry) = segment.users.get_mut(&partition) else {
                continue;
            };
            if entry.last <= decree {
                segment.users.remove(&partition);
            } else {
                entry.first = entry.first.max(decree.next());
            }
        }
    }

    /// Nobody needs anything of this partition.
    pub(crate) fn forget(&mut self, partition: PartitionId) {
        self.durable.remove(&partition);
        self.tails.remove(&partition);
        self.pins.remove(&partition);
        for segment in &mut self.segments {
            segment.users.remove(&partition);
            segment.held.remove(&partition);
            for stretch in &mut segment.stretches {
                stretch.highest.remove(&partition);
            }
        }
    }

    /// Forgets segments below `oldest` and returns them.
    pub(crate) fn free_below(&mut self, oldest: SegmentId) -> Vec<SegmentId> {
        let mut freed = Vec::new();
        while self.segments.front().is_some_and(|front| front.id < oldest) {
            let segment = self.segments.pop_front().expect("just seen");
            freed.push(segment.id);
        }
        if !freed.is_empty() {
            // What was pinned and is gone is of no use from its beginning on.
            self.pins.retain(|_, first| *first >= oldest);
        }
        freed
    }

    /// The oldest segment somebody needs, or the newest one. `None`: no segment yet.
    pub(crate) fn oldest_needed(&self, pins: Pins) -> Option<SegmentId> {
        let needed = self.oldest_used();
        let pinned = match pins {
            Pins::Count => self.oldest_pinned(),
            Pins::Broken => None,
        };
        pinned.map_or(needed, |pinned| needed.map(|needed| needed.min(pinned)))
    }

    fn oldest_used(&self) -> Option<SegmentId> {
        let used = self
            .segments
            .iter()
            .find(|segment| !segment.users.is_empty());
        used.or(self.segments.back()).map(|segment| segment.id)
    }

    /// Replicas that hold back the oldest segment; empty if that is the one being written.
    pub(crate) fn blockers(&self) -> Vec<Blocker> {
        let closed = self.segments.len().saturating_sub(1);
        let oldest = self
            .segments
            .iter()
            .take(closed)
            .find(|segment| !segment.users.is_empty());
        let Some(oldest) = oldest else {
            return Vec::new();
        };
        let blocker = |(partition, entry): (&PartitionId, &Use)| Blocker {
            partition: *partition,
            incarnation: entry.incarnation,
            segment: oldest.id,
            first: entry.first,
            last: entry.last,
            bytes: entry.bytes,
            remedy: if entry.bytes < REAPPEND_BYTES_MAX {
                Remedy::Reappend
            } else {
                Remedy::Flush
            },
        };
        oldest.users.iter().map(blocker).collect()
    }

    /// Segments from the oldest on that some replica here needs.
    pub(crate) fn needed_count(&self) -> usize {
        let unneeded = |segment: &&SegmentUse| segment.users.is_empty();
        let unneeded = self.segments.iter().take_while(unneeded).count();
        (self.segments.len() - unneeded).max(usize::from(!self.segments.is_empty()))
    }

    pub(crate) fn segment_count(&self) -> usize {
        self.segments.len()
    }
}

//! What the log still holds of some replicas behind a decree of each: read for learners while the log is in use.
//!
//! Reads the files of a log that somebody else is writing. That is sound because only entries up to a decree that is known
//! durable are wanted, and because every batch carries its place and the log's life in its checksums: what is half written,
//! recycled or cut reads as "not there", never as something else.
//!
//! Entries of a replica come in decree order, each as the last record of it says. An entry is handed out as soon as a record shows
//! that its decree is committed, for then nothing behind can void it; those above the last commit point known come at the end.
//!
//! Clients use the same drive and CPUs, so it reads no more than it must: the header of each segment, to find their order, and
//! everything from where the log's index says that the first entry wanted is (`ShardLog::suffix_start`), once for all replicas. A node
//! that comes back has many copies which all need about the same end of the log.

use super::chain::{Chain, ChainSegment};
use super::reader::Reader;
use super::{RecoverError, SegmentSource};
use crate::ids::{Ballot, Decree, PartitionId, ReplicaIncarnation};
use crate::log::batch::{BLOCK, BatchItem};
use crate::log::{LogIdentity, Position, Record};
use crate::message::Entry;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use thiserror::Error;

/// Bytes of payloads that may wait for a lower decree. Records are out of order by the prepares in flight, and where the log
/// has appended old ones again to free a segment; more than this is not worth it, a checkpoint is.
const HELD_BYTES_MAX: usize = 64 << 20;

/// Bytes of payloads that wait until enough for a piece of their replica is there; over it the largest goes as it is.
const READY_BYTES_MAX: usize = 4 << 20;

/// Bytes read at once: a learner has time, clients have not.
const WINDOW_BYTES: usize = 256 << 10;

/// What an entry takes beside its payload where it is sent, roughly.
const ENTRY_FIXED_BYTES: usize = 64;

/// Which entries of which replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuffixRange {
    pub partition: PartitionId,
    pub incarnation: ReplicaIncarnation,
    /// The first one wanted is the next.
    pub after: Decree,
    /// The last one wanted; durable in this log.
    pub up_to: Decree,
}

/// Entries of one replica that follow one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuffixPiece {
    pub entries: Vec<Entry>,
    /// Of those, everything up to here is committed, as far as the log says. At most the last of `entries`.
    pub committed: Decree,
    /// The range ends here. Only then `entries` may be empty: nothing was wanted.
    pub is_last: bool,
}

/// Why the log cannot give the entries: the learner needs a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SuffixError {
    /// Freed, damaged, or never there.
    #[error("the log does not hold decree {decree}")]
    Missing { decree: Decree },
    #[error("the log holds decree {decree} too far behind its successors")]
    Scattered { decree: Decree },
}

/// One pass over the log. Memory: one window of the log, what waits for a lower decree, and pieces.
pub struct Suffix<'s, S: ?Sized> {
    reader: Reader<'s, S>,
    /// Replicas that have not got everything.
    wanted: BTreeMap<PartitionId, Wanted>,
    /// Not read yet, oldest first.
    segments: VecDeque<ChainSegment>,
    /// Where to go on in the first of them.
    offset: u64,
}

/// One range on its way.
#[derive(Debug)]
struct Wanted {
    range: SuffixRange,
    /// Not known committed, or behind a gap.
    held: BTreeMap<Decree, Entry>,
    held_bytes: usize,
    /// The lowest decree that is not ready.
    next: Decree,
    /// Settled, to be handed out.
    ready: VecDeque<Entry>,
    ready_bytes: usize,
    /// The highest commit point that a record has told.
    committed: Decree,
    /// Something that may be of it could not be read: what is held may have been replaced there.
    is_lost: bool,
}

impl<'s, S: SegmentSource + ?Sized> Suffix<'s, S> {
    /// Finds the segments to read: one block of each. `start`: no entry that is wanted is before it, as
    /// [`crate::log::ShardLog::suffix_start`] says.
    ///
    /// # Errors
    /// A file is of another log or format.
    ///
    /// # Panics
    /// If two ranges are of one partition.
    pub fn open(
        source: &'s mut S,
        identity: LogIdentity,
        ranges: &[SuffixRange],
        start: Position,
    ) -> Result<Self, RecoverError> {
        let mut reader = Reader::with_window(source, identity, WINDOW_BYTES);
        let mut segments = VecDeque::from(Chain::by_headers(&mut reader)?);
        segments.retain(|segment| segment.id >= start.segment);
        let begins_there = segments
            .front()
            .is_some_and(|first| first.id == start.segment);
        let wanted: BTreeMap<PartitionId, Wanted> = ranges
            .iter()
            .map(|range| (range.partition, Wanted::new(*range)))
            .collect();
        assert_eq!(wanted.len(), ranges.len(), "one range of each partition");
        Ok(Self {
            reader,
            wanted,
            segments,
            offset: if begins_there {
                start.offset.max(BLOCK)
            } else {
                BLOCK
            },
        })
    }

    /// The next entries of some replica, about `bytes_max` of payloads where there are so many; behind its last piece, or an
    /// error, a replica has no more. `None`: nobody has.
    pub fn next_piece(
        &mut self,
        bytes_max: usize,
    ) -> Option<(PartitionId, Result<SuffixPiece, SuffixError>)> {
        loop {
            if let Some(partition) = self.due(bytes_max) {
                return Some((partition, self.hand_out(partition, bytes_max)));
            }
            if self.wanted.is_empty() {
                return None;
            }
            self.read_batch();
        }
    }

    /// Whose turn it is: who has enough, or everything; who has most if that is too much together; anybody at the end.
    fn due(&self, bytes_max: usize) -> Option<PartitionId> {
        let is_over = self.segments.is_empty();
        let (mut ready_bytes, mut held_bytes) = (0, 0);
        for (partition, wanted) in &self.wanted {
            let is_ended = is_over || wanted.is_lost || wanted.is_complete();
            if is_ended || wanted.ready_bytes >= bytes_max.max(1) {
                return Some(*partition);
            }
            ready_bytes += wanted.ready_bytes;
            held_bytes += wanted.held_bytes;
        }
        let most = |bytes: fn(&Wanted) -> usize| {
            let most = self.wanted.iter().max_by_key(|(_, wanted)| bytes(wanted));
            most.map(|(partition, _)| *partition)
        };
        if ready_bytes > READY_BYTES_MAX {
            most(|wanted| wanted.ready_bytes)
        } else if held_bytes > HELD_BYTES_MAX {
            most(|wanted| wanted.held_bytes)
        } else {
            None
        }
    }

    /// A piece of a replica whose turn it is, or why it gets no more.
    fn hand_out(
        &mut self,
        partition: PartitionId,
        bytes_max: usize,
    ) -> Result<SuffixPiece, SuffixError> {
        let is_over = self.segments.is_empty();
        let wanted = self.wanted.get_mut(&partition).expect("it is its turn");
        if wanted.is_lost {
            let decree = wanted.next;
            self.wanted.remove(&partition);
            return Err(SuffixError::Missing { decree });
        }
        if is_over {
            wanted.settle(Decree(u64::MAX));
        }
        if wanted.ready.is_empty() && !wanted.is_complete() {
            let decree = wanted.next;
            self.wanted.remove(&partition);
            return Err(if is_over {
                SuffixError::Missing { decree }
            } else {
                SuffixError::Scattered { decree }
            });
        }
        let piece = wanted.piece(bytes_max);
        if piece.is_last {
            self.wanted.remove(&partition);
        }
        Ok(piece)
    }

    /// Records of these could not be read.
    fn lose(&mut self, is_concerned: impl Fn(&PartitionId) -> bool) {
        for (partition, wanted) in &mut self.wanted {
            wanted.is_lost |= is_concerned(partition);
        }
    }

    /// Takes over one batch, or goes on to the next segment.
    fn read_batch(&mut self) {
        let Some(segment) = self.segments.front() else {
            return;
        };
        let header = (self.offset < segment.end)
            .then(|| self.reader.header(segment, self.offset))
            .flatten();
        // What was being written to the newest segment when this began is read as far as it is there.
        let is_settled = self.segments.len() > 1;
        let Some(header) = header else {
            if is_settled && self.offset < segment.end {
                self.lose(|_| true);
            }
            self.segments.pop_front();
            self.offset = BLOCK;
            return;
        };
        let is_wanted = |item: &BatchItem| {
            let wanted = self.wanted.get(&item.partition);
            wanted.is_some_and(|wanted| wanted.range.incarnation == item.incarnation)
        };
        let batch = header.items.iter().any(is_wanted);
        let batch = batch.then(|| self.reader.batch(segment, self.offset));
        self.offset += header.batch_bytes;
        let records = match batch {
            None => return,
            Some(None) => {
                if is_settled {
                    self.lose(|partition| header.items.iter().any(|it| it.partition == *partition));
                }
                return;
            }
            Some(Some(read)) => {
                if is_settled && !read.is_whole {
                    let lost = read.lost_items();
                    self.lose(|partition| lost.iter().any(|it| it.partition == *partition));
                }
                read.records
            }
        };
        for placed in records {
            let stamp = placed.record.stamp();
            let wanted = self.wanted.get_mut(&stamp.partition);
            if let Some(wanted) = wanted.filter(|it| it.range.incarnation == stamp.incarnation) {
                wanted.take(placed.record);
            }
        }
    }
}

impl Wanted {
    fn new(range: SuffixRange) -> Self {
        Self {
            range,
            held: BTreeMap::new(),
            held_bytes: 0,
            next: range.after.next(),
            ready: VecDeque::new(),
            ready_bytes: 0,
            committed: Decree::ZERO,
            is_lost: false,
        }
    }

    /// Everything is ready.
    fn is_complete(&self) -> bool {
        self.next > self.range.up_to
    }

    fn take(&mut self, record: Record) {
        match record {
            Record::Entry {
                entry, committed, ..
            } => {
                self.committed = self.committed.max(committed);
                self.void_from(entry.decree, entry.ballot);
                self.hold(entry);
            }
            Record::Committed { decree, .. } => self.committed = self.committed.max(decree),
            Record::Carried { committed, .. } => self.committed = self.committed.max(committed),
            Record::Cut { decree, .. } => self.void_from(decree.next(), Ballot(u64::MAX)),
            Record::Adopt { .. } | Record::Removed { .. } | Record::Suspect { .. } => {}
        }
        self.settle(self.committed);
    }

    /// Copies the payload: a small one would keep a whole window in memory.
    fn hold(&mut self, mut entry: Entry) {
        let decree = entry.decree;
        let is_wanted = decree >= self.next && decree <= self.range.up_to;
        let is_newest = self
            .held
            .get(&decree)
            .is_none_or(|held| held.ballot <= entry.ballot);
        if is_wanted && is_newest {
            entry.mutation.payload = Bytes::copy_from_slice(&entry.mutation.payload);
            self.held_bytes += size(&entry);
            if let Some(old) = self.held.insert(decree, entry) {
                self.held_bytes -= size(&old);
            }
        }
    }

    /// Entries from `first` on of ballots before `ballot` do not count any more.
    fn void_from(&mut self, first: Decree, ballot: Ballot) {
        while let Some(last) = self.held.last_entry() {
            if *last.key() < first || last.get().ballot >= ballot {
                break;
            }
            self.held_bytes -= size(&last.remove());
        }
    }

    /// What follows what is ready, up to `decree`, is final.
    fn settle(&mut self, decree: Decree) {
        while self.next <= decree
            && let Some(entry) = self.held.remove(&self.next)
        {
            self.held_bytes -= size(&entry);
            self.ready_bytes += size(&entry);
            self.ready.push_back(entry);
            self.next = self.next.next();
        }
    }

    /// What is ready, up to about `bytes_max`.
    fn piece(&mut self, bytes_max: usize) -> SuffixPiece {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while bytes < bytes_max.max(1)
            && let Some(entry) = self.ready.pop_front()
        {
            bytes += size(&entry);
            entries.push(entry);
        }
        self.ready_bytes -= bytes;
        let last = entries
            .last()
            .map_or(self.range.after, |entry| entry.decree);
        SuffixPiece {
            entries,
            committed: self.committed.min(last),
            is_last: last >= self.range.up_to,
        }
    }
}

/// What an entry weighs.
fn size(entry: &Entry) -> usize {
    entry.mutation.payload.len() + ENTRY_FIXED_BYTES
}

impl<S: ?Sized> std::fmt::Debug for Suffix<'_, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Suffix")
            .field("wanted", &self.wanted.len())
            .field("segments", &self.segments.len())
            .finish_non_exhaustive()
    }
}

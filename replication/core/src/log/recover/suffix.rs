//! What the log still holds of one replica behind a decree: read for a learner while the log is in use.
//!
//! Reads the files of a log that somebody else is writing. That is sound because only entries up to a decree that is known
//! durable are wanted, and because every batch carries its place and the log's life in its checksums: what is half written,
//! recycled or cut reads as "not there", never as something else.
//!
//! Entries come in decree order, each as the last record of it says. An entry is handed out as soon as a record shows that
//! its decree is committed, for then nothing behind can void it; those above the last commit point known come at the end.
//!
//! Clients use the same drive and CPUs, so it reads no more than it must: the header of each segment, to find their order; the
//! first batches of each from the newest back, until one repeats that no entry before it is wanted; and everything from there
//! on. That is sound, because records that are left out can only be missing, which is noticed.

use super::chain::{Chain, ChainSegment};
use super::reader::Reader;
use super::{RecoverError, SegmentSource};
use crate::ids::{Ballot, Decree, PartitionId, ReplicaIncarnation};
use crate::log::batch::{BLOCK, BatchItem};
use crate::log::{LogIdentity, Record};
use crate::message::Entry;
use std::collections::{BTreeMap, VecDeque};
use thiserror::Error;

/// Bytes of payloads that may wait for a lower decree. Records are out of order by the prepares in flight, and where the log
/// has appended old ones again to free a segment; more than this is not worth it, a checkpoint is.
const HELD_BYTES_MAX: usize = 64 << 20;

/// Bytes read at once: a learner has time, clients have not.
const WINDOW_BYTES: usize = 256 << 10;

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

impl SuffixRange {
    fn is_of(&self, item: &BatchItem) -> bool {
        item.partition == self.partition && item.incarnation == self.incarnation
    }

    /// Whether what `segment` repeats of the replica at its start says that no entry before it is wanted.
    fn begins_in<S: SegmentSource + ?Sized>(
        &self,
        segment: &ChainSegment,
        reader: &mut Reader<'_, S>,
    ) -> bool {
        let mut offset = BLOCK;
        while let Some(header) = reader.header(segment, offset) {
            if !header.items.iter().any(BatchItem::has_carried) {
                return false;
            }
            if header.items.iter().any(|item| self.is_of(item)) {
                let batch = reader.batch(segment, offset);
                let records = batch.map(|batch| batch.records).unwrap_or_default();
                let prepared = records
                    .iter()
                    .find_map(|placed| self.prepared_in(&placed.record));
                return prepared.is_some_and(|prepared| prepared <= self.after);
            }
            offset += header.batch_bytes;
        }
        false
    }

    /// The highest decree before this record, if it repeats the state of the replica.
    fn prepared_in(&self, record: &Record) -> Option<Decree> {
        match record {
            Record::Carried {
                partition,
                incarnation,
                prepared,
                ..
            } if *partition == self.partition && *incarnation == self.incarnation => {
                Some(*prepared)
            }
            _ => None,
        }
    }
}

/// Entries that follow one another.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SuffixPiece {
    pub entries: Vec<Entry>,
    /// Of those, everything up to here is committed, as far as the log says. At most the last of `entries`.
    pub committed: Decree,
}

/// Why the log cannot give the entries: the learner needs a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SuffixError {
    #[error(transparent)]
    Log(#[from] RecoverError),
    /// Freed, damaged, or never there.
    #[error("the log does not hold decree {decree}")]
    Missing { decree: Decree },
    #[error("the log holds decree {decree} too far behind its successors")]
    Scattered { decree: Decree },
}

/// One pass over the log. Memory: one window of the log and what waits for a lower decree.
pub struct Suffix<'s, S: ?Sized> {
    reader: Reader<'s, S>,
    range: SuffixRange,
    /// Not read yet, oldest first.
    segments: VecDeque<ChainSegment>,
    /// Where to go on in the first of them.
    offset: u64,
    held: BTreeMap<Decree, Entry>,
    held_bytes: usize,
    next: Decree,
    /// The highest commit point that a record has told.
    committed: Decree,
}

impl<'s, S: SegmentSource + ?Sized> Suffix<'s, S> {
    /// Finds the segments to read: a few blocks of each that is newer.
    ///
    /// # Errors
    /// [`SuffixError::Log`]: a file is of another log or format.
    pub fn open(
        source: &'s mut S,
        identity: LogIdentity,
        range: SuffixRange,
    ) -> Result<Self, SuffixError> {
        let mut reader = Reader::with_window(source, identity, WINDOW_BYTES);
        let mut segments = Chain::by_headers(&mut reader)?;
        let begins = segments
            .iter()
            .rposition(|segment| range.begins_in(segment, &mut reader));
        segments.drain(..begins.unwrap_or(0));
        Ok(Self {
            reader,
            range,
            segments: segments.into(),
            offset: BLOCK,
            held: BTreeMap::new(),
            held_bytes: 0,
            next: range.after.next(),
            committed: Decree::ZERO,
        })
    }

    /// The next entries, at least one and then up to about `bytes_max` of payloads; `None` behind the last.
    ///
    /// # Errors
    /// [`SuffixError`]; what was handed out before is right all the same.
    pub fn next_piece(&mut self, bytes_max: usize) -> Result<Option<SuffixPiece>, SuffixError> {
        let mut piece = SuffixPiece::default();
        let mut bytes = 0;
        while self.next <= self.range.up_to && bytes < bytes_max.max(1) {
            let is_settled = self.next <= self.committed || self.segments.is_empty();
            let entry = is_settled.then(|| self.held.remove(&self.next)).flatten();
            match entry {
                Some(entry) => {
                    let size = entry.mutation.payload.len();
                    self.held_bytes -= size;
                    bytes += size + ENTRY_FIXED_BYTES;
                    piece.entries.push(entry);
                    self.next = self.next.next();
                }
                None if self.segments.is_empty() => {
                    return Err(SuffixError::Missing { decree: self.next });
                }
                None => self.read_batch()?,
            }
        }
        let Some(last) = piece.entries.last() else {
            return Ok(None);
        };
        piece.committed = self.committed.min(last.decree);
        Ok(Some(piece))
    }

    /// Takes over one batch, or goes on to the next segment.
    fn read_batch(&mut self) -> Result<(), SuffixError> {
        let Some(segment) = self.segments.front() else {
            return Ok(());
        };
        let header = (self.offset < segment.end)
            .then(|| self.reader.header(segment, self.offset))
            .flatten();
        let Some(header) = header else {
            self.segments.pop_front();
            self.offset = BLOCK;
            return Ok(());
        };
        let is_wanted = header.items.iter().any(|item| self.range.is_of(item));
        let records = is_wanted
            .then(|| self.reader.batch(segment, self.offset))
            .flatten()
            .map(|read| read.records)
            .unwrap_or_default();
        self.offset += header.batch_bytes;
        for placed in records {
            self.take(placed.record);
        }
        if self.held_bytes > HELD_BYTES_MAX {
            return Err(SuffixError::Scattered { decree: self.next });
        }
        Ok(())
    }

    fn take(&mut self, record: Record) {
        let stamp = record.stamp();
        if stamp.partition != self.range.partition || stamp.incarnation != self.range.incarnation {
            return;
        }
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
    }

    fn hold(&mut self, entry: Entry) {
        let decree = entry.decree;
        let is_wanted = decree >= self.next && decree <= self.range.up_to;
        let is_newest = self
            .held
            .get(&decree)
            .is_none_or(|held| held.ballot <= entry.ballot);
        if is_wanted && is_newest {
            self.held_bytes += entry.mutation.payload.len();
            if let Some(old) = self.held.insert(decree, entry) {
                self.held_bytes -= old.mutation.payload.len();
            }
        }
    }

    /// Entries from `first` on of ballots before `ballot` do not count any more.
    fn void_from(&mut self, first: Decree, ballot: Ballot) {
        while let Some(last) = self.held.last_entry() {
            if *last.key() < first || last.get().ballot >= ballot {
                break;
            }
            self.held_bytes -= last.remove().mutation.payload.len();
        }
    }
}

impl<S: ?Sized> std::fmt::Debug for Suffix<'_, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Suffix")
            .field("range", &self.range)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

/// What an entry takes beside its payload where it is sent, roughly.
const ENTRY_FIXED_BYTES: usize = 64;

//! Applies surviving records in log order and keeps account of what is lost.

use super::{Marker, RecoveredReplica};
use crate::ids::{Ballot, Decree, PartitionId, ReplicaIncarnation};
use crate::log::batch::BatchItem;
use crate::log::index::SegmentIndex;
use crate::log::record::{NumberedRecord, Record, RecordKind};
use crate::log::{ReplicaNote, SegmentId, apply_note};
use crate::message::Entry;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What the log has said of one incarnation of a replica so far.
#[derive(Debug)]
struct History {
    incarnation: ReplicaIncarnation,
    /// Above the marker.
    entries: BTreeMap<Decree, Entry>,
    /// The highest decree known to have been in the log but lost, with the highest ballot of its batch.
    lost: Option<(Decree, Ballot)>,
    /// Lost a record that voids others.
    has_lost_voiding: bool,
    /// Lost an adopted ballot that nothing has repeated since.
    has_lost_adopt: bool,
    /// Something may have been lost and nobody says what: number of the last record before.
    unsure_after: Option<u64>,
    /// The first record behind an unreadable stretch says that some before it are lost.
    has_lost_unknown: bool,
}

impl History {
    const fn new(incarnation: ReplicaIncarnation) -> Self {
        Self {
            incarnation,
            entries: BTreeMap::new(),
            lost: None,
            has_lost_voiding: false,
            has_lost_adopt: false,
            unsure_after: None,
            has_lost_unknown: false,
        }
    }

    /// Entries from `first` on with an older ballot are void, lost or not.
    fn void_from(&mut self, first: Decree, ballot: Ballot) {
        while let Some(last) = self.entries.last_entry() {
            if *last.key() < first || last.get().ballot >= ballot {
                break;
            }
            last.remove();
        }
        if let Some((decree, lost_ballot)) = self.lost
            && decree >= first
            && lost_ballot < ballot
        {
            self.lost = (first > Decree(1)).then(|| (first.previous(), lost_ballot));
        }
    }

    /// The next record of this replica: settles whether one before it is lost.
    fn on_number(&mut self, number: u64) {
        if let Some(last) = self.unsure_after.take() {
            self.has_lost_unknown |= number != last + 1;
        }
    }

    fn on_entry(&mut self, entry: &Entry, marker: Decree) {
        self.void_from(entry.decree, entry.ballot);
        if entry.decree > marker
            && self
                .entries
                .get(&entry.decree)
                .is_none_or(|held| held.ballot <= entry.ballot)
        {
            self.entries.insert(entry.decree, entry.clone());
        }
    }

    /// Adopted ballot and commit point are told again. If no entry before goes beyond what the engine holds,
    /// nothing before this record matters, lost or not.
    fn on_carried(&mut self, prepared: Decree, marker: Decree) {
        self.has_lost_adopt = false;
        if prepared <= marker {
            *self = Self::new(self.incarnation);
        }
    }

    /// Entries in order up to the first hole, and that hole.
    fn contiguous(self, marker: Decree) -> (Vec<Entry>, Option<Decree>) {
        let lost = self.lost.map_or(Decree::ZERO, |(decree, _)| decree);
        let last = self
            .entries
            .last_key_value()
            .map_or(Decree::ZERO, |(decree, _)| *decree)
            .max(lost);
        let mut next = marker.next();
        let mut whole = Vec::with_capacity(self.entries.len());
        for (decree, entry) in self.entries {
            if decree != next {
                break;
            }
            whole.push(entry);
            next = decree.next();
        }
        (whole, (next <= last).then_some(next))
    }
}

/// What remains at the end.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) replicas: BTreeMap<PartitionId, RecoveredReplica>,
    pub(super) notes: BTreeMap<PartitionId, ReplicaNote>,
    pub(super) index: SegmentIndex,
}

#[derive(Debug)]
pub(super) struct Replay<'m> {
    markers: &'m BTreeMap<PartitionId, Marker>,
    histories: BTreeMap<PartitionId, History>,
    notes: BTreeMap<PartitionId, ReplicaNote>,
    index: SegmentIndex,
}

impl<'m> Replay<'m> {
    pub(super) fn new(markers: &'m BTreeMap<PartitionId, Marker>) -> Self {
        let mut index = SegmentIndex::default();
        for (partition, marker) in markers {
            index.set_durable(*partition, marker.decree);
        }
        let histories = markers
            .iter()
            .map(|(partition, marker)| (*partition, History::new(marker.incarnation)));
        Self {
            markers,
            histories: histories.collect(),
            notes: BTreeMap::new(),
            index,
        }
    }

    pub(super) fn has_markers(&self) -> bool {
        !self.markers.is_empty()
    }

    pub(super) fn add_segment(&mut self, segment: SegmentId, segment_bytes: u64) {
        self.index.add_segment(segment, segment_bytes);
    }

    /// The records of the batch at `offset` of the newest segment.
    pub(super) fn apply(&mut self, offset: u64, records: &[NumberedRecord]) {
        self.index.begin_batch(offset);
        for placed in records {
            self.apply_record(placed.number, &placed.record);
        }
    }

    fn apply_record(&mut self, number: u64, record: &Record) {
        let stamp = record.stamp();
        let Some(marker) = self.marker_for(stamp.partition, stamp.incarnation) else {
            return;
        };
        self.index.note(&stamp, record.encoded_bytes() as u64);
        apply_note(&mut self.notes, number, record);
        if stamp.kind == RecordKind::Removed {
            self.forget(stamp.partition, stamp.incarnation);
            return;
        }
        let history = self.history(stamp.partition, stamp.incarnation);
        history.on_number(number);
        match record {
            Record::Entry { entry, .. } => history.on_entry(entry, marker),
            Record::Cut { decree, .. } => history.void_from(decree.next(), Ballot(u64::MAX)),
            Record::Adopt { .. } => history.has_lost_adopt = false,
            Record::Carried { prepared, .. } => history.on_carried(*prepared, marker),
            Record::Committed { .. } | Record::Removed { .. } | Record::Suspect { .. } => {}
        }
    }

    /// Records of this replica could not be read; `item` is what the batch held of it.
    pub(super) fn lose(&mut self, item: &BatchItem) {
        if self.marker_for(item.partition, item.incarnation).is_none() {
            return;
        }
        let is_known = self
            .notes
            .get(&item.partition)
            .is_some_and(|note| note.incarnation == item.incarnation);
        let history = self.history(item.partition, item.incarnation);
        history.has_lost_voiding |= item.has_voiding();
        history.has_lost_adopt |= item.has_adopt() || (item.has_carried() && !is_known);
        if item.has_entries() {
            history.void_from(item.first, item.ballot);
            let stale = history
                .entries
                .range(item.first..=item.last)
                .map(|(decree, _)| *decree)
                .collect::<Vec<_>>();
            for decree in stale {
                history.entries.remove(&decree);
            }
            let (decree, ballot) = history.lost.unwrap_or_default();
            history.lost = Some((decree.max(item.last), ballot.max(item.ballot)));
        }
    }

    /// Batches are gone and nobody says what they held: every replica is suspect until its next record
    /// says by its number that none of its own is among them.
    pub(super) fn lose_unknown(&mut self) {
        for (partition, history) in &mut self.histories {
            let note = self
                .notes
                .get(partition)
                .filter(|note| note.incarnation == history.incarnation);
            history
                .unsure_after
                .get_or_insert(note.map_or(0, |note| note.records));
        }
    }

    pub(super) fn finish(mut self) -> Outcome {
        let histories = std::mem::take(&mut self.histories);
        let mut replicas = BTreeMap::new();
        for (partition, history) in histories {
            let replica = self.finish_replica(partition, history);
            if replica.suspect.is_some() {
                let note = self
                    .notes
                    .entry(partition)
                    .or_insert(ReplicaNote::new(replica.incarnation));
                note.is_suspect = true;
            }
            replicas.insert(partition, replica);
        }
        Outcome {
            replicas,
            notes: self.notes,
            index: self.index,
        }
    }

    fn finish_replica(&self, partition: PartitionId, history: History) -> RecoveredReplica {
        let marker = self
            .markers
            .get(&partition)
            .map_or(Decree::ZERO, |marker| marker.decree);
        let incarnation = history.incarnation;
        let note = self
            .notes
            .get(&partition)
            .filter(|note| note.incarnation == incarnation);
        let is_stored = self.markers.contains_key(&partition);
        let mut reason = String::new();
        if note.is_some_and(|note| note.is_suspect) {
            reason.push_str("found damaged before; ");
        }
        if history.has_lost_voiding {
            reason.push_str("a record that cuts the log is lost; ");
        }
        if history.has_lost_adopt {
            reason.push_str("an adopted ballot is lost; ");
        }
        if history.has_lost_unknown || history.unsure_after.is_some() {
            reason.push_str("unknown records are lost; ");
        }
        let (entries, hole) = history.contiguous(marker);
        if let Some(hole) = hole.filter(|_| is_stored) {
            let _ = write!(reason, "decree {hole} is lost; ");
        }
        assert!(
            entries
                .first()
                .is_none_or(|first| first.decree == marker.next())
        );
        RecoveredReplica {
            incarnation,
            adopted: note.map_or(Ballot::NONE, |note| note.adopted),
            committed: note.map_or(Decree::ZERO, |note| note.committed).max(marker),
            entries,
            suspect: (!reason.is_empty()).then(|| reason.trim_end_matches("; ").to_owned()),
        }
    }

    /// The marker's decree, zero for a replica without storage. `None`: a record of a copy that is gone.
    fn marker_for(
        &self,
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
    ) -> Option<Decree> {
        match self.markers.get(&partition) {
            Some(marker) if marker.incarnation != incarnation => None,
            Some(marker) => Some(marker.decree),
            None => Some(Decree::ZERO),
        }
    }

    fn history(&mut self, partition: PartitionId, incarnation: ReplicaIncarnation) -> &mut History {
        let history = self
            .histories
            .entry(partition)
            .or_insert_with(|| History::new(incarnation));
        if history.incarnation != incarnation {
            *history = History::new(incarnation);
        }
        history
    }

    /// A removed replica starts over; one that still has storage is told about with nothing.
    fn forget(&mut self, partition: PartitionId, incarnation: ReplicaIncarnation) {
        if self.markers.contains_key(&partition) {
            self.histories.insert(partition, History::new(incarnation));
        } else {
            self.histories.remove(&partition);
        }
        let note = self.notes.get(&partition);
        assert!(note.is_none_or(|note| note.incarnation != incarnation));
    }
}

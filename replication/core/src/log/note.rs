//! What the log repeats about each replica in every segment, so that older segments can be freed.

use super::record::{Record, RecordKind};
use crate::ids::{Ballot, Decree, PartitionId, ReplicaIncarnation};
use std::collections::BTreeMap;

/// What the log repeats about a replica in every segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReplicaNote {
    pub(crate) incarnation: ReplicaIncarnation,
    pub(crate) adopted: Ballot,
    pub(crate) committed: Decree,
    /// Highest decree of its entries.
    pub(crate) prepared: Decree,
    /// Number of its last record.
    pub(crate) records: u64,
    pub(crate) is_suspect: bool,
}

impl ReplicaNote {
    pub(super) const fn new(incarnation: ReplicaIncarnation) -> Self {
        Self {
            incarnation,
            adopted: Ballot::NONE,
            committed: Decree::ZERO,
            prepared: Decree::ZERO,
            records: 0,
            is_suspect: false,
        }
    }
}

/// What a new segment repeats of a replica. That it is suspect comes first: no prefix may clear it.
pub(super) fn carried(partition: PartitionId, note: &ReplicaNote) -> impl Iterator<Item = Record> {
    let incarnation = note.incarnation;
    let suspect = note.is_suspect.then_some(Record::Suspect {
        partition,
        incarnation,
    });
    let state = Record::Carried {
        partition,
        incarnation,
        ballot: note.adopted,
        committed: note.committed,
        prepared: note.prepared,
    };
    suspect.into_iter().chain([state])
}

/// What `record` changes about its replica: adopted ballot and commit point only grow within one incarnation.
/// Used when a record is placed and when it is read back, so that both sides agree.
pub(crate) fn apply_note(
    replicas: &mut BTreeMap<PartitionId, ReplicaNote>,
    number: u64,
    record: &Record,
) {
    let stamp = record.stamp();
    if stamp.kind == RecordKind::Removed {
        if replicas
            .get(&stamp.partition)
            .is_some_and(|note| note.incarnation == stamp.incarnation)
        {
            replicas.remove(&stamp.partition);
        }
        return;
    }
    let note = replicas
        .entry(stamp.partition)
        .or_insert(ReplicaNote::new(stamp.incarnation));
    if note.incarnation != stamp.incarnation {
        *note = ReplicaNote::new(stamp.incarnation);
    }
    note.records = number;
    note.prepared = match record {
        Record::Entry { entry, .. } => note.prepared.max(entry.decree),
        Record::Carried { prepared, .. } => note.prepared.max(*prepared),
        Record::Cut { decree, .. } => note.prepared.min(*decree),
        _ => note.prepared,
    };
    note.is_suspect |= stamp.kind == RecordKind::Suspect;
    note.adopted = note.adopted.max(stamp.ballot);
    let committed = match record {
        Record::Entry { committed, .. } | Record::Carried { committed, .. } => *committed,
        Record::Cut { decree, .. } | Record::Committed { decree, .. } => *decree,
        Record::Adopt { .. } | Record::Removed { .. } | Record::Suspect { .. } => Decree::ZERO,
    };
    note.committed = note.committed.max(committed);
}

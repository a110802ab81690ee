//! What a log says, in the simplest form: the oracle of recovery.

use crate::ids::{Ballot, Decree, PartitionId, ReplicaIncarnation, RequestId, TableId};
use crate::log::{Record, RecoveredReplica};
use crate::message::{Entry, Mutation};
use bytes::Bytes;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Replica {
    pub(super) adopted: Ballot,
    pub(super) committed: Decree,
    pub(super) entries: BTreeMap<Decree, Entry>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) replicas: BTreeMap<PartitionId, Replica>,
}

impl Model {
    pub(super) fn apply(&mut self, record: &Record) {
        let replica = self.replicas.entry(record.partition()).or_default();
        let (ballot, committed) = match record {
            Record::Entry {
                committed, entry, ..
            } => {
                replica
                    .entries
                    .retain(|decree, held| *decree < entry.decree || held.ballot >= entry.ballot);
                replica.entries.insert(entry.decree, entry.clone());
                (entry.ballot, *committed)
            }
            Record::Adopt { ballot, .. } => (*ballot, Decree::ZERO),
            Record::Cut { ballot, decree, .. } => {
                replica.entries.retain(|held, _| held <= decree);
                (*ballot, *decree)
            }
            Record::Committed { decree, .. } => (Ballot::NONE, *decree),
            other => panic!("the model knows no {other:?}"),
        };
        replica.adopted = replica.adopted.max(ballot);
        replica.committed = replica.committed.max(committed);
    }

    /// The same state, as far as recovery tells it: entries above the marker.
    pub(super) fn matches(
        &self,
        partition: PartitionId,
        marker: Decree,
        found: &RecoveredReplica,
    ) -> bool {
        let blank = Replica::default();
        let known = self.replicas.get(&partition).unwrap_or(&blank);
        let above = known.entries.range(marker.next()..).map(|(_, entry)| entry);
        known.adopted == found.adopted
            && known.committed.max(marker) == found.committed
            && above.eq(found.entries.iter())
    }
}

pub(super) const INCARNATION: ReplicaIncarnation = ReplicaIncarnation(77);

pub(super) fn partition(index: u32) -> PartitionId {
    PartitionId {
        table: TableId(1),
        index,
    }
}

pub(super) fn entry(ballot: u64, decree: u64, payload: Vec<u8>) -> Entry {
    let request_id = RequestId {
        client: 9,
        sequence: decree,
    };
    let mutation = Mutation {
        timestamp_us: 1_000_000 + decree,
        request_id,
        payload: Bytes::from(payload),
    };
    Entry {
        ballot: Ballot(ballot),
        decree: Decree(decree),
        mutation,
    }
}

pub(super) fn entry_record(index: u32, entry: Entry, committed: u64) -> Record {
    let partition = partition(index);
    Record::Entry {
        partition,
        incarnation: INCARNATION,
        committed: Decree(committed),
        entry,
    }
}

pub(super) fn adopt(index: u32, ballot: u64) -> Record {
    Record::Adopt {
        partition: partition(index),
        incarnation: INCARNATION,
        ballot: Ballot(ballot),
    }
}

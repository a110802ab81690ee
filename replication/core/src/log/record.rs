//! Records of the log: what they say, their bytes and their checksum (docs/formats.md, "Record").

use super::SegmentId;
use crate::ids::{
    Ballot, CoreId, Decree, NodeId, PartitionId, ReplicaIncarnation, RequestId, TableId,
};
use crate::message::{Entry, Mutation};
use bytes::Bytes;
use thiserror::Error;

/// Largest payload of one mutation in the log, in bytes, whatever the size of a segment.
pub const PAYLOAD_BYTES_MAX: usize = 4 << 20;

/// Bytes of a record without a payload; every record has all of these fields.
pub(crate) const RECORD_FIXED_BYTES: usize = 88;
const RECORD_ALIGNMENT: usize = 8;

/// Whose log this is. Written in full into every segment header, and part of every other checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogIdentity {
    /// Made once by `pegasus-meta init`.
    pub cluster: u128,
    pub node: NodeId,
    pub shard: CoreId,
}

/// Counts the lives of a log, from 1: every recovery begins the next one. Part of every checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogIncarnation(pub u64);

/// One fact about one replica. Later records win over earlier ones as each variant says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A prepared mutation. Voids every entry from its decree on that has an older ballot (docs/replication.md, "Reconciliation").
    Entry {
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
        /// The commit point known when it was appended.
        committed: Decree,
        entry: Entry,
    },
    /// The replica has adopted this ballot; durable before its first acknowledgement under it (docs/replication.md, "Ballots and adoption").
    Adopt {
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
        ballot: Ballot,
    },
    /// Voids every entry above `decree`, which is the commit point when the replica became a learner.
    Cut {
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
        ballot: Ballot,
        decree: Decree,
    },
    /// The commit point has reached `decree`; optional, entries carry it too.
    Committed {
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
        decree: Decree,
    },
    /// The replica of this incarnation is gone: everything about it before this record is void.
    Removed {
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
    },
    /// Repeats what earlier segments say, so that they can be freed. Written by the log itself at the start of each segment.
    Carried {
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
        ballot: Ballot,
        committed: Decree,
        /// Highest decree in its entries: if the engine holds that durably, nothing before this record matters.
        prepared: Decree,
    },
    /// The replica has lost something and must not serve: sticky until this incarnation is removed. Appended
    /// when a replica is quarantined while it runs; repeated by the log itself like `Carried`.
    Suspect {
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordKind {
    Entry,
    Adopt,
    Cut,
    Committed,
    Removed,
    Carried,
    Suspect,
}

/// A record in its place: `number` counts the records of one replica incarnation from 1, over segments and lives,
/// so that behind an unreadable stretch its next record says whether one of its records is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NumberedRecord {
    pub(crate) number: u64,
    pub(crate) record: Record,
}

/// A record without its payload: what `ShardLog::on_durable` reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub kind: RecordKind,
    pub partition: PartitionId,
    pub incarnation: ReplicaIncarnation,
    /// `Ballot::NONE` where the record has none.
    pub ballot: Ballot,
    /// `Decree::ZERO` where the record has none; of `Carried` the commit point.
    pub decree: Decree,
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    #[error("length {bytes} is out of range")]
    Length { bytes: u64 },
    #[error("checksum mismatch")]
    Checksum,
    #[error("unknown kind {kind}")]
    Kind { kind: u8 },
    #[error("a field is out of range")]
    Field,
}

impl Record {
    #[must_use]
    pub const fn partition(&self) -> PartitionId {
        self.stamp().partition
    }

    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        match *self {
            Self::Entry {
                partition,
                incarnation,
                ref entry,
                ..
            } => Stamp {
                kind: RecordKind::Entry,
                partition,
                incarnation,
                ballot: entry.ballot,
                decree: entry.decree,
            },
            Self::Adopt {
                partition,
                incarnation,
                ballot,
            } => Stamp {
                kind: RecordKind::Adopt,
                partition,
                incarnation,
                ballot,
                decree: Decree::ZERO,
            },
            Self::Cut {
                partition,
                incarnation,
                ballot,
                decree,
            } => Stamp {
                kind: RecordKind::Cut,
                partition,
                incarnation,
                ballot,
                decree,
            },
            Self::Committed {
                partition,
                incarnation,
                decree,
            } => Stamp {
                kind: RecordKind::Committed,
                partition,
                incarnation,
                ballot: Ballot::NONE,
                decree,
            },
            Self::Removed {
                partition,
                incarnation,
            } => Stamp {
                kind: RecordKind::Removed,
                partition,
                incarnation,
                ballot: Ballot::NONE,
                decree: Decree::ZERO,
            },
            Self::Suspect {
                partition,
                incarnation,
            } => Stamp {
                kind: RecordKind::Suspect,
                partition,
                incarnation,
                ballot: Ballot::NONE,
                decree: Decree::ZERO,
            },
            Self::Carried {
                partition,
                incarnation,
                ballot,
                committed,
                prepared: _,
            } => Stamp {
                kind: RecordKind::Carried,
                partition,
                incarnation,
                ballot,
                decree: committed,
            },
        }
    }

    /// Bytes this record takes in a batch, its padding included.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        let payload = match self {
            Self::Entry { entry, .. } => entry.mutation.payload.len(),
            _ => 0,
        };
        (RECORD_FIXED_BYTES + payload).next_multiple_of(RECORD_ALIGNMENT)
    }

    /// Appends the bytes of this record, which will stand at `offset` of the segment that `seal` was made for.
    pub(crate) fn encode_into(&self, number: u64, out: &mut Vec<u8>, seal: &Seal, offset: u64) {
        let start = out.len();
        let stamp = self.stamp();
        let none = Mutation {
            timestamp_us: 0,
            request_id: RequestId::default(),
            payload: Bytes::new(),
        };
        let (committed, mutation) = match self {
            Self::Entry {
                committed, entry, ..
            } => (*committed, &entry.mutation),
            Self::Carried { prepared, .. } => (*prepared, &none),
            _ => (Decree::ZERO, &none),
        };
        assert!(
            mutation.payload.len() <= PAYLOAD_BYTES_MAX,
            "payload over the bound reached the log"
        );
        let bytes = u32::try_from(RECORD_FIXED_BYTES + mutation.payload.len())
            .expect("bounded by PAYLOAD_BYTES_MAX");

        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&bytes.to_le_bytes());
        out.extend_from_slice(&[stamp.kind.byte(), 0, 0, 0]);
        out.extend_from_slice(&stamp.partition.table.0.to_le_bytes());
        out.extend_from_slice(&stamp.partition.index.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        for field in [
            stamp.incarnation.0,
            stamp.ballot.0,
            stamp.decree.0,
            committed.0,
            mutation.timestamp_us,
            mutation.request_id.client,
            mutation.request_id.sequence,
            number,
        ] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&mutation.payload);
        let sealed = out.get(start + 4..).expect("just written");
        let checksum = seal.checksum(offset, sealed);
        out.get_mut(start..start + 4)
            .expect("just written")
            .copy_from_slice(&checksum.to_le_bytes());
        out.resize(start + self.encoded_bytes(), 0);
        assert_eq!((out.len() - start) % RECORD_ALIGNMENT, 0);
    }

    /// The record at the start of `bytes`, which stand at `offset` of the segment that `seal` was made for.
    /// The payload is a slice of `bytes`, not a copy.
    pub(crate) fn decode(
        bytes: &Bytes,
        seal: &Seal,
        offset: u64,
    ) -> Result<NumberedRecord, RecordError> {
        let total = record_bytes(bytes)?;
        let record = bytes.slice(..total);
        let sealed = record.get(4..).ok_or(RecordError::Field)?;
        if le_u32(&record, 0) != Some(seal.checksum(offset, sealed)) {
            return Err(RecordError::Checksum);
        }
        let number = le_u64(&record, 80).ok_or(RecordError::Field)?;
        let record = decode_fields(&record).ok_or(RecordError::Field)??;
        Ok(NumberedRecord { number, record })
    }
}

/// Length in bytes that the record at the start of `bytes` claims, without padding. Not covered by a checksum yet.
pub(crate) fn record_bytes(bytes: &[u8]) -> Result<usize, RecordError> {
    let claimed = le_u32(bytes, 4).ok_or(RecordError::Length {
        bytes: bytes.len() as u64,
    })?;
    let length = RecordError::Length {
        bytes: u64::from(claimed),
    };
    let total = usize::try_from(claimed).map_err(|_| length)?;
    let range = RECORD_FIXED_BYTES..=RECORD_FIXED_BYTES + PAYLOAD_BYTES_MAX;
    if !range.contains(&total) || total > bytes.len() {
        return Err(length);
    }
    Ok(total)
}

/// Where the record after one of `total` bytes starts.
pub(crate) const fn padded_bytes(total: usize) -> usize {
    total.next_multiple_of(RECORD_ALIGNMENT)
}

/// Reads the fields of a record whose checksum is right. `None`: too short.
fn decode_fields(record: &Bytes) -> Option<Result<Record, RecordError>> {
    let kind = *record.get(8)?;
    let partition = PartitionId {
        table: TableId(le_u32(record, 12)?),
        index: le_u32(record, 16)?,
    };
    let incarnation = ReplicaIncarnation(le_u64(record, 24)?);
    let ballot = Ballot(le_u64(record, 32)?);
    let decree = Decree(le_u64(record, 40)?);
    let committed = Decree(le_u64(record, 48)?);
    let Some(kind) = RecordKind::from_byte(kind) else {
        return Some(Err(RecordError::Kind { kind }));
    };
    Some(Ok(match kind {
        RecordKind::Entry if decree == Decree::ZERO => return None,
        RecordKind::Entry => {
            let mutation = Mutation {
                timestamp_us: le_u64(record, 56)?,
                request_id: RequestId {
                    client: le_u64(record, 64)?,
                    sequence: le_u64(record, 72)?,
                },
                payload: record.slice(RECORD_FIXED_BYTES..),
            };
            Record::Entry {
                partition,
                incarnation,
                committed,
                entry: Entry {
                    ballot,
                    decree,
                    mutation,
                },
            }
        }
        RecordKind::Adopt => Record::Adopt {
            partition,
            incarnation,
            ballot,
        },
        RecordKind::Cut => Record::Cut {
            partition,
            incarnation,
            ballot,
            decree,
        },
        RecordKind::Committed => Record::Committed {
            partition,
            incarnation,
            decree,
        },
        RecordKind::Removed => Record::Removed {
            partition,
            incarnation,
        },
        RecordKind::Suspect => Record::Suspect {
            partition,
            incarnation,
        },
        RecordKind::Carried => Record::Carried {
            partition,
            incarnation,
            ballot,
            committed: decree,
            prepared: committed,
        },
    }))
}

impl RecordKind {
    const fn byte(self) -> u8 {
        match self {
            Self::Entry => 1,
            Self::Adopt => 2,
            Self::Cut => 3,
            Self::Committed => 4,
            Self::Removed => 5,
            Self::Carried => 6,
            Self::Suspect => 7,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Entry,
            2 => Self::Adopt,
            3 => Self::Cut,
            4 => Self::Committed,
            5 => Self::Removed,
            6 => Self::Carried,
            7 => Self::Suspect,
            _ => return None,
        })
    }
}

/// Checksums of one segment in one life of one log. Covers the place too, so that stale, misdirected or
/// recycled bytes never pass: two places that differ by less than 4 GiB always differ in their checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seal {
    state: u32,
}

impl Seal {
    pub(crate) fn new(
        identity: &LogIdentity,
        incarnation: LogIncarnation,
        segment: SegmentId,
    ) -> Self {
        let mut state = crc32c::crc32c(&identity.cluster.to_le_bytes());
        state = crc32c::crc32c_append(state, &identity.node.0.to_le_bytes());
        state = crc32c::crc32c_append(state, &identity.shard.0.to_le_bytes());
        state = crc32c::crc32c_append(state, &incarnation.0.to_le_bytes());
        Self {
            state: crc32c::crc32c_append(state, &segment.0.to_le_bytes()),
        }
    }

    /// CRC32C of identity, log incarnation, segment, `offset` and `bytes`, in this order.
    pub(crate) fn checksum(&self, offset: u64, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(
            crc32c::crc32c_append(self.state, &offset.to_le_bytes()),
            bytes,
        )
    }
}

pub(crate) fn le_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(
        bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

pub(crate) fn le_u64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(
        bytes.get(at..at.checked_add(8)?)?.try_into().ok()?,
    ))
}

//! Frames of transfers: bytes <-> structs. Whatever arrives is checked; sizes are bounded before memory is taken.

use pegasus_fbs::body::{self, BodyError, FailureBody};
use pegasus_fbs::code::Code;
use pegasus_fbs::flatbuffers::FlatBufferBuilder;
use pegasus_fbs::frame::{Frame, FrameKind};
use pegasus_fbs::transfer as wire;
use pegasus_replication::ids::{
    Ballot, Decree, PartitionId, ReplicaIncarnation, RequestId, TableId,
};
use pegasus_replication::log::recover::SuffixRange;
use pegasus_replication::message::{Entry, Mutation};
use std::collections::BTreeSet;

/// Most bytes that one frame may unpack to: a piece of the log is about a MiB and may end in a mutation of 4 MiB.
pub(super) const RAW_BYTES_MAX: usize = 16 << 20;
/// Files of one checkpoint.
const FILES_MAX: usize = 100_000;
/// Fast, and about as good as higher ones for what is compressed in the files already.
const ZSTD_LEVEL: i32 = 1;

/// Replicas whose logs one session may ask for; a request of so many is about half as long as requests may be.
pub(super) const RANGES_MAX: usize = 1024;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Open {
    Checkpoint {
        partition: PartitionId,
        /// Of the replica that is read.
        incarnation: ReplicaIncarnation,
    },
    /// Of each partition once; at least one, at most [`RANGES_MAX`].
    Log(Vec<SuffixRange>),
}

/// What a checkpoint consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) decree: Decree,
    pub(super) ballot: Ballot,
    pub(super) files: Vec<ManifestFile>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ManifestFile {
    pub(super) name: String,
    pub(super) bytes: u64,
}

/// A part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) offset: u64,
    pub(super) data: Vec<u8>,
}

/// A part of a replica's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entries {
    /// `None`: of the first that was asked for; from a node that gives the log of one replica only.
    pub(super) partition: Option<PartitionId>,
    pub(super) entries: Vec<Entry>,
    pub(super) committed: Decree,
    pub(super) is_last: bool,
    /// The log does not hold the rest, in words.
    pub(super) missing: Option<String>,
}

/// Why a frame is not what was expected.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("{code}: {message}")]
    Refused { code: Code, message: String },
    #[error("expected {expected:?}, got {found:?}")]
    Kind {
        expected: FrameKind,
        found: FrameKind,
    },
    #[error("{0}")]
    Content(&'static str),
}

/// The frame, if it is of this kind; the other side's sentence, if it refuses.
pub(super) fn expect(frame: Frame, expected: FrameKind) -> Result<Frame, FrameError> {
    if frame.header.is_failure() {
        let failure = FailureBody::read(&frame.body)?;
        return Err(FrameError::Refused {
            code: failure.code,
            message: failure.message,
        });
    }
    let found = frame.header.kind;
    if found == expected {
        Ok(frame)
    } else {
        Err(FrameError::Kind { expected, found })
    }
}

impl Open {
    pub(super) fn encode(&self) -> Vec<u8> {
        finished(|builder| {
            let open = match self {
                Self::Checkpoint {
                    partition,
                    incarnation,
                } => wire::OpenArgs {
                    table_id: partition.table.0,
                    partition: partition.index,
                    incarnation: incarnation.0,
                    checkpoint: true,
                    ..wire::OpenArgs::default()
                },
                Self::Log(ranges) => {
                    let first = &ranges[0];
                    let more: Vec<_> = ranges[1..].iter().map(to_wire).collect();
                    wire::OpenArgs {
                        table_id: first.partition.table.0,
                        partition: first.partition.index,
                        incarnation: first.incarnation.0,
                        checkpoint: false,
                        after: first.after.0,
                        up_to: first.up_to.0,
                        more: (!more.is_empty()).then(|| builder.create_vector(&more)),
                    }
                }
            };
            wire::Open::create(builder, &open).as_union_value()
        })
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let open = body::read::<wire::Open<'_>>(bytes)?;
        let (partition, incarnation) = (
            partition_of(open.table_id(), open.partition()),
            ReplicaIncarnation(open.incarnation()),
        );
        if open.checkpoint() {
            return Ok(Self::Checkpoint {
                partition,
                incarnation,
            });
        }
        let more = open.more().unwrap_or_default();
        if more.len() >= RANGES_MAX {
            return Err(FrameError::Content("logs of too many replicas at once"));
        }
        let first = SuffixRange {
            partition,
            incarnation,
            after: Decree(open.after()),
            up_to: Decree(open.up_to()),
        };
        let ranges: Vec<SuffixRange> = std::iter::once(first)
            .chain(more.iter().map(of_wire))
            .collect();
        if ranges.iter().any(|range| range.after > range.up_to) {
            return Err(FrameError::Content("the range of decrees is backwards"));
        }
        let partitions: BTreeSet<PartitionId> =
            ranges.iter().map(|range| range.partition).collect();
        if partitions.len() < ranges.len() {
            return Err(FrameError::Content("a partition is asked for twice"));
        }
        Ok(Self::Log(ranges))
    }
}

const fn partition_of(table: u32, index: u32) -> PartitionId {
    PartitionId {
        table: TableId(table),
        index,
    }
}

fn to_wire(range: &SuffixRange) -> wire::LogRange {
    wire::LogRange::new(
        range.partition.table.0,
        range.partition.index,
        range.incarnation.0,
        range.after.0,
        range.up_to.0,
    )
}

fn of_wire(range: &wire::LogRange) -> SuffixRange {
    SuffixRange {
        partition: partition_of(range.table_id(), range.partition()),
        incarnation: ReplicaIncarnation(range.incarnation()),
        after: Decree(range.after()),
        up_to: Decree(range.up_to()),
    }
}

impl Manifest {
    pub(super) fn encode(&self) -> Vec<u8> {
        finished(|builder| {
            let files: Vec<_> = self
                .files
                .iter()
                .map(|file| {
                    let name = Some(builder.create_string(&file.name));
                    let bytes = file.bytes;
                    wire::File::create(builder, &wire::FileArgs { name, bytes })
                })
                .collect();
            let arguments = wire::ManifestArgs {
                decree: self.decree.0,
                ballot: self.ballot.0,
                files: Some(builder.create_vector(&files)),
            };
            wire::Manifest::create(builder, &arguments).as_union_value()
        })
    }

    /// # Errors
    /// Also if a name could lead out of the directory it is stored in.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let manifest = body::read::<wire::Manifest<'_>>(bytes)?;
        let listed = manifest.files().unwrap_or_default();
        if listed.len() > FILES_MAX {
            return Err(FrameError::Content("too many files"));
        }
        let files = listed.iter().map(|file| {
            let name = file.name().filter(|name| is_plain(name));
            let name = name.ok_or(FrameError::Content("not a plain file name"))?;
            Ok(ManifestFile {
                name: name.to_owned(),
                bytes: file.bytes(),
            })
        });
        Ok(Self {
            decree: Decree(manifest.decree()),
            ballot: Ballot(manifest.ballot()),
            files: files.collect::<Result<_, FrameError>>()?,
        })
    }
}

/// The request for one file from an offset on.
pub(super) fn encode_fetch(name: &str, offset: u64) -> Vec<u8> {
    finished(|builder| {
        let name = Some(builder.create_string(name));
        wire::Fetch::create(builder, &wire::FetchArgs { name, offset }).as_union_value()
    })
}

pub(super) fn decode_fetch(bytes: &[u8]) -> Result<(String, u64), FrameError> {
    let fetch = body::read::<wire::Fetch<'_>>(bytes)?;
    Ok((fetch.name().unwrap_or_default().to_owned(), fetch.offset()))
}

impl Chunk {
    pub(super) fn encode(&self) -> std::io::Result<Vec<u8>> {
        let (raw_bytes, data) = pack(&self.data)?;
        Ok(finished(|builder| {
            let arguments = wire::ChunkArgs {
                offset: self.offset,
                raw_bytes,
                data: Some(builder.create_vector(&data)),
            };
            wire::Chunk::create(builder, &arguments).as_union_value()
        }))
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let chunk = body::read::<wire::Chunk<'_>>(bytes)?;
        Ok(Self {
            offset: chunk.offset(),
            data: unpack(chunk.raw_bytes(), body::bytes(chunk.data()))?,
        })
    }
}

impl Entries {
    pub(super) fn encode(&self) -> std::io::Result<Vec<u8>> {
        let (raw_bytes, data) = pack(&encode_entries(&self.entries))?;
        let partition = self.partition.unwrap_or(partition_of(0, 0));
        Ok(finished(|builder| {
            let missing = self.missing.as_ref();
            let arguments = wire::EntriesArgs {
                raw_bytes,
                data: Some(builder.create_vector(&data)),
                committed: self.committed.0,
                is_last: self.is_last,
                table_id: partition.table.0,
                partition: partition.index,
                missing: missing.map(|missing| builder.create_string(missing)),
            };
            wire::Entries::create(builder, &arguments).as_union_value()
        }))
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let piece = body::read::<wire::Entries<'_>>(bytes)?;
        let raw = unpack(piece.raw_bytes(), body::bytes(piece.data()))?;
        let partition = partition_of(piece.table_id(), piece.partition());
        Ok(Self {
            // Tables are numbered from 1.
            partition: (partition.table != TableId(0)).then_some(partition),
            entries: decode_entries(&raw)?,
            committed: Decree(piece.committed()),
            is_last: piece.is_last(),
            missing: piece.missing().map(str::to_owned),
        })
    }
}

fn encode_entries(entries: &[Entry]) -> Vec<u8> {
    finished(|builder| {
        let list: Vec<_> = entries
            .iter()
            .map(|entry| {
                let payload = Some(builder.create_vector(&entry.mutation.payload));
                let arguments = wire::EntryArgs {
                    ballot: entry.ballot.0,
                    decree: entry.decree.0,
                    timestamp_us: entry.mutation.timestamp_us,
                    request_client: entry.mutation.request_id.client,
                    request_sequence: entry.mutation.request_id.sequence,
                    payload,
                };
                wire::Entry::create(builder, &arguments)
            })
            .collect();
        let entries = Some(builder.create_vector(&list));
        wire::EntryList::create(builder, &wire::EntryListArgs { entries }).as_union_value()
    })
}

/// Entries that follow one another.
fn decode_entries(raw: &[u8]) -> Result<Vec<Entry>, FrameError> {
    let list = body::read::<wire::EntryList<'_>>(raw)?;
    let entries: Vec<Entry> = list
        .entries()
        .unwrap_or_default()
        .iter()
        .map(|entry| Entry {
            ballot: Ballot(entry.ballot()),
            decree: Decree(entry.decree()),
            mutation: Mutation {
                timestamp_us: entry.timestamp_us(),
                request_id: RequestId {
                    client: entry.request_client(),
                    sequence: entry.request_sequence(),
                },
                payload: bytes::Bytes::copy_from_slice(body::bytes(entry.payload())),
            },
        })
        .collect();
    let is_in_order =
        entries.is_sorted_by(|one, two| one.decree.0.checked_add(1) == Some(two.decree.0));
    if is_in_order {
        Ok(entries)
    } else {
        Err(FrameError::Content("the entries do not follow one another"))
    }
}

fn pack(raw: &[u8]) -> std::io::Result<(u32, Vec<u8>)> {
    let raw_bytes = u32::try_from(raw.len()).map_err(std::io::Error::other)?;
    let mut data = vec![0; zstd_safe::compress_bound(raw.len())];
    let length = zstd_safe::compress(&mut data[..], raw, ZSTD_LEVEL)
        .map_err(|code| std::io::Error::other(zstd_safe::get_error_name(code)))?;
    data.truncate(length);
    Ok((raw_bytes, data))
}

fn unpack(raw_bytes: u32, data: &[u8]) -> Result<Vec<u8>, FrameError> {
    let expected = raw_bytes as usize;
    if expected > RAW_BYTES_MAX {
        return Err(FrameError::Content(
            "a piece unpacks to more than is allowed",
        ));
    }
    let mut raw = vec![0; expected];
    let length = zstd_safe::decompress(&mut raw[..], data)
        .map_err(|_| FrameError::Content("a piece cannot be unpacked"))?;
    if length == expected {
        Ok(raw)
    } else {
        Err(FrameError::Content(
            "a piece unpacks to another length than it says",
        ))
    }
}

/// A name without a path.
fn is_plain(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=255).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('.')
}

fn finished(
    write: impl FnOnce(
        &mut FlatBufferBuilder<'static>,
    )
        -> pegasus_fbs::flatbuffers::WIPOffset<pegasus_fbs::flatbuffers::UnionWIPOffset>,
) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let root = write(&mut builder);
    builder.finish(root, None);
    builder.finished_data().to_vec()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn entry(decree: u64) -> Entry {
        Entry {
            ballot: Ballot(7),
            decree: Decree(decree),
            mutation: Mutation {
                timestamp_us: 1,
                request_id: RequestId {
                    client: 2,
                    sequence: 3,
                },
                payload: bytes::Bytes::from(vec![4; 100]),
            },
        }
    }

    fn ranges(count: u32) -> Vec<SuffixRange> {
        let range = |index| SuffixRange {
            partition: partition_of(1, index),
            incarnation: ReplicaIncarnation(u64::from(index) + 7),
            after: Decree(3),
            up_to: Decree(9),
        };
        (0..count).map(range).collect()
    }

    #[test]
    fn too_many_ranges_or_one_twice_or_backwards_are_refused() {
        assert!(Open::decode(&Open::Log(ranges(1025)).encode()).is_err());
        let mut twice = ranges(3);
        twice[2].partition = twice[0].partition;
        assert!(Open::decode(&Open::Log(twice).encode()).is_err());
        let mut backwards = ranges(3);
        backwards[2].up_to = Decree(2);
        assert!(Open::decode(&Open::Log(backwards).encode()).is_err());
    }

    #[test]
    fn frames_read_back_as_they_were_written() {
        let partition = PartitionId {
            table: TableId(1),
            index: 2,
        };
        let checkpoint = Open::Checkpoint {
            partition,
            incarnation: ReplicaIncarnation(5),
        };
        for open in [checkpoint, Open::Log(ranges(1)), Open::Log(ranges(1024))] {
            let bytes = open.encode();
            assert!(bytes.len() <= 64 << 10, "{} bytes", bytes.len());
            assert_eq!(Open::decode(&bytes).unwrap(), open);
        }
        let manifest = Manifest {
            decree: Decree(8),
            ballot: Ballot(2),
            files: vec![ManifestFile {
                name: "000012.sst".to_owned(),
                bytes: 77,
            }],
        };
        assert_eq!(Manifest::decode(&manifest.encode()).unwrap(), manifest);
        let chunk = Chunk {
            offset: 4096,
            data: vec![9; 5000],
        };
        assert_eq!(Chunk::decode(&chunk.encode().unwrap()).unwrap(), chunk);
        for (partition, missing) in [(None, None), (Some(partition), Some("decree 6".to_owned()))] {
            let entries = Entries {
                partition,
                entries: vec![entry(4), entry(5)],
                committed: Decree(4),
                is_last: true,
                missing,
            };
            assert_eq!(
                Entries::decode(&entries.encode().unwrap()).unwrap(),
                entries
            );
        }
        assert_eq!(
            decode_fetch(&encode_fetch("a.sst", 5)).unwrap(),
            ("a.sst".to_owned(), 5)
        );
    }

    #[test]
    fn names_that_lead_elsewhere_and_gaps_are_refused() {
        for name in ["../a", "/etc/passwd", "a/b", "", ".hidden", "a\0b"] {
            let manifest = Manifest {
                decree: Decree(1),
                ballot: Ballot(1),
                files: vec![ManifestFile {
                    name: name.to_owned(),
                    bytes: 1,
                }],
            };
            assert!(Manifest::decode(&manifest.encode()).is_err(), "{name:?}");
        }
        let gap = Entries {
            partition: None,
            entries: vec![entry(4), entry(6)],
            committed: Decree(4),
            is_last: false,
            missing: None,
        };
        assert!(Entries::decode(&gap.encode().unwrap()).is_err());
    }

    #[test]
    fn a_piece_that_lies_about_its_length_is_refused() {
        let (_, data) = pack(&[1; 1000]).unwrap();
        assert!(unpack(999, &data).is_err());
        assert!(unpack(1001, &data).is_err());
        assert!(unpack(u32::MAX, &data).is_err());
        assert!(unpack(1000, &data[1..]).is_err());
    }
}

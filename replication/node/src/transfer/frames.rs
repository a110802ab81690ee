//! Frames of transfers: bytes <-> structs. Whatever arrives is checked; sizes are bounded before memory is taken.

use pegasus_fbs::body::{self, BodyError, FailureBody};
use pegasus_fbs::code::Code;
use pegasus_fbs::flatbuffers::FlatBufferBuilder;
use pegasus_fbs::frame::{Frame, FrameKind};
use pegasus_fbs::transfer as wire;
use pegasus_replication::ids::{
    Ballot, Decree, PartitionId, ReplicaIncarnation, RequestId, TableId,
};
use pegasus_replication::message::{Entry, Mutation};

/// Most bytes that one frame may unpack to: a piece of the log is about a MiB and may end in a mutation of 4 MiB.
pub(super) const RAW_BYTES_MAX: usize = 16 << 20;
/// Files of one checkpoint.
const FILES_MAX: usize = 100_000;
/// Fast, and about as good as higher ones for what is compressed in the files already.
const ZSTD_LEVEL: i32 = 1;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) partition: PartitionId,
    /// Of the replica that is read.
    pub(super) incarnation: ReplicaIncarnation,
    /// `None`: a checkpoint; else the entries behind the first decree, up to the second.
    pub(super) log: Option<(Decree, Decree)>,
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

/// A part of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entries {
    pub(super) entries: Vec<Entry>,
    pub(super) committed: Decree,
    pub(super) is_last: bool,
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
        let (after, up_to) = self.log.unwrap_or_default();
        let arguments = wire::OpenArgs {
            table_id: self.partition.table.0,
            partition: self.partition.index,
            incarnation: self.incarnation.0,
            checkpoint: self.log.is_none(),
            after: after.0,
            up_to: up_to.0,
        };
        finished(|builder| wire::Open::create(builder, &arguments).as_union_value())
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let open = body::read::<wire::Open<'_>>(bytes)?;
        let range = (Decree(open.after()), Decree(open.up_to()));
        if range.0 > range.1 {
            return Err(FrameError::Content("the range of decrees is backwards"));
        }
        Ok(Self {
            partition: PartitionId {
                table: TableId(open.table_id()),
                index: open.partition(),
            },
            incarnation: ReplicaIncarnation(open.incarnation()),
            log: (!open.checkpoint()).then_some(range),
        })
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
        Ok(finished(|builder| {
            let arguments = wire::EntriesArgs {
                raw_bytes,
                data: Some(builder.create_vector(&data)),
                committed: self.committed.0,
                is_last: self.is_last,
            };
            wire::Entries::create(builder, &arguments).as_union_value()
        }))
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let piece = body::read::<wire::Entries<'_>>(bytes)?;
        let raw = unpack(piece.raw_bytes(), body::bytes(piece.data()))?;
        Ok(Self {
            entries: decode_entries(&raw)?,
            committed: Decree(piece.committed()),
            is_last: piece.is_last(),
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

    #[test]
    fn frames_read_back_as_they_were_written() {
        let partition = PartitionId {
            table: TableId(1),
            index: 2,
        };
        for log in [None, Some((Decree(3), Decree(9)))] {
            let open = Open {
                partition,
                incarnation: ReplicaIncarnation(5),
                log,
            };
            assert_eq!(Open::decode(&open.encode()).unwrap(), open);
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
        let entries = Entries {
            entries: vec![entry(4), entry(5)],
            committed: Decree(4),
            is_last: true,
        };
        assert_eq!(
            Entries::decode(&entries.encode().unwrap()).unwrap(),
            entries
        );
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
            entries: vec![entry(4), entry(6)],
            committed: Decree(4),
            is_last: false,
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

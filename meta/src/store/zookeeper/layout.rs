//! Znodes of the store: their paths, and the bytes in them (`docs/formats.md`, Znodes of meta).

use super::super::StoreError;
use super::super::format::{FORMAT, FileHeader, FileKind, HEADER_BYTES, HeaderError};
use crate::state::ClusterId;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// The version of the layout, in the head.
pub(super) const LAYOUT: u16 = 1;
/// Bytes of a record in one znode. A server takes packets of 1 MiB unless it is told otherwise (`jute.maxbuffer`).
pub(super) const PART_BYTES: usize = 512 << 10;
/// Of one record: enough for any that [`super::super::format::encode_record`] makes.
const PARTS_MAX: u32 = 4_096;
/// After the file header: part, parts, CRC32C of the payload.
const PART_HEADER_BYTES: usize = HEADER_BYTES + 12;

/// Where the store is: an absolute path, whose last name is the cluster's by default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root(String);

impl Root {
    /// # Errors
    /// The path is not an absolute one of znodes, in a sentence.
    pub fn new(path: &str) -> Result<Self, String> {
        let names = path.strip_prefix('/').map(|rest| rest.split('/'));
        let is_name = |name: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
            !name.is_empty() && name != "." && name != ".." && name.bytes().all(allowed)
        };
        let fits = path.len() <= 512
            && !path.starts_with("/zookeeper")
            && names.is_some_and(|mut names| names.all(is_name));
        if fits {
            Ok(Self(path.to_owned()))
        } else {
            Err(format!(
                "{path:?} is not a path of znodes such as /pegasus/main: names of [a-zA-Z0-9_.:-], not below /zookeeper"
            ))
        }
    }

    /// The path itself.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.0
    }

    /// Names what is valid, and fences: each write checks its version.
    pub(super) fn head(&self) -> String {
        format!("{}/head", self.0)
    }

    pub(super) fn election(&self) -> String {
        format!("{}/election", self.0)
    }

    pub(super) fn directory(&self, kind: FileKind) -> String {
        let name = match kind {
            FileKind::Snapshot => "snapshots",
            _ => "batches",
        };
        format!("{}/{name}", self.0)
    }

    pub(super) fn part(&self, kind: FileKind, sequence: u64, part: u32) -> String {
        format!("{}/{}", self.directory(kind), part_name(sequence, part))
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn part_name(sequence: u64, part: u32) -> String {
    format!("{sequence:016x}-{part:04x}")
}

/// The record that a znode of this name belongs to; `None`: it is none of ours.
pub(super) fn sequence_of(name: &str) -> Option<u64> {
    let (sequence, part) = name.split_once('-')?;
    let number = u64::from_str_radix(sequence, 16).ok()?;
    let part = u32::from_str_radix(part, 16).ok()?;
    (part_name(number, part) == name).then_some(number)
}

/// What is valid: the snapshot of `snapshot`, and the batches after it that come before `next`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) cluster: ClusterId,
    pub(super) name: String,
    /// Grown by whoever begins to lead, so that no two leaders write the same head.
    pub(super) term: u64,
    /// The last batch in the snapshot.
    pub(super) snapshot: u64,
    /// The next batch to be written.
    pub(super) next: u64,
}

/// As people see it with `zkCli.sh get`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadText {
    format: u16,
    cluster: String,
    name: String,
    term: u64,
    snapshot: u64,
    next: u64,
    crc32c: String,
}

impl Head {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut text = HeadText {
            format: LAYOUT,
            cluster: self.cluster.to_string(),
            name: self.name.clone(),
            term: self.term,
            snapshot: self.snapshot,
            next: self.next,
            crc32c: String::new(),
        };
        text.crc32c = checksum(&text);
        serde_json::to_vec(&text).expect("numbers and names are always JSON")
    }

    pub(super) fn decode(path: &str, bytes: &[u8]) -> Result<Self, StoreError> {
        let bad = |fault: &str| corrupt(path, 0, fault);
        // The version first: a later one may have other fields.
        #[derive(Deserialize)]
        struct Version {
            format: u16,
        }
        let version: Version =
            serde_json::from_slice(bytes).map_err(|_| bad("it is not the head of a meta store"))?;
        if version.format != LAYOUT {
            return Err(StoreError::Format {
                path: path.into(),
                found: version.format,
                known: LAYOUT,
            });
        }
        let mut text: HeadText =
            serde_json::from_slice(bytes).map_err(|_| bad("it is not the head of a meta store"))?;
        let crc32c = std::mem::take(&mut text.crc32c);
        if checksum(&text) != crc32c {
            return Err(bad("checksum mismatch"));
        }
        let cluster = u128::from_str_radix(&text.cluster, 16).ok();
        let cluster = cluster.filter(|id| *id != 0).map(ClusterId);
        let cluster = cluster.ok_or_else(|| bad("it names no cluster"))?;
        if text.next <= text.snapshot {
            return Err(bad("its next batch is older than its snapshot"));
        }
        Ok(Self {
            cluster,
            name: text.name,
            term: text.term,
            snapshot: text.snapshot,
            next: text.next,
        })
    }
}

/// Of everything else in it.
fn checksum(text: &HeadText) -> String {
    let bytes = serde_json::to_vec(text).expect("numbers and names are always JSON");
    format!("{:08x}", crc32c::crc32c(&bytes))
}

/// The znodes of one record, in order.
pub(super) fn split(
    kind: FileKind,
    cluster: ClusterId,
    sequence: u64,
    record: &[u8],
) -> Option<Vec<Vec<u8>>> {
    let header = FileHeader {
        format: FORMAT,
        kind,
        cluster,
        sequence,
    };
    let payloads: Vec<&[u8]> = record.chunks(PART_BYTES).collect();
    let count = u32::try_from(payloads.len()).ok()?;
    let parts = (0..count).zip(payloads).map(|(part, payload)| {
        let mut bytes = header.encode().to_vec();
        bytes.extend(part.to_le_bytes());
        bytes.extend(count.to_le_bytes());
        bytes.extend(crc32c::crc32c(payload).to_le_bytes());
        bytes.extend(payload);
        bytes
    });
    (count <= PARTS_MAX).then(|| parts.collect())
}

/// One znode of a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part<'a> {
    pub(super) format: u16,
    /// How many there are.
    pub(super) count: u32,
    pub(super) payload: &'a [u8],
}

/// The part that `bytes` at `path` must be.
pub(super) fn decode_part<'a>(
    path: &str,
    bytes: &'a [u8],
    (kind, cluster, sequence, index): (FileKind, ClusterId, u64, u32),
) -> Result<Part<'a>, StoreError> {
    let header = FileHeader::decode(bytes).map_err(|error| match error {
        HeaderError::Format(found) => StoreError::Format {
            path: path.into(),
            found,
            known: FORMAT,
        },
        HeaderError::Bad(fault) => corrupt(path, 0, fault),
    })?;
    if header.cluster != cluster {
        return Err(StoreError::ForeignCluster {
            path: path.into(),
            found: header.cluster,
            expected: cluster,
        });
    }
    if header.kind != kind || header.sequence != sequence {
        let fault = "the header says another kind or number than the znode's name";
        return Err(corrupt(path, 0, fault));
    }
    let (head, payload) = bytes
        .split_at_checked(PART_HEADER_BYTES)
        .ok_or_else(|| corrupt(path, HEADER_BYTES, "shorter than its header"))?;
    let number = |at: usize| {
        let field = head.get(at..).and_then(<[u8]>::first_chunk);
        field.map_or(0, |it| u32::from_le_bytes(*it))
    };
    let (part, count) = (number(HEADER_BYTES), number(HEADER_BYTES + 4));
    if part != index || part >= count || count > PARTS_MAX {
        let fault = "it is another part than its name says";
        return Err(corrupt(path, HEADER_BYTES, fault));
    }
    if number(HEADER_BYTES + 8) != crc32c::crc32c(payload) {
        return Err(corrupt(path, PART_HEADER_BYTES, "checksum mismatch"));
    }
    Ok(Part {
        format: header.format,
        count,
        payload,
    })
}

pub(super) fn corrupt(path: &str, offset: usize, fault: &str) -> StoreError {
    StoreError::Corrupt {
        path: PathBuf::from(path),
        offset: offset as u64,
        fault: fault.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    const CLUSTER: ClusterId = ClusterId(0xabc);

    fn head() -> Head {
        Head {
            cluster: CLUSTER,
            name: "main".to_owned(),
            term: 3,
            snapshot: 41,
            next: 45,
        }
    }

    #[test]
    fn the_head_comes_back_and_every_changed_byte_is_refused() {
        let bytes = head().encode();
        assert_eq!(Head::decode("/p/head", &bytes).unwrap(), head());
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(Head::decode("/p/head", &bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_head_of_a_later_program_is_refused_with_its_version() {
        let later = br#"{"format":2,"anything":[]}"#;
        let error = Head::decode("/p/head", later).unwrap_err();
        assert!(
            matches!(
                error,
                StoreError::Format {
                    found: 2,
                    known: 1,
                    ..
                }
            ),
            "{error}"
        );
        assert!(Head::decode("/p/head", b"hello").is_err());
        assert!(Head::decode("/p/head", b"").is_err());
    }

    #[test]
    fn a_long_record_is_split_and_every_part_is_checked_by_itself() {
        let record: Vec<u8> = (0..PART_BYTES * 2 + 7)
            .map(|it| it.to_le_bytes()[0])
            .collect();
        let parts = split(FileKind::Log, CLUSTER, 9, &record).unwrap();
        assert_eq!(parts.len(), 3);
        let mut joined: Vec<u8> = Vec::new();
        for (index, bytes) in (0u32..).zip(&parts) {
            assert!(bytes.len() < 1 << 20);
            let wanted = (FileKind::Log, CLUSTER, 9, index);
            let part = decode_part("/p", bytes, wanted).unwrap();
            assert_eq!((part.count, part.format), (3, FORMAT));
            joined.extend(part.payload);
            let refused = |wanted| decode_part("/p", bytes, wanted).unwrap_err().to_string();
            assert!(refused((FileKind::Snapshot, CLUSTER, 9, index)).contains("another kind"));
            assert!(refused((FileKind::Log, CLUSTER, 10, index)).contains("another kind"));
            assert!(refused((FileKind::Log, CLUSTER, 9, index + 1)).contains("another part"));
            assert!(
                refused((FileKind::Log, ClusterId(1), 9, index)).contains("belongs to cluster")
            );
            let mut bad = bytes.clone();
            *bad.last_mut().unwrap() ^= 1;
            let error = decode_part("/p", &bad, wanted).unwrap_err().to_string();
            assert!(
                error.contains("/p: corrupt at byte 60: checksum mismatch"),
                "{error}"
            );
            assert!(decode_part("/p", &bytes[..50], wanted).is_err());
        }
        assert_eq!(joined, record);
    }

    #[test]
    fn names_of_znodes_come_back_as_numbers_and_others_do_not() {
        assert_eq!(sequence_of("000000000000002a-0003"), Some(42));
        for other in [
            "2a-3",
            "head",
            "000000000000002A-0003",
            "-",
            "000000000000002a-0003x",
        ] {
            assert_eq!(sequence_of(other), None, "{other}");
        }
    }

    #[test]
    fn roots_are_absolute_paths_of_plain_names() {
        assert!(Root::new("/pegasus/main").is_ok());
        for bad in [
            "",
            "/",
            "pegasus",
            "/a//b",
            "/a/",
            "/a/../b",
            "/a b",
            "/zookeeper/x",
        ] {
            assert!(Root::new(bad).is_err(), "{bad}");
        }
    }
}

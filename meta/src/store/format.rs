//! Byte layouts of the store. All integers little-endian; version [`FORMAT`]. Files of formats 1 to 4 are read as well: they
//! had fewer kinds of changes. A store is brought to the newest format when it is opened.
//!
//! File header, 48 bytes:
//!
//! | offset | size | field | |
//! |---|---|---|---|
//! | 0 | 8 | magic | `PGSMETA` and a zero |
//! | 8 | 2 | format | 5 |
//! | 10 | 1 | kind | 1 snapshot, 2 log; of a member of a group: 3 snapshot, 4 log, 5 who it is |
//! | 11 | 5 | reserved | 0 |
//! | 16 | 16 | cluster id | |
//! | 32 | 8 | sequence | snapshot: the last batch in it; log: the first batch that it may hold |
//! | 40 | 4 | reserved | 0 |
//! | 44 | 4 | crc | CRC32C of the 44 bytes before |
//!
//! Then records, 16 bytes and a payload each; a snapshot holds exactly one:
//!
//! | offset | size | field | |
//! |---|---|---|---|
//! | 0 | 4 | length | of the payload, at most [`RECORD_BYTES_MAX`] |
//! | 4 | 4 | crc | CRC32C of the cluster id, the length, the sequence and the payload |
//! | 8 | 8 | sequence | of this batch; grows by 1 |
//! | 16 | | payload | the batch: number of changes (4), then each: kind (1) and its fields ([`mod@change`]) |

mod backup;
pub mod change;

use crate::state::{Change, ClusterId};

/// The version that is written.
pub const FORMAT: u16 = 5;
/// The oldest version that is read.
pub const FORMAT_MIN: u16 = 1;
pub const HEADER_BYTES: usize = 48;
pub const RECORD_HEADER_BYTES: usize = 16;
/// A batch, or a snapshot, is at most this long.
pub const RECORD_BYTES_MAX: usize = 1 << 30;

/// No cluster lives to see this batch; numbers in files stay below it, so that counting on never runs over.
const SEQUENCE_MAX: u64 = u64::MAX >> 1;

const MAGIC: [u8; 8] = *b"PGSMETA\0";

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    Snapshot,
    Log,
    GroupSnapshot,
    GroupLog,
    GroupMember,
}

impl FileKind {
    const ALL: [Self; 5] = [
        Self::Snapshot,
        Self::Log,
        Self::GroupSnapshot,
        Self::GroupLog,
        Self::GroupMember,
    ];

    const fn number(self) -> u8 {
        match self {
            Self::Snapshot => 1,
            Self::Log => 2,
            Self::GroupSnapshot => 3,
            Self::GroupLog => 4,
            Self::GroupMember => 5,
        }
    }
}

/// The start of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// [`FORMAT`] in what is written.
    pub format: u16,
    pub kind: FileKind,
    pub cluster: ClusterId,
    pub sequence: u64,
}

/// Why the start of a file is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// Of a later program.
    Format(u16),
    Bad(&'static str),
}

impl FileHeader {
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&self.format.to_le_bytes());
        bytes[10] = self.kind.number();
        bytes[16..32].copy_from_slice(&self.cluster.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.sequence.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..44]);
        bytes[44..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// # Errors
    /// The bytes are not the header of a file that this program knows.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(HeaderError::Bad("shorter than a header"));
        };
        if bytes[..8] != MAGIC {
            return Err(HeaderError::Bad("not a file of meta"));
        }
        let format = u16::from_le_bytes([bytes[8], bytes[9]]);
        if !(FORMAT_MIN..=FORMAT).contains(&format) {
            return Err(HeaderError::Format(format));
        }
        if crc32c::crc32c(&bytes[..44]) != le_u32(&bytes[44..]) {
            return Err(HeaderError::Bad("header checksum mismatch"));
        }
        let kind = FileKind::ALL
            .into_iter()
            .find(|kind| kind.number() == bytes[10]);
        let kind = kind.ok_or(HeaderError::Bad("unknown kind of file"))?;
        let sequence = le_u64(&bytes[32..]);
        if sequence > SEQUENCE_MAX {
            return Err(HeaderError::Bad("its number is higher than any batch has"));
        }
        let cluster = ClusterId::from_halves(le_u64(&bytes[24..]), le_u64(&bytes[16..]));
        Ok(Self {
            format,
            kind,
            cluster,
            sequence,
        })
    }
}

/// One record: a batch of changes. `None` if it would be over [`RECORD_BYTES_MAX`].
#[must_use]
pub fn encode_record(cluster: ClusterId, sequence: u64, changes: &[Change]) -> Option<Vec<u8>> {
    seal_record(cluster, sequence, |bytes| {
        change::encode_batch(changes, bytes)
    })
}

/// One record with the payload that `put` appends. `None` if it would be over [`RECORD_BYTES_MAX`].
#[must_use]
pub fn seal_record(
    cluster: ClusterId,
    sequence: u64,
    put: impl FnOnce(&mut Vec<u8>),
) -> Option<Vec<u8>> {
    let mut bytes = vec![0; RECORD_HEADER_BYTES];
    put(&mut bytes);
    let length = u32::try_from(bytes.len() - RECORD_HEADER_BYTES)
        .ok()
        .filter(|&it| it as usize <= RECORD_BYTES_MAX)?;
    let crc = record_crc(cluster, length, sequence, &bytes[RECORD_HEADER_BYTES..]);
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    bytes[8..16].copy_from_slice(&sequence.to_le_bytes());
    Some(bytes)
}

/// A record whose checksum holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub sequence: u64,
    pub payload: &'a [u8],
}

impl Record<'_> {
    /// Bytes in the file, header included.
    #[must_use]
    pub const fn total_bytes(&self) -> usize {
        RECORD_HEADER_BYTES + self.payload.len()
    }
}

/// The record at the start of `bytes`; `None` if it is cut short or its checksum does not hold.
#[must_use]
pub fn decode_record(cluster: ClusterId, bytes: &[u8]) -> Option<Record<'_>> {
    let (header, rest) = bytes.split_at_checked(RECORD_HEADER_BYTES)?;
    let length = le_u32(header);
    let payload = rest.get(..usize::try_from(length).ok()?)?;
    let sequence = le_u64(&header[8..]);
    let holds = record_crc(cluster, length, sequence, payload) == le_u32(&header[4..]);
    holds.then_some(Record { sequence, payload })
}

fn record_crc(cluster: ClusterId, length: u32, sequence: u64, payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&cluster.0.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &length.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &sequence.to_le_bytes());
    crc32c::crc32c_append(crc, payload)
}

/// The first four bytes; the caller knows that they are there.
fn le_u32(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |it| u32::from_le_bytes(*it))
}

fn le_u64(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |it| u64::from_le_bytes(*it))
}

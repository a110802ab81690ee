//! One record at the end of a RocksDB `MANIFEST`: table files that belong to its default column family.
//!
//! RocksDB itself can only take files in by giving them new sequence numbers or a new column family; a directory for others
//! to read needs neither, just a list that names the files as they are. The format is that of RocksDB's write-ahead logs
//! (blocks of 32 KiB, records with masked CRC32C) around its version edits, and has not changed since version 2.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

const BLOCK_BYTES: usize = 32 << 10;
/// Checksum, length, kind.
const HEADER_BYTES: usize = 4 + 2 + 1;

const KIND_FULL: u8 = 1;
const KIND_FIRST: u8 = 2;
const KIND_MIDDLE: u8 = 3;
const KIND_LAST: u8 = 4;

const TAG_NEXT_FILE: u32 = 3;
const TAG_LAST_SEQUENCE: u32 = 4;
const TAG_NEW_FILE: u32 = 100;

/// Sequence numbers that the database around the files has used itself, at most: those in its list never go back.
const OWN_SEQUENCES: u64 = 100;

/// What RocksDB adds to a rotated checksum, so that checksums of data with checksums in it stay good.
const MASK: u32 = 0xa282_ead8;

/// A table file as the list has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ListedFile {
    pub(super) number: u64,
    pub(super) bytes: u64,
    pub(super) level: u32,
    pub(super) smallest_key: Vec<u8>,
    pub(super) largest_key: Vec<u8>,
    pub(super) smallest_sequence: u64,
    pub(super) largest_sequence: u64,
}

/// Appends `files` to the list in `manifest`, whose database must be closed. Not flushed to the drive.
///
/// # Errors
/// What the file system said.
pub(super) fn append(manifest: &Path, files: &[ListedFile]) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(manifest)?;
    let length = file.metadata()?.len();
    let offset = usize::try_from(length % BLOCK_BYTES as u64).unwrap_or(0);
    file.write_all(&records(&edit(files), offset))
}

/// The version edit: each file, then numbers beyond all of theirs.
fn edit(files: &[ListedFile]) -> Vec<u8> {
    let mut edit = Vec::new();
    let next = files.iter().map(|file| file.number + 1).max();
    let last = files.iter().map(|file| file.largest_sequence).max();
    put_varint(&mut edit, TAG_NEXT_FILE.into());
    put_varint(&mut edit, next.unwrap_or(1));
    put_varint(&mut edit, TAG_LAST_SEQUENCE.into());
    put_varint(&mut edit, last.unwrap_or(0).max(OWN_SEQUENCES));
    for file in files {
        put_varint(&mut edit, TAG_NEW_FILE.into());
        put_varint(&mut edit, file.level.into());
        put_varint(&mut edit, file.number);
        put_varint(&mut edit, file.bytes);
        // Versions of one key lie in one file of a level, so bounds that are wider than the file's own first and last
        // version do not make neighbours overlap. In RocksDB's order the newest version of a key comes first.
        put_internal_key(&mut edit, &file.smallest_key, file.largest_sequence, 1);
        put_internal_key(&mut edit, &file.largest_key, 0, 0);
        put_varint(&mut edit, file.smallest_sequence);
        put_varint(&mut edit, file.largest_sequence);
    }
    edit
}

/// Key, then sequence number and kind of value in one little-endian number.
fn put_internal_key(out: &mut Vec<u8>, key: &[u8], sequence: u64, kind: u64) {
    put_varint(out, key.len() as u64 + 8);
    out.extend_from_slice(key);
    out.extend_from_slice(&(sequence << 8 | kind).to_le_bytes());
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while let Some(low) = u8::try_from(value & 0x7f).ok().filter(|_| value > 0x7f) {
        out.push(low | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).expect("the loop leaves seven bits"));
}

/// `payload` as records of a log that is `offset` bytes into a block.
fn records(payload: &[u8], offset: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 64);
    let (mut rest, mut at, mut is_first) = (payload, offset, true);
    loop {
        let room = BLOCK_BYTES - at;
        if room < HEADER_BYTES {
            out.resize(out.len() + room, 0);
            at = 0;
            continue;
        }
        let (piece, after) = rest.split_at(rest.len().min(room - HEADER_BYTES));
        let kind = match (is_first, after.is_empty()) {
            (true, true) => KIND_FULL,
            (true, false) => KIND_FIRST,
            (false, false) => KIND_MIDDLE,
            (false, true) => KIND_LAST,
        };
        put_record(&mut out, kind, piece);
        if after.is_empty() {
            return out;
        }
        at = (at + HEADER_BYTES + piece.len()) % BLOCK_BYTES;
        (rest, is_first) = (after, false);
    }
}

fn put_record(out: &mut Vec<u8>, kind: u8, piece: &[u8]) {
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&[kind]), piece);
    out.extend_from_slice(&checksum.rotate_right(15).wrapping_add(MASK).to_le_bytes());
    let length = u16::try_from(piece.len()).expect("a piece fits into a block");
    out.extend_from_slice(&length.to_le_bytes());
    out.push(kind);
    out.extend_from_slice(piece);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The inverse of [`records`], as RocksDB reads logs.
    fn read(log: &[u8], offset: usize) -> Vec<u8> {
        let (mut payload, mut at, mut position) = (Vec::new(), offset, 0);
        loop {
            if BLOCK_BYTES - at < HEADER_BYTES {
                position += BLOCK_BYTES - at;
                at = 0;
                continue;
            }
            let header = &log[position..position + HEADER_BYTES];
            let checksum = u32::from_le_bytes(header[..4].try_into().unwrap());
            let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
            assert!(at + HEADER_BYTES + length <= BLOCK_BYTES);
            position += HEADER_BYTES;
            let piece = &log[position..position + length];
            let expected = crc32c::crc32c_append(crc32c::crc32c(&header[6..]), piece);
            assert_eq!(
                checksum.wrapping_sub(MASK).rotate_left(15),
                expected,
                "at {position}"
            );
            payload.extend_from_slice(piece);
            position += length;
            at = (at + HEADER_BYTES + length) % BLOCK_BYTES;
            if [KIND_FULL, KIND_LAST].contains(&header[6]) {
                assert_eq!(position, log.len());
                return payload;
            }
        }
    }

    #[test]
    fn numbers_are_written_as_varints() {
        for (value, bytes) in [
            (0, vec![0]),
            (127, vec![127]),
            (128, vec![0x80, 1]),
            (300, vec![0xac, 2]),
        ] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out, bytes);
        }
    }

    #[test]
    fn an_edit_names_numbers_beyond_those_of_its_files() {
        let file = ListedFile {
            number: 9,
            bytes: 5,
            level: 6,
            smallest_key: b"a".to_vec(),
            largest_key: b"b".to_vec(),
            smallest_sequence: 2,
            largest_sequence: 3,
        };
        let mut expected = vec![3, 10, 4, 100, 100, 6, 9, 5, 9, b'a', 1, 3, 0, 0, 0, 0, 0, 0];
        expected.extend([9, b'b', 0, 0, 0, 0, 0, 0, 0, 0, 2, 3]);
        assert_eq!(edit(&[file]), expected);
    }

    proptest! {
        #[test]
        fn records_are_read_back_wherever_in_a_block_they_begin(length in 0_usize..100_000, offset in 0..BLOCK_BYTES) {
            let payload: Vec<u8> = (0..length).map(|at| (at % 251).try_into().unwrap()).collect();
            prop_assert_eq!(read(&records(&payload, offset), offset), payload);
        }
    }
}

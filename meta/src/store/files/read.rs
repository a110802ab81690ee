//! Reads a meta directory, and tells a torn end from damage.

use super::super::StoreError;
use super::super::format::{
    FORMAT, FileHeader, FileKind, HEADER_BYTES, HeaderError, change, decode_record,
};
use super::{at, log_path, numbers, snapshot_path};
use crate::state::{ClusterId, Durable};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// What a directory holds.
pub(super) struct Found {
    pub(super) durable: Durable,
    /// The oldest format of its files.
    pub(super) format: u16,
    pub(super) log: PathBuf,
    pub(super) log_bytes: u64,
    pub(super) next_sequence: u64,
}

/// Reads the newest snapshot and every batch after it.
pub(super) fn read_dir(dir: &Path) -> Result<Found, StoreError> {
    let newest = numbers(dir, FileKind::Snapshot)?.last().copied();
    let last = newest.ok_or_else(|| StoreError::Empty {
        dir: dir.to_owned(),
    })?;
    let (durable, format) = read_snapshot(&snapshot_path(dir, last), last)?;
    let next = last + 1;
    let logs = numbers(dir, FileKind::Log)?;
    let mut found = Found {
        durable,
        format,
        log: log_path(dir, next),
        log_bytes: 0,
        next_sequence: next,
    };
    for (position, &first) in logs.iter().enumerate() {
        let is_last = position + 1 == logs.len();
        if first > found.next_sequence {
            return Err(StoreError::Missing {
                path: log_path(dir, first),
                expected: found.next_sequence,
                found: first,
            });
        }
        read_log(&log_path(dir, first), first, is_last, &mut found)?;
    }
    Ok(found)
}

pub(crate) fn read_all(path: &Path) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .map_err(at(path))?;
    Ok(bytes)
}

fn read_snapshot(path: &Path, last: u64) -> Result<(Durable, u16), StoreError> {
    let bytes = read_all(path)?;
    let header = read_header(path, &bytes, FileKind::Snapshot, last)?;
    let corrupt = |fault: &str| corrupt(path, HEADER_BYTES, fault);
    let record = decode_record(header.cluster, &bytes[HEADER_BYTES..])
        .ok_or_else(|| corrupt("checksum mismatch"))?;
    if record.sequence != last || HEADER_BYTES + record.total_bytes() != bytes.len() {
        return Err(corrupt("its length or number is wrong"));
    }
    let changes = change::decode_batch(record.payload)
        .ok_or_else(|| corrupt("it holds something that is no change"))?;
    let durable = Durable::replay(&changes).map_err(|source| StoreError::Change {
        path: path.to_owned(),
        source,
    })?;
    expect_cluster(path, header.cluster, durable.cluster().id)?;
    Ok((durable, header.format))
}

/// Adds the batches of one log to `found`.
fn read_log(path: &Path, first: u64, is_last: bool, found: &mut Found) -> Result<(), StoreError> {
    let bytes = read_all(path)?;
    found.log = path.to_owned();
    if is_last && bytes.len() < HEADER_BYTES && first == found.next_sequence {
        found.log_bytes = 0;
        return Ok(());
    }
    let header = read_header(path, &bytes, FileKind::Log, first)?;
    found.format = found.format.min(header.format);
    let cluster = found.durable.cluster().id;
    expect_cluster(path, header.cluster, cluster)?;
    let mut offset = HEADER_BYTES;
    let mut sequence = first;
    while let Some(record) = decode_record(cluster, &bytes[offset..]) {
        if record.sequence != sequence {
            return Err(corrupt(
                path,
                offset,
                &format!("batch {} where {sequence} should be", record.sequence),
            ));
        }
        if sequence == found.next_sequence {
            apply_batch(path, offset, record.payload, &mut found.durable)?;
            found.next_sequence += 1;
        }
        sequence += 1;
        offset += record.total_bytes();
    }
    let rest = &bytes[offset..];
    let may_be_torn = is_last && !holds_record_after(cluster, rest, sequence);
    if !rest.is_empty() && !may_be_torn {
        return Err(corrupt(
            path,
            offset,
            "checksum mismatch with valid batches after it",
        ));
    }
    found.log_bytes = offset as u64;
    Ok(())
}

fn apply_batch(
    path: &Path,
    offset: usize,
    payload: &[u8],
    durable: &mut Durable,
) -> Result<(), StoreError> {
    let changes = change::decode_batch(payload);
    let changes =
        changes.ok_or_else(|| corrupt(path, offset, "it holds something that is no change"))?;
    let applied = changes.iter().try_for_each(|change| durable.apply(change));
    applied.map_err(|source| StoreError::Change {
        path: path.to_owned(),
        source,
    })
}

/// Whether a later batch lies anywhere in `bytes`: then what is bad before it was flushed once, since a batch is
/// written only after the one before it was flushed.
pub(crate) fn holds_record_after(cluster: ClusterId, bytes: &[u8], sequence: u64) -> bool {
    let plausible = |at: &usize| {
        let number = bytes
            .get(at + 8..)
            .and_then(|rest| rest.first_chunk().copied())
            .map_or(0, u64::from_le_bytes);
        number > sequence && number - sequence < 1 << 32
    };
    (1..bytes.len())
        .filter(plausible)
        .any(|at| decode_record(cluster, &bytes[at..]).is_some())
}

pub(crate) fn read_header(
    path: &Path,
    bytes: &[u8],
    kind: FileKind,
    sequence: u64,
) -> Result<FileHeader, StoreError> {
    let header = FileHeader::decode(bytes).map_err(|error| match error {
        HeaderError::Format(found) => StoreError::Format {
            path: path.to_owned(),
            found,
            known: FORMAT,
        },
        HeaderError::Bad(fault) => corrupt(path, 0, fault),
    })?;
    if header.kind != kind || header.sequence != sequence {
        return Err(corrupt(
            path,
            0,
            "the header says another kind or number than the file's name",
        ));
    }
    Ok(header)
}

pub(crate) fn expect_cluster(
    path: &Path,
    found: ClusterId,
    expected: ClusterId,
) -> Result<(), StoreError> {
    if found != expected {
        return Err(StoreError::ForeignCluster {
            path: path.to_owned(),
            found,
            expected,
        });
    }
    Ok(())
}

pub(crate) fn corrupt(path: &Path, offset: usize, fault: &str) -> StoreError {
    StoreError::Corrupt {
        path: path.to_owned(),
        offset: offset as u64,
        fault: fault.to_owned(),
    }
}

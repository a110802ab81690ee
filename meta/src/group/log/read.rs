//! Reads a member's log, and tells a torn end from damage.

use super::super::codec::{Take, take_entries};
use super::super::raft::{LogId, Vote};
use super::{
    CUT, ENTRIES, FILE_BYTES_MAX, Files, LogFile, Memory, RECORDS_AT, STATE, Segment, path_of,
};
use crate::state::ClusterId;
use crate::store::StoreError;
use crate::store::files::read::{
    corrupt, expect_cluster, holds_record_after, read_all, read_header,
};
use crate::store::files::{at, numbers};
use crate::store::format::{FileKind, decode_record};
use std::collections::VecDeque;
use std::fs;
use std::path::Path;

struct Reading {
    cluster: ClusterId,
    memory: Memory,
    segments: VecDeque<Segment>,
    next_record: u64,
}

/// What one file was found to be.
struct Read {
    last_index: u64,
    /// Bytes up to the end of its last record.
    bytes: usize,
    /// Anything after them is the torn end of a write.
    records: u64,
}

/// Reads all files in `dir`.
pub(super) fn read(dir: &Path, cluster: ClusterId) -> Result<(Memory, Files), StoreError> {
    let firsts = numbers(dir, FileKind::GroupLog)?;
    let Some(&first) = firsts.first() else {
        return Err(StoreError::Missing {
            path: path_of(dir, 0),
            expected: 0,
            found: 0,
        });
    };
    let mut reading = Reading {
        cluster,
        memory: Memory::default(),
        segments: VecDeque::new(),
        next_record: first,
    };
    let mut current = None;
    for (position, &first) in firsts.iter().enumerate() {
        let is_last = position + 1 == firsts.len();
        current = reading.read_file(dir, first, is_last)?.or(current);
    }
    // The first file was whole before the member was one: a vote that is forgotten could be given twice.
    let (first, bytes) =
        current.ok_or_else(|| corrupt(&path_of(dir, first), 0, "it holds no record"))?;
    let current = LogFile::open(path_of(dir, first), bytes)?;
    let files = Files {
        segments: reading.segments,
        current,
        next_record: reading.next_record,
        file_bytes_max: FILE_BYTES_MAX,
        has_failed: false,
    };
    Ok((reading.memory, files))
}

impl Reading {
    /// Adds what one file holds. `None`: it is the last one and not even begun; it is deleted.
    fn read_file(
        &mut self,
        dir: &Path,
        first: u64,
        is_last: bool,
    ) -> Result<Option<(u64, u64)>, StoreError> {
        let path = path_of(dir, first);
        if first != self.next_record {
            return Err(StoreError::Missing {
                path,
                expected: self.next_record,
                found: first,
            });
        }
        let bytes = read_all(&path)?;
        let read = if is_last && bytes.len() < RECORDS_AT {
            None
        } else {
            let header = read_header(&path, &bytes, FileKind::GroupLog, first)?;
            expect_cluster(&path, header.cluster, self.cluster)?;
            Some(self.read_records(&path, &bytes, is_last)?)
        };
        let Some(read) = read.filter(|read| read.records > 0) else {
            fs::remove_file(&path).map_err(at(&path))?;
            return Ok(None);
        };
        self.segments.push_back(Segment {
            path,
            last_index: read.last_index,
        });
        Ok(Some((first, read.bytes as u64)))
    }

    fn read_records(
        &mut self,
        path: &Path,
        bytes: &[u8],
        is_last: bool,
    ) -> Result<Read, StoreError> {
        let mut read = Read {
            last_index: 0,
            bytes: RECORDS_AT,
            records: 0,
        };
        while let Some(record) = decode_record(self.cluster, &bytes[read.bytes..]) {
            if record.sequence != self.next_record {
                let (found, expected) = (record.sequence, self.next_record);
                let fault = format!("record {found} where {expected} should be");
                return Err(corrupt(path, read.bytes, &fault));
            }
            let last_index = self.take(record.payload);
            let last_index = last_index.ok_or_else(|| {
                corrupt(
                    path,
                    read.bytes,
                    "it holds something that is no record of a group",
                )
            })?;
            read.last_index = read.last_index.max(last_index);
            read.bytes += record.total_bytes();
            read.records += 1;
            self.next_record += 1;
        }
        let rest = &bytes[read.bytes..];
        let may_be_torn = is_last && !holds_record_after(self.cluster, rest, self.next_record);
        if !rest.is_empty() && !may_be_torn {
            let fault = "checksum mismatch with valid records after it";
            return Err(corrupt(path, read.bytes, fault));
        }
        if read.records == 0 && !is_last {
            return Err(corrupt(path, read.bytes, "it holds no record"));
        }
        Ok(read)
    }

    /// Carries out one record; the highest index in it.
    fn take(&mut self, mut payload: &[u8]) -> Option<u64> {
        let (&kind, rest) = payload.split_first()?;
        payload = rest;
        let mut last_index = 0;
        match kind {
            STATE => {
                self.memory.vote = Option::<Vote>::read(&mut payload)?;
                self.memory.purged = Option::<LogId>::read(&mut payload)?;
                if let Some(purged) = self.memory.purged {
                    let kept = self.memory.entries.split_off(&(purged.index + 1));
                    self.memory.entries = kept;
                }
            }
            ENTRIES => {
                for entry in take_entries(&mut payload)? {
                    last_index = entry.log_id.index;
                    let last = self.memory.entries.keys().next_back();
                    if last.is_some_and(|last| last_index != last + 1) {
                        return None;
                    }
                    self.memory.entries.insert(last_index, entry);
                }
            }
            CUT => {
                let from = u64::read(&mut payload)?;
                self.memory.entries.split_off(&from);
            }
            _ => return None,
        }
        payload.is_empty().then_some(last_index)
    }
}

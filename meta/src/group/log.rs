//! A member's log on disk: votes and entries in the order in which they came, each record flushed before the next is begun.
//!
//! A file is a header and records ([`crate::store::format`]). The first record of each file is a state, so that older files
//! can be deleted once nothing in them is wanted. A payload:
//!
//! | kind (1) | what | fields |
//! |---|---|---|
//! | 1 | state | optional vote, optional id of the last entry that was let go |
//! | 2 | entries | count (4), entries that follow each other |
//! | 3 | cut | index (8): this entry and all after it never were |

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the files of a member"
)]

mod read;

use super::codec::{Put, put_entries};
use super::machine::Stored;
use super::raft::{LogId, StorageError, Types, Vote};
use crate::state::ClusterId;
use crate::store::StoreError;
use crate::store::files::{LogFile, at, sync_dir};
use crate::store::format::{FORMAT, FileHeader, FileKind, HEADER_BYTES, seal_record};
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, Entry, LogState, OptionalSend, RaftLogReader, StorageIOError};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::fs;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use tokio::sync::watch;

/// A file longer than this is followed by a new one.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Entries that are sent at once have this many bytes, or are one.
const READ_BYTES_MAX: usize = 1 << 20;

const STATE: u8 = 1;
const ENTRIES: u8 = 2;
const CUT: u8 = 3;

/// The log, for all who read and write it.
#[derive(Clone, Debug)]
pub(super) struct Log {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    cluster: ClusterId,
    memory: RwLock<Memory>,
    files: Mutex<Files>,
    /// Nothing is let go of before a snapshot on disk has it.
    stored: OnceLock<watch::Receiver<Stored>>,
}

/// What the files hold.
#[derive(Debug, Default)]
struct Memory {
    entries: BTreeMap<u64, Entry<Types>>,
    purged: Option<LogId>,
    vote: Option<Vote>,
}

#[derive(Debug)]
struct Files {
    /// All of them, the one that is written last.
    segments: VecDeque<Segment>,
    current: LogFile,
    next_record: u64,
    file_bytes_max: u64,
    /// What is on disk is unknown after a failed write: nothing is written any more.
    has_failed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    path: PathBuf,
    /// The highest index of any entry in it; 0 without one.
    last_index: u64,
}

/// Makes the empty log of a new member.
pub(super) fn create(dir: &Path, cluster: ClusterId) -> Result<(), StoreError> {
    create_file(dir, cluster, 0, &Memory::default()).map(drop)
}

impl Log {
    /// Opens the log of a member. A torn end is cut off.
    ///
    /// # Errors
    /// Anything unreadable, with its place.
    pub(super) fn open(dir: &Path, cluster: ClusterId) -> Result<Self, StoreError> {
        let (memory, files) = read::read(dir, cluster)?;
        let shared = Shared {
            dir: dir.to_owned(),
            cluster,
            memory: RwLock::new(memory),
            files: Mutex::new(files),
            stored: OnceLock::new(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Lets go of entries only once a snapshot that has them is on disk: a member is told to do so beside the taking over of
    /// one that its leader has sent, not behind it.
    pub(super) fn let_go_behind(&self, stored: watch::Receiver<Stored>) {
        let set = self.shared.stored.set(stored);
        assert!(set.is_ok(), "a log has one state machine");
    }

    /// Begins a new file after this many bytes instead of 4 MiB; for tests.
    #[cfg(test)]
    pub(super) fn with_file_bytes_max(self, bytes: u64) -> Self {
        self.shared.files().file_bytes_max = bytes;
        self
    }

    /// All entries after this one.
    pub(super) fn entries_after(&self, last: Option<LogId>) -> Vec<Entry<Types>> {
        let first = last.map_or(0, |it| it.index + 1);
        let memory = self.shared.read();
        memory
            .entries
            .range(first..)
            .map(|(_, entry)| entry.clone())
            .collect()
    }

    /// The last entry that was let go because a snapshot has it.
    pub(super) fn purged(&self) -> Option<LogId> {
        self.shared.read().purged
    }
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, Memory> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Memory> {
        self.memory.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes and flushes one record. `last_index` is the highest of the entries in it.
    fn append(
        &self,
        kind: u8,
        put: impl FnOnce(&mut Vec<u8>),
        last_index: u64,
    ) -> Result<(), StoreError> {
        let mut files = self.files();
        if files.has_failed {
            return Err(StoreError::Group(
                "a write of the log has failed before".to_owned(),
            ));
        }
        files.has_failed = true;
        if files.current.length > files.file_bytes_max {
            self.rotate(&mut files)?;
        }
        let record = seal_record(self.cluster, files.next_record, |out| {
            out.push(kind);
            put(out);
        });
        let record = record.ok_or_else(|| StoreError::Full {
            path: files.current.path.clone(),
        })?;
        files.current.append(&record)?;
        files.next_record += 1;
        if let Some(segment) = files.segments.back_mut() {
            segment.last_index = segment.last_index.max(last_index);
        }
        files.has_failed = false;
        Ok(())
    }

    fn append_state(&self) -> Result<(), StoreError> {
        let (vote, purged) = {
            let memory = self.read();
            (memory.vote, memory.purged)
        };
        let put = |out: &mut Vec<u8>| {
            vote.put(out);
            purged.put(out);
        };
        self.append(STATE, put, 0)
    }

    fn rotate(&self, files: &mut Files) -> Result<(), StoreError> {
        let file = create_file(&self.dir, self.cluster, files.next_record, &self.read())?;
        files.segments.push_back(Segment {
            path: file.path.clone(),
            last_index: 0,
        });
        files.current = file;
        files.next_record += 1;
        Ok(())
    }

    /// Deletes the oldest files as far as nothing in them is wanted.
    fn delete_before(&self, index: u64) -> Result<(), StoreError> {
        let mut files = self.files();
        while files.segments.len() > 1
            && let Some(oldest) = files.segments.front().filter(|it| it.last_index <= index)
        {
            fs::remove_file(&oldest.path).map_err(at(&oldest.path))?;
            files.segments.pop_front();
        }
        Ok(())
    }
}

fn path_of(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("group-log-{first:016x}"))
}

/// A new file that begins with a state.
fn create_file(
    dir: &Path,
    cluster: ClusterId,
    first: u64,
    memory: &Memory,
) -> Result<LogFile, StoreError> {
    let path = path_of(dir, first);
    let header = FileHeader {
        format: FORMAT,
        kind: FileKind::GroupLog,
        cluster,
        sequence: first,
    };
    let record = seal_record(cluster, first, |out| {
        out.push(STATE);
        memory.vote.put(out);
        memory.purged.put(out);
    });
    let record = record.ok_or_else(|| StoreError::Full { path: path.clone() })?;
    let file = LogFile::create(path, &[&header.encode(), &record])?;
    sync_dir(dir)?;
    Ok(file)
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry<Types>>, StorageError> {
        let memory = self.shared.read();
        Ok(memory
            .entries
            .range(range)
            .map(|(_, it)| it.clone())
            .collect())
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry<Types>>, StorageError> {
        let memory = self.shared.read();
        let mut bytes = 0;
        let mut taken = Vec::new();
        for (_, entry) in memory
            .entries
            .range((Bound::Included(start), Bound::Excluded(end)))
        {
            bytes += bytes_of(entry);
            if bytes > READ_BYTES_MAX && !taken.is_empty() {
                break;
            }
            taken.push(entry.clone());
        }
        Ok(taken)
    }
}

/// About what an entry is long.
fn bytes_of(entry: &Entry<Types>) -> usize {
    match &entry.payload {
        openraft::EntryPayload::Normal(batch) => 64 + batch.changes.len(),
        _ => 256,
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let memory = self.shared.read();
        let last = memory
            .entries
            .values()
            .next_back()
            .map(|entry| entry.log_id);
        Ok(LogState {
            last_purged_log_id: memory.purged,
            last_log_id: last.or(memory.purged),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        self.shared.write().vote = Some(*vote);
        let saved = self.shared.append_state();
        saved.map_err(|error| StorageIOError::write_vote(AnyError::new(&error)).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.shared.read().vote)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<Types>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry<Types>> = entries.into_iter().collect();
        let last_index = entries.last().map_or(0, |entry| entry.log_id.index);
        let put = |out: &mut Vec<u8>| put_entries(&entries, out);
        let written = self.shared.append(ENTRIES, put, last_index);
        if written.is_ok() {
            let mut memory = self.shared.write();
            memory
                .entries
                .extend(entries.into_iter().map(|it| (it.log_id.index, it)));
        }
        callback.log_io_completed(
            written
                .as_ref()
                .map(|&()| ())
                .map_err(|error| io::Error::other(error.to_string())),
        );
        written.map_err(|error| StorageIOError::write_logs(AnyError::new(&error)).into())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let cut = self.shared.append(CUT, |out| log_id.index.put(out), 0);
        cut.map_err(|error| StorageIOError::write_logs(AnyError::new(&error)))?;
        self.shared.write().entries.split_off(&log_id.index);
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        if let Some(stored) = self.shared.stored.get() {
            let mut stored = stored.clone();
            let is_settled = |stored: &Stored| stored.has_failed || stored.index >= log_id.index;
            let is_stored = stored.wait_for(is_settled).await;
            if !is_stored.is_ok_and(|stored| !stored.has_failed) {
                let fault = AnyError::error("the snapshot that has these entries is not on disk");
                return Err(StorageIOError::write_logs(fault).into());
            }
        }
        {
            let mut memory = self.shared.write();
            memory.purged = memory.purged.max(Some(log_id));
            memory.entries = memory.entries.split_off(&(log_id.index + 1));
        }
        let purged = self.shared.append_state();
        let purged = purged.and_then(|()| self.shared.delete_before(log_id.index));
        purged.map_err(|error| StorageIOError::write_logs(AnyError::new(&error)).into())
    }
}

/// Where the first record of a file begins.
const RECORDS_AT: usize = HEADER_BYTES;

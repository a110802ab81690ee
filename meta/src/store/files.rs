//! The embedded store: a directory with one snapshot and one log.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the one place of this package that touches files"
)]

pub(crate) mod read;

use super::format::{FORMAT, FileHeader, FileKind, HEADER_BYTES, encode_record};
use super::{Store, StoreError};
use crate::state::{Change, Cluster, ClusterId, Durable};
use read::{Found, read_dir};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// A log longer than this is replaced by a snapshot.
const LOG_BYTES_MAX: u64 = 16 << 20;

/// A meta directory, open and locked.
#[derive(Debug)]
pub struct FileStore {
    dir: PathBuf,
    cluster: ClusterId,
    /// Kept for its lock.
    _lock: File,
    log: LogFile,
    next_sequence: u64,
    log_bytes_max: u64,
    /// Length of the log at which a snapshot is wanted; later than usual after one that failed.
    snapshot_at: u64,
}

#[derive(Debug)]
pub(crate) struct LogFile {
    pub(crate) path: PathBuf,
    file: File,
    /// Bytes that are whole and flushed.
    pub(crate) length: u64,
}

impl FileStore {
    /// Makes a store for a new cluster in `dir`, which is made if it is not there.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if there is one already; disk errors.
    pub fn create(dir: &Path, cluster: &Cluster) -> Result<Self, StoreError> {
        Self::create_with(dir, &Durable::new(cluster.clone()))
    }

    /// Makes a store that holds `durable` from the start: all of it, or, cut short, none.
    ///
    /// # Errors
    /// As [`FileStore::create`].
    pub fn create_with(dir: &Path, durable: &Durable) -> Result<Self, StoreError> {
        let cluster = durable.cluster();
        fs::create_dir_all(dir).map_err(at(dir))?;
        let lock = lock(dir)?;
        if !is_empty(dir)? || is_of_another_kind(dir) {
            return Err(StoreError::Exists {
                dir: dir.to_owned(),
            });
        }
        remove_unfinished(dir)?;
        // The log first: a directory with a log alone is an init that was cut short and may be made again.
        let log = create_log(dir, cluster.id, 1)?;
        write_snapshot(dir, durable, 0)?;
        sync_dir(dir)?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_dir(parent)?;
        }
        Ok(Self {
            dir: dir.to_owned(),
            cluster: cluster.id,
            _lock: lock,
            log,
            next_sequence: 1,
            log_bytes_max: LOG_BYTES_MAX,
            snapshot_at: LOG_BYTES_MAX,
        })
    }

    /// Opens the store in `dir` and returns what it holds. A torn end of the log is cut off.
    ///
    /// # Errors
    /// [`StoreError::Empty`] without an init, [`StoreError::Locked`], anything unreadable with its place.
    pub fn open(dir: &Path) -> Result<(Self, Durable), StoreError> {
        if !dir.is_dir() {
            return Err(StoreError::Empty {
                dir: dir.to_owned(),
            });
        }
        let lock = lock(dir)?;
        if is_empty(dir)? {
            return Err(StoreError::Empty {
                dir: dir.to_owned(),
            });
        }
        remove_unfinished(dir)?;
        let found = read_dir(dir)?;
        let cluster = found.durable.cluster().id;
        let log = if found.format < FORMAT {
            upgrade(dir, &found)?
        } else {
            open_log(found.log, found.log_bytes, cluster, found.next_sequence)?
        };
        sync_dir(dir)?;
        remove_older(dir, &log.path)?;
        let next_sequence = found.next_sequence;
        let store = Self {
            dir: dir.to_owned(),
            cluster,
            _lock: lock,
            log,
            next_sequence,
            log_bytes_max: LOG_BYTES_MAX,
            snapshot_at: LOG_BYTES_MAX,
        };
        Ok((store, found.durable))
    }

    /// Whether `dir` holds no store yet.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn is_absent(dir: &Path) -> Result<bool, StoreError> {
        if dir.is_dir() {
            Ok(is_empty(dir)? && !is_of_another_kind(dir))
        } else {
            Ok(true)
        }
    }

    /// Wants a snapshot after this many bytes of log instead of 16 MiB; for tests.
    #[must_use]
    pub const fn with_log_bytes_max(mut self, bytes: u64) -> Self {
        self.log_bytes_max = bytes;
        self.snapshot_at = bytes;
        self
    }

    fn replace_log(&mut self, durable: &Durable) -> Result<(), StoreError> {
        let last = self.next_sequence - 1;
        write_snapshot(&self.dir, durable, last)?;
        sync_dir(&self.dir)?;
        if self.log.path != log_path(&self.dir, self.next_sequence) {
            let log = create_log(&self.dir, self.cluster, self.next_sequence);
            // Without space the old log goes on; an unfinished new one must not stand beside it.
            let unfinished = log_path(&self.dir, self.next_sequence);
            self.log = log.inspect_err(|_| _ = fs::remove_file(unfinished))?;
            sync_dir(&self.dir)?;
        }
        remove_older(&self.dir, &self.log.path)
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Store for FileStore {
    fn append(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let record = encode_record(self.cluster, self.next_sequence, changes);
        let record = record.ok_or_else(|| StoreError::Full {
            path: self.log.path.clone(),
        })?;
        self.log.append(&record)?;
        self.next_sequence += 1;
        Ok(())
    }

    fn wants_snapshot(&self) -> bool {
        self.log.length > self.snapshot_at
    }

    fn snapshot(&mut self, durable: &Durable) -> Result<(), StoreError> {
        let replaced = self.replace_log(durable);
        let spare = if replaced.is_ok() {
            0
        } else {
            self.log.length + self.log_bytes_max / 4
        };
        self.snapshot_at = spare.max(self.log_bytes_max);
        replaced
    }

    fn load(&self) -> Result<Durable, StoreError> {
        read_dir(&self.dir).map(|found| found.durable)
    }
}

impl LogFile {
    /// A new file of `parts`, flushed.
    pub(crate) fn create(path: PathBuf, parts: &[&[u8]]) -> Result<Self, StoreError> {
        let file = write_file(&path, parts)?;
        let length = parts.iter().map(|part| part.len() as u64).sum();
        Ok(Self { path, file, length })
    }

    /// A file that is there, with `length` good bytes; what follows them is cut off.
    pub(crate) fn open(path: PathBuf, length: u64) -> Result<Self, StoreError> {
        let file = OpenOptions::new()
            .write(true)
            .open(&path)
            .map_err(at(&path))?;
        let on_disk = file.metadata().map_err(at(&path))?.len();
        let mut log = Self { path, file, length };
        if on_disk > length {
            tracing::warn!(file = %log.path.display(), from = length, to = on_disk, "cut a torn end that was never acknowledged");
        }
        log.cut(length)?;
        Ok(log)
    }

    /// Writes and flushes one record. Without space the file is as before.
    pub(crate) fn append(&mut self, record: &[u8]) -> Result<(), StoreError> {
        if let Err(error) = self.file.write_all(record) {
            self.cut(self.length)?;
            return Err(at(&self.path)(error));
        }
        // A failed flush is final: what the disk holds is unknown, and asking again may say "done" falsely.
        self.file.sync_data().map_err(|source| StoreError::Io {
            path: self.path.clone(),
            source,
        })?;
        self.length += record.len() as u64;
        Ok(())
    }

    fn cut(&mut self, length: u64) -> Result<(), StoreError> {
        let cut = self
            .file
            .set_len(length)
            .and_then(|()| self.file.seek(SeekFrom::Start(length)));
        let cut = cut.and_then(|_| self.file.sync_data());
        cut.map_err(|source| StoreError::Io {
            path: self.path.clone(),
            source,
        })
    }
}

/// Says what went wrong at `path`; no space has its own name, because nothing is lost then.
pub(crate) fn at(path: &Path) -> impl Fn(io::Error) -> StoreError + '_ {
    |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full {
            path: path.to_owned(),
        },
        _ => StoreError::Io {
            path: path.to_owned(),
            source,
        },
    }
}

pub(crate) fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("LOCK");
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .map_err(at(&path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::Locked {
            dir: dir.to_owned(),
        }),
        Err(errno) => Err(StoreError::Io {
            path,
            source: errno.into(),
        }),
    }
}

/// Numbers of the files of one kind, ascending.
pub(crate) fn numbers(dir: &Path, kind: FileKind) -> Result<Vec<u64>, StoreError> {
    let prefix = prefix(kind);
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(at(dir))? {
        let name = entry.map_err(at(dir))?.file_name();
        let digits = name
            .to_str()
            .and_then(|name| name.strip_prefix(prefix))
            .filter(|digits| digits.len() == 16);
        numbers.extend(digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

const fn prefix(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Snapshot => "snapshot-",
        FileKind::Log => "log-",
        FileKind::GroupSnapshot => "group-snapshot-",
        FileKind::GroupLog => "group-log-",
        FileKind::GroupMember => "group-member-",
    }
}

fn snapshot_path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{}{sequence:016x}", prefix(FileKind::Snapshot)))
}

fn log_path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{}{sequence:016x}", prefix(FileKind::Log)))
}

/// No snapshot: nothing was ever promised here, since init ends with the first one.
/// What a member of a group, or a meta that keeps its state in ZooKeeper, leaves in its directory: a store beside it would
/// never be looked at.
const OF_OTHER_KINDS: [&str; 2] = ["group-member", "zookeeper-cluster"];

fn is_of_another_kind(dir: &Path) -> bool {
    OF_OTHER_KINDS.iter().any(|name| dir.join(name).exists())
}

fn is_empty(dir: &Path) -> Result<bool, StoreError> {
    let snapshots = numbers(dir, FileKind::Snapshot)?;
    let later_log = numbers(dir, FileKind::Log)?
        .into_iter()
        .find(|&first| first > 1);
    match (snapshots.is_empty(), later_log) {
        (true, Some(first)) => Err(StoreError::Missing {
            path: dir.to_owned(),
            expected: 0,
            found: first,
        }),
        (empty, _) => Ok(empty),
    }
}

/// Takes away what an interrupted write of a snapshot left.
pub(crate) fn remove_unfinished(dir: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(dir).map_err(at(dir))? {
        let path = entry.map_err(at(dir))?.path();
        if path.extension().is_some_and(|extension| extension == "tmp") {
            fs::remove_file(&path).map_err(at(&path))?;
        }
    }
    Ok(())
}

/// Takes away what the newest snapshot and the current log replace.
fn remove_older(dir: &Path, log: &Path) -> Result<(), StoreError> {
    let snapshots = numbers(dir, FileKind::Snapshot)?;
    let older = snapshots
        .split_last()
        .map(|(_, older)| older.to_vec())
        .unwrap_or_default();
    let logs = numbers(dir, FileKind::Log)?
        .into_iter()
        .map(|first| log_path(dir, first))
        .filter(|path| path != log);
    for path in older
        .into_iter()
        .map(|last| snapshot_path(dir, last))
        .chain(logs)
    {
        fs::remove_file(&path).map_err(at(&path))?;
    }
    Ok(())
}

fn write_snapshot(dir: &Path, durable: &Durable, last: u64) -> Result<(), StoreError> {
    let path = snapshot_path(dir, last);
    let unfinished = path.with_extension("tmp");
    let cluster = durable.cluster().id;
    let header = FileHeader {
        format: FORMAT,
        kind: FileKind::Snapshot,
        cluster,
        sequence: last,
    };
    let record = encode_record(cluster, last, &durable.snapshot());
    let record = record.ok_or_else(|| StoreError::Full { path: path.clone() })?;
    let written = write_file(&unfinished, &[&header.encode(), &record]);
    // What did not fit must not take the space of the log.
    written.inspect_err(|_| _ = fs::remove_file(&unfinished))?;
    fs::rename(&unfinished, &path).map_err(at(&path))
}

fn create_log(dir: &Path, cluster: ClusterId, first: u64) -> Result<LogFile, StoreError> {
    let path = log_path(dir, first);
    let header = FileHeader {
        format: FORMAT,
        kind: FileKind::Log,
        cluster,
        sequence: first,
    };
    LogFile::create(path, &[&header.encode()])
}

pub(crate) fn write_file(path: &Path, parts: &[&[u8]]) -> Result<File, StoreError> {
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .open(path)
        .map_err(at(path))?;
    let written = parts.iter().try_for_each(|part| file.write_all(part));
    written.and_then(|()| file.sync_all()).map_err(at(path))?;
    Ok(file)
}

/// Opens the log for appending after its `length` good bytes. A log whose header never became whole is made again.
fn open_log(
    path: PathBuf,
    length: u64,
    cluster: ClusterId,
    next: u64,
) -> Result<LogFile, StoreError> {
    if length < HEADER_BYTES as u64 {
        let dir = path.parent().unwrap_or(Path::new("."));
        return create_log(dir, cluster, next);
    }
    LogFile::open(path, length)
}

/// Writes everything anew in the format of today, with an empty log after it. Cut short anywhere, it can be done again: what
/// was there stays until the new snapshot is whole.
fn upgrade(dir: &Path, found: &Found) -> Result<LogFile, StoreError> {
    let last = found.next_sequence - 1;
    tracing::info!(dir = %dir.display(), from = found.format, to = FORMAT, "bringing the store to a newer format");
    write_snapshot(dir, &found.durable, last)?;
    sync_dir(dir)?;
    create_log(dir, found.durable.cluster().id, found.next_sequence)
}

pub(crate) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|source| StoreError::Io {
        path: dir.to_owned(),
        source,
    })
}

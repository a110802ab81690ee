//! Keeps every change on disk before anybody is told of it.
//!
//! ```text
//! DIR/LOCK                 held while a process uses the directory
//! DIR/snapshot-SEQUENCE    the whole state up to batch SEQUENCE (16 hexadecimal digits)
//! DIR/log-SEQUENCE         batches from SEQUENCE on
//! ```
//!
//! Layouts are in [`format`](mod@format) and `docs/formats.md`. A batch is one record, written and flushed at once; a
//! bad record at the end of the log that nothing valid follows was never acknowledged and is cut, anything else that is
//! bad is refused with its place.

pub mod format;

#[cfg(feature = "stores")]
pub(crate) mod files;
#[cfg(feature = "stores")]
pub mod zookeeper;

#[cfg(feature = "stores")]
pub use files::FileStore;

use crate::state::{Change, ChangeError, ClusterId, Durable};
use std::io;
use std::path::PathBuf;

/// Where changes are kept.
pub trait Store {
    /// Makes `changes` durable, all or nothing. No changes: nothing is done.
    ///
    /// # Errors
    /// [`StoreError::Full`] leaves the store as it was before; after any other error it must not be used again.
    fn append(&mut self, changes: &[Change]) -> Result<(), StoreError>;

    /// Whether a snapshot would pay: the log is long.
    fn wants_snapshot(&self) -> bool;

    /// Replaces the log so far by `durable`, which must be the fold of everything appended.
    ///
    /// # Errors
    /// As [`Store::append`].
    fn snapshot(&mut self, durable: &Durable) -> Result<(), StoreError>;

    /// The fold of everything that is durable, read again.
    ///
    /// # Errors
    /// What is stored cannot be read back.
    fn load(&self) -> Result<Durable, StoreError>;

    /// Whether nobody else can have begun to lead until now. Asked before anything is told that rests on what this store
    /// holds, unless an append has just shown it.
    ///
    /// # Errors
    /// [`StoreError::Deposed`].
    fn confirm(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Why a store does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{path}: the disk is full")]
    Full { path: PathBuf },
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{path}: corrupt at byte {offset}: {fault}; restore the file from a copy, nothing was changed"
    )]
    Corrupt {
        path: PathBuf,
        offset: u64,
        fault: String,
    },
    #[error("{path}: written in format {found}, this program knows up to {known}")]
    Format {
        path: PathBuf,
        found: u16,
        known: u16,
    },
    #[error("{path}: belongs to cluster {found}, not to {expected}")]
    ForeignCluster {
        path: PathBuf,
        found: ClusterId,
        expected: ClusterId,
    },
    #[error("{path}: batches {expected} to {found} are missing")]
    Missing {
        path: PathBuf,
        expected: u64,
        found: u64,
    },
    #[error("{path}: {source}")]
    Change { path: PathBuf, source: ChangeError },
    #[error(
        "{dir}: holds no meta store; recover or init? `pegasus-meta init --dir {dir}` makes a new, empty cluster; \
             a cluster whose meta directory was lost is rebuilt from its nodes by `pegasus-meta recover`"
    )]
    Empty { dir: PathBuf },
    #[error("{dir}: holds a meta store already; init makes a cluster once")]
    Exists { dir: PathBuf },
    #[error("{dir}: another process uses this directory")]
    Locked { dir: PathBuf },
    /// The store's term is over: another process leads, or may. `may_be_stored`: the batch that was being appended is
    /// durable, or not, or will be; otherwise it is not, and never will be.
    #[error("this meta does not lead any more: {reason}")]
    Deposed { reason: String, may_be_stored: bool },
    /// A store of several processes does not work any more, and only a restart can help.
    #[error("{0}")]
    Group(String),
}

/// A store in memory: for tests and the simulator, which decides itself what a crash loses.
#[derive(Clone, Debug)]
pub struct MemStore {
    changes: Vec<Change>,
    since_snapshot: usize,
}

/// Changes after which a store in memory wants a snapshot.
const MEM_CHANGES_MAX: usize = 4096;

impl MemStore {
    /// A store that holds `durable`.
    #[must_use]
    pub fn new(durable: &Durable) -> Self {
        Self {
            changes: durable.snapshot(),
            since_snapshot: 0,
        }
    }
}

impl Store for MemStore {
    fn append(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        self.changes.extend_from_slice(changes);
        self.since_snapshot += changes.len();
        Ok(())
    }

    fn wants_snapshot(&self) -> bool {
        self.since_snapshot > MEM_CHANGES_MAX
    }

    fn snapshot(&mut self, durable: &Durable) -> Result<(), StoreError> {
        *self = Self::new(durable);
        Ok(())
    }

    fn load(&self) -> Result<Durable, StoreError> {
        Durable::replay(&self.changes).map_err(|source| StoreError::Change {
            path: "memory".into(),
            source,
        })
    }
}

//! What the replicas of this node last knew of their members and tables, kept on disk: what meta is rebuilt from if its store
//! is lost and the nodes have been restarted since.
//!
//! ```text
//! DIR/MEMBERS       a preface, then a frame as the node would send it in a heartbeat (docs/formats.md)
//! DIR/MEMBERS.new   the next one while it is being written
//! ```
//!
//! Nothing of normal service is decided by it, so that it may be a second late and is written beside everything else: replicas
//! say by their logs which ballot they have adopted, and whoever rebuilds meta takes a configuration only for the ballot that
//! all of its members confirm. A file that is damaged or of a later format is left out with a warning.

use crate::data_dir::sync_dir;
use crate::directory::{Directory, Table};
use crate::meta_link::{ReplicaKey, frames};
use crossbeam_channel::{Sender, TrySendError, bounded};
use pegasus_fbs::body;
use pegasus_fbs::frame::{BODY_BYTES_MAX, FrameKind, Header, Parsed, encode_frame, parse};
use pegasus_fbs::meta;
use pegasus_replication::config::Configuration;
use pegasus_replication::ids::TableId;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

const FILE: &str = "MEMBERS";
const TEMPORARY: &str = "MEMBERS.new";
/// First bytes of the file.
const MAGIC: [u8; 4] = *b"PGMB";
/// Version of the file that this build writes, and the only one that it reads.
const FORMAT: u32 = 1;
const PREFACE_BYTES: usize = 8;

/// The newest configuration of each replica, and the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    pub configurations: BTreeMap<ReplicaKey, Configuration>,
    pub tables: HashMap<TableId, Table>,
}

/// Why a file is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembersError {
    #[error("it does not begin as such a file does")]
    Foreign,
    #[error("it has format {found}, this build reads format {FORMAT}")]
    Format { found: u32 },
    #[error("it is damaged: {reason}")]
    Damaged { reason: String },
}

/// The file, and what is to be in it.
#[derive(Debug)]
pub struct Members {
    remembered: Remembered,
    /// Something differs from what was last handed to the writer.
    is_changed: bool,
    writer: Option<Writer>,
}

#[derive(Debug)]
struct Writer {
    files: Sender<Vec<u8>>,
    thread: JoinHandle<()>,
}

impl Members {
    /// Reads what is in `root` and starts the thread that writes there.
    ///
    /// # Errors
    /// The process may not have more threads.
    pub fn open(root: &Path) -> io::Result<Self> {
        let remembered = read(root).unwrap_or_default();
        let (files, waiting) = bounded::<Vec<u8>>(1);
        let root = root.to_owned();
        let thread = std::thread::Builder::new()
            .name("members".to_owned())
            .spawn(move || {
                for file in waiting {
                    if let Err(error) = write(&root, &file) {
                        tracing::warn!(%error, dir = %root.display(), "MEMBERS is not written; meta could not be rebuilt from it");
                    }
                }
            })?;
        Ok(Self {
            remembered,
            is_changed: false,
            writer: Some(Writer { files, thread }),
        })
    }

    /// Without a file; for tests of the link.
    #[must_use]
    pub fn forgetful() -> Self {
        Self {
            remembered: Remembered::default(),
            is_changed: false,
            writer: None,
        }
    }

    /// The newest configuration known of a replica, of this life of the process or of one before.
    #[must_use]
    pub fn configuration(&self, key: ReplicaKey) -> Option<&Configuration> {
        self.remembered.configurations.get(&key)
    }

    /// Tables as they were last known.
    #[must_use]
    pub const fn tables(&self) -> &HashMap<TableId, Table> {
        &self.remembered.tables
    }

    /// A replica has said which configuration is its newest.
    pub fn note(&mut self, key: ReplicaKey, configuration: &Configuration) {
        let known = self.remembered.configurations.get(&key);
        let is_newer = |known: &Configuration| known.ballot <= configuration.ballot;
        if known != Some(configuration) && known.is_none_or(is_newer) {
            let configuration = configuration.clone();
            self.remembered.configurations.insert(key, configuration);
            self.is_changed = true;
        }
    }

    /// A replica is gone from this node.
    pub fn forget(&mut self, key: ReplicaKey) {
        self.is_changed |= self.remembered.configurations.remove(&key).is_some();
    }

    /// Meta has told of all tables: those that are not among them are dropped, and their replicas with them.
    pub fn take_tables(&mut self, directory: &Directory) {
        if self.remembered.tables == directory.tables {
            return;
        }
        self.remembered.tables.clone_from(&directory.tables);
        let tables = &self.remembered.tables;
        self.remembered
            .configurations
            .retain(|key, _| tables.contains_key(&key.partition.table));
        self.is_changed = true;
    }

    /// Hands what has changed to the writer. If that is still busy it is tried again with the next call.
    pub fn save(&mut self) {
        let Some(writer) = self.writer.as_ref().filter(|_| self.is_changed) else {
            return;
        };
        let Some(file) = encode(&self.remembered) else {
            tracing::warn!("too many replicas for MEMBERS; meta could not be rebuilt from it");
            self.is_changed = false;
            return;
        };
        self.is_changed = matches!(writer.files.try_send(file), Err(TrySendError::Full(_)));
    }

    /// Writes what has changed and ends the thread.
    pub fn close(mut self) {
        let Some(writer) = self.writer.take() else {
            return;
        };
        if let Some(file) = encode(&self.remembered).filter(|_| self.is_changed) {
            // A thread that is gone has panicked and said so.
            _ = writer.files.send(file);
        }
        drop(writer.files);
        _ = writer.thread.join();
    }
}

/// The file in `root`, if it is there and can be used.
fn read(root: &Path) -> Option<Remembered> {
    let path = root.join(FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "cannot be read, left out");
            return None;
        }
    };
    match decode(&bytes) {
        Ok(remembered) => Some(remembered),
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "cannot be used, left out");
            None
        }
    }
}

fn write(root: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary: PathBuf = root.join(TEMPORARY);
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, root.join(FILE))?;
    sync_dir(root)
}

/// The bytes of the file; `None` if they would be more than a frame can be.
#[must_use]
pub fn encode(remembered: &Remembered) -> Option<Vec<u8>> {
    let body = frames::write_members(remembered);
    if body.len() > BODY_BYTES_MAX {
        return None;
    }
    let mut bytes = Vec::with_capacity(PREFACE_BYTES + body.len() + 64);
    bytes.extend(MAGIC);
    bytes.extend(FORMAT.to_le_bytes());
    encode_frame(&mut bytes, &Header::request(FrameKind::Heartbeat, 0), &body);
    Some(bytes)
}

/// The inverse of [`encode`].
///
/// # Errors
/// See [`MembersError`].
pub fn decode(bytes: &[u8]) -> Result<Remembered, MembersError> {
    let damaged = |reason: String| MembersError::Damaged { reason };
    let Some((preface, frame)) = bytes.split_first_chunk::<PREFACE_BYTES>() else {
        return Err(MembersError::Foreign);
    };
    let [a, b, c, d, format @ ..] = *preface;
    if [a, b, c, d] != MAGIC {
        return Err(MembersError::Foreign);
    }
    let found = u32::from_le_bytes(format);
    if found != FORMAT {
        return Err(MembersError::Format { found });
    }
    match parse(frame, BODY_BYTES_MAX).map_err(|error| damaged(error.to_string()))? {
        Parsed::Frame { header, body } if header.kind == FrameKind::Heartbeat => {
            let heartbeat = body::read::<meta::Heartbeat<'_>>(body)
                .map_err(|error| damaged(error.to_string()))?;
            Ok(frames::read_members(heartbeat))
        }
        Parsed::Frame { header, .. } => Err(damaged(format!("a frame of kind {:?}", header.kind))),
        Parsed::Incomplete { frame_bytes } => Err(damaged(format!(
            "{} bytes of a frame of {frame_bytes}",
            frame.len()
        ))),
    }
}

#[cfg(test)]
mod tests;

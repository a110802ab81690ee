//! The data directory of a node: formatted once, locked while in use, never shared, never guessed at.
//!
//! ```text
//! DIR/node.toml      format, cluster, node, incarnation, number of shards
//! DIR/LOCK           held by flock for the life of the process
//! DIR/shard-NN/      log/ db/ learn/ quarantine/ trash/
//! DIR/stats/NN       statistics page of shard NN
//! DIR/SCRUBBED       when everything was last read and checked
//! DIR/COMPACTED      when each replica was last compacted by hand
//! DIR/drive.toml     what `pegasus tune disk` measured, may be there before everything else
//! ```
//!
//! `node.toml` is replaced whole (temporary file, fsync, rename, fsync of the directory), so that it is always either the
//! old or the new one. A directory that has files but no `node.toml` is somebody else's and is refused.

use pegasus_host::speed::{SPEED_FILE, SPEED_TEMPORARY};
use pegasus_replication::ids::{CoreId, NodeId, NodeIncarnation};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Version of the directory's layout that this build reads and writes.
pub const DISK_FORMAT: u16 = 1;

const IDENTITY_FILE: &str = "node.toml";
const IDENTITY_TEMPORARY: &str = "node.toml.new";
const LOCK_FILE: &str = "LOCK";
/// How long a predecessor may take to end: the kernel has its memory to free.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(5);
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// Who this directory belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Made once by `pegasus-meta init`. `None`: not joined yet.
    pub cluster: Option<ClusterId>,
    /// Given by meta at the first join. `None`: not joined yet.
    pub node: Option<NodeId>,
    /// Starts of this node, this one included.
    pub incarnation: NodeIncarnation,
}

/// Number of a cluster, 128 random bits, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterId(pub u128);

/// An open, locked data directory.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    identity: Identity,
    shards: u16,
    /// Closing it gives the lock up.
    _lock: File,
}

/// The directories of one shard.
#[derive(Clone, Debug)]
pub struct ShardDir {
    pub log: PathBuf,
    pub db: PathBuf,
    pub learn: PathBuf,
    pub quarantine: PathBuf,
    pub trash: PathBuf,
}

/// Why a directory is refused; each is one sentence that names it.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("data directory {path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("data directory {path}: another process holds {path}/LOCK{holder}")]
    Locked { path: PathBuf, holder: String },
    #[error(
        "data directory {path}: it has files but no node.toml, so it is not a node's; name an empty or new directory"
    )]
    Foreign { path: PathBuf },
    #[error("data directory {path}: node.toml is not readable: {reason}")]
    Damaged { path: PathBuf, reason: String },
    #[error("data directory {path}: it has format {found}, this build reads format {DISK_FORMAT}")]
    Format { path: PathBuf, found: u16 },
    #[error(
        "data directory {path}: it has {found} shards and {wanted} cores are configured; a shard cannot be left out"
    )]
    FewerCores {
        path: PathBuf,
        found: u16,
        wanted: u16,
    },
    #[error("data directory {path}: it belongs to cluster {ours}, meta is cluster {theirs}")]
    ForeignCluster {
        path: PathBuf,
        ours: ClusterId,
        theirs: ClusterId,
    },
    #[error("data directory {path}: it belongs to node {ours}, meta calls it node {theirs}")]
    ForeignNode {
        path: PathBuf,
        ours: NodeId,
        theirs: NodeId,
    },
}

/// What `node.toml` holds.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct IdentityFile {
    format: u16,
    /// 32 hexadecimal digits; empty = not joined yet.
    cluster: String,
    /// 0 = not joined yet.
    node: u32,
    incarnation: u64,
    shards: u16,
}

impl DataDir {
    /// Opens or formats `root` for `cores` shards and counts this start. A lock that is held is waited for, because a
    /// predecessor may still be ending.
    ///
    /// # Errors
    /// Another process has it, it is not a node's directory, it has another format or more shards than `cores`, or I/O.
    pub fn open(root: &Path, cores: u16) -> Result<Self, DataDirError> {
        Self::open_within(root, cores, LOCK_WAIT_MAX)
    }

    /// As [`DataDir::open`], with another bound on the wait for the lock.
    ///
    /// # Errors
    /// See [`DataDir::open`].
    pub fn open_within(root: &Path, cores: u16, wait_max: Duration) -> Result<Self, DataDirError> {
        assert!(cores > 0, "a node has at least one core");
        let at = |error| DataDirError::Io {
            path: root.into(),
            error,
        };
        fs::create_dir_all(root).map_err(at)?;
        refuse_foreign(root)?;
        let lock = lock(root, wait_max)?;
        let before = read_identity(root)?;
        if let Some(found) = before
            .as_ref()
            .map(|file| file.shards)
            .filter(|found| *found > cores)
        {
            return Err(DataDirError::FewerCores {
                path: root.into(),
                found,
                wanted: cores,
            });
        }
        let identity = match &before {
            Some(file) => file.identity(root)?,
            None => Identity {
                cluster: None,
                node: None,
                incarnation: NodeIncarnation(0),
            },
        };
        let incarnation = NodeIncarnation(identity.incarnation.0 + 1);
        let dir = Self {
            root: root.into(),
            identity: Identity {
                incarnation,
                ..identity
            },
            shards: cores,
            _lock: lock,
        };
        dir.make_directories().map_err(at)?;
        dir.write_identity().map_err(at)?;
        Ok(dir)
    }

    /// Takes what meta said at registration: stored at the first join, compared ever after.
    pub fn join(&mut self, cluster: ClusterId, node: NodeId) -> Result<(), DataDirError> {
        let path = || self.root.clone();
        if let Some(ours) = self.identity.cluster.filter(|ours| *ours != cluster) {
            return Err(DataDirError::ForeignCluster {
                path: path(),
                ours,
                theirs: cluster,
            });
        }
        if let Some(ours) = self.identity.node.filter(|ours| *ours != node) {
            return Err(DataDirError::ForeignNode {
                path: path(),
                ours,
                theirs: node,
            });
        }
        if self.identity.cluster.is_some() && self.identity.node.is_some() {
            return Ok(());
        }
        self.identity.cluster = Some(cluster);
        self.identity.node = Some(node);
        self.write_identity().map_err(|error| DataDirError::Io {
            path: path(),
            error,
        })
    }

    #[must_use]
    pub const fn identity(&self) -> Identity {
        self.identity
    }

    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    #[must_use]
    pub fn stats_dir(&self) -> PathBuf {
        self.root.join("stats")
    }

    #[must_use]
    pub fn stats_page(&self, core: CoreId) -> PathBuf {
        self.stats_dir().join(format!("{:02}", core.0))
    }

    #[must_use]
    pub fn shard(&self, core: CoreId) -> ShardDir {
        let root = self.root.join(format!("shard-{:02}", core.0));
        ShardDir {
            log: root.join("log"),
            db: root.join("db"),
            learn: root.join("learn"),
            quarantine: root.join("quarantine"),
            trash: root.join("trash"),
        }
    }

    fn make_directories(&self) -> io::Result<()> {
        for core in 0..self.shards {
            let shard = self.shard(CoreId(core));
            for path in [
                &shard.log,
                &shard.db,
                &shard.learn,
                &shard.quarantine,
                &shard.trash,
            ] {
                fs::create_dir_all(path)?;
            }
            let parent = shard.log.parent().unwrap_or(&self.root);
            sync_dir(parent)?;
        }
        fs::create_dir_all(self.stats_dir())?;
        sync_dir(&self.root)
    }

    fn write_identity(&self) -> io::Result<()> {
        let identity = IdentityFile {
            format: DISK_FORMAT,
            cluster: self
                .identity
                .cluster
                .map(|cluster| cluster.to_string())
                .unwrap_or_default(),
            node: self.identity.node.map_or(0, |node| node.0),
            incarnation: self.identity.incarnation.0,
            shards: self.shards,
        };
        let text = toml::to_string(&identity).map_err(io::Error::other)?;
        let temporary = self.root.join(IDENTITY_TEMPORARY);
        let mut file = File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, self.root.join(IDENTITY_FILE))?;
        sync_dir(&self.root)
    }
}

impl IdentityFile {
    fn identity(&self, root: &Path) -> Result<Identity, DataDirError> {
        let cluster = match self.cluster.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|reason| DataDirError::Damaged {
                path: root.into(),
                reason,
            })?),
        };
        let node = (self.node != 0).then_some(NodeId(self.node));
        Ok(Identity {
            cluster,
            node,
            incarnation: NodeIncarnation(self.incarnation),
        })
    }
}

impl std::str::FromStr for ClusterId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let has_digits_only = text.len() == 32 && !text.starts_with('+');
        match u128::from_str_radix(text, 16) {
            Ok(number) if number != 0 && has_digits_only => Ok(Self(number)),
            _ => Err(format!(
                "`{text}` is not a cluster id of 32 hexadecimal digits"
            )),
        }
    }
}

impl std::fmt::Display for ClusterId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Makes what was created, renamed or deleted in `path` durable.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// A crash while formatting leaves nothing but our own names behind; anything else without `node.toml` is not ours.
fn refuse_foreign(root: &Path) -> Result<(), DataDirError> {
    let at = |error| DataDirError::Io {
        path: root.into(),
        error,
    };
    if root.join(IDENTITY_FILE).exists() {
        return Ok(());
    }
    for entry in fs::read_dir(root).map_err(at)? {
        let name = entry.map_err(at)?.file_name();
        let name = name.to_string_lossy();
        let ours = [
            LOCK_FILE,
            IDENTITY_TEMPORARY,
            SPEED_FILE,
            SPEED_TEMPORARY,
            "stats",
            "lost+found",
        ]
        .contains(&name.as_ref());
        if !ours && !name.starts_with("shard-") {
            return Err(DataDirError::Foreign { path: root.into() });
        }
    }
    Ok(())
}

fn lock(root: &Path, wait_max: Duration) -> Result<File, DataDirError> {
    let at = |error| DataDirError::Io {
        path: root.into(),
        error,
    };
    let path = root.join(LOCK_FILE);
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(at)?;
    let deadline = Instant::now() + wait_max;
    while let Err(error) =
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
    {
        if error != rustix::io::Errno::WOULDBLOCK {
            return Err(at(error.into()));
        }
        if Instant::now() >= deadline {
            return Err(DataDirError::Locked {
                path: root.into(),
                holder: holder(&path),
            });
        }
        std::thread::sleep(LOCK_RETRY);
    }
    file.set_len(0).map_err(at)?;
    writeln!(file, "{}", std::process::id()).map_err(at)?;
    Ok(file)
}

/// The process that holds the lock, as far as it has said so.
fn holder(path: &Path) -> String {
    match fs::read_to_string(path).unwrap_or_default().trim() {
        "" => String::new(),
        pid => format!(" (process {pid})"),
    }
}

fn read_identity(root: &Path) -> Result<Option<IdentityFile>, DataDirError> {
    /// Read first and alone, so that a newer format is named as such and not as an unknown key.
    #[derive(Deserialize)]
    struct FormatOnly {
        format: u16,
    }
    let damaged = |reason: String| DataDirError::Damaged {
        path: root.into(),
        reason,
    };
    let text = match fs::read_to_string(root.join(IDENTITY_FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(DataDirError::Io {
                path: root.into(),
                error,
            });
        }
    };
    let found = toml::from_str::<FormatOnly>(&text)
        .map_err(|error| damaged(error.message().to_owned()))?
        .format;
    if found != DISK_FORMAT {
        return Err(DataDirError::Format {
            path: root.into(),
            found,
        });
    }
    toml::from_str(&text)
        .map(Some)
        .map_err(|error| damaged(error.message().to_owned()))
}

#[cfg(test)]
mod tests;

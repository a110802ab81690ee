//! Where a local cluster lives: its directory, what may be there, and who may change it.

use super::cluster_file::ClusterFile;
use super::control::Cluster;
use crate::exit::{Exit, Failed};
use anyhow::{Context as _, ensure};
use clap::Args;
use rustix::fs::{FlockOperation, flock};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Which local cluster.
#[derive(Clone, Debug, Args)]
pub(crate) struct Place {
    /// Directory of the cluster [default: $XDG_DATA_HOME/pegasus-local, that is ~/.local/share/pegasus-local]
    #[arg(long, env = "PEGASUS_LOCAL_DIR", value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
}

impl Place {
    pub(super) fn dir(&self) -> anyhow::Result<PathBuf> {
        let dir = match &self.dir {
            Some(dir) => dir.clone(),
            None => default_dir()?,
        };
        std::path::absolute(&dir).with_context(|| dir.display().to_string())
    }

    /// The cluster in this directory, or exit code 3.
    pub(super) fn cluster(&self) -> anyhow::Result<Cluster> {
        let dir = self.dir()?;
        match ClusterFile::load(&dir)? {
            Some(file) => Ok(Cluster::new(dir, file)),
            None => Err(Failed::error(
                Exit::NotFound,
                format!(
                    "{}: no local cluster here; `pegasus local start` makes one",
                    dir.display()
                ),
            )),
        }
    }
}

pub(super) fn default_dir() -> anyhow::Result<PathBuf> {
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    variable("XDG_DATA_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".local/share")))
        .map(|data| data.join("pegasus-local"))
        .context("neither XDG_DATA_HOME nor HOME is set: name a directory with --dir")
}

/// Held while a command changes a cluster, so that two of them never work on it at once.
#[derive(Debug)]
pub(super) struct Lock {
    _file: fs::File,
}

impl Lock {
    pub(super) fn take(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join(LOCK_NAME);
        let file = fs::File::create(&path).with_context(|| path.display().to_string())?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Failed::error(
                Exit::Unavailable,
                format!(
                    "{}: another `pegasus local` command is at work here",
                    dir.display()
                ),
            )),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }
}

pub(super) const LOCK_NAME: &str = "lock";

/// A new cluster goes into a directory that is absent or empty (a lock file of an interrupted start does not count).
pub(super) fn refuse_foreign_directory(dir: &Path) -> anyhow::Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| dir.display().to_string()),
    };
    for entry in entries {
        let name = entry
            .with_context(|| dir.display().to_string())?
            .file_name();
        ensure!(
            name == LOCK_NAME,
            "{}: not empty and not a local cluster ({} is there); choose another --dir",
            dir.display(),
            name.to_string_lossy()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn a_directory_with_other_things_in_it_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        refuse_foreign_directory(&dir.path().join("absent")).unwrap();
        refuse_foreign_directory(dir.path()).unwrap();
        fs::write(dir.path().join("thesis.tex"), "").unwrap();
        let error = refuse_foreign_directory(dir.path())
            .unwrap_err()
            .to_string();
        assert!(error.contains("thesis.tex"), "{error}");
    }

    #[test]
    fn two_commands_never_change_a_cluster_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path()).unwrap();
        let refused = Lock::take(dir.path()).unwrap_err();
        assert_eq!(crate::exit::exit_of(&refused), Exit::Unavailable);
        drop(first);
        Lock::take(dir.path()).unwrap();
    }
}

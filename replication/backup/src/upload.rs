//! One partition to a target.
//!
//! Files that a backup before has are taken over where they lie; files that an attempt before has sent are not sent again.
//! The list is written when all files are there, and the name of the directory when the list is: until then the partition
//! is not in the backup.

use crate::error::TargetError;
use crate::files::{BackupMetadata, FileEntry};
use crate::layout;
use crate::local;
use crate::pace::{Pace, Progress};
use crate::target::Target;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What goes where.
#[derive(Debug)]
pub struct Upload<'a> {
    pub target: &'a Target,
    /// Of this backup: [`layout::partition_dir`].
    pub partition_dir: &'a str,
    /// Of the backup before, if there is one.
    pub base_dir: Option<&'a str>,
    /// [`layout::checkpoint_name`] of the core that has the replica.
    pub checkpoint: &'a str,
    /// Whose files they are: as long as this is the same, a name for which `is_lasting` holds stands for the same bytes.
    pub source: &'a str,
    pub is_lasting: fn(&str) -> bool,
    /// The files, on this machine.
    pub directory: &'a Path,
    pub decree: u64,
    /// Unix milliseconds.
    pub timestamp_ms: u64,
    /// Of what is sent, and of what is read here.
    pub sending: &'a Pace,
    pub reading: &'a Pace,
    pub progress: &'a Progress,
}

/// Files of the backup before that can be taken over.
struct Base {
    directory: String,
    files: BTreeMap<String, FileEntry>,
}

impl Upload<'_> {
    /// Does it, or goes on with it; if the partition is complete already, returns what it has.
    ///
    /// # Errors
    /// [`TargetError`]; what has been sent is found by the next attempt.
    pub async fn run(&self) -> Result<BackupMetadata, TargetError> {
        if let Some(complete) = self.complete().await? {
            let bytes = complete.bytes();
            self.progress.begin(bytes);
            self.progress.add_done(bytes);
            return Ok(complete);
        }
        let files = local::files(self.directory)
            .map_err(|error| TargetError::local(self.target.name(), self.directory, &error))?;
        self.progress
            .begin(files.iter().map(|(_, bytes)| bytes).sum());
        let base = self.base().await;
        let directory = layout::join(&[self.partition_dir, self.checkpoint]);
        let mut entries = Vec::new();
        for (name, bytes) in files {
            let entry = self.place(&directory, base.as_ref(), &name, bytes).await?;
            self.progress.add_done(bytes);
            entries.push(entry);
        }
        self.remove_others(&directory, &entries).await?;
        let metadata = BackupMetadata {
            checkpoint_decree: signed(self.decree),
            checkpoint_timestamp: signed(self.timestamp_ms),
            checkpoint_total_size: entries
                .iter()
                .fold(0, |all, entry| entry.size.saturating_add(all)),
            files: entries,
            source: self.source.to_owned(),
        };
        let list = layout::join(&[&directory, layout::BACKUP_METADATA]);
        self.target.write_json(&list, &metadata).await?;
        self.target.settle(&directory).await?;
        let current = layout::join(&[self.partition_dir, layout::CURRENT_CHECKPOINT]);
        let name = self.checkpoint.as_bytes().to_vec();
        self.target.write_small(&current, name).await?;
        Ok(metadata)
    }

    /// What this partition has in this backup, if all of it is there.
    async fn complete(&self) -> Result<Option<BackupMetadata>, TargetError> {
        match current(self.target, self.partition_dir).await {
            Ok(found) => Ok(found.map(|(_, metadata)| metadata)),
            // Half written by an earlier attempt: made anew.
            Err(error) if error.trouble == crate::Trouble::Damaged => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Without one all files are sent: not having it is no reason to fail.
    async fn base(&self) -> Option<Base> {
        let base_dir = self.base_dir?;
        let (directory, metadata) = match current(self.target, base_dir).await {
            Ok(found) => found?,
            Err(error) => {
                tracing::warn!(%error, "the backup before cannot be built upon, everything is sent");
                return None;
            }
        };
        if metadata.source != self.source {
            tracing::info!(
                base = directory,
                "another replica made the backup before, everything is sent"
            );
            return None;
        }
        let lasting = metadata
            .files
            .into_iter()
            .filter(|file| (self.is_lasting)(&file.name));
        Some(Base {
            directory,
            files: lasting.map(|file| (file.name.clone(), file)).collect(),
        })
    }

    /// Puts one file in its place.
    async fn place(
        &self,
        directory: &str,
        base: Option<&Base>,
        name: &str,
        bytes: u64,
    ) -> Result<FileEntry, TargetError> {
        let path = layout::join(&[directory, name]);
        let known = self.target.known(&path).await?;
        let is_there = |entry: &FileEntry| {
            known
                .as_ref()
                .is_some_and(|(length, md5)| *length == entry.bytes() && *md5 == entry.md5)
        };
        if let Some(base) = base
            && let Some(entry) = base.files.get(name).filter(|entry| entry.bytes() == bytes)
        {
            let old = layout::join(&[&base.directory, name]);
            if is_there(entry) || self.target.carry(&old, &path, entry).await? {
                return Ok(entry.clone());
            }
        }
        let from = self.directory.join(name);
        let digest = local::digest(&from, self.reading).await;
        let (length, md5) =
            digest.map_err(|error| TargetError::local(self.target.name(), &from, &error))?;
        let entry = FileEntry {
            name: name.to_owned(),
            size: signed(length),
            md5,
        };
        if !is_there(&entry) {
            let paces = (self.sending, self.progress);
            self.target.put_file(&from, &path, &entry, paces).await?;
        }
        Ok(entry)
    }

    /// What an attempt at an earlier decree has left.
    async fn remove_others(
        &self,
        directory: &str,
        entries: &[FileEntry],
    ) -> Result<(), TargetError> {
        let ours: BTreeSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        for listed in self.target.list(directory).await? {
            let is_ours = ours.contains(listed.name.as_str());
            if !is_ours && !listed.is_directory && !layout::is_sidecar(&listed.name) {
                let path = layout::join(&[directory, &listed.name]);
                self.target.remove(&path).await?;
            }
        }
        Ok(())
    }
}

/// The directory that counts of a partition, and the list of its files; `None`: the partition is not complete.
///
/// # Errors
/// [`TargetError`]; [`Trouble::Damaged`](crate::Trouble::Damaged) if the two files are not what they should be.
pub(crate) async fn current(
    target: &Target,
    partition_dir: &str,
) -> Result<Option<(String, BackupMetadata)>, TargetError> {
    let pointer = layout::join(&[partition_dir, layout::CURRENT_CHECKPOINT]);
    let Some(name) = target.read_small(&pointer).await? else {
        return Ok(None);
    };
    let name = String::from_utf8_lossy(&name).trim().to_owned();
    if !layout::is_checkpoint_name(&name) {
        return Err(target.damaged(
            &pointer,
            &format!("{name:?} is not the name of a checkpoint"),
        ));
    }
    let directory = layout::join(&[partition_dir, &name]);
    let list = layout::join(&[&directory, layout::BACKUP_METADATA]);
    let Some(bytes) = target.read_small(&list).await? else {
        return Err(target.damaged(&list, "missing"));
    };
    let metadata = BackupMetadata::parse(&bytes).map_err(|what| target.damaged(&list, &what))?;
    Ok(Some((directory, metadata)))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

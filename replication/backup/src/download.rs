//! One partition from a target.

use crate::error::TargetError;
use crate::files::{BackupMetadata, FileEntry};
use crate::layout;
use crate::local;
use crate::pace::{Pace, Progress};
use crate::target::{Listed, Target};
use crate::upload::current;
use std::collections::BTreeSet;
use std::path::Path;

/// What comes from where.
#[derive(Debug)]
pub struct Download<'a> {
    pub target: &'a Target,
    /// [`layout::partition_dir`].
    pub partition_dir: &'a str,
    /// Where the files go. What an attempt before has left there is used if it is right.
    pub directory: &'a Path,
    pub receiving: &'a Pace,
    /// Of what is read again of an attempt before.
    pub reading: &'a Pace,
    pub progress: &'a Progress,
    /// Bytes that the disk of this machine has for it.
    pub room: u64,
}

impl Download<'_> {
    /// Fetches all files, each checked; nothing else is in the directory then.
    ///
    /// # Errors
    /// [`TargetError`]; [`Trouble::Damaged`](crate::Trouble::Damaged) names the file that is damaged, missing, or not of the
    /// backup. What has arrived stays for the next attempt.
    pub async fn run(&self) -> Result<BackupMetadata, TargetError> {
        let Some((directory, metadata)) = current(self.target, self.partition_dir).await? else {
            let pointer = layout::join(&[self.partition_dir, layout::CURRENT_CHECKPOINT]);
            return Err(self.target.damaged(
                &pointer,
                "missing: the backup of this partition is not complete",
            ));
        };
        self.progress.begin(metadata.bytes());
        let listed = self.target.list(&directory).await?;
        if let Some((path, what)) = faults(&directory, &metadata, &listed).into_iter().next() {
            return Err(self.target.damaged(&path, &what));
        }
        self.clear(&metadata)?;
        self.check_room(&metadata)?;
        for entry in &metadata.files {
            let to = self.directory.join(&entry.name);
            if !self.is_here(&to, entry).await {
                let path = layout::join(&[&directory, &entry.name]);
                let paces = (self.receiving, self.progress);
                self.target.get_file(&path, &to, entry, paces).await?;
            }
            self.progress.add_done(entry.bytes());
        }
        local::sync_dir(self.directory).map_err(|error| self.local(&error))?;
        Ok(metadata)
    }

    fn check_room(&self, metadata: &BackupMetadata) -> Result<(), TargetError> {
        let here = local::files(self.directory).map_err(|error| self.local(&error))?;
        let here: u64 = here.iter().map(|(_, bytes)| bytes).sum();
        let needed = metadata.bytes().saturating_sub(here);
        if needed <= self.room {
            return Ok(());
        }
        let free = self.room;
        let full = format!("{needed} bytes are needed, {free} are free above what writes need");
        Err(self.local(&std::io::Error::new(std::io::ErrorKind::StorageFull, full)))
    }

    /// Leaves what an attempt before has fetched, and nothing else.
    fn clear(&self, metadata: &BackupMetadata) -> Result<(), TargetError> {
        std::fs::create_dir_all(self.directory).map_err(|error| self.local(&error))?;
        let wanted: BTreeSet<&str> = metadata
            .files
            .iter()
            .map(|file| file.name.as_str())
            .collect();
        for (name, _) in local::files(self.directory).map_err(|error| self.local(&error))? {
            if !wanted.contains(name.as_str()) {
                let path = self.directory.join(name);
                local::remove_if_there(&path).map_err(|error| self.local(&error))?;
            }
        }
        Ok(())
    }

    async fn is_here(&self, path: &Path, entry: &FileEntry) -> bool {
        let length = std::fs::metadata(path).map(|metadata| metadata.len());
        if !length.is_ok_and(|length| length == entry.bytes()) {
            return false;
        }
        let digest = local::digest(path, self.reading).await;
        digest.is_ok_and(|(_, md5)| md5.eq_ignore_ascii_case(&entry.md5))
    }

    fn local(&self, error: &std::io::Error) -> TargetError {
        TargetError::local(self.target.name(), self.directory, error)
    }
}

/// What a listing shows to be wrong with a directory, without reading its files: path and sentence of each.
pub(crate) fn faults(
    directory: &str,
    metadata: &BackupMetadata,
    listed: &[Listed],
) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    let path = |name: &str| layout::join(&[directory, name]);
    for entry in &metadata.files {
        match listed.iter().find(|listed| listed.name == entry.name) {
            None => faults.push((path(&entry.name), "missing".to_owned())),
            Some(listed) if listed.is_directory || listed.bytes != entry.bytes() => {
                let what = format!("{} bytes, {} are expected", listed.bytes, entry.bytes());
                faults.push((path(&entry.name), what));
            }
            Some(_) => {}
        }
    }
    let known: BTreeSet<&str> = metadata
        .files
        .iter()
        .map(|file| file.name.as_str())
        .collect();
    for listed in listed {
        let is_known = known.contains(listed.name.as_str())
            || listed.name == layout::BACKUP_METADATA
            || layout::is_sidecar(&listed.name);
        if !is_known {
            faults.push((path(&listed.name), "not of this backup".to_owned()));
        }
    }
    faults
}

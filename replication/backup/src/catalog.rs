//! Whole backups at a target: which there are, what is in them, whether all of it is whole, and deleting them.

use crate::download::faults;
use crate::error::{TargetError, Trouble};
use crate::files::{AppMetadata, BackupInfo, BackupMetadata};
use crate::layout;
use crate::pace::Pace;
use crate::target::Target;
use crate::upload::current;

/// One backup, by its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundBackup {
    pub backup_id: u64,
    /// `None`: it is not complete.
    pub info: Option<BackupInfo>,
}

/// What is in one backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackupContents {
    /// `None`: it is not complete.
    pub info: Option<BackupInfo>,
    pub tables: Vec<TableContents>,
}

/// One table of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableContents {
    pub name: String,
    pub id: u32,
    /// Its directory below the target's root.
    pub directory: String,
    /// `None`: missing.
    pub metadata: Option<AppMetadata>,
    /// Those that are there, in order.
    pub partitions: Vec<PartitionContents>,
}

/// One partition of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionContents {
    pub index: u32,
    /// With its files, and the list of them; `None`: it is not complete.
    pub current: Option<(String, BackupMetadata)>,
}

/// Something that is wrong with a backup.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Below the target's root.
    pub path: String,
    pub what: String,
}

/// What came of looking at all of a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Files read, and their bytes.
    pub files: u64,
    pub bytes: u64,
    /// Empty: all is as it should be.
    pub faults: Vec<Fault>,
}

/// The backups below `root`, the oldest first. What is not a backup is passed over.
///
/// # Errors
/// [`TargetError`].
pub async fn list(target: &Target, root: &str) -> Result<Vec<FoundBackup>, TargetError> {
    let mut found = Vec::new();
    for listed in target.list(root).await? {
        if let Some(backup_id) = number(&listed.name).filter(|_| listed.is_directory) {
            let info = info(target, root, backup_id).await?;
            found.push(FoundBackup { backup_id, info });
        }
    }
    found.sort_by_key(|backup| backup.backup_id);
    Ok(found)
}

/// What a complete backup says of itself; `None`: it is not complete, or not there.
///
/// # Errors
/// [`TargetError`].
pub async fn info(
    target: &Target,
    root: &str,
    backup_id: u64,
) -> Result<Option<BackupInfo>, TargetError> {
    let read = target
        .read_json::<BackupInfo>(&layout::backup_info(root, backup_id))
        .await;
    match read {
        Ok(info) => Ok(info.filter(|info| info.end_time_ms > 0)),
        Err(error) if error.trouble == Trouble::Damaged => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is in a backup. Reads lists, no rows.
///
/// # Errors
/// [`TargetError`]; [`Trouble::NotFound`] if there is no such backup.
pub async fn show(
    target: &Target,
    root: &str,
    backup_id: u64,
) -> Result<BackupContents, TargetError> {
    let directory = layout::backup_dir(root, backup_id);
    let listed = target.list(&directory).await?;
    if listed.is_empty() {
        return Err(TargetError::new(
            Trouble::NotFound,
            target.name(),
            &directory,
            "no such backup",
        ));
    }
    let mut contents = BackupContents {
        info: info(target, root, backup_id).await?,
        tables: Vec::new(),
    };
    for entry in listed.iter().filter(|entry| entry.is_directory) {
        if let Some((name, id)) = layout::parse_table_name(&entry.name) {
            let directory = layout::join(&[&directory, &entry.name]);
            contents
                .tables
                .push(table(target, name, id, directory).await?);
        }
    }
    Ok(contents)
}

async fn table(
    target: &Target,
    name: &str,
    id: u32,
    directory: String,
) -> Result<TableContents, TargetError> {
    let metadata = whole(target.read_json(&layout::app_metadata(&directory)).await)?;
    let mut partitions = Vec::new();
    for entry in target.list(&directory).await? {
        let index = number(&entry.name).and_then(|index| u32::try_from(index).ok());
        if let Some(index) = index.filter(|_| entry.is_directory) {
            let current = whole(current(target, &layout::partition_dir(&directory, index)).await)?;
            partitions.push(PartitionContents { index, current });
        }
    }
    partitions.sort_by_key(|partition| partition.index);
    Ok(TableContents {
        name: name.to_owned(),
        id,
        directory,
        metadata,
        partitions,
    })
}

/// Reads every file of a backup and compares length and MD5; damaged, missing and foreign files are each named. `seen` is
/// called after each file with its bytes.
///
/// # Errors
/// [`TargetError`] if the target cannot be read, or has no such backup.
pub async fn verify(
    target: &Target,
    root: &str,
    backup_id: u64,
    pace: &Pace,
    seen: &mut (dyn FnMut(u64) + Send),
) -> Result<Verified, TargetError> {
    let contents = show(target, root, backup_id).await?;
    let mut verified = Verified::default();
    if contents.info.is_none() {
        let path = layout::backup_info(root, backup_id);
        verified.fault(path, "missing or damaged: the backup is not complete");
    }
    if contents.tables.is_empty() {
        verified.fault(layout::backup_dir(root, backup_id), "it has no tables");
    }
    for table in &contents.tables {
        verified.look_at_table(table);
        for partition in &table.partitions {
            let directory = layout::partition_dir(&table.directory, partition.index);
            match current(target, &directory).await {
                Ok(None) => {
                    let path = layout::join(&[&directory, layout::CURRENT_CHECKPOINT]);
                    verified.fault(path, "missing: the partition is not complete");
                }
                Ok(Some((directory, metadata))) => {
                    verified
                        .read(target, &directory, &metadata, pace, seen)
                        .await?;
                }
                Err(error) => verified.take(error)?,
            }
        }
    }
    Ok(verified)
}

/// Removes a backup. What says that it is complete goes first. Other backups have files of their own, or names of their own
/// for them, and are as they were.
///
/// # Errors
/// [`TargetError`]; [`Trouble::NotFound`] if there is no such backup. Otherwise do it again.
pub async fn delete(target: &Target, root: &str, backup_id: u64) -> Result<(), TargetError> {
    let directory = layout::backup_dir(root, backup_id);
    if target.list(&directory).await?.is_empty() {
        return Err(TargetError::new(
            Trouble::NotFound,
            target.name(),
            &directory,
            "no such backup",
        ));
    }
    target.remove(&layout::backup_info(root, backup_id)).await?;
    target.remove_all(&directory).await
}

impl Verified {
    fn fault(&mut self, path: impl Into<String>, what: impl Into<String>) {
        self.faults.push(Fault {
            path: path.into(),
            what: what.into(),
        });
    }

    /// Damage is a finding; a target that does not answer is none.
    fn take(&mut self, error: TargetError) -> Result<(), TargetError> {
        if error.trouble != Trouble::Damaged {
            return Err(error);
        }
        self.fault(error.path, error.detail);
        Ok(())
    }

    fn look_at_table(&mut self, table: &TableContents) {
        let Some(metadata) = &table.metadata else {
            self.fault(layout::app_metadata(&table.directory), "missing or damaged");
            return;
        };
        for index in 0..u32::try_from(metadata.partition_count).unwrap_or(0) {
            if !table
                .partitions
                .iter()
                .any(|partition| partition.index == index)
            {
                self.fault(layout::partition_dir(&table.directory, index), "missing");
            }
        }
    }

    async fn read(
        &mut self,
        target: &Target,
        directory: &str,
        metadata: &BackupMetadata,
        pace: &Pace,
        seen: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), TargetError> {
        let listed = target.list(directory).await?;
        let mut named = Vec::new();
        for (path, what) in faults(directory, metadata, &listed) {
            named.push(path.clone());
            self.fault(path, what);
        }
        for entry in &metadata.files {
            let path = layout::join(&[directory, &entry.name]);
            if named.contains(&path) {
                continue;
            }
            match target.check_file(&path, entry, pace).await {
                Ok(()) => {
                    self.files += 1;
                    self.bytes += entry.bytes();
                }
                Err(error) => self.take(error)?,
            }
            seen(entry.bytes());
        }
        Ok(())
    }
}

/// What is damaged counts as missing.
fn whole<T>(read: Result<Option<T>, TargetError>) -> Result<Option<T>, TargetError> {
    match read {
        Err(error) if error.trouble == Trouble::Damaged => Ok(None),
        other => other,
    }
}

fn number(name: &str) -> Option<u64> {
    let is_decimal = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    name.parse().ok().filter(|_| is_decimal)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Servers spawn them on runtimes of several threads.
    #[test]
    fn everything_can_be_spawned() {
        fn is_send<T: Send>(_: &T) {}
        let directory = tempfile::tempdir().unwrap();
        let target = Target::from_url(&format!("file://{}", directory.path().display())).unwrap();
        let pace = Pace::new(0);
        let mut seen = |_| ();
        is_send(&list(&target, ""));
        is_send(&show(&target, "", 1));
        is_send(&delete(&target, "", 1));
        is_send(&verify(&target, "", 1, &pace, &mut seen));
    }
}

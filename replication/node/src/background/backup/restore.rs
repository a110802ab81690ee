//! One replica from a target.
//!
//! ```text
//! LEARN/restore-TABLE.INDEX-INCARNATION/files/     what has arrived, kept for the next attempt
//! LEARN/restore-TABLE.INDEX-INCARNATION/export/    the same as the engine takes it
//! ```
//!
//! As long as this directory is there the replica is not done: after a crash it is dropped before anybody sees it, and made
//! again of what has arrived.

use super::{BackupCore, Plane, persist};
use crate::data_dir::sync_dir;
use crate::meta_link::{ReplicaKey, RestoreOrder};
use pegasus_backup::download::Download;
use pegasus_backup::pace::Progress;
use pegasus_backup::{TargetError, Trouble, layout};
use pegasus_engine::rocks::export_from;
use pegasus_replication::ids::{CoreId, Decree, PartitionId, ReplicaIncarnation, TableId};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const PREFIX: &str = "restore-";

/// Why a replica could not be made of its backup.
#[derive(Debug, thiserror::Error)]
#[error("{sentence}")]
pub(super) struct RestoreError {
    pub(super) sentence: String,
    /// The backup itself is bad: nothing helps.
    pub(super) is_permanent: bool,
    may_pass: bool,
}

impl From<TargetError> for RestoreError {
    fn from(error: TargetError) -> Self {
        Self {
            is_permanent: matches!(error.trouble, Trouble::Damaged | Trouble::NotFound),
            may_pass: error.trouble.may_pass(),
            sentence: error.to_string(),
        }
    }
}

impl RestoreError {
    /// The backup is not what it should be.
    fn bad(what: impl ToString) -> Self {
        Self {
            sentence: what.to_string(),
            is_permanent: true,
            may_pass: false,
        }
    }

    /// This machine is in the way.
    fn here(what: impl ToString) -> Self {
        Self {
            sentence: what.to_string(),
            is_permanent: false,
            may_pass: true,
        }
    }
}

/// Makes it, with several attempts; each goes on where the one before was. May be dropped at any time.
pub(super) async fn restore(
    plane: &Plane,
    core: CoreId,
    order: &RestoreOrder,
    progress: &Progress,
) -> Result<Decree, RestoreError> {
    let Some(core) = plane.core(core) else {
        return Err(RestoreError::here("there is no such core"));
    };
    if order.make_empty {
        return blocking(core, order.key, make_empty).await;
    }
    let permit = plane.permits.acquire().await;
    let may_pass = |error: &RestoreError| error.may_pass;
    let restored = persist("a restore", may_pass, async || {
        once(plane, core, order, progress).await
    })
    .await;
    drop(permit);
    restored
}

async fn once(
    plane: &Plane,
    core: &BackupCore,
    order: &RestoreOrder,
    progress: &Progress,
) -> Result<Decree, RestoreError> {
    let target = plane.target(&order.target)?;
    let directory = directory(core, order.key);
    let files = directory.join("files");
    make_directory(core, &files)
        .map_err(|error| RestoreError::here(format!("{}: {error}", files.display())))?;
    let table = layout::table_dir(
        &order.root,
        order.backup_id,
        &order.table_name,
        order.table_id,
    );
    let partition_dir = layout::partition_dir(&table, order.key.partition.index);
    let download = Download {
        target: &target,
        partition_dir: &partition_dir,
        directory: &files,
        receiving: &plane.receiving,
        reading: &plane.receiving,
        progress,
        room: (plane.room)(),
    };
    let metadata = download.run().await?;
    let decree = blocking(core, order.key, import).await?;
    tracing::info!(
        partition = %order.key.partition, target = order.target, from = partition_dir, %decree,
        bytes = metadata.checkpoint_total_size, "a partition is restored"
    );
    Ok(decree)
}

async fn blocking(
    core: &BackupCore,
    key: ReplicaKey,
    work: fn(&BackupCore, ReplicaKey) -> Result<Decree, RestoreError>,
) -> Result<Decree, RestoreError> {
    let core = core.clone();
    let done = tokio::task::spawn_blocking(move || work(&core, key)).await;
    done.unwrap_or_else(|error| Err(RestoreError::here(error)))
}

fn make_empty(core: &BackupCore, key: ReplicaKey) -> Result<Decree, RestoreError> {
    remove_files(core, key);
    let created = core.store.create(&[(key.partition, key.incarnation)]);
    let created: Result<(), _> = created.into_iter().collect();
    created.map(|()| Decree::ZERO).map_err(RestoreError::here)
}

/// What has arrived becomes the replica's storage, durable, and its directory goes.
fn import(core: &BackupCore, key: ReplicaKey) -> Result<Decree, RestoreError> {
    let directory = directory(core, key);
    let export = directory.join("export");
    remove(&export).map_err(RestoreError::here)?;
    // An attempt before that was dropped while the engine worked may have come to its end all the same.
    core.store
        .drop_replica(key.partition, key.incarnation)
        .map_err(RestoreError::here)?;
    let decree = export_from(&directory.join("files"), &export).map_err(RestoreError::bad)?;
    core.store
        .import(key.partition, key.incarnation, &export)
        .map_err(RestoreError::here)?;
    remove(&directory)
        .and_then(|()| sync_dir(&core.learn_dir))
        .map_err(RestoreError::here)?;
    Ok(decree)
}

fn directory(core: &BackupCore, key: ReplicaKey) -> PathBuf {
    let name = format!("{PREFIX}{}-{}", key.partition, key.incarnation);
    core.learn_dir.join(name)
}

/// Durable before the engine is asked to make anything.
fn make_directory(core: &BackupCore, files: &Path) -> io::Result<()> {
    fs::create_dir_all(files)?;
    sync_dir(&core.learn_dir)
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Nobody wants this replica any more.
pub(super) fn remove_files(core: &BackupCore, key: ReplicaKey) {
    let directory = directory(core, key);
    if let Err(error) = remove(&directory) {
        tracing::warn!(directory = %directory.display(), %error, "files of a restore could not be removed");
    }
}

/// Replicas of a core that were being made of a backup when the process ended: what the engine has of them does not count.
///
/// # Errors
/// The directory cannot be read.
pub(crate) fn unfinished(learn_dir: &Path) -> io::Result<Vec<ReplicaKey>> {
    let mut keys = Vec::new();
    for entry in fs::read_dir(learn_dir)? {
        keys.extend(parse(&entry?.file_name().to_string_lossy()));
    }
    Ok(keys)
}

fn parse(name: &str) -> Option<ReplicaKey> {
    let (partition, incarnation) = name.strip_prefix(PREFIX)?.rsplit_once('-')?;
    let (table, index) = partition.split_once('.')?;
    Some(ReplicaKey {
        partition: PartitionId {
            table: TableId(table.parse().ok()?),
            index: index.parse().ok()?,
        },
        incarnation: ReplicaIncarnation(incarnation.parse().ok()?),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn directories_name_the_replica_that_is_being_made() {
        let key = ReplicaKey {
            partition: PartitionId {
                table: TableId(3),
                index: 7,
            },
            incarnation: ReplicaIncarnation(99),
        };
        let root = tempfile::tempdir().expect("a directory");
        let name = format!("{PREFIX}{}-{}", key.partition, key.incarnation);
        for name in [
            &name,
            "restore-",
            "restore-3.x-1",
            "export-backup-3-7-0",
            "3.7-from-1",
        ] {
            fs::create_dir(root.path().join(name)).expect("a name");
        }
        assert_eq!(unfinished(root.path()).expect("it is there"), [key]);
    }
}

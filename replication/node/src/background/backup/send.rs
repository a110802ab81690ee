//! One replica to a target.

use super::{BackupCore, LayOutRequest, Plane, persist};
use crate::clock;
use crate::inbox::CoreInput;
use crate::meta_link::{BackupOrder, ReplicaKey};
use crossbeam_channel::bounded;
use pegasus_backup::pace::Progress;
use pegasus_backup::upload::Upload;
use pegasus_backup::{TargetError, layout};
use pegasus_engine::rocks::is_row_file;
use pegasus_replication::ids::{Decree, PartitionId};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The core has to flush first.
const LAY_OUT_TIMEOUT: Duration = Duration::from_secs(75);

/// What is at the target now.
pub(super) struct Sent {
    pub(super) decree: Decree,
    pub(super) timestamp_ms: u64,
}

/// Why one attempt has not come to its end.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("{0}")]
    Target(#[from] TargetError),
    #[error("replica {0} is not on this node")]
    NotHere(PartitionId),
    #[error("the order leads out of the target: {0:?}")]
    Path(String),
    #[error("the replica could not be laid out: {0}")]
    LayOut(String),
}

impl SendError {
    const fn may_pass(&self) -> bool {
        match self {
            Self::Target(error) => error.trouble.may_pass(),
            Self::LayOut(_) => true,
            Self::NotHere(_) | Self::Path(_) => false,
        }
    }
}

/// Sends it, with several attempts; each goes on where the one before was. May be dropped at any time.
pub(super) async fn send(
    plane: &Plane,
    order: &BackupOrder,
    progress: &Progress,
) -> Result<Sent, String> {
    let permit = plane.permits.acquire().await;
    let sent = persist("a backup", SendError::may_pass, async || {
        once(plane, order, progress).await
    })
    .await;
    drop(permit);
    sent.map_err(|error| error.to_string())
}

async fn once(plane: &Plane, order: &BackupOrder, progress: &Progress) -> Result<Sent, SendError> {
    let target = plane.target(&order.target)?;
    let partition_dir = partition_dir(order, order.backup_id)?;
    let base_dir = match order.base_id {
        0 => None,
        base => Some(partition_dir_of(order, base)),
    };
    let (number, core) = find(plane, order)?;
    let staging = Staging::new(plane, core, order);
    let decree = lay_out(core, order.key, staging.0.clone()).await?;
    let upload = Upload {
        target: &target,
        partition_dir: &partition_dir,
        base_dir: base_dir.as_deref(),
        checkpoint: &layout::checkpoint_name(core.address),
        source: &format!("{}.{number}", plane.source),
        is_lasting: is_row_file,
        directory: &staging.0,
        decree: decree.0,
        timestamp_ms: clock::wall_us() / 1000,
        sending: &plane.sending,
        reading: &plane.reading,
        progress,
    };
    let metadata = upload.run().await?;
    tracing::info!(
        backup = order.backup_id, partition = %order.key.partition, target = order.target, decree = metadata.checkpoint_decree,
        bytes = metadata.checkpoint_total_size, sent = progress.bytes().sent, "a partition is backed up"
    );
    Ok(Sent {
        decree: Decree(unsigned(metadata.checkpoint_decree)),
        timestamp_ms: unsigned(metadata.checkpoint_timestamp),
    })
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Names come from operators: none may lead elsewhere.
fn partition_dir(order: &BackupOrder, backup_id: u64) -> Result<String, SendError> {
    let table = layout::table_name(&order.table_name, order.key.partition.table.0);
    if !layout::is_plain_name(&table) || order.root.split('/').any(|part| part == "..") {
        return Err(SendError::Path(layout::join(&[&order.root, &table])));
    }
    Ok(partition_dir_of(order, backup_id))
}

fn partition_dir_of(order: &BackupOrder, backup_id: u64) -> String {
    let id = order.key.partition;
    let table = layout::table_dir(&order.root, backup_id, &order.table_name, id.table.0);
    layout::partition_dir(&table, id.index)
}

/// The core that has the replica.
fn find<'p>(plane: &'p Plane, order: &BackupOrder) -> Result<(usize, &'p BackupCore), SendError> {
    let ReplicaKey {
        partition,
        incarnation,
    } = order.key;
    let holds = |core: &BackupCore| {
        let held = core.store.partitions();
        held.contains(&(partition, incarnation))
    };
    let mut cores = plane.cores.iter().enumerate();
    cores
        .find(|(_, core)| holds(core))
        .ok_or(SendError::NotHere(partition))
}

async fn lay_out(
    core: &BackupCore,
    key: ReplicaKey,
    directory: PathBuf,
) -> Result<Decree, SendError> {
    let (answer, answered) = bounded(1);
    let request = LayOutRequest {
        partition: key.partition,
        incarnation: key.incarnation,
        directory,
        answer,
    };
    let inbox = core.inbox.clone();
    let waited = tokio::task::spawn_blocking(move || {
        inbox.send(CoreInput::LayOut(request));
        answered.recv_timeout(LAY_OUT_TIMEOUT)
    });
    match waited.await {
        Ok(Ok(Ok(decree))) => Ok(decree),
        Ok(Ok(Err(error))) => Err(SendError::LayOut(error)),
        Ok(Err(_)) => Err(SendError::LayOut("its core does not answer".to_owned())),
        Err(error) => Err(SendError::LayOut(error.to_string())),
    }
}

/// The directory of one attempt, gone with it. What a crash leaves is deleted at the next start, by its name.
struct Staging(PathBuf);

impl Staging {
    fn new(plane: &Plane, core: &BackupCore, order: &BackupOrder) -> Self {
        let id = order.key.partition;
        let number = plane.staged.fetch_add(1, Ordering::Relaxed);
        let name = format!("export-backup-{}-{}-{number}", id.table.0, id.index);
        Self(core.learn_dir.join(name))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(directory = %self.0.display(), %error, "files of a backup could not be removed");
        }
    }
}

//! Opening a shard: its database, then its log, then the state machine that goes on from both. On a thread of its own for
//! each shard, because both may take seconds.

use crate::background::backup::unfinished;
use crate::data_dir::{ClusterId, ShardDir, sync_dir};
use crate::log_file::segment_of;
use bytes::{Bytes, BytesMut};
use pegasus_engine::rocks::{
    EngineOptions, FoundReplica, NoticeSink, OpenError, Opened, StoreError,
};
use pegasus_engine::{RocksEngine, RocksStore};
use pegasus_replication::config::ReplicationOptions;
use pegasus_replication::ids::{CoreAddress, PartitionId};
use pegasus_replication::log::recover::{Damage, RecoverError, SegmentSource, recover};
use pegasus_replication::log::{LogIdentity, LogOptions, Marker, SegmentId};
use pegasus_replication::shard::{Shard, StoredReplica};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A shard ready to start.
#[derive(Debug)]
pub struct OpenedShard {
    pub shard: Shard,
    pub engine: RocksEngine,
    /// Replicas with damaged files, and what is wrong with them.
    pub damaged: Vec<(PartitionId, String)>,
}

/// What opening a shard needs to know.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    pub cluster: ClusterId,
    pub address: CoreAddress,
    pub replication: ReplicationOptions,
    pub log: LogOptions,
    pub engine: EngineOptions,
}

/// Why a shard is not opened; each names the file.
#[derive(Debug, thiserror::Error)]
pub enum OpenShardError {
    #[error("log {path}: {error}")]
    LogIo { path: PathBuf, error: io::Error },
    #[error("log {path}: {error}")]
    Log { path: PathBuf, error: RecoverError },
    #[error("engine: {0}")]
    Engine(#[from] OpenError),
    #[error("engine: {0}")]
    Store(#[from] StoreError),
}

/// Opens the database and recovers the log of one shard.
///
/// # Errors
/// The directory is not this shard's, is of another format, or cannot be read.
pub fn open_shard(
    dir: &ShardDir,
    options: &OpenOptions,
    sink: NoticeSink,
) -> Result<OpenedShard, OpenShardError> {
    let started = Instant::now();
    let mut opened = RocksStore::open(&dir.db, &options.engine, sink)?;
    drop_unfinished(&mut opened, &dir.learn)?;
    let stored: Vec<StoredReplica> = opened
        .replicas
        .iter()
        .map(|found| StoredReplica {
            partition: found.partition,
            incarnation: found.incarnation,
            decree: found.marker.decree,
            ballot: found.marker.ballot,
        })
        .collect();
    let damaged = opened
        .replicas
        .into_iter()
        .filter_map(|found| Some((found.partition, found.damage?)))
        .collect();
    let engine_ms = started.elapsed().as_millis();

    let mut files = SegmentFiles::open(&dir.log).map_err(|error| OpenShardError::LogIo {
        path: dir.log.clone(),
        error,
    })?;
    let identity = LogIdentity {
        cluster: options.cluster.0,
        node: options.address.node,
        shard: options.address.core,
    };
    let markers: BTreeMap<PartitionId, Marker> = stored
        .iter()
        .map(|replica| (replica.partition, replica.marker()))
        .collect();
    let recovery =
        recover(&mut files, identity, &markers).map_err(|error| OpenShardError::Log {
            path: dir.log.clone(),
            error,
        })?;
    for damage in &recovery.damage {
        match damage {
            Damage::TornTail { at } => {
                tracing::info!(core = %options.address, ?at, "the log ends in an unfinished write")
            }
            other => {
                tracing::error!(core = %options.address, damage = ?other, "the log is damaged")
            }
        }
    }
    let entries: usize = recovery
        .replicas
        .values()
        .map(|replica| replica.entries.len())
        .sum();
    tracing::info!(
        core = %options.address,
        replicas = stored.len(),
        segments = files.files.len(),
        entries,
        engine_ms,
        total_ms = started.elapsed().as_millis(),
        "shard is open"
    );
    let shard = Shard::new(
        options.replication.clone(),
        options.log,
        options.address,
        recovery,
        &stored,
    );
    Ok(OpenedShard {
        shard,
        engine: opened.engine,
        damaged,
    })
}

/// Replicas that were being made of a backup when the process ended are made anew: nobody has seen them.
fn drop_unfinished(opened: &mut Opened, learn_dir: &Path) -> Result<(), OpenShardError> {
    let keys = unfinished(learn_dir).map_err(|error| OpenShardError::LogIo {
        path: learn_dir.to_owned(),
        error,
    })?;
    for key in keys {
        let is_it = |found: &FoundReplica| {
            (found.partition, found.incarnation) == (key.partition, key.incarnation)
        };
        if !opened.replicas.iter().any(is_it) {
            continue;
        }
        tracing::info!(partition = %key.partition, "its restore was not finished, it is made anew");
        opened.engine.forget(key.partition);
        opened.store.drop_replica(key.partition, key.incarnation)?;
        opened.replicas.retain(|found| !is_it(found));
    }
    Ok(())
}

/// The segment files of a log directory, for recovery.
#[derive(Debug)]
struct SegmentFiles {
    files: BTreeMap<SegmentId, (File, u64)>,
}

impl SegmentFiles {
    /// Opens all segments and flushes them: what recovery has read must survive the next crash as well.
    fn open(dir: &Path) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let Some(segment) = segment_of(&path) else {
                continue;
            };
            let file = File::open(&path)?;
            file.sync_all()?;
            let bytes = file.metadata()?.len();
            files.insert(segment, (file, bytes));
        }
        sync_dir(dir)?;
        Ok(Self { files })
    }
}

impl SegmentSource for SegmentFiles {
    fn segments(&self) -> Vec<(SegmentId, u64)> {
        self.files
            .iter()
            .map(|(segment, (_, bytes))| (*segment, *bytes))
            .collect()
    }

    fn read(&mut self, segment: SegmentId, offset: u64, length: usize) -> Result<Bytes, String> {
        let Some((file, _)) = self.files.get(&segment) else {
            return Err(format!("segment {} is not there", segment.0));
        };
        let mut buffer = BytesMut::zeroed(length);
        file.read_exact_at(&mut buffer, offset)
            .map_err(|error| error.to_string())?;
        Ok(buffer.freeze())
    }
}

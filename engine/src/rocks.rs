//! The engine on RocksDB: one database per core, one column family per replica, no write-ahead log of its own.
//!
//! Two handles, for two kinds of threads. [`RocksEngine`] belongs to the data core and never blocks: writes that would
//! stall answer [`ApplyError::Busy`], reads that would touch the disk answer [`ReadError::Incomplete`]. [`RocksStore`]
//! is shared by helper threads and makes all slow calls: create, drop, flush, export, import, scrub, reads from disk.
//!
//! **A flush** goes: core [`begin_flush`](Engine::begin_flush) (writes the marker), helper [`RocksStore::flush`], core
//! [`end_flush`](Engine::end_flush) with the durable decree. RocksDB also flushes on its own limits; then a
//! [`Notice::Flushed`] makes a helper read [`RocksStore::durable`], and the core is told likewise.
//!
//! **Damage** stays with its replica: reads of others go on, and neither opening the database nor a compaction that
//! meets a bad block stops it (see `rocks/options.rs`). [`Notice::Damaged`], a failed read or
//! [`RocksStore::scrub`] names replica and file; [`RocksStore::quarantine`] takes the replica out of use.

mod backup_dir;
mod checkpoint;
mod directory;
mod events;
mod flush;
mod manifest;
mod options;
mod pace;
mod quick;
mod read;
mod replica;
mod scrub;
mod shape;
mod sparse;
mod store;
mod ttl_filter;
mod write;

pub use crate::row_cache::{RowCacheActivity, RowHint};
pub use backup_dir::{DirectoryError, META_COLUMN_FAMILY, export_from, is_row_file};
pub use checkpoint::{EXPORT_FILE, Export, ExportFile};
pub use events::{Notice, NoticeSink};
pub use flush::{Bottommost, FLUSH_TIME_MAX, Thorough};
pub use options::{Clock, EngineOptions};
pub use quick::{CacheView, CachedRows};
pub use shape::{ReplicaSize, Scenario, Shape};
pub use store::RocksStore;

use crate::atomic::RequestOutcome;
use crate::marker::Marker;
use crate::op::BatchRef;
use crate::progress::{FlushPolicy, Progress};
use crate::row_cache::{ReplicaNumber, RowCache};
use crate::scan::{ScanPage, ScanSpec};
use crate::{
    Applied, ApplyAllError, ApplyError, Engine, EnginePressure, Mutation, ReadError, Row, Tier,
};
use bytes::Bytes;
use pegasus_replication::ids::{Ballot, Decree, PartitionId, ReplicaIncarnation, RequestId};
use replica::Replica;
use rocksdb::{ErrorKind, WriteOptions};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use write::Group;

/// What [`RocksStore::open`] gives.
#[derive(Debug)]
pub struct Opened {
    /// For helper threads.
    pub store: RocksStore,
    /// For the data core. There is only this one: it alone knows what has been applied since.
    pub engine: RocksEngine,
    /// Every replica found, in order.
    pub replicas: Vec<FoundReplica>,
}

/// A replica that was in the database when it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundReplica {
    pub partition: PartitionId,
    pub incarnation: ReplicaIncarnation,
    /// What it durably holds; replay goes on after its decree.
    pub marker: Marker,
    /// Why it must not serve: a file is missing or unreadable.
    pub damage: Option<String>,
}

/// Why a database was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("engine options: {0}")]
    Options(String),
    #[error("{directory}: not empty and not a database of ours", directory = directory.display())]
    Foreign { directory: PathBuf },
    #[error("{directory} has engine format {version}, this build reads {known}", directory = directory.display())]
    Version {
        directory: PathBuf,
        version: u32,
        known: u32,
    },
    #[error("{directory}: another process has this database open", directory = directory.display())]
    Locked { directory: PathBuf },
    #[error("{directory}: {error}", directory = directory.display())]
    Io {
        directory: PathBuf,
        error: io::Error,
    },
    #[error("{directory}: {detail}", directory = directory.display())]
    Database { directory: PathBuf, detail: String },
}

impl OpenError {
    fn database(directory: &Path, error: rocksdb::Error) -> Self {
        let (directory, detail) = (directory.to_owned(), error.into_string());
        // RocksDB has no status of its own for it.
        if detail.contains("LOCK: ") || detail.contains("lock hold by current process") {
            Self::Locked { directory }
        } else {
            Self::Database { directory, detail }
        }
    }
}

/// Why a slow call on a replica failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("replica {partition}: not in this engine")]
    NoReplica { partition: PartitionId },
    #[error("replica {partition}: incarnation {here} is here, not {wanted}")]
    OtherIncarnation {
        partition: PartitionId,
        here: ReplicaIncarnation,
        wanted: ReplicaIncarnation,
    },
    /// A file of this replica is damaged; `detail` names it.
    #[error("replica {partition}: {detail}")]
    Corruption {
        partition: PartitionId,
        detail: String,
    },
    #[error("replica {partition}: {detail}")]
    Io {
        partition: PartitionId,
        detail: String,
    },
}

impl StoreError {
    fn from_rocksdb(partition: PartitionId, error: rocksdb::Error) -> Self {
        let kind = error.kind();
        let detail = error.into_string();
        if kind == ErrorKind::Corruption {
            Self::Corruption { partition, detail }
        } else {
            Self::Io { partition, detail }
        }
    }

    fn io(partition: PartitionId, path: &Path, error: &io::Error) -> Self {
        Self::Io {
            partition,
            detail: format!("{}: {error}", path.display()),
        }
    }
}

/// Numbers for statistics; see [`RocksEngine::activity`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct EngineActivity {
    /// Memtables written to files, whatever caused it.
    pub flushes: u64,
    pub compactions: u64,
    /// Bytes in the block cache, indexes and filters too.
    pub block_cache_bytes: u64,
    pub rows: RowCacheActivity,
}

/// The data core's side of the database.
pub struct RocksEngine {
    // Declared before the store, so that handles go before the database.
    replicas: HashMap<PartitionId, OpenReplica>,
    /// Changed by what is applied, filled by reads of the core; helper threads read past it.
    rows: RefCell<RowCache>,
    group: Group,
    writes: WriteOptions,
    policy: FlushPolicy,
    timetag_cluster: u8,
    store: RocksStore,
}

struct OpenReplica {
    handle: Arc<Replica>,
    /// A new one whenever the handle is new: rows cached under an old one are never found again.
    number: ReplicaNumber,
    progress: Progress,
}

impl RocksEngine {
    fn new(store: RocksStore, options: &EngineOptions) -> Self {
        let mut engine = Self {
            replicas: HashMap::new(),
            rows: RefCell::new(RowCache::new(options.row_cache_bytes)),
            group: Group::default(),
            writes: options::writes(),
            policy: FlushPolicy {
                replica_bytes_max: options.replica_memtable_bytes_max as u64,
                // The other half is for what is being flushed.
                total_bytes_max: options.memtable_bytes_max as u64 / 2,
            },
            timetag_cluster: options.timetag_cluster,
            store,
        };
        for (partition, _) in engine.store.partitions() {
            let _ = engine.adopt(partition);
        }
        engine
    }

    /// The slow side of the same database.
    #[must_use]
    pub const fn store(&self) -> &RocksStore {
        &self.store
    }

    /// Lets go of a replica, so that dropping it frees its files at once. Call before [`RocksStore::drop_replica`] is
    /// handed to a helper; a replica that was dropped without it is let go of when it is met next.
    pub fn forget(&mut self, partition: PartitionId) {
        self.replicas.remove(&partition);
    }

    /// Files of a replica that are not sorted into levels, as they were when they were counted last
    /// ([`RocksStore::refresh_pressure`]). Takes a look-up in a map.
    #[must_use]
    pub fn level0_files(&self, partition: PartitionId) -> u32 {
        self.replicas
            .get(&partition)
            .map_or(0, |open| open.handle.level0_files())
    }

    /// What the database has done since it was opened, and holds in memory. Takes about a microsecond.
    #[must_use]
    pub fn activity(&self) -> EngineActivity {
        let shared = &self.store.shared;
        EngineActivity {
            flushes: shared.gauges.flushes.load(Ordering::Relaxed),
            compactions: shared.gauges.compactions.load(Ordering::Relaxed),
            block_cache_bytes: shared.budget.block_cache.get_usage() as u64,
            rows: self.rows.borrow().activity(),
        }
    }

    fn adopt(&mut self, partition: PartitionId) -> Result<&mut OpenReplica, ApplyError> {
        adopt(&mut self.replicas, &self.rows, &self.store, partition)
    }

    /// `read` gets the replica, and its number in the row cache if it has one yet.
    fn with_replica<T>(
        &self,
        partition: PartitionId,
        read: impl FnOnce(&Replica, Option<ReplicaNumber>) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        match self
            .replicas
            .get(&partition)
            .filter(|open| !open.handle.is_dropped())
        {
            Some(open) => read(&open.handle, Some(open.number)),
            None => {
                let found = self.store.find(partition);
                read(&*found.ok_or(ReadError::NoReplica { partition })?, None)
            }
        }
    }

    /// From the row cache if it is there, else from the database, whose answer is cached.
    fn get_cached(
        &self,
        replica: &Replica,
        number: ReplicaNumber,
        raw_key: &[u8],
        now_s: u32,
        tier: Tier,
    ) -> Result<Option<Row>, ReadError> {
        // A replica that is out of use must not be read, whatever is known of it.
        replica.check()?;
        let mut rows = self.rows.borrow_mut();
        if let Some(known) = rows.get(number, raw_key, now_s) {
            return Ok(known);
        }
        let reader = &self.store.shared.reader;
        reader.get(replica, raw_key, now_s, tier, |stored| {
            rows.fill(number, raw_key, stored);
        })
    }

    /// What the row cache does not know is asked of the database in one call.
    fn multi_get_cached(
        &self,
        replica: &Replica,
        number: ReplicaNumber,
        raw_keys: &[Bytes],
        now_s: u32,
        tier: Tier,
    ) -> Result<Vec<Option<Row>>, ReadError> {
        replica.check()?;
        let mut rows = self.rows.borrow_mut();
        let mut answers = Vec::with_capacity(raw_keys.len());
        let (mut missing, mut missing_at) = (Vec::new(), Vec::new());
        for (at, raw_key) in raw_keys.iter().enumerate() {
            let known = rows.get(number, raw_key, now_s);
            if known.is_none() {
                missing.push(raw_key);
                missing_at.push(at);
            }
            answers.push(known.flatten());
        }
        if missing.is_empty() {
            return Ok(answers);
        }
        let reader = &self.store.shared.reader;
        let found = reader.multi_get(replica, &missing, now_s, tier, |at, stored| {
            if let Some(raw_key) = missing.get(at) {
                rows.fill(number, raw_key, stored);
            }
        })?;
        for (at, row) in missing_at.into_iter().zip(found) {
            answers[at] = row;
        }
        Ok(answers)
    }
}

impl Engine for RocksEngine {
    fn apply(
        &mut self,
        partition: PartitionId,
        decree: Decree,
        ballot: Ballot,
        timestamp_us: u64,
        request_id: RequestId,
        payload: &[u8],
    ) -> Result<(), ApplyError> {
        let mutation = Mutation {
            partition,
            decree,
            ballot,
            timestamp_us,
            request_id,
            payload,
        };
        self.apply_mutations(std::slice::from_ref(&mutation))
            .map_err(|failed| failed.error)
    }

    fn apply_all(&mut self, mutations: &[Mutation<'_>]) -> Result<(), ApplyAllError> {
        self.apply_mutations(mutations)
    }

    fn get(
        &self,
        partition: PartitionId,
        raw_key: &[u8],
        now_s: u32,
        tier: Tier,
    ) -> Result<Option<Row>, ReadError> {
        self.with_replica(partition, |replica, number| match number {
            Some(number) => self.get_cached(replica, number, raw_key, now_s, tier),
            None => {
                let reader = &self.store.shared.reader;
                reader.get(replica, raw_key, now_s, tier, |_| ())
            }
        })
    }

    fn multi_get(
        &self,
        partition: PartitionId,
        raw_keys: &[Bytes],
        now_s: u32,
        tier: Tier,
    ) -> Result<Vec<Option<Row>>, ReadError> {
        self.with_replica(partition, |replica, number| match number {
            Some(number) => self.multi_get_cached(replica, number, raw_keys, now_s, tier),
            None => {
                let reader = &self.store.shared.reader;
                reader.multi_get(replica, raw_keys, now_s, tier, |_, _| ())
            }
        })
    }

    fn scan(
        &self,
        partition: PartitionId,
        spec: &ScanSpec,
        tier: Tier,
    ) -> Result<ScanPage, ReadError> {
        self.with_replica(partition, |replica, _| read::scan(replica, spec, tier))
    }

    fn last_applied(&self, partition: PartitionId) -> Option<Applied> {
        match self
            .replicas
            .get(&partition)
            .filter(|open| !open.handle.is_dropped())
        {
            Some(open) => Some(open.progress.applied()),
            None => self.store.find(partition).map(|handle| Applied {
                decree: handle.opened_at.decree,
                ballot: handle.opened_at.ballot,
            }),
        }
    }

    fn request_outcome(
        &self,
        partition: PartitionId,
        request_id: RequestId,
        is_retry: bool,
    ) -> RequestOutcome {
        if let Some(open) = self.replicas.get(&partition) {
            return open.progress.request_outcome(request_id, is_retry);
        }
        // Nothing has been applied since it was opened.
        self.store
            .find(partition)
            .map_or(RequestOutcome::New, |handle| {
                handle.opened_at.window.outcome(request_id, is_retry)
            })
    }

    fn foresee(&mut self, partition: PartitionId, payload: &[u8]) {
        // A replica that is not there is not primary.
        if let (Ok(open), Ok(batch)) = (self.adopt(partition), BatchRef::parse(payload)) {
            open.progress.foresee(batch);
        }
    }

    fn is_plain(&self, partition: PartitionId, hash_key: &[u8]) -> bool {
        self.replicas
            .get(&partition)
            .is_some_and(|open| !open.handle.is_dropped() && open.progress.is_plain(hash_key))
    }

    fn begin_flush(&mut self, partition: PartitionId) -> Result<(), ApplyError> {
        self.write_marker(partition)?;
        self.adopt(partition)?.progress.flush_begins();
        Ok(())
    }

    fn end_flush(&mut self, partition: PartitionId, durable: Decree) {
        if let Some(open) = self.replicas.get_mut(&partition) {
            open.progress.flush_ended();
            open.progress.durable(durable);
        }
    }

    fn abort_flush(&mut self, partition: PartitionId) {
        if let Some(open) = self.replicas.get_mut(&partition) {
            open.progress.flush_ended();
        }
    }

    fn flush_wanted(&self) -> Option<PartitionId> {
        let healthy = self
            .replicas
            .iter()
            .filter(|(_, open)| open.handle.check().is_ok());
        self.policy.choose(healthy.map(|(partition, open)| {
            let own = open.handle.memtable_bytes_max();
            (partition, &open.progress, own)
        }))
    }

    fn unflushed_bytes(&self, partition: PartitionId) -> u64 {
        self.replicas
            .get(&partition)
            .map_or(0, |open| open.progress.unflushed_bytes())
    }

    fn pressure(&self) -> EnginePressure {
        self.store.pressure()
    }
}

impl fmt::Debug for RocksEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksEngine")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// The open replica, which may have been created since the last look. Locks the registry only for a new one.
fn adopt<'a>(
    replicas: &'a mut HashMap<PartitionId, OpenReplica>,
    rows: &RefCell<RowCache>,
    store: &RocksStore,
    partition: PartitionId,
) -> Result<&'a mut OpenReplica, ApplyError> {
    let is_open = |open: &OpenReplica| !open.handle.is_dropped();
    if !replicas.get(&partition).is_some_and(is_open) {
        replicas.remove(&partition);
        let handle = store
            .find(partition)
            .ok_or(ApplyError::NoReplica { partition })?;
        let open = OpenReplica {
            progress: Progress::new(&handle.opened_at),
            number: rows.borrow_mut().number_replica(),
            handle,
        };
        replicas.insert(partition, open);
    }
    replicas
        .get_mut(&partition)
        .ok_or(ApplyError::NoReplica { partition })
}

fn to_apply_error(error: ReadError) -> ApplyError {
    match error {
        // The second is of operations that look at many rows; nothing is applied by one.
        ReadError::Incomplete { partition } | ReadError::TooLarge { partition, .. } => {
            ApplyError::Busy { partition }
        }
        ReadError::NoReplica { partition } => ApplyError::NoReplica { partition },
        ReadError::Corruption { partition, detail } => ApplyError::Corruption { partition, detail },
        ReadError::Io { partition, detail } => ApplyError::Io { partition, detail },
    }
}

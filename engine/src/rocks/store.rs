//! The database of one core as helper threads see it: opening, replicas coming and going, full-tier reads.

use super::events::{Gauges, Listener, NoticeSink};
use super::options::{self, Budget, EngineOptions};
use super::read::{self, Reader};
use super::replica::{Db, Replica, ReplicaName};
use super::{FoundReplica, OpenError, Opened, RocksEngine, StoreError, directory};
use crate::marker::{MARKER_KEY, Marker};
use crate::{EnginePressure, ReadError, Row, ScanPage, ScanSpec, Tier};
use bytes::Bytes;
use pegasus_replication::ids::{PartitionId, ReplicaIncarnation};
use rocksdb::{ColumnFamilyDescriptor, Options, ReadOptions, ReadTier};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const IMMUTABLE_MEMTABLES: &str = "rocksdb.num-immutable-mem-table";
const LEVEL0_FILES: &str = "rocksdb.num-files-at-level0";
const ESTIMATED_ROWS: &str = "rocksdb.estimate-num-keys";
const FILE_BYTES: &str = "rocksdb.live-sst-files-size";

/// Handle to the database of one core. Clones share it; the last one to go closes it, *without* a flush.
///
/// Every method here may take milliseconds to seconds: none may be called on a data core.
#[derive(Clone)]
pub struct RocksStore {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    // Declared first, so that handles go before the database and the database before what it uses.
    replicas: Mutex<BTreeMap<PartitionId, Arc<Replica>>>,
    pub(super) db: Arc<Db>,
    pub(super) directory: PathBuf,
    pub(super) column_family: Options,
    pub(super) budget: Budget,
    pub(super) gauges: Arc<Gauges>,
    pub(super) reader: Reader,
    persisted: ReadOptions,
    options: EngineOptions,
    /// Held while column families come and go, so that two helpers do not make the same one.
    admin: Mutex<()>,
    /// Goes with the condition "a flush has completed".
    pub(super) waiting: Mutex<()>,
}

impl RocksStore {
    /// Opens the database in `directory`, making it if the directory is missing or empty.
    ///
    /// RocksDB's background threads are started here and inherit the CPU mask of the calling thread: call it from a
    /// thread that runs on background cores. Takes about a millisecond per replica.
    ///
    /// # Errors
    /// [`OpenError`]. Damage to the files of single replicas is no error: it is told in [`Opened::replicas`].
    pub fn open(
        directory: &Path,
        options: &EngineOptions,
        sink: NoticeSink,
    ) -> Result<Opened, OpenError> {
        options.check().map_err(OpenError::Options)?;
        directory::claim(directory)?;
        options::start_background_threads(options)
            .map_err(|error| OpenError::database(directory, error))?;
        let budget = Budget::new(options);
        let gauges = Arc::new(Gauges::default());
        let column_family = options::column_family(options, &budget);
        let database =
            options::database(options, &budget, Listener::new(Arc::clone(&gauges), sink));
        let names = column_families(directory, &database)?;
        let descriptors = names
            .iter()
            .map(|name| ColumnFamilyDescriptor::new(name, column_family.clone()));
        let db = Db::open_cf_descriptors(&database, directory, descriptors)
            .map_err(|error| OpenError::database(directory, error))?;
        let store = Self {
            shared: Arc::new(Shared {
                replicas: Mutex::new(BTreeMap::new()),
                db: Arc::new(db),
                directory: directory.to_owned(),
                column_family,
                budget,
                gauges,
                reader: Reader::new(),
                persisted: options::reads(ReadTier::Persisted),
                options: options.clone(),
                admin: Mutex::new(()),
                waiting: Mutex::new(()),
            }),
        };
        let replicas = store.find_replicas(&names)?;
        store.refresh_pressure();
        let engine = RocksEngine::new(store.clone(), options);
        Ok(Opened {
            store,
            engine,
            replicas,
        })
    }

    /// Registers the replicas among `names` and says in which state each is.
    fn find_replicas(&self, names: &[String]) -> Result<Vec<FoundReplica>, OpenError> {
        let mut damage = self.damaged_files()?;
        let mut found = Vec::new();
        // In order of incarnation: should a partition have several replicas here, the newest one counts.
        for name in names
            .iter()
            .filter_map(|name| ReplicaName::parse(name))
            .collect::<BTreeSet<_>>()
        {
            let read = self.read_marker(name, &options::reads(ReadTier::All));
            let damage = damage
                .remove(&name)
                .or_else(|| read.as_ref().err().cloned());
            let marker = read.unwrap_or_else(|_| Marker::new(name.incarnation));
            if let Some(detail) = &damage {
                tracing::error!(replica = %name, detail, "replica is damaged");
            }
            let ReplicaName {
                partition,
                incarnation,
            } = name;
            found.push(FoundReplica {
                partition,
                incarnation,
                marker: marker.clone(),
                damage: damage.clone(),
            });
            if let Some(replica) = Replica::open(&self.shared.db, name, marker) {
                damage
                    .into_iter()
                    .for_each(|detail| replica.set_damage(detail));
                self.register(replica);
            }
        }
        Ok(found)
    }

    /// Replicas with a file that is missing or has another length than the database believes.
    fn damaged_files(&self) -> Result<BTreeMap<ReplicaName, String>, OpenError> {
        let files = self
            .shared
            .db
            .live_files()
            .map_err(|error| OpenError::database(&self.shared.directory, error))?;
        let mut damaged = BTreeMap::new();
        for file in files {
            let Some(name) = ReplicaName::parse(&file.column_family_name) else {
                continue;
            };
            let path = format!("{}{}", file.directory, file.name);
            match fs::metadata(&path) {
                Ok(metadata) if metadata.len() == file.size as u64 => {}
                Ok(metadata) => {
                    damaged.insert(
                        name,
                        format!("{path}: {} bytes, not {}", metadata.len(), file.size),
                    );
                }
                Err(error) => {
                    damaged.insert(name, format!("{path}: {error}"));
                }
            }
        }
        Ok(damaged)
    }

    /// The marker of a column family, or the sentence why there is none that counts.
    fn read_marker(&self, name: ReplicaName, reads: &ReadOptions) -> Result<Marker, String> {
        let column_family = self
            .shared
            .db
            .cf_handle(&name.to_string())
            .ok_or_else(|| "column family is gone".to_owned())?;
        let stored = self
            .shared
            .db
            .get_pinned_cf_opt(&column_family, MARKER_KEY, reads);
        let Some(stored) = stored.map_err(rocksdb::Error::into_string)? else {
            return Ok(Marker::new(name.incarnation));
        };
        let marker = Marker::decode(&stored).map_err(|error| error.to_string())?;
        if marker.incarnation == name.incarnation {
            Ok(marker)
        } else {
            Err(format!(
                "import of incarnation {} did not finish",
                marker.incarnation
            ))
        }
    }

    /// Makes empty replicas in one go and makes them durable; one answer each, in order. A replica that exists with
    /// the same incarnation is left as it is.
    #[must_use]
    pub fn create(
        &self,
        replicas: &[(PartitionId, ReplicaIncarnation)],
    ) -> Vec<Result<(), StoreError>> {
        let _admin = self.admin();
        let names = replicas
            .iter()
            .map(|&(partition, incarnation)| ReplicaName {
                partition,
                incarnation,
            });
        let mut missing: BTreeMap<PartitionId, ReplicaName> = BTreeMap::new();
        for name in names
            .clone()
            .filter(|name| self.find(name.partition).is_none())
        {
            missing.entry(name.partition).or_insert(name);
        }
        let created = self.shared.db.create_cfs(
            missing.values().map(ToString::to_string),
            &self.shared.column_family,
        );
        for &name in missing.values() {
            if let Some(replica) =
                Replica::open(&self.shared.db, name, Marker::new(name.incarnation))
            {
                self.register(replica);
            }
        }
        let detail = created
            .err()
            .map(rocksdb::Error::into_string)
            .unwrap_or_default();
        let answer = |name: ReplicaName| match self.find(name.partition) {
            Some(replica) => same_incarnation(&replica, name.incarnation),
            None => Err(StoreError::Io {
                partition: name.partition,
                detail: detail.clone(),
            }),
        };
        names.map(answer).collect()
    }

    /// Removes a replica with all its files. `Ok` also if there is none.
    ///
    /// # Errors
    /// [`StoreError::OtherIncarnation`] if the replica here is another one, or [`StoreError::Io`].
    pub fn drop_replica(
        &self,
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
    ) -> Result<(), StoreError> {
        let _admin = self.admin();
        let Some(replica) = self.find(partition) else {
            return Ok(());
        };
        same_incarnation(&replica, incarnation)?;
        replica.set_dropped();
        self.registry().remove(&partition);
        self.shared
            .db
            .drop_cf(&replica.name.to_string())
            .map_err(|error| StoreError::Io {
                partition,
                detail: error.into_string(),
            })
    }

    /// From here on everybody may find it.
    pub(super) fn register(&self, replica: Replica) {
        self.registry()
            .insert(replica.name.partition, Arc::new(replica));
    }

    /// The marker that a crash right now would leave. Reads files, never memtables.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn durable(&self, partition: PartitionId) -> Result<Marker, StoreError> {
        let replica = self.replica(partition)?;
        self.read_marker(replica.name, &self.shared.persisted)
            .map_err(|detail| StoreError::Corruption { partition, detail })
    }

    /// Takes a replica out of use: reads and writes answer `Corruption` with `detail`, and its files are not compacted
    /// any more (a compaction that meets the damage would be tried again every second, in the way of all others).
    ///
    /// # Errors
    /// [`StoreError`]; the replica is out of use all the same.
    pub fn quarantine(&self, partition: PartitionId, detail: &str) -> Result<(), StoreError> {
        let replica = self.replica(partition)?;
        replica.set_damage(detail.to_owned());
        tracing::error!(replica = %replica.name, detail, "replica is taken out of use");
        self.shared
            .db
            .set_options_cf(
                replica.column_family(),
                &[("disable_auto_compactions", "true")],
            )
            .map_err(|error| StoreError::Io {
                partition,
                detail: error.into_string(),
            })
    }

    /// Tries to leave the error state told by [`Notice::BackgroundError`](super::Notice::BackgroundError).
    ///
    /// # Errors
    /// Why the database cannot write yet.
    pub fn resume(&self) -> Result<(), String> {
        self.shared
            .db
            .resume()
            .map_err(rocksdb::Error::into_string)?;
        self.shared
            .gauges
            .background_error
            .store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Counts files and memtables of all replicas, for [`Engine::pressure`](crate::Engine::pressure).
    pub fn refresh_pressure(&self) -> EnginePressure {
        let (mut immutable_memtables, mut level0_files) = (0, 0);
        for replica in self.all() {
            immutable_memtables = self.immutable_memtables(&replica).max(immutable_memtables);
            // One that is out of use is not compacted any more: it must not hold the others back.
            if replica.damage().is_none() {
                let files = self.count(&replica, LEVEL0_FILES);
                let files = replica.level0_files_behind(files);
                replica.set_level0_files(files);
                level0_files = files.max(level0_files);
            }
        }
        self.shared
            .gauges
            .immutable_memtables
            .store(immutable_memtables, Ordering::Relaxed);
        self.shared
            .gauges
            .level0_files
            .store(level0_files, Ordering::Relaxed);
        self.shared.budget.pace.set_level0_files(level0_files);
        self.pressure()
    }

    /// Files of a replica that are not sorted into levels yet.
    ///
    /// # Errors
    /// [`StoreError::NoReplica`].
    pub fn level0_files(&self, partition: PartitionId) -> Result<u32, StoreError> {
        Ok(self.count(&*self.replica(partition)?, LEVEL0_FILES))
    }

    /// About how many rows a replica has, expired ones and those written twice among them; 0 if there is no such replica.
    /// Cheap: no file is read.
    #[must_use]
    pub fn estimated_rows(&self, partition: PartitionId) -> u64 {
        let Ok(replica) = self.replica(partition) else {
            return 0;
        };
        self.property(&replica, ESTIMATED_ROWS)
    }

    pub(super) fn immutable_memtables(&self, replica: &Replica) -> u32 {
        self.count(replica, IMMUTABLE_MEMTABLES)
    }

    /// Bytes of the replica's files; 0 if it is not there. Cheap, but it takes a lock of the database: not for data threads.
    #[must_use]
    pub fn file_bytes(&self, partition: PartitionId) -> u64 {
        let Ok(replica) = self.replica(partition) else {
            return 0;
        };
        self.property(&replica, FILE_BYTES)
    }

    fn count(&self, replica: &Replica, property: &str) -> u32 {
        u32::try_from(self.property(replica, property)).unwrap_or(u32::MAX)
    }

    pub(super) fn options(&self) -> &EngineOptions {
        &self.shared.options
    }

    pub(super) fn property(&self, replica: &Replica, property: &str) -> u64 {
        let value = self
            .shared
            .db
            .property_value_cf(replica.column_family(), property);
        value
            .ok()
            .flatten()
            .and_then(|value| value.parse().ok())
            .unwrap_or(0)
    }

    pub(super) fn pressure(&self) -> EnginePressure {
        let gauges = &self.shared.gauges;
        EnginePressure {
            immutable_memtables: gauges.immutable_memtables.load(Ordering::Relaxed),
            level0_files: gauges.level0_files.load(Ordering::Relaxed),
            memtable_bytes: self.shared.budget.memtables.get_usage() as u64,
            memtable_bytes_max: self.shared.options.memtable_bytes_max as u64,
            stalled: gauges.stalled_replicas.load(Ordering::Relaxed) > 0
                || gauges.background_error.load(Ordering::Relaxed),
        }
    }

    /// Partitions with an open replica and its incarnation, in order.
    #[must_use]
    pub fn partitions(&self) -> Vec<(PartitionId, ReplicaIncarnation)> {
        self.all()
            .iter()
            .map(|replica| (replica.name.partition, replica.name.incarnation))
            .collect()
    }

    /// [`Engine::get`](crate::Engine::get) from the disk.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn get(
        &self,
        partition: PartitionId,
        raw_key: &[u8],
        now_s: u32,
    ) -> Result<Option<Row>, ReadError> {
        self.shared.reader.get(
            &*self.to_read(partition)?,
            raw_key,
            now_s,
            Tier::Full,
            |_| (),
        )
    }

    /// [`Engine::multi_get`](crate::Engine::multi_get) from the disk.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn multi_get(
        &self,
        partition: PartitionId,
        raw_keys: &[Bytes],
        now_s: u32,
    ) -> Result<Vec<Option<Row>>, ReadError> {
        self.shared.reader.multi_get(
            &*self.to_read(partition)?,
            raw_keys,
            now_s,
            Tier::Full,
            |_, _| (),
        )
    }

    /// [`Engine::scan`](crate::Engine::scan) from the disk.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn scan(&self, partition: PartitionId, spec: &ScanSpec) -> Result<ScanPage, ReadError> {
        read::scan(&*self.to_read(partition)?, spec, Tier::Full)
    }

    fn to_read(&self, partition: PartitionId) -> Result<Arc<Replica>, ReadError> {
        self.find(partition)
            .ok_or(ReadError::NoReplica { partition })
    }

    pub(super) fn replica(&self, partition: PartitionId) -> Result<Arc<Replica>, StoreError> {
        self.find(partition)
            .ok_or(StoreError::NoReplica { partition })
    }

    pub(super) fn find(&self, partition: PartitionId) -> Option<Arc<Replica>> {
        self.registry().get(&partition).cloned()
    }

    fn all(&self) -> Vec<Arc<Replica>> {
        self.registry().values().cloned().collect()
    }

    /// Never held over a call into RocksDB: data cores lock it too, when they meet a partition for the first time.
    fn registry(&self) -> MutexGuard<'_, BTreeMap<PartitionId, Arc<Replica>>> {
        self.shared
            .replicas
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn admin(&self) -> MutexGuard<'_, ()> {
        self.shared
            .admin
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for RocksStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksStore")
            .field("directory", &self.shared.directory)
            .finish_non_exhaustive()
    }
}

fn same_incarnation(replica: &Replica, wanted: ReplicaIncarnation) -> Result<(), StoreError> {
    let ReplicaName {
        partition,
        incarnation,
    } = replica.name;
    if incarnation == wanted {
        Ok(())
    } else {
        Err(StoreError::OtherIncarnation {
            partition,
            here: incarnation,
            wanted,
        })
    }
}

/// Names of all column families; just the default one if there is no database yet.
fn column_families(directory: &Path, database: &Options) -> Result<Vec<String>, OpenError> {
    if !directory.join("CURRENT").exists() {
        return Ok(vec![rocksdb::DEFAULT_COLUMN_FAMILY_NAME.to_owned()]);
    }
    let names =
        Db::list_cf(database, directory).map_err(|error| OpenError::database(directory, error))?;
    let foreign = |name: &&String| {
        *name != rocksdb::DEFAULT_COLUMN_FAMILY_NAME && ReplicaName::parse(name).is_none()
    };
    if let Some(name) = names.iter().find(foreign) {
        let detail = format!("column family {name:?} is not a replica");
        return Err(OpenError::Database {
            directory: directory.to_owned(),
            detail,
        });
    }
    Ok(names)
}

//! How the files of a replica are kept, which operators choose for a table and change while it is used: for reads and writes
//! alike, for many writes, or for a load that is sorted afterwards.
//!
//! Source: Apache Pegasus, `rocksdb.usage_scenario` and `rocksdb.write_buffer_size`.

use super::StoreError;
use super::pace::LEVEL0_FILES_USUAL;
use super::store::RocksStore;
use pegasus_replication::ids::PartitionId;

/// What a replica is used for.
///
/// | | memtable | files of level 0 that start a compaction |
/// |---|---|---|
/// | normal | as configured | 4 |
/// | prefer write | twice as large | 10 |
/// | bulk load | four times as large | none: compactions rest until the scenario is another one |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scenario {
    #[default]
    Normal,
    /// Fewer compactions, more files for a read to look at.
    PreferWrite,
    /// No compactions: reads become slow, and the load is as fast as flushes are.
    BulkLoad,
}

/// How a replica is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shape {
    pub scenario: Scenario,
    /// Bytes of its memtable at which it is flushed, instead of what the scenario makes of the configured ones. Half of the
    /// core's budget for memtables at most.
    pub memtable_bytes: Option<u64>,
}

/// How much of what a replica has, as far as it can be told without reading it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplicaSize {
    /// Expired ones, and those written twice, among them.
    pub rows: u64,
    /// Of table files.
    pub file_bytes: u64,
    pub files: u64,
    pub memtable_bytes: u64,
    /// Filters and indexes that are not in the block cache's budget.
    pub table_reader_bytes: u64,
}

impl Scenario {
    /// By the name that Apache Pegasus has for it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "normal" => Some(Self::Normal),
            "prefer_write" => Some(Self::PreferWrite),
            "bulk_load" => Some(Self::BulkLoad),
            _ => None,
        }
    }

    const fn memtable_factor(self) -> u64 {
        match self {
            Self::Normal => 1,
            Self::PreferWrite => 2,
            Self::BulkLoad => 4,
        }
    }

    /// Files of level 0 beyond the usual that are no sign of compactions being behind.
    const fn level0_files_allowed(self) -> u32 {
        match self {
            Self::Normal => 0,
            Self::PreferWrite => 6,
            Self::BulkLoad => u32::MAX,
        }
    }
}

impl RocksStore {
    /// Keeps a replica in this shape from now on. Takes about a millisecond; what it asks for is done by and by. Not kept
    /// with the replica: to be said again when the database has been opened, and of new replicas.
    ///
    /// # Errors
    /// [`StoreError`]: there is no such replica, or RocksDB refuses.
    pub fn set_shape(&self, partition: PartitionId, shape: Shape) -> Result<(), StoreError> {
        let replica = self.replica(partition)?;
        let Shape {
            scenario,
            memtable_bytes,
        } = shape;
        let options = self.options();
        let configured = options.replica_memtable_bytes_max as u64;
        let half = options.memtable_bytes_max as u64 / 2;
        let wanted = memtable_bytes.unwrap_or(configured * scenario.memtable_factor());
        let memtable = wanted.clamp(1 << 20, half.max(1 << 20));
        let trigger = scenario
            .level0_files_allowed()
            .saturating_add(LEVEL0_FILES_USUAL);
        // Files that gathered during a load are not taken for compactions that are behind: they are worked off.
        let allowed = match scenario {
            Scenario::BulkLoad => u32::MAX,
            _ => scenario
                .level0_files_allowed()
                .max(self.level0_files(partition)?),
        };
        replica.set_shape(memtable, allowed, scenario.level0_files_allowed());
        let is_resting = scenario == Scenario::BulkLoad || replica.damage().is_some();
        // RocksDB's own limit is the backstop, as `options.rs` has it.
        let write_buffer = (memtable * 3 / 2).to_string();
        let trigger = trigger.min(1 << 30).to_string();
        let is_resting = is_resting.to_string();
        let changed = [
            ("write_buffer_size", &*write_buffer),
            ("level0_file_num_compaction_trigger", &trigger),
            ("disable_auto_compactions", &is_resting),
        ];
        self.shared
            .db
            .set_options_cf(replica.column_family(), &changed)
            .map_err(|error| StoreError::from_rocksdb(partition, error))?;
        self.refresh_pressure();
        Ok(())
    }

    /// What a replica takes. Cheap: no file is read.
    ///
    /// # Errors
    /// [`StoreError::NoReplica`].
    pub fn size_of(&self, partition: PartitionId) -> Result<ReplicaSize, StoreError> {
        let replica = self.replica(partition)?;
        let files = self
            .shared
            .db
            .get_column_family_metadata_cf(replica.column_family());
        Ok(ReplicaSize {
            rows: self.property(&replica, "rocksdb.estimate-num-keys"),
            file_bytes: files.size,
            files: files.file_count as u64,
            memtable_bytes: self.property(&replica, "rocksdb.cur-size-all-mem-tables"),
            table_reader_bytes: self.property(&replica, "rocksdb.estimate-table-readers-mem"),
        })
    }
}

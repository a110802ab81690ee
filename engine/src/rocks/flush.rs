//! Making replicas durable, and compacting them on demand.

use super::replica::Replica;
use super::store::RocksStore;
use super::{StoreError, options};
use crate::marker::{MARKER_KEY, Marker};
use pegasus_replication::ids::PartitionId;
use rocksdb::{BottommostLevelCompaction, CompactOptions, FlushOptions};

impl RocksStore {
    /// Writes the memtables of a replica to files and returns the durable marker. Call
    /// [`Engine::begin_flush`](crate::Engine::begin_flush) on the core first: only what the marker covers by then
    /// counts as durable. Takes milliseconds to seconds.
    ///
    /// # Errors
    /// [`StoreError`]; tell the engine by [`Engine::abort_flush`](crate::Engine::abort_flush).
    pub fn flush(&self, partition: PartitionId) -> Result<Marker, StoreError> {
        self.flush_memtables(&*self.replica(partition)?)?;
        self.durable(partition)
    }

    /// Rewrites all files of a replica, dropping what has expired or is overwritten. Takes as long as reading and
    /// writing it whole.
    ///
    /// # Errors
    /// [`StoreError`]. Damage met on the way is told by [`Notice::Damaged`](super::Notice::Damaged).
    pub fn compact(&self, partition: PartitionId) -> Result<(), StoreError> {
        let replica = self.replica(partition)?;
        let mut how = CompactOptions::default();
        how.set_exclusive_manual_compaction(false);
        how.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        self.shared.db.compact_range_cf_opt(
            replica.column_family(),
            None::<&[u8]>,
            None::<&[u8]>,
            &how,
        );
        Ok(())
    }

    /// Puts a marker in place by itself and makes it durable. Not for a replica that a core applies to.
    pub(super) fn write_marker(
        &self,
        replica: &Replica,
        marker: &Marker,
    ) -> Result<(), StoreError> {
        let failed = |error| StoreError::from_rocksdb(replica.name.partition, error);
        self.shared
            .db
            .put_cf_opt(
                replica.column_family(),
                MARKER_KEY,
                marker.encode(),
                &options::writes(),
            )
            .map_err(failed)?;
        self.flush_memtables(replica)
    }

    fn flush_memtables(&self, replica: &Replica) -> Result<(), StoreError> {
        let mut how = FlushOptions::default();
        how.set_wait(true);
        let flushed = self.shared.db.flush_cf_opt(replica.column_family(), &how);
        flushed.map_err(|error| StoreError::from_rocksdb(replica.name.partition, error))
    }
}

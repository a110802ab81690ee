//! Making replicas durable, and compacting them on demand.

use super::replica::Replica;
use super::store::RocksStore;
use super::{StoreError, options};
use crate::marker::{MARKER_KEY, Marker};
use pegasus_replication::ids::PartitionId;
use rocksdb::{BottommostLevelCompaction, CompactOptions, FlushOptions};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// How long a helper waits for one flush.
pub const FLUSH_TIME_MAX: Duration = Duration::from_secs(10);

/// A completed flush wakes its helper; this is for the one told just before the helper waits.
const FLUSH_LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Levels that RocksDB has: 0 to 6.
const LEVELS: u8 = 7;

/// How much a compaction by hand does. The default rewrites everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thorough {
    /// The level, from 1 on, in which everything ends; `None`: where RocksDB puts it.
    pub target_level: Option<u8>,
    pub bottommost: Bottommost,
}

/// What becomes of files that are in the last level already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bottommost {
    /// They are rewritten, so that expired rows in them go.
    #[default]
    Rewrite,
    /// They stay as they are.
    Skip,
}

impl RocksStore {
    /// Writes the memtables of a replica to files and returns the durable marker. Call
    /// [`Engine::begin_flush`](crate::Engine::begin_flush) on the core first: only what the marker covers by then
    /// counts as durable. Takes milliseconds to seconds, and
    /// gives up after [`FLUSH_TIME_MAX`] (a full disk): RocksDB goes on trying, and tells by a notice when it succeeds.
    ///
    /// # Errors
    /// [`StoreError`]; tell the engine by [`Engine::abort_flush`](crate::Engine::abort_flush).
    pub fn flush(&self, partition: PartitionId) -> Result<Marker, StoreError> {
        self.flush_memtables(&*self.replica(partition)?)?;
        self.durable(partition)
    }

    /// Rewrites the files of a replica, dropping what has expired or is overwritten. Takes as long as reading and
    /// writing it whole.
    ///
    /// # Errors
    /// [`StoreError`]. Damage met on the way is told by [`Notice::Damaged`](super::Notice::Damaged).
    pub fn compact(&self, partition: PartitionId, thorough: Thorough) -> Result<(), StoreError> {
        let replica = self.replica(partition)?;
        let mut how = CompactOptions::default();
        how.set_exclusive_manual_compaction(false);
        how.set_bottommost_level_compaction(match thorough.bottommost {
            Bottommost::Rewrite => BottommostLevelCompaction::Force,
            Bottommost::Skip => BottommostLevelCompaction::Skip,
        });
        if let Some(level) = thorough.target_level {
            how.set_change_level(true);
            how.set_target_level(i32::from(level.clamp(1, LEVELS - 1)));
        }
        self.shared.db.compact_range_cf_opt(
            replica.column_family(),
            None::<&[u8]>,
            None::<&[u8]>,
            &how,
        );
        Ok(())
    }

    /// Ends a [`RocksStore::compact`] that is under way, within milliseconds, and lets none begin any more: the database is
    /// about to be closed.
    pub fn stop_compacting(&self) {
        self.shared.db.disable_manual_compaction();
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

    /// RocksDB's own wait would hold the thread for as long as the disk is full.
    pub(super) fn flush_memtables(&self, replica: &Replica) -> Result<(), StoreError> {
        let partition = replica.name.partition;
        let mut how = FlushOptions::default();
        how.set_wait(false);
        // Never waits for other flushes either; a write that would stall is refused, not delayed.
        how.set_allow_write_stall(true);
        let began = Instant::now();
        let begun = self.shared.db.flush_cf_opt(replica.column_family(), &how);
        begun.map_err(|error| StoreError::from_rocksdb(partition, error))?;
        let mut guard = self
            .shared
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while self.immutable_memtables(replica) > 0 {
            if began.elapsed() >= FLUSH_TIME_MAX {
                let detail = format!(
                    "flush has not finished within {} s",
                    FLUSH_TIME_MAX.as_secs()
                );
                return Err(StoreError::Io { partition, detail });
            }
            let waited = self
                .shared
                .gauges
                .flushed
                .wait_timeout(guard, FLUSH_LOOK_AGAIN);
            guard = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }
}

//! A replica's column family: its name and its handle.

use crate::ReadError;
use crate::marker::Marker;
use pegasus_replication::ids::{PartitionId, ReplicaIncarnation, TableId};
use rocksdb::{BoundColumnFamily, DBRawIteratorWithThreadMode, DBWithThreadMode, MultiThreaded};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

pub(super) type Db = DBWithThreadMode<MultiThreaded>;
pub(super) type RawIterator<'a> = DBRawIteratorWithThreadMode<'a, Db>;

/// `table.index.incarnation`, in decimal: the name of a replica's column family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ReplicaName {
    pub(super) partition: PartitionId,
    pub(super) incarnation: ReplicaIncarnation,
}

impl ReplicaName {
    /// `None` for a column family that is not a replica of ours.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('.');
        let table = TableId(parts.next()?.parse().ok()?);
        let index = parts.next()?.parse().ok()?;
        let incarnation = ReplicaIncarnation(parts.next()?.parse().ok()?);
        let parsed = Self {
            partition: PartitionId { table, index },
            incarnation,
        };
        (parts.next().is_none() && parsed.to_string() == name).then_some(parsed)
    }
}

impl fmt::Display for ReplicaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.partition, self.incarnation)
    }
}

/// An open column family. Looked up once: RocksDB's own map of names is locked while column families are created,
/// which takes far too long for a data core to wait.
pub(super) struct Replica {
    pub(super) name: ReplicaName,
    /// Borrowed from `db`; declared before it, so that it is dropped first.
    column_family: Arc<BoundColumnFamily<'static>>,
    pub(super) db: Arc<Db>,
    /// What it held when it was opened, created or imported: where the engine takes over.
    pub(super) opened_at: Marker,
    dropped: AtomicBool,
    /// Files that are not sorted into levels, as they were when somebody counted them last.
    level0_files: AtomicU32,
    /// Bytes of its memtable at which it is flushed; 0 = those that all replicas have.
    memtable_bytes_max: AtomicU64,
    /// Files of level 0 that its shape accounts for, now and once those of a load are sorted.
    level0_files_allowed: AtomicU32,
    level0_files_settled: AtomicU32,
    /// Why it must not be used any more.
    damage: OnceLock<String>,
}

impl Replica {
    /// The handle of the column family `name`, if the database has it.
    pub(super) fn open(db: &Arc<Db>, name: ReplicaName, opened_at: Marker) -> Option<Self> {
        let borrowed = db.cf_handle(&name.to_string())?;
        // SAFETY: only the lifetime changes. The handle borrows from the database behind `db`, which the new value
        // keeps alive by its own `Arc` and releases after the handle (fields are dropped in order of declaration);
        // the handle is private and lent out for no longer than a borrow of the whole.
        let column_family = unsafe {
            std::mem::transmute::<Arc<BoundColumnFamily<'_>>, Arc<BoundColumnFamily<'static>>>(
                borrowed,
            )
        };
        Some(Self {
            name,
            column_family,
            db: Arc::clone(db),
            opened_at,
            dropped: AtomicBool::new(false),
            level0_files: AtomicU32::new(0),
            memtable_bytes_max: AtomicU64::new(0),
            level0_files_allowed: AtomicU32::new(0),
            level0_files_settled: AtomicU32::new(0),
            damage: OnceLock::new(),
        })
    }

    pub(super) fn column_family(&self) -> &Arc<BoundColumnFamily<'_>> {
        &self.column_family
    }

    pub(super) fn set_dropped(&self) {
        self.dropped.store(true, Ordering::Release);
    }

    pub(super) fn is_dropped(&self) -> bool {
        self.dropped.load(Ordering::Acquire)
    }

    pub(super) fn set_level0_files(&self, count: u32) {
        self.level0_files.store(count, Ordering::Relaxed);
    }

    pub(super) fn level0_files(&self) -> u32 {
        self.level0_files.load(Ordering::Relaxed)
    }

    pub(super) fn set_shape(&self, memtable_bytes_max: u64, allowed: u32, settled: u32) {
        self.memtable_bytes_max
            .store(memtable_bytes_max, Ordering::Relaxed);
        self.level0_files_settled.store(settled, Ordering::Relaxed);
        self.level0_files_allowed.store(allowed, Ordering::Relaxed);
    }

    /// Its own bound, if it has one.
    pub(super) fn memtable_bytes_max(&self) -> Option<u64> {
        Some(self.memtable_bytes_max.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0)
    }

    /// Files of level 0 that show how far compactions are behind: those that its shape does not account for. What a load has
    /// left is worked off, and then never allowed again.
    pub(super) fn level0_files_behind(&self, count: u32) -> u32 {
        let allowed = self.level0_files_allowed.load(Ordering::Relaxed);
        let settled = self.level0_files_settled.load(Ordering::Relaxed);
        if allowed > settled {
            let fewer = allowed.min(count).max(settled);
            self.level0_files_allowed.store(fewer, Ordering::Relaxed);
        }
        count.saturating_sub(allowed)
    }

    /// The first damage found stays.
    pub(super) fn set_damage(&self, detail: String) {
        let _ = self.damage.set(detail);
    }

    pub(super) fn damage(&self) -> Option<&str> {
        self.damage.get().map(String::as_str)
    }

    /// Whether it may be read.
    pub(super) fn check(&self) -> Result<(), ReadError> {
        let partition = self.name.partition;
        if self.is_dropped() {
            return Err(ReadError::NoReplica { partition });
        }
        self.damage().map_or(Ok(()), |detail| {
            Err(ReadError::Corruption {
                partition,
                detail: detail.to_owned(),
            })
        })
    }
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica")
            .field("name", &self.name)
            .field("damage", &self.damage)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_nothing_else_is() {
        let name = ReplicaName {
            partition: PartitionId {
                table: TableId(7),
                index: 12,
            },
            incarnation: ReplicaIncarnation(u64::MAX),
        };
        assert_eq!(name.to_string(), "7.12.18446744073709551615");
        assert_eq!(ReplicaName::parse(&name.to_string()), Some(name));
        for foreign in [
            "default",
            "",
            "7.12",
            "7.12.1.1",
            "07.12.1",
            "+7.12.1",
            "7.12.x",
            "pegasus_meta_cf",
        ] {
            assert_eq!(ReplicaName::parse(foreign), None, "{foreign}");
        }
    }
}

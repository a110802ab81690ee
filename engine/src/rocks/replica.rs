//! A replica's column family: its name and its handle.

use crate::ReadError;
use crate::marker::Marker;
use pegasus_replication::ids::{PartitionId, ReplicaIncarnation, TableId};
use rocksdb::{BoundColumnFamily, DBRawIteratorWithThreadMode, DBWithThreadMode, MultiThreaded};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
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

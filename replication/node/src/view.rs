//! What a node tells of itself to tools: everything that their questions are answered from, in one place.
//!
//! Owned by the thread of the statistics relay; nothing here waits for a data core.

use crate::allocator::{self, HeapUse};
use crate::compaction::{Compaction, CompactionStatus};
use crate::directory::Directory;
use crate::meta_link::KnownRoutes;
use crate::scrub::Scrub;
use crate::slow::{SlowLog, name_in};
use crate::stats::relay::{Names, Pages};
use pegasus_engine::RocksStore;
use pegasus_engine::rocks::ReplicaSize;
use pegasus_fbs::stats_page::{PartitionCounter, PartitionStats, Role, Snapshot};
use pegasus_host::Root;
use pegasus_host::process::{ProcessUsage, process_usage};
use pegasus_replication::ids::{PartitionId, TableId};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// What a replica can be, by the number of the role.
pub const ROLES: [Role; 5] = [
    Role::None,
    Role::Primary,
    Role::Secondary,
    Role::Learner,
    Role::OutOfService,
];

/// The handles behind it.
#[derive(Debug)]
pub struct NodeView {
    pub names: Names,
    pub pages: Pages,
    /// One for each core.
    pub stores: Vec<RocksStore>,
    pub known: Arc<Mutex<KnownRoutes>>,
    pub scrub: Scrub,
    pub compaction: Compaction,
    pub slow: SlowLog,
    /// The configuration as it was printed at the start.
    pub configuration: String,
    pub totals: TableTotals,
}

/// Everything that is told of the whole node at once.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    /// By core.
    pub cores: Vec<Snapshot>,
    pub process: ProcessUsage,
    pub heap: HeapUse,
    pub compaction: CompactionStatus,
    /// Damage that the last pass of scrubbing has found, and when it ended, in Unix seconds; 0 = none yet.
    pub scrub_findings: u64,
    pub scrub_finished_unix_s: u64,
    pub tables: Vec<TableFacts>,
    pub replicas: Vec<ReplicaFacts>,
}

/// A table, as far as this node has replicas of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableFacts {
    pub name: String,
    /// Since the start, of replicas that have left the node as well.
    pub traffic: Traffic,
    pub size: ReplicaSize,
    /// Replicas by role.
    pub roles: [u64; ROLES.len()],
}

/// One replica.
#[derive(Clone, Debug)]
pub struct ReplicaFacts {
    pub table: String,
    pub core: usize,
    pub stats: PartitionStats,
    pub size: ReplicaSize,
}

/// What clients have asked of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub reads: u64,
    pub writes: u64,
    pub failures: u64,
    pub busy: u64,
    pub throttled: u64,
    pub rows_read: u64,
    pub rows_written: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
}

/// Adds up what replicas count, so that the sum does not go back when one of them leaves.
#[derive(Debug, Default)]
pub struct TableTotals {
    seen: HashMap<(usize, u32, u32), PartitionStats>,
    totals: BTreeMap<u32, Traffic>,
}

impl NodeView {
    /// What meta has told of tables.
    #[must_use]
    pub fn directory(&self) -> Arc<Directory> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&known.directory)
    }

    /// A moment of the whole node. Takes a few milliseconds, more with many replicas.
    pub fn facts(&mut self) -> NodeFacts {
        let directory = self.directory();
        let cores = self.pages.snapshots();
        self.totals.take(&cores, &directory);
        let replicas = self.replicas(&cores, &directory);
        let scrub = self.scrub.status();
        NodeFacts {
            process: process_usage(&Root::system()),
            heap: allocator::heap_use().unwrap_or_default(),
            compaction: self.compaction.status(),
            scrub_findings: scrub.findings.len() as u64,
            scrub_finished_unix_s: scrub.finished_unix_s,
            tables: self.tables(&replicas, &directory),
            cores,
            replicas,
        }
    }

    /// The replicas of these cores, by core, table and partition.
    #[must_use]
    pub fn replicas(&self, cores: &[Snapshot], directory: &Directory) -> Vec<ReplicaFacts> {
        let mut all = Vec::new();
        for (core, page) in cores.iter().enumerate() {
            for stats in page.partitions() {
                all.push(ReplicaFacts {
                    table: name_in(directory, stats.table),
                    core,
                    stats: stats.clone(),
                    size: self.size_of(core, stats),
                });
            }
        }
        all
    }

    /// Zeros for one that has just gone.
    #[must_use]
    pub fn size_of(&self, core: usize, stats: &PartitionStats) -> ReplicaSize {
        let partition = PartitionId {
            table: TableId(stats.table),
            index: stats.partition,
        };
        let store = self.stores.get(core);
        store
            .and_then(|store| store.size_of(partition).ok())
            .unwrap_or_default()
    }

    fn tables(&self, replicas: &[ReplicaFacts], directory: &Directory) -> Vec<TableFacts> {
        let mut tables: BTreeMap<u32, TableFacts> = BTreeMap::new();
        for (table, traffic) in &self.totals.totals {
            let facts = tables.entry(*table).or_default();
            facts.traffic = *traffic;
        }
        for ReplicaFacts { stats, size, .. } in replicas {
            let facts = tables.entry(stats.table).or_default();
            facts.roles[stats.role() as usize] += 1;
            let sum = &mut facts.size;
            sum.rows += size.rows;
            sum.file_bytes += size.file_bytes;
            sum.files += size.files;
            sum.memtable_bytes += size.memtable_bytes;
            sum.table_reader_bytes += size.table_reader_bytes;
        }
        for (table, facts) in &mut tables {
            facts.name = name_in(directory, *table);
        }
        tables.into_values().collect()
    }
}

impl TableTotals {
    fn take(&mut self, cores: &[Snapshot], directory: &Directory) {
        let mut seen = HashMap::new();
        for (core, page) in cores.iter().enumerate() {
            for stats in page.partitions() {
                let key = (core, stats.table, stats.partition);
                let before = self.seen.get(&key);
                let growth = before.map_or_else(|| stats.clone(), |before| stats.since(before));
                self.totals.entry(stats.table).or_default().add(&growth);
                seen.insert(key, stats.clone());
            }
        }
        self.seen = seen;
        // Before meta has told anything, nothing is known to be gone.
        if !directory.tables.is_empty() {
            let is_there = |table: &u32| directory.tables.contains_key(&TableId(*table));
            self.totals.retain(|table, _| is_there(table));
        }
    }
}

impl Traffic {
    fn add(&mut self, growth: &PartitionStats) {
        let add = |to: &mut u64, counter| *to = to.saturating_add(growth.counter(counter));
        self.reads = self.reads.saturating_add(growth.reads());
        self.writes = self.writes.saturating_add(growth.writes());
        add(&mut self.failures, PartitionCounter::Failures);
        add(&mut self.busy, PartitionCounter::Busy);
        add(&mut self.throttled, PartitionCounter::Throttled);
        add(&mut self.rows_read, PartitionCounter::RowsRead);
        add(&mut self.rows_written, PartitionCounter::RowsWritten);
        add(&mut self.bytes_read, PartitionCounter::BytesRead);
        add(&mut self.bytes_written, PartitionCounter::BytesWritten);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pegasus_fbs::stats_page::{PAGE_WORDS, Writer};
    use std::sync::atomic::AtomicU64;

    #[test]
    fn what_a_table_was_asked_does_not_go_back_when_a_replica_leaves() {
        let page: Vec<AtomicU64> = (0..PAGE_WORDS).map(|_| AtomicU64::new(0)).collect();
        let mut writer = Writer::new(page, 7, 0, 1, 1);
        let [first, second] = [0, 1].map(|partition| writer.take_partition(4, partition));
        writer.add_of(first, PartitionCounter::Get, 10);
        writer.add_of(second, PartitionCounter::Put, 3);
        let (mut totals, directory) = (TableTotals::default(), Directory::default());
        let mut take = |writer: &Writer<Vec<AtomicU64>>| {
            totals.take(&[writer.snapshot()], &directory);
            let traffic = totals.totals[&4];
            (traffic.reads, traffic.writes)
        };
        assert_eq!(take(&writer), (10, 3));
        writer.add_of(first, PartitionCounter::Get, 1);
        assert_eq!(take(&writer), (11, 3));
        writer.release_partition(4, 0);
        assert_eq!(take(&writer), (11, 3));
        let again = writer.take_partition(4, 0);
        writer.add_of(again, PartitionCounter::Get, 5);
        assert_eq!(take(&writer), (16, 3), "its new life begins at 0");
    }
}

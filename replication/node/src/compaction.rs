//! Compacting by hand: all files of a table's replicas are rewritten, one replica after the other, without what is
//! overwritten or has expired. RocksDB's own threads do it, at the pace of all compactions
//! (`engine/src/rocks/pace.rs`); the thread here only waits for them.

use crossbeam_channel::{Receiver, Sender, bounded};
use pegasus_engine::RocksStore;
use pegasus_engine::rocks::StoreError;
use pegasus_replication::ids::{PartitionId, TableId};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

/// Orders that wait for the one under way.
const ORDERS_MAX: usize = 64;

/// How far compacting is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactionStatus {
    /// An order is under way: replicas done, and of how many.
    pub running: Option<(u64, u64)>,
    /// Orders behind it.
    pub waiting: u64,
    /// Unix seconds of the end of the last order; 0 = none since the start.
    pub finished_unix_s: u64,
}

/// The running thread, and how to order from it. Cheap to clone; the thread ends when all are gone.
#[derive(Clone, Debug)]
pub struct Compaction {
    orders: Sender<Option<TableId>>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// One for each core.
    stores: Vec<RocksStore>,
    status: Mutex<CompactionStatus>,
    is_stopped: AtomicBool,
}

impl Compaction {
    /// Starts the thread. `on_start` places it (CPUs, priority).
    ///
    /// # Errors
    /// The process may not have more threads.
    pub fn start(
        stores: Vec<RocksStore>,
        on_start: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (orders, queue) = bounded(ORDERS_MAX);
        let shared = Arc::new(Shared {
            stores,
            status: Mutex::default(),
            is_stopped: AtomicBool::new(false),
        });
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("compaction".to_owned())
            .spawn(move || {
                on_start();
                of_thread.run(&queue);
            })?;
        Ok((Self { orders, shared }, thread))
    }

    /// Orders the replicas of a table that this node has, or of all tables. False: too many orders wait. Never blocks.
    #[must_use]
    pub fn begin(&self, table: Option<TableId>) -> bool {
        self.shared.update(|status| {
            // Counted under the lock that the thread takes it off again under, so that it never counts below zero.
            let is_taken = self.orders.try_send(table).is_ok();
            status.waiting += u64::from(is_taken);
            is_taken
        })
    }

    #[must_use]
    pub fn status(&self) -> CompactionStatus {
        self.shared.update(|status| *status)
    }

    /// Ends what is under way, within milliseconds; nothing is begun any more.
    pub fn stop(self) {
        self.shared.is_stopped.store(true, Ordering::Relaxed);
        for store in &self.shared.stores {
            store.stop_compacting();
        }
    }
}

impl Shared {
    fn run(&self, queue: &Receiver<Option<TableId>>) {
        for table in queue {
            if self.is_stopped.load(Ordering::Relaxed) {
                return;
            }
            self.carry_out(table);
        }
    }

    fn carry_out(&self, table: Option<TableId>) {
        let replicas = self.replicas_of(table);
        let total = replicas.len() as u64;
        self.update(|status| {
            status.waiting -= 1;
            status.running = Some((0, total));
        });
        let table = table.map_or_else(|| "all".to_owned(), |table| table.to_string());
        tracing::info!(table, replicas = total, "compacting by hand");
        for (done, (store, partition)) in (1..).zip(replicas) {
            if self.is_stopped.load(Ordering::Relaxed) {
                return;
            }
            match store.compact(partition) {
                // Dropped since they were listed.
                Ok(()) | Err(StoreError::NoReplica { .. }) => {}
                Err(error) => tracing::warn!(%partition, %error, "a replica was not compacted"),
            }
            self.update(|status| status.running = Some((done, total)));
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        self.update(|status| {
            status.running = None;
            status.finished_unix_s = now;
        });
        tracing::info!(table, "compacting by hand is done");
    }

    fn replicas_of(&self, table: Option<TableId>) -> Vec<(&RocksStore, PartitionId)> {
        let all = self.stores.iter().flat_map(|store| {
            let here = store.partitions().into_iter();
            here.map(move |(partition, _)| (store, partition))
        });
        all.filter(|(_, partition)| table.is_none_or(|table| partition.table == table))
            .collect()
    }

    fn update<T>(&self, change: impl FnOnce(&mut CompactionStatus) -> T) -> T {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

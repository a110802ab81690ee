//! What RocksDB tells from its own threads: flushes, damage, stalls.

use super::replica::ReplicaName;
use pegasus_replication::ids::{PartitionId, ReplicaIncarnation};
use rocksdb::ErrorKind;
use rocksdb::event_listener::{
    CompactionJobInfo, DBBackgroundErrorReason, DBWriteStallCondition, EventListener, FlushJobInfo,
    MutableStatus, StatusSeverity, WriteStallInfo,
};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Something the node has to look after. Delivered on a thread of RocksDB: hand it on and return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A flush of this replica has completed, whatever caused it: read its durable marker
    /// ([`RocksStore::durable`](super::RocksStore::durable)) on a helper thread and tell
    /// [`Engine::end_flush`](crate::Engine::end_flush).
    Flushed {
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
    },
    /// A compaction met a damaged or unreadable file of this replica: call
    /// [`RocksStore::quarantine`](super::RocksStore::quarantine) on a helper thread and take it out of service.
    Damaged {
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
        detail: String,
    },
    /// The database is in an error that stops the writes of all its replicas: call
    /// [`RocksStore::resume`](super::RocksStore::resume) on a helper thread, now and then until it succeeds.
    BackgroundError { detail: String },
    /// Files or memtables of some replica have changed in number: refresh the gauges
    /// ([`RocksStore::refresh_pressure`](super::RocksStore::refresh_pressure)) on a helper thread.
    ShapeChanged,
}

/// Takes notices. Called on RocksDB's threads, so it must not block.
#[derive(Clone)]
pub struct NoticeSink(Arc<dyn Fn(Notice) + Send + Sync>);

impl NoticeSink {
    pub fn new(sink: impl Fn(Notice) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sink))
    }

    /// Drops all notices: for tools that open a database for a moment.
    #[must_use]
    pub fn none() -> Self {
        Self::new(|_| {})
    }

    fn tell(&self, notice: Notice) {
        (self.0)(notice);
    }
}

impl fmt::Debug for NoticeSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NoticeSink")
    }
}

/// Numbers that the core reads without a lock.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    pub(super) immutable_memtables: AtomicU32,
    pub(super) level0_files: AtomicU32,
    pub(super) stalled_replicas: AtomicU32,
    pub(super) background_error: AtomicBool,
    /// Since the database was opened, whatever caused them.
    pub(super) flushes: AtomicU64,
    pub(super) compactions: AtomicU64,
    /// Somewhere a flush has completed.
    pub(super) flushed: Condvar,
}

pub(super) struct Listener {
    gauges: Arc<Gauges>,
    sink: NoticeSink,
    /// Column families in a stall, by name.
    stalled: Mutex<BTreeSet<Vec<u8>>>,
}

impl Listener {
    pub(super) fn new(gauges: Arc<Gauges>, sink: NoticeSink) -> Self {
        Self {
            gauges,
            sink,
            stalled: Mutex::new(BTreeSet::new()),
        }
    }
}

impl EventListener for Listener {
    fn on_flush_completed(&self, info: &FlushJobInfo) {
        self.gauges.flushes.fetch_add(1, Ordering::Relaxed);
        self.gauges.flushed.notify_all();
        if let Some(ReplicaName {
            partition,
            incarnation,
        }) = replica(info.cf_name())
        {
            self.sink.tell(Notice::Flushed {
                partition,
                incarnation,
            });
        }
        self.sink.tell(Notice::ShapeChanged);
    }

    fn on_compaction_completed(&self, info: &CompactionJobInfo) {
        self.gauges.compactions.fetch_add(1, Ordering::Relaxed);
        let damage = info.status().err().filter(is_damage);
        match (damage, replica(info.cf_name())) {
            (
                Some(error),
                Some(ReplicaName {
                    partition,
                    incarnation,
                }),
            ) => {
                let detail = error.into_string();
                self.sink.tell(Notice::Damaged {
                    partition,
                    incarnation,
                    detail,
                });
            }
            _ => self.sink.tell(Notice::ShapeChanged),
        }
    }

    fn on_background_error(&self, reason: DBBackgroundErrorReason, status: MutableStatus) {
        let severity = status.severity();
        let Err(error) = status.result() else {
            return;
        };
        tracing::warn!(
            ?reason,
            ?severity,
            error = error.as_ref(),
            "rocksdb background error"
        );
        if severity >= StatusSeverity::KHardError {
            self.gauges.background_error.store(true, Ordering::Relaxed);
            self.sink.tell(Notice::BackgroundError {
                detail: error.as_ref().to_owned(),
            });
        }
    }

    fn on_stall_conditions_changed(&self, info: &WriteStallInfo) {
        let Some(name) = info.cf_name() else {
            return;
        };
        let mut stalled = self.stalled.lock().unwrap_or_else(PoisonError::into_inner);
        if info.cur() == DBWriteStallCondition::KNormal {
            stalled.remove(&name);
        } else {
            stalled.insert(name);
        }
        let count = u32::try_from(stalled.len()).unwrap_or(u32::MAX);
        self.gauges.stalled_replicas.store(count, Ordering::Relaxed);
    }
}

/// Whether the file is to blame; a full disk or too many open files are not its fault.
fn is_damage(error: &rocksdb::Error) -> bool {
    let lost = ["No such file or directory", "Input/output error"];
    match error.kind() {
        ErrorKind::Corruption => true,
        ErrorKind::IOError => lost.iter().any(|reason| error.as_ref().contains(reason)),
        _ => false,
    }
}

fn replica(column_family: Option<Vec<u8>>) -> Option<ReplicaName> {
    ReplicaName::parse(std::str::from_utf8(&column_family?).ok()?)
}

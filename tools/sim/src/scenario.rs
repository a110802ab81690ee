//! What a seed means: the shape of the cluster, its sizes, and how often what goes wrong.

use crate::random::{Concern, Random};
use pegasus_replication::config::ReplicationOptions;
use pegasus_replication::log::LogOptions;
use std::time::Duration;

/// A kind of fault that a run may meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// One node loses power and comes back.
    CrashNode,
    /// All nodes lose power at one moment.
    CrashAll,
    /// One node stops in order and starts again: its engine is flushed.
    RestartNode,
    /// A link between two cores breaks and may connect again at once.
    BreakLink,
    /// Two nodes cannot reach each other for a while.
    CutNodes,
    /// Meta dies and comes back with what it had persisted.
    CrashMeta,
    /// An engine takes nothing for a while.
    StallEngine,
    /// A disk flushes slowly for a while.
    SlowDisk,
    /// The log of a core fails; the node is started again after a while.
    FailLog,
    /// An engine flushes on limits of its own: what becomes durable is the last marker in place.
    FlushEngine,
    /// A node has no room for new writes for a while.
    Pressure,
    /// The table is dropped; another of the same name takes its place.
    DropTable,
}

pub(crate) const FAULTS: [Fault; 12] = [
    Fault::CrashNode,
    Fault::CrashAll,
    Fault::RestartNode,
    Fault::BreakLink,
    Fault::CutNodes,
    Fault::CrashMeta,
    Fault::StallEngine,
    Fault::SlowDisk,
    Fault::FailLog,
    Fault::FlushEngine,
    Fault::Pressure,
    Fault::DropTable,
];

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) nodes: u32,
    pub(crate) cores: u16,
    pub(crate) partitions: u32,
    pub(crate) replicas: u8,
    pub(crate) clients: usize,
    pub(crate) rows: u32,
    /// Of a hundred operations, how many write.
    pub(crate) writes_of_100: u64,
    /// Between two faults on average.
    pub(crate) fault_period: Duration,
    pub(crate) replication: ReplicationOptions,
    pub(crate) log: LogOptions,
    /// Operations of a client stop for this long on average.
    pub(crate) think: Duration,
}

impl Scenario {
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Random::new(seed, Concern::Scenario);
        let nodes = *random.pick(&[1, 2, 3, 3, 3, 3, 4]);
        let replicas = u8::try_from(nodes.min(3)).expect("at most 3");
        let segment_bytes = *random.pick(&[64 << 10, 128 << 10, 1 << 20]);
        Self {
            nodes,
            cores: *random.pick(&[1, 1, 2]),
            partitions: *random.pick(&[2, 4, 8]),
            replicas,
            clients: 4 + random.index(8),
            rows: *random.pick(&[2, 8, 64]),
            writes_of_100: *random.pick(&[30, 50, 80]),
            fault_period: *random.pick(&[
                Duration::from_millis(600),
                Duration::from_secs(1),
                Duration::from_secs(2),
            ]),
            replication: ReplicationOptions {
                prepare_inflight_max: *random.pick(&[2, 8, 256]),
                apply_queue_max: *random.pick(&[4, 1024]),
                ..ReplicationOptions::default()
            },
            log: LogOptions {
                segment_bytes,
                batch_bytes_max: *random.pick(&[4096, 16 << 10, 64 << 10]),
                writes_inflight_max: *random.pick(&[1, 2, 4]),
                budget_bytes: segment_bytes * *random.pick(&[4, 8]),
            },
            think: *random.pick(&[
                Duration::from_millis(2),
                Duration::from_millis(20),
                Duration::from_millis(50),
            ]),
        }
    }
}

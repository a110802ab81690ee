//! What a seed means: the shape of the cluster, its sizes, and how often what goes wrong.

use crate::random::{Concern, Random};
use pegasus_meta::state::HealOptions;
use pegasus_replication::config::ReplicationOptions;
use pegasus_replication::log::LogOptions;
use std::time::Duration;

/// A kind of fault that a run may meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// One node loses power and comes back.
    CrashNode,
    /// One node loses power while a core carries out the effects of a turn.
    CrashInTurn,
    /// All nodes lose power at one moment.
    CrashAll,
    /// One node stops in order and starts again: its engine is flushed.
    RestartNode,
    /// A process is stopped and goes on later as if nothing had happened.
    PauseNode,
    /// The same for one core, perhaps in the middle of a turn.
    PauseCore,
    /// A link between two cores breaks and may connect again at once.
    BreakLink,
    /// Links between two nodes are refused for a while.
    CutNodes,
    /// What two nodes send each other stays under way; nobody is told.
    Blackhole,
    /// The same in one direction only.
    CutOneWay,
    /// Several nodes are cut off one after another, and come back in another order.
    Swizzle,
    /// A node and meta do not reach each other.
    CutMeta,
    /// Meta dies and comes back with what it had persisted.
    CrashMeta,
    /// Meta's disk takes nothing for a moment.
    FailMetaStore,
    /// An engine takes nothing for a while.
    StallEngine,
    /// A disk flushes slowly for a while.
    SlowDisk,
    /// A disk completes nothing for a while.
    HangDisk,
    /// The log of a core fails; the node is started again after a while.
    FailLog,
    /// What the log of the bad node had flushed comes back damaged.
    DamageDisk,
    /// The engine of the bad node finds a damaged replica.
    FailReplica,
    /// A node loses everything it has; its machine comes back as a new node.
    WipeNode,
    /// The store of meta is lost; an operator has it rebuilt from what the nodes say.
    LoseMeta,
    /// An engine flushes on limits of its own: what becomes durable is the last marker in place.
    FlushEngine,
    /// A node has no room for new writes for a while.
    Pressure,
    /// The table is dropped; another of the same name takes its place.
    DropTable,
    /// An operator wants another replica to be primary.
    MovePrimary,
    /// An operator moves a replica to another node.
    MoveReplica,
    /// An operator empties a node for a while.
    DrainNode,
}

pub(crate) const FAULTS: [Fault; 28] = [
    Fault::CrashNode,
    Fault::CrashInTurn,
    Fault::CrashAll,
    Fault::RestartNode,
    Fault::PauseNode,
    Fault::PauseCore,
    Fault::BreakLink,
    Fault::CutNodes,
    Fault::Blackhole,
    Fault::CutOneWay,
    Fault::Swizzle,
    Fault::CutMeta,
    Fault::CrashMeta,
    Fault::FailMetaStore,
    Fault::StallEngine,
    Fault::SlowDisk,
    Fault::HangDisk,
    Fault::FailLog,
    Fault::DamageDisk,
    Fault::FailReplica,
    Fault::WipeNode,
    Fault::LoseMeta,
    Fault::FlushEngine,
    Fault::Pressure,
    Fault::DropTable,
    Fault::MovePrimary,
    Fault::MoveReplica,
    Fault::DrainNode,
];

impl Fault {
    /// Whether it strikes nodes and their replicas, and not the cluster or meta as a whole.
    pub(crate) const fn strikes_replicas(self) -> bool {
        !matches!(
            self,
            Self::CrashAll
                | Self::CrashMeta
                | Self::FailMetaStore
                | Self::LoseMeta
                | Self::DropTable
                | Self::MovePrimary
                | Self::MoveReplica
                | Self::DrainNode
        )
    }

    /// The whole cluster at once is struck more seldom than its parts.
    const fn weight(self) -> usize {
        match self {
            Self::CrashAll
            | Self::DropTable
            | Self::DamageDisk
            | Self::FailReplica
            | Self::WipeNode
            | Self::LoseMeta => 1,
            Self::CrashNode | Self::PauseNode | Self::Blackhole => 4,
            _ => 3,
        }
    }
}

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
    /// Of a hundred operations, how many are of lists and counters.
    pub(crate) ordered_of_100: u64,
    /// Of a hundred operations, how many go to somebody who was primary once, or to any core at all.
    pub(crate) astray_of_100: u64,
    /// Faults of this run, each as often as it weighs.
    pub(crate) faults: Vec<Fault>,
    /// Between two faults on average.
    pub(crate) fault_period: Duration,
    /// Clocks are up to so many percent too fast or too slow.
    pub(crate) drift_percent: u64,
    /// Index of the node whose disks may damage what they hold. One only: nobody survives the loss of every copy.
    pub(crate) bad_node: usize,
    /// What a disk writes at once or not at all.
    pub(crate) sector_bytes: usize,
    /// Once in so many turns a core is busy for a moment, so that events gather.
    pub(crate) busy_one_in: u64,
    /// Of a hundred reads, how many find their row in memory, in the turn that asks for it.
    pub(crate) memory_reads_of_100: u64,
    /// Once in so many messages the network delivers one twice.
    pub(crate) duplicate_one_in: u64,
    /// Once in so many reads the engine takes very long.
    pub(crate) slow_read_one_in: u64,
    pub(crate) replication: ReplicationOptions,
    pub(crate) log: LogOptions,
    pub(crate) heal: HealOptions,
    /// How long a client waits for an answer.
    pub(crate) patience: Duration,
    /// Operations of a client stop for this long on average.
    pub(crate) think: Duration,
}

impl Scenario {
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Random::new(seed, Concern::Scenario);
        let nodes = *random.pick(&[3, 3, 3, 3, 4, 4, 5, 6, 7]);
        let replicas = *random.pick(&[1, 2, 3, 3, 3, 3, 3, 3]);
        let segment_bytes = *random.pick(&[64 << 10, 128 << 10, 1 << 20]);
        Self {
            nodes,
            cores: *random.pick(&[1, 1, 1, 2, 2, 3, 4]),
            partitions: *random.pick(&[2, 4, 8]),
            replicas,
            clients: 3 + random.index(6),
            rows: *random.pick(&[2, 8, 64]),
            writes_of_100: *random.pick(&[30, 50, 80]),
            ordered_of_100: *random.pick(&[0, 20, 60]),
            astray_of_100: *random.pick(&[0, 10, 30]),
            faults: some_faults(&mut random),
            fault_period: *random.pick(&[
                Duration::from_millis(600),
                Duration::from_secs(1),
                Duration::from_secs(2),
            ]),
            drift_percent: *random.pick(&[0, 1, 10]),
            bad_node: random.index(nodes as usize),
            sector_bytes: *random.pick(&[512, 4096]),
            busy_one_in: *random.pick(&[10, 100, 1_000_000]),
            slow_read_one_in: *random.pick(&[10, 100, 1_000_000]),
            memory_reads_of_100: *random.pick(&[0, 50, 95]),
            duplicate_one_in: *random.pick(&[30, 300, 1_000_000]),
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
            heal: HealOptions {
                heal_delay_ms: *random.pick(&[500, 2_000, 10_000]),
                balance_delay_ms: 1_000,
                ..HealOptions::default()
            },
            think: *random.pick(&[
                Duration::from_millis(5),
                Duration::from_millis(20),
                Duration::from_millis(50),
            ]),
            patience: Duration::from_secs(*random.pick(&[1, 1, 3])),
        }
    }
}

/// About two kinds of three, at least one: what is left out makes room for what is in.
fn some_faults(random: &mut Random) -> Vec<Fault> {
    let mut chosen = vec![*random.pick(&FAULTS)];
    for fault in FAULTS {
        if !random.one_in(3) {
            chosen.extend(std::iter::repeat_n(fault, fault.weight()));
        }
    }
    chosen
}

//! Several shards in one process: a network, disks, engines and a clock that obey the test.

mod checks;
mod clients;
mod clock;
mod disk;
mod engine;
mod network;
mod process;

pub(crate) use disk::{Disk, SEGMENT_BYTES};
pub(crate) use engine::{Fetches, Storage};

use bytes::Bytes;
use clients::{Acknowledged, Counting, Reading};
use pegasus_replication::config::{Configuration, Member, ReplicationOptions, Stage};
use pegasus_replication::event::{Compute, Effect, Event};
use pegasus_replication::ids::{
    Ballot, CoreAddress, CoreId, Decree, Instant, NodeId, PartitionId, ReplicaIncarnation, TableId,
    Ticket,
};
use pegasus_replication::log::{LogIdentity, LogOptions};
use pegasus_replication::message::Message;
use pegasus_replication::{Replica, Shard};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(crate) struct Node {
    pub(crate) shard: Option<Shard>,
    /// How fast its clock runs, in thousandths.
    pub(crate) rate: u64,
    /// Nothing of it runs; its clock does.
    pub(crate) is_paused: bool,
    /// What it will be told when it goes on.
    pub(crate) asleep: VecDeque<Event>,
    pub(crate) disk: Disk,
    pub(crate) engine: BTreeMap<PartitionId, Storage>,
    /// `Apply` and `Read` effects not carried out yet.
    pub(crate) engine_queue: VecDeque<Effect>,
    /// Atomic operations whose turn it is.
    pub(crate) computes: VecDeque<Compute>,
    /// The engine says no to every flush.
    pub(crate) flushes_fail: bool,
    /// What it says to learners that want entries of its log.
    pub(crate) fetches: Fetches,
    /// Commit points seen, which never go back within a life.
    committed: BTreeMap<(PartitionId, ReplicaIncarnation), Decree>,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            shard: None,
            rate: 1000,
            is_paused: false,
            asleep: VecDeque::new(),
            disk: Disk::default(),
            engine: BTreeMap::new(),
            engine_queue: VecDeque::new(),
            computes: VecDeque::new(),
            flushes_fail: false,
            fetches: Fetches::default(),
            committed: BTreeMap::new(),
        }
    }
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) nodes: BTreeMap<u32, Node>,
    pub(crate) wires: BTreeMap<(u32, u32), VecDeque<Message>>,
    pub(crate) links_down: BTreeSet<(u32, u32)>,
    pub(crate) options: ReplicationOptions,
    /// Members without what they acknowledged, on purpose: not compared.
    pub(crate) damaged: BTreeSet<u32>,
    pub(crate) configurations: BTreeMap<PartitionId, Configuration>,
    pub(crate) writes: BTreeMap<Ticket, (PartitionId, Bytes)>,
    pub(crate) waiting: BTreeSet<Ticket>,
    pub(crate) acknowledged: Vec<Acknowledged>,
    pub(crate) readings: BTreeMap<Ticket, Reading>,
    pub(crate) counting: BTreeMap<Ticket, Counting>,
    pub(crate) reads_answered: u64,
    /// The newest decree that any client has seen, written or read.
    pub(crate) seen: BTreeMap<PartitionId, Decree>,
    /// What the nodes said to the outside since the last look.
    pub(crate) said: Vec<(u32, Effect)>,
    /// Prints every event and what comes of it.
    pub(crate) trace: bool,
    next_ticket: u64,
    effects: Vec<Effect>,
}

pub(crate) fn partition(index: u32) -> PartitionId {
    PartitionId {
        table: TableId(1 + index / 100),
        index: index % 100,
    }
}

pub(crate) fn address(node: u32) -> CoreAddress {
    CoreAddress {
        node: NodeId(node),
        core: CoreId(0),
    }
}

pub(crate) fn member(node: u32, incarnation: u64) -> Member {
    Member {
        address: address(node),
        incarnation: ReplicaIncarnation(incarnation),
    }
}

fn identity(node: u32) -> LogIdentity {
    LogIdentity {
        cluster: 7,
        node: NodeId(node),
        shard: CoreId(0),
    }
}

pub(crate) fn log_options() -> LogOptions {
    LogOptions {
        segment_bytes: SEGMENT_BYTES,
        batch_bytes_max: 8192,
        writes_inflight_max: 2,
        budget_bytes: 8 * SEGMENT_BYTES,
    }
}

impl World {
    pub(crate) fn new(count: u32, options: ReplicationOptions) -> Self {
        let mut world = Self {
            now: Instant(1_000_000_000),
            nodes: (1..=count).map(|node| (node, Node::default())).collect(),
            wires: BTreeMap::new(),
            links_down: BTreeSet::new(),
            options,
            damaged: BTreeSet::new(),
            configurations: BTreeMap::new(),
            writes: BTreeMap::new(),
            waiting: BTreeSet::new(),
            acknowledged: Vec::new(),
            readings: BTreeMap::new(),
            counting: BTreeMap::new(),
            reads_answered: 0,
            seen: BTreeMap::new(),
            said: Vec::new(),
            trace: false,
            next_ticket: 1,
            effects: Vec::new(),
        };
        for node in 1..=count {
            world.boot(node);
        }
        world
    }

    /// One event and the end of its turn; then everything is checked.
    pub(crate) fn feed(&mut self, node: u32, event: Event) {
        let now = self.local(node);
        let Some(one) = self.nodes.get_mut(&node) else {
            return;
        };
        let Some(shard) = one.shard.as_mut() else {
            return;
        };
        if one.is_paused {
            one.asleep.push_back(event);
            return;
        }
        let mut effects = std::mem::take(&mut self.effects);
        if self.trace {
            eprintln!("{:?} node {node}: {event:?}", self.now);
        }
        shard.handle(now, event, &mut effects);
        while let Some(compute) = shard.next_compute() {
            one.computes.push_back(compute);
        }
        shard.finish_turn(now, &mut effects);
        for effect in effects.iter().filter(|_| self.trace) {
            if !matches!(effect, Effect::WriteLog(_)) {
                eprintln!("      {effect:?}");
            }
        }
        self.effects = effects;
        self.perform(node);
        self.check();
    }

    fn perform(&mut self, node: u32) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            self.perform_one(node, effect);
        }
        self.effects = effects;
    }

    fn perform_one(&mut self, node: u32, effect: Effect) {
        let one = self.nodes.get_mut(&node).unwrap();
        match effect {
            Effect::WriteLog(write) => one.disk.pending.push_back(write),
            Effect::PrepareSegment { segment } => {
                one.disk
                    .segments
                    .insert(segment, vec![0; usize::try_from(SEGMENT_BYTES).unwrap()]);
                one.engine_queue
                    .push_back(Effect::PrepareSegment { segment });
            }
            Effect::FreeSegment { segment } => {
                one.disk.segments.remove(&segment);
            }
            Effect::Send { to, message } => {
                let up = !self.is_cut(node, to.node.0) && self.is_alive(to.node.0);
                if up {
                    self.wires
                        .entry((node, to.node.0))
                        .or_default()
                        .push_back(message);
                }
            }
            Effect::Apply { .. } | Effect::Read { .. } => one.engine_queue.push_back(effect),
            Effect::Flush { .. }
            | Effect::Create { .. }
            | Effect::FetchLog { .. }
            | Effect::FetchCheckpoint { .. } => {
                one.engine_queue.push_back(effect.clone());
                self.said.push((node, effect));
            }
            Effect::Remove {
                partition,
                incarnation,
            } => {
                let storage = one.engine.remove(&partition);
                assert!(
                    storage.is_some_and(|storage| storage.incarnation == incarnation),
                    "removes what is there"
                );
                self.said.push((node, effect));
            }
            Effect::Reply { ticket, decree } => {
                self.hear_reply(node, ticket, decree);
                self.said.push((node, effect));
            }
            Effect::Reject { ticket, reason } => {
                self.hear_reject(ticket, reason);
                self.said.push((node, effect));
            }
            other => self.said.push((node, other)),
        }
    }

    pub(crate) fn configure(&mut self, configuration: &Configuration, nodes: &[u32]) {
        self.configurations
            .insert(configuration.partition, configuration.clone());
        for node in nodes {
            self.feed(
                *node,
                Event::Configured {
                    configuration: configuration.clone(),
                },
            );
        }
    }

    pub(crate) fn replica(&self, node: u32, partition: PartitionId) -> Option<&Replica> {
        self.nodes.get(&node)?.shard.as_ref()?.replica(partition)
    }
}

pub(crate) fn configuration(
    index: u32,
    ballot: u64,
    stage: Stage,
    members: &[(u32, u64)],
    min_replicas: u8,
) -> Configuration {
    let mut members = members
        .iter()
        .map(|(node, incarnation)| member(*node, *incarnation));
    Configuration {
        partition: partition(index),
        ballot: Ballot(ballot),
        stage,
        primary: members.next(),
        secondaries: members.collect(),
        replica_count: 3,
        min_replicas,
    }
}

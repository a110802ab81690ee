//! One run: a cluster, its network and disks, its clients, and the queue of what happens next.

use crate::action::{Action, Life, Operation, Queue, RequestNumber};
use crate::history::{History, Violation};
use crate::network::{Network, Pair};
use crate::node::{SimCore, SimNode};
use crate::random::{Concern, Random};
use crate::scenario::{Fault, Scenario};
use pegasus_meta::state::State;
use pegasus_replication::event::Event;
use pegasus_replication::ids::{CoreAddress, Instant, NodeId, PartitionId, TableId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// When the run begins, so that time zero means nothing special.
const START: Instant = Instant(1_000_000_000_000);

/// What a run has done, for the summary.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) acknowledged: u64,
    pub(crate) reads: u64,
    pub(crate) rejected: u64,
    pub(crate) unknown: u64,
    pub(crate) events: u64,
    pub(crate) faults: BTreeMap<Fault, u64>,
}

impl Totals {
    pub(crate) fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.reads += other.reads;
        self.rejected += other.rejected;
        self.unknown += other.unknown;
        self.events += other.events;
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
    }

    pub(crate) fn fault_count(&self) -> u64 {
        self.faults.values().sum()
    }
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) client: usize,
    pub(crate) operation: Operation,
    pub(crate) deadline: Instant,
}

/// Meta: its state, and whether it runs.
#[derive(Debug)]
pub(crate) struct SimMeta {
    pub(crate) state: State,
    pub(crate) up: bool,
    pub(crate) life: Life,
    /// When the last push to each node arrives: a connection keeps its order.
    pub(crate) arrivals: BTreeMap<NodeId, Instant>,
}

/// One stream for each concern.
#[derive(Debug)]
pub(crate) struct Randoms {
    pub(crate) network: Random,
    pub(crate) disk: Random,
    pub(crate) engine: Random,
    pub(crate) client: Random,
    pub(crate) fault: Random,
    pub(crate) meta: Random,
}

impl Randoms {
    fn new(seed: u64) -> Self {
        Self {
            network: Random::new(seed, Concern::Network),
            disk: Random::new(seed, Concern::Disk),
            engine: Random::new(seed, Concern::Engine),
            client: Random::new(seed, Concern::Client),
            fault: Random::new(seed, Concern::Fault),
            meta: Random::new(seed, Concern::Meta),
        }
    }
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) now: Instant,
    pub(crate) queue: Queue,
    pub(crate) random: Randoms,
    pub(crate) nodes: Vec<SimNode>,
    pub(crate) meta: SimMeta,
    pub(crate) network: Network,
    pub(crate) history: History,
    pub(crate) requests: BTreeMap<RequestNumber, Request>,
    pub(crate) next_request: u64,
    /// What was applied under each decree, anywhere: no two replicas may differ.
    pub(crate) applied: BTreeMap<PartitionId, BTreeMap<u64, u32>>,
    /// Clients and faults have stopped: everything comes to rest.
    pub(crate) ending: bool,
    pub(crate) totals: Totals,
    /// Partitions touched since the invariants were checked last.
    pub(crate) touched: BTreeSet<PartitionId>,
    pub(crate) trace: bool,
}

impl World {
    pub(crate) fn new(seed: u64, trace: bool) -> Self {
        let scenario = Scenario::of(seed);
        let nodes = (1..=scenario.nodes)
            .map(|id| SimNode::new(NodeId(id), scenario.cores))
            .collect();
        let meta = SimMeta {
            state: State::new(crate::meta::cluster()),
            up: true,
            life: Life(1),
            arrivals: BTreeMap::new(),
        };
        let world = Self {
            now: START,
            queue: Queue::default(),
            random: Randoms::new(seed),
            nodes,
            meta,
            network: Network::default(),
            history: History::default(),
            requests: BTreeMap::new(),
            next_request: 0,
            applied: BTreeMap::new(),
            ending: false,
            totals: Totals::default(),
            touched: BTreeSet::new(),
            trace,
            scenario,
        };
        world.say(|world| format!("{:?}", world.scenario));
        world
    }

    /// Runs `span` of virtual time with faults, then lets everything come to rest and compares.
    pub(crate) fn run(&mut self, span: Duration) -> Result<(), Violation> {
        self.begin()?;
        self.run_until(START.after(span))?;
        self.end()
    }

    fn begin(&mut self) -> Result<(), Violation> {
        self.number_nodes();
        for index in 0..self.nodes.len() {
            self.start_node(index)?;
        }
        for client in 0..self.scenario.clients {
            let at = self
                .now
                .after(Duration::from_millis(50) + Duration::from_micros(client as u64));
            self.queue.add(at, Action::Think { client });
        }
        self.queue
            .add(self.now.after(Duration::from_millis(100)), Action::MetaTick);
        self.schedule_fault();
        Ok(())
    }

    fn run_until(&mut self, end: Instant) -> Result<(), Violation> {
        while self.now < end {
            let Some((at, action)) = self.queue.pop() else {
                return Ok(());
            };
            assert!(at >= self.now, "time goes forward");
            self.now = at;
            self.totals.events += 1;
            self.handle(action)?;
            self.check_touched();
        }
        Ok(())
    }

    /// Faults are over; the cluster must become whole, and every acknowledged write must be there.
    fn end(&mut self) -> Result<(), Violation> {
        const REST: Duration = Duration::from_secs(60);
        self.ending = true;
        self.heal_everything()?;
        let end = self.now.after(REST);
        while !self.is_at_rest() {
            if self.now >= end {
                return Err(Violation(format!(
                    "not at rest {REST:?} after the last fault: {}",
                    self.unrest()
                )));
            }
            self.run_until(self.now.after(Duration::from_millis(200)))?;
        }
        self.compare_replicas()?;
        self.compare_with_history()?;
        self.totals.acknowledged = self.history.acknowledged;
        self.totals.reads = self.history.reads;
        Ok(())
    }

    fn handle(&mut self, action: Action) -> Result<(), Violation> {
        self.say(|_| format!("{action:?}"));
        match action {
            Action::Deliver {
                link,
                from,
                to,
                message,
            } => {
                if self.network.carries(Pair::of(from, to), link) {
                    self.core_event(to, Event::Message { from, message })?;
                }
                Ok(())
            }
            Action::Connect { pair } => self.connect(pair),
            Action::Core { core, life, event } => self.core_event_of(core, life, event),
            Action::Flushed { core, life, write } => self.log_flushed(core, life, write),
            Action::ApplyWaiting { core, life } => self.apply_waiting(core, life),
            Action::EngineFlushed {
                core,
                life,
                partition,
            } => self.engine_flushed(core, life, partition),
            Action::Report { node, life } => self.report(node, life),
            Action::Join { node, life } => self.join(node, life),
            Action::ToMeta { life, command } => self.meta_command(life, command),
            Action::FromMeta {
                meta,
                node,
                life,
                sync,
            } => self.take_sync(meta, node, life, sync),
            Action::Think { client } => self.think(client),
            Action::Request { request, core } => self.request_arrives(request, core),
            Action::Deadline { request } => self.give_up(request),
            Action::Fault => self.strike(),
            Action::StartNode { node } => self.start_stopped_node(node),
            Action::CrashNode { node, life } => self.crash_node(node, life),
            Action::NoticeBreak { observer, peer } => self.notice_break(observer, peer),
            Action::StartMeta => self.start_meta(),
            Action::Heal => self.heal_network(),
            Action::MetaTick => self.tick_meta(),
        }
    }

    /// The one table of a run, once it exists.
    pub(crate) fn table(&self) -> Option<TableId> {
        self.meta
            .state
            .durable()
            .table_named(crate::meta::TABLE)
            .map(|table| table.id)
    }

    pub(crate) fn node_index(&self, node: NodeId) -> usize {
        usize::try_from(node.0 - 1).expect("nodes are few")
    }

    pub(crate) fn core(&self, address: CoreAddress) -> &SimCore {
        &self.nodes[self.node_index(address.node)].cores[usize::from(address.core.0)]
    }

    pub(crate) fn core_mut(&mut self, address: CoreAddress) -> &mut SimCore {
        let index = self.node_index(address.node);
        &mut self.nodes[index].cores[usize::from(address.core.0)]
    }

    pub(crate) fn life(&self, node: NodeId) -> Life {
        self.nodes[self.node_index(node)].life
    }

    pub(crate) fn say(&self, line: impl FnOnce(&Self) -> String) {
        if self.trace {
            let ms = self.now.since(START).as_secs_f64() * 1e3;
            eprintln!("{ms:>12.3} ms  {}", line(self));
        }
    }
}

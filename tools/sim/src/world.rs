//! One run: a cluster, its network and disks, its clients, and the queue of what happens next.

use crate::action::{Action, Life, Queue, RequestNumber};
use crate::checks::Ledger;
use crate::clients::Request;
use crate::clock::Clock;
use crate::cores::SimCore;
use crate::coverage::Coverage;
use crate::history::{History, START, Violation};
use crate::meta::SimMeta;
use crate::network::Network;
use crate::node::SimNode;
use crate::random::{Concern, Random};
use crate::scenario::Scenario;
use pegasus_replication::config::Configuration;
use pegasus_replication::ids::{CoreAddress, Instant, NodeId, PartitionId, TableId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What a run has done, for the summary.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) acknowledged: u64,
    pub(crate) reads: u64,
    pub(crate) rejected: u64,
    pub(crate) unknown: u64,
    pub(crate) events: u64,
    pub(crate) coverage: Coverage,
}

impl Totals {
    pub(crate) fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.reads += other.reads;
        self.rejected += other.rejected;
        self.unknown += other.unknown;
        self.events += other.events;
        self.coverage.add(&other.coverage);
    }
}

/// Who may say that a run has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judges {
    All,
    /// Only what clients saw counts, whatever the checks inside say; assertions of the code itself still end a run.
    History,
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
    pub(crate) clock: Random,
    pub(crate) turn: Random,
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
            clock: Random::new(seed, Concern::Clock),
            turn: Random::new(seed, Concern::Turn),
        }
    }
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) scenario: Scenario,
    /// True time; nobody in the cluster can see it.
    pub(crate) now: Instant,
    pub(crate) queue: Queue,
    pub(crate) random: Randoms,
    pub(crate) nodes: Vec<SimNode>,
    pub(crate) meta: SimMeta,
    pub(crate) network: Network,
    pub(crate) history: History,
    pub(crate) requests: BTreeMap<RequestNumber, Request>,
    pub(crate) next_request: u64,
    /// Items appended to the lists of each partition number of each table.
    pub(crate) appended: BTreeMap<PartitionId, u32>,
    pub(crate) next_fetch: u64,
    /// Who has been primary of each partition number, the newest last.
    pub(crate) former_primaries: BTreeMap<u32, Vec<CoreAddress>>,
    pub(crate) ledgers: BTreeMap<PartitionId, Ledger>,
    /// Clients and faults have stopped: everything comes to rest.
    pub(crate) ending: bool,
    pub(crate) totals: Totals,
    /// Partitions touched since the invariants were checked last.
    pub(crate) touched: BTreeSet<PartitionId>,
    pub(crate) trace: bool,
    pub(crate) judges: Judges,
}

impl World {
    pub(crate) fn new(seed: u64, trace: bool, judges: Judges) -> Self {
        let scenario = Scenario::of(seed);
        let mut random = Randoms::new(seed);
        let nodes = (1..=scenario.nodes).map(|id| {
            let clock = Clock::new(START, scenario.drift_percent, &mut random.clock);
            SimNode::new(NodeId(id), clock, &scenario)
        });
        let nodes = nodes.collect();
        let world = Self {
            now: START,
            queue: Queue::default(),
            random,
            nodes,
            meta: SimMeta::new(scenario.heal),
            network: Network::default(),
            history: History::default(),
            requests: BTreeMap::new(),
            next_request: 0,
            appended: BTreeMap::new(),
            next_fetch: 0,
            former_primaries: BTreeMap::new(),
            ledgers: BTreeMap::new(),
            ending: false,
            totals: Totals::default(),
            touched: BTreeSet::new(),
            trace,
            judges,
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
            let delay = Duration::from_millis(50) + Duration::from_micros(client as u64);
            self.queue
                .add(self.now.after(delay), Action::Think { client });
        }
        let first_tick = self.now.after(Duration::from_millis(100));
        self.queue.add(first_tick, Action::MetaTick);
        self.schedule_fault();
        Ok(())
    }

    pub(crate) fn run_until(&mut self, end: Instant) -> Result<(), Violation> {
        while self.now < end {
            let Some((at, action)) = self.queue.pop() else {
                return Ok(());
            };
            assert!(at >= self.now, "time goes forward");
            self.now = at;
            self.totals.events += 1;
            if self.trace {
                crate::trace::action(at, &action);
            }
            self.handle(action)?;
            self.check_touched()?;
        }
        Ok(())
    }

    fn handle(&mut self, action: Action) -> Result<(), Violation> {
        match action {
            Action::Deliver {
                link,
                from,
                to,
                message,
            } => return self.deliver(link, from, to, message),
            Action::Connect { pair } => return self.connect(pair),
            Action::Core { core, life, event } => return self.core_event_of(core, life, event),
            Action::Resume { core, life } => return self.resume(core, life),
            Action::Flushed { core, life, write } => return self.log_flushed(core, life, write),
            Action::ApplyWaiting { core, life } => return self.apply_waiting(core, life),
            Action::RowsRead {
                core,
                life,
                compute,
            } => return self.rows_read(core, life, compute),
            Action::EngineFlushed {
                core,
                life,
                partition,
            } => return self.engine_flushed(core, life, partition),
            Action::FetchAsked { fetch } => return self.fetch_asked(fetch),
            Action::FetchArrives {
                fetch,
                source_life,
                parcel,
            } => return self.fetch_arrives(fetch, source_life, parcel),
            Action::FetchInstalled { fetch, checkpoint } => {
                return self.fetch_installed(fetch, checkpoint);
            }
            Action::Report { node, life } => self.report(node, life),
            Action::Join { node, life } => self.join(node, life),
            Action::ToMeta { session, command } => self.take_command(session, command),
            Action::MetaPersisted { life } => self.meta_persisted(life),
            Action::FromMeta { session, sync } => return self.take_sync(session, sync),
            Action::Think { client } => self.think(client),
            Action::Request { request, core } => return self.request_arrives(request, core),
            Action::Answer { request, reply } => self.answer(request, reply),
            Action::Deadline { request } => self.give_up(request),
            Action::Fault => return self.strike(),
            Action::StartNode { node } => return self.start_stopped_node(node),
            Action::CrashNode { node, life } => return self.crash_node(node, life),
            Action::NoticeBreak { observer, peer } => return self.notice_break(observer, peer),
            Action::LinkGivesUp { pair, link } => return self.link_gives_up(pair, link),
            Action::StartMeta => self.start_meta(),
            Action::ReplaceNode => return self.replace_node(),
            Action::RecoverMeta => return self.recover_meta(),
            Action::Block { ways } => self.block(&ways),
            Action::Unblock { ways } => return self.unblock(&ways),
            Action::UncutMeta { node } => self.uncut_meta(node),
            Action::MetaTick => self.tick_meta(),
            Action::EndDrain { node } => self.end_drain(node),
        }
        Ok(())
    }

    /// What a check has found, if it has a say.
    pub(crate) fn judge(&self, found: Result<(), Violation>) -> Result<(), Violation> {
        match self.judges {
            Judges::History => Ok(()),
            Judges::All => found,
        }
    }

    /// The one table of a run, once it exists.
    pub(crate) fn table(&self) -> Option<TableId> {
        let durable = self.meta.state.durable();
        durable
            .table_named(crate::meta::TABLE)
            .map(|table| table.id)
    }

    /// What meta has decided for a partition; `None` if its table is dropped.
    pub(crate) fn configuration(&self, partition: PartitionId) -> Option<Configuration> {
        let table = self.meta.state.durable().tables().get(&partition.table)?;
        table
            .configuration(partition.index)
            .filter(|_| !table.is_dropped())
    }

    pub(crate) fn node_index(&self, node: NodeId) -> usize {
        let index = usize::try_from(node.0 - 1).expect("nodes are few");
        if self.nodes.get(index).is_some_and(|it| it.id == node) {
            return index;
        }
        // After meta was rebuilt it leaves numbers out.
        let mut nodes = self.nodes.iter();
        nodes
            .position(|it| it.id == node)
            .expect("every number belongs to a node")
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

    /// What the clock of `node` shows now.
    pub(crate) fn local(&self, node: NodeId) -> Instant {
        self.nodes[self.node_index(node)].clock.local(self.now)
    }

    pub(crate) fn say(&self, line: impl FnOnce(&Self) -> String) {
        if self.trace {
            crate::trace::line(self.now, &line(self));
        }
    }
}

//! The simulated meta process: the production state, a store that takes its time, connections to nodes, and crashes that
//! keep what was persisted.

use crate::action::{Action, Life, Session};
use crate::history::Violation;
use crate::world::World;
use pegasus_meta::state::{
    Answer, Change, Cluster, ClusterId, Command, Core, CreateTable, Durable, HealOptions, Node,
    Outcome, Proposed, Push, ReplicaKey, State, Sync,
};
use pegasus_replication::config;
use pegasus_replication::ids::{
    Ballot, CoreAddress, Instant, NodeId, PartitionId, ReplicaIncarnation, TableId,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

pub(crate) const TABLE: &str = "simulated";
const DELAY: Range<Duration> = Duration::from_micros(100)..Duration::from_millis(20);
const PERSIST_DELAY: Range<Duration> = Duration::from_micros(200)..Duration::from_millis(50);
const REPORT_PERIOD: Duration = Duration::from_millis(500);
const TICK_PERIOD: Duration = Duration::from_millis(200);
const RETRY: Duration = Duration::from_millis(300);
/// Changes in the store at which it is folded into a snapshot.
const CHANGES_MAX: usize = 1_000;

/// Meta: its state, what its store has kept, and whether it runs.
#[derive(Debug)]
pub(crate) struct SimMeta {
    pub(crate) state: State,
    options: HealOptions,
    persisted: Vec<Change>,
    /// Decided, and not persisted yet: nobody has heard of it.
    undecided: VecDeque<Decided>,
    /// When the last of them is persisted.
    persisted_at: Instant,
    pub(crate) up: bool,
    /// Its store is gone.
    pub(crate) is_lost: bool,
    /// Tables of which copies stay where they are since it was rebuilt.
    pub(crate) left: BTreeSet<TableId>,
    pub(crate) life: Life,
    /// Nodes that do not reach it.
    cut: BTreeSet<NodeId>,
    /// When the last push to each node arrives: a connection keeps its order.
    arrivals: BTreeMap<NodeId, Instant>,
}

#[derive(Debug)]
struct Decided {
    changes: Vec<Change>,
    pushes: Vec<Push>,
    /// The connection that joined by it.
    joined: Option<Session>,
}

impl SimMeta {
    pub(crate) fn new(options: HealOptions) -> Self {
        let state = State::new(cluster()).with_options(options);
        let persisted = state.durable().snapshot();
        Self {
            state,
            options,
            persisted,
            undecided: VecDeque::new(),
            persisted_at: Instant::default(),
            up: true,
            is_lost: false,
            left: BTreeSet::new(),
            life: Life(1),
            cut: BTreeSet::new(),
            arrivals: BTreeMap::new(),
        }
    }

    fn replayed(&self) -> Durable {
        Durable::replay(&self.persisted).expect("what was persisted replays")
    }

    /// Everything decided is persisted.
    pub(crate) fn is_idle(&self) -> bool {
        self.undecided.is_empty()
    }

    pub(crate) fn is_cut(&self, node: NodeId) -> bool {
        self.cut.contains(&node)
    }

    /// Goes on with a store that was made for it.
    pub(crate) fn begin_anew(&mut self, durable: Durable) {
        self.persisted = durable.snapshot();
        self.state = State::from_durable(durable).with_options(self.options);
        self.is_lost = false;
    }

    pub(crate) fn persist(&mut self, changes: Vec<Change>) {
        self.persisted.extend(changes);
        if self.persisted.len() > CHANGES_MAX {
            self.persisted = self.replayed().snapshot();
        }
    }
}

pub(crate) fn cluster() -> Cluster {
    Cluster {
        id: ClusterId(0x51a1),
        name: "simulated".to_owned(),
        epoch: 0,
    }
}

impl World {
    /// Node numbers are given before the run: a fresh directory's first join is not what it is about.
    pub(crate) fn number_nodes(&mut self) {
        for node in 1..=self.scenario.nodes {
            let outcome = self.meta.state.apply(Command::NumberNode);
            let expected = Answer::NodeNumbered(NodeId(node));
            assert_eq!(outcome.answer, expected, "numbers are given in order");
            self.meta.persist(outcome.changes);
        }
    }

    /// The clock of meta's commands.
    pub(crate) const fn now_ms(&self) -> u64 {
        self.now.0 / 1_000_000
    }

    fn session(&self, index: usize) -> Session {
        let node = &self.nodes[index];
        Session {
            meta: self.meta.life,
            node: node.id,
            life: node.life,
            number: node.session,
        }
    }

    /// Both ends are still those of this connection, and reach each other.
    fn holds(&self, session: Session) -> bool {
        let index = self.node_index(session.node);
        let reached = !self.meta.cut.contains(&session.node);
        self.meta.up && self.nodes[index].up && reached && self.session(index) == session
    }

    pub(crate) fn join(&mut self, node: NodeId, life: Life) {
        let index = self.node_index(node);
        if self.life(node) != life || !self.nodes[index].up {
            return;
        }
        if self.nodes[index].joined.is_none() {
            let now_ms = self.now_ms();
            let node = self.describe(index);
            self.send_to_meta(index, Command::JoinNode { node, now_ms });
            let node = self.nodes[index].id;
            let again = self.now.after(RETRY);
            self.queue.add(again, Action::Join { node, life });
        }
    }

    pub(crate) fn describe(&self, index: usize) -> Node {
        let node = &self.nodes[index];
        let core = |number: u16| {
            let node = u16::try_from(index).expect("nodes are few");
            let at = |port: u16| format!("127.0.0.1:{}", port + 100 * node + number);
            Core {
                client_address: at(10_000),
                peer_address: at(20_000),
                cpu: u32::from(number),
            }
        };
        Node {
            id: node.id,
            incarnation: node.incarnation,
            cores: (0..self.scenario.cores).map(core).collect(),
            host: "simulated".to_owned(),
            pid: 1,
            stats_dir: String::new(),
        }
    }

    pub(crate) fn report(&mut self, node: NodeId, life: Life) {
        if self.life(node) == life {
            self.report_now(self.node_index(node));
            let again = self.now.after(REPORT_PERIOD);
            self.queue.add(again, Action::Report { node, life });
        }
    }

    /// Sends a full report, if the node has a connection and runs.
    fn report_now(&mut self, index: usize) {
        let node = &self.nodes[index];
        if node.up && node.joined.is_some() && node.paused_until <= self.now {
            let command = Command::Report {
                node: node.id,
                incarnation: node.incarnation,
                report: node.report(),
                now_ms: self.now_ms(),
            };
            self.send_to_meta(index, command);
        }
    }

    pub(crate) fn propose(
        &mut self,
        core: CoreAddress,
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
        ballot: Ballot,
        proposal: &config::Proposal,
    ) {
        let index = self.node_index(core.node);
        if self.nodes[index].joined.is_none() {
            return;
        }
        let replica = ReplicaKey {
            partition,
            incarnation,
        };
        let node = &self.nodes[index];
        let proposed = Proposed {
            replica,
            ballot,
            proposal: *proposal,
        };
        let command = Command::Propose {
            node: core.node,
            incarnation: node.incarnation,
            proposals: vec![proposed],
            now_ms: self.now_ms(),
        };
        self.send_to_meta(index, command);
    }

    fn send_to_meta(&mut self, index: usize, command: Command) {
        let session = self.session(index);
        let earliest = self.nodes[index].meta_arrival;
        let at = self.now.after(self.random.meta.delay(DELAY)).max(earliest);
        self.nodes[index].meta_arrival = at;
        self.queue.add(at, Action::ToMeta { session, command });
    }

    pub(crate) fn take_command(&mut self, session: Session, command: Command) {
        if self.holds(session) {
            let joined = matches!(command, Command::JoinNode { .. }).then_some(session);
            self.decide(command, joined);
        }
    }

    /// Meta decides, persists, and only then tells.
    pub(crate) fn decide(&mut self, command: Command, joined: Option<Session>) {
        let outcome = self.meta.state.apply(command);
        self.check_outcome(&outcome);
        if let Answer::Refused(refusal) = &outcome.answer {
            self.say(|_| format!("meta refuses: {refusal}"));
        }
        let Outcome {
            changes, pushes, ..
        } = outcome;
        if changes.is_empty() && pushes.is_empty() && joined.is_none() {
            return;
        }
        let is_quick = changes.is_empty() && self.meta.undecided.is_empty();
        let decided = Decided {
            changes,
            pushes,
            joined,
        };
        if is_quick {
            self.tell(decided);
            return;
        }
        let delay = self.random.meta.delay(PERSIST_DELAY);
        let at = self.now.after(delay).max(self.meta.persisted_at);
        self.meta.persisted_at = at;
        self.meta.undecided.push_back(decided);
        let life = self.meta.life;
        self.queue.add(at, Action::MetaPersisted { life });
    }

    fn check_outcome(&mut self, outcome: &Outcome) {
        if self.trace && !outcome.changes.is_empty() {
            self.say(|_| format!("meta decides {:?}", outcome.changes));
        }
    }

    /// The oldest decision is persisted.
    pub(crate) fn meta_persisted(&mut self, life: Life) {
        if self.meta.up
            && self.meta.life == life
            && let Some(mut decided) = self.meta.undecided.pop_front()
        {
            self.meta.persist(std::mem::take(&mut decided.changes));
            self.tell(decided);
        }
    }

    fn tell(&mut self, decided: Decided) {
        if let Some(session) = decided.joined.filter(|session| self.holds(*session)) {
            let index = self.node_index(session.node);
            self.nodes[index].joined = Some(session.meta);
        }
        for push in decided.pushes {
            let earliest = self.meta.arrivals.get(&push.node).copied();
            let arrival = self.now.after(self.random.meta.delay(DELAY));
            let at = arrival.max(earliest.unwrap_or_default());
            self.meta.arrivals.insert(push.node, at);
            let session = self.session(self.node_index(push.node));
            let sync = push.sync;
            self.queue.add(at, Action::FromMeta { session, sync });
        }
    }

    pub(crate) fn take_sync(&mut self, session: Session, sync: Sync) -> Result<(), Violation> {
        let index = self.node_index(session.node);
        if !self.holds(session) {
            return Ok(());
        }
        let paused_until = self.nodes[index].paused_until;
        if paused_until > self.now {
            let arrival = self.meta.arrivals.entry(session.node).or_default();
            *arrival = paused_until.max(*arrival);
            self.queue
                .add(paused_until, Action::FromMeta { session, sync });
            return Ok(());
        }
        self.take_assignment(index, sync)?;
        self.report_now(index);
        Ok(())
    }

    pub(crate) fn tick_meta(&mut self) {
        self.queue
            .add(self.now.after(TICK_PERIOD), Action::MetaTick);
        if !self.meta.up {
            return;
        }
        let now_ms = self.now_ms();
        self.decide(Command::Tick { now_ms }, None);
        if self.table().is_none() {
            let request = CreateTable {
                name: TABLE.to_owned(),
                partition_count: self.scenario.partitions,
                replica_count: self.scenario.replicas,
                allow_degraded: false,
                may_exist: false,
                envs: BTreeMap::new(),
                now_ms,
            };
            self.decide(Command::CreateTable(request), None);
        }
    }

    pub(crate) fn drop_table(&mut self) {
        if self.meta.up && self.table().is_some() {
            let (name, now_ms) = (TABLE.to_owned(), self.now_ms());
            self.decide(
                Command::DropTable {
                    name,
                    keep_seconds: Some(0),
                    now_ms,
                },
                None,
            );
        }
    }

    /// Meta dies: what it had persisted stays, what nodes had told it is gone.
    pub(crate) fn crash_meta(&mut self) {
        self.stop_meta();
        self.after_pause(Duration::from_secs(3), Action::StartMeta);
    }

    pub(crate) fn stop_meta(&mut self) {
        if self.meta.up {
            let state = State::from_durable(self.meta.replayed());
            self.meta.state = state.with_options(self.meta.options);
            self.meta.up = false;
            self.meta.undecided.clear();
            self.meta.arrivals.clear();
            for node in &mut self.nodes {
                node.joined = None;
            }
        }
    }

    /// What waits for the disk is lost; meta goes on from what it had persisted.
    pub(crate) fn fail_meta_store(&mut self) {
        if self.meta.up {
            self.meta.undecided.clear();
            let durable = self.meta.replayed();
            self.meta.state.restore(durable);
        }
    }

    pub(crate) fn start_meta(&mut self) {
        if !self.meta.up && !self.meta.is_lost {
            self.meta.up = true;
            self.meta.life = Life(self.meta.life.0 + 1);
            for index in 0..self.nodes.len() {
                self.join_soon(index);
            }
        }
    }

    /// A node loses its connection and gets no other for a while.
    pub(crate) fn cut_meta(&mut self, index: usize) -> bool {
        let node = self.nodes[index].id;
        self.disconnect_from_meta(index);
        self.meta.cut.insert(node);
        self.after_pause(Duration::from_secs(5), Action::UncutMeta { node });
        self.nodes[index].up
    }

    pub(crate) fn uncut_meta(&mut self, node: NodeId) {
        if self.meta.cut.remove(&node) {
            self.join_soon(self.node_index(node));
        }
    }

    fn disconnect_from_meta(&mut self, index: usize) {
        self.lose_connection(index);
        let node = &mut self.nodes[index];
        node.session += 1;
        node.joined = None;
        self.meta.arrivals.remove(&node.id);
    }

    /// Meta notices at once that a connection is gone.
    pub(crate) fn lose_connection(&mut self, index: usize) {
        let node = &self.nodes[index];
        if !self.meta.up || node.joined != Some(self.meta.life) {
            return;
        }
        let command = Command::NodeLost {
            node: node.id,
            incarnation: node.incarnation,
            now_ms: self.now_ms(),
        };
        self.decide(command, None);
    }

    fn join_soon(&mut self, index: usize) {
        let (node, life) = (self.nodes[index].id, self.nodes[index].life);
        let at = self.now.after(self.random.meta.delay(DELAY));
        self.queue.add(at, Action::Join { node, life });
    }
}

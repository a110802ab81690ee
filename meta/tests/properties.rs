//! Random commands: nothing panics, every invariant holds, nodes that follow the pushes know what a full Sync would say,
//! and a restart comes to the same state.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod fixture;

use fixture::{cluster, node, status};
use pegasus_meta::state::{
    Assignment, Change, Command, CreateTable, Drain, Durable, HealOptions, Partition, Proposed,
    ReplicaHealth, ReplicaKey, Report, State, Sync,
};
use pegasus_meta::store::format::change::{decode_batch, encode_batch};
use pegasus_replication::config::{Configuration, Member, Proposal, RemovalCause};
use pegasus_replication::ids::{
    Ballot, CoreAddress, CoreId, Decree, NodeId, NodeIncarnation, PartitionId, ReplicaIncarnation,
    TableId,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// What a node knows that follows its pushes.
#[derive(Debug, Default)]
struct Follower {
    digest: u64,
    nodes: BTreeMap<NodeId, Vec<String>>,
    tables: BTreeSet<TableId>,
    /// Those that name it.
    configurations: BTreeMap<PartitionId, Configuration>,
    assignments: BTreeMap<PartitionId, Assignment>,
}

impl Follower {
    fn take(&mut self, me: NodeId, sync: &Sync) {
        if sync.full {
            *self = Self::default();
        }
        self.digest = sync.digest;
        self.nodes.extend(
            sync.nodes
                .iter()
                .map(|it| (it.node, it.peer_addresses.clone())),
        );
        for table in &sync.tables {
            if table.dropped {
                self.tables.remove(&table.table);
                self.configurations.retain(|id, _| id.table != table.table);
                self.assignments.retain(|id, _| id.table != table.table);
            } else {
                self.tables.insert(table.table);
            }
        }
        for configuration in &sync.configurations {
            self.take_configuration(me, configuration);
        }
        for assignment in &sync.assignments {
            let id = assignment.configuration.partition;
            let before = self.assignments.remove(&id);
            let known = before.map(|it| it.configuration.ballot);
            assert!(
                known <= Some(assignment.configuration.ballot),
                "a ballot fell"
            );
            if assignment.learner.is_some() {
                self.assignments.insert(id, assignment.clone());
            }
        }
        for handover in &sync.handovers {
            let known = &self.configurations[&handover.partition];
            assert!(known.secondaries.contains(&handover.to));
            assert_eq!(known.primary.map(|it| it.address.node), Some(me));
        }
    }

    /// A newer one ends what was learned under an older one, and one that does not name this node takes the partition away.
    fn take_configuration(&mut self, me: NodeId, configuration: &Configuration) {
        let id = configuration.partition;
        let before = self.configurations.remove(&id);
        assert!(
            before.is_none_or(|before| before.ballot <= configuration.ballot),
            "a ballot fell"
        );
        if configuration.member_on(me).is_some() {
            self.configurations.insert(id, configuration.clone());
        }
        let is_old = |it: &Assignment| it.configuration.ballot < configuration.ballot;
        if self.assignments.get(&id).is_some_and(is_old) {
            self.assignments.remove(&id);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Command(Command),
    /// The node reports what it should have, so that tables come to life.
    ReportAll {
        node: u32,
        incarnation: u64,
        full: bool,
        health: ReplicaHealth,
    },
    /// A member of the partition, by a number, wants something under the ballot that holds.
    Propose {
        partition: usize,
        member: usize,
        wish: Wish,
    },
    /// A node says that it has a copy that it may have had once.
    Copy {
        node: u32,
        partition: usize,
        incarnation: u64,
        health: ReplicaHealth,
        prepared: u64,
    },
    /// An operator wants something moved.
    Order {
        partition: usize,
        from: u32,
        to: u32,
        core: u16,
    },
    Drain(u32, Option<Drain>),
    Wait(u64),
    Restart,
    /// The store could not keep what came of the last commands.
    Forget,
}

#[derive(Clone, Copy, Debug)]
enum Wish {
    NextBallot,
    TakeOver(u64),
    Remove(usize, RemovalCause),
    Add,
    HandOver(usize),
    Withdraw,
    /// About somebody who is nobody.
    Nonsense,
}

fn wish() -> impl Strategy<Value = Wish> {
    let cause = prop_oneof![
        Just(RemovalCause::Down),
        Just(RemovalCause::Slow),
        Just(RemovalCause::Lost),
        Just(RemovalCause::OutOfService),
    ];
    prop_oneof![
        1 => Just(Wish::NextBallot),
        3 => (0u64..20).prop_map(Wish::TakeOver),
        4 => (0usize..3, cause).prop_map(|(member, cause)| Wish::Remove(member, cause)),
        4 => Just(Wish::Add),
        2 => (0usize..3).prop_map(Wish::HandOver),
        1 => Just(Wish::Withdraw),
        1 => Just(Wish::Nonsense),
    ]
}

fn health() -> impl Strategy<Value = ReplicaHealth> {
    prop_oneof![
        Just(ReplicaHealth::Gone),
        Just(ReplicaHealth::Opening),
        Just(ReplicaHealth::Ready),
        Just(ReplicaHealth::Ready),
        Just(ReplicaHealth::Serving),
        Just(ReplicaHealth::OutOfService),
        Just(ReplicaHealth::Unknown),
    ]
}

fn key() -> impl Strategy<Value = ReplicaKey> {
    (0u32..5, 0u32..6, 0u64..40).prop_map(|(table, index, incarnation)| ReplicaKey {
        partition: PartitionId {
            table: TableId(table),
            index,
        },
        incarnation: ReplicaIncarnation(incarnation),
    })
}

fn command() -> impl Strategy<Value = Command> {
    let name = prop_oneof![
        Just("a".to_owned()),
        Just("b".to_owned()),
        Just("c".to_owned()),
        ".{0,3}"
    ];
    let name = name.boxed();
    let time = 0u64..20_000;
    prop_oneof![
        2 => Just(Command::NumberNode),
        4 => (0u32..5, 0u64..4, 0u16..4, time.clone())
            .prop_map(|(id, incarnation, cores, now_ms)| Command::JoinNode { node: node(id, incarnation, cores), now_ms }),
        4 => (name.clone(), prop_oneof![Just(2u32), Just(4), any::<u32>()], 0u8..5, any::<bool>(), time.clone()).prop_map(
            |(name, partition_count, replica_count, allow_degraded, now_ms)| {
                let partition_count = if partition_count > 4 { partition_count | 1 } else { partition_count };
                Command::CreateTable(CreateTable { name, partition_count, replica_count, allow_degraded, now_ms })
            }
        ),
        2 => (name, time.clone()).prop_map(|(name, now_ms)| Command::DropTable { name, now_ms }),
        1 => time.clone().prop_map(|now_ms| Command::Tick { now_ms }),
        1 => (0u32..5, 0u64..4, key(), 0u64..4).prop_map(|(node, incarnation, replica, ballot)| {
            let proposal = Proposal::NextBallot;
            let proposals = vec![Proposed { replica, ballot: Ballot(ballot), proposal }];
            Command::Propose { node: NodeId(node), incarnation: NodeIncarnation(incarnation), proposals, now_ms: 0 }
        }),
        3 => (0u32..5, 0u64..4, key(), health(), any::<(bool, u64)>(), time).prop_map(
            |(node, incarnation, key, health, (full, digest), now_ms)| {
                let replicas = vec![(key, status(Ballot(1), health))];
                let report = Report { digest, full, replicas, ..Report::default() };
                Command::Report { node: NodeId(node), incarnation: NodeIncarnation(incarnation), report, now_ms }
            }
        ),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => command().prop_map(Step::Command),
        6 => (1u32..5, 1u64..4, any::<bool>(), health())
            .prop_map(|(node, incarnation, full, health)| Step::ReportAll { node, incarnation, full, health }),
        12 => (0usize..8, 0usize..4, wish())
            .prop_map(|(partition, member, wish)| Step::Propose { partition, member, wish }),
        4 => (1u32..5, 0usize..8, 1u64..40, health(), 0u64..20).prop_map(
            |(node, partition, incarnation, health, prepared)| Step::Copy { node, partition, incarnation, health, prepared }
        ),
        2 => (0usize..8, 1u32..5, 1u32..5, 0u16..3).prop_map(|(partition, from, to, core)| Step::Order { partition, from, to, core }),
        1 => (1u32..5, prop_oneof![Just(None), Just(None), Just(Some(Drain::Primaries)), Just(Some(Drain::Replicas))])
            .prop_map(|(node, drain)| Step::Drain(node, drain)),
        6 => prop_oneof![Just(100u64), Just(2_000), Just(40_000)].prop_map(Step::Wait),
        1 => Just(Step::Restart),
        1 => Just(Step::Forget),
    ]
}

struct World {
    state: State,
    persisted: Vec<Change>,
    followers: BTreeMap<NodeId, Follower>,
    now_ms: u64,
}

/// Short times, so that a run sees new replicas made.
const OPTIONS: HealOptions = HealOptions {
    heal_delay_ms: 1_000,
    learners_per_node_max: 2,
    learners_max: 3,
    returning_per_node_max: 2,
    slow_removals_per_second_max: 2,
};

impl World {
    fn new() -> Self {
        Self {
            state: State::new(cluster()).with_options(OPTIONS),
            persisted: vec![Change::Cluster(cluster())],
            followers: BTreeMap::new(),
            now_ms: 20_000,
        }
    }

    /// One of the partitions that are there.
    fn choose(&self, number: usize) -> Option<(PartitionId, Partition)> {
        let tables = self.state.durable().tables().values();
        let live = tables.filter(|it| !it.is_dropped());
        let all: Vec<(PartitionId, Partition)> = live
            .flat_map(|table| {
                let id = |index| PartitionId {
                    table: table.id,
                    index,
                };
                let partitions = table.indexed();
                partitions.map(move |(index, it)| (id(index), it.clone()))
            })
            .collect();
        all.get(number % all.len().max(1)).cloned()
    }

    fn propose(&mut self, partition: usize, member: usize, wish: Wish) {
        let Some((id, it)) = self.choose(partition) else {
            return;
        };
        let members: Vec<Member> = it.members().copied().collect();
        let at = |number: usize| members[number % members.len()];
        let proposer = match wish {
            Wish::TakeOver(_) | Wish::Nonsense => at(member),
            _ => at(0),
        };
        let learner = it.learner.map(|it| it.member);
        let proposal = match wish {
            Wish::NextBallot => Proposal::NextBallot,
            Wish::TakeOver(prepared) => Proposal::TakeOver {
                prepared: Decree(prepared),
                prepared_ballot: it.ballot,
            },
            Wish::Remove(member, cause) => Proposal::Remove {
                member: at(member),
                cause,
            },
            Wish::Add => Proposal::Add {
                member: learner.unwrap_or(proposer),
            },
            Wish::HandOver(member) => Proposal::HandOver { to: at(member) },
            Wish::Withdraw => Proposal::WithdrawLearner {
                member: learner.unwrap_or(proposer),
            },
            Wish::Nonsense => Proposal::HandOver {
                to: Member {
                    incarnation: ReplicaIncarnation(99),
                    ..proposer
                },
            },
        };
        let node = proposer.address.node;
        let Some(live) = self.state.live(node) else {
            return;
        };
        let proposed = Proposed {
            replica: ReplicaKey {
                partition: id,
                incarnation: proposer.incarnation,
            },
            ballot: it.ballot,
            proposal,
        };
        self.apply(Command::Propose {
            node,
            incarnation: live.incarnation,
            proposals: vec![proposed],
            now_ms: self.now_ms,
        });
    }

    fn copy(&mut self, node: u32, key: ReplicaKey, health: ReplicaHealth, prepared: u64) {
        let node = NodeId(node);
        let Some(live) = self.state.live(node) else {
            return;
        };
        let mut said = status(Ballot::new(0, 1), health);
        said.prepared = Decree(prepared);
        said.committed = Decree(prepared);
        let report = Report {
            digest: self.state.durable().digest(node),
            replicas: vec![(key, said)],
            ..Report::default()
        };
        self.apply(Command::Report {
            node,
            incarnation: live.incarnation,
            report,
            now_ms: self.now_ms,
        });
    }

    fn order(&mut self, partition: usize, from: u32, to: u32, core: u16) {
        let Some((id, _)) = self.choose(partition) else {
            return;
        };
        let table = self.state.durable().tables()[&id.table].name.clone();
        let (index, now_ms) = (id.index, self.now_ms);
        let command = if core == 0 {
            Command::MovePrimary {
                table,
                index,
                to: NodeId(to),
                now_ms,
            }
        } else {
            let to = CoreAddress {
                node: NodeId(to),
                core: CoreId(core - 1),
            };
            Command::MoveReplica {
                table,
                index,
                from: NodeId(from),
                to,
                now_ms,
            }
        };
        self.apply(command);
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Command(command) => self.apply(command),
            Step::ReportAll {
                node,
                incarnation,
                full,
                health,
            } => {
                let id = NodeId(node);
                let sync = self.state.full_sync(id);
                let mut replicas = fixture::ready(id, &sync);
                replicas
                    .iter_mut()
                    .for_each(|(_, status)| status.health = health);
                let report = Report {
                    digest: sync.digest,
                    full,
                    replicas,
                    disk_total: 0,
                    disk_free: 0,
                    ..Report::default()
                };
                self.apply(Command::Report {
                    node: id,
                    incarnation: NodeIncarnation(incarnation),
                    report,
                    now_ms: self.now_ms,
                });
            }
            Step::Propose {
                partition,
                member,
                wish,
            } => self.propose(partition, member, wish),
            Step::Copy {
                node,
                partition,
                incarnation,
                health,
                prepared,
            } => {
                if let Some((partition, _)) = self.choose(partition) {
                    let incarnation = ReplicaIncarnation(incarnation);
                    let key = ReplicaKey {
                        partition,
                        incarnation,
                    };
                    self.copy(node, key, health, prepared);
                }
            }
            Step::Order {
                partition,
                from,
                to,
                core,
            } => self.order(partition, from, to, core),
            Step::Drain(node, drain) => self.apply(Command::DrainNode {
                node: NodeId(node),
                drain,
                now_ms: self.now_ms,
            }),
            Step::Wait(ms) => {
                self.now_ms += ms;
                self.apply(Command::Tick {
                    now_ms: self.now_ms,
                });
            }
            Step::Restart => {
                let durable = Durable::replay(&self.persisted).unwrap();
                self.state = State::from_durable(durable).with_options(OPTIONS);
                self.followers.clear();
            }
            Step::Forget => self
                .state
                .restore(Durable::replay(&self.persisted).unwrap()),
        }
        self.state.check();
        assert_eq!(
            Durable::replay(&self.persisted).unwrap(),
            *self.state.durable(),
            "changes do not make the state"
        );
        for (id, follower) in &self.followers {
            let sync = self.state.full_sync(*id);
            let mut told = Follower::default();
            told.take(*id, &sync);
            assert_eq!(follower.digest, told.digest, "node {id}: digest");
            assert_eq!(follower.nodes, told.nodes, "node {id}: addresses");
            assert_eq!(follower.tables, told.tables, "node {id}: tables");
            assert_eq!(
                follower.configurations, told.configurations,
                "node {id}: configurations"
            );
            assert_eq!(
                follower.assignments, told.assignments,
                "node {id}: learners"
            );
        }
    }

    fn apply(&mut self, command: Command) {
        let before = self.state.durable().clone();
        let outcome = self.state.apply(command);
        check_succession(&before, self.state.durable());
        let mut bytes = Vec::new();
        encode_batch(&outcome.changes, &mut bytes);
        assert_eq!(
            decode_batch(&bytes).as_ref(),
            Some(&outcome.changes),
            "changes read otherwise than written"
        );
        self.persisted.extend(outcome.changes);
        for push in &outcome.pushes {
            self.followers
                .entry(push.node)
                .or_default()
                .take(push.node, &push.sync);
            let drops = push.sync.drops.iter();
            drops.for_each(|key| self.check_drop(push.node, *key));
        }
    }

    /// What is deleted of a table that is there is in nobody's plan, and not the last good copy: the primary serves.
    fn check_drop(&self, node: NodeId, key: ReplicaKey) {
        let table = &self.state.durable().tables()[&key.partition.table];
        if table.is_dropped() {
            return;
        }
        let partition = table.partition(key.partition.index).unwrap();
        let is_it =
            |member: &Member| member.address.node == node && member.incarnation == key.incarnation;
        assert!(!partition.holders().any(is_it), "{key:?} is wanted");
        let primary = partition.primary.unwrap();
        let incarnation = primary.incarnation;
        let status = self
            .state
            .status(primary.address.node, ReplicaKey { incarnation, ..key });
        let serves = status
            .is_some_and(|it| it.health == ReplicaHealth::Serving && it.ballot == partition.ballot);
        assert!(
            serves && self.state.is_alive(primary.address.node),
            "{key:?} may be the last good copy"
        );
    }
}

/// Between any two commands: ballots only grow, and grow when members change; who leads was a member; who joins was the
/// learner; somebody stays. (A proposal at a time, so that there is one step at most.)
fn check_succession(before: &Durable, after: &Durable) {
    for table in after.tables().values().filter(|it| !it.is_dropped()) {
        let Some(old) = before.tables().get(&table.id) else {
            continue;
        };
        for (index, now) in table.indexed() {
            let was = old.partition(index).unwrap();
            let members = |it: &Partition| it.members().copied().collect::<BTreeSet<Member>>();
            let (old_members, new_members) = (members(was), members(now));
            assert!(now.ballot >= was.ballot, "a ballot fell");
            let is_same = old_members == new_members && was.primary == now.primary;
            assert!(
                is_same || now.ballot > was.ballot,
                "members changed under one ballot"
            );
            assert!(
                old_members.contains(&now.primary.unwrap()),
                "somebody else leads"
            );
            let joined: Vec<_> = new_members.difference(&old_members).collect();
            let learner = was.learner.map(|it| it.member);
            assert!(
                joined.iter().all(|it| Some(**it) == learner),
                "somebody else joined"
            );
            let stays = learner.is_none()
                || now.learner.map(|it| it.member) == learner
                || learner.is_some_and(|it| new_members.contains(&it));
            assert!(
                stays || now.ballot > was.ballot,
                "a learner left without a ballot"
            );
            let nodes: BTreeSet<NodeId> = new_members.iter().map(|it| it.address.node).collect();
            assert_eq!(nodes.len(), new_members.len(), "two members on one node");
            assert!(new_members.len() <= usize::from(table.replica_count) + 1);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_commands_leave_a_sound_state(steps in proptest::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        // Four nodes and a table to begin with, so that there is something to change.
        for id in 1..=4 {
            world.take(Step::Command(Command::NumberNode));
            world.take(Step::Command(Command::JoinNode { node: node(id, 1, 2), now_ms: world.now_ms }));
        }
        let name = "first".to_owned();
        let (partition_count, replica_count, now_ms) = (2, 3, world.now_ms);
        world.take(Step::Command(Command::CreateTable(CreateTable { name, partition_count, replica_count, allow_degraded: true, now_ms })));
        let health = ReplicaHealth::Serving;
        (1..=4).for_each(|node| world.take(Step::ReportAll { node, incarnation: 1, full: true, health }));
        steps.into_iter().for_each(|step| world.take(step));
    }

    #[test]
    fn garbage_is_no_batch_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Some(changes) = decode_batch(&bytes) {
            _ = Durable::replay(&changes);
        }
    }

    #[test]
    fn a_damaged_batch_is_refused_or_another_valid_one(index in 0usize..4000, value in any::<u8>()) {
        let mut state = State::new(cluster());
        let mut changes = vec![Change::Cluster(cluster())];
        let commands = [
            Command::NumberNode,
            Command::JoinNode { node: node(1, 1, 2), now_ms: 1 },
            Command::CreateTable(CreateTable { name: "a".to_owned(), partition_count: 8, replica_count: 1, allow_degraded: false, now_ms: 1 }),
        ];
        commands.into_iter().for_each(|command| changes.extend(state.apply(command).changes));
        let mut bytes = Vec::new();
        encode_batch(&changes, &mut bytes);
        let index = index % bytes.len();
        bytes[index] = value;
        if let Some(Ok(durable)) = decode_batch(&bytes).map(|changes| Durable::replay(&changes)) {
            _ = State::from_durable(durable).full_sync(NodeId(1));
        }
    }
}

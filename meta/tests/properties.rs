//! Random commands: nothing panics, every invariant holds, nodes that follow the pushes know what a full Sync would say,
//! and a restart comes to the same state.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod fixture;

use fixture::{cluster, node, status};
use pegasus_meta::state::{
    Change, Command, CreateTable, Durable, Proposal, ReplicaHealth, ReplicaKey, Report, State, Sync,
};
use pegasus_meta::store::format::change::{decode_batch, encode_batch};
use pegasus_replication::config::Configuration;
use pegasus_replication::ids::{
    Ballot, NodeId, NodeIncarnation, PartitionId, ReplicaIncarnation, TableId,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// What a node knows that follows its pushes.
#[derive(Debug, Default)]
struct Follower {
    digest: u64,
    nodes: BTreeMap<NodeId, Vec<String>>,
    tables: BTreeSet<TableId>,
    configurations: BTreeMap<PartitionId, Configuration>,
}

impl Follower {
    fn take(&mut self, sync: &Sync) {
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
            } else {
                self.tables.insert(table.table);
            }
        }
        for configuration in &sync.configurations {
            let before = self
                .configurations
                .insert(configuration.partition, configuration.clone());
            assert!(
                before.is_none_or(|before| before.ballot <= configuration.ballot),
                "a ballot fell"
            );
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
    Restart,
    /// The store could not keep what came of the last commands.
    Forget,
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
        3 => (0u32..5, 0u64..4, key(), 0u64..4).prop_map(|(node, incarnation, replica, ballot)| {
            let proposals = vec![Proposal { replica, ballot: Ballot(ballot) }];
            Command::ProposeNextBallot { node: NodeId(node), incarnation: NodeIncarnation(incarnation), proposals }
        }),
        3 => (0u32..5, 0u64..4, key(), health(), any::<(bool, u64)>(), time).prop_map(
            |(node, incarnation, key, health, (full, digest), now_ms)| {
                let replicas = vec![(key, status(Ballot(1), health))];
                let report = Report { digest, full, replicas, disk_total: 0, disk_free: 0 };
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
        1 => Just(Step::Restart),
        1 => Just(Step::Forget),
    ]
}

struct World {
    state: State,
    persisted: Vec<Change>,
    followers: BTreeMap<NodeId, Follower>,
}

impl World {
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
                };
                self.apply(Command::Report {
                    node: id,
                    incarnation: NodeIncarnation(incarnation),
                    report,
                    now_ms: 20_000,
                });
            }
            Step::Restart => {
                self.state = State::from_durable(Durable::replay(&self.persisted).unwrap());
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
            told.take(&sync);
            assert_eq!(follower.digest, told.digest, "node {id}: digest");
            assert_eq!(follower.nodes, told.nodes, "node {id}: addresses");
            assert_eq!(follower.tables, told.tables, "node {id}: tables");
            assert_eq!(
                follower.configurations, told.configurations,
                "node {id}: configurations"
            );
        }
    }

    fn apply(&mut self, command: Command) {
        let outcome = self.state.apply(command);
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
                .take(&push.sync);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_commands_leave_a_sound_state(steps in proptest::collection::vec(step(), 1..80)) {
        let persisted = vec![Change::Cluster(cluster())];
        let mut world = World { state: State::new(cluster()), persisted, followers: BTreeMap::new() };
        // Three nodes to begin with, so that tables are often made.
        for id in 1..=3 {
            world.take(Step::Command(Command::NumberNode));
            world.take(Step::Command(Command::JoinNode { node: node(id, 1, 2), now_ms: 1 }));
        }
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

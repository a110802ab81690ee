//! What may happen next.

use crate::fixture::{node, status};
use pegasus_meta::state::{
    BalanceOrder, Command, CreateTable, Drain, EnvChange, Level, Proposed, ReplicaHealth,
    ReplicaKey, Report, Wanted,
};
use pegasus_replication::config::{Proposal, RemovalCause};
use pegasus_replication::ids::{
    Ballot, NodeId, NodeIncarnation, PartitionId, ReplicaIncarnation, TableId,
};
use proptest::prelude::*;

#[derive(Clone, Debug)]
pub(crate) enum Step {
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
pub(crate) enum Wish {
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

fn balance_order() -> impl Strategy<Value = BalanceOrder> {
    prop_oneof![
        4 => Just(BalanceOrder::Run(Wanted::Everything)),
        1 => Just(BalanceOrder::Run(Wanted::Primaries)),
        1 => Just(BalanceOrder::Pause),
        1 => Just(BalanceOrder::Resume),
        1 => (0u16..3, 0u16..3, 0u16..3).prop_map(|(copies_max, copies_per_node_max, hand_overs_max)| {
            BalanceOrder::Limit { copies_max, copies_per_node_max, hand_overs_max }
        }),
    ]
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
                Command::CreateTable(CreateTable { name, partition_count, replica_count, allow_degraded, may_exist: false, envs: std::collections::BTreeMap::new(), now_ms })
            }
        ),
        2 => (name.clone(), prop_oneof![Just(Some(0)), Just(Some(1)), Just(None)], time.clone())
            .prop_map(|(name, keep_seconds, now_ms)| Command::DropTable { name, keep_seconds, now_ms }),
        2 => (1..4_u32, proptest::option::of(name.clone()), time.clone()).prop_map(|(table, name, now_ms)| Command::RecallTable { table: TableId(table), name, now_ms }),
        1 => (name.clone(), name.clone(), time.clone()).prop_map(|(from, to, now_ms)| Command::RenameTable { from, to, now_ms }),
        1 => (name.clone(), time.clone()).prop_map(|(table, now_ms)| {
            let change = EnvChange::Set(vec![("default_ttl".to_owned(), "60".to_owned())]);
            Command::ChangeEnvs { table, change, now_ms }
        }),
        1 => (name.clone(), time.clone()).prop_map(|(table, now_ms)| {
            let change = EnvChange::Clear { prefix: String::new() };
            Command::ChangeEnvs { table, change, now_ms }
        }),
        1 => (proptest::option::of(prop_oneof![Just(Level::Blind), Just(Level::Freezed), Just(Level::Steady), Just(Level::Lively)]), time.clone())
            .prop_map(|(level, now_ms)| Command::SetLevel { level, now_ms }),
        1 => time.clone().prop_map(|now_ms| Command::Tick { now_ms }),
        1 => time.clone().prop_map(|now_ms| Command::Rebalance { now_ms }),
        2 => (balance_order(), time.clone()).prop_map(|(order, now_ms)| Command::Balance { order, now_ms }),
        1 => (prop_oneof![Just("first".to_owned()), name.clone()], 0u8..5, time.clone())
            .prop_map(|(table, replica_count, now_ms)| Command::SetReplicas { table, replica_count, now_ms }),
        1 => (0u32..5, 0u64..4, time.clone()).prop_map(|(node, incarnation, now_ms)| Command::NodeLost {
            node: NodeId(node),
            incarnation: NodeIncarnation(incarnation),
            now_ms,
        }),
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

pub(crate) fn step() -> impl Strategy<Value = Step> {
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

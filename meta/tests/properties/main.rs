//! Random commands: nothing panics, every invariant holds, nodes that follow the pushes know what a full Sync would say,
//! and a restart comes to the same state.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod checks;
#[path = "../fixture/mod.rs"]
mod fixture;
mod follower;
mod plans;
mod steps;
mod world;

use fixture::{cluster, node};
use pegasus_meta::export;
use pegasus_meta::place::balance::Options;
use pegasus_meta::state::{Change, Command, CreateTable, Durable, ReplicaHealth, State};
use pegasus_meta::store::format::change::{decode_batch, encode_batch};
use pegasus_replication::ids::NodeId;
use proptest::prelude::*;
use steps::{Step, step};
use world::World;

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
        world.take(Step::Command(Command::CreateTable(CreateTable { name, partition_count, replica_count, allow_degraded: true, may_exist: false, envs: std::collections::BTreeMap::new(), now_ms })));
        let health = ReplicaHealth::Serving;
        (1..=4).for_each(|node| world.take(Step::ReportAll { node, incarnation: 1, full: true, health }));
        steps.into_iter().for_each(|step| world.take(step));
        // What comes of it goes into a file and comes back.
        let mut file = Vec::new();
        export::write(world.state.durable(), &mut file).unwrap();
        prop_assert_eq!(&export::read(&mut &file[..]).unwrap(), world.state.durable());
        prop_assert_eq!(world.state.behind(), None);
    }

    #[test]
    fn a_plan_keeps_replicas_apart_ends_and_moves_nothing_twice((nodes, parts) in plans::cluster()) {
        plans::level(nodes, parts, &Options::default());
    }

    #[test]
    fn so_do_plans_of_few_moves_and_of_primaries_alone((nodes, parts) in plans::cluster(), moves_replicas in any::<bool>()) {
        plans::level(nodes, parts, &Options { moves_replicas, moves_max: 3, bytes_max: 60, ..Options::default() });
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
            Command::CreateTable(CreateTable { name: "a".to_owned(), partition_count: 8, replica_count: 1, allow_degraded: false, may_exist: false, envs: std::collections::BTreeMap::new(), now_ms: 1 }),
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

//! Plans of any cluster: carried out to the end, and looked at on the way.

use pegasus_meta::place::balance::{
    Freedom, Kind, Move, NodeFacts, Options, PartitionLoad, Planner, Reason, Standing,
};
use pegasus_replication::ids::{CoreAddress, CoreId, NodeId, PartitionId, TableId};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Rounds after which any small cluster is as even as it becomes.
const ROUNDS_MAX: usize = 60;

#[derive(Clone, Debug)]
pub(crate) struct Nodes(Vec<NodeFacts>);

#[derive(Clone, Debug)]
pub(crate) struct Part {
    id: PartitionId,
    members: Vec<CoreAddress>,
    load: PartitionLoad,
    freedom: Freedom,
}

/// A cluster, made of numbers that proptest can shrink.
pub(crate) fn cluster() -> impl Strategy<Value = (Nodes, Vec<Part>)> {
    let standing = prop_oneof![
        8 => Just(Standing::Open),
        1 => Just(Standing::Resting),
        1 => Just(Standing::Leaving),
        1 => Just(Standing::Down),
    ];
    let disk = prop_oneof![
        Just((0, 0)),
        (1_000u64..3_000).prop_map(|total| (total, total))
    ];
    let node = (1u16..4, standing, disk);
    let load = (
        prop_oneof![3 => 0u32..300, 1 => 0u32..20_000],
        prop_oneof![3 => 0u32..100, 1 => 0u32..5_000],
        0u64..40,
    );
    let part = (1usize..4, any::<u64>(), load, 0u8..10);
    let nodes = proptest::collection::vec(node, 2..8);
    let parts = proptest::collection::vec(part, 1..60);
    (nodes, parts).prop_map(|(nodes, parts)| {
        let nodes: Vec<NodeFacts> = (1..)
            .zip(nodes)
            .map(|(id, (cores, standing, (disk_total, _)))| NodeFacts {
                node: NodeId(id),
                cores,
                standing,
                disk_total,
                disk_used: 0,
            })
            .collect();
        let parts = (0u32..)
            .zip(parts)
            .map(|(number, (count, dice, load, free))| Part {
                id: PartitionId {
                    table: TableId(1 + number / 16),
                    index: number % 16,
                },
                members: deal(&nodes, count, dice),
                load: PartitionLoad {
                    reads: load.0,
                    writes: load.1,
                    bytes: load.2,
                },
                freedom: if free == 0 {
                    Freedom::Fixed
                } else {
                    Freedom::Free
                },
            });
        let parts: Vec<Part> = parts.collect();
        let nodes = with_used(nodes, &parts);
        (Nodes(nodes), parts)
    })
}

/// So many members on different nodes, chosen by `dice`.
fn deal(nodes: &[NodeFacts], count: usize, mut dice: u64) -> Vec<CoreAddress> {
    let mut left: Vec<&NodeFacts> = nodes.iter().collect();
    let mut draw = |bound: usize| {
        let bound = bound as u64;
        let drawn = dice % bound;
        dice = dice.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17) ^ 1;
        usize::try_from(drawn).unwrap()
    };
    (0..count.min(nodes.len()))
        .map(|_| {
            let node = left.remove(draw(left.len()));
            CoreAddress {
                node: node.node,
                core: CoreId(u16::try_from(draw(usize::from(node.cores))).unwrap()),
            }
        })
        .collect()
}

fn with_used(mut nodes: Vec<NodeFacts>, parts: &[Part]) -> Vec<NodeFacts> {
    for node in &mut nodes {
        let holds = |part: &&Part| part.members.iter().any(|it| it.node == node.node);
        node.disk_used = parts.iter().filter(holds).map(|it| it.load.bytes).sum();
        node.disk_total = node.disk_total.max(node.disk_used);
        if node.disk_total == node.disk_used {
            // Not known.
            (node.disk_total, node.disk_used) = (0, 0);
        }
    }
    nodes
}

fn planner(nodes: &Nodes, parts: &[Part]) -> Planner {
    let mut planner = Planner::new(nodes.0.iter().copied());
    for it in parts {
        planner.add(it.id, it.members.iter().copied(), it.load, it.freedom);
    }
    planner
}

/// Carries a plan out, step by step, and checks each.
fn carry_out(nodes: &Nodes, parts: &mut [Part], plan: &[Move]) {
    let standing = |node: NodeId| nodes.0.iter().find(|it| it.node == node).unwrap().standing;
    for step in plan {
        let part = parts.iter_mut().find(|it| it.id == step.partition).unwrap();
        assert_ne!(part.freedom, Freedom::Fixed, "{step:?}: it was to stay");
        assert_eq!(standing(step.to.node), Standing::Open, "{step:?}");
        let at = part.members.iter().position(|it| *it == step.from);
        let at = at.unwrap_or_else(|| panic!("{step:?}: nothing is there"));
        match step.kind {
            Kind::Lead => {
                let to = part.members.iter().position(|it| *it == step.to);
                part.members
                    .swap(0, to.expect("who is to lead is a member"));
            }
            Kind::Replica => {
                part.members[at] = step.to;
                let nodes: BTreeSet<NodeId> = part.members.iter().map(|it| it.node).collect();
                assert_eq!(nodes.len(), part.members.len(), "{step:?}: two on one node");
            }
        }
        if step.kind == Kind::Replica || step.reason == Reason::Load {
            part.freedom = Freedom::Settled;
        }
    }
}

/// Plans and carries out until there is nothing more to do.
pub(crate) fn level(nodes: Nodes, mut parts: Vec<Part>, options: &Options) {
    let mut arrived: BTreeSet<(PartitionId, CoreAddress)> = BTreeSet::new();
    for _ in 0..ROUNDS_MAX {
        let mut planner = planner(&nodes, &parts);
        let plan = planner.plan(options);
        if plan.is_empty() {
            return check_even(&nodes, &parts, options);
        }
        for step in plan.iter().filter(|it| it.kind == Kind::Replica) {
            let is_new = !arrived.contains(&(step.partition, step.from));
            assert!(is_new, "{step:?}: it was moved there before");
            arrived.insert((step.partition, step.to));
        }
        carry_out(&nodes, &mut parts, &plan);
        for (part, (id, members)) in parts.iter_mut().zip(planner.placement()) {
            assert_eq!(part.id, id);
            let set = |all: &[CoreAddress]| all.iter().copied().collect::<BTreeSet<_>>();
            assert_eq!(
                set(&part.members),
                set(&members),
                "the plan leads elsewhere"
            );
            part.members = members;
        }
    }
    panic!("it comes to no end");
}

/// Where nothing stands in the way, cores hold and lead as many as each other but for one.
fn check_even(nodes: &Nodes, parts: &[Part], options: &Options) {
    let is_plain = nodes
        .0
        .iter()
        .all(|it| it.standing == Standing::Open && it.disk_total == 0);
    let is_movable = parts.iter().all(|it| it.freedom != Freedom::Fixed);
    let is_spacious = nodes.0.len() >= 4 && parts.iter().all(|it| it.members.len() == 1);
    if !(is_plain && is_movable && is_spacious && options.moves_replicas) {
        return;
    }
    let mut held: BTreeMap<CoreAddress, usize> = BTreeMap::new();
    for node in &nodes.0 {
        for core in 0..node.cores {
            let address = CoreAddress {
                node: node.node,
                core: CoreId(core),
            };
            held.insert(address, 0);
        }
    }
    for part in parts {
        *held.get_mut(&part.members[0]).unwrap() += 1;
    }
    let (least, most) = (held.values().min().unwrap(), held.values().max().unwrap());
    assert!(most - least <= 1, "{held:?}");
}

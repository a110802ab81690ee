//! Placement: even, on different nodes, and with few neighbours, over shapes of clusters and tables.

use pegasus_meta::place::{Load, PEER_CORES_MAX, Request, place};
use pegasus_replication::ids::{CoreAddress, CoreId, NodeId};
use std::collections::{BTreeMap, BTreeSet};

type Loads = BTreeMap<CoreAddress, Load>;
type Placement = Vec<Vec<CoreAddress>>;

/// A cluster with these numbers of cores.
fn cluster(cores_by_node: &[u16]) -> Loads {
    let nodes = (1u32..).zip(cores_by_node);
    nodes
        .flat_map(|(node, &cores)| (0..cores).map(move |core| (at(node, core), Load::default())))
        .collect()
}

fn at(node: u32, core: u16) -> CoreAddress {
    CoreAddress {
        node: NodeId(node),
        core: CoreId(core),
    }
}

fn placed(cores: &Loads, partition_count: u32, replicas: usize) -> Placement {
    let placement = place(&Request {
        partition_count,
        replicas,
        cores,
    });
    assert_eq!(placement.len(), partition_count as usize);
    for members in &placement {
        let nodes: BTreeSet<_> = members.iter().map(|member| member.node).collect();
        assert_eq!(
            (members.len(), nodes.len()),
            (replicas, replicas),
            "members share a node: {members:?}"
        );
    }
    placement
}

fn add(loads: &mut Loads, placement: &Placement) {
    for members in placement {
        members
            .iter()
            .for_each(|member| loads.entry(*member).or_default().replicas += 1);
        loads.entry(members[0]).or_default().primaries += 1;
    }
}

/// Highest less lowest of `of`, summed by `group`.
fn spread<K: Ord>(
    loads: &Loads,
    group: impl Fn(&CoreAddress) -> K,
    of: impl Fn(&Load) -> u64,
) -> u64 {
    let mut sums: BTreeMap<K, u64> = BTreeMap::new();
    for (address, load) in loads {
        *sums.entry(group(address)).or_default() += of(load);
    }
    sums.values().max().unwrap_or(&0) - sums.values().min().unwrap_or(&0)
}

/// Spread of replicas by core, primaries by core, replicas by node, primaries by node.
fn spreads(loads: &Loads) -> [u64; 4] {
    [
        spread(loads, |core| *core, |load| load.replicas),
        spread(loads, |core| *core, |load| load.primaries),
        spread(loads, |core| core.node, |load| load.replicas),
        spread(loads, |core| core.node, |load| load.primaries),
    ]
}

/// Within 1; primaries of a node within 3, since a large cluster leaves few choices around each core.
fn is_even(spreads: &[u64; 4]) -> bool {
    let [
        replicas_by_core,
        primaries_by_core,
        replicas_by_node,
        primaries_by_node,
    ] = *spreads;
    replicas_by_core
        .max(primaries_by_core)
        .max(replicas_by_node)
        <= 1
        && primaries_by_node <= 3
}

fn peers_max(placements: &[Placement]) -> usize {
    let mut peers: BTreeMap<CoreAddress, BTreeSet<CoreAddress>> = BTreeMap::new();
    for members in placements.iter().flatten() {
        for a in members {
            peers
                .entry(*a)
                .or_default()
                .extend(members.iter().filter(|b| *b != a));
        }
    }
    peers.values().map(BTreeSet::len).max().unwrap_or(0)
}

const SHAPES: &[(&[u16], usize)] = &[
    (&[2, 2, 2], 3),
    (&[1, 1, 1], 3),
    (&[1], 1),
    (&[4, 4], 2),
    (&[4, 4, 4], 3),
    (&[2, 2, 2, 2], 3),
    (&[3; 5], 3),
    (&[3; 16], 3),
    (&[8, 8, 8], 3),
    (&[16; 6], 3),
    (&[4; 10], 2),
    (&[2; 9], 7),
    (&[4; 7], 5),
];

#[test]
fn equal_nodes_carry_equal_shares_of_a_table() {
    for &(cores, replicas) in SHAPES {
        for partitions in [2, 4, 8, 16, 64, 256, 1024] {
            let mut loads = cluster(cores);
            let placement = placed(&loads, partitions, replicas);
            add(&mut loads, &placement);
            let spreads = spreads(&loads);
            assert!(
                is_even(&spreads),
                "{cores:?} x {replicas}, {partitions} partitions: {spreads:?}"
            );
        }
    }
}

#[test]
fn tables_made_one_after_the_other_stay_even_together() {
    for &(cores, replicas) in SHAPES {
        let mut loads = cluster(cores);
        for partitions in [4, 16, 2, 64, 8, 8, 2, 32] {
            let placement = placed(&loads, partitions, replicas);
            let mut alone = cluster(cores);
            add(&mut alone, &placement);
            let own = spreads(&alone);
            assert!(
                is_even(&own),
                "{cores:?} x {replicas}, {partitions} partitions alone: {own:?}"
            );
            add(&mut loads, &placement);
        }
        let [replicas_by_core, primaries_by_core, ..] = spreads(&loads);
        assert!(
            replicas_by_core <= 2,
            "{cores:?} x {replicas}: {:?}",
            spreads(&loads)
        );
        assert!(
            primaries_by_core <= 3,
            "{cores:?} x {replicas}: {:?}",
            spreads(&loads)
        );
    }
}

#[test]
fn a_core_shares_partitions_with_at_most_16_others() {
    for &(cores, _) in SHAPES {
        let mut loads = cluster(cores);
        let mut placements = Vec::new();
        for (partitions, replicas) in [(256, 3), (64, 2), (1024, 3), (16, 1)] {
            let placement = placed(&loads, partitions, replicas.min(cores.len()));
            add(&mut loads, &placement);
            placements.push(placement);
        }
        assert!(
            peers_max(&placements) <= PEER_CORES_MAX,
            "{cores:?}: {}",
            peers_max(&placements)
        );
    }
}

#[test]
fn uneven_nodes_are_filled_by_core_as_far_as_nodes_allow() {
    // Three nodes, three replicas: each node holds every partition, its cores share them evenly.
    let mut loads = cluster(&[4, 2, 1]);
    let placement = placed(&loads, 64, 3);
    add(&mut loads, &placement);
    for node in 1..=3 {
        let own: Loads = loads
            .iter()
            .filter(|(core, _)| core.node == NodeId(node))
            .map(|(k, v)| (*k, *v))
            .collect();
        assert!(
            spread(&own, |core| *core, |load| load.replicas) <= 1,
            "node {node}: {own:?}"
        );
        assert_eq!(own.values().map(|load| load.replicas).sum::<u64>(), 64);
    }
    // More nodes than replicas: a node with twice the cores takes about twice the replicas.
    let mut loads = cluster(&[4, 2, 2, 2, 2]);
    let placement = placed(&loads, 256, 3);
    add(&mut loads, &placement);
    assert!(
        spread(&loads, |core| *core, |load| load.replicas) <= 2,
        "{loads:?}"
    );
}

#[test]
fn very_uneven_nodes_still_get_every_replica() {
    let loads = cluster(&[64, 1, 1]);
    placed(&loads, 128, 3);
    let loads = cluster(&[100, 3, 2, 1]);
    placed(&loads, 128, 4);
}

#[test]
fn an_empty_node_is_preferred_by_the_next_table() {
    let mut loads = cluster(&[2, 2, 2]);
    let placement = placed(&loads, 64, 3);
    add(&mut loads, &placement);
    loads.extend(
        cluster(&[2, 2, 2, 2])
            .into_iter()
            .filter(|(core, _)| core.node == NodeId(4)),
    );
    let next = placed(&loads, 2, 3);
    assert!(
        next.iter().flatten().any(|member| member.node == NodeId(4)),
        "{next:?}"
    );
}

#[test]
fn the_same_cluster_gives_the_same_placement() {
    let loads = cluster(&[3; 16]);
    assert_eq!(placed(&loads, 512, 3), placed(&loads, 512, 3));
}

#[test]
fn a_core_that_fails_leaves_its_work_to_several_others() {
    let loads = cluster(&[4, 4, 4]);
    let placement = placed(&loads, 64, 3);
    let of_one: BTreeSet<_> = placement
        .iter()
        .filter(|it| it.contains(&at(1, 0)))
        .flatten()
        .collect();
    assert!(of_one.len() > 3, "core 1/0 works with {of_one:?} only");
}

#[test]
fn the_largest_table_is_placed_on_a_large_cluster() {
    let loads = cluster(&[16; 40]);
    placed(&loads, 65_536, 3);
}

//! A cluster as numbers: nodes, where replicas are, what each partition has to do.

use pegasus_meta::place::balance::{Freedom, NodeFacts, PartitionLoad, Planner, Standing};
use pegasus_replication::ids::{CoreAddress, CoreId, NodeId, PartitionId, TableId};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

const REPLICAS: usize = 3;
/// Of a table; the last one is smaller.
const TABLE_PARTITIONS: u32 = 4_096;
const DISK_BYTES: u64 = 4 << 40;
/// Of all partitions together, a second; one of five writes.
const REQUESTS: f64 = 20e6;
const WRITES_OF: f64 = 0.2;
/// Exponent of YCSB's zipfian.
const ZIPF: f64 = 0.99;

#[derive(Debug)]
pub(super) struct Cluster {
    nodes: Vec<NodeFacts>,
    partitions: Vec<Partition>,
}

#[derive(Clone, Debug)]
struct Partition {
    id: PartitionId,
    members: Vec<CoreAddress>,
    load: PartitionLoad,
}

impl Cluster {
    /// Replicas are dealt to cores in random order, so that each core has as many as each other but for one.
    pub(super) fn new(nodes: u32, cores: u16, partitions: u32, seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut deck: Vec<CoreAddress> = Vec::new();
        let all: Vec<CoreAddress> = (1..=nodes)
            .flat_map(|node| (0..cores).map(move |core| at(node, core)))
            .collect();
        while deck.len() < partitions as usize * REPLICAS {
            let mut round = all.clone();
            round.shuffle(&mut random);
            deck.extend(round);
        }
        deck.truncate(partitions as usize * REPLICAS);
        part_neighbours(&mut deck, &mut random);
        let hands = deck.chunks_exact(REPLICAS);
        let partitions = (0..partitions)
            .zip(hands)
            .map(|(number, members)| Partition {
                id: PartitionId {
                    table: TableId(1 + number / TABLE_PARTITIONS),
                    index: number % TABLE_PARTITIONS,
                },
                members: members.to_vec(),
                load: even_load(partitions, &mut random),
            });
        let mut cluster = Self {
            nodes: (1..=nodes).map(|node| facts(node, cores)).collect(),
            partitions: partitions.collect(),
        };
        cluster.fill_disks();
        cluster
    }

    fn fill_disks(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.disk_used = 0);
        for partition in &self.partitions {
            for member in &partition.members {
                let node = &mut self.nodes[member.node.0 as usize - 1];
                node.disk_used += partition.load.bytes;
            }
        }
    }

    pub(super) fn add_nodes(&mut self, count: u32) {
        let cores = self.nodes.first().map_or(1, |node| node.cores);
        let next = 1 + u32::try_from(self.nodes.len()).expect("nodes are few");
        self.nodes
            .extend((next..next + count).map(|node| facts(node, cores)));
    }

    /// Every so many-th, so that they are not neighbours.
    pub(super) fn empty_nodes(&mut self, count: u32) {
        let step = (self.nodes.len() / count.max(1) as usize).max(1);
        let leaving = self.nodes.iter_mut().step_by(step).take(count as usize);
        leaving.for_each(|node| node.standing = Standing::Leaving);
    }

    /// The k-th of the partitions, in random order, has work in proportion to k to the power of -0.99.
    pub(super) fn make_zipfian(&mut self, seed: u64) {
        let mut random = SmallRng::seed_from_u64(seed ^ 0x217f);
        let weights: Vec<f64> = (1..=self.partitions.len())
            .map(|rank| to_float(rank).powf(-ZIPF))
            .collect();
        let total: f64 = weights.iter().sum();
        let mut order: Vec<usize> = (0..self.partitions.len()).collect();
        order.shuffle(&mut random);
        for (weight, place) in weights.into_iter().zip(order) {
            let load = &mut self.partitions[place].load;
            (load.reads, load.writes) = shares(REQUESTS * weight / total);
        }
    }

    /// The cluster as meta would put it to the planner.
    pub(super) fn planner(&self) -> Planner {
        let mut planner = Planner::new(self.nodes.iter().copied());
        for it in &self.partitions {
            planner.add(it.id, it.members.iter().copied(), it.load, Freedom::Free);
        }
        planner
    }

    /// Everything is carried out.
    pub(super) fn take_placement(&mut self, planner: &Planner) {
        for (partition, (id, members)) in self.partitions.iter_mut().zip(planner.placement()) {
            assert_eq!(
                partition.id, id,
                "partitions come in the order in which they went"
            );
            partition.members = members;
        }
        self.fill_disks();
    }

    pub(super) fn replicas_on_leaving(&self) -> usize {
        let leaves =
            |it: &CoreAddress| self.nodes[it.node.0 as usize - 1].standing == Standing::Leaving;
        let all = self.partitions.iter().flat_map(|it| &it.members);
        all.filter(|it| leaves(it)).count()
    }
}

/// Swaps cards until no hand has two of one node.
fn part_neighbours(deck: &mut [CoreAddress], random: &mut SmallRng) {
    let clashes = |deck: &[CoreAddress], place: usize| {
        let hand = place - place % REPLICAS;
        let others = (hand..hand + REPLICAS).filter(|&other| other != place);
        others
            .into_iter()
            .any(|other| deck[other].node == deck[place].node)
    };
    for place in 0..deck.len() {
        while clashes(deck, place) {
            let other = random.random_range(0..deck.len());
            deck.swap(place, other);
            if clashes(deck, other) {
                deck.swap(place, other);
            }
        }
    }
}

fn facts(node: u32, cores: u16) -> NodeFacts {
    NodeFacts {
        node: NodeId(node),
        cores,
        standing: Standing::Open,
        disk_total: DISK_BYTES,
        disk_used: 0,
    }
}

const fn at(node: u32, core: u16) -> CoreAddress {
    CoreAddress {
        node: NodeId(node),
        core: CoreId(core),
    }
}

fn even_load(partitions: u32, random: &mut SmallRng) -> PartitionLoad {
    let (reads, writes) = shares(REQUESTS / f64::from(partitions));
    PartitionLoad {
        reads,
        writes,
        bytes: random.random_range(2 << 30..6 << 30),
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "all requests together are far below 2^32"
)]
fn shares(requests: f64) -> (u32, u32) {
    let writes = requests * WRITES_OF;
    ((requests - writes) as u32, writes as u32)
}

#[allow(clippy::cast_precision_loss, reason = "partitions are few")]
fn to_float(number: usize) -> f64 {
    number as f64
}

//! Three shards under random delivery, broken links and crashes that lose unsynced log writes: the invariants hold after
//! every event, and every acknowledged write survives.

#![allow(
    clippy::unwrap_used,
    reason = "a failed unwrap is a failed test, with its place"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "seeds are chosen by the environment; the core under test does not see it"
)]

#[path = "support/world.rs"]
#[allow(dead_code, reason = "shared with the script runner")]
mod world;

use bytes::Bytes;
use pegasus_replication::config::{Configuration, ReplicationOptions, Stage};
use pegasus_replication::event::{Effect, Event};
use pegasus_replication::ids::{Ballot, Instant, PartitionId};
use pegasus_replication::log::LogWrite;
use pegasus_replication::{Health, Phase, RoleName};
use world::{Disk, World, configuration, partition};

/// A small generator with one seed (splitmix64), so that a failing seed is a failing test.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

const MS: u64 = 1_000_000;
const NODES: [u32; 3] = [1, 2, 3];
const PARTITIONS: [u32; 2] = [0, 1];

struct Run {
    random: Random,
    world: World,
    down: Vec<u32>,
    written: u64,
    crashes: u64,
    cuts: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let options = ReplicationOptions {
            prepare_inflight_max: 8,
            apply_queue_max: 16,
            peer_window_bytes_max: 2048,
            ..ReplicationOptions::default()
        };
        let world = World::new(3, options);
        let mut run = Self {
            random: Random(seed),
            world,
            down: Vec::new(),
            written: 0,
            crashes: 0,
            cuts: 0,
        };
        for index in PARTITIONS {
            let members = [
                (1 + index % 3, 11),
                (1 + (index + 1) % 3, 12),
                (1 + (index + 2) % 3, 13),
            ];
            let creating = configuration(index, 1, Stage::Creating, &members, 2);
            run.world.configure(&creating, &NODES);
            run.quiet();
            run.world.configure(
                &Configuration {
                    stage: Stage::Active,
                    ..creating
                },
                &NODES,
            );
        }
        run
    }

    fn step(&mut self) {
        match self.random.below(1000) {
            0..=399 => self.deliver(),
            400..=649 => self.disk(),
            650..=849 => self.engine(),
            850..=909 => self.write(),
            910..=929 => self.read(),
            930..=969 => {
                let nanos = self.random.below(20) * MS;
                self.world.advance(nanos);
            }
            970..=974 => self.flush(),
            975..=977 => self.crash(),
            978..=985 => self.restart(),
            986..=988 => self.cut(),
            989..=995 => self.mend(),
            _ => self.meta_repeats(),
        }
        self.meta();
    }

    fn deliver(&mut self) {
        let (from, to) = (self.random.pick(&NODES), self.random.pick(&NODES));
        for _ in 0..=self.random.below(3) {
            self.world.step_wire(from, to);
        }
    }

    fn disk(&mut self) {
        let node = self.random.pick(&NODES);
        if self.world.is_alive(node) {
            self.world.step_disk(node);
        }
    }

    fn engine(&mut self) {
        let node = self.random.pick(&NODES);
        if self.world.is_alive(node) {
            self.world.step_engine(node);
        }
    }

    fn write(&mut self) {
        let index = self.random.pick(&PARTITIONS);
        let node = 1 + index % 3;
        if self.world.is_alive(node) {
            self.written += 1;
            let length = usize::try_from(self.random.below(700)).unwrap();
            let mut payload = format!("{}:", self.written).into_bytes();
            payload.resize(payload.len() + length, b'x');
            let deadline = self.world.now.0 + self.random.below(400) * MS;
            self.world.write(
                node,
                partition(index),
                Bytes::from(payload),
                Instant(deadline),
            );
        }
    }

    fn read(&mut self) {
        let (index, node) = (self.random.pick(&PARTITIONS), self.random.pick(&NODES));
        if self.world.is_alive(node) {
            let deadline = Instant(self.world.now.0 + self.random.below(300) * MS);
            self.world.read(node, partition(index), deadline);
        }
    }

    fn flush(&mut self) {
        let (index, node) = (self.random.pick(&PARTITIONS), self.random.pick(&NODES));
        if self.world.is_alive(node) {
            self.world.flush(node, partition(index));
        }
    }

    /// Of each write under way, any of its blocks may have reached the drive.
    fn crash(&mut self) {
        let victims = if self.random.below(3) == 0 {
            NODES.to_vec()
        } else {
            vec![self.random.pick(&NODES)]
        };
        for node in victims {
            if self.world.is_alive(node) {
                self.crashes += 1;
                let random = &mut self.random;
                self.world
                    .crash(node, |write, disk| keep_some(write, disk, random));
                self.down.push(node);
            }
        }
    }

    fn restart(&mut self) {
        if let Some(node) = self.down.pop() {
            self.world.boot(node);
            self.push_configurations(node);
        }
    }

    fn push_configurations(&mut self, node: u32) {
        let configurations: Vec<Configuration> =
            self.world.configurations.values().cloned().collect();
        for configuration in configurations {
            self.world.feed(node, Event::Configured { configuration });
        }
    }

    fn cut(&mut self) {
        let (one, other) = (self.random.pick(&NODES), self.random.pick(&NODES));
        if one != other {
            self.cuts += 1;
            self.world.cut(one, other);
        }
    }

    fn mend(&mut self) {
        for (one, other) in self.world.links_down.clone() {
            self.world.mend(one, other);
        }
    }

    fn meta_repeats(&mut self) {
        let node = self.random.pick(&NODES);
        if self.world.is_alive(node) {
            self.push_configurations(node);
        }
    }

    /// A meta that grants the next ballot to whoever asks with the newest, and tells some members later than others.
    fn meta(&mut self) {
        for (node, effect) in std::mem::take(&mut self.world.said) {
            match effect {
                Effect::Propose {
                    partition, ballot, ..
                } => self.grant(node, partition, ballot),
                Effect::Quarantine { partition, reason } => {
                    panic!("{partition} on node {node}: {reason}")
                }
                Effect::MemberLost {
                    partition,
                    member,
                    reason,
                } => {
                    panic!("{partition} on node {node}: member {member:?}: {reason}")
                }
                _ => {}
            }
        }
    }

    fn grant(&mut self, node: u32, partition: PartitionId, ballot: Ballot) {
        let current = self.world.configurations.get(&partition).unwrap().clone();
        if current.ballot == ballot {
            let next = Configuration {
                ballot: ballot.next(),
                ..current
            };
            let mut told = vec![node];
            told.extend(
                NODES
                    .iter()
                    .filter(|other| **other != node && self.random.below(2) == 0),
            );
            self.world.configure(&next, &told);
        } else {
            self.push_configurations(node);
        }
    }

    /// No more faults: everything is delivered, everybody serves, nothing acknowledged is missing.
    fn settle(&mut self) {
        while !self.down.is_empty() {
            self.restart();
        }
        self.mend();
        for _ in 0..400 {
            self.quiet();
            self.world.advance(50 * MS);
            self.meta();
            if PARTITIONS.iter().all(|index| self.is_settled(*index)) {
                break;
            }
        }
        for index in PARTITIONS {
            assert!(
                self.is_settled(index),
                "partition {index} does not serve again: {}",
                self.describe(index)
            );
        }
        self.world.check_acknowledged();
    }

    fn quiet(&mut self) {
        let mut moved = true;
        while moved {
            moved = false;
            for from in NODES {
                moved |= self.world.step_disk(from) | self.world.step_engine(from);
                for to in NODES {
                    moved |= self.world.step_wire(from, to);
                }
            }
            self.meta();
        }
    }

    fn is_settled(&self, index: u32) -> bool {
        let replicas = NODES.map(|node| self.world.replica(node, partition(index)).unwrap());
        let last = replicas.iter().map(|replica| replica.last()).max();
        let serves = replicas
            .iter()
            .filter(|replica| replica.health() == Health::Serving)
            .count()
            == 1;
        serves
            && replicas
                .iter()
                .all(|replica| Some(replica.applied()) == last)
    }

    fn describe(&self, index: u32) -> String {
        let describe = |node| {
            let replica = self.world.replica(node, partition(index)).unwrap();
            format!(
                "node {node} {:?} ballot {} committed {} prepared {} last {}",
                replica.role(),
                replica.ballot(),
                replica.committed(),
                replica.prepared(),
                replica.last()
            )
        };
        let wires = &self.world.wires;
        format!(
            "{}\n{:#?}\n{:?}",
            NODES.map(describe).join("; "),
            NODES.map(|n| self.world.replica(n, partition(index))),
            wires
        )
    }
}

fn keep_some(write: &LogWrite, disk: &mut Disk, random: &mut Random) {
    const BLOCK: usize = 4096;
    let all = random.below(3);
    for (number, block) in write.bytes.chunks(BLOCK).enumerate() {
        let keep = all == 0 || (all == 1 && random.below(2) == 0);
        if keep {
            let offset = write.offset + (number * BLOCK) as u64;
            disk.store(&LogWrite {
                offset,
                bytes: block.to_vec(),
                ..write.clone()
            });
        }
    }
}

#[test]
fn acknowledged_writes_survive_crashes_and_broken_links() {
    let seeds: u64 = std::env::var("RANDOM_SEEDS").map_or(60, |seeds| seeds.parse().unwrap());
    let first: u64 = std::env::var("RANDOM_FIRST").map_or(1, |first| first.parse().unwrap());
    let (mut acknowledged, mut crashes, mut cuts) = (0, 0, 0);
    for seed in first..first + seeds {
        let outcome = std::panic::catch_unwind(|| {
            let mut run = Run::new(seed);
            for _ in 0..4000 {
                run.step();
            }
            run.settle();
            (run.world.acknowledged.len(), run.crashes, run.cuts)
        });
        let (ones, twos, threes) =
            outcome.unwrap_or_else(|_| panic!("seed {seed} failed, see above"));
        acknowledged += ones;
        crashes += twos;
        cuts += threes;
    }
    // A run in which little happens proves little.
    assert!(
        acknowledged as u64 > 20 * seeds,
        "only {acknowledged} acknowledged writes"
    );
    assert!(crashes > 5 * seeds, "only {crashes} crashes");
    assert!(cuts > 5 * seeds, "only {cuts} broken links");
}

#[test]
fn a_serving_primary_is_reached_without_faults() {
    let mut run = Run::new(7);
    run.settle();
    let role = run.world.replica(1, partition(0)).unwrap().role();
    assert_eq!(role, RoleName::Primary(Phase::Serving));
}

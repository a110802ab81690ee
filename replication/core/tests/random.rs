//! Four shards under random delivery, broken links, crashes that lose unsynced log writes, pauses, clocks that run at
//! different rates, and a meta that is slow or away: the invariants hold after every event, no read misses what was seen
//! before it was asked, every acknowledged write survives, and in the end every partition has all its members again.
//!
//! `RANDOM_SEEDS=N RANDOM_FIRST=S` runs seeds S to S + N - 1; `RANDOM_TRACE=1` prints every event, for a single seed.

#![allow(
    clippy::unwrap_used,
    reason = "a failed unwrap is a failed test, with its place"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "seeds are chosen by the environment; the core under test does not see it"
)]

#[path = "support/meta.rs"]
mod meta;
#[path = "support/world.rs"]
#[allow(dead_code, reason = "shared with the script runner")]
mod world;

use bytes::Bytes;
use meta::Meta;
use pegasus_replication::config::{Configuration, ReplicationOptions, Stage};
use pegasus_replication::event::{Effect, Event};
use pegasus_replication::ids::Instant;
use pegasus_replication::log::LogWrite;
use pegasus_replication::{Health, Phase, RoleName};
use std::collections::BTreeMap;
use world::{Disk, World, address, configuration, partition};

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
const NODES: [u32; 4] = [1, 2, 3, 4];
const PARTITIONS: [u32; 2] = [0, 1];

struct Run {
    random: Random,
    world: World,
    meta: Meta,
    down: Vec<u32>,
    /// How long a short while is, in milliseconds: what is fast against what differs from seed to seed.
    pace: u64,
    written: u64,
    faults: BTreeMap<&'static str, u64>,
}

/// What a run has seen, for the sums over all.
struct Seen {
    acknowledged: u64,
    read: u64,
    faults: BTreeMap<&'static str, u64>,
    changes: BTreeMap<&'static str, u64>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let options = ReplicationOptions {
            prepare_inflight_max: 8,
            apply_queue_max: 16,
            peer_window_bytes_max: 2048,
            learner_entries_max: 4 + usize::try_from(random.below(60)).unwrap(),
            ..ReplicationOptions::default()
        };
        let mut world = World::new(4, options);
        world.trace = std::env::var_os("RANDOM_TRACE").is_some();
        for node in NODES {
            world.nodes.get_mut(&node).unwrap().rate = 900 + random.below(201);
        }
        let pace = random.pick(&[5, 20, 60]);
        let mut run = Self {
            pace,
            random,
            world,
            meta: Meta::new(),
            down: Vec::new(),
            written: 0,
            faults: BTreeMap::new(),
        };
        for index in PARTITIONS {
            let members = [
                (1 + index % 4, 11),
                (1 + (index + 1) % 4, 12),
                (1 + (index + 2) % 4, 13),
            ];
            let nodes = members.map(|(node, _)| node);
            let creating = configuration(index, 1, Stage::Creating, &members, 2);
            run.world.configure(&creating, &nodes);
            run.quiet();
            run.world.configure(
                &Configuration {
                    stage: Stage::Active,
                    ..creating
                },
                &nodes,
            );
        }
        run
    }

    fn step(&mut self) {
        match self.random.below(2000) {
            0..=799 => self.deliver(),
            800..=1199 => self.disk(),
            1200..=1549 => self.engine(),
            1550..=1719 => self.write(),
            1720..=1799 => self.read(),
            1800..=1849 => self.time_passes(),
            1850..=1949 => self.meta_moves(),
            1950..=1954 => self.flush(),
            1955 => self.crash(),
            1956..=1961 => self.restart(),
            1962..=1963 => self.cut(),
            1964..=1973 => self.mend(),
            1974 => self.pause(),
            1975..=1980 => self.go_on(),
            1981 => self.meta_fails(),
            1982..=1985 => self.meta.is_down = false,
            1986..=1994 => self.heal(),
            1995 => {
                let index = self.random.pick(&PARTITIONS);
                self.meta.withdraw(partition(index), &self.world);
            }
            1996 => self.hand_over(),
            1997 => self.fence(),
            _ => self.meta_repeats(),
        }
        self.hear();
    }

    fn deliver(&mut self) {
        let (from, to) = (self.random.pick(&NODES), self.random.pick(&NODES));
        for _ in 0..=self.random.below(3) {
            if self.world.runs(to) {
                self.world.step_wire(from, to);
            }
        }
    }

    fn disk(&mut self) {
        let node = self.random.pick(&NODES);
        if self.world.runs(node) {
            self.world.step_disk(node);
        }
    }

    fn engine(&mut self) {
        let node = self.random.pick(&NODES);
        if self.world.runs(node) {
            self.world.step_engine(node);
        }
    }

    /// Mostly the one that meta names; now and then one that may have been.
    fn target(&mut self, index: u32) -> u32 {
        let primary = self.world.configurations[&partition(index)].primary;
        match primary {
            Some(primary) if self.random.below(4) > 0 => primary.address.node.0,
            _ => self.random.pick(&NODES),
        }
    }

    fn write(&mut self) {
        let index = self.random.pick(&PARTITIONS);
        let node = self.target(index);
        if self.world.runs(node) {
            self.written += 1;
            let length = usize::try_from(self.random.below(700)).unwrap();
            let mut payload = format!("{}:", self.written).into_bytes();
            payload.resize(payload.len() + length, b'x');
            let deadline = self.world.local(node).0 + self.random.below(1000) * MS;
            self.world.write(
                node,
                partition(index),
                Bytes::from(payload),
                Instant(deadline),
            );
        }
    }

    fn read(&mut self) {
        let index = self.random.pick(&PARTITIONS);
        let node = self.target(index);
        if self.world.runs(node) {
            let deadline = Instant(self.world.local(node).0 + self.random.below(300) * MS);
            self.world.read(node, partition(index), deadline);
        }
    }

    fn time_passes(&mut self) {
        let most = if self.random.below(20) == 0 {
            700
        } else {
            self.pace
        };
        let nanos = self.random.below(most * MS);
        self.world.advance(nanos);
    }

    fn meta_moves(&mut self) {
        let node = self.random.pick(&NODES);
        if self.random.below(2) == 0 {
            self.meta.step_in(node, &mut self.world);
        } else if self.world.is_alive(node) {
            self.meta.step_out(node, &mut self.world);
        }
    }

    fn flush(&mut self) {
        let (index, node) = (self.random.pick(&PARTITIONS), self.random.pick(&NODES));
        if self.world.runs(node) {
            self.world.flush(node, partition(index));
        }
    }

    fn count(&mut self, fault: &'static str) {
        *self.faults.entry(fault).or_default() += 1;
    }

    /// Of each write under way, any of its blocks may have reached the drive.
    fn crash(&mut self) {
        let victims = if self.random.below(4) == 0 {
            NODES.to_vec()
        } else {
            vec![self.random.pick(&NODES)]
        };
        for node in victims {
            if self.world.is_alive(node) {
                self.count("crash");
                let random = &mut self.random;
                self.world
                    .crash(node, |write, disk| keep_some(write, disk, random));
                self.meta.disconnect(node);
                self.down.push(node);
            }
        }
    }

    fn restart(&mut self) {
        if let Some(node) = self.down.pop() {
            self.world.boot(node);
            self.meta.join(node, &self.world);
        }
    }

    fn cut(&mut self) {
        let (one, other) = (self.random.pick(&NODES), self.random.pick(&NODES));
        if one != other {
            self.count("cut");
            self.world.cut(one, other);
        }
    }

    fn mend(&mut self) {
        for (one, other) in self.world.links_down.clone() {
            self.world.mend(one, other);
        }
    }

    fn pause(&mut self) {
        let node = self.random.pick(&NODES);
        if self.world.runs(node) {
            self.count("pause");
            self.world.pause(node);
        }
    }

    /// What was in the sockets and the timer that is due come in any order.
    fn go_on(&mut self) {
        let node = self.random.pick(&NODES);
        if self.world.is_alive(node) && !self.world.runs(node) {
            self.world.go_on(node);
        }
    }

    fn meta_fails(&mut self) {
        self.count("meta");
        self.meta.is_down = true;
        NODES.iter().for_each(|node| self.meta.disconnect(*node));
        for node in NODES {
            self.meta.join(node, &self.world);
        }
    }

    fn heal(&mut self) {
        let (index, node) = (self.random.pick(&PARTITIONS), self.random.pick(&NODES));
        self.meta.heal(partition(index), node, &mut self.world);
    }

    fn hand_over(&mut self) {
        let (index, to) = (self.random.pick(&PARTITIONS), self.random.below(2));
        let to = usize::try_from(to).unwrap();
        self.meta.hand_over(partition(index), to, &self.world);
    }

    fn fence(&mut self) {
        let node = self.random.pick(&NODES);
        if self.world.runs(node) {
            self.count("fence");
            self.world.feed(node, Event::Fence);
        }
    }

    fn meta_repeats(&mut self) {
        let node = self.random.pick(&NODES);
        if self.world.is_alive(node) {
            self.meta.join(node, &self.world);
        }
    }

    fn hear(&mut self) {
        for (node, effect) in std::mem::take(&mut self.world.said) {
            match self.meta.hear(node, effect) {
                // A copy that is no member may be too old to learn, and then its log is not kept for it.
                Some(Effect::Quarantine { partition, .. })
                    if self.world.configurations[&partition]
                        .member_on(address(node).node)
                        .is_none() => {}
                Some(Effect::Quarantine { partition, reason }) => {
                    panic!("{partition} on node {node}: {reason}")
                }
                Some(Effect::MemberLost {
                    partition,
                    member,
                    reason,
                }) => {
                    panic!("{partition} on node {node}: member {member:?}: {reason}")
                }
                _ => {}
            }
        }
    }

    /// No more faults: everything is delivered, everybody serves with all members, nothing acknowledged is missing.
    fn settle(&mut self) {
        while !self.down.is_empty() {
            self.restart();
        }
        self.meta.is_down = false;
        NODES.iter().for_each(|node| self.world.go_on(*node));
        self.mend();
        for _ in 0..4000 {
            self.quiet();
            self.world.advance(10 * MS);
            self.heal();
            if PARTITIONS.iter().all(|index| self.is_settled(*index)) {
                break;
            }
        }
        for index in PARTITIONS {
            assert!(
                self.is_settled(index),
                "partition {index} does not get well again: {}",
                self.describe(index)
            );
        }
        self.world.check_acknowledged();
    }

    fn quiet(&mut self) {
        let (mut moved, mut rounds) = (true, 0);
        while moved {
            moved = false;
            rounds += 1;
            assert!(
                rounds < 20_000,
                "does not come to rest: {}",
                self.describe(0) + &self.describe(1)
            );
            for from in NODES {
                if !self.world.runs(from) {
                    continue;
                }
                moved |= self.world.step_disk(from) | self.world.step_engine(from);
                for to in NODES {
                    moved |= self.world.step_wire(from, to);
                }
            }
            self.hear();
            for node in NODES {
                moved |= self.meta.step_in(node, &mut self.world);
                moved |= self.meta.step_out(node, &mut self.world);
            }
        }
    }

    fn is_settled(&self, index: u32) -> bool {
        let configuration = &self.world.configurations[&partition(index)];
        let members: Vec<_> = configuration
            .members()
            .filter_map(|member| self.world.replica(member.address.node.0, partition(index)))
            .collect();
        let last = members.iter().map(|replica| replica.last()).max();
        let serves = |replica: &&&pegasus_replication::Replica| replica.health() == Health::Serving;
        members.len() == usize::from(configuration.replica_count)
            && members.iter().filter(serves).count() == 1
            && members
                .iter()
                .all(|replica| Some(replica.applied()) == last)
    }

    fn describe(&self, index: u32) -> String {
        let configuration = &self.world.configurations[&partition(index)];
        let learner = self.meta.learners.get(&partition(index));
        let mut out = format!("{configuration:?}\nlearner {learner:?}\n");
        for node in NODES {
            let Some(replica) = self.world.replica(node, partition(index)) else {
                continue;
            };
            out.push_str(&format!(
                "node {node} {:?} {:?} ballot {} committed {} prepared {} last {} reason {:?}\n",
                replica.role(),
                replica.learn_stage(),
                replica.ballot(),
                replica.committed(),
                replica.prepared(),
                replica.last(),
                replica.reason(),
            ));
        }
        out
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

fn run(seed: u64) -> Seen {
    let mut run = Run::new(seed);
    for _ in 0..8000 {
        run.step();
    }
    run.settle();
    Seen {
        acknowledged: run.world.acknowledged.len() as u64,
        read: run.world.reads_answered,
        faults: run.faults,
        changes: run.meta.changes,
    }
}

/// What all seeds together have met is judged from this many on.
const SEEDS_JUDGED: u64 = 20;

/// Seeds that failed once.
const KEPT: [u64; 1] = [100_750];

#[test]
fn seeds_that_failed_once_pass() {
    KEPT.into_iter().for_each(|seed| drop(run(seed)));
}

#[test]
fn acknowledged_writes_survive_crashes_broken_links_pauses_and_failover() {
    let seeds: u64 = std::env::var("RANDOM_SEEDS").map_or(60, |seeds| seeds.parse().unwrap());
    let first: u64 = std::env::var("RANDOM_FIRST").map_or(1, |first| first.parse().unwrap());
    let (mut acknowledged, mut read) = (0, 0);
    let (mut faults, mut changes) = (BTreeMap::new(), BTreeMap::new());
    for seed in first..first + seeds {
        let seen = std::panic::catch_unwind(|| run(seed))
            .unwrap_or_else(|_| panic!("seed {seed} failed, see above"));
        acknowledged += seen.acknowledged;
        read += seen.read;
        for (name, count) in seen.faults {
            *faults.entry(name).or_insert(0) += count;
        }
        for (name, count) in seen.changes {
            *changes.entry(name).or_insert(0) += count;
        }
    }
    eprintln!("{acknowledged} writes, {read} reads, faults {faults:?}, changes {changes:?}");
    // A run in which little happens proves little; of a few seeds nothing is expected.
    if seeds < SEEDS_JUDGED {
        return;
    }
    assert!(
        acknowledged > 20 * seeds,
        "only {acknowledged} acknowledged writes"
    );
    assert!(read > 5 * seeds, "only {read} answered reads");
    for fault in ["crash", "cut", "pause", "meta", "fence"] {
        assert!(faults.get(fault) > Some(&seeds), "{fault}: only {faults:?}");
    }
    for change in ["next ballot", "take over", "remove", "assign", "add"] {
        assert!(
            changes.get(change) > Some(&seeds),
            "{change}: only {changes:?}"
        );
    }
    assert!(
        changes.get("hand over") > Some(&(seeds / 10)),
        "hand over: only {changes:?}"
    );
}

#[test]
fn a_serving_primary_is_reached_without_faults() {
    let mut run = Run::new(7);
    run.settle();
    let role = run.world.replica(1, partition(0)).unwrap().role();
    assert_eq!(role, RoleName::Primary(Phase::Serving));
    assert_eq!(run.meta.changes, BTreeMap::new());
    assert_eq!(
        address(1),
        run.world.configurations[&partition(0)]
            .primary
            .unwrap()
            .address
    );
}

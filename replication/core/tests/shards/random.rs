//! Four shards under random delivery, broken links, crashes that lose unsynced log writes, pauses, clocks that run at
//! different rates, and a meta that is slow or away: the invariants hold after every event, no read misses what was seen
//! before it was asked, every acknowledged write survives, and in the end every partition has all its members again.
//!
//! `RANDOM_SEEDS=N RANDOM_FIRST=S` runs seeds S to S + N - 1; `RANDOM_TRACE=1` prints every event, for a single seed.

mod moves;
mod settle;

use crate::meta::Meta;
use crate::world::{World, address, configuration, partition};
use pegasus_replication::config::{Configuration, ReplicationOptions, Stage};
use pegasus_replication::event::Effect;
use pegasus_replication::{Phase, RoleName};
use std::collections::BTreeMap;

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

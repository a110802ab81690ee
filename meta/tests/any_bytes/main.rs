//! The store against any bytes. The body of the test is a fuzz target too (`tests/fuzz`), and what the fuzzer found
//! worth keeping is replayed here. `PEGASUS_WRITE_CORPUS=1` writes the seeds anew.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests read files and fail by panicking"
)]

#[path = "../fixture/mod.rs"]
mod fixture;
mod store;

use pegasus_meta::state::{
    Backoff, Change, Counters, Drain, Durable, Goal, Intent, Level, Partition, Table,
};
use pegasus_meta::store::format::{FORMAT, FileHeader, FileKind, change, encode_record};
use pegasus_replication::config::{Member, Stage};
use pegasus_replication::ids::{Ballot, CoreAddress, CoreId, NodeId, ReplicaIncarnation, TableId};
use std::collections::BTreeMap;
use std::path::PathBuf;
use store::CLUSTER;

fn changes() -> Vec<Change> {
    let counters = Counters {
        next_node: 2,
        ..Counters::FIRST
    };
    let member = |incarnation| Member {
        address: CoreAddress {
            node: NodeId(1),
            core: CoreId(0),
        },
        incarnation: ReplicaIncarnation(incarnation),
    };
    let partition = |incarnation| Partition::creating(Ballot::new(1, 1), [member(incarnation)]);
    let table = Table {
        id: TableId(1),
        name: "t".to_owned(),
        replica_count: 1,
        min_replicas: 1,
        created_ms: 5,
        dropped_ms: None,
        kept_until_ms: None,
        envs: BTreeMap::new(),
        partition_count: 2,
        partitions: vec![partition(1), partition(2)],
    };
    vec![
        Change::Counters(counters),
        Change::NodeJoined(fixture::node(1, 1, 1)),
        Change::TableCreated(table),
        Change::PartitionsActivated {
            table: TableId(1),
            partitions: vec![0, 1],
        },
        Change::BallotsGrown {
            table: TableId(1),
            ballots: vec![(0, Ballot::new(1, 2))],
        },
        Change::PartitionsChanged {
            table: TableId(1),
            partitions: vec![(1, planned(partition(2)))],
        },
        Change::NodeDrained {
            node: NodeId(1),
            drain: Some(Drain::Replicas),
        },
        Change::TableEnvs {
            table: TableId(1),
            envs: BTreeMap::from([("default_ttl".to_owned(), "60".to_owned())]),
        },
        Change::TableRenamed {
            table: TableId(1),
            name: "u".to_owned(),
        },
        Change::TableKept {
            table: TableId(1),
            at_ms: 7,
            until_ms: 8,
        },
        Change::TableRecalled {
            table: TableId(1),
            name: "t".to_owned(),
        },
        Change::LevelSet(Level::Freezed),
        Change::TableKept {
            table: TableId(1),
            at_ms: 8,
            until_ms: 9,
        },
        Change::TableExpired { table: TableId(1) },
        Change::TableForgotten { table: TableId(1) },
        Change::NodeDrained {
            node: NodeId(1),
            drain: Some(Drain::Decommission),
        },
        Change::NodeForgotten { node: NodeId(1) },
    ]
}

/// An active one in which everything is said that can be said.
fn planned(partition: Partition) -> Partition {
    let node = NodeId(1);
    let to = CoreAddress {
        node,
        core: CoreId(0),
    };
    let backoff = Backoff {
        node,
        step: 1,
        until_ms: 8,
    };
    Partition {
        ballot: Ballot::new(1, 2),
        stage: Stage::Active,
        degraded_ms: Some(7),
        backoffs: vec![backoff],
        intent: partition.primary.map(|from| Intent {
            goal: Goal::Move { from, to },
            until_ms: 9,
        }),
        ..partition
    }
}

fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let with = |what: u8, bytes: &[u8]| [&[what], bytes].concat();
    let mut batch = Vec::new();
    change::encode_batch(&changes(), &mut batch);
    let mut whole = vec![Change::Cluster(store::cluster())];
    whole.extend(changes());
    let mut all = Vec::new();
    change::encode_batch(&whole, &mut all);
    let header = FileHeader {
        format: FORMAT,
        kind: FileKind::Log,
        cluster: CLUSTER,
        sequence: 1,
    };
    let first = encode_record(CLUSTER, 1, &changes()[..1]).unwrap();
    let second = encode_record(CLUSTER, 2, &changes()[1..]).unwrap();
    let records = [&first[..], &second].concat();
    let mut flipped = records.clone();
    flipped[20] ^= 1;
    let log = [&header.encode()[..], &records].concat();
    let highest = store::snapshot_of(u64::MAX, &Durable::new(store::cluster()).snapshot());
    vec![
        ("log", with(0, &log)),
        ("log_without_header", with(0, &log[..40])),
        ("records", with(1, &records)),
        ("torn", with(1, &records[..records.len() - 3])),
        ("flipped", with(1, &flipped)),
        ("skipped", with(1, &second)),
        ("snapshot", with(2, &store::snapshot_of(0, &whole))),
        ("snapshot_of_another_number", with(2, &highest)),
        ("snapshot_of_the_highest_number", with(3, &highest)),
        ("changes", with(4, &batch)),
        ("changes_of_a_cluster", with(4, &all)),
    ]
}

#[test]
fn files_are_refused_with_their_place_or_read_again() {
    let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus/meta_store");
    for (name, seed) in seeds() {
        if std::env::var_os("PEGASUS_WRITE_CORPUS").is_some() {
            std::fs::create_dir_all(&corpus).unwrap();
            std::fs::write(corpus.join(name), &seed).unwrap();
        }
        assert_eq!(std::fs::read(corpus.join(name)).unwrap(), seed, "{name}");
    }
    for entry in std::fs::read_dir(corpus).unwrap() {
        store::run(&std::fs::read(entry.unwrap().path()).unwrap());
    }
}

#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::settings::Settings;
use pegasus_replication::config::{Member, Stage};
use pegasus_replication::ids::{
    Ballot, CoreAddress, CoreId, NodeId, PartitionId, ReplicaIncarnation,
};

/// The file of the first release that wrote one. Never written again: what was written once is read for ever.
const GOLDEN: &[u8] = include_bytes!("../../tests/golden/MEMBERS.1");

fn member(node: u32, core: u16, incarnation: u64) -> Member {
    Member {
        address: CoreAddress {
            node: NodeId(node),
            core: CoreId(core),
        },
        incarnation: ReplicaIncarnation(incarnation),
    }
}

fn key(index: u32, incarnation: u64) -> ReplicaKey {
    ReplicaKey {
        partition: PartitionId {
            table: TableId(7),
            index,
        },
        incarnation: ReplicaIncarnation(incarnation),
    }
}

fn configuration(index: u32, ballot: Ballot) -> Configuration {
    Configuration {
        partition: key(index, 0).partition,
        ballot,
        stage: Stage::Active,
        primary: Some(member(2, 1, 41)),
        secondaries: vec![member(1, 0, 40), member(3, 3, 1 << 40)],
        replica_count: 3,
        min_replicas: 2,
    }
}

fn golden() -> Remembered {
    let table = Table {
        name: "orders".to_owned(),
        partition_count: 4,
        default_ttl_seconds: 86_400,
        replica_count: 3,
        min_replicas: 2,
        settings: Settings::default(),
    };
    let configurations = [(0, 40, 5), (3, 52, 9)].map(|(index, incarnation, counter)| {
        let ballot = Ballot::new(2, counter);
        (key(index, incarnation), configuration(index, ballot))
    });
    Remembered {
        configurations: configurations.into(),
        tables: [(TableId(7), table)].into(),
    }
}

#[test]
fn the_file_of_the_first_release_is_read() {
    assert_eq!(decode(GOLDEN).unwrap(), golden());
    assert_eq!(encode(&golden()).unwrap(), GOLDEN, "the format has changed");
}

#[test]
fn what_was_noted_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = Members::open(dir.path()).unwrap();
    let directory = Directory {
        tables: golden().tables,
        ..Directory::default()
    };
    members.take_tables(&directory);
    for (key, configuration) in &golden().configurations {
        members.note(*key, configuration);
    }
    members.note(key(1, 77), &configuration(1, Ballot(3)));
    members.forget(key(1, 77));
    members.close();
    let members = Members::open(dir.path()).unwrap();
    assert_eq!(members.remembered, golden());
    let told = members.configuration(key(0, 40));
    assert_eq!(told, golden().configurations.get(&key(0, 40)));
    assert_eq!(members.configuration(key(1, 77)), None);
}

#[test]
fn an_older_configuration_does_not_take_the_place_of_a_newer_one() {
    let mut members = Members::forgetful();
    members.note(key(0, 40), &configuration(0, Ballot(5)));
    members.note(key(0, 40), &configuration(0, Ballot(4)));
    let known = members.configuration(key(0, 40)).unwrap();
    assert_eq!(known.ballot, Ballot(5));
}

#[test]
fn a_dropped_table_takes_its_replicas_along() {
    let mut members = Members::forgetful();
    members.remembered = golden();
    members.take_tables(&Directory::default());
    assert_eq!(members.remembered, Remembered::default());
}

#[test]
fn a_file_with_a_flipped_bit_is_left_out() {
    for at in 0..GOLDEN.len() {
        let mut bytes = GOLDEN.to_vec();
        bytes[at] ^= 1;
        assert!(decode(&bytes).is_err(), "byte {at}");
    }
}

#[test]
fn a_file_that_was_cut_short_is_left_out() {
    for length in 0..GOLDEN.len() {
        assert!(decode(&GOLDEN[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn a_later_format_is_named() {
    let mut bytes = GOLDEN.to_vec();
    bytes[4] = 2;
    assert_eq!(decode(&bytes), Err(MembersError::Format { found: 2 }));
}

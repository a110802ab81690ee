//! Decoders against any bytes. The body of the test is a fuzz target too (`tests/fuzz`), and what the fuzzer found
//! worth keeping is replayed here. `PEGASUS_WRITE_CORPUS=1` writes the seeds anew.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod rows;

use bytes::Bytes;
use pegasus_engine::marker::{Marker, WindowEntry};
use pegasus_engine::{Batch, RequestOutcome, key, value};
use pegasus_replication::ids::{Ballot, Decree, ReplicaIncarnation, RequestId};
use std::path::PathBuf;

fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let raw = key::encode(b"user", b"name").unwrap();
    let mut batch = Batch::new();
    batch.put(&raw, b"Ada", 5).unwrap();
    batch.remove(&raw).unwrap();
    let with_result = batch.encode_with_result(b"\x04seen");
    let batch = batch.encode();
    let mut marker = Marker::new(ReplicaIncarnation(5));
    marker.decree = Decree(9);
    marker.ballot = Ballot::new(1, 2);
    for sequence in 1..4 {
        marker.window.push(WindowEntry {
            id: RequestId {
                client: 7,
                sequence,
            },
            decree: Decree(sequence),
            result: Bytes::from_static(b"ok"),
        });
    }
    let marker = marker.encode();
    let unsigned = &marker[..marker.len() - 4];
    let late = value::Header::new(1 << 31, value::timetag(77, 1));
    let with = |what: u8, bytes: &[u8]| [&[what], bytes].concat();
    vec![
        ("batch", with(0, &batch)),
        ("batch_cut", with(0, &batch[..batch.len() - 1])),
        ("batch_of_nothing", with(0, &[1, 0])),
        ("batch_with_a_result", with(0, &with_result)),
        ("marker", with(1, &marker)),
        ("marker_unsigned", with(2, unsigned)),
        ("marker_with_floors_unsigned", with(2, &floors())),
        ("key", with(3, &raw)),
        ("key_of_255", with(3, &[255; 4])),
        (
            "value",
            with(4, value::Header::new(5, value::timetag(77, 1)).as_ref()),
        ),
        ("value_of_version_2", with(4, late.as_ref())),
        (
            "result_of_an_increment",
            with(5, b"\x01\xfe\xff\xff\xff\xff\xff\xff\xff"),
        ),
        ("result_of_a_check", with(5, b"\x04seen")),
    ]
}

/// A marker of version 2 without its checksum: two clients have been forgotten, and others before them.
fn floors() -> Vec<u8> {
    let mut marker = vec![2];
    for number in [5_u64, 9, 1] {
        marker.extend(number.to_le_bytes());
    }
    marker.extend([0, 0, 1, 2, 0]);
    for (client, floor) in [(8_u64, 70_u64), (9, 3)] {
        marker.extend(client.to_le_bytes());
        marker.extend(floor.to_le_bytes());
    }
    marker
}

#[test]
fn the_marker_with_floors_is_read() {
    let mut signed = floors();
    signed.extend(crc32c::crc32c(&signed).to_le_bytes());
    let marker = Marker::decode(&signed).unwrap();
    let id = |client, sequence| RequestId { client, sequence };
    assert_eq!(
        marker.window.outcome(id(8, 70), true),
        RequestOutcome::Forgotten
    );
    assert_eq!(marker.window.outcome(id(8, 71), true), RequestOutcome::New);
}

#[test]
fn rows_are_refused_or_mean_what_is_written_again() {
    let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus/rows");
    for (name, seed) in seeds() {
        if std::env::var_os("PEGASUS_WRITE_CORPUS").is_some() {
            std::fs::create_dir_all(&corpus).unwrap();
            std::fs::write(corpus.join(name), &seed).unwrap();
        }
        assert_eq!(std::fs::read(corpus.join(name)).unwrap(), seed, "{name}");
    }
    for entry in std::fs::read_dir(corpus).unwrap() {
        rows::run(&std::fs::read(entry.unwrap().path()).unwrap());
    }
}

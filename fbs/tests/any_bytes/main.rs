//! Decoders against any bytes. The bodies of these tests are fuzz targets too (`tests/fuzz`), and what the fuzzer found
//! worth keeping is replayed here. `PEGASUS_WRITE_CORPUS=1` writes the seeds anew.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod bodies;
mod frames;
mod stats_page;

use pegasus_fbs::body::FailureBody;
use pegasus_fbs::code::Code;
use pegasus_fbs::flatbuffers::FlatBufferBuilder;
use pegasus_fbs::frame::{FrameKind, Header, encode_frame};
use pegasus_fbs::stats_page::{
    MAGIC, PAGE_WORDS, PARTITION_WORDS, PARTITIONS_MAX, SLOW_SLOTS, SLOW_WORDS,
};
use pegasus_fbs::{kv, peer};
use std::path::PathBuf;
use std::time::Duration;

#[test]
fn frames_in_pieces_are_the_frames_of_the_whole_stream() {
    let mut two = vec![6];
    let header = Header::request(FrameKind::Put, 7)
        .to_partition(1, 2)
        .with_timeout_ms(30);
    encode_frame(&mut two, &header, b"a body");
    encode_frame(&mut two, &header.failure(), &[]);
    let cut = two[..two.len() - 3].to_vec();
    let mut damaged = two.clone();
    damaged[60] ^= 4;
    let mut large = two.clone();
    large[11] = 200;
    replay(
        "frames",
        frames::run,
        &[
            ("two", two),
            ("cut", cut),
            ("damaged", damaged),
            ("large", large),
        ],
    );
}

#[test]
fn bodies_are_refused_in_a_line_or_read_whole() {
    replay("bodies", bodies::run, &body_seeds());
}

#[test]
fn pages_with_anything_in_them_are_refused_or_computed_with() {
    let edit = |places: &[u32], word: u64| {
        let mut input = vec![1];
        for place in places {
            input.extend_from_slice(&place.to_le_bytes()[..3]);
            input.extend_from_slice(&word.to_le_bytes());
        }
        input
    };
    let partitions = PAGE_WORDS - PARTITIONS_MAX * PARTITION_WORDS;
    let slow = u32::try_from(partitions - SLOW_SLOTS * SLOW_WORDS).unwrap();
    let partitions = u32::try_from(partitions).unwrap();
    let seeds = [
        ("good", vec![1]),
        ("short", b"\0PGSSTATS".to_vec()),
        ("torn", edit(&[7], 3)),
        ("version", edit(&[1], 99)),
        ("huge_counters", edit(&[16, 17, 18, 19], u64::MAX)),
        ("slow_odd", edit(&[slow, slow + 16], 3)),
        (
            "slow_foreign",
            edit(&[slow + 2, slow + 18, slow + 35], 0xffff_0101_ffff),
        ),
        (
            "slow_huge",
            edit(&[slow + 6, slow + 7, slow + 8, slow + 22], u64::MAX),
        ),
        ("partition_odd", edit(&[partitions], 5)),
        (
            "partition_twice",
            edit(&[partitions + 1, partitions + 33], 8),
        ),
        (
            "partition_huge",
            edit(&[partitions + 2, partitions + 4, partitions + 26], u64::MAX),
        ),
        ("partitions_more_than_there_are", edit(&[14], u64::MAX)),
        ("wire_good", vec![3]),
        ("wire_overlap", [&[3], &1_u64.to_le_bytes()[..]].concat()),
        (
            "wire_cut",
            [&[2], &(9_u64 << 32).to_le_bytes()[..], &MAGIC.to_le_bytes()].concat(),
        ),
        (
            "wire_magic",
            [&[2], &(1_u64 << 32).to_le_bytes()[..], &MAGIC.to_le_bytes()].concat(),
        ),
        ("huge_buckets", edit(&[200, 201, 202, 203, 2000], u64::MAX)),
    ];
    replay("stats_page", stats_page::run, &seeds);
}

fn body_seeds() -> Vec<(&'static str, Vec<u8>)> {
    let mut builder = FlatBufferBuilder::new();
    let failure = FailureBody {
        code: Code::Busy,
        message: "wait".into(),
        retry_after: Duration::from_millis(5),
        primary: "127.0.0.1:34801".into(),
        ballot: 0,
    };
    let failure = failure.write(&mut builder).to_vec();
    builder.reset();
    let data = builder.create_vector(b"value");
    let arguments = kv::RowArgs {
        hash_key: Some(data),
        sort_key: Some(data),
        value: Some(data),
        expire_at: 9,
    };
    let row = kv::Row::create(&mut builder, &arguments);
    let rows = Some(builder.create_vector(&[row, row]));
    let arguments = kv::RowsReplyArgs {
        rows,
        complete: true,
        ..Default::default()
    };
    let rows = kv::RowsReply::create(&mut builder, &arguments);
    builder.finish(rows, None);
    let rows = builder.finished_data().to_vec();
    builder.reset();
    let primary = peer::Member::new(7, 1, 2);
    let secondaries = Some(builder.create_vector(&[peer::Member::new(8, 2, 0)]));
    let arguments = peer::ConfigurationArgs {
        table_id: 3,
        primary: Some(&primary),
        secondaries,
        ..Default::default()
    };
    let configuration = Some(peer::Configuration::create(&mut builder, &arguments));
    let payload = Some(builder.create_vector(b"payload"));
    let arguments = peer::PrepareArgs {
        configuration,
        payload,
        ballot: 5,
        decree: 9,
        ..Default::default()
    };
    let prepare = peer::Prepare::create(&mut builder, &arguments);
    builder.finish(prepare, None);
    let prepare = builder.finished_data().to_vec();
    vec![
        ("failure", as_root("Failure", &failure)),
        ("rows", as_root("RowsReply", &rows)),
        ("prepare", as_root("Prepare", &prepare)),
        ("prepare_as_sync", as_root("Sync", &prepare)),
        ("failure_as_table", as_root("TableDetail", &failure)),
    ]
}

fn as_root(name: &str, body: &[u8]) -> Vec<u8> {
    let root = bodies::ROOTS
        .iter()
        .position(|(root, _)| *root == name)
        .unwrap();
    let mut input = vec![u8::try_from(root).unwrap()];
    input.extend_from_slice(body);
    input
}

/// Runs every file of a corpus, in which the seeds must be.
fn replay(target: &str, run: impl Fn(&[u8]), seeds: &[(&str, Vec<u8>)]) {
    let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fuzz/corpus")
        .join(target);
    for (name, seed) in seeds {
        if std::env::var_os("PEGASUS_WRITE_CORPUS").is_some() {
            std::fs::create_dir_all(&corpus).unwrap();
            std::fs::write(corpus.join(name), seed).unwrap();
        }
        assert_eq!(&std::fs::read(corpus.join(name)).unwrap(), seed, "{name}");
    }
    for entry in std::fs::read_dir(corpus).unwrap() {
        run(&std::fs::read(entry.unwrap().path()).unwrap());
    }
}

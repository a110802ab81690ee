//! Replays the corpus of the fuzz targets (tests/fuzz/corpus/log_recovery) as an ordinary test.

use super::disk::{Disk, IDENTITY};
use super::life::markers;
use crate::log::{SegmentId, recover};

const CORPUS: [&[u8]; 5] = [
    include_bytes!("../../../../../tests/fuzz/corpus/log_recovery/empty"),
    include_bytes!("../../../../../tests/fuzz/corpus/log_recovery/header_only"),
    include_bytes!("../../../../../tests/fuzz/corpus/log_recovery/two_batches"),
    include_bytes!("../../../../../tests/fuzz/corpus/log_recovery/torn"),
    include_bytes!("../../../../../tests/fuzz/corpus/log_recovery/flipped"),
];

#[test]
fn the_corpus_recovers_without_a_panic_and_leads_to_a_log_that_can_go_on() {
    for bytes in CORPUS {
        let mut disk = Disk::default();
        disk.files.insert(SegmentId(1), bytes.to_vec());
        let recovery = recover(&mut disk, IDENTITY, &markers()).unwrap();
        assert_eq!(recovery.start.next_segment(), SegmentId(2));
        assert!(recovery.start.predecessor().offset <= bytes.len() as u64);
    }
}

#[test]
#[ignore = "writes the corpus anew after a change of format"]
#[allow(
    clippy::disallowed_methods,
    reason = "run by hand; the only place of this package that writes files"
)]
fn write_corpus() {
    use super::life::Life;
    use super::model::{adopt, entry, entry_record};
    let mut life = Life::first(1);
    let header_only = life.disk.files[&SegmentId(1)][..4096].to_vec();
    life.append(adopt(0, 1));
    life.settle();
    life.append(entry_record(0, entry(1, 1, b"payload".to_vec()), 0));
    life.settle();
    let two_batches = life.disk.files[&SegmentId(1)][..6 * 4096].to_vec();
    let mut torn = two_batches.clone();
    torn[3 * 4096..].fill(0);
    let mut flipped = two_batches.clone();
    flipped[3 * 4096 + 200] ^= 4;
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fuzz/corpus/log_recovery"
    );
    let files = [
        ("empty", vec![]),
        ("header_only", header_only),
        ("two_batches", two_batches),
        ("torn", torn),
    ];
    for (name, bytes) in files.into_iter().chain([("flipped", flipped)]) {
        std::fs::write(format!("{folder}/{name}"), bytes).unwrap();
    }
}

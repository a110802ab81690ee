//! What files say without being read: which rows and hash keys they do not have.

use crate::harness::{Rocks, Subject, bulky_value, partition, put, raw};
use pegasus_engine::range::hash_key_range;
use pegasus_engine::{Engine, Tier};
use rocksdb::perf::{PerfContext, PerfMetric, PerfStatsLevel, set_perf_stats};

/// What RocksDB has done on this thread in `read`.
struct Cost {
    blocks: u64,
    bytes: u64,
    turned_away: u64,
}

fn cost_of(read: impl FnOnce()) -> Cost {
    set_perf_stats(PerfStatsLevel::EnableCount);
    let mut context = PerfContext::default();
    context.reset();
    read();
    let cost = Cost {
        blocks: context.metric(PerfMetric::BlockReadCount),
        bytes: context.metric(PerfMetric::BlockReadByte),
        turned_away: context.metric(PerfMetric::BloomSstMissCount),
    };
    set_perf_stats(PerfStatsLevel::Disable);
    cost
}

/// Even hash keys with a few rows each, in three files, with nothing of them in memory but what their reader keeps.
fn in_files() -> Rocks {
    let mut rocks = Rocks::default();
    rocks.create(partition(0));
    for file in 0..3_u64 {
        for number in (0..200_u64).step_by(2) {
            let (name, sort_key) = (format!("{number:04}"), format!("{file}"));
            rocks.apply(partition(0), &[put(&name, &sort_key, &bulky_value(number))]);
        }
        rocks.flush(partition(0));
    }
    rocks.crash();
    rocks
}

fn read(rocks: &Rocks, hash_key: &str, sort_key: &str) -> bool {
    let key = raw(hash_key, sort_key);
    let row = rocks.engine().get(partition(0), &key, 0, Tier::Full);
    row.unwrap().is_some()
}

fn scan(rocks: &Rocks, hash_key: &str) -> usize {
    let spec = hash_key_range(raw(hash_key, ""), 0);
    let page = rocks.engine().scan(partition(0), &spec, Tier::Full);
    page.unwrap().rows.len()
}

#[test]
fn a_row_that_is_in_no_file_is_told_by_filters_without_reading_data() {
    let rocks = in_files();
    // Filters and indexes come to memory with the first reads.
    assert!(read(&rocks, "0000", "0"));
    assert!(!read(&rocks, "0001", "0"));
    let missing = cost_of(|| {
        for number in (1..199).step_by(2) {
            assert!(!read(&rocks, &format!("{number:04}"), "0"));
        }
    });
    // Three files, 99 rows; a filter of ten bits for a key errs once in a hundred times.
    assert!(
        missing.turned_away >= 99 * 3 - 20,
        "{} of 297 files turned away",
        missing.turned_away
    );
    assert!(
        missing.blocks <= 20,
        "{} blocks of {} bytes read for 99 missing rows",
        missing.blocks,
        missing.bytes
    );
    let found = cost_of(|| assert!(read(&rocks, "0100", "2")));
    assert!(found.blocks <= 1, "{} blocks for one row", found.blocks);
}

#[test]
fn a_hash_key_that_is_in_no_file_is_told_by_filters_of_hash_keys() {
    let rocks = in_files();
    assert_eq!(scan(&rocks, "0000"), 3);
    assert_eq!(scan(&rocks, "0001"), 0);
    let missing = cost_of(|| {
        for number in (1..199).step_by(2) {
            assert_eq!(scan(&rocks, &format!("{number:04}")), 0);
        }
    });
    assert!(
        missing.turned_away >= 99 * 3 - 20,
        "{} of 297 files turned away",
        missing.turned_away
    );
    assert!(
        missing.blocks <= 20,
        "{} blocks of {} bytes read for 99 missing hash keys",
        missing.blocks,
        missing.bytes
    );
}

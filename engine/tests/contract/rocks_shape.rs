//! How replicas are kept, changed while they are used; and compactions that do less than everything.

use crate::harness::{Rocks, Subject, bulky_value, partition, put};
use pegasus_engine::Engine;
use pegasus_engine::rocks::{Bottommost, ReplicaSize, Scenario, Shape, StoreError, Thorough};
use std::time::{Duration, Instant};

/// As many files of level 0, each of its own rows.
fn flush_files(rocks: &mut Rocks, from: u64, count: u64) {
    for number in from..from + count {
        rocks.apply(
            partition(0),
            &[put("h", &format!("{number:04}"), &bulky_value(number))],
        );
        rocks.flush(partition(0));
    }
}

fn in_scenario(scenario: Scenario) -> Shape {
    Shape {
        scenario,
        memtable_bytes: None,
    }
}

fn level0_files(rocks: &Rocks) -> u32 {
    rocks.store().level0_files(partition(0)).unwrap()
}

#[test]
fn during_a_bulk_load_files_gather_and_hold_nobody_back_and_then_are_sorted() {
    let mut rocks = Rocks::default();
    rocks.create(partition(0));
    let set = |rocks: &Rocks, scenario| {
        let set = rocks.store().set_shape(partition(0), in_scenario(scenario));
        set.unwrap();
    };
    set(&rocks, Scenario::BulkLoad);
    flush_files(&mut rocks, 0, 30);
    assert_eq!(level0_files(&rocks), 30, "no compaction has taken any");
    assert_eq!(rocks.store().refresh_pressure().level0_files, 0);
    assert!(!rocks.engine().pressure().is_high());
    set(&rocks, Scenario::Normal);
    let deadline = Instant::now() + Duration::from_secs(30);
    while level0_files(&rocks) >= 4 && Instant::now() < deadline {
        assert!(!rocks.store().refresh_pressure().is_high());
        std::thread::yield_now();
    }
    assert!(
        level0_files(&rocks) < 4,
        "{} files are left",
        level0_files(&rocks)
    );
    assert_eq!(
        rocks.value(partition(0), "h", "0029", 0),
        Some(bulky_value(29))
    );
}

#[test]
fn a_replica_that_is_mostly_written_may_have_more_files_before_it_counts_as_behind() {
    let mut rocks = Rocks::default();
    rocks.create(partition(0));
    rocks
        .store()
        .set_shape(partition(0), in_scenario(Scenario::PreferWrite))
        .unwrap();
    flush_files(&mut rocks, 0, 8);
    assert_eq!(level0_files(&rocks), 8, "ten start a compaction");
    assert_eq!(rocks.store().refresh_pressure().level0_files, 2);
}

#[test]
fn a_memtable_is_flushed_at_the_size_that_its_table_wants() {
    let mut rocks = Rocks::default();
    rocks.create(partition(0));
    let shape = Shape {
        scenario: Scenario::Normal,
        memtable_bytes: Some(1 << 20),
    };
    rocks.store().set_shape(partition(0), shape).unwrap();
    let value = bulky_value(1).repeat(100);
    for number in 0..40 {
        assert_eq!(rocks.engine().flush_wanted(), None, "after {number} rows");
        rocks.apply(partition(0), &[put("h", &number.to_string(), &value)]);
        if rocks.engine().unflushed_bytes(partition(0)) >= 1 << 20 {
            break;
        }
    }
    assert_eq!(rocks.engine().flush_wanted(), Some(partition(0)));
    assert!(matches!(
        rocks.store().set_shape(partition(1), shape),
        Err(StoreError::NoReplica { .. })
    ));
}

#[test]
fn a_compaction_ends_in_the_level_that_is_asked_for_and_its_size_is_told() {
    let mut rocks = Rocks::default();
    rocks.create(partition(0));
    flush_files(&mut rocks, 0, 3);
    let size = rocks.store().size_of(partition(0)).unwrap();
    assert_eq!((size.rows >= 3, size.files), (true, 3), "{size:?}");
    assert!(size.file_bytes > 600 && size.memtable_bytes > 0, "{size:?}");
    let thorough = Thorough {
        target_level: Some(2),
        bottommost: Bottommost::Skip,
    };
    rocks.store().compact(partition(0), thorough).unwrap();
    let ReplicaSize { files, .. } = rocks.store().size_of(partition(0)).unwrap();
    assert_eq!((files, level0_files(&rocks)), (1, 0));
}

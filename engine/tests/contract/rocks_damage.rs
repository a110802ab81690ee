//! One bad file must not take the core: the others go on, and the damaged replica is named.

use crate::harness::{INCARNATION, Rocks, Subject, bulky_value, partition, put, raw};
use pegasus_engine::rocks::{Notice, StoreError, Thorough};
use pegasus_engine::{ApplyError, Engine, ReadError, ScanSpec, Tier};
use pegasus_replication::ids::Decree;
use std::fs;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Replica 0 and 1 with rows in files, closed, and the path of replica 0's only file.
fn two_replicas() -> (Rocks, PathBuf) {
    let mut rocks = Rocks::default();
    rocks.create(partition(0));
    let directory = rocks.directory.path().join("db");
    for number in 0..200 {
        let (sort_key, value) = (format!("{number:03}"), bulky_value(number));
        rocks.apply(partition(0), &[put("h", &sort_key, &value)]);
    }
    rocks.flush(partition(0));
    let file = only_table_file(&directory);
    rocks.create(partition(1));
    rocks.apply(partition(1), &[put("h", "a", "1")]);
    rocks.flush(partition(1));
    rocks.close();
    (rocks, file)
}

fn only_table_file(directory: &Path) -> PathBuf {
    let paths = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|end| end == "sst"))
        .collect();
    assert_eq!(files.len(), 1);
    files.remove(0)
}

/// Flips a bit in a data block in the middle of the rows.
fn damage(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
}

/// What the first row that cannot be read answers.
fn first_error(rocks: &Rocks) -> Option<ReadError> {
    let sort_keys = (0..200).map(|number| format!("{number:03}"));
    let mut reads = sort_keys.map(|sort_key| {
        let key = raw("h", &sort_key);
        rocks.engine().get(partition(0), &key, 0, Tier::Full)
    });
    reads.find_map(Result::err)
}

fn name_of(file: &Path) -> &str {
    file.file_name().unwrap().to_str().unwrap()
}

/// Writes, reads, flushes and compacts replica 1, and sees that it survives a crash.
fn assert_the_other_goes_on(rocks: &mut Rocks) {
    let other = partition(1);
    let decree = rocks.apply(other, &[put("h", "b", "2")]);
    assert_eq!(rocks.flush(other), decree);
    rocks.store().compact(other, Thorough::default()).unwrap();
    rocks.store().scrub(other).unwrap();
    assert_eq!(rocks.value(other, "h", "a", 0).as_deref(), Some("1"));
    assert!(!rocks.engine().pressure().stalled);
    rocks.crash();
    assert_eq!(rocks.value(other, "h", "b", 0).as_deref(), Some("2"));
}

#[test]
fn a_flipped_bit_is_found_by_reading_and_named() {
    let (mut rocks, file) = two_replicas();
    damage(&file);
    rocks.open();
    let read = first_error(&rocks);
    let Some(ReadError::Corruption {
        partition: named,
        detail,
    }) = read
    else {
        panic!("{read:?}");
    };
    assert_eq!(named, partition(0));
    assert!(detail.contains(name_of(&file)), "{detail}");
    let spec = ScanSpec::new(Bound::Unbounded, Bound::Unbounded, 0);
    let scanned = rocks.engine().scan(partition(0), &spec, Tier::Full);
    assert!(
        matches!(scanned, Err(ReadError::Corruption { .. })),
        "{scanned:?}"
    );
    assert_the_other_goes_on(&mut rocks);
}

#[test]
fn a_flipped_bit_is_found_by_scrubbing_even_behind_a_warm_cache() {
    let (mut rocks, file) = two_replicas();
    rocks.open();
    rocks.store().scrub(partition(0)).unwrap();
    assert_eq!(first_error(&rocks), None);
    damage(&file);
    assert_eq!(first_error(&rocks), None);
    let scrubbed = rocks.store().scrub(partition(0));
    let Err(StoreError::Corruption {
        partition: named,
        detail,
    }) = scrubbed
    else {
        panic!("{scrubbed:?}");
    };
    assert_eq!(named, partition(0));
    assert!(detail.contains(name_of(&file)), "{detail}");
    assert_the_other_goes_on(&mut rocks);
}

#[test]
fn a_compaction_that_meets_damage_is_told_and_stops_nobody_else() {
    let (mut rocks, file) = two_replicas();
    damage(&file);
    rocks.open();
    // A second file to merge with, so that the damaged one must be read.
    rocks.apply(partition(0), &[put("h", "000", "newer")]);
    rocks.flush(partition(0));
    rocks.take_notices();
    rocks
        .store()
        .compact(partition(0), Thorough::default())
        .unwrap();
    let notices = rocks.take_notices();
    let told = notices.iter().find_map(|notice| match notice {
        Notice::Damaged {
            partition,
            incarnation,
            detail,
        } => Some((*partition, *incarnation, detail.clone())),
        _ => None,
    });
    let (named, incarnation, detail) = told.unwrap_or_else(|| panic!("{notices:?}"));
    assert_eq!((named, incarnation), (partition(0), INCARNATION));
    assert!(detail.contains(name_of(&file)), "{detail}");
    assert!(
        !notices
            .iter()
            .any(|notice| matches!(notice, Notice::BackgroundError { .. })),
        "{notices:?}"
    );
    // Writes of the damaged replica itself go on as well, until somebody takes it out of use.
    rocks.apply(partition(0), &[put("h", "new", "v")]);
    rocks.store().quarantine(partition(0), &detail).unwrap();
    let applied = rocks.apply_as(
        partition(0),
        Decree(203),
        pegasus_replication::ids::RequestId::default(),
        &[],
    );
    assert_eq!(
        applied,
        Err(ApplyError::Corruption {
            partition: partition(0),
            detail: detail.clone()
        })
    );
    let read = rocks
        .engine()
        .get(partition(0), &raw("h", "new"), 0, Tier::CacheOnly);
    assert_eq!(
        read,
        Err(ReadError::Corruption {
            partition: partition(0),
            detail
        })
    );
    assert_the_other_goes_on(&mut rocks);
}

#[test]
fn automatic_compactions_of_other_replicas_get_past_a_damaged_one() {
    let (mut rocks, file) = two_replicas();
    damage(&file);
    rocks.open();
    // Four files in level 0 start a compaction, which fails, and is tried again for as long as it is wanted.
    for _ in 0..4 {
        rocks.apply(partition(0), &[put("h", "000", "newer")]);
        rocks.flush(partition(0));
    }
    let mut detail = None;
    wait_until("the damage is told", || {
        let notices = rocks.take_notices();
        detail = notices.into_iter().find_map(|notice| match notice {
            Notice::Damaged {
                partition: named,
                detail,
                ..
            } => (named == partition(0)).then_some(detail),
            _ => None,
        });
        detail.is_some()
    });
    rocks
        .store()
        .quarantine(partition(0), &detail.unwrap())
        .unwrap();
    for _ in 0..4 {
        rocks.apply(partition(1), &[put("h", "a", "1")]);
        rocks.flush(partition(1));
    }
    wait_until("the other replica is compacted", || {
        rocks.store().level0_files(partition(1)).unwrap() < 4
    });
    assert!(rocks.store().level0_files(partition(0)).unwrap() >= 4);
    assert_the_other_goes_on(&mut rocks);
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}: not yet");
        std::thread::yield_now();
    }
}

#[test]
fn a_missing_or_truncated_file_is_found_at_the_start() {
    let (mut rocks, file) = two_replicas();
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    assert_damage_at_start(&mut rocks, &file);
    fs::remove_file(&file).unwrap();
    assert_damage_at_start(&mut rocks, &file);
    rocks.open();
    assert_the_other_goes_on(&mut rocks);
}

fn assert_damage_at_start(rocks: &mut Rocks, file: &Path) {
    let found = rocks.open().replicas.clone();
    assert_eq!(found.len(), 2);
    assert!(
        found[0].damage.as_ref().unwrap().contains(name_of(file)),
        "{found:?}"
    );
    assert_eq!(found[1].damage, None);
    let read = rocks
        .engine()
        .get(partition(0), &raw("h", "000"), 0, Tier::Full);
    assert!(
        matches!(read, Err(ReadError::Corruption { .. })),
        "{read:?}"
    );
    rocks.close();
}

#[test]
fn a_damaged_footer_does_not_keep_the_database_from_opening() {
    let (mut rocks, file) = two_replicas();
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&file, bytes).unwrap();
    let found = rocks.open().replicas.clone();
    assert!(found[0].damage.is_some(), "{found:?}");
    assert_eq!(found[1].damage, None);
    assert_the_other_goes_on(&mut rocks);
    // A damaged replica can be dropped and made anew.
    rocks.drop_replica(partition(0));
    rocks.create(partition(0));
    rocks.apply(partition(0), &[put("h", "a", "1")]);
    rocks.flush(partition(0));
    assert_eq!(rocks.value(partition(0), "h", "a", 0).as_deref(), Some("1"));
}

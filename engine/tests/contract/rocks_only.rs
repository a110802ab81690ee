//! What only the engine on disk promises: tiers, files, directories, checkpoints, many replicas.

use crate::harness::{INCARNATION, Rocks, Subject, bulky_value, partition, put, put_until, raw};
use pegasus_engine::rocks::{Notice, NoticeSink, OpenError, RocksStore, StoreError, Thorough};
use pegasus_engine::{Applied, Engine, ReadError, ScanSpec, Tier};
use pegasus_replication::ids::{Decree, PartitionId, ReplicaIncarnation};
use std::fs;
use std::ops::Bound;
use std::path::Path;
use std::time::{Duration, Instant};

fn spec() -> ScanSpec {
    ScanSpec::new(Bound::Unbounded, Bound::Unbounded, 0)
}

fn table_files(directory: &Path) -> usize {
    let names = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    names
        .filter(|name| name.to_str().unwrap().ends_with(".sst"))
        .count()
}

#[test]
fn the_cache_tier_answers_incomplete_instead_of_reading_the_disk() {
    let mut rocks = Rocks::default();
    rocks.create(partition(0));
    for number in 0..200 {
        let (sort_key, value) = (format!("{number:03}"), bulky_value(number));
        rocks.apply(partition(0), &[put("h", &sort_key, &value)]);
    }
    let keys = [raw("h", "150"), raw("h", "none")];
    let get = |rocks: &Rocks, tier| rocks.engine().get(partition(0), &keys[0], 0, tier);
    assert!(get(&rocks, Tier::CacheOnly).unwrap().is_some());
    rocks.flush(partition(0));
    rocks.crash();
    let (partition, tier) = (partition(0), Tier::CacheOnly);
    let engine = rocks.engine();
    let incomplete = ReadError::Incomplete { partition };
    assert_eq!(get(&rocks, tier), Err(incomplete.clone()));
    assert_eq!(
        engine.multi_get(partition, &keys, 0, tier),
        Err(incomplete.clone())
    );
    assert_eq!(engine.scan(partition, &spec(), tier), Err(incomplete));
    // A helper reads from disk, which brings the blocks into the cache.
    let store = rocks.store();
    assert!(store.get(partition, &keys[0], 0).unwrap().is_some());
    assert_eq!(store.multi_get(partition, &keys, 0).unwrap().len(), 2);
    assert_eq!(store.scan(partition, &spec()).unwrap().rows.len(), 200);
    assert!(get(&rocks, tier).unwrap().is_some());
    assert_eq!(
        engine.multi_get(partition, &keys, 0, tier).unwrap()[1],
        None
    );
    assert_eq!(
        engine.scan(partition, &spec(), tier).unwrap().rows.len(),
        200
    );
}

#[test]
fn rows_just_flushed_are_still_in_memory() {
    let mut rocks = Rocks::default();
    rocks.create(partition(0));
    rocks.apply(partition(0), &[put("h", "a", "1")]);
    rocks.flush(partition(0));
    assert!(
        rocks
            .engine()
            .get(partition(0), &raw("h", "a"), 0, Tier::CacheOnly)
            .unwrap()
            .is_some()
    );
}

/// Until a thread of RocksDB has told it.
fn wait_for(rocks: &Rocks, told: &Notice) {
    let began = Instant::now();
    while !rocks.take_notices().contains(told) {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "{told:?}: not told"
        );
        std::thread::yield_now();
    }
}

#[test]
fn a_flush_is_told_whatever_caused_it() {
    let mut rocks = Rocks::default();
    rocks.create(partition(0));
    let (partition, incarnation) = (partition(0), INCARNATION);
    let told = Notice::Flushed {
        partition,
        incarnation,
    };
    rocks.apply(partition, &[put("h", "a", "1")]);
    rocks.flush_unmarked(partition);
    wait_for(&rocks, &told);
    // RocksDB's own limit, without our asking.
    let value = bulky_value(1).repeat(2200);
    for _ in 0..40 {
        rocks.apply(partition, &[put("h", "a", &value)]);
    }
    wait_for(&rocks, &told);
    rocks.flush(partition);
    assert_eq!(rocks.store().durable(partition).unwrap().decree, Decree(41));
}

#[test]
fn compaction_drops_expired_rows_and_keeps_the_marker() {
    let mut rocks = Rocks::default();
    rocks.create(partition(0));
    rocks.apply(
        partition(0),
        &[
            put_until("h", "a", "1", 100),
            put_until("h", "b", "2", 1000),
            put("h", "c", "3"),
        ],
    );
    rocks.flush(partition(0));
    rocks.set_now(500);
    rocks
        .store()
        .compact(partition(0), Thorough::default())
        .unwrap();
    // As of second 0 a row that is still stored would be visible.
    assert_eq!(rocks.value(partition(0), "h", "a", 0), None);
    assert_eq!(rocks.value(partition(0), "h", "b", 0).as_deref(), Some("2"));
    assert_eq!(rocks.value(partition(0), "h", "c", 0).as_deref(), Some("3"));
    rocks.crash();
    assert_eq!(
        rocks.engine().last_applied(partition(0)).unwrap().decree,
        Decree(1)
    );
}

#[test]
fn creating_again_is_no_event_unless_the_incarnation_differs() {
    let mut rocks = Rocks::default();
    let (here, wanted) = (INCARNATION, ReplicaIncarnation(8));
    rocks.create(partition(0));
    rocks.apply(partition(0), &[put("h", "a", "1")]);
    let answers = rocks.store().create(&[
        (partition(0), here),
        (partition(1), here),
        (partition(0), wanted),
    ]);
    let other = StoreError::OtherIncarnation {
        partition: partition(0),
        here,
        wanted,
    };
    assert_eq!(answers, [Ok(()), Ok(()), Err(other.clone())]);
    assert_eq!(rocks.store().drop_replica(partition(0), wanted), Err(other));
    assert_eq!(rocks.value(partition(0), "h", "a", 0).as_deref(), Some("1"));
    assert_eq!(
        rocks.store().partitions(),
        [(partition(0), here), (partition(1), here)]
    );
}

#[test]
fn a_created_replica_is_there_after_a_crash() {
    let mut rocks = Rocks::default();
    rocks.create(partition(0));
    rocks.crash();
    let found = &rocks.opened().replicas;
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].partition, found[0].incarnation),
        (partition(0), INCARNATION)
    );
    assert_eq!(
        (found[0].marker.decree, &found[0].damage),
        (Decree::ZERO, &None)
    );
}

#[test]
fn dropping_a_replica_leaves_no_files() {
    let mut rocks = Rocks::default();
    rocks.create(partition(0));
    rocks.apply(partition(0), &[put("h", "a", "1")]);
    rocks.flush(partition(0));
    let directory = rocks.directory.path().join("db");
    assert_eq!(table_files(&directory), 1);
    rocks.drop_replica(partition(0));
    // Dropping it again, as after a lost answer, is no error.
    rocks
        .store()
        .drop_replica(partition(0), INCARNATION)
        .unwrap();
    rocks.crash();
    assert!(rocks.opened().replicas.is_empty());
    rocks.close();
    assert_eq!(table_files(&directory), 0);
}

#[test]
fn a_replica_dropped_behind_the_engines_back_is_unknown_to_it() {
    let mut rocks = Rocks::default();
    rocks.create(partition(0));
    rocks.apply(partition(0), &[put("h", "a", "1")]);
    rocks
        .store()
        .drop_replica(partition(0), INCARNATION)
        .unwrap();
    assert_eq!(
        rocks
            .engine()
            .get(partition(0), &raw("h", "a"), 0, Tier::CacheOnly),
        Err(ReadError::NoReplica {
            partition: partition(0)
        })
    );
    let next = ReplicaIncarnation(8);
    assert_eq!(rocks.store().create(&[(partition(0), next)]), [Ok(())]);
    assert_eq!(
        rocks.engine().last_applied(partition(0)),
        Some(Applied::default())
    );
    rocks.apply(partition(0), &[put("h", "a", "2")]);
    assert_eq!(rocks.value(partition(0), "h", "a", 0).as_deref(), Some("2"));
}

#[test]
fn an_exported_replica_can_be_imported_as_another() {
    let mut rocks = Rocks::default();
    rocks.create(partition(0));
    for number in 0..300 {
        rocks.apply(partition(0), &[put("h", &number.to_string(), "v")]);
        if number == 100 {
            rocks.flush(partition(0));
        }
    }
    let export = rocks.directory.path().join("export");
    rocks.engine_mut().begin_flush(partition(0)).unwrap();
    let exported = rocks.store().export(partition(0), &export).unwrap();
    assert_eq!(exported.marker.decree, Decree(300));
    assert!(
        exported
            .files
            .iter()
            .all(|file| fs::metadata(export.join(&file.name)).unwrap().len() == file.bytes)
    );
    let incarnation = ReplicaIncarnation(9);
    let marker = rocks
        .store()
        .import(partition(1), incarnation, &export)
        .unwrap();
    assert_eq!(
        (marker.decree, marker.incarnation),
        (Decree(300), incarnation)
    );
    rocks.apply(partition(1), &[put("h", "new", "v")]);
    let count = |rocks: &Rocks, index| rocks.read_all(partition(index), &spec()).0.len();
    assert_eq!((count(&rocks, 0), count(&rocks, 1)), (300, 301));
    rocks.crash();
    assert_eq!(
        rocks
            .opened()
            .replicas
            .iter()
            .filter(|found| found.damage.is_some())
            .count(),
        0
    );
    assert_eq!(
        rocks.engine().last_applied(partition(1)).unwrap().decree,
        Decree(300)
    );
    assert_eq!((count(&rocks, 0), count(&rocks, 1)), (300, 300));
}

#[test]
fn an_export_of_an_empty_replica_can_be_imported_too() {
    let mut rocks = Rocks::default();
    rocks.create(partition(0));
    let export = rocks.directory.path().join("export");
    rocks.store().export(partition(0), &export).unwrap();
    let marker = rocks
        .store()
        .import(partition(1), ReplicaIncarnation(9), &export)
        .unwrap();
    assert_eq!(marker.decree, Decree::ZERO);
    rocks.crash();
    assert_eq!(rocks.opened().replicas.len(), 2);
}

#[test]
fn an_incomplete_export_is_refused_and_leaves_nothing() {
    let mut rocks = Rocks::default();
    rocks.create(partition(0));
    rocks.apply(partition(0), &[put("h", "a", "1")]);
    rocks.engine_mut().begin_flush(partition(0)).unwrap();
    let export = rocks.directory.path().join("export");
    let files = rocks.store().export(partition(0), &export).unwrap().files;
    fs::remove_file(export.join(&files[0].name)).unwrap();
    assert!(
        rocks
            .store()
            .import(partition(1), ReplicaIncarnation(9), &export)
            .is_err()
    );
    fs::remove_file(export.join("EXPORT")).unwrap();
    assert!(
        rocks
            .store()
            .import(partition(1), ReplicaIncarnation(9), &export)
            .is_err()
    );
    assert_eq!(rocks.engine().last_applied(partition(1)), None);
    rocks.crash();
    assert_eq!(rocks.opened().replicas.len(), 1);
}

#[test]
fn two_hundred_replicas_are_created_at_once_and_found_again() {
    let mut rocks = Rocks::default();
    let replicas: Vec<(PartitionId, _)> = (0..200)
        .map(|index| (partition(index), INCARNATION))
        .collect();
    assert!(rocks.store().create(&replicas).iter().all(Result::is_ok));
    for (partition, _) in &replicas {
        rocks.apply(*partition, &[put("h", "a", "1")]);
        rocks.flush(*partition);
    }
    rocks.close();
    let began = Instant::now();
    let found = rocks.open().replicas.clone();
    // Said, not asserted: a shared machine may pause at any time.
    eprintln!("reopened {} replicas in {:?}", found.len(), began.elapsed());
    assert_eq!(
        found
            .iter()
            .map(|found| found.partition)
            .collect::<Vec<_>>(),
        replicas
            .iter()
            .map(|(partition, _)| *partition)
            .collect::<Vec<_>>()
    );
    assert!(
        found
            .iter()
            .all(|found| found.damage.is_none() && found.marker.decree == Decree(1))
    );
}

#[test]
fn a_directory_is_opened_by_one_process_at_a_time_and_never_if_it_is_foreign() {
    let rocks = Rocks::default();
    let open = |directory: &Path| {
        RocksStore::open(directory, &rocks.options, NoticeSink::none()).unwrap_err()
    };
    let directory = rocks.directory.path().join("db");
    assert!(matches!(open(&directory), OpenError::Locked { .. }));
    let foreign = rocks.directory.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("data"), b"precious").unwrap();
    assert!(matches!(open(&foreign), OpenError::Foreign { .. }));
    fs::write(foreign.join("FORMAT"), b"pegasus-engine 99\n").unwrap();
    assert!(
        open(&foreign)
            .to_string()
            .ends_with("has engine format 99, this build reads 1")
    );
}

#[test]
fn pressure_is_measured_and_let_go() {
    let mut rocks = Rocks::default();
    rocks.create(partition(0));
    let value = "x".repeat(500_000);
    rocks.apply(partition(0), &[put("h", "a", &value)]);
    let before = rocks.engine().pressure();
    assert!(before.memtable_bytes > 500_000);
    assert!(!before.is_high());
    rocks.flush(partition(0));
    // The background thread frees the memtable just after it has told of the flush.
    let began = Instant::now();
    while rocks.store().refresh_pressure().memtable_bytes >= before.memtable_bytes {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "the memtable is never freed"
        );
        std::thread::yield_now();
    }
    assert_eq!(rocks.engine().pressure().level0_files, 1);
    rocks.store().resume().unwrap();
}

#[test]
fn rows_read_before_are_answered_without_the_database_and_never_as_they_were() {
    let mut rocks = Rocks::default();
    rocks.create(partition(0));
    rocks.apply(partition(0), &[put("h", "1", "old")]);
    let hits = |rocks: &Rocks| rocks.engine().activity().rows.hits;
    let value = |rocks: &Rocks| rocks.value(partition(0), "h", "1", 0);
    assert_eq!(value(&rocks).as_deref(), Some("old"));
    assert_eq!((value(&rocks).as_deref(), hits(&rocks)), (Some("old"), 1));
    rocks.apply(partition(0), &[put("h", "1", "a newer one")]);
    assert_eq!(
        (value(&rocks).as_deref(), hits(&rocks)),
        (Some("a newer one"), 2)
    );
    let both = [raw("h", "1"), raw("h", "2")];
    let rows = rocks.engine().multi_get(partition(0), &both, 0, Tier::Full);
    assert_eq!(rows.unwrap()[0].as_ref().unwrap().data, "a newer one");
    assert_eq!(hits(&rocks), 3);
    rocks.drop_replica(partition(0));
    rocks.create(partition(0));
    rocks.apply(partition(0), &[]);
    assert_eq!((value(&rocks), hits(&rocks)), (None, 3));
    assert_eq!((value(&rocks), hits(&rocks)), (None, 4));
}

#[test]
fn rows_read_before_are_not_given_by_a_replica_that_is_out_of_use() {
    let mut rocks = Rocks::default();
    rocks.create(partition(0));
    rocks.apply(partition(0), &[put("h", "1", "v")]);
    assert_eq!(rocks.value(partition(0), "h", "1", 0).as_deref(), Some("v"));
    rocks
        .store()
        .quarantine(partition(0), "a bad block")
        .unwrap();
    let read = rocks
        .engine()
        .get(partition(0), &raw("h", "1"), 0, Tier::CacheOnly);
    assert!(
        matches!(read, Err(ReadError::Corruption { .. })),
        "{read:?}"
    );
}

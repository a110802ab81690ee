#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::super::{PAGE_WORDS, Snapshot, Writer, compact, copy_of, expand};
use super::*;
use std::sync::Arc;

type Page = Arc<[AtomicU64]>;

fn page() -> Page {
    (0..PAGE_WORDS).map(|_| AtomicU64::new(3)).collect()
}

fn writer(page: &Page) -> Writer<Page> {
    Writer::new(Arc::clone(page), 1, 0, 77, 0)
}

fn names(snapshot: &Snapshot) -> Vec<(u32, u32)> {
    let all = snapshot.partitions().iter();
    all.map(|it| (it.table, it.partition)).collect()
}

#[test]
fn each_replica_counts_for_itself_and_travels() {
    let page = page();
    let mut writer = writer(&page);
    let one = writer.take_partition(5, 7);
    let other = writer.take_partition(5, 2);
    assert_ne!(one, other);
    assert_eq!(writer.take_partition(5, 7), one);
    assert_eq!(writer.find_partition(5, 2), other);
    assert_eq!(writer.find_partition(5, 3), PartitionSlot::NONE);
    writer.add_of(one, PartitionCounter::Get, 3);
    writer.add_of(one, PartitionCounter::CheckAndSet, 2);
    writer.add_of(other, PartitionCounter::Scan, 1);
    writer.set_of(other, PartitionGauge::Role, Role::Secondary as u64);
    writer.add_of(PartitionSlot::NONE, PartitionCounter::Get, 9);
    let words = expand(&compact(&copy_of(&page))).unwrap();
    let snapshot = Snapshot::of_words(&words).unwrap();
    assert_eq!(names(&snapshot), [(5, 2), (5, 7)]);
    let [other, one] = snapshot.partitions() else {
        panic!("there are two")
    };
    assert_eq!((one.reads(), one.writes(), one.requests()), (3, 2, 5));
    assert_eq!((other.requests(), other.role()), (1, Role::Secondary));
    assert_eq!(writer.partition(5, 7).as_ref(), Some(one));
}

#[test]
fn every_operation_has_its_counter() {
    use super::super::Timing;
    for operation in Timing::operations() {
        let counter = PartitionCounter::request(*operation).unwrap();
        assert_eq!(counter.name(), format!("request_{}", operation.name()));
        let is_write = operation.class() == Some(super::super::Class::Write);
        assert_eq!(PartitionCounter::writes().contains(&counter), is_write);
        assert_eq!(PartitionCounter::reads().contains(&counter), !is_write);
    }
    assert_eq!(PartitionCounter::request(Timing::Turn), None);
}

#[test]
fn a_slot_is_taken_again_last_and_begins_from_nothing() {
    let page = page();
    let mut writer = writer(&page);
    for partition in 0..1024 {
        assert_ne!(writer.take_partition(1, partition), PartitionSlot::NONE);
    }
    assert_eq!(writer.take_partition(2, 0), PartitionSlot::NONE);
    let freed = writer.find_partition(1, 512);
    writer.add_of(freed, PartitionCounter::Put, 8);
    let before = writer.snapshot();
    writer.release_partition(1, 512);
    assert_eq!(writer.snapshot().partitions().len(), 1023);
    assert_eq!(writer.find_partition(1, 512), PartitionSlot::NONE);
    assert_eq!(writer.take_partition(2, 0), freed);
    assert_eq!(writer.partition(2, 0).unwrap().requests(), 0);
    // All others are still found.
    for partition in (0..1024).filter(|it| *it != 512) {
        assert_ne!(writer.find_partition(1, partition), PartitionSlot::NONE);
    }
    assert_eq!(writer.snapshot().partitions().len(), 1024);
    // The same replica again, in the next slot that is free: another life.
    writer.release_partition(1, 3);
    writer.release_partition(2, 0);
    let again = writer.take_partition(1, 512);
    writer.add_of(again, PartitionCounter::Put, 1);
    let now = writer.snapshot();
    let interval = now.since(&before);
    let it = interval.partitions().iter();
    let put = it.filter(|it| (it.table, it.partition) == (1, 512));
    assert_eq!(put.map(PartitionStats::writes).sum::<u64>(), 1);
}

#[test]
fn an_interval_has_the_growth_and_the_gauges_of_its_end() {
    let page = page();
    let mut writer = writer(&page);
    let slot = writer.take_partition(1, 1);
    writer.add_of(slot, PartitionCounter::Get, 10);
    writer.set_of(slot, PartitionGauge::Ballot, 4);
    let before = writer.snapshot();
    writer.add_of(slot, PartitionCounter::Get, 5);
    writer.take_partition(1, 2);
    let now = writer.snapshot();
    let interval = now.since(&before);
    let [one, new] = interval.partitions() else {
        panic!("there are two")
    };
    assert_eq!((one.requests(), one.gauge(PartitionGauge::Ballot)), (5, 4));
    assert_eq!(new.requests(), 0);
}

#[test]
fn a_slot_that_was_never_finished_is_left_out() {
    let mut words = vec![0; PARTITION_WORDS * 2];
    words[0] = 5;
    words[PARTITION_WORDS] = 6;
    words[PARTITION_WORDS + 1] = 9 | 4 << 32;
    let all = decode(&words);
    assert_eq!(all.len(), 1);
    assert_eq!((all[0].table, all[0].partition), (9, 4));
}

//! One rule at a time.

use super::disk::{Disk, IDENTITY, OPTIONS};
use super::life::{Life, markers};
use super::model::{INCARNATION, adopt, entry, entry_record, partition};
use crate::ids::{Ballot, Decree, NodeId, ReplicaIncarnation};
use crate::log::{
    Damage, LogFill, LogIdentity, LogOptions, Marker, Record, RecordKind, RecoverError, Remedy,
    SegmentId, ShardLog, recover,
};
use std::collections::BTreeMap;

fn recovered(life: &Life) -> crate::log::Recovery {
    recover(&mut life.disk.clone(), IDENTITY, &life.markers).unwrap()
}

#[test]
fn a_new_log_starts_in_its_first_life_with_segment_one() {
    let recovery = recover(&mut Disk::default(), IDENTITY, &BTreeMap::new()).unwrap();
    assert_eq!(recovery.start.incarnation().0, 1);
    assert_eq!(recovery.start.next_segment(), SegmentId(1));
    assert!(recovery.damage.is_empty());
    assert!(recovery.replicas.is_empty());
}

#[test]
fn a_log_that_is_gone_makes_every_replica_suspect() {
    let recovery = recover(&mut Disk::default(), IDENTITY, &markers()).unwrap();
    assert!(
        recovery
            .replicas
            .values()
            .all(|replica| replica.suspect.is_some())
    );
    assert_eq!(
        recovery.damage,
        vec![Damage::SegmentMissing {
            segment: SegmentId(1)
        }]
    );
}

#[test]
fn records_appended_while_a_write_is_under_way_go_into_the_next_one_together() {
    let mut life = Life::first(1);
    life.append(adopt(0, 1));
    life.perform();
    life.append(adopt(1, 1));
    life.perform();
    assert_eq!(life.log.writes_inflight(), 2);
    for decree in 1..=5 {
        life.append(entry_record(0, entry(1, decree, vec![1; 10]), 0));
    }
    life.perform();
    assert_eq!(
        life.disk.unflushed.len(),
        2,
        "no third write before one completes"
    );
    life.disk.unflushed.reverse();
    life.complete();
    life.settle();
    assert_eq!(life.durable_count, 7);
}

#[test]
fn a_second_write_goes_when_it_has_as_much_to_do_as_the_first() {
    let mut life = Life::first(1);
    for partition in 0..3 {
        life.append(adopt(partition, 1));
    }
    life.perform();
    for decree in 1..=2 {
        life.append(entry_record(0, entry(1, decree, vec![1; 10]), 0));
        life.perform();
        assert_eq!(life.log.writes_inflight(), 1, "{decree} of 3 records wait");
    }
    life.append(entry_record(0, entry(1, 3, vec![1; 10]), 0));
    life.perform();
    assert_eq!(life.log.writes_inflight(), 2);
    life.append(entry_record(0, entry(1, 4, vec![1; 10]), 0));
    life.settle();
    assert_eq!(life.durable_count, 7, "what waits alone is not forgotten");
}

#[test]
fn a_second_write_goes_when_it_fills_a_batch() {
    let mut life = Life::first(1);
    for partition in 0..3 {
        life.append(adopt(partition, 1));
    }
    life.perform();
    let payload = vec![1; OPTIONS.payload_bytes_max().min(OPTIONS.batch_bytes_max)];
    life.append(entry_record(0, entry(1, 1, payload), 0));
    life.perform();
    assert_eq!(life.log.writes_inflight(), 2);
    life.settle();
    assert_eq!(life.durable_count, 4);
}

#[test]
fn completions_out_of_order_are_told_in_order() {
    let mut life = Life::first(1);
    life.append(adopt(0, 1));
    life.perform();
    life.append(adopt(1, 1));
    life.perform();
    let second = life.disk.flush(1);
    assert!(life.log.on_durable(second).is_empty());
    let first = life.disk.flush(0);
    let stamps = life.log.on_durable(first);
    assert_eq!(
        stamps
            .iter()
            .map(|stamp| stamp.partition.index)
            .collect::<Vec<_>>(),
        vec![0, 1]
    );
}

#[test]
fn a_failed_log_takes_writes_and_reports_nothing() {
    let mut life = Life::first(1);
    life.append(adopt(0, 1));
    life.perform();
    let under_way = life.disk.flush(0);
    life.log.fail("flush: input/output error".to_owned());
    life.log.append(adopt(1, 1));
    assert!(life.log.next_write().is_none());
    assert!(life.log.on_durable(under_way).is_empty());
    assert_eq!(life.log.pending_bytes(), 0);
    assert_eq!(life.log.failure(), Some("flush: input/output error"));
}

#[test]
fn an_idle_log_vouches_for_its_end_once() {
    let mut life = Life::first(1);
    life.append(adopt(0, 1));
    life.perform();
    assert!(!life.log.wants_trailer(), "a write is under way");
    life.complete();
    assert!(life.log.wants_trailer());
    let trailer = life.log.next_trailer().unwrap();
    assert_eq!(trailer.bytes.len(), 4096);
    life.disk.write(trailer);
    life.complete();
    assert!(!life.log.wants_trailer());
}

#[test]
fn a_segment_is_freed_when_the_engine_holds_it_and_a_durable_batch_says_so() {
    let mut life = Life::first(1);
    let mut decree = 0;
    while life.log.used_bytes() <= 2 * OPTIONS.segment_bytes {
        decree += 1;
        life.append(entry_record(0, entry(1, decree, vec![7; 3000]), decree - 1));
        life.perform();
        while !life.disk.unflushed.is_empty() {
            life.complete();
        }
    }
    let files = life.disk.files.len();
    life.log.set_durable_in_engine(partition(0), Decree(decree));
    assert!(
        life.log.take_freed_segments().is_empty(),
        "no batch says so yet"
    );
    life.markers.get_mut(&partition(0)).unwrap().decree = Decree(decree);
    assert!(life.log.wants_trailer());
    life.settle();
    assert!(life.disk.files.len() < files);
    let recovery = recovered(&life);
    assert!(
        recovery.damage.is_empty(),
        "a freed segment is not missing: {:?}",
        recovery.damage
    );
    assert_eq!(
        recovery.replicas[&partition(0)].adopted,
        Ballot(1),
        "repeated in the segment that is left"
    );
    assert_eq!(recovery.replicas[&partition(0)].committed, Decree(decree));
}

#[test]
fn blockers_name_who_holds_the_oldest_segment_and_what_to_do() {
    let mut life = Life::first(1);
    life.append(entry_record(0, entry(1, 1, vec![1; 100]), 0));
    life.append(entry_record(0, entry(1, 2, vec![2; 100]), 0));
    fill_segments(&mut life, 1, 2);
    life.log.set_durable_in_engine(partition(1), Decree(10_000));
    life.settle();
    let blockers = life.log.blockers();
    assert_eq!(blockers.len(), 1);
    assert_eq!(
        (blockers[0].partition, blockers[0].first, blockers[0].last),
        (partition(0), Decree(1), Decree(2))
    );
    assert_eq!(blockers[0].remedy, Remedy::Reappend);

    for decree in 1..=2 {
        assert!(life.log.reappend(entry_record(
            0,
            entry(1, decree, vec![decree as u8; 100]),
            2
        )));
    }
    life.perform();
    let mut reappended = 0;
    while !life.disk.unflushed.is_empty() {
        let id = life.disk.flush(0);
        let stamps = life.log.on_durable(id);
        reappended += stamps
            .iter()
            .filter(|stamp| stamp.kind == RecordKind::Entry)
            .count();
        life.perform();
    }
    assert_eq!(reappended, 2);
    assert!(life.log.blockers().is_empty());
    let write = life.log.next_trailer().unwrap();
    life.disk.write(write);
    let id = life.disk.flush(0);
    life.log.on_durable(id);
    let freed = life.log.take_freed_segments();
    assert!(freed.contains(&SegmentId(1)));
    freed
        .into_iter()
        .for_each(|segment| life.disk.free(segment));
    life.markers.get_mut(&partition(1)).unwrap().decree = Decree(10_000);
    let recovery = recovered(&life);
    assert_eq!(recovery.replicas[&partition(0)].entries.len(), 2);
    assert!(recovery.replicas[&partition(0)].suspect.is_none());
}

fn fill_segments(life: &mut Life, index: u32, count: u64) {
    let mut decree = 0;
    while life.log.used_bytes() < count * OPTIONS.segment_bytes {
        decree += 1;
        life.append(entry_record(
            index,
            entry(1, decree, vec![7; 3000]),
            decree - 1,
        ));
        life.perform();
        while !life.disk.unflushed.is_empty() {
            life.complete();
        }
    }
}

#[test]
fn a_log_at_its_budget_says_full() {
    let mut life = Life::first(1);
    assert_eq!(life.log.fill(), LogFill::Low);
    fill_segments(&mut life, 0, 8);
    assert_eq!(life.log.fill(), LogFill::Half);
    fill_segments_more(&mut life, 16);
    assert_eq!(life.log.fill(), LogFill::Full);
}

fn fill_segments_more(life: &mut Life, count: u64) {
    fill_segments(life, 2, count);
}

#[test]
fn a_removed_replica_holds_nothing_back_and_is_forgotten() {
    let mut life = Life::first(1);
    fill_segments(&mut life, 0, 3);
    assert_eq!(life.log.blockers().len(), 1);
    life.log.append(Record::Removed {
        partition: partition(0),
        incarnation: INCARNATION,
    });
    life.perform();
    while !life.disk.unflushed.is_empty() {
        let id = life.disk.flush(0);
        life.log.on_durable(id);
        life.perform();
    }
    assert!(life.log.blockers().is_empty());
    let mut markers = life.markers.clone();
    markers.remove(&partition(0));
    let recovery = recover(&mut life.disk.clone(), IDENTITY, &markers).unwrap();
    assert!(!recovery.replicas.contains_key(&partition(0)));
}

#[test]
fn nothing_of_a_removed_replica_is_written_behind_its_removal() {
    let mut life = Life::first(1);
    fill_segments(&mut life, 0, 3);
    let again = entry_record(0, entry(1, 1, vec![1; 10]), 0);
    assert!(life.log.reappend(again));
    life.log.append(Record::Removed {
        partition: partition(0),
        incarnation: INCARNATION,
    });
    life.perform();
    while !life.disk.unflushed.is_empty() {
        let id = life.disk.flush(0);
        life.log.on_durable(id);
        life.perform();
    }
    let mut markers = life.markers.clone();
    markers.remove(&partition(0));
    let recovery = recover(&mut life.disk.clone(), IDENTITY, &markers).unwrap();
    assert!(!recovery.replicas.contains_key(&partition(0)));
}

#[test]
fn records_of_an_earlier_copy_are_ignored() {
    let mut life = Life::first(1);
    life.append(entry_record(0, entry(3, 1, vec![1]), 0));
    life.settle();
    life.markers.insert(
        partition(0),
        Marker {
            incarnation: ReplicaIncarnation(78),
            decree: Decree::ZERO,
        },
    );
    let replica = &recovered(&life).replicas[&partition(0)];
    assert_eq!(
        (replica.incarnation, replica.adopted),
        (ReplicaIncarnation(78), Ballot::NONE)
    );
    assert!(replica.entries.is_empty());
    assert!(replica.suspect.is_none());
}

#[test]
fn an_entry_voids_older_ballots_from_its_decree_on() {
    let mut life = Life::first(1);
    for decree in 1..=5 {
        life.append(entry_record(0, entry(1, decree, vec![1]), 0));
    }
    life.append(entry_record(0, entry(2, 3, vec![2]), 2));
    life.settle();
    let entries = &recovered(&life).replicas[&partition(0)].entries;
    let stamps: Vec<_> = entries
        .iter()
        .map(|entry| (entry.ballot.0, entry.decree.0))
        .collect();
    assert_eq!(stamps, vec![(1, 1), (1, 2), (2, 3)]);
}

#[test]
fn a_foreign_segment_is_refused_and_named() {
    let mut life = Life::first(1);
    life.append(adopt(0, 1));
    life.settle();
    let other = LogIdentity {
        node: NodeId(4),
        ..IDENTITY
    };
    let error = recover(&mut life.disk, other, &life.markers).unwrap_err();
    assert_eq!(
        error,
        RecoverError::Foreign {
            segment: 1,
            found: IDENTITY
        }
    );
    assert!(
        error
            .to_string()
            .starts_with("segment 1: belongs to cluster")
    );
}

#[test]
fn old_contents_of_a_recycled_segment_are_never_read() {
    let mut life = Life::first(1);
    for _ in 0..6 {
        let used = life.log.used_bytes() / OPTIONS.segment_bytes;
        let tail = life
            .now
            .replicas
            .get(&partition(0))
            .map_or(0, |replica| replica.entries.len() as u64);
        let mut decree = tail;
        while life.log.used_bytes() / OPTIONS.segment_bytes <= used {
            decree += 1;
            life.append(entry_record(0, entry(1, decree, vec![7; 2000]), decree - 1));
            life.perform();
            while !life.disk.unflushed.is_empty() {
                life.complete();
            }
        }
        life.log
            .set_durable_in_engine(partition(0), Decree(decree - 1));
        life.markers.get_mut(&partition(0)).unwrap().decree = Decree(decree - 1);
        life.settle();
        let recovery = recovered(&life);
        assert!(recovery.damage.is_empty(), "{:?}", recovery.damage);
        assert_eq!(recovery.replicas[&partition(0)].entries.len(), 1);
    }
    assert!(life.disk.files.len() <= 3, "segments are recycled");
}

#[test]
fn a_suspect_replica_stays_suspect_although_the_next_life_writes_on() {
    let mut life = Life::first(1);
    life.append(adopt(0, 2));
    life.append(adopt(1, 2));
    life.settle();
    let needle = [2_u8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 77];
    let file = &life.disk.files[&SegmentId(1)];
    let kind_of_first_adopt = file
        .windows(needle.len())
        .position(|window| window == needle);
    let at = kind_of_first_adopt.unwrap();
    life.disk.flip(SegmentId(1), at + 24, 1);

    let recovery = recovered(&life);
    assert_eq!(
        recovery.replicas[&partition(0)].suspect.as_deref(),
        Some("an adopted ballot is lost")
    );
    assert!(recovery.replicas[&partition(1)].suspect.is_none());
    let mut log = ShardLog::new(OPTIONS, recovery.start);
    let segment = log.segment_to_prepare().unwrap();
    life.disk.prepare(segment);
    log.on_segment_ready(segment).unwrap();
    for _ in 0..2 {
        life.disk.write(log.next_write().unwrap());
        let id = life.disk.flush(0);
        log.on_durable(id);
    }
    let again = recovered(&life);
    assert!(
        again.replicas[&partition(0)]
            .suspect
            .as_deref()
            .unwrap()
            .starts_with("found damaged before")
    );
    assert!(again.replicas[&partition(1)].suspect.is_none());
}

#[test]
fn a_segment_nobody_asked_for_is_an_error() {
    let mut life = Life::first(1);
    let error = life.log.on_segment_ready(SegmentId(99)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "segment 99 is ready but was not asked for"
    );
}

#[test]
fn options_out_of_range_are_refused_with_a_sentence() {
    let bad = LogOptions {
        segment_bytes: 5000,
        ..OPTIONS
    };
    assert!(bad.check().unwrap_err().contains("segment_bytes 5000"));
    let bad = LogOptions {
        budget_bytes: 1,
        ..OPTIONS
    };
    assert!(bad.check().unwrap_err().contains("less than four segments"));
    LogOptions::default().check().unwrap();
}

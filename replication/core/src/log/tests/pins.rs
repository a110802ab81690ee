//! What the log keeps for a learner, and what it says that it holds.

use super::disk::OPTIONS;
use super::life::Life;
use super::model::{INCARNATION, adopt, entry, entry_record, partition};
use crate::ids::{Ballot, Decree};
use crate::log::{Record, SegmentId};

/// Appends `decrees` of partition 0, 6,000 bytes each, one write after the other.
fn fill(life: &mut Life, decrees: std::ops::RangeInclusive<u64>) {
    for decree in decrees {
        life.append(entry_record(0, entry(1, decree, vec![1; 6000]), 0));
        life.settle();
    }
}

fn is_freed(life: &Life, segment: u64) -> bool {
    !life.disk.files.contains_key(&SegmentId(segment))
}

fn flush(life: &mut Life, decree: u64) {
    life.log.set_durable_in_engine(partition(0), Decree(decree));
}

#[test]
fn what_is_pinned_stays_until_it_is_let_go() {
    let mut life = Life::adopted(1);
    fill(&mut life, 1..=30);
    life.log.pin(partition(0), Decree(1));
    flush(&mut life, 30);
    fill(&mut life, 31..=32);
    assert!(!is_freed(&life, 1));
    assert_eq!(life.log.first_held(partition(0)), Some(Decree(1)));
    life.log.unpin(partition(0));
    fill(&mut life, 33..=34);
    assert!(is_freed(&life, 1));
    assert!(life.log.first_held(partition(0)) > Some(Decree(1)));
}

#[test]
fn pins_do_not_fill_the_log() {
    let mut life = Life::adopted(2);
    fill(&mut life, 1..=5);
    life.log.pin(partition(0), Decree(1));
    for decree in 6..=200 {
        fill(&mut life, decree..=decree);
        flush(&mut life, decree);
        assert!(life.log.used_bytes() * 4 <= OPTIONS.budget_bytes * 3);
    }
    assert!(is_freed(&life, 1));
}

#[test]
fn what_was_appended_again_alone_is_not_taken_for_all() {
    let mut life = Life::adopted(3);
    fill(&mut life, 1..=12);
    for decree in 1..=3 {
        let again = entry_record(0, entry(1, decree, vec![1; 6000]), 0);
        life.appended.push(again.clone());
        assert!(life.log.reappend(again));
    }
    life.settle();
    flush(&mut life, 12);
    for ballot in 1..=40 {
        life.append(adopt(1, ballot));
        life.append(entry_record(1, entry(ballot, ballot, vec![1; 6000]), 0));
        life.settle();
    }
    assert!(is_freed(&life, 1));
    let first = life.log.first_held(partition(0));
    assert!(first.is_none_or(|first| first > Decree(3)), "{first:?}");
}

#[test]
fn a_cut_voids_what_waits_to_be_appended_again() {
    let mut life = Life::adopted(4);
    for decree in 1..=4 {
        life.append(entry_record(0, entry(1, decree, vec![1; 10]), 0));
    }
    life.settle();
    for decree in 1..=4 {
        let again = entry_record(0, entry(1, decree, vec![1; 10]), 0);
        assert!(life.log.reappend(again));
    }
    life.log.append(Record::Cut {
        partition: partition(0),
        incarnation: INCARNATION,
        ballot: Ballot(1),
        decree: Decree(2),
    });
    let mut decrees = Vec::new();
    while let Some(write) = life.log.next_write() {
        let id = write.id;
        let stamps = life.log.on_durable(id);
        decrees.extend(stamps.iter().map(|stamp| stamp.decree.0));
    }
    assert_eq!(decrees, [2, 1, 2], "the cut, then what is below it");
}

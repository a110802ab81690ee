//! What a learner is given of a log in use.

use super::disk::{Disk, IDENTITY};
use super::life::{Life, PARTITIONS};
use super::model::{INCARNATION, adopt, entry, entry_record, partition};
use super::random::Random;
use crate::ids::{Decree, ReplicaIncarnation};
use crate::log::SegmentId;
use crate::log::recover::{SegmentSource, Suffix, SuffixError, SuffixRange};
use crate::message::Entry;
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn range(index: u32, after: u64, up_to: u64) -> SuffixRange {
    SuffixRange {
        partition: partition(index),
        incarnation: INCARNATION,
        after: Decree(after),
        up_to: Decree(up_to),
    }
}

/// All pieces together; checks that they follow one another and say nothing of commits beyond themselves.
fn read<S: SegmentSource>(
    disk: &mut S,
    range: SuffixRange,
    bytes_max: usize,
) -> Result<(Vec<Entry>, Decree), SuffixError> {
    let mut suffix = Suffix::open(disk, IDENTITY, range)?;
    let (mut entries, mut committed) = (Vec::new(), Decree::ZERO);
    while let Some(piece) = suffix.next_piece(bytes_max)? {
        assert!(!piece.entries.is_empty());
        assert!(piece.committed <= piece.entries.last().unwrap().decree);
        committed = committed.max(piece.committed);
        entries.extend(piece.entries);
    }
    let mut decrees = entries.iter().map(|entry| entry.decree);
    let first = decrees.next();
    assert!(first.is_none_or(|first| first == range.after.next()));
    assert!(entries.is_sorted_by(|one, two| one.decree.next() == two.decree));
    Ok((entries, committed))
}

#[test]
fn entries_come_in_order_with_the_last_word_on_each() {
    let mut life = Life::adopted(5);
    for decree in 1..=4 {
        life.append(entry_record(0, entry(1, decree, vec![1; 10]), 1));
    }
    life.append(adopt(0, 2));
    for decree in 2..=3 {
        life.append(entry_record(0, entry(2, decree, vec![2; 10]), 1));
    }
    life.settle();
    let (entries, committed) = read(&mut life.disk, range(0, 0, 3), usize::MAX).unwrap();
    let ballots: Vec<u64> = entries.iter().map(|entry| entry.ballot.0).collect();
    assert_eq!(ballots, [1, 2, 2]);
    assert_eq!(committed, Decree(1));
}

#[test]
fn what_the_log_does_not_hold_is_named() {
    let mut life = Life::adopted(6);
    life.append(entry_record(0, entry(1, 1, vec![1; 10]), 0));
    life.settle();
    let missing = Err(SuffixError::Missing { decree: Decree(2) });
    assert_eq!(read(&mut life.disk, range(0, 0, 2), 1), missing);
    let foreign = SuffixRange {
        incarnation: ReplicaIncarnation(1),
        ..range(0, 0, 1)
    };
    let missing = Err(SuffixError::Missing { decree: Decree(1) });
    assert_eq!(read(&mut life.disk, foreign, 1), missing);
}

const HEADER_BYTES: usize = 4096;

/// Counts what is read of each segment.
struct Counted {
    disk: Disk,
    read: BTreeMap<SegmentId, usize>,
}

impl SegmentSource for Counted {
    fn segments(&self) -> Vec<(SegmentId, u64)> {
        self.disk.segments()
    }

    fn read(&mut self, segment: SegmentId, offset: u64, length: usize) -> Result<Bytes, String> {
        *self.read.entry(segment).or_default() += length;
        self.disk.read(segment, offset, length)
    }
}

#[test]
fn of_segments_without_anything_wanted_only_the_header_is_read() {
    let mut life = Life::adopted(7);
    for decree in 1..=200 {
        for index in 0..2 {
            life.append(entry_record(
                index,
                entry(1, decree, vec![1; 1000]),
                decree - 1,
            ));
            life.settle();
        }
    }
    let mut counted = Counted {
        disk: life.disk.clone(),
        read: BTreeMap::new(),
    };
    let (entries, _) = read(&mut counted, range(0, 190, 200), usize::MAX).unwrap();
    assert_eq!(entries.len(), 10);
    let read_on: Vec<u64> = counted
        .read
        .iter()
        .filter(|(_, bytes)| **bytes > HEADER_BYTES)
        .map(|(segment, _)| segment.0)
        .collect();
    let prepared = counted.read.keys().last().unwrap().0;
    assert_eq!(read_on.last(), Some(&(prepared - 1)), "the empty one ahead");
    assert!(prepared > 50, "{prepared} segments are too few to tell");
    // Twenty entries of both partitions fill three of them.
    assert!(read_on.len() <= 4, "{read_on:?} of {prepared}");
}

proptest! {
    #![proptest_config(super::cases(24))]

    #[test]
    fn a_log_in_use_gives_what_was_written_or_names_what_is_flushed_and_freed(seed in any::<u64>()) {
        let mut life = Life::adopted(seed);
        let mut random = Random(seed ^ 1);
        for _ in 0..300 {
            life.step();
        }
        life.settle();
        for _ in 0..30 {
            life.step();
        }
        let mut durable = life.base.clone();
        life.appended[..life.durable_count].iter().for_each(|record| durable.apply(record));
        for index in 0..PARTITIONS {
            let Some(known) = durable.replicas.get(&partition(index)) else { continue };
            // What is not durable may void the tail, or not.
            let up_to = known.committed;
            let after = Decree(random.below(up_to.0 + 1));
            let bytes_max = random.below(2000) as usize;
            match read(&mut life.disk, range(index, after.0, up_to.0), bytes_max) {
                Ok((entries, _)) => {
                    let wanted = |entry: &&Entry| entry.decree > after && entry.decree <= up_to;
                    let expected: Vec<Entry> = known.entries.values().filter(wanted).cloned().collect();
                    prop_assert_eq!(entries, expected);
                }
                Err(SuffixError::Missing { decree }) => {
                    prop_assert!(decree <= life.markers[&partition(index)].decree);
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
}

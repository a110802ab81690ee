//! What a learner is given of a log in use.

use super::disk::{Disk, IDENTITY};
use super::life::{Life, PARTITIONS};
use super::model::{INCARNATION, adopt, entry, entry_record, partition};
use super::random::Random;
use crate::ids::{Decree, PartitionId, ReplicaIncarnation};
use crate::log::recover::{SegmentSource, Suffix, SuffixError, SuffixRange};
use crate::log::{Position, SegmentId};
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

type Found = Result<(Vec<Entry>, Decree), SuffixError>;

/// All pieces together, of each range by itself; checks that they follow one another, say nothing of commits beyond themselves,
/// and end when they say so.
fn read_all<S: SegmentSource>(
    disk: &mut S,
    ranges: &[SuffixRange],
    start: Position,
    bytes_max: usize,
) -> Vec<Found> {
    let mut suffix = Suffix::open(disk, IDENTITY, ranges, start).unwrap();
    let mut found: BTreeMap<PartitionId, Found> = BTreeMap::new();
    let mut ended = Vec::new();
    while let Some((partition, piece)) = suffix.next_piece(bytes_max) {
        assert!(!ended.contains(&partition), "nothing comes behind the last");
        let all = found
            .entry(partition)
            .or_insert_with(|| Ok((Vec::new(), Decree::ZERO)));
        match piece {
            Ok(piece) => {
                let last = piece.entries.last().map(|entry| entry.decree);
                assert!(last.is_some() || piece.is_last);
                assert!(last.is_none_or(|last| piece.committed <= last));
                if piece.is_last {
                    ended.push(partition);
                }
                let (entries, committed) = all.as_mut().unwrap();
                *committed = piece.committed.max(*committed);
                entries.extend(piece.entries);
            }
            Err(error) => {
                ended.push(partition);
                *all = Err(error);
            }
        }
    }
    assert_eq!(ended.len(), ranges.len());
    let found = ranges.iter().map(|range| {
        let found = found.remove(&range.partition).unwrap();
        if let Ok((entries, _)) = &found {
            let first = entries.first().map(|entry| entry.decree);
            assert!(first.is_none_or(|first| first == range.after.next()));
            assert!(entries.is_sorted_by(|one, two| one.decree.next() == two.decree));
        }
        found
    });
    found.collect()
}

/// The same of one, with everything read.
fn read<S: SegmentSource>(disk: &mut S, range: SuffixRange, bytes_max: usize) -> Found {
    read_all(disk, &[range], Position::START, bytes_max).remove(0)
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

/// 200 decrees of each of three partitions, by turns.
fn three_by_turns(seed: u64) -> Life {
    let mut life = Life::adopted(seed);
    for decree in 1..=200 {
        for index in 0..3 {
            life.append(entry_record(
                index,
                entry(1, decree, vec![1; 1000]),
                decree - 1,
            ));
            life.settle();
        }
    }
    life
}

#[test]
fn of_what_is_before_the_first_entry_wanted_only_headers_are_read() {
    let life = three_by_turns(7);
    let mut counted = Counted {
        disk: life.disk.clone(),
        read: BTreeMap::new(),
    };
    let ranges = [range(0, 190, 200)];
    let start = life.log.suffix_start(&ranges);
    let found = read_all(&mut counted, &ranges, start, usize::MAX);
    assert_eq!(found[0].as_ref().unwrap().0.len(), 10);
    let read_on: Vec<u64> = counted
        .read
        .iter()
        .filter(|(_, bytes)| **bytes > HEADER_BYTES)
        .map(|(segment, _)| segment.0)
        .collect();
    let prepared = counted.read.keys().last().unwrap().0;
    assert_eq!(read_on.last(), Some(&(prepared - 1)), "the empty one ahead");
    assert!(prepared > 50, "{prepared} segments are too few to tell");
    // Thirty entries of the three partitions fill four of them.
    assert!(read_on.len() <= 5, "{read_on:?} of {prepared}");
}

#[test]
fn what_many_want_is_read_once() {
    let life = three_by_turns(8);
    let read_for = |ranges: &[SuffixRange]| {
        let mut counted = Counted {
            disk: life.disk.clone(),
            read: BTreeMap::new(),
        };
        let start = life.log.suffix_start(ranges);
        for found in read_all(&mut counted, ranges, start, 2000) {
            assert_eq!(found.unwrap().0.len(), 150);
        }
        counted.read.values().sum::<usize>()
    };
    let all = read_for(&[range(0, 50, 200), range(1, 50, 200), range(2, 50, 200)]);
    let one = read_for(&[range(1, 50, 200)]);
    assert!(all < one + one / 4, "{all} bytes for three, {one} for one");
}

/// A log whose segments hold many batches.
#[test]
fn reading_begins_within_a_segment() {
    let mut life = Life::adopted(9);
    for decree in 1..=6 {
        life.append(entry_record(0, entry(1, decree, vec![1; 3000]), 0));
        life.settle();
    }
    let start = life.log.suffix_start(&[range(0, 5, 6)]);
    let earlier = life.log.suffix_start(&[range(0, 4, 6)]);
    assert_eq!(start.segment, earlier.segment, "the segment has several");
    assert!(start.offset > earlier.offset);
    let found = read_all(&mut life.disk, &[range(0, 5, 6)], start, 1);
    assert_eq!(found[0].as_ref().unwrap().0.len(), 1);
    let missing = Err(SuffixError::Missing { decree: Decree(5) });
    assert_eq!(
        read_all(&mut life.disk, &[range(0, 4, 6)], start, 1),
        [missing]
    );
    let nothing = life.log.suffix_start(&[range(1, 0, 6)]);
    assert!(nothing > start, "the end, where nothing is held");
}

#[test]
fn who_is_missing_something_does_not_hold_up_the_others() {
    let mut life = three_by_turns(10);
    let ranges = [range(0, 0, 200), range(1, 10, 300), range(2, 200, 200)];
    let found = read_all(&mut life.disk, &ranges, Position::START, 5000);
    assert_eq!(found[0].as_ref().unwrap().0.len(), 200);
    let missing = SuffixError::Missing {
        decree: Decree(201),
    };
    assert_eq!(found[1], Err(missing));
    assert_eq!(found[2], Ok((Vec::new(), Decree::ZERO)));
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
        let mut ranges = Vec::new();
        for index in 0..PARTITIONS {
            let Some(known) = durable.replicas.get(&partition(index)) else { continue };
            // What is not durable may void the tail, or not.
            let up_to = known.committed;
            ranges.push(range(index, random.below(up_to.0 + 1), up_to.0));
        }
        let bytes_max = random.below(2000) as usize;
        let start = life.log.suffix_start(&ranges);
        let found = read_all(&mut life.disk, &ranges, start, bytes_max);
        for (range, found) in ranges.iter().zip(found) {
            let alone = life.log.suffix_start(&[*range]);
            let alone = read_all(&mut life.disk, &[*range], alone, bytes_max);
            prop_assert_eq!(&found, &alone[0], "the same as alone");
            match found {
                Ok((entries, _)) => {
                    let wanted = |entry: &&Entry| entry.decree > range.after && entry.decree <= range.up_to;
                    let known = &durable.replicas[&range.partition];
                    let expected: Vec<Entry> = known.entries.values().filter(wanted).cloned().collect();
                    prop_assert_eq!(entries, expected);
                }
                Err(SuffixError::Missing { decree }) => {
                    prop_assert!(decree <= life.markers[&range.partition].decree);
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
}

use super::*;
use crate::value;
use proptest::prelude::*;
use std::collections::HashMap;

const NOW: u32 = 100;

fn value(data: &[u8], expire_at: u32) -> ValueRef<'_> {
    ValueRef {
        expire_at,
        timetag: value::timetag(data.len() as u64, 0),
        data,
    }
}

fn key(number: u32) -> Vec<u8> {
    let mut key = vec![0, 4];
    key.extend_from_slice(&number.to_be_bytes());
    key
}

fn row(data: &[u8], expire_at: u32) -> Row {
    let value = value(data, expire_at);
    Row {
        expire_at,
        timetag: value.timetag,
        data: Bytes::copy_from_slice(data),
    }
}

#[test]
fn a_look_without_a_copy_finds_what_a_read_finds_and_counts_no_miss() {
    let mut cache = RowCache::new(64 << 10);
    let replica = cache.number_replica();
    let hints: Vec<RowHint> = (0..4).map(|it| RowCache::hint(replica, &key(it))).collect();
    cache.approach(&hints);
    cache.fill(replica, &key(0), Some(value(b"one", 0)));
    cache.fill(replica, &key(1), Some(value(b"gone", NOW - 1)));
    cache.fill(replica, &key(2), None);
    cache.approach(&hints);
    let mut peek = |it: u32, now_s| {
        let found = cache.peek(hints[it as usize], &key(it), now_s);
        found.map(|live| live.map(<[u8]>::to_vec))
    };
    assert_eq!(peek(0, NOW), Some(Some(b"one".to_vec())));
    assert_eq!(peek(1, NOW), Some(None), "expired");
    assert_eq!(peek(1, NOW - 2), Some(Some(b"gone".to_vec())));
    assert_eq!(peek(2, NOW), Some(None), "known to be missing");
    assert_eq!(peek(3, NOW), None, "not known");
    assert_eq!((cache.activity().hits, cache.activity().misses), (4, 0));
    let other = cache.number_replica();
    let hint = RowCache::hint(other, &key(0));
    assert_eq!(cache.peek(hint, &key(0), NOW), None, "of another replica");
}

#[test]
fn a_row_is_found_until_it_is_written_and_then_as_written() {
    let mut cache = RowCache::new(64 << 10);
    let replica = cache.number_replica();
    assert_eq!(cache.get(replica, b"\0\x01a", NOW), None);
    cache.fill(replica, b"\0\x01a", Some(value(b"one", 0)));
    assert_eq!(
        cache.get(replica, b"\0\x01a", NOW),
        Some(Some(row(b"one", 0)))
    );
    // Shorter, then longer than ever.
    for data in [&b"1"[..], b"one", &[7; 300]] {
        cache.put(replica, b"\0\x01a", value(data, 0));
        assert_eq!(
            cache.get(replica, b"\0\x01a", NOW),
            Some(Some(row(data, 0)))
        );
    }
    cache.remove(replica, b"\0\x01a");
    assert_eq!(cache.get(replica, b"\0\x01a", NOW), Some(None));
    cache.put(replica, b"\0\x01a", value(b"back", 0));
    assert_eq!(
        cache.get(replica, b"\0\x01a", NOW),
        Some(Some(row(b"back", 0)))
    );
    cache.forget(replica, b"\0\x01a");
    assert_eq!(cache.get(replica, b"\0\x01a", NOW), None);
    assert_eq!((cache.activity().hits, cache.activity().misses), (6, 2));
}

#[test]
fn rows_that_nobody_read_are_not_cached_by_writing_them() {
    let mut cache = RowCache::new(64 << 10);
    let replica = cache.number_replica();
    cache.put(replica, b"\0\x01a", value(b"v", 0));
    cache.remove(replica, b"\0\x01b");
    assert_eq!(cache.activity().bytes, 0);
}

#[test]
fn expiry_is_judged_at_each_read() {
    let mut cache = RowCache::new(64 << 10);
    let replica = cache.number_replica();
    cache.fill(replica, b"\0\x01a", Some(value(b"v", NOW)));
    assert_eq!(cache.get(replica, b"\0\x01a", NOW), Some(None));
    assert_eq!(
        cache.get(replica, b"\0\x01a", NOW - 1),
        Some(Some(row(b"v", NOW)))
    );
}

#[test]
fn a_replica_that_comes_back_finds_nothing_of_its_former_self() {
    let mut cache = RowCache::new(64 << 10);
    let (before, after) = (cache.number_replica(), cache.number_replica());
    cache.fill(before, b"\0\x01a", Some(value(b"v", 0)));
    assert_eq!(cache.get(after, b"\0\x01a", NOW), None);
}

#[test]
fn without_memory_nothing_is_cached() {
    for bytes in [0, RowCache::BYTES_MIN - 1] {
        let mut cache = RowCache::new(bytes);
        let replica = cache.number_replica();
        cache.fill(replica, b"\0\x01a", Some(value(b"v", 0)));
        assert_eq!(cache.get(replica, b"\0\x01a", NOW), None);
        assert_eq!(cache.activity().bytes, 0);
    }
}

#[test]
fn rows_too_large_are_left_out_and_do_not_leave_an_older_value_behind() {
    let mut cache = RowCache::new(64 << 10);
    let replica = cache.number_replica();
    cache.fill(replica, b"\0\x01a", Some(value(b"small", 0)));
    let large = vec![1; RECORD_BYTES_MAX];
    cache.put(replica, b"\0\x01a", value(&large, 0));
    assert_eq!(cache.get(replica, b"\0\x01a", NOW), None);
    cache.fill(replica, b"\0\x01a", Some(value(&large, 0)));
    assert_eq!(cache.get(replica, b"\0\x01a", NOW), None);
}

/// Reads a row as the engine does: what is not known is filled in. True: it was known.
fn read(cache: &mut RowCache, replica: ReplicaNumber, number: u32) -> bool {
    // Of several lengths, so that records do not just take each other's places.
    let data = number.to_be_bytes().repeat(15 + number as usize % 20);
    let known = cache.get(replica, &key(number), NOW);
    match &known {
        Some(known) => assert_eq!(known.as_ref(), Some(&row(&data, 0))),
        None => cache.fill(replica, &key(number), Some(value(&data, 0))),
    }
    known.is_some()
}

#[test]
fn a_scan_of_many_rows_does_not_push_out_those_that_are_read_again() {
    let mut cache = RowCache::new(1 << 20);
    let replica = cache.number_replica();
    let hot = 0..2_000;
    for _ in 0..4 {
        for number in hot.clone() {
            read(&mut cache, replica, number);
        }
    }
    // One read of fifty is of a hot row.
    for again in hot.clone() {
        for number in 0..50 {
            read(&mut cache, replica, 1_000_000 + 50 * again + number);
        }
        read(&mut cache, replica, again);
    }
    let kept = hot
        .filter(|&number| read(&mut cache, replica, number))
        .count();
    assert!(kept > 1_950, "{kept} of 2000 hot rows are still there");
}

#[test]
fn rows_that_are_read_again_and_again_outlive_those_that_were_read_twice() {
    let mut cache = RowCache::new(1 << 20);
    let replica = cache.number_replica();
    let mut hot = (0..500).cycle();
    let (mut reads, mut hits) = (0, 0);
    // Each of the others gets into the main ring, which holds some thousands.
    for number in 1_000..61_000 {
        read(&mut cache, replica, number);
        read(&mut cache, replica, number);
        if number % 5 == 0
            && let Some(number) = hot.next()
        {
            reads += 1;
            hits += u32::from(read(&mut cache, replica, number));
        }
    }
    assert!(hits * 10 > reads * 9, "{hits} of {reads}");
}

#[test]
fn most_reads_hit_when_a_few_rows_have_most_of_them() {
    let mut cache = RowCache::new(1 << 20);
    let replica = cache.number_replica();
    // Nine of ten reads go to 3,000 of 300,000 rows, which fit in about half of the cache.
    let mut state = 1_u64;
    let mut hits = 0;
    for count in 0..200_000 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let (which, number) = ((state >> 33) % 10, (state >> 40) as u32);
        let number = if which < 9 {
            number % 3_000
        } else {
            3_000 + number % 300_000
        };
        if read(&mut cache, replica, number) && count >= 100_000 {
            hits += 1;
        }
    }
    assert!(hits > 88_000, "{hits} of 100000 reads hit");
}

#[test]
fn it_never_takes_more_than_it_was_given() {
    for bytes in [RowCache::BYTES_MIN, 100_000, 1 << 20] {
        let mut cache = RowCache::new(bytes);
        let taken = cache.index.bytes()
            + size_of_val(&*cache.ghosts)
            + cache.small.bytes()
            + cache.main.bytes();
        assert!(taken <= bytes, "{taken} of {bytes}");
        let replica = cache.number_replica();
        for number in 0..20_000 {
            read(&mut cache, replica, number);
            assert!(cache.activity().bytes <= bytes as u64);
        }
    }
}

#[test]
fn a_hit_allocates_nothing_while_answers_are_given_up() {
    let mut cache = RowCache::new(64 << 10);
    let replica = cache.number_replica();
    cache.fill(replica, b"\0\x01a", Some(value(&[5; 1_000], 0)));
    let read = |cache: &mut RowCache| {
        cache
            .get(replica, b"\0\x01a", NOW)
            .flatten()
            .map(|row| row.data)
    };
    let chunk = read(&mut cache).map(|data| data.as_ptr() as usize);
    let start = chunk.unwrap_or_default();
    for _ in 0..1_000 {
        let data = read(&mut cache).unwrap();
        let at = data.as_ptr() as usize;
        assert!(
            (start..start + ANSWER_CHUNK_BYTES).contains(&at),
            "another chunk"
        );
    }
}

#[derive(Clone, Debug)]
enum Action {
    Read {
        replica: usize,
        key: u32,
        now_s: u32,
    },
    Put {
        replica: usize,
        key: u32,
        bytes: usize,
        expire_at: u32,
    },
    Remove {
        replica: usize,
        key: u32,
    },
    Uncertain {
        replica: usize,
        key: u32,
    },
    Renumber {
        replica: usize,
    },
}

fn action() -> impl Strategy<Value = Action> {
    let (replica, key, time) = (|| 0..2_usize, || 0..60_u32, || 0..4_u32);
    let bytes = prop_oneof![4 => 0..40_usize, 1 => 0..400_usize, 1 => 5_000..20_000_usize];
    prop_oneof![
        8 => (replica(), key(), time()).prop_map(|(replica, key, now_s)| Action::Read { replica, key, now_s }),
        4 => (replica(), key(), bytes, time())
            .prop_map(|(replica, key, bytes, expire_at)| Action::Put { replica, key, bytes, expire_at }),
        2 => (replica(), key()).prop_map(|(replica, key)| Action::Remove { replica, key }),
        1 => (replica(), key()).prop_map(|(replica, key)| Action::Uncertain { replica, key }),
        1 => replica().prop_map(|replica| Action::Renumber { replica }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever is still known is what was last stored.
    #[test]
    fn what_is_known_is_true(bytes in prop_oneof![Just(RowCache::BYTES_MIN), 5_000..9_000_usize, Just(200_000)], actions in prop::collection::vec(action(), 1..600)) {
        let mut cache = RowCache::new(bytes);
        let mut numbers = [cache.number_replica(), cache.number_replica()];
        let mut stored: [HashMap<u32, (Vec<u8>, u32)>; 2] = Default::default();
        for (count, action) in actions.into_iter().enumerate() {
            match action {
                Action::Read { replica, key: number, now_s } => {
                    let there = stored[replica].get(&number);
                    let live = there
                        .filter(|(_, expire_at)| !is_expired(*expire_at, now_s))
                        .map(|(data, expire_at)| row(data, *expire_at));
                    match cache.get(numbers[replica], &key(number), now_s) {
                        Some(known) => prop_assert_eq!(known, live),
                        None => {
                            let there = there.map(|(data, expire_at)| value(data, *expire_at));
                            cache.fill(numbers[replica], &key(number), there);
                        }
                    }
                }
                Action::Put { replica, key: number, bytes, expire_at } => {
                    let data = vec![count.to_le_bytes()[0]; bytes];
                    cache.put(numbers[replica], &key(number), value(&data, expire_at));
                    stored[replica].insert(number, (data, expire_at));
                }
                Action::Remove { replica, key: number } => {
                    cache.remove(numbers[replica], &key(number));
                    stored[replica].remove(&number);
                }
                Action::Uncertain { replica, key: number } => {
                    cache.forget(numbers[replica], &key(number));
                    prop_assert_eq!(cache.get(numbers[replica], &key(number), 0), None);
                    stored[replica].remove(&number);
                }
                Action::Renumber { replica } => {
                    numbers[replica] = cache.number_replica();
                    stored[replica].clear();
                }
            }
        }
    }
}

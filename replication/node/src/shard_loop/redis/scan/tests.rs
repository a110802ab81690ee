#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;
use crate::shard_loop::redis::tests::{PARTITION, Replica, call};
use pegasus_replication::ids::TableId;

/// Goes through everything as a client does; the names in the order they come, and how many pages it took.
fn all(replica: &Replica, cursors: &mut Cursors, first: &str, rest: &str) -> (Vec<String>, usize) {
    let (mut names, mut number, mut pages) = (Vec::new(), 0, 0);
    loop {
        let call = call(&format!("{first} {number} {rest}"));
        let after = cursors.after(&call, PARTITION);
        let mut scan = RedisScan::new(&call, after, 0).unwrap().unwrap();
        let reply = scan.step(replica, PARTITION, Tier::CacheOnly).unwrap();
        let Some(Ok(Response::Redis(page))) = reply else {
            panic!("{reply:?}");
        };
        let Value::Array(page) = cursors.number(PARTITION, page) else {
            panic!("a page is an array");
        };
        let [Value::Bulk(next), Value::Array(items)] = &page[..] else {
            panic!("{page:?}");
        };
        for item in items {
            let Value::Bulk(name) = item else {
                panic!("{item:?}");
            };
            names.push(String::from_utf8_lossy(name).into_owned());
        }
        pages += 1;
        number = cursor_of(next).unwrap();
        if number == 0 {
            return (names, pages);
        }
    }
}

fn filled() -> Replica {
    let mut replica = Replica::default();
    for key in ["a", "bb", "ccc"] {
        replica.put(key, "", "string");
    }
    for field in 0..50 {
        replica.put("hash", &format!("field{field:02}"), "v");
    }
    replica.put("z", "", "string");
    replica
}

#[test]
fn a_scan_names_every_key_once_however_small_its_pages() {
    let replica = filled();
    for count in [1, 2, 3, 1000] {
        let mut cursors = Cursors::default();
        let rest = format!("COUNT {count}");
        let (mut names, pages) = all(&replica, &mut cursors, "SCAN", &rest);
        names.sort_unstable();
        assert_eq!(names, ["a", "bb", "ccc", "hash", "z"], "{count}");
        assert!(
            pages <= 6,
            "the fields of a hash are jumped over: {pages} pages"
        );
    }
}

#[test]
fn a_scan_can_be_narrowed_by_pattern_and_by_type() {
    let (replica, mut cursors) = (filled(), Cursors::default());
    let mut names = |rest: &str| all(&replica, &mut cursors, "SCAN", rest).0;
    assert_eq!(names("MATCH b*"), ["bb"]);
    assert_eq!(names("TYPE hash"), ["hash"]);
    assert_eq!(names("TYPE string MATCH ?"), ["a", "z"]);
    assert!(names("TYPE list").is_empty());
}

#[test]
fn a_page_ends_where_comparing_names_has_taken_long() {
    let (mut replica, mut cursors) = (Replica::default(), Cursors::default());
    let long = "n".repeat(300);
    for number in 0..10 {
        replica.put(&format!("{long}{number}"), "", "v");
    }
    let pattern = "*n".repeat(400);
    let options = format!("COUNT 100 MATCH {pattern}*");
    let (names, pages) = all(&replica, &mut cursors, "SCAN", &options);
    assert_eq!(names.len(), 0, "no name has 400 of them");
    assert!((4..10).contains(&pages), "{pages} pages of 240 KB each");
    let options = format!("COUNT 100 MATCH {}*", "*n".repeat(300));
    assert_eq!(all(&replica, &mut cursors, "SCAN", &options).0.len(), 10);
}

#[test]
fn what_takes_long_to_compare_is_compared_on_the_pool() {
    let mut replica = Replica::default();
    replica.put(&"n".repeat(60_000), "", "v");
    let call = call(&format!("SCAN 0 MATCH {}", "*n".repeat(100)));
    let mut scan = RedisScan::new(&call, None, 0).unwrap().unwrap();
    let on_core = scan.step(&replica, PARTITION, Tier::CacheOnly);
    assert!(matches!(on_core, Err(ReadError::Incomplete { .. })));
    assert!(
        scan.step(&replica, PARTITION, Tier::Full)
            .unwrap()
            .is_some()
    );
}

#[test]
fn a_pattern_that_is_too_long_is_refused() {
    let call = call(&format!("SCAN 0 MATCH {}", "*".repeat(1025)));
    let refused = RedisScan::new(&call, None, 0).unwrap().err();
    assert_eq!(refused, Some(answer::error(answer::LONG_PATTERN)));
}

#[test]
fn a_hash_is_gone_through_in_pages() {
    let (replica, mut cursors) = (filled(), Cursors::default());
    let (items, pages) = all(&replica, &mut cursors, "HSCAN hash", "COUNT 8");
    assert_eq!(items.len(), 100, "fields and values");
    assert_eq!(pages, 7);
    let (items, _) = all(&replica, &mut cursors, "HSCAN hash", "MATCH field4?");
    assert_eq!(items.len(), 20);
    assert!(
        all(&replica, &mut cursors, "HSCAN nothing", "")
            .0
            .is_empty()
    );
}

#[test]
fn a_scan_of_a_strings_fields_is_refused() {
    let replica = filled();
    let call = call("HSCAN a 0");
    let mut scan = RedisScan::new(&call, None, 0).unwrap().unwrap();
    let reply = scan.step(&replica, PARTITION, Tier::CacheOnly).unwrap();
    let wrong = Response::Redis(answer::error(answer::WRONG_TYPE));
    assert_eq!(reply, Some(Ok(wrong)));
}

#[test]
fn options_that_make_no_sense_are_refused() {
    for (line, error) in [
        ("SCAN x", answer::INVALID_CURSOR),
        ("SCAN -1", answer::INVALID_CURSOR),
        ("SCAN 0 COUNT 0", answer::SYNTAX),
        ("SCAN 0 COUNT x", answer::NOT_AN_INTEGER),
        ("SCAN 0 MATCH", answer::SYNTAX),
        ("SCAN 0 NOSUCH 1", answer::SYNTAX),
        ("HSCAN h 0 TYPE hash", answer::SYNTAX),
    ] {
        assert_eq!(
            Options::of(&call(line)),
            Err(answer::error(error)),
            "{line}"
        );
    }
}

#[test]
fn a_cursor_names_its_own_place_only_and_the_oldest_are_forgotten() {
    let mut cursors = Cursors::default();
    let page = |raw_key: &[u8]| {
        let after = Value::Bulk(Bytes::copy_from_slice(raw_key));
        Value::Push(vec![after, Value::Array(Vec::new())])
    };
    let number =
        |cursors: &mut Cursors, raw_key: &[u8]| match cursors.number(PARTITION, page(raw_key)) {
            Value::Array(page) => match &page[0] {
                Value::Bulk(number) => cursor_of(number).unwrap(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        };
    let first = number(&mut cursors, b"\0\x01a");
    assert_eq!(
        number(&mut cursors, b"\0\x01a"),
        first,
        "asking twice costs nothing"
    );
    let at = |cursors: &Cursors, number: u64, partition| {
        cursors.after(&call(&format!("SCAN {number}")), partition)
    };
    assert_eq!(
        at(&cursors, first, PARTITION).as_deref(),
        Some(&b"\0\x01a"[..])
    );
    let other = PartitionId {
        table: TableId(9),
        ..PARTITION
    };
    assert_eq!(at(&cursors, first, other), None);
    assert_eq!(at(&cursors, first + 1, PARTITION), None);
    let of_another_hash = call(&format!("HSCAN b {first}"));
    assert_eq!(cursors.after(&of_another_hash, PARTITION), None);
    for key in 0..CURSORS_MAX {
        number(&mut cursors, format!("\0\x05{key:05}").as_bytes());
    }
    assert_eq!(at(&cursors, first, PARTITION), None);
    assert_eq!(cursors.after.len(), cursors.numbers.len());
}

#[test]
fn pages_lead_from_partition_to_partition() {
    let page =
        |number: &'static str| Value::Array(vec![answer::text(number), Value::Array(Vec::new())]);
    let cursor = |value: Value| match value {
        Value::Array(page) => match &page[0] {
            Value::Bulk(number) => cursor_of(number).unwrap(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    assert_eq!(cursor(with_partition(page("5"), 3, 8)), 3 << 48 | 5);
    assert_eq!(cursor(with_partition(page("0"), 3, 8)), 4 << 48);
    assert_eq!(cursor(with_partition(page("0"), 7, 8)), 0);
    let options = Options::of(&call(&format!("SCAN {}", 4_u64 << 48))).unwrap();
    assert_eq!(options.partition(), 4);
}

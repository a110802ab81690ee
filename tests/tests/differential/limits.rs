//! Limits of answers and of keys, by reads of one table that every protocol looks at.

use super::apache::Apache;
use super::native::Native;
use super::redis::Redis;
use super::{PARTITIONS, Site, Speaker, now};
use e2e::apache::Form;
use e2e::model::{Answer, Filter, Match, Model, MultiGet, Operation};

const TABLE: &str = "limits";
/// A hash key with more rows than an answer may have.
const MANY: &[u8] = b"many";
const ROWS: usize = 3_005;
/// A hash key whose rows are larger together than an answer may be.
const LARGE: &[u8] = b"large";
const LARGE_ROWS: usize = 32;
/// A write may have 1 MiB with all that is around it.
const LARGE_ROW_BYTES: usize = 1_040_000;
/// Rows of one write.
const AT_ONCE: usize = 1_000;

#[test]
fn limits_of_answers_and_keys_are_the_same_through_every_protocol() {
    let site = Site::new();
    let meta = site.cluster.meta();
    site.cluster.create_table(TABLE, PARTITIONS, 1).unwrap();
    let mut model = Model::new(now(), 0);
    let mut native = Native::open(meta, TABLE);
    for write in writes() {
        assert_eq!(model.apply(&write), Answer::Done);
        assert_eq!(native.ask(&write), Some(Answer::Done));
    }
    follow(&mut model, &mut native, "native");
    for form in Form::ALL {
        let name = format!("{form:?}");
        follow(&mut model, &mut Apache::open(meta, form, TABLE), &name);
    }
    let mut redis = Redis::open(&site.address(), TABLE);
    let count = |hash: &[u8]| Operation::SortkeyCount(hash.to_vec());
    for (hash, rows) in [(MANY, ROWS), (LARGE, LARGE_ROWS)] {
        let found = redis.ask(&count(hash));
        assert_eq!(found, Some(Answer::Count(rows as u64)));
    }
    // Redis knows no answer that is cut: all of it, or an error.
    let all = Operation::MultiGet(MANY.to_vec(), MultiGet::default());
    let Some(Answer::Rows(rows, _)) = redis.ask(&all) else {
        panic!("a hash is rows");
    };
    assert_eq!(rows.len(), ROWS);
    let error = redis.error(&[b"HGETALL", LARGE]);
    assert!(error.contains("HSCAN"), "{error}");
}

/// What fails is said without its rows: there are too many.
fn follow(model: &mut Model, speaker: &mut dyn Speaker, name: &str) {
    for (what, operation) in questions() {
        let (expected, found) = (model.apply(&operation), speaker.ask(&operation));
        let Some(found) = found else {
            continue;
        };
        assert!(
            expected.agrees_with(&found),
            "{name}, {what}: expected {}, found {}",
            summary(&expected),
            summary(&found)
        );
    }
}

fn summary(answer: &Answer) -> String {
    match answer {
        Answer::Rows(rows, is_all) => format!("{} rows, all: {is_all:?}", rows.len()),
        Answer::Seen(rows) => format!("{} rows", rows.len()),
        other => format!("{other:?}"),
    }
}

fn writes() -> impl Iterator<Item = Operation> {
    let rows: Vec<_> = (0..ROWS)
        .map(|row| (sort_key(row), b"v".to_vec()))
        .collect();
    let at_once = rows.chunks(AT_ONCE).map(<[_]>::to_vec);
    let many = at_once.map(|rows| Operation::MultiPut(MANY.to_vec(), rows, 0));
    let large = (0..LARGE_ROWS).map(|row| {
        let value = vec![b'v'; LARGE_ROW_BYTES];
        Operation::Put(LARGE.to_vec(), sort_key(row), value, 0)
    });
    many.collect::<Vec<_>>().into_iter().chain(large)
}

fn sort_key(row: usize) -> Vec<u8> {
    format!("{row:04}").into_bytes()
}

fn questions() -> Vec<(&'static str, Operation)> {
    let many = |asked| Operation::MultiGet(MANY.to_vec(), asked);
    let large = |asked| Operation::MultiGet(LARGE.to_vec(), asked);
    let named = |rows| (0..rows).map(sort_key).collect::<Vec<_>>();
    let all = || MultiGet {
        start_inclusive: true,
        ..MultiGet::default()
    };
    let limited = |max_rows| MultiGet { max_rows, ..all() };
    let filtered = |kind, text: &[u8]| MultiGet {
        filter: Some((kind, text.to_vec())),
        ..all()
    };
    let prefix = |text: &[u8]| -> Filter { Some((Match::Prefix, text.to_vec())) };
    vec![
        ("all of many", many(all())),
        (
            "the last of many",
            many(MultiGet {
                reverse: true,
                ..all()
            }),
        ),
        ("as many as there may be", many(limited(3_000))),
        ("more than there may be", many(limited(3_001))),
        ("fewer than there may be", many(limited(2_999))),
        (
            "a range with room",
            many(MultiGet {
                start: sort_key(10),
                ..all()
            }),
        ),
        (
            "a range up to the limit",
            many(MultiGet {
                stop: sort_key(3_000),
                ..all()
            }),
        ),
        (
            "what is behind the last row looked at",
            many(filtered(Match::Postfix, b"3004")),
        ),
        (
            "the same from the other end",
            many(MultiGet {
                reverse: true,
                ..filtered(Match::Postfix, b"3004")
            }),
        ),
        (
            "what is before it",
            many(filtered(Match::Anywhere, b"2999")),
        ),
        (
            "a prefix, which narrows the range",
            many(filtered(Match::Prefix, b"30")),
        ),
        (
            "many by name",
            many(MultiGet {
                sort_keys: named(ROWS),
                ..MultiGet::default()
            }),
        ),
        ("the number of many", Operation::SortkeyCount(MANY.to_vec())),
        (
            "a batch of many",
            Operation::BatchGet(MANY.to_vec(), named(ROWS)),
        ),
        ("a scan of many", Operation::Scan(prefix(MANY), None, 0)),
        (
            "a scan with larger pages than there may be",
            Operation::Scan(prefix(MANY), None, 5_000),
        ),
        ("a count of all", Operation::Count(None, None)),
        ("all of large", large(all())),
        (
            "the last of large",
            large(MultiGet {
                reverse: true,
                ..all()
            }),
        ),
        (
            "large by name",
            large(MultiGet {
                sort_keys: named(LARGE_ROWS),
                ..MultiGet::default()
            }),
        ),
        (
            "large without values",
            large(MultiGet {
                no_value: true,
                ..all()
            }),
        ),
        (
            "two of large and the one that crosses the limit",
            large(MultiGet {
                max_bytes: 2_100_000,
                ..all()
            }),
        ),
        (
            "a hash key over the limit",
            Operation::Get(vec![b'h'; 65_535], Vec::new()),
        ),
        (
            "a write to a hash key over the limit",
            Operation::Put(vec![b'h'; 65_535], Vec::new(), b"v".to_vec(), 0),
        ),
        (
            "rows of a hash key over the limit",
            Operation::SortkeyCount(vec![b'h'; 65_535]),
        ),
        (
            "a hash key at the limit",
            Operation::Get(vec![b'h'; 65_534], Vec::new()),
        ),
    ]
}

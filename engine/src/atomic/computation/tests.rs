use super::*;
use crate::atomic::Evaluation;
use crate::op::Batch;
use crate::value::EPOCH_UNIX_S;
use crate::{MemEngine, key};
use pegasus_replication::ids::{Ballot, Decree, ReplicaIncarnation, RequestId, TableId};
use proptest::prelude::*;

/// Second 100, and no expiry of the table's.
pub(in crate::atomic) const MOMENT: Moment = moment(100, 0);

pub(in crate::atomic) const fn moment(now_s: u64, default_ttl_s: u32) -> Moment {
    Moment {
        wall_us: (EPOCH_UNIX_S + now_s) * 1_000_000,
        default_ttl_s,
    }
}

pub(in crate::atomic) fn row(data: &[u8], expire_at: u32) -> Row {
    Row {
        expire_at,
        timetag: 0,
        data: Bytes::copy_from_slice(data),
    }
}

/// Rows of the hash key "h" by their sort keys.
pub(in crate::atomic) fn rows<const N: usize>(rows: [(&[u8], Option<Row>); N]) -> Rows {
    let named = rows.into_iter();
    Rows {
        named: named.map(|(sort_key, row)| (raw(sort_key), row)).collect(),
        ..Rows::default()
    }
}

fn raw(sort_key: &[u8]) -> Bytes {
    key::encode(b"h", sort_key).unwrap()
}

const PARTITION: PartitionId = PartitionId {
    table: TableId(1),
    index: 0,
};

/// What a test writes: sort key, and value with expiry; `None` = removed.
type Write<'a> = (&'a str, Option<(&'a str, u32)>);

fn payload(writes: &[Write<'_>]) -> Bytes {
    let mut batch = Batch::new();
    for (sort_key, row) in writes {
        match row {
            Some((value, expire_at)) => {
                batch.put(&raw(sort_key.as_bytes()), value.as_bytes(), *expire_at)
            }
            None => batch.remove(&raw(sort_key.as_bytes())),
        }
        .unwrap();
    }
    batch.encode()
}

/// An engine that has applied these.
fn engine(writes: &[Write<'_>]) -> MemEngine {
    let mut engine = MemEngine::default();
    engine.create(PARTITION, ReplicaIncarnation(1));
    let id = RequestId::default();
    engine
        .apply(
            PARTITION,
            Decree(1),
            Ballot::new(0, 1),
            1,
            id,
            &payload(writes),
        )
        .unwrap();
    engine
}

fn source(engine: &MemEngine, tier: Tier) -> EngineSource<'_, MemEngine> {
    EngineSource {
        engine,
        partition: PARTITION,
        tier,
    }
}

/// Tells what it has seen.
struct Look {
    sort_keys: Vec<&'static str>,
    head: Option<usize>,
}

impl Program for Look {
    type Answer = Vec<String>;

    fn evaluate(&mut self, rows: &Rows, _: Moment) -> Result<Evaluation<Vec<String>>, Need> {
        let show = |name: &[u8], row: Option<&Row>| {
            let name = String::from_utf8_lossy(name).into_owned();
            let value = row.map_or("-".into(), |row| String::from_utf8_lossy(&row.data));
            format!("{name}={value}")
        };
        let mut seen = Vec::new();
        for sort_key in &self.sort_keys {
            let raw_key = raw(sort_key.as_bytes());
            seen.push(show(sort_key.as_bytes(), rows.row(&raw_key)?));
        }
        if let Some(asked) = self.head {
            let Some(head) = rows.head() else {
                return Err(Need::Head {
                    prefix: raw(b""),
                    rows: asked,
                });
            };
            assert_eq!(head.asked, asked);
            let head = head.rows.iter();
            seen.extend(head.map(|it| show(key::decode(&it.key).unwrap().1, Some(&it.row))));
        }
        Ok(Evaluation::unchanged(seen))
    }
}

fn named(sort_keys: &[&'static str]) -> Computation<Look> {
    let look = Look {
        sort_keys: sort_keys.to_vec(),
        head: None,
    };
    Computation::new(look, MOMENT)
}

fn head(asked: usize) -> Computation<Look> {
    let look = Look {
        sort_keys: Vec::new(),
        head: Some(asked),
    };
    Computation::new(look, MOMENT)
}

#[test]
fn a_row_is_that_of_the_newest_mutation_in_flight_that_names_it() {
    let engine = engine(&[
        ("a", Some(("0", 0))),
        ("b", Some(("0", 0))),
        ("c", Some(("0", 0))),
    ]);
    let inflight = [
        payload(&[("a", Some(("2", 0)))]),
        payload(&[("a", Some(("1", 0))), ("b", Some(("x", 0))), ("b", None)]),
    ];
    let source = source(&engine, Tier::CacheOnly);
    let mut computation = named(&["a", "b", "c", "d"]);
    let evaluation = computation.run(|| inflight.iter(), &source).unwrap();
    assert_eq!(evaluation.answer, ["a=2", "b=-", "c=0", "d=-"]);
}

#[test]
fn rows_in_flight_expire_like_others() {
    let engine = engine(&[("a", Some(("0", 101))), ("b", Some(("0", 0)))]);
    let inflight = [payload(&[("b", Some(("1", 100)))])];
    let source = source(&engine, Tier::CacheOnly);
    let mut computation = named(&["a", "b"]);
    let evaluation = computation.run(|| inflight.iter(), &source).unwrap();
    assert_eq!(evaluation.answer, ["a=0", "b=-"]);
}

#[test]
fn what_was_in_flight_counts_after_it_is_detached() {
    let engine = engine(&[("a", Some(("0", 0)))]);
    let inflight = [
        payload(&[("a", Some(("2", 0)))]),
        payload(&[("a", Some(("1", 0))), ("b", Some(("1", 0)))]),
    ];
    let mut computation = named(&["a", "b"]);
    computation.detach(inflight.iter());
    let source = source(&engine, Tier::Full);
    let evaluation = computation.run(|| [].iter(), &source).unwrap();
    assert_eq!(evaluation.answer, ["a=2", "b=1"]);
}

#[test]
fn the_head_has_what_is_in_flight_in_its_place() {
    let stored = [
        ("a", Some(("0", 0))),
        ("b", Some(("0", 0))),
        ("d", Some(("0", 0))),
        ("e", Some(("0", 0))),
    ];
    let engine = engine(&stored);
    let inflight = [
        payload(&[("a", None), ("c", Some(("1", 0)))]),
        payload(&[
            ("a", Some(("1", 0))),
            ("d", Some(("1", 0))),
            ("f", Some(("1", 100))),
        ]),
    ];
    let source = source(&engine, Tier::CacheOnly);
    let answer = |asked| head(asked).run(|| inflight.iter(), &source).unwrap().answer;
    assert_eq!(answer(9), ["b=0", "c=1", "d=1", "e=0"]);
    assert_eq!(answer(3), ["b=0", "c=1", "d=1"]);
    assert_eq!(answer(1), ["b=0"]);
}

#[test]
fn rows_of_other_hash_keys_are_not_in_the_head() {
    let mut engine = engine(&[("a", Some(("0", 0)))]);
    let mut other = Batch::new();
    other
        .put(&key::encode(b"g", b"x").unwrap(), b"1", 0)
        .unwrap();
    other
        .put(&key::encode(b"h2", b"x").unwrap(), b"1", 0)
        .unwrap();
    let (ballot, id) = (Ballot::new(0, 1), RequestId::default());
    engine
        .apply(PARTITION, Decree(2), ballot, 1, id, &other.encode())
        .unwrap();
    let inflight = [other.encode()];
    let source = source(&engine, Tier::CacheOnly);
    let evaluation = head(9).run(|| inflight.iter(), &source).unwrap();
    assert_eq!(evaluation.answer, ["a=0"]);
}

#[test]
fn more_rows_than_a_turn_may_read_are_left_to_a_source_that_may_wait() {
    let names: Vec<String> = (0..TURN_EXAMINED_DEFAULT + 1)
        .map(|index| format!("{index:04}"))
        .collect();
    let writes: Vec<Write<'_>> = names
        .iter()
        .map(|name| (&name[..], Some(("0", 0))))
        .collect();
    let engine = engine(&writes);
    let mut computation = head(1000);
    let error = computation
        .run(|| [].iter(), &source(&engine, Tier::CacheOnly))
        .unwrap_err();
    assert_eq!(
        error,
        ReadError::Incomplete {
            partition: PARTITION
        }
    );
    let evaluation = computation
        .run(|| [].iter(), &source(&engine, Tier::Full))
        .unwrap();
    assert_eq!(evaluation.answer.len(), names.len());
}

fn changes() -> impl Strategy<Value = Vec<Vec<(usize, Option<u32>)>>> {
    let change = (
        0..NAMES.len(),
        prop::option::of(prop::sample::select(vec![0, 100, 101])),
    );
    prop::collection::vec(prop::collection::vec(change, 1..4), 0..12)
}

const NAMES: [&str; 5] = ["", "a", "b", "c", "d"];

proptest! {
    #[test]
    fn rows_kept_of_what_is_in_flight_answer_as_the_payloads_do(
        changes in changes(), applied in 0_usize..12, asked in 1_usize..6,
    ) {
        let payloads: Vec<Bytes> = changes.iter().map(|batch| {
            let writes: Vec<Write<'_>> = batch.iter()
                .map(|(name, put)| (NAMES[*name], put.map(|expire_at| ("1", expire_at))))
                .collect();
            payload(&writes)
        }).collect();
        let applied = applied.min(payloads.len());
        let mut engine = engine(&[("a", Some(("0", 0))), ("c", Some(("0", 0)))]);
        let mut prepared = Prepared::default();
        for (decree, payload) in (2..).zip(&payloads) {
            prepared.add(Decree(decree), payload);
        }
        for (decree, payload) in (2..).zip(&payloads[..applied]) {
            let (ballot, id) = (Ballot::new(0, 1), RequestId::default());
            engine.apply(PARTITION, Decree(decree), ballot, 1, id, payload).unwrap();
        }
        prepared.set_applied(Decree(1 + applied as u64));
        let source = source(&engine, Tier::CacheOnly);
        let inflight = &payloads[applied..];
        for asks in [|_| named(&NAMES), head] {
            let walked = asks(asked).run(|| inflight.iter().rev(), &source).unwrap();
            let kept = asks(asked).run_over(&prepared, &source).unwrap();
            prop_assert_eq!(kept.answer, walked.answer);
        }
    }
}

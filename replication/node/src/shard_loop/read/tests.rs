//! Reads of several rows, against a source that changes between two calls, as a replica under writes does.

use super::*;
use pegasus_engine::scan::{KeyedRow, Stop};
use pegasus_net::request::{Filter, SortKeyRange};
use pegasus_replication::ids::TableId;
use std::cell::Cell;

const PARTITION: PartitionId = PartitionId {
    table: TableId(1),
    index: 0,
};

/// Every row holds the number of the call that reads it; a page ends after two rows if it is bounded in time.
#[derive(Default)]
struct Changing {
    calls: Cell<u8>,
    /// Rows that were asked for by name.
    named: Cell<usize>,
}

impl Changing {
    fn row_now(&self) -> EngineRow {
        EngineRow {
            expire_at: 0,
            timetag: 0,
            data: Bytes::copy_from_slice(&[self.calls.get()]),
        }
    }
}

impl RowSource for Changing {
    fn row(
        &self,
        _: PartitionId,
        _: &[u8],
        _: u32,
        _: Tier,
    ) -> Result<Option<EngineRow>, ReadError> {
        self.calls.set(self.calls.get() + 1);
        Ok(Some(self.row_now()))
    }

    fn rows(
        &self,
        _: PartitionId,
        raw_keys: &[Bytes],
        _: u32,
        _: Tier,
        see: &mut dyn FnMut(Option<EngineRow>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.calls.set(self.calls.get() + 1);
        self.named.set(self.named.get() + raw_keys.len());
        let _ = raw_keys.iter().try_for_each(|_| see(Some(self.row_now())));
        Ok(())
    }

    fn page(&self, _: PartitionId, spec: &ScanSpec, _: Tier) -> Result<ScanPage, ReadError> {
        self.calls.set(self.calls.get() + 1);
        let row_of = |sort_key: &[u8]| KeyedRow {
            key: key::encode(b"h", sort_key).expect("short keys"),
            row: self.row_now(),
        };
        let is_bounded = spec.turn_time_max.is_some();
        let rows: Vec<KeyedRow> = if is_bounded {
            vec![row_of(b"a"), row_of(b"b")]
        } else {
            vec![row_of(b"a"), row_of(b"b"), row_of(b"c")]
        };
        let after = rows.last().expect("two at least").key.clone();
        let stop = if is_bounded {
            Stop::Yield { after }
        } else {
            Stop::Exhausted
        };
        Ok(ScanPage {
            count: rows.len(),
            examined: rows.len(),
            bytes: 0,
            rows,
            stop,
        })
    }
}

fn multi_get(rows: MultiGetRows) -> ReadTask {
    let operation = Operation::MultiGet(MultiGet {
        hash_key: Bytes::from_static(b"h"),
        rows,
        max_rows: 0,
        max_bytes: 0,
        no_value: false,
    });
    ReadTask::new(PARTITION, operation, 1).expect("a good request")
}

/// One step on the core that does not come to the end, then the pool.
fn values_after_a_change(mut task: ReadTask) -> Vec<u8> {
    let source = Changing::default();
    assert!(matches!(task.step(&source, Tier::CacheOnly), Step::More));
    assert!(task.is_of_one_hash_key());
    match task.finish(&source) {
        ReadOutcome::Answer(Ok(Response::Rows(rows))) => {
            assert!(rows.complete);
            rows.rows.iter().map(|row| row.value[0]).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn rows_of_one_hash_key_read_by_name_are_of_one_state_of_the_replica() {
    let count = 3 * KEYS_PER_STEP;
    let names = (0..count).map(|n| Bytes::from(format!("s{n}")));
    let values = values_after_a_change(multi_get(MultiGetRows::Named(names.collect())));
    // All are of the one call on the pool, after the calls of the step.
    let last_call = u8::try_from(KEYS_PER_STEP + 1).expect("a small step");
    assert_eq!(values, vec![last_call; count]);
}

#[test]
fn a_row_that_is_named_again_and_again_is_read_once() {
    let source = Changing::default();
    let names = ["b", "a"].map(Bytes::from).into_iter().cycle();
    let names = names.take(3 * KEYS_PER_STEP).collect();
    let outcome = multi_get(MultiGetRows::Named(names)).finish(&source);
    let ReadOutcome::Answer(Ok(Response::Rows(rows))) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(source.named.get(), 2);
    let found = rows.rows.iter().map(|row| &row.sort_key[..]);
    let expected = [&b"b"[..], b"a"].into_iter().cycle();
    assert!(found.eq(expected.take(3 * KEYS_PER_STEP)));
}

#[test]
fn keys_of_too_many_bytes_are_refused_before_they_are_made() {
    let names = (0..1024_u32).map(|n| Bytes::copy_from_slice(&n.to_be_bytes()));
    let operation = Operation::MultiGet(MultiGet {
        hash_key: Bytes::from(vec![b'h'; 60_000]),
        rows: MultiGetRows::Named(names.collect()),
        max_rows: 0,
        max_bytes: 0,
        no_value: false,
    });
    let refused = ReadTask::new(PARTITION, operation, 1).expect_err("60 MB of keys");
    assert_eq!(refused.code, Code::TooLarge);
}

/// Counts the rows that are asked for, each of so many bytes.
struct Large {
    bytes: usize,
    asked: Cell<usize>,
}

impl RowSource for Large {
    fn row(
        &self,
        _: PartitionId,
        _: &[u8],
        _: u32,
        _: Tier,
    ) -> Result<Option<EngineRow>, ReadError> {
        self.asked.set(self.asked.get() + 1);
        Ok(Some(EngineRow {
            expire_at: 0,
            timetag: 0,
            data: Bytes::from(vec![0; self.bytes]),
        }))
    }

    fn rows(
        &self,
        partition: PartitionId,
        raw_keys: &[Bytes],
        now_s: u32,
        tier: Tier,
        see: &mut dyn FnMut(Option<EngineRow>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        for raw_key in raw_keys {
            if see(self.row(partition, raw_key, now_s, tier)?).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn page(&self, _: PartitionId, _: &ScanSpec, _: Tier) -> Result<ScanPage, ReadError> {
        Ok(ScanPage::empty())
    }
}

#[test]
fn a_step_over_large_rows_ends_early_and_one_over_small_rows_after_so_many_keys() {
    for (bytes, asked_in_a_step) in [(1 << 20, 1), (100 << 10, 3), (100, KEYS_PER_STEP)] {
        let names = (0..KEYS_PER_STEP + 1).map(|n| Key {
            hash_key: Bytes::from(format!("h{n}")),
            sort_key: Bytes::new(),
        });
        let batch_get = Operation::BatchGet(names.collect());
        let mut task = ReadTask::new(PARTITION, batch_get, 1).expect("a good request");
        let source = Large {
            bytes,
            asked: Cell::new(0),
        };
        assert!(matches!(task.step(&source, Tier::CacheOnly), Step::More));
        assert_eq!(source.asked.get(), asked_in_a_step, "rows of {bytes} bytes");
    }
}

#[test]
fn large_rows_of_one_hash_key_are_read_only_as_far_as_the_answer_holds_them() {
    let source = Large {
        bytes: 1 << 20,
        asked: Cell::new(0),
    };
    let names = (0..1000).map(|n| Bytes::from(format!("s{n}")));
    let outcome = multi_get(MultiGetRows::Named(names.collect())).finish(&source);
    let ReadOutcome::Answer(Ok(Response::Rows(rows))) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(!rows.complete);
    assert_eq!(rows.rows.len(), MULTI_GET_BYTES_MAX >> 20);
    assert!(source.asked.get() <= rows.rows.len() + 1);
}

#[test]
fn point_reads_ask_for_the_raw_key_whatever_its_length() {
    struct Asked(std::cell::RefCell<Vec<u8>>);
    impl RowSource for Asked {
        fn row(
            &self,
            _: PartitionId,
            raw_key: &[u8],
            _: u32,
            _: Tier,
        ) -> Result<Option<EngineRow>, ReadError> {
            *self.0.borrow_mut() = raw_key.to_vec();
            Ok(None)
        }

        fn rows(
            &self,
            _: PartitionId,
            _: &[Bytes],
            _: u32,
            _: Tier,
            _: &mut dyn FnMut(Option<EngineRow>) -> ControlFlow<()>,
        ) -> Result<(), ReadError> {
            Ok(())
        }

        fn page(&self, _: PartitionId, _: &ScanSpec, _: Tier) -> Result<ScanPage, ReadError> {
            Ok(ScanPage::empty())
        }
    }
    for length in [0, 1, 20, 30, 31, 32, 200] {
        let key = Key {
            hash_key: Bytes::from(vec![b'h'; length]),
            sort_key: Bytes::from(vec![b's'; 30]),
        };
        let expected = key::encode(&key.hash_key, &key.sort_key).expect("short keys");
        let source = Asked(std::cell::RefCell::default());
        let mut task = ReadTask::new(PARTITION, Operation::Get(key), 1).expect("a good request");
        assert!(matches!(task.step(&source, Tier::CacheOnly), Step::Done(_)));
        assert_eq!(
            source.0.borrow()[..],
            expected[..],
            "hash key of {length} bytes"
        );
    }
}

#[test]
fn rows_of_one_hash_key_read_by_range_are_of_one_state_of_the_replica() {
    let range = SortKeyRange {
        start: Bytes::new(),
        start_inclusive: true,
        stop: Bytes::new(),
        stop_inclusive: false,
    };
    let rows = MultiGetRows::Range {
        range,
        filter: Filter::default(),
        reverse: false,
    };
    assert_eq!(values_after_a_change(multi_get(rows)), [2, 2, 2]);
}

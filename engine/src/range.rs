//! Bounds of the range reads that Apache Pegasus clients ask for (`rrdb.thrift`: multi_get, sortkey_count, get_scanner).

use crate::key::{self, KeyError};
use crate::scan::{Fields, Filter, KeyedRow, Order, ScanSpec};
use bytes::Bytes;
use std::ops::Bound;

/// Rows, and records looked at, in one multi-get by range.
pub const MULTI_GET_ROWS_MAX: usize = 3000;
/// Bytes of sort keys and values in one multi-get by range.
pub const MULTI_GET_BYTES_MAX: usize = 30 << 20;
/// Rows, and records looked at, in one batch of a scanner.
pub const SCAN_BATCH_ROWS_MAX: usize = 1000;

/// Multi-get by range: rows of one hash key whose sort keys lie between two bounds.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct MultiGetRange {
    pub hash_key: Bytes,
    /// Empty = from the beginning; `start_inclusive` then applies to the empty sort key.
    pub start_sort_key: Bytes,
    pub start_inclusive: bool,
    /// Empty = to the end of the hash key, whatever `stop_inclusive`.
    pub stop_sort_key: Bytes,
    pub stop_inclusive: bool,
    /// A prefix narrows the range.
    pub sort_key_filter: Filter,
    /// `Descending` keeps the *last* rows; answer them [`ascending`].
    pub order: Order,
    pub fields: Fields,
    /// 0 = [`MULTI_GET_ROWS_MAX`], which also bounds it.
    pub rows_max: usize,
    /// 0 = [`MULTI_GET_BYTES_MAX`], which also bounds it.
    pub bytes_max: usize,
    pub now_s: u32,
}

impl MultiGetRange {
    /// The range read, or `None` if the range is empty (which is an answer without rows, not an error).
    ///
    /// # Errors
    /// [`KeyError`] if the hash key or a bound is too long.
    pub fn spec(&self) -> Result<Option<ScanSpec>, KeyError> {
        let bound = |sort_key: &Bytes, inclusive| {
            key::encode(&self.hash_key, sort_key).map(|key| {
                if inclusive {
                    Bound::Included(key)
                } else {
                    Bound::Excluded(key)
                }
            })
        };
        let within = key::encode(&self.hash_key, b"")?;
        let mut spec = hash_key_range(within.clone(), self.now_s);
        spec.start = bound(&self.start_sort_key, self.start_inclusive)?;
        if !self.stop_sort_key.is_empty() {
            spec.stop = bound(&self.stop_sort_key, self.stop_inclusive)?;
        }
        if let Filter::Prefix(prefix) = &self.sort_key_filter {
            narrow(&mut spec, &key::encode(&self.hash_key, prefix)?);
        }
        spec.sort_key_filter = self.sort_key_filter.clone();
        spec.order = self.order;
        spec.fields = self.fields;
        spec.rows_max = limit(self.rows_max, MULTI_GET_ROWS_MAX);
        spec.bytes_max = limit(self.bytes_max, MULTI_GET_BYTES_MAX);
        spec.examined_max = MULTI_GET_ROWS_MAX;
        Ok((!spec.is_empty()).then_some(spec))
    }
}

/// Counts the live rows of a hash key, however many there are.
///
/// # Errors
/// [`KeyError`] if the hash key is too long.
pub fn sortkey_count(hash_key: &[u8], now_s: u32) -> Result<ScanSpec, KeyError> {
    let mut spec = hash_key_range(key::encode(hash_key, b"")?, now_s);
    spec.fields = Fields::Count;
    Ok(spec)
}

/// A scanner: all rows of a partition between two raw keys, batch by batch.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ScanRange {
    /// Raw bytes as the client sent them; need not be a well-formed raw key.
    pub start_key: Bytes,
    pub start_inclusive: bool,
    /// Empty = to the end.
    pub stop_key: Bytes,
    pub stop_inclusive: bool,
    /// A prefix raises the start (raw keys order by the length of the hash key, so the end cannot be lowered).
    pub hash_key_filter: Filter,
    pub sort_key_filter: Filter,
    pub fields: Fields,
    /// 0 = [`SCAN_BATCH_ROWS_MAX`], which also bounds it.
    pub batch_rows_max: usize,
    pub now_s: u32,
}

impl ScanRange {
    /// The read of the first batch, or `None` if the range is empty; [`ScanSpec::after`] gives the next ones.
    ///
    /// # Errors
    /// [`KeyError`] if the pattern of a hash key prefix is too long.
    pub fn spec(&self) -> Result<Option<ScanSpec>, KeyError> {
        let bound = |key: &Bytes, inclusive| {
            if inclusive {
                Bound::Included(key.clone())
            } else {
                Bound::Excluded(key.clone())
            }
        };
        let stop = if self.stop_key.is_empty() {
            Bound::Unbounded
        } else {
            bound(&self.stop_key, self.stop_inclusive)
        };
        let mut spec = ScanSpec::new(
            bound(&self.start_key, self.start_inclusive),
            stop,
            self.now_s,
        );
        if let Filter::Prefix(pattern) = &self.hash_key_filter {
            raise_start(&mut spec, key::encode(pattern, b"")?);
        }
        spec.hash_key_filter = self.hash_key_filter.clone();
        spec.sort_key_filter = self.sort_key_filter.clone();
        spec.fields = self.fields;
        spec.rows_max = limit(self.batch_rows_max, SCAN_BATCH_ROWS_MAX);
        spec.examined_max = SCAN_BATCH_ROWS_MAX;
        Ok((!spec.is_empty()).then_some(spec))
    }
}

/// Rows of all pages of a read, in ascending order whatever the order of the read.
#[must_use]
pub fn ascending(order: Order, mut rows: Vec<KeyedRow>) -> Vec<KeyedRow> {
    if order == Order::Descending {
        rows.reverse();
    }
    rows
}

/// All rows of the hash key of this raw prefix, without limits except that of a turn.
#[must_use]
pub fn hash_key_range(within: Bytes, now_s: u32) -> ScanSpec {
    let stop = key::prefix_successor(&within).map_or(Bound::Unbounded, Bound::Excluded);
    let mut spec = ScanSpec::new(Bound::Included(within.clone()), stop, now_s);
    spec.within = Some(within);
    spec
}

/// Narrows a range to the raw keys that start with `prefix`.
fn narrow(spec: &mut ScanSpec, prefix: &Bytes) {
    raise_start(spec, prefix.clone());
    let Some(end) = key::prefix_successor(prefix) else {
        return;
    };
    let lower = match &spec.stop {
        Bound::Included(stop) | Bound::Excluded(stop) => *stop >= end,
        Bound::Unbounded => true,
    };
    if lower {
        spec.stop = Bound::Excluded(end);
    }
}

fn raise_start(spec: &mut ScanSpec, key: Bytes) {
    let higher = match &spec.start {
        Bound::Included(start) | Bound::Excluded(start) => *start < key,
        Bound::Unbounded => true,
    };
    if higher {
        spec.start = Bound::Included(key);
    }
}

const fn limit(asked: usize, most: usize) -> usize {
    if asked == 0 || asked > most {
        most
    } else {
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::Stop;
    use crate::{Batch, Engine, MemEngine, Tier};
    use pegasus_replication::ids::{
        Ballot, Decree, PartitionId, ReplicaIncarnation, RequestId, TableId,
    };

    const PARTITION: PartitionId = PartitionId {
        table: TableId(1),
        index: 0,
    };

    /// Hash key "h" with the sort keys "", a, b, ca, cb, d and one row each in the neighbouring hash keys.
    fn engine() -> MemEngine {
        let mut engine = MemEngine::default();
        engine.create(PARTITION, ReplicaIncarnation(1));
        let mut batch = Batch::new();
        for sort_key in ["", "a", "b", "ca", "cb", "d"] {
            batch
                .put(
                    &key::encode(b"h", sort_key.as_bytes()).unwrap(),
                    b"value",
                    0,
                )
                .unwrap();
        }
        batch
            .put(&key::encode(b"g", b"z").unwrap(), b"value", 0)
            .unwrap();
        batch
            .put(&key::encode(b"i", b"").unwrap(), b"value", 0)
            .unwrap();
        engine
            .apply(
                PARTITION,
                Decree(1),
                Ballot::new(0, 1),
                1,
                RequestId::default(),
                &batch.encode(),
            )
            .unwrap();
        engine
    }

    fn range(start: &str, stop: &str) -> MultiGetRange {
        MultiGetRange {
            hash_key: Bytes::from_static(b"h"),
            start_sort_key: Bytes::copy_from_slice(start.as_bytes()),
            start_inclusive: true,
            stop_sort_key: Bytes::copy_from_slice(stop.as_bytes()),
            ..MultiGetRange::default()
        }
    }

    fn read(range: &MultiGetRange) -> (Vec<String>, bool) {
        let Some(spec) = range.spec().unwrap() else {
            return (Vec::new(), false);
        };
        let page = engine().scan(PARTITION, &spec, Tier::Full).unwrap();
        let rows = ascending(range.order, page.rows);
        let sort_key =
            |row: &KeyedRow| String::from_utf8(key::decode(&row.key).unwrap().1.to_vec()).unwrap();
        (
            rows.iter().map(sort_key).collect(),
            matches!(page.stop, Stop::Limit { .. }),
        )
    }

    fn assert_reads(range: &MultiGetRange, sort_keys: &[&str], more: bool) {
        assert_eq!(
            read(range),
            (sort_keys.iter().map(ToString::to_string).collect(), more)
        );
    }

    #[test]
    fn an_empty_stop_key_reads_to_the_end_of_the_hash_key() {
        assert_reads(&range("", ""), &["", "a", "b", "ca", "cb", "d"], false);
        assert_reads(
            &MultiGetRange {
                stop_inclusive: true,
                ..range("c", "")
            },
            &["ca", "cb", "d"],
            false,
        );
    }

    #[test]
    fn inclusive_flags_decide_about_the_bounds_themselves() {
        assert_reads(&range("a", "ca"), &["a", "b"], false);
        assert_reads(
            &MultiGetRange {
                stop_inclusive: true,
                ..range("a", "ca")
            },
            &["a", "b", "ca"],
            false,
        );
        assert_reads(
            &MultiGetRange {
                start_inclusive: false,
                ..range("a", "ca")
            },
            &["b"],
            false,
        );
        assert_reads(
            &MultiGetRange {
                start_inclusive: false,
                ..range("", "b")
            },
            &["a"],
            false,
        );
    }

    #[test]
    fn an_empty_range_is_an_answer_without_rows() {
        assert_eq!(range("a", "a").spec(), Ok(None));
        assert_eq!(range("b", "a").spec(), Ok(None));
        let prefix = Filter::Prefix(Bytes::from_static(b"d"));
        assert_eq!(
            MultiGetRange {
                sort_key_filter: prefix,
                ..range("a", "c")
            }
            .spec(),
            Ok(None)
        );
    }

    #[test]
    fn a_prefix_filter_narrows_the_range_from_both_sides() {
        let prefix = |pattern: &'static [u8]| Filter::Prefix(Bytes::from_static(pattern));
        let all = MultiGetRange {
            sort_key_filter: prefix(b"c"),
            ..range("", "")
        };
        assert_reads(&all, &["ca", "cb"], false);
        let spec = all.spec().unwrap().unwrap();
        assert_eq!(
            spec.start,
            Bound::Included(key::encode(b"h", b"c").unwrap())
        );
        assert_eq!(spec.stop, Bound::Excluded(key::encode(b"h", b"d").unwrap()));
        let tighter = MultiGetRange {
            sort_key_filter: prefix(b"c"),
            ..range("cb", "cc")
        };
        assert_reads(&tighter, &["cb"], false);
    }

    #[test]
    fn other_filters_leave_the_range_and_skip_rows() {
        let filter = Filter::Postfix(Bytes::from_static(b"b"));
        assert_reads(
            &MultiGetRange {
                sort_key_filter: filter,
                ..range("", "")
            },
            &["b", "cb"],
            false,
        );
        let filter = Filter::Anywhere(Bytes::from_static(b"a"));
        assert_reads(
            &MultiGetRange {
                sort_key_filter: filter,
                ..range("", "")
            },
            &["a", "ca"],
            false,
        );
    }

    #[test]
    fn reverse_keeps_the_last_rows_and_answers_them_ascending() {
        let reverse = MultiGetRange {
            order: Order::Descending,
            rows_max: 2,
            ..range("", "d")
        };
        assert_reads(&reverse, &["ca", "cb"], true);
        let reverse = MultiGetRange {
            order: Order::Descending,
            start_inclusive: false,
            ..range("a", "ca")
        };
        assert_reads(&reverse, &["b"], false);
    }

    #[test]
    fn a_limit_says_more_only_if_another_row_of_the_hash_key_follows() {
        assert_reads(
            &MultiGetRange {
                rows_max: 6,
                ..range("", "")
            },
            &["", "a", "b", "ca", "cb", "d"],
            false,
        );
        assert_reads(
            &MultiGetRange {
                rows_max: 2,
                ..range("", "")
            },
            &["", "a"],
            true,
        );
        // Beyond the range, yet of the same hash key: as Apache Pegasus answers.
        assert_reads(
            &MultiGetRange {
                rows_max: 2,
                ..range("a", "ca")
            },
            &["a", "b"],
            true,
        );
    }

    #[test]
    fn the_row_that_crosses_the_byte_limit_is_still_returned() {
        assert_reads(
            &MultiGetRange {
                bytes_max: 6,
                ..range("a", "")
            },
            &["a"],
            true,
        );
        assert_reads(
            &MultiGetRange {
                bytes_max: 7,
                ..range("a", "")
            },
            &["a", "b"],
            true,
        );
        let keys_only = MultiGetRange {
            bytes_max: 3,
            fields: Fields::NoValue,
            ..range("a", "")
        };
        assert_reads(&keys_only, &["a", "b", "ca"], true);
    }

    #[test]
    fn sortkey_count_counts_one_hash_key() {
        let spec = sortkey_count(b"h", 0).unwrap();
        let page = engine().scan(PARTITION, &spec, Tier::Full).unwrap();
        assert_eq!(
            (page.count, page.rows.len(), page.stop),
            (6, 0, Stop::Exhausted)
        );
    }

    #[test]
    fn a_scanner_reads_hash_keys_in_order_batch_by_batch() {
        let scan = ScanRange {
            start_key: Bytes::from_static(b"\x00\x00"),
            start_inclusive: true,
            stop_key: Bytes::from_static(b"\xff\xff"),
            batch_rows_max: 5,
            ..ScanRange::default()
        };
        let (engine, mut spec, mut rows) = (engine(), scan.spec().unwrap(), 0);
        while let Some(batch) = spec {
            let page = engine.scan(PARTITION, &batch, Tier::Full).unwrap();
            rows += page.rows.len();
            spec = match page.stop {
                Stop::Limit { after } => Some(batch.after(after)),
                _ => None,
            };
        }
        assert_eq!(rows, 8);
    }

    #[test]
    fn a_hash_key_prefix_raises_the_start_of_a_scanner_only() {
        let scan = ScanRange {
            start_key: Bytes::from_static(b"\x00\x00"),
            hash_key_filter: Filter::Prefix(Bytes::from_static(b"h")),
            ..ScanRange::default()
        };
        let spec = scan.spec().unwrap().unwrap();
        assert_eq!(spec.start, Bound::Included(key::encode(b"h", b"").unwrap()));
        assert_eq!(spec.stop, Bound::Unbounded);
        assert_eq!(
            engine().scan(PARTITION, &spec, Tier::Full).unwrap().count,
            6
        );
    }

    #[test]
    fn a_long_read_yields_and_goes_on_where_it_was() {
        let engine = engine();
        let mut spec = MultiGetRange {
            rows_max: 4,
            ..range("", "")
        }
        .spec()
        .unwrap()
        .unwrap();
        spec.turn_examined_max = 1;
        let (mut rows, mut pages) = (Vec::new(), 0);
        let stop = loop {
            let page = engine.scan(PARTITION, &spec, Tier::Full).unwrap();
            pages += 1;
            rows.extend(page.rows.iter().map(|row| row.key.clone()));
            match spec.resume(&page) {
                Some(next) => spec = next,
                None => break page.stop,
            }
        };
        assert_eq!((rows.len(), pages), (4, 4));
        assert!(matches!(stop, Stop::Limit { .. }));
    }
}

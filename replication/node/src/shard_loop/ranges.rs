//! Reads of ranges: multi get by range, sort key count, scan pages. Each step is bounded in records and time.

use super::read::{RowSource, bounded};
use bytes::Bytes;
use pegasus_engine::range::{
    MULTI_GET_BYTES_MAX, MultiGetRange, SCAN_BATCH_ROWS_MAX, ScanRange, ascending, sortkey_count,
};
use pegasus_engine::scan::{Fields, Filter as EngineFilter, KeyedRow, Order, ScanSpec, Stop};
use pegasus_engine::{ReadError, Tier, key};
use pegasus_fbs::code::Code;
use pegasus_net::request::{
    Failure, Filter, FilterKind, MultiGet, MultiGetRows, NextPage, OpenScanner, Operation, Page,
    Reply, Response, Row, Rows, Scan, ScanRows, ScannedRow, SortKeyRange,
};
use pegasus_replication::ids::PartitionId;
use std::ops::Bound;
use std::time::Duration;

/// Time of one step.
const STEP_TIME: Duration = Duration::from_micros(100);
/// Pages of removed rows, each of some milliseconds, after which a scan answers with what it has.
const RESTS_MAX: u32 = 8;
/// Smallest and largest raw keys of a partition that clients' rows may have.
const FIRST_KEY: &[u8] = &[0, 0];

/// A range read in work.
#[derive(Debug)]
pub(super) struct Range {
    spec: ScanSpec,
    /// As asked, to begin again with.
    whole: ScanSpec,
    shape: Shape,
    rows: Vec<KeyedRow>,
    count: u64,
    /// Pages of the engine in which there was nothing but removed rows.
    rests: u32,
}

/// What the answer looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    MultiGet,
    Count,
    Scan {
        only_count: bool,
    },
    Page {
        only_count: bool,
        return_expiry: bool,
    },
}

/// The range that `operation` reads, or the answer if nothing can be in it.
pub(super) fn range_of(
    operation: Operation,
    now_s: u32,
) -> Result<Result<Range, Response>, Failure> {
    match operation {
        Operation::MultiGet(multi_get) => multi_get_range(multi_get, now_s),
        Operation::SortKeyCount { hash_key } => {
            let spec = sortkey_count(&hash_key, now_s).map_err(too_large)?;
            Ok(Ok(Range::new(spec, Shape::Count)))
        }
        Operation::Scan(scan) => scan_range(scan, now_s),
        other => Err(Failure::new(
            Code::Unsupported,
            format!("{} is not a read", other.name()),
        )),
    }
}

fn multi_get_range(multi_get: MultiGet, now_s: u32) -> Result<Result<Range, Response>, Failure> {
    let MultiGet {
        hash_key,
        rows,
        max_rows,
        max_bytes,
        no_value,
    } = multi_get;
    let MultiGetRows::Range {
        range,
        filter,
        reverse,
    } = rows
    else {
        return Err(Failure::new(
            Code::Internal,
            "a multi get by keys is not a range",
        ));
    };
    let wanted = MultiGetRange {
        order: if reverse {
            Order::Descending
        } else {
            Order::Ascending
        },
        fields: fields(no_value, false),
        rows_max: max_rows as usize,
        bytes_max: max_bytes as usize,
        ..sort_key_range(hash_key, range, filter, now_s)
    };
    let spec = wanted.spec().map_err(too_large)?;
    Ok(spec.map_or_else(
        || Err(no_rows()),
        |spec| Ok(Range::new(spec, Shape::MultiGet)),
    ))
}

fn sort_key_range(
    hash_key: Bytes,
    range: SortKeyRange,
    filter: Filter,
    now_s: u32,
) -> MultiGetRange {
    MultiGetRange {
        hash_key,
        start_sort_key: range.start,
        start_inclusive: range.start_inclusive,
        stop_sort_key: range.stop,
        stop_inclusive: range.stop_inclusive,
        sort_key_filter: engine_filter(filter),
        now_s,
        ..MultiGetRange::default()
    }
}

fn scan_range(scan: Scan, now_s: u32) -> Result<Result<Range, Response>, Failure> {
    let Scan {
        rows,
        sort_filter,
        batch_rows,
        batch_bytes,
        no_value,
        only_count,
        resume_key,
    } = scan;
    let fields = fields(no_value, only_count);
    let spec = match rows {
        ScanRows::OfHashKey { hash_key, range } => MultiGetRange {
            fields,
            ..sort_key_range(hash_key, range, sort_filter, now_s)
        }
        .spec(),
        ScanRows::OfPartition { hash_filter } => {
            let wanted = ScanRange {
                start_key: Bytes::from_static(FIRST_KEY),
                start_inclusive: true,
                hash_key_filter: engine_filter(hash_filter),
                sort_key_filter: engine_filter(sort_filter),
                fields,
                now_s,
                ..ScanRange::default()
            };
            wanted.spec()
        }
    };
    let Some(mut spec) = spec.map_err(too_large)? else {
        return Ok(Err(no_rows()));
    };
    if !resume_key.is_empty() {
        key::decode(&resume_key)
            .map_err(|error| Failure::new(Code::InvalidArgument, error.to_string()))?;
        // A resume key before the range would widen it.
        let is_later = match &spec.start {
            Bound::Included(start) | Bound::Excluded(start) => *start <= resume_key,
            Bound::Unbounded => true,
        };
        if is_later {
            spec = spec.after(resume_key);
        }
        if spec.is_empty() {
            return Ok(Err(no_rows()));
        }
    }
    spec.rows_max = bounded(batch_rows, SCAN_BATCH_ROWS_MAX);
    spec.examined_max = SCAN_BATCH_ROWS_MAX;
    spec.bytes_max = bounded(batch_bytes, MULTI_GET_BYTES_MAX);
    Ok(Ok(Range::new(spec, Shape::Scan { only_count })))
}

/// One page of a scanner, or the answer if nothing can be in it.
pub(super) fn page_of(
    scanner: &OpenScanner,
    now_s: u32,
) -> Result<Result<Range, Response>, Failure> {
    let only_count = scanner.only_count;
    let wanted = ScanRange {
        start_key: scanner.start_key.clone(),
        start_inclusive: scanner.start_inclusive,
        stop_key: scanner.stop_key.clone(),
        stop_inclusive: scanner.stop_inclusive,
        hash_key_filter: engine_filter(scanner.hash_filter.clone()),
        sort_key_filter: engine_filter(scanner.sort_filter.clone()),
        fields: fields(scanner.no_value, only_count),
        batch_rows_max: scanner.batch_rows as usize,
        now_s,
    };
    let shape = Shape::Page {
        only_count,
        return_expiry: scanner.return_expiry,
    };
    let Some(mut spec) = wanted.spec().map_err(too_large)? else {
        return Ok(Err(page(shape, Vec::new(), 0, None)));
    };
    spec.bytes_max = MULTI_GET_BYTES_MAX;
    Ok(Ok(Range::new(spec, shape)))
}

fn page(shape: Shape, rows: Vec<KeyedRow>, count: u64, last: Option<Bytes>) -> Response {
    let (only_count, return_expiry) = match shape {
        Shape::Page {
            only_count,
            return_expiry,
        } => (only_count, return_expiry),
        Shape::MultiGet | Shape::Count | Shape::Scan { .. } => (false, false),
    };
    let rows = rows.into_iter().map(|KeyedRow { key, row }| ScannedRow {
        raw_key: key,
        value: row.data,
        expire_at: row.expire_at,
    });
    Response::Page(Page {
        rows: rows.collect(),
        count: only_count.then_some(count),
        return_expiry,
        next: last.map_or(NextPage::None, NextPage::After),
    })
}

impl Range {
    fn new(mut spec: ScanSpec, shape: Shape) -> Self {
        spec.may_rest_between_rows = matches!(shape, Shape::Page { .. } | Shape::Scan { .. });
        let stepwise = ScanSpec {
            turn_time_max: Some(STEP_TIME),
            ..spec.clone()
        };
        Self {
            spec: stepwise,
            whole: spec,
            shape,
            rows: Vec::new(),
            count: 0,
            rests: 0,
        }
    }

    /// Whether the client takes all rows for one state of the replica. Pages of a scan never were.
    pub(super) const fn is_of_one_answer(&self) -> bool {
        matches!(self.shape, Shape::MultiGet | Shape::Count)
    }

    /// Begins again, in one step without a bound of time.
    pub(super) fn restart_whole(&mut self) {
        self.spec = self.whole.clone();
        self.rows.clear();
        self.count = 0;
    }

    /// One page of the engine; the answer when it was the last.
    pub(super) fn step(
        &mut self,
        source: &impl RowSource,
        partition: PartitionId,
        tier: Tier,
    ) -> Result<Option<Reply>, ReadError> {
        let mut page = source.page(partition, &self.spec, tier)?;
        self.count += page.count as u64;
        self.rows.append(&mut page.rows);
        self.rests += u32::from(page.examined == 0);
        if let Some(rest) = self.spec.resume(&page)
            && self.rests < RESTS_MAX
        {
            self.spec = rest;
            return Ok(None);
        }
        let last = match page.stop {
            // The client goes on from there: nobody waits long for rows that are gone.
            Stop::Yield { after } if self.rests >= RESTS_MAX => Some(after),
            Stop::Limit { after } => Some(after),
            Stop::Exhausted | Stop::Yield { .. } => None,
        };
        Ok(Some(Ok(self.answer(last))))
    }

    fn answer(&mut self, last: Option<Bytes>) -> Response {
        let rows = ascending(self.spec.order, std::mem::take(&mut self.rows));
        let complete = last.is_none();
        match self.shape {
            Shape::Count => Response::Count(self.count),
            Shape::MultiGet => {
                let rows = rows.into_iter().map(|row| named(row, false)).collect();
                Response::Rows(Rows {
                    rows,
                    complete,
                    resume_key: Bytes::new(),
                    count: 0,
                })
            }
            Shape::Page { .. } => page(self.shape, rows, self.count, last),
            Shape::Scan { only_count } => {
                let rows = rows.into_iter().map(|row| named(row, true)).collect();
                let count = if only_count { self.count } else { 0 };
                Response::Rows(Rows {
                    rows,
                    complete,
                    resume_key: last.unwrap_or_default(),
                    count,
                })
            }
        }
    }
}

/// A row of the answer; its keys share the memory of the raw key.
fn named(KeyedRow { key: raw, row }: KeyedRow, with_hash_key: bool) -> Row {
    let (hash_key, sort_key) = key::decode(&raw).unwrap_or_default();
    Row {
        hash_key: if with_hash_key {
            raw.slice_ref(hash_key)
        } else {
            Bytes::new()
        },
        sort_key: raw.slice_ref(sort_key),
        value: row.data,
        expire_at: row.expire_at,
    }
}

fn engine_filter(Filter { kind, pattern }: Filter) -> EngineFilter {
    match kind {
        FilterKind::None => EngineFilter::None,
        FilterKind::Anywhere => EngineFilter::Anywhere(pattern),
        FilterKind::Prefix => EngineFilter::Prefix(pattern),
        FilterKind::Postfix => EngineFilter::Postfix(pattern),
    }
}

const fn fields(no_value: bool, only_count: bool) -> Fields {
    match (only_count, no_value) {
        (true, _) => Fields::Count,
        (false, true) => Fields::NoValue,
        (false, false) => Fields::All,
    }
}

const fn no_rows() -> Response {
    Response::Rows(Rows {
        rows: Vec::new(),
        complete: true,
        resume_key: Bytes::new(),
        count: 0,
    })
}

fn too_large(error: key::KeyError) -> Failure {
    Failure::new(Code::TooLarge, error.to_string())
}

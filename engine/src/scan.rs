//! Range reads: what to read ([`ScanSpec`]), what came out ([`ScanPage`]), and the one loop both engines share.

use crate::value::{self, TableVersion, ValueError};
use crate::{Row, key};
use bytes::Bytes;
use std::ops::Bound;
use std::time::Duration;

/// Records examined in one turn unless the caller says otherwise: about 100 us of cached rows.
pub const TURN_EXAMINED_DEFAULT: usize = 256;

/// Bytes of keys and values looked at in one turn where turns are bounded in time: between two looks at the clock large rows
/// could take milliseconds.
const TURN_BYTES_MAX: usize = 256 << 10;

/// Records between two looks at the clock.
const CLOCK_STRIDE: usize = 16;

/// In which order keys are read, and rows returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Order {
    #[default]
    Ascending,
    Descending,
}

/// A condition on a hash key or a sort key. An empty pattern matches everything.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Filter {
    #[default]
    None,
    Anywhere(Bytes),
    Prefix(Bytes),
    Postfix(Bytes),
}

impl Filter {
    #[must_use]
    pub fn matches(&self, part: &[u8]) -> bool {
        match self {
            Self::None => true,
            Self::Anywhere(pattern) => contains(part, pattern),
            Self::Prefix(pattern) => part.starts_with(pattern),
            Self::Postfix(pattern) => part.ends_with(pattern),
        }
    }
}

/// Whether `part` is somewhere in `whole`; an empty one is everywhere. Takes time in proportion to the longer of the two:
/// with a comparison at each place, two texts of a client's choice could keep a core busy for seconds.
#[must_use]
pub(crate) fn contains(whole: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(whole, part).is_some()
}

/// How much of a matching row is returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Fields {
    /// Key, value, expiry.
    #[default]
    All,
    /// Key and expiry; the value stays empty.
    NoValue,
    /// Nothing; only [`ScanPage::count`] grows.
    Count,
}

/// A bounded range read over raw keys.
///
/// There are two kinds of bounds. *Limits* (`rows_max`, `examined_max`, `bytes_max`) hold for the read as a whole and
/// end it with [`Stop::Limit`]; the row that reaches a limit is still returned. *Turn limits* hold for one call and end
/// the page with [`Stop::Yield`], so that a long read gives way to others and goes on with [`Self::resume`].
/// Each page sees the replica as of its own start. A limit of 0 counts as 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanSpec {
    /// Smallest raw key, whatever the order.
    pub start: Bound<Bytes>,
    /// Largest raw key, whatever the order.
    pub stop: Bound<Bytes>,
    pub order: Order,
    /// The raw prefix of the one hash key the range lies in, if it does ([`key::hash_key_prefix`]). Lets the engine
    /// skip files by their prefix filter. A limit that is reached while another record *of this hash key* follows is
    /// [`Stop::Limit`] even if that record lies beyond the range, as in Apache Pegasus' multi-get.
    pub within: Option<Bytes>,
    pub hash_key_filter: Filter,
    pub sort_key_filter: Filter,
    /// Second since 2016-01-01 UTC as of which expired rows are skipped.
    pub now_s: u32,
    pub fields: Fields,
    /// Rows returned or counted.
    pub rows_max: usize,
    /// Records looked at: returned, filtered out and expired ones.
    pub examined_max: usize,
    /// Bytes of sort keys and values returned.
    pub bytes_max: usize,
    /// Records looked at in this page.
    pub turn_examined_max: usize,
    /// Time for this page, looked at every few records. [`MemEngine`](crate::MemEngine) has no clock and ignores it.
    pub turn_time_max: Option<Duration>,
    /// The read may end a page wherever rows were removed, between two rows, and [`Stop::Limit`] where none follows: so a
    /// page is bounded however many rows were removed in a row. Only for ascending reads that nobody takes for one answer.
    pub may_rest_between_rows: bool,
}

impl ScanSpec {
    /// Everything between the bounds, without limits except [`TURN_EXAMINED_DEFAULT`].
    #[must_use]
    pub const fn new(start: Bound<Bytes>, stop: Bound<Bytes>, now_s: u32) -> Self {
        Self {
            start,
            stop,
            order: Order::Ascending,
            within: None,
            hash_key_filter: Filter::None,
            sort_key_filter: Filter::None,
            now_s,
            fields: Fields::All,
            rows_max: usize::MAX,
            examined_max: usize::MAX,
            bytes_max: usize::MAX,
            turn_examined_max: TURN_EXAMINED_DEFAULT,
            turn_time_max: None,
            may_rest_between_rows: false,
        }
    }

    /// The same read from behind `key` on (in its order), with all limits anew.
    #[must_use]
    pub fn after(&self, key: Bytes) -> Self {
        let mut spec = self.clone();
        match self.order {
            Order::Ascending => spec.start = Bound::Excluded(key),
            Order::Descending => spec.stop = Bound::Excluded(key),
        }
        spec
    }

    /// What is left to do after `page`; `None` unless it ended with [`Stop::Yield`].
    #[must_use]
    pub fn resume(&self, page: &ScanPage) -> Option<Self> {
        let Stop::Yield { after } = &page.stop else {
            return None;
        };
        let mut spec = self.after(after.clone());
        spec.rows_max = left(self.rows_max, page.count);
        spec.examined_max = left(self.examined_max, page.examined);
        spec.bytes_max = left(self.bytes_max, page.bytes);
        Some(spec)
    }

    /// Whether no key can lie between the bounds.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match (&self.start, &self.stop) {
            (Bound::Included(start), Bound::Included(stop)) => start > stop,
            (
                Bound::Included(start) | Bound::Excluded(start),
                Bound::Included(stop) | Bound::Excluded(stop),
            ) => start >= stop,
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        }
    }

    /// Where a cursor may stand: the bounds, on the far side widened to the whole hash key of `within`.
    pub(crate) fn cursor_bounds(&self) -> (Bound<Bytes>, Bound<Bytes>) {
        match (&self.within, self.order) {
            (None, _) => (self.start.clone(), self.stop.clone()),
            (Some(within), Order::Ascending) => (
                self.start.clone(),
                key::prefix_successor(within).map_or(Bound::Unbounded, Bound::Excluded),
            ),
            (Some(within), Order::Descending) => {
                (Bound::Included(within.clone()), self.stop.clone())
            }
        }
    }

    /// Whether `key` lies before the end of the read, in its order.
    fn reaches(&self, key: &[u8]) -> bool {
        match self.order {
            Order::Ascending => match &self.stop {
                Bound::Included(stop) => key <= stop.as_ref(),
                Bound::Excluded(stop) => key < stop.as_ref(),
                Bound::Unbounded => true,
            },
            Order::Descending => match &self.start {
                Bound::Included(start) => key >= start.as_ref(),
                Bound::Excluded(start) => key > start.as_ref(),
                Bound::Unbounded => true,
            },
        }
    }
}

/// A limit minus what is used, at least 1: a limit that was reached would have ended the read.
fn left(limit: usize, used: usize) -> usize {
    if limit == usize::MAX {
        limit
    } else {
        limit.saturating_sub(used).max(1)
    }
}

/// A row of a range read with its raw key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyedRow {
    pub key: Bytes,
    pub row: Row,
}

/// Why a page ends. `after` is the last raw key looked at, or one between rows
/// ([`may_rest_between_rows`](ScanSpec::may_rest_between_rows)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Nothing follows.
    Exhausted,
    /// A limit is reached and more records follow.
    Limit { after: Bytes },
    /// The turn is over; [`ScanSpec::resume`] goes on.
    Yield { after: Bytes },
}

/// One page of a range read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanPage {
    /// In the order of the read: descending for [`Order::Descending`].
    pub rows: Vec<KeyedRow>,
    /// Matching rows of this page, also with [`Fields::Count`].
    pub count: usize,
    /// Records looked at.
    pub examined: usize,
    /// Bytes of sort keys and values in `rows`.
    pub bytes: usize,
    pub stop: Stop,
}

impl ScanPage {
    /// The page of a range that holds nothing.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            rows: Vec::new(),
            count: 0,
            examined: 0,
            bytes: 0,
            stop: Stop::Exhausted,
        }
    }

    /// Whether it is the bytes that have ended the read `spec`, and not its rows.
    #[must_use]
    pub fn is_cut_by_bytes(&self, spec: &ScanSpec) -> bool {
        matches!(self.stop, Stop::Limit { .. })
            && self.bytes >= spec.bytes_max
            && self.count < spec.rows_max
    }
}

/// A place between the bounds of a read; moves in the order of the read.
pub(crate) trait Cursor {
    /// Key and stored value; `None` at the end (or on an error that the engine looks up afterwards).
    fn record(&self) -> Option<(&[u8], &[u8])>;
    fn advance(&mut self);
    /// There is no record because too many removed ones lie before it.
    fn is_cut_off(&self) -> bool {
        false
    }
}

/// Reads one page. `cursor` stands on the first record; `elapsed` tells the time since the page began.
pub(crate) fn run(
    spec: &ScanSpec,
    cursor: &mut impl Cursor,
    elapsed: impl Fn() -> Duration,
) -> Result<ScanPage, ValueError> {
    let mut page = ScanPage::empty();
    let mut after = Bytes::new();
    let mut bytes = 0;
    while let Some((key, stored)) = cursor.record() {
        if !spec.reaches(key) {
            return Ok(page);
        }
        // The marker and other keys that Apache Pegasus readers skip as well.
        if key.len() < key::HASH_KEY_LENGTH_BYTES {
            cursor.advance();
            continue;
        }
        if turn_is_over(spec, page.examined, bytes, &elapsed) {
            page.stop = Stop::Yield { after };
            return Ok(page);
        }
        after = Bytes::copy_from_slice(key);
        bytes += key.len() + stored.len();
        examine(spec, &mut page, &after, stored)?;
        cursor.advance();
        if limit_is_reached(spec, &page) {
            let is_row = |(next, _): (&[u8], _)| next.len() >= key::HASH_KEY_LENGTH_BYTES;
            if cursor.record().is_some_and(is_row) || cursor.is_cut_off() {
                page.stop = Stop::Limit { after };
            }
            return Ok(page);
        }
    }
    if page.examined > 0 && cursor.is_cut_off() {
        page.stop = Stop::Yield { after };
    }
    Ok(page)
}

fn examine(
    spec: &ScanSpec,
    page: &mut ScanPage,
    key: &Bytes,
    stored: &[u8],
) -> Result<(), ValueError> {
    page.examined += 1;
    let value = value::decode(stored, TableVersion::V1)?;
    if value::is_expired(value.expire_at, spec.now_s) {
        return Ok(());
    }
    let Ok((hash_key, sort_key)) = key::decode(key) else {
        return Ok(());
    };
    if !spec.hash_key_filter.matches(hash_key) || !spec.sort_key_filter.matches(sort_key) {
        return Ok(());
    }
    page.count += 1;
    let data = match spec.fields {
        Fields::All => Bytes::copy_from_slice(value.data),
        Fields::NoValue => Bytes::new(),
        Fields::Count => return Ok(()),
    };
    page.bytes += sort_key.len() + data.len();
    let row = Row {
        expire_at: value.expire_at,
        timetag: value.timetag,
        data,
    };
    page.rows.push(KeyedRow {
        key: key.clone(),
        row,
    });
    Ok(())
}

/// Every page looks at one record at least, so that resuming always gets on.
fn turn_is_over(
    spec: &ScanSpec,
    examined: usize,
    bytes: usize,
    elapsed: &impl Fn() -> Duration,
) -> bool {
    if examined == 0 {
        return false;
    }
    examined >= spec.turn_examined_max
        || (bytes >= TURN_BYTES_MAX && spec.turn_time_max.is_some())
        || (examined.is_multiple_of(CLOCK_STRIDE)
            && spec.turn_time_max.is_some_and(|time| elapsed() >= time))
}

const fn limit_is_reached(spec: &ScanSpec, page: &ScanPage) -> bool {
    let rows = page.count > 0 && page.count >= spec.rows_max;
    let bytes = page.bytes > 0 && page.bytes >= spec.bytes_max;
    rows || bytes || page.examined >= spec.examined_max
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records of `bytes` each, without an end.
    struct Endless {
        key: [u8; 10],
        stored: Vec<u8>,
        next: u64,
    }

    impl Endless {
        fn new(bytes: usize) -> Self {
            let mut endless = Self {
                key: [0; 10],
                stored: vec![0; bytes],
                next: 0,
            };
            endless.advance();
            endless
        }
    }

    impl Cursor for Endless {
        fn record(&self) -> Option<(&[u8], &[u8])> {
            Some((&self.key, &self.stored))
        }

        fn advance(&mut self) {
            self.key[2..].copy_from_slice(&self.next.to_be_bytes());
            self.next += 1;
        }
    }

    fn examined_in_a_turn(row_bytes: usize, turn_time_max: Option<Duration>) -> usize {
        let mut spec = ScanSpec::new(Bound::Unbounded, Bound::Unbounded, 0);
        spec.turn_time_max = turn_time_max;
        let page = run(&spec, &mut Endless::new(row_bytes), || Duration::ZERO).unwrap();
        assert!(matches!(page.stop, Stop::Yield { .. }));
        page.examined
    }

    #[test]
    fn a_turn_ends_after_so_many_bytes_however_few_rows_they_are() {
        let bounded = Some(Duration::from_secs(1));
        assert_eq!(examined_in_a_turn(1 << 20, bounded), 1);
        assert_eq!(examined_in_a_turn(100 << 10, bounded), 3);
        assert_eq!(examined_in_a_turn(100, bounded), TURN_EXAMINED_DEFAULT);
        // One that is read whole on a helper thread goes on.
        assert_eq!(examined_in_a_turn(1 << 20, None), TURN_EXAMINED_DEFAULT);
    }

    #[test]
    fn filters_match_as_in_apache_pegasus() {
        let pattern = |text: &'static str| Bytes::from_static(text.as_bytes());
        assert!(Filter::None.matches(b"abc"));
        assert!(Filter::Anywhere(pattern("b")).matches(b"abc"));
        assert!(!Filter::Anywhere(pattern("x")).matches(b"abc"));
        assert!(!Filter::Anywhere(pattern("abcd")).matches(b"abc"));
        assert!(Filter::Prefix(pattern("ab")).matches(b"abc"));
        assert!(!Filter::Prefix(pattern("bc")).matches(b"abc"));
        assert!(Filter::Postfix(pattern("bc")).matches(b"abc"));
        assert!(!Filter::Postfix(pattern("ab")).matches(b"abc"));
        for empty in [
            Filter::Anywhere(pattern("")),
            Filter::Prefix(pattern("")),
            Filter::Postfix(pattern("")),
        ] {
            assert!(empty.matches(b"abc"));
            assert!(empty.matches(b""));
        }
    }

    #[test]
    fn a_part_is_found_wherever_it_is_and_nowhere_else() {
        let texts = |length: u32| {
            (0..1_u32 << length).map(move |bits| -> Vec<u8> {
                (0..length)
                    .map(|at| b'a' + u8::from(bits >> at & 1 > 0))
                    .collect()
            })
        };
        for whole in (0..8).flat_map(texts) {
            assert!(contains(&whole, b""));
            for part in (1..5).flat_map(texts) {
                let is_there = whole.windows(part.len()).any(|window| window == part);
                assert_eq!(contains(&whole, &part), is_there, "{part:?} in {whole:?}");
            }
        }
    }

    #[test]
    fn empty_ranges_are_seen_without_reading() {
        let key = |text: &'static str| Bytes::from_static(text.as_bytes());
        let empty = |start, stop| ScanSpec::new(start, stop, 0).is_empty();
        assert!(!empty(Bound::Included(key("a")), Bound::Included(key("a"))));
        assert!(empty(Bound::Included(key("a")), Bound::Excluded(key("a"))));
        assert!(empty(Bound::Excluded(key("a")), Bound::Included(key("a"))));
        assert!(empty(Bound::Included(key("b")), Bound::Included(key("a"))));
        assert!(!empty(Bound::Unbounded, Bound::Excluded(key("a"))));
    }
}

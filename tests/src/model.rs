//! What the data operations of Apache Pegasus mean, said as plainly as possible: a map, and a function for each operation.
//!
//! Nothing here is shared with the servers. Time stands still: rows either expired long ago or do so long after the test.

use std::collections::BTreeMap;

/// What a limit of rows is at most, and how many rows a range read looks at.
const ROWS_MAX: usize = 3_000;
/// What a limit of bytes is at most.
const BYTES_MAX: usize = 30 << 20;
/// The longest hash key.
const HASH_KEY_BYTES_MAX: usize = 65_534;

/// Seconds since 2016; 0 = never.
pub type ExpireAt = u32;

/// Rows of one hash key are next to each other, in the order of their sort keys.
#[derive(Clone, Debug, Default)]
pub struct Model {
    rows: BTreeMap<(Vec<u8>, Vec<u8>), Row>,
    now: u32,
    /// Of rows that name no time of expiry.
    default_expiry: ExpireAt,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    value: Vec<u8>,
    expire_at: ExpireAt,
}

/// Which key, or which text a filter asks for, is in the way it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    Anywhere,
    Prefix,
    Postfix,
    /// None of those that there are.
    Unknown(i32),
}

pub type Filter = Option<(Match, Vec<u8>)>;

/// A read of many rows of a hash key.
#[derive(Clone, Debug, Default)]
pub struct MultiGet {
    /// If there are any: those, and no range.
    pub sort_keys: Vec<Vec<u8>>,
    pub start: Vec<u8>,
    pub start_inclusive: bool,
    pub stop: Vec<u8>,
    pub stop_inclusive: bool,
    pub filter: Filter,
    pub reverse: bool,
    pub no_value: bool,
    /// 0 = no limit of the asker's.
    pub max_rows: u32,
    pub max_bytes: u32,
}

/// A change of one row, among others of its hash key.
#[derive(Clone, Debug)]
pub enum Change {
    Put(Vec<u8>, Vec<u8>, ExpireAt),
    Remove(Vec<u8>),
    /// None of those that there are.
    Unknown(i32),
}

/// An operation on one row, named by the bytes of its key as they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    Put,
    Remove,
    Ttl,
    Incr,
}

/// A condition on one row of a hash key.
#[derive(Clone, Debug)]
pub struct Check {
    pub sort_key: Vec<u8>,
    /// 0 to 17; others are unknown.
    pub kind: i32,
    pub operand: Vec<u8>,
}

#[derive(Clone, Debug)]
pub enum Operation {
    Put(Vec<u8>, Vec<u8>, Vec<u8>, ExpireAt),
    Remove(Vec<u8>, Vec<u8>),
    Get(Vec<u8>, Vec<u8>),
    Ttl(Vec<u8>, Vec<u8>),
    MultiPut(Vec<u8>, Vec<(Vec<u8>, Vec<u8>)>, ExpireAt),
    MultiRemove(Vec<u8>, Vec<Vec<u8>>),
    MultiGet(Vec<u8>, MultiGet),
    SortkeyCount(Vec<u8>),
    /// Of one hash key, and so of one partition.
    BatchGet(Vec<u8>, Vec<Vec<u8>>),
    /// The last: 0 keeps the time of expiry, less removes it, more sets it.
    Incr(Vec<u8>, Vec<u8>, i64, i32),
    /// Which row is set: `None` = the one that is checked.
    CheckAndSet(Vec<u8>, Check, Option<Vec<u8>>, Vec<u8>, ExpireAt),
    CheckAndMutate(Vec<u8>, Check, Vec<Change>),
    /// Of the whole table, by hash key and sort key, in pages of so many rows.
    Scan(Filter, Filter, u32),
    Count(Filter, Filter),
    /// With a raw key that is shorter than it says, or says more than a hash key may have.
    Malformed(Verb, Vec<u8>),
}

impl Operation {
    /// The kind of its check, if it has one.
    #[must_use]
    pub const fn check(&self) -> Option<i32> {
        match self {
            Self::CheckAndSet(_, check, ..) | Self::CheckAndMutate(_, check, _) => Some(check.kind),
            _ => None,
        }
    }

    /// Whether it names kinds of checks, filters or changes that do not exist.
    #[must_use]
    pub fn names_unknown(&self) -> bool {
        let is_unknown = |filter: &Filter| matches!(filter, Some((Match::Unknown(_), _)));
        let is_of_change = match self {
            Self::CheckAndMutate(_, _, changes) => changes
                .iter()
                .any(|change| matches!(change, Change::Unknown(_))),
            _ => false,
        };
        let is_of_filter = match self {
            Self::MultiGet(_, asked) => is_unknown(&asked.filter),
            Self::Scan(hash, sort, _) | Self::Count(hash, sort) => {
                is_unknown(hash) || is_unknown(sort)
            }
            _ => false,
        };
        let is_of_check = self.check().is_some_and(|kind| !(0..=17).contains(&kind));
        is_of_check || is_of_change || is_of_filter
    }

    /// The hash key it names.
    #[must_use]
    pub fn hash_key(&self) -> Option<&[u8]> {
        match self {
            Self::Put(hash, ..)
            | Self::Remove(hash, _)
            | Self::Get(hash, _)
            | Self::Ttl(hash, _)
            | Self::MultiPut(hash, ..)
            | Self::MultiRemove(hash, _)
            | Self::MultiGet(hash, _)
            | Self::SortkeyCount(hash)
            | Self::BatchGet(hash, _)
            | Self::Incr(hash, ..)
            | Self::CheckAndSet(hash, ..)
            | Self::CheckAndMutate(hash, ..) => Some(hash),
            Self::Scan(..) | Self::Count(..) | Self::Malformed(..) => None,
        }
    }
}

/// A row as it is seen: hash key, sort key, value.
pub type Seen = (Vec<u8>, Vec<u8>, Vec<u8>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    Value(Option<Vec<u8>>),
    /// When the row expires, 0 = never; `None` if there is no such row.
    Ttl(Option<ExpireAt>),
    /// The second: whether these are all; `None` = nobody promises.
    Rows(Vec<(Vec<u8>, Vec<u8>)>, Option<bool>),
    Seen(Vec<Seen>),
    Count(u64),
    Sum(i64),
    NotANumber,
    /// With the value as it was, where that is told.
    Overflow(Option<i64>),
    /// Whether the check passed, and the row as it was (`None` inside: missing) where that is told.
    Checked(bool, Option<Option<Vec<u8>>>),
    /// An argument makes no sense.
    Invalid,
}

impl Answer {
    /// Whether an answer says what this one says, as far as it says anything.
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Rows(rows, all), Self::Rows(others, others_all)) => {
                rows == others && (all.is_none() || others_all.is_none() || all == others_all)
            }
            (Self::Overflow(old), Self::Overflow(other)) => {
                old.is_none() || other.is_none() || old == other
            }
            (Self::Checked(passed, row), Self::Checked(other, other_row)) => {
                passed == other && (row.is_none() || other_row.is_none() || row == other_row)
            }
            _ => self == other,
        }
    }
}

/// Rows of an answer as far as its limits go.
struct Taken {
    rows: Vec<(Vec<u8>, Vec<u8>)>,
    bytes: usize,
    rows_max: usize,
    bytes_max: usize,
    no_value: bool,
}

impl Taken {
    fn new(asked: &MultiGet) -> Self {
        let bounded = |limit: u32, max: usize| match limit {
            0 => max,
            limit => max.min(limit as usize),
        };
        Self {
            rows: Vec::new(),
            bytes: 0,
            rows_max: bounded(asked.max_rows, ROWS_MAX),
            bytes_max: bounded(asked.max_bytes, BYTES_MAX),
            no_value: asked.no_value,
        }
    }

    /// The row that crosses the limit of bytes is still among them.
    fn is_full(&self) -> bool {
        self.rows.len() >= self.rows_max || self.bytes >= self.bytes_max
    }

    /// False: there is no room for it.
    fn take(&mut self, sort: &[u8], value: Vec<u8>) -> bool {
        if self.is_full() {
            return false;
        }
        let value = if self.no_value { Vec::new() } else { value };
        self.bytes += sort.len() + value.len();
        self.rows.push((sort.to_vec(), value));
        true
    }

    fn answer(self, is_all: bool) -> Answer {
        // At a limit, rows behind the range may or may not be mistaken for more of it.
        let all = match (is_all, self.is_full()) {
            (false, _) => Some(false),
            (true, false) => Some(true),
            (true, true) => None,
        };
        Answer::Rows(self.rows, all)
    }
}

impl Model {
    #[must_use]
    pub fn new(now: u32, default_expiry: ExpireAt) -> Self {
        Self {
            rows: BTreeMap::new(),
            now,
            default_expiry,
        }
    }

    /// Does it, and answers.
    pub fn apply(&mut self, operation: &Operation) -> Answer {
        let is_long = |hash: &[u8]| hash.len() > HASH_KEY_BYTES_MAX;
        if operation.names_unknown() || operation.hash_key().is_some_and(is_long) {
            return Answer::Invalid;
        }
        match operation {
            Operation::Malformed(..) => Answer::Invalid,
            Operation::Put(hash, sort, value, expire_at) => {
                self.put(hash, sort, value, *expire_at);
                Answer::Done
            }
            Operation::Remove(hash, sort) => {
                self.remove(hash, sort);
                Answer::Done
            }
            Operation::Get(hash, sort) => Answer::Value(self.value(hash, sort)),
            Operation::Ttl(hash, sort) => {
                Answer::Ttl(self.get(hash, sort).map(|row| row.expire_at))
            }
            Operation::MultiPut(_, rows, _) if rows.is_empty() => Answer::Invalid,
            Operation::MultiPut(hash, rows, expire_at) => {
                for (sort, value) in rows {
                    self.put(hash, sort, value, *expire_at);
                }
                Answer::Done
            }
            Operation::MultiRemove(_, keys) if keys.is_empty() => Answer::Invalid,
            Operation::MultiRemove(hash, keys) => {
                for sort in keys {
                    self.remove(hash, sort);
                }
                // Those that were asked for, whether they existed or not.
                Answer::Count(keys.len() as u64)
            }
            Operation::MultiGet(hash, options) => self.multi_get(hash, options),
            Operation::SortkeyCount(hash) => Answer::Count(self.of_hash_key(hash).count() as u64),
            Operation::BatchGet(_, keys) if keys.is_empty() => Answer::Invalid,
            Operation::BatchGet(hash, keys) => {
                let found =
                    |sort: &Vec<u8>| Some((hash.clone(), sort.clone(), self.value(hash, sort)?));
                let mut rows: Vec<Seen> = keys.iter().filter_map(found).collect();
                rows.sort();
                rows.dedup();
                Answer::Seen(rows)
            }
            Operation::Incr(hash, sort, by, expire) => self.incr(hash, sort, *by, *expire),
            Operation::CheckAndSet(hash, check, sort, value, expire_at) => {
                let sort = sort.as_ref().unwrap_or(&check.sort_key).clone();
                self.mutate(hash, check, &[Change::Put(sort, value.clone(), *expire_at)])
            }
            Operation::CheckAndMutate(hash, check, changes) => self.mutate(hash, check, changes),
            Operation::Scan(hash, sort, _) => Answer::Seen(self.scan(hash, sort)),
            Operation::Count(hash, sort) => Answer::Count(self.scan(hash, sort).len() as u64),
        }
    }

    /// All that can be seen, and when it expires.
    pub fn visible(&self) -> impl Iterator<Item = (Seen, ExpireAt)> {
        let live = self.rows.iter().filter(|(_, row)| self.is_live(row));
        live.map(|((hash, sort), row)| {
            (
                (hash.clone(), sort.clone(), row.value.clone()),
                row.expire_at,
            )
        })
    }

    fn put(&mut self, hash: &[u8], sort: &[u8], value: &[u8], expire_at: ExpireAt) {
        let value = value.to_vec();
        let expire_at = match expire_at {
            0 => self.default_expiry,
            at => at,
        };
        let row = Row { value, expire_at };
        self.rows.insert((hash.to_vec(), sort.to_vec()), row);
    }

    fn remove(&mut self, hash: &[u8], sort: &[u8]) {
        self.rows.remove(&(hash.to_vec(), sort.to_vec()));
    }

    /// Expired rows are as good as gone.
    fn is_live(&self, row: &Row) -> bool {
        row.expire_at == 0 || row.expire_at > self.now
    }

    fn get(&self, hash: &[u8], sort: &[u8]) -> Option<&Row> {
        let row = self.rows.get(&(hash.to_vec(), sort.to_vec()));
        row.filter(|row| self.is_live(row))
    }

    fn value(&self, hash: &[u8], sort: &[u8]) -> Option<Vec<u8>> {
        self.get(hash, sort).map(|row| row.value.clone())
    }

    fn of_hash_key(&self, hash: &[u8]) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> {
        let rows = self
            .rows
            .iter()
            .filter(move |((owner, _), row)| owner == hash && self.is_live(row));
        rows.map(|((_, sort), row)| (&sort[..], &row.value[..]))
    }

    fn multi_get(&self, hash: &[u8], asked: &MultiGet) -> Answer {
        if asked.sort_keys.is_empty() {
            return self.range(hash, asked);
        }
        let found = |sort: &Vec<u8>| Some((sort.clone(), self.value(hash, sort)?));
        let candidates = asked.sort_keys.iter().filter_map(found);
        let mut taken = Taken::new(asked);
        let is_all = candidates
            .into_iter()
            .all(|(sort, value)| taken.take(&sort, value));
        taken.answer(is_all)
    }

    fn range(&self, hash: &[u8], asked: &MultiGet) -> Answer {
        let in_range = |sort: &[u8]| {
            let after_start =
                sort > &asked.start[..] || (asked.start_inclusive && sort == asked.start);
            let before_stop = asked.stop.is_empty()
                || sort < &asked.stop[..]
                || (asked.stop_inclusive && sort == asked.stop);
            // A prefix narrows the range; what other filters leave out has been looked at.
            let is_narrowed = match &asked.filter {
                Some((Match::Prefix, prefix)) => !sort.starts_with(prefix),
                _ => false,
            };
            after_start && before_stop && !is_narrowed
        };
        let rows = self.of_hash_key(hash).filter(|(sort, _)| in_range(sort));
        let mut rows: Vec<_> = rows.collect();
        if asked.reverse {
            rows.reverse();
        }
        let mut taken = Taken::new(asked);
        let mut is_all = rows.len() <= ROWS_MAX;
        for (sort, value) in rows.into_iter().take(ROWS_MAX) {
            if matches(&asked.filter, sort) && !taken.take(sort, value.to_vec()) {
                is_all = false;
                break;
            }
        }
        if asked.reverse {
            taken.rows.reverse();
        }
        taken.answer(is_all)
    }

    fn incr(&mut self, hash: &[u8], sort: &[u8], by: i64, expire: i32) -> Answer {
        let set_to = ExpireAt::try_from(expire).unwrap_or(0);
        let Some(row) = self.get(hash, sort) else {
            self.put(hash, sort, by.to_string().as_bytes(), set_to);
            return Answer::Sum(by);
        };
        let old = if row.value.is_empty() {
            Some(0)
        } else {
            number(&row.value)
        };
        let Some(old) = old else {
            return Answer::NotANumber;
        };
        let Some(sum) = old.checked_add(by) else {
            return Answer::Overflow(Some(old));
        };
        let expire_at = if expire == 0 { row.expire_at } else { set_to };
        self.put(hash, sort, sum.to_string().as_bytes(), expire_at);
        Answer::Sum(sum)
    }

    fn mutate(&mut self, hash: &[u8], check: &Check, changes: &[Change]) -> Answer {
        if changes.is_empty() {
            return Answer::Invalid;
        }
        let before = self.value(hash, &check.sort_key);
        let Some(passed) = passes(check, before.as_deref()) else {
            return Answer::Invalid;
        };
        if passed {
            for change in changes {
                match change {
                    Change::Put(sort, value, expire_at) => self.put(hash, sort, value, *expire_at),
                    Change::Remove(sort) => self.remove(hash, sort),
                    Change::Unknown(_) => {}
                }
            }
        }
        Answer::Checked(passed, Some(before))
    }

    fn scan(&self, hash_filter: &Filter, sort_filter: &Filter) -> Vec<Seen> {
        let seen = self.visible().map(|(seen, _)| seen);
        seen.filter(|(hash, sort, _)| matches(hash_filter, hash) && matches(sort_filter, sort))
            .collect()
    }
}

fn matches(filter: &Filter, key: &[u8]) -> bool {
    let Some((kind, text)) = filter else {
        return true;
    };
    match kind {
        Match::Anywhere => contains(key, text),
        Match::Prefix => key.starts_with(text),
        Match::Postfix => key.ends_with(text),
        Match::Unknown(_) => false,
    }
}

fn contains(key: &[u8], text: &[u8]) -> bool {
    text.is_empty() || key.windows(text.len()).any(|part| part == text)
}

/// `None` if numbers should be compared and one is none.
fn passes(check: &Check, value: Option<&[u8]>) -> Option<bool> {
    let operand = &check.operand[..];
    let Some(value) = value else {
        return Some(matches!(check.kind, 0..=2));
    };
    Some(match check.kind {
        0 | 3 => true,
        1 => false,
        2 => value.is_empty(),
        4 => !value.is_empty(),
        5 => contains(value, operand),
        6 => value.starts_with(operand),
        7 => value.ends_with(operand),
        8 => value < operand,
        9 => value <= operand,
        10 => value == operand,
        11 => value >= operand,
        12 => value > operand,
        kind => {
            let (value, operand) = (number(value)?, number(operand)?);
            match kind {
                13 => value < operand,
                14 => value <= operand,
                15 => value == operand,
                16 => value >= operand,
                _ => value > operand,
            }
        }
    })
}

/// As C's `strtoll` reads it with base 0, all of it: space, sign, hexadecimal after `0x`, octal after `0`.
fn number(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let text = text.trim_start_matches([' ', '\t', '\n', '\u{b}', '\u{c}', '\r']);
    let (is_negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let (base, digits) = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        Some(digits) => (16, digits),
        None if digits.starts_with('0') => (8, digits),
        None => (10, digits),
    };
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = i128::from_str_radix(digits, base).ok()?;
    i64::try_from(if is_negative { -magnitude } else { magnitude }).ok()
}

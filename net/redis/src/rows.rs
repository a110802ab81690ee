//! What is known of the rows of one key, and what a command makes of them.
//!
//! Evaluation asks for what it needs: it ends with a [`Need`] when it meets something that is not known yet, the caller reads
//! that and evaluates again from the start. So one evaluation serves reads that find everything in one row, writes under a
//! gate, and transactions, and nobody has to know beforehand what a command will look at.

use crate::answer;
use bytes::Bytes;
use pegasus_resp::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A live row.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Row {
    pub value: Bytes,
    /// Seconds since 2016-01-01 UTC; 0 = never.
    pub expire_at: u32,
}

/// What has to be read before a command can be evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// The rows of these sort keys.
    Rows(Vec<Bytes>),
    /// The first so many live rows of the key, in order of their sort keys.
    Head(usize),
}

/// Why an evaluation stops before its end.
#[derive(Clone, Debug, PartialEq)]
pub enum Stop {
    Need(Need),
    /// The answer is this error.
    Error(Value),
}

/// Of a result that may need more rows, or be an error.
pub type Known<T> = Result<T, Stop>;

/// What kind of thing a key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thing {
    Nothing,
    String(Row),
    /// All its rows expire at the same time.
    Hash {
        expire_at: u32,
    },
}

/// The rows of one key: as far as they are known, and as the commands so far have changed them.
#[derive(Clone, Debug, Default)]
pub struct State {
    named: BTreeMap<Bytes, Option<Row>>,
    head: Vec<(Bytes, Row)>,
    /// How many rows were asked for when `head` was read; 0 = it was not.
    head_asked: usize,
    /// The limit of `head_asked`.
    rows_max: usize,
    /// No row with a sort key is stored.
    is_plain: bool,
    writes: BTreeMap<Bytes, Option<Row>>,
}

impl State {
    /// Nothing is known. At most `rows_max` rows are read for one command.
    #[must_use]
    pub fn new(rows_max: usize) -> Self {
        Self {
            rows_max,
            ..Self::default()
        }
    }

    /// Tells what a row is.
    pub fn know(&mut self, sort_key: Bytes, row: Option<Row>) {
        self.named.insert(sort_key, row);
    }

    /// Tells the first rows, in order, of which `asked` were asked for: fewer mean that there are no more.
    pub fn know_head(&mut self, head: Vec<(Bytes, Row)>, asked: usize) {
        self.head = head;
        self.head_asked = asked;
    }

    /// Tells that no row of the key has a sort key, so that it is no hash: only the row of a string is left to be looked for,
    /// and not even that one by commands that replace it whatever it is.
    pub const fn know_plain(&mut self) {
        self.is_plain = true;
    }

    /// Forgets what commands have changed, for another evaluation.
    pub fn restart(&mut self) {
        self.writes.clear();
    }

    /// The rows to write and, as `None`, those to remove.
    pub fn writes(&self) -> impl Iterator<Item = (&Bytes, Option<&Row>)> {
        self.writes
            .iter()
            .map(|(sort_key, row)| (sort_key, row.as_ref()))
    }

    /// Whether anything is to be written.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        !self.writes.is_empty()
    }

    /// What the key is.
    ///
    /// The row of a string is looked up alone, which is cheaper than the first row; only if there is none does it matter
    /// whether the key is a hash.
    pub(crate) fn thing(&self) -> Known<Thing> {
        if let Some(row) = self.row(b"")? {
            return Ok(Thing::String(row.clone()));
        }
        Ok(match self.first()? {
            None => Thing::Nothing,
            Some((sort_key, row)) if sort_key.is_empty() => Thing::String(row.clone()),
            Some((_, row)) => Thing::Hash {
                expire_at: row.expire_at,
            },
        })
    }

    /// Whether the key is no hash, as far as that is known without looking.
    pub(crate) fn is_no_hash(&self) -> bool {
        let mut written = self.writes.iter();
        self.is_plain && !written.any(|(sort_key, row)| !sort_key.is_empty() && row.is_some())
    }

    /// The string, if the key is one.
    pub(crate) fn string(&self) -> Known<Option<Row>> {
        match self.thing()? {
            Thing::Nothing => Ok(None),
            Thing::String(row) => Ok(Some(row)),
            Thing::Hash { .. } => Err(wrong_type()),
        }
    }

    /// The expiry of the hash, if the key is one.
    pub(crate) fn hash(&self) -> Known<Option<u32>> {
        match self.thing()? {
            Thing::Nothing => Ok(None),
            Thing::Hash { expire_at } => Ok(Some(expire_at)),
            Thing::String(_) => Err(wrong_type()),
        }
    }

    /// A row by its sort key.
    pub(crate) fn row(&self, sort_key: &[u8]) -> Known<Option<&Row>> {
        if let Some(row) = self.writes.get(sort_key) {
            return Ok(row.as_ref());
        }
        if self.is_plain && !sort_key.is_empty() {
            return Ok(None);
        }
        if self.head_reaches(sort_key) {
            let found = self
                .head
                .binary_search_by(|(at, _)| at.as_ref().cmp(sort_key));
            return Ok(found
                .ok()
                .and_then(|index| self.head.get(index))
                .map(|(_, row)| row));
        }
        match self.named.get(sort_key) {
            Some(row) => Ok(row.as_ref()),
            None => Err(Stop::Need(Need::Rows(vec![Bytes::copy_from_slice(
                sort_key,
            )]))),
        }
    }

    /// Asks for all these rows at once, unless they are known.
    pub(crate) fn need(&self, sort_keys: impl Iterator<Item = Bytes>) -> Known<()> {
        let is_known = |sort_key: &Bytes| {
            self.is_plain
                || self.writes.contains_key(sort_key)
                || self.head_reaches(sort_key)
                || self.named.contains_key(sort_key)
        };
        // Each once, however often it is named.
        let missing: BTreeSet<Bytes> = sort_keys.filter(|sort_key| !is_known(sort_key)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Stop::Need(Need::Rows(missing.into_iter().collect())))
    }

    /// All rows in order, or the error `too_many`.
    pub(crate) fn all(&self, too_many: &'static str) -> Known<Vec<(Bytes, Row)>> {
        let string = match self.is_plain {
            true => self.stored_string()?,
            false if self.is_head_complete() => None,
            false => return Err(self.need_all(too_many)),
        };
        let stored = string.into_iter().chain(self.head.iter().cloned());
        let kept = stored.filter(|(key, _)| !self.writes.contains_key(key));
        let written = self.writes.iter();
        let written = written.filter_map(|(key, row)| Some((key.clone(), row.clone()?)));
        let mut all: Vec<_> = kept.chain(written).collect();
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(all)
    }

    /// Puts a row.
    pub(crate) fn put(&mut self, sort_key: Bytes, value: Bytes, expire_at: u32) {
        self.writes.insert(sort_key, Some(Row { value, expire_at }));
    }

    /// Removes a row.
    pub(crate) fn remove(&mut self, sort_key: Bytes) {
        self.writes.insert(sort_key, None);
    }

    /// The row of a string as it is stored, of a key that is no hash.
    fn stored_string(&self) -> Known<Option<(Bytes, Row)>> {
        if self.is_head_complete() {
            return Ok(None);
        }
        match self.named.get(&b""[..]) {
            Some(row) => Ok(row.clone().map(|row| (Bytes::new(), row))),
            None => Err(Stop::Need(Need::Rows(vec![Bytes::new()]))),
        }
    }

    /// What sorts first, given that the row of a string has been looked up and is not there.
    fn first(&self) -> Known<Option<(&Bytes, &Row)>> {
        let written = self
            .writes
            .iter()
            .find_map(|(key, row)| Some((key, row.as_ref()?)));
        if written.is_some_and(|(key, _)| key.is_empty()) {
            return Ok(written);
        }
        let stored = self
            .head
            .iter()
            .find(|(key, _)| !self.writes.contains_key(key));
        let stored = match stored {
            Some((key, row)) => (key, row),
            None if self.is_plain || self.is_head_complete() => return Ok(written),
            None if self.head_asked == 0 => return Err(Stop::Need(Need::Head(1))),
            None => return Err(self.need_all(answer::BIG_HASH_WRITE)),
        };
        Ok(match written {
            Some(written) if written.0 < stored.0 => Some(written),
            _ => Some(stored),
        })
    }

    fn need_all(&self, too_many: &'static str) -> Stop {
        // One more than may be used, so that a full head of that many is known to be whole.
        let all = self.rows_max + 1;
        if self.head_asked >= all {
            return Stop::Error(answer::error(too_many));
        }
        Stop::Need(Need::Head(all))
    }

    const fn is_head_complete(&self) -> bool {
        self.head_asked > self.head.len()
    }

    /// Whether the head would hold this row, if there were one.
    fn head_reaches(&self, sort_key: &[u8]) -> bool {
        let last = self.head.last();
        self.is_head_complete() || last.is_some_and(|(last, _)| sort_key <= last.as_ref())
    }
}

/// The command is for another kind of thing.
pub(crate) const fn wrong_type() -> Stop {
    error(answer::WRONG_TYPE)
}

pub(crate) const fn error(sentence: &'static str) -> Stop {
    Stop::Error(answer::error(sentence))
}

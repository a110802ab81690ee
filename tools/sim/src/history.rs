//! What clients asked and were told, and whether one copy of the data could have said it.
//!
//! Each row is a register, and every write puts a value of its own. Then linearizability needs no search (Gibbons and
//! Korach, "Testing Shared Memories", 1997): a value's *cluster* is its write and the reads that returned it; its *zone*
//! lies between the first end and the last beginning of an operation of the cluster. The history is linearizable if and
//! only if no read ends before the write of its value begins, no two zones that run forward (first end before last
//! beginning) overlap, and no zone that runs backward lies within one that runs forward.

mod orders;

pub use orders::{Item, Seen};

use orders::Orders;
use pegasus_replication::ids::{Instant, TableId};
use std::collections::BTreeMap;
use std::fmt;

/// When a run begins, so that time zero means nothing special.
pub const START: Instant = Instant(1_000_000_000_000);

/// As traces and messages show it.
#[must_use]
pub fn milliseconds_of_run(at: Instant) -> f64 {
    at.since(START).as_secs_f64() * 1e3
}

/// A row of a simulated table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub table: TableId,
    pub partition: u32,
    pub row: u32,
}

/// Number of a write, and the value it puts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(pub u64);

/// A place in the order in which clients begin operations and hear of their ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    number: u64,
    at: Instant,
}

impl Moment {
    const BEFORE_ALL: Self = Self {
        number: 0,
        at: Instant(0),
    };
    const NEVER: Self = Self {
        number: u64::MAX,
        at: Instant::FAR_FUTURE,
    };
}

/// How a write ended as far as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// No answer yet, or one that says "unknown": it may take effect at any time, or never.
    Open,
    Acknowledged(Moment),
    /// The answer said: not executed.
    NotExecuted,
}

#[derive(Clone, Copy, Debug)]
struct Write {
    key: Key,
    begun: Moment,
    ending: Ending,
}

#[derive(Clone, Copy, Debug)]
struct Read {
    begun: Moment,
    ended: Moment,
    found: Option<Value>,
}

/// Which promise was broken: what clients saw, or what only a look inside shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Broken {
    /// The history of clients has no explanation.
    History,
    /// An invariant of the protocol does not hold.
    Invariant,
    /// The cluster did not become whole in time.
    Liveness,
}

/// A violation of what the store promises, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub broken: Broken,
    pub text: String,
}

impl Violation {
    pub const fn history(text: String) -> Self {
        let broken = Broken::History;
        Self { broken, text }
    }

    pub const fn invariant(text: String) -> Self {
        let broken = Broken::Invariant;
        Self { broken, text }
    }

    pub const fn liveness(text: String) -> Self {
        let broken = Broken::Liveness;
        Self { broken, text }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:?}] {}", self.broken, self.text)
    }
}

#[derive(Debug, Default)]
pub struct History {
    /// By value, from 1.
    writes: Vec<Write>,
    reads: BTreeMap<Key, Vec<Read>>,
    orders: Orders,
    moments: u64,
    pub acknowledged: u64,
    pub read_count: u64,
}

impl History {
    fn moment(&mut self, at: Instant) -> Moment {
        self.moments += 1;
        Moment {
            number: self.moments,
            at,
        }
    }

    /// A client begins to write a fresh value.
    pub fn begin_write(&mut self, at: Instant, key: Key) -> Value {
        let begun = self.moment(at);
        let ending = Ending::Open;
        self.writes.push(Write { key, begun, ending });
        Value(self.writes.len() as u64)
    }

    pub fn acknowledge(&mut self, at: Instant, value: Value) {
        let moment = self.moment(at);
        self.acknowledged += 1;
        self.write_mut(value).ending = Ending::Acknowledged(moment);
    }

    pub fn not_executed(&mut self, value: Value) {
        self.write_mut(value).ending = Ending::NotExecuted;
    }

    /// A client begins to read; the moment goes to [`Self::end_read`].
    pub fn begin_read(&mut self, at: Instant) -> Moment {
        self.moment(at)
    }

    /// The read has returned `found`.
    pub fn end_read(&mut self, at: Instant, key: Key, begun: Moment, found: Option<Value>) {
        let ended = self.moment(at);
        self.read_count += 1;
        let read = Read {
            begun,
            ended,
            found,
        };
        self.reads.entry(key).or_default().push(read);
    }

    /// Every row that anybody wrote to.
    pub fn keys(&self) -> Vec<Key> {
        let mut keys: Vec<Key> = self.writes.iter().map(|write| write.key).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    fn write_mut(&mut self, value: Value) -> &mut Write {
        self.get_mut(value)
            .expect("a write ends after it has begun")
    }

    fn get_mut(&mut self, value: Value) -> Option<&mut Write> {
        let index = usize::try_from(value.0.checked_sub(1)?).ok()?;
        self.writes.get_mut(index)
    }

    fn get(&self, value: Value) -> Option<&Write> {
        let index = usize::try_from(value.0.checked_sub(1)?).ok()?;
        self.writes.get(index)
    }

    /// Whether one copy of each row, with operations one after another, explains all that clients saw.
    ///
    /// # Errors
    /// The first row for which it does not.
    pub fn check(&self) -> Result<(), Violation> {
        let mut clusters: BTreeMap<Key, BTreeMap<Option<Value>, Cluster>> = BTreeMap::new();
        for (number, write) in (1..).zip(&self.writes) {
            let of_key = clusters.entry(write.key).or_insert_with(rows_begin_empty);
            if let Some(cluster) = Cluster::of_write(write) {
                of_key.insert(Some(Value(number)), cluster);
            }
        }
        for (key, reads) in &self.reads {
            let of_key = clusters.entry(*key).or_insert_with(rows_begin_empty);
            for read in reads {
                self.check_origin(*key, read)?;
                if let Some(cluster) = of_key.get_mut(&read.found) {
                    cluster.add(read);
                }
            }
        }
        clusters
            .iter()
            .try_for_each(|(key, clusters)| check_zones(*key, clusters))?;
        self.orders.check()
    }

    /// Somebody wrote what was read, to this row, before the read ended, and was not told that it was not executed.
    fn check_origin(&self, key: Key, read: &Read) -> Result<(), Violation> {
        let Some(value) = read.found else {
            return Ok(());
        };
        let what = match self.get(value) {
            None => "nobody wrote it".to_owned(),
            Some(write) if write.key != key => format!("it was written to {:?}", write.key),
            Some(write) if write.ending == Ending::NotExecuted => {
                "its writer was told that it was not executed".to_owned()
            }
            Some(write) if write.begun > read.ended => "its write had not begun".to_owned(),
            Some(_) => return Ok(()),
        };
        let at = shown(read.ended);
        Err(Violation::history(format!(
            "{key} was read as {} at {at}: {what}",
            value.0
        )))
    }
}

fn rows_begin_empty() -> BTreeMap<Option<Value>, Cluster> {
    let nothing = Cluster {
        first_end: Moment::BEFORE_ALL,
        last_begin: Moment::BEFORE_ALL,
        has_reads: false,
        is_open: false,
    };
    BTreeMap::from([(None, nothing)])
}

/// All operations on one value.
#[derive(Clone, Copy, Debug)]
struct Cluster {
    first_end: Moment,
    last_begin: Moment,
    has_reads: bool,
    /// Its write may never have happened.
    is_open: bool,
}

impl Cluster {
    fn of_write(write: &Write) -> Option<Self> {
        let (first_end, is_open) = match write.ending {
            Ending::Acknowledged(end) => (end, false),
            Ending::Open => (Moment::NEVER, true),
            Ending::NotExecuted => return None,
        };
        Some(Self {
            first_end,
            last_begin: write.begun,
            has_reads: false,
            is_open,
        })
    }

    fn add(&mut self, read: &Read) {
        self.first_end = self.first_end.min(read.ended);
        self.last_begin = self.last_begin.max(read.begun);
        self.has_reads = true;
    }

    /// It has to take its place; a write of open outcome that nobody read may not have happened.
    fn counts(&self) -> bool {
        self.has_reads || !self.is_open
    }
}

fn check_zones(key: Key, clusters: &BTreeMap<Option<Value>, Cluster>) -> Result<(), Violation> {
    let mut forward: Vec<(Moment, Moment, Option<Value>)> = Vec::new();
    let mut backward = Vec::new();
    for (value, cluster) in clusters.iter().filter(|(_, cluster)| cluster.counts()) {
        if cluster.first_end < cluster.last_begin {
            forward.push((cluster.first_end, cluster.last_begin, *value));
        } else {
            backward.push((cluster.last_begin, cluster.first_end, *value));
        }
    }
    forward.sort_unstable();
    for pair in forward.windows(2) {
        let [(_, end, one), (start, last, other)] = pair else {
            continue;
        };
        if start < end {
            return Err(Violation::history(format!(
                "{key}: {} and {} were both seen after the other: at {} and {}",
                named(*one),
                named(*other),
                shown(*end),
                shown(*last)
            )));
        }
    }
    for (start, end, value) in backward {
        let before = forward.partition_point(|(from, _, _)| *from < start);
        let Some((from, to, other)) = before.checked_sub(1).and_then(|at| forward.get(at)) else {
            continue;
        };
        if end < *to {
            return Err(Violation::history(format!(
                "{key}: {} was read again at {}, but {} took effect between {} and {}, after {} had been seen at {}",
                named(*other),
                shown(*to),
                named(value),
                shown(start),
                shown(end),
                named(*other),
                shown(*from)
            )));
        }
    }
    Ok(())
}

fn named(value: Option<Value>) -> String {
    value.map_or_else(
        || "nothing".to_owned(),
        |value| format!("write {}", value.0),
    )
}

/// In milliseconds of the run, as in a trace.
fn shown(moment: Moment) -> String {
    match moment {
        Moment::NEVER => "the end".to_owned(),
        Moment::BEFORE_ALL => "the beginning".to_owned(),
        moment => format!("{:.3} ms", milliseconds_of_run(moment.at)),
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "row {} of {}.{}", self.row, self.table.0, self.partition)
    }
}

#[cfg(test)]
mod tests;

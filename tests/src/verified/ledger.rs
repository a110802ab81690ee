//! What all clients did, under one lock: the order in which they take it is the order of the history.

use super::gaps::Gaps;
use super::report::Report;
use anyhow::{Context, Result};
use pegasus_client::{Error, Execution, Table};
use pegasus_replication::ids::{Instant, TableId};
use rand::Rng;
use rand::rngs::SmallRng;
use sim::history::{History, Key, Moment, START, Value};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The rows that clients work on: some of each partition.
#[derive(Debug)]
pub(crate) struct Rows {
    partitions: u32,
    rows: Vec<(Key, Vec<u8>)>,
}

impl Rows {
    /// This many rows of each partition.
    pub(crate) fn of(table: &Table, each: usize) -> Self {
        let partitions = table.partition_count();
        let mut wanted = vec![each; partitions as usize];
        let mut rows = Vec::new();
        let mut row = 0;
        while wanted.iter().any(|left| *left > 0) {
            let hash_key = format!("row-{row}").into_bytes();
            let partition = table.partition_of(&hash_key, b"s");
            let table = TableId(table.id());
            let left = &mut wanted[partition as usize];
            if *left > 0 {
                *left -= 1;
                let key = Key {
                    table,
                    partition,
                    row,
                };
                rows.push((key, hash_key));
            }
            row += 1;
        }
        Self { partitions, rows }
    }

    pub(crate) fn any(&self, random: &mut SmallRng) -> (Key, &[u8]) {
        let (key, hash_key) = &self.rows[random.random_range(0..self.rows.len())];
        (*key, hash_key)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (Key, &[u8])> {
        self.rows
            .iter()
            .map(|(key, hash_key)| (*key, hash_key.as_slice()))
    }

    pub(crate) const fn count(&self) -> usize {
        self.rows.len()
    }
}

/// A write under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    key: Key,
    value: Value,
    at: Instant,
}

impl Begun {
    /// What it puts.
    pub(crate) const fn bytes(self) -> [u8; 8] {
        self.value.0.to_be_bytes()
    }
}

#[derive(Debug)]
struct Book {
    history: History,
    writes: Gaps,
    reads: Gaps,
    /// By what they said.
    failures: BTreeMap<String, u64>,
    /// Partitions whose first write that begins after a moment is waited for, and when it ended.
    watched: Vec<(u32, Option<Instant>)>,
    watched_after: Instant,
    begun: Instant,
}

/// Shared by all clients of one run.
#[derive(Debug)]
pub(crate) struct Ledger {
    started: std::time::Instant,
    rows: Rows,
    book: Mutex<Book>,
}

impl Ledger {
    pub(crate) fn new(rows: Rows) -> Self {
        let gaps = || Gaps::of(rows.partitions as usize, START);
        let book = Book {
            history: History::default(),
            writes: gaps(),
            reads: gaps(),
            failures: BTreeMap::new(),
            watched: Vec::new(),
            watched_after: START,
            begun: START,
        };
        Self {
            started: std::time::Instant::now(),
            rows,
            book: Mutex::new(book),
        }
    }

    pub(crate) const fn rows(&self) -> &Rows {
        &self.rows
    }

    pub(crate) fn now(&self) -> Instant {
        self.moment(std::time::Instant::now())
    }

    /// A moment of this process on the history's clock.
    pub(crate) fn moment(&self, at: std::time::Instant) -> Instant {
        START.after(at.saturating_duration_since(self.started))
    }

    pub(crate) fn begin_write(&self, key: Key) -> Begun {
        let mut book = self.book();
        let at = self.now();
        let value = book.history.begin_write(at, key);
        Begun { key, value, at }
    }

    pub(crate) fn end_write(&self, write: Begun, error: Option<&Error>) {
        let Begun { key, value, at } = write;
        let mut book = self.book();
        let now = self.now();
        match error {
            None => {
                book.history.acknowledge(now, value);
                book.writes.succeed(key.partition, now);
                book.note_watched(key.partition, at, now);
            }
            Some(error) => {
                if error.execution() == Execution::NotExecuted {
                    book.history.not_executed(value);
                }
                book.fail("write", error);
            }
        }
    }

    pub(crate) fn begin_read(&self) -> Moment {
        let mut book = self.book();
        let now = self.now();
        book.history.begin_read(now)
    }

    /// `found`: a value as clients write them. Says whether it is one.
    pub(crate) fn end_read(&self, key: Key, begun: Moment, found: Option<&[u8]>) -> Result<()> {
        let mut book = self.book();
        let now = self.now();
        let value = found.map(value_of).transpose();
        let value = value.with_context(|| format!("{key} was read as {found:?}"))?;
        book.history.end_read(now, key, begun, value);
        book.reads.succeed(key.partition, now);
        Ok(())
    }

    pub(crate) fn fail_read(&self, error: &Error) {
        self.book().fail("read", error);
    }

    /// A read that only has to be explained, because a client of ours would not have asked there.
    pub(crate) fn end_stray_read(
        &self,
        key: Key,
        begun: Moment,
        found: Option<&[u8]>,
    ) -> Result<()> {
        let mut book = self.book();
        let now = self.now();
        let value = found.map(value_of).transpose()?;
        book.history.end_read(now, key, begun, value);
        Ok(())
    }

    /// Partitions without a write or without a read that ended after `moment`.
    pub(crate) fn behind(&self, moment: Instant) -> Vec<u32> {
        let book = self.book();
        let behind = |partition: &u32| {
            book.writes.last(*partition) <= moment || book.reads.last(*partition) <= moment
        };
        (0..self.rows.partitions).filter(behind).collect()
    }

    /// From now on the first write of each of these that begins now or later is waited for.
    pub(crate) fn watch_writes(&self, partitions: &[u32]) {
        let mut book = self.book();
        book.watched_after = self.now();
        book.watched = partitions
            .iter()
            .map(|partition| (*partition, None))
            .collect();
    }

    /// For each watched partition, when that write ended.
    pub(crate) fn watched(&self) -> Vec<Option<Instant>> {
        self.book().watched.iter().map(|(_, at)| *at).collect()
    }

    pub(crate) fn successes(&self) -> u64 {
        let book = self.book();
        book.history.acknowledged + book.history.read_count
    }

    pub(crate) fn forget_gaps(&self) {
        let mut book = self.book();
        let now = self.now();
        book.begun = now;
        book.writes.forget(now);
        book.reads.forget(now);
        book.failures.clear();
    }

    /// What lasts until now is a gap too; later successes and pauses do not count.
    pub(crate) fn close_gaps(&self) {
        let mut book = self.book();
        let now = self.now();
        book.writes.close(now);
        book.reads.close(now);
    }

    pub(crate) fn report(&self, scenario: &str) -> Report {
        let book = self.book();
        Report {
            scenario: scenario.to_owned(),
            span: self.now().since(book.begun),
            writes: book.history.acknowledged,
            reads: book.history.read_count,
            failures: book.failures.clone(),
            longest_without_write: book.writes.longest(),
            longest_without_read: book.reads.longest(),
            verdict: book.history.check(),
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn fail(&mut self, operation: &str, error: &Error) {
        let execution = match error.execution() {
            Execution::Unknown => " unknown",
            _ if operation == "read" => " failed",
            _ => " not executed",
        };
        let code = error
            .code()
            .map_or_else(|| "no answer".to_owned(), |code| code.name().to_owned());
        let kind = format!("{operation}{execution} ({code})");
        *self.failures.entry(kind).or_default() += 1;
    }

    fn note_watched(&mut self, partition: u32, begun: Instant, now: Instant) {
        if begun <= self.watched_after {
            return;
        }
        for (watched, at) in &mut self.watched {
            if *watched == partition {
                at.get_or_insert(now);
            }
        }
    }
}

/// Values are numbers of writes.
fn value_of(bytes: &[u8]) -> Result<Value> {
    let number = bytes.try_into().context("no value of ours")?;
    Ok(Value(u64::from_be_bytes(number)))
}

//! Did the server tell the truth? A history of what was written when, and what each read may therefore return.
//!
//! Any worker may write any record at any time, so a rule needs the clock: each operation has a moment before it was
//! sent and one after it was answered, and took effect in between. For one cell (a field of a record, or its value):
//!
//! - A write is **in effect** from its acknowledgement, or from the end of the first read that returned it.
//! - It is **overwritten** from the moment another write is in effect that came after it. One comes after another if it was sent when the
//!   other was in effect already, or if a read that was sent when the other was in effect returned it.
//! - A read that was sent after a write was overwritten must not return it. It may return any other write that was sent
//!   before the read ended, whatever its outcome; refused writes never.
//!
//! Two writes that overlap may take effect in either order, but in one: the first read that shows it settles it. A write of unknown
//! outcome may take effect at any time after it was sent, but only once. Every answer that this refuses is impossible for a register
//! that is linearizable; a few impossible ones that need the reads of several clients to be combined pass.
//!
//! Versions name writes; they are never used twice, not by a later run either. What was there before the run is known
//! from a state file ([`state`]), or else is whatever the first read of it shows.

mod cell;
mod state;

pub(crate) use state::{Key as StateKey, State};

use crate::layout::{CellName, Layout};
use crate::target::Cell as Found;
use crate::value::decode;
use cell::{Answer, Cell, Fault as CellFault, Judged};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fault {
    /// A value that must be there is not.
    Lost,
    /// A version that was overwritten before the read was sent.
    Stale,
    /// A version that was never written, or was refused.
    NeverWritten,
    /// A whole value of another record or field, or under a strange name.
    Foreign,
    /// Not a value of ours: cut, altered or strange.
    Damaged,
}

/// An answer that cannot be true.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Violation {
    pub(crate) fault: Fault,
    pub(crate) record: u64,
    pub(crate) sentence: String,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteEnd {
    Acknowledged,
    /// It may take effect at any time, or never.
    Unknown,
    Refused,
}

/// When an operation was under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// Before it was sent.
    pub(crate) began: Instant,
    /// After its answer.
    pub(crate) ended: Instant,
}

/// What the cells of all records may hold; shared by all threads. Takes some 100 bytes for each cell that was written or
/// read, and up to 3 KiB for one that is always being written.
#[derive(Debug)]
pub(crate) struct History {
    layout: Layout,
    /// Records below this were loaded before.
    loaded: u64,
    /// First version of this run; anything below is from an earlier one.
    base: u64,
    epoch: Instant,
    prior: Prior,
    shards: Vec<Mutex<HashMap<CellName, Cell>>>,
    checked: AtomicU64,
    unjudged: AtomicU64,
}

/// What is known about the time before the run.
#[derive(Debug)]
enum Prior {
    /// Nothing: loaded records are there in some version, others may be.
    Unknown,
    Known(State),
}

/// So that threads seldom meet.
const SHARDS: usize = 256;

impl History {
    /// `state`: how an earlier load or run left the records.
    pub(crate) fn new(layout: Layout, loaded: u64, base: u64, state: Option<State>) -> Self {
        Self {
            layout,
            loaded,
            base,
            // One second back, so that time 0 lies before everything.
            epoch: Instant::now()
                .checked_sub(std::time::Duration::from_secs(1))
                .unwrap_or_else(Instant::now),
            prior: state.map_or(Prior::Unknown, Prior::Known),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            checked: AtomicU64::new(0),
            unjudged: AtomicU64::new(0),
        }
    }

    /// To be called before the write is sent.
    pub(crate) fn write_begins(&self, name: CellName, version: u64, at: Instant) {
        let at = self.time(at);
        self.with(name, |cell| cell.write_begins(version, at));
    }

    /// To be called after its answer.
    pub(crate) fn write_ends(&self, name: CellName, version: u64, end: WriteEnd, at: Instant) {
        let at = self.time(at);
        self.with(name, |cell| match end {
            WriteEnd::Acknowledged => cell.in_effect(version, at),
            WriteEnd::Refused => cell.refused(version),
            WriteEnd::Unknown => {}
        });
    }

    /// Judges what a read of a record returned, and learns from it.
    pub(crate) fn check_read(&self, record: u64, found: &[Found], span: Span) -> Vec<Violation> {
        let mut violations = Vec::new();
        let mut seen = 0_u128;
        for cell in found {
            match cell.name {
                Some(name)
                    if name.record == record
                        && name.field < self.layout.cells()
                        && seen & (1 << name.field) == 0 =>
                {
                    seen |= 1 << name.field;
                    violations.extend(self.check_cell(name, &cell.value, span).err());
                }
                name => violations.push(out_of_place(record, name)),
            }
        }
        for field in (0..self.layout.cells()).filter(|field| seen & (1 << field) == 0) {
            violations.extend(self.check_absent(CellName { record, field }, span).err());
        }
        violations
    }

    /// Judges a scan of `records` records from one on: what it returned must be true, ascending and without holes.
    pub(crate) fn check_scan(
        &self,
        record: u64,
        records: u32,
        found: &[Found],
        span: Span,
    ) -> Vec<Violation> {
        let mut violations = Vec::new();
        let mut next = CellName { record, field: 0 };
        let last = self.layout.last_sibling(record);
        let end = record
            .saturating_add(u64::from(records))
            .min(last.saturating_add(1));
        // Fields of one record come in the order of their names, which is not that of their numbers from ten on.
        let mut ordered: Vec<&Found> = found.iter().collect();
        ordered.sort_by_key(|cell| cell.name);
        for cell in ordered {
            let Some(name) = cell.name.filter(|name| *name >= next && name.record < end) else {
                violations.push(out_of_place(record, cell.name));
                continue;
            };
            violations.extend(self.absent_between(next, name, span));
            violations.extend(self.check_cell(name, &cell.value, span).err());
            next = self.after(name);
        }
        let end = CellName {
            record: end,
            field: 0,
        };
        violations.extend(self.absent_between(next, end, span));
        violations
    }

    /// Records with something to check after the run.
    pub(crate) fn touched(&self) -> Vec<u64> {
        let mut records: Vec<u64> = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            let written = shard.iter().filter(|(_, cell)| cell.was_written());
            records.extend(written.map(|(name, _)| name.record));
        }
        records.sort_unstable();
        records.dedup();
        records
    }

    /// Values that were compared so far, and those of them that were too old to judge.
    pub(crate) fn checked(&self) -> (u64, u64) {
        (
            self.checked.load(Ordering::Relaxed),
            self.unjudged.load(Ordering::Relaxed),
        )
    }

    /// How the run leaves the records. `key` says whose they are.
    pub(crate) fn state(&self, key: StateKey) -> State {
        let mut state = match &self.prior {
            Prior::Known(prior) => prior.clone(),
            Prior::Unknown => State::unknown(key),
        };
        for shard in &self.shards {
            for (name, cell) in lock(shard).iter() {
                state.keep(*name, cell.leaves());
            }
        }
        state
    }

    fn check_cell(&self, name: CellName, bytes: &[u8], span: Span) -> Result<(), Violation> {
        self.checked.fetch_add(1, Ordering::Relaxed);
        match decode(bytes) {
            None => Err(violation(
                Fault::Damaged,
                name,
                format!("{} bytes that were never written", bytes.len()),
            )),
            Some((other, version)) if other != name => Err(violation(
                Fault::Foreign,
                name,
                format!(
                    "the value of record {} field {} at version {version}",
                    other.record, other.field
                ),
            )),
            Some((_, version)) => self.judge(name, Answer::Version(version), span),
        }
    }

    fn check_absent(&self, name: CellName, span: Span) -> Result<(), Violation> {
        self.checked.fetch_add(1, Ordering::Relaxed);
        self.judge(name, Answer::Absent, span)
    }

    /// Cells from one up to, without, another that a scan did not return.
    fn absent_between(&self, from: CellName, to: CellName, span: Span) -> Vec<Violation> {
        let mut violations = Vec::new();
        let mut name = from;
        while name < to {
            violations.extend(self.check_absent(name, span).err());
            name = self.after(name);
        }
        violations
    }

    fn after(&self, name: CellName) -> CellName {
        if name.field + 1 < self.layout.cells() {
            return CellName {
                field: name.field + 1,
                ..name
            };
        }
        CellName {
            record: name.record + 1,
            field: 0,
        }
    }

    fn judge(&self, name: CellName, answer: Answer, span: Span) -> Result<(), Violation> {
        let (began, ended) = (self.time(span.began), self.time(span.ended));
        let judged = self.with(name, |cell| cell.read_ends(answer, began, ended, self.base));
        let (fault, expected) = match judged {
            Judged::True => return Ok(()),
            Judged::TooOldToTell => {
                self.unjudged.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            Judged::False { fault, expected } => (fault, expected),
        };
        let fault = match fault {
            CellFault::Stale => Fault::Stale,
            CellFault::Lost => Fault::Lost,
            CellFault::NeverWritten => Fault::NeverWritten,
        };
        let found = match answer {
            Answer::Absent => "nothing".to_owned(),
            Answer::Version(version) => format!("version {version}"),
        };
        Err(violation(
            fault,
            name,
            format!("{found}, expected {expected}"),
        ))
    }

    fn with<T>(&self, name: CellName, work: impl FnOnce(&mut Cell) -> T) -> T {
        let mut shard = lock(self.shard(name));
        work(shard.entry(name).or_insert_with(|| self.initial(name)))
    }

    fn initial(&self, name: CellName) -> Cell {
        let loaded = name.record < self.loaded;
        match &self.prior {
            Prior::Unknown => Cell::unknown(!loaded),
            Prior::Known(state) => state.initial(name, loaded),
        }
    }

    fn shard(&self, name: CellName) -> &Mutex<HashMap<CellName, Cell>> {
        let mixed = (name.record ^ (name.field as u64) << 57).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        #[allow(clippy::cast_possible_truncation, reason = "eight bits are left")]
        let index = (mixed >> 56) as usize % SHARDS;
        &self.shards[index]
    }

    fn time(&self, at: Instant) -> u64 {
        u64::try_from(at.duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX - 1)
    }
}

fn lock(shard: &Mutex<HashMap<CellName, Cell>>) -> MutexGuard<'_, HashMap<CellName, Cell>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn violation(fault: Fault, name: CellName, found: String) -> Violation {
    Violation {
        fault,
        record: name.record,
        sentence: format!("record {} field {}: read {found}", name.record, name.field),
    }
}

fn out_of_place(record: u64, name: Option<CellName>) -> Violation {
    let found = match name {
        Some(name) => format!("record {} field {}", name.record, name.field),
        None => "a name that is none of ours".to_owned(),
    };
    Violation {
        fault: Fault::Foreign,
        record,
        sentence: format!(
            "record {record}: the answer has {found}, which was not asked for, or twice"
        ),
    }
}

#[cfg(test)]
mod tests;

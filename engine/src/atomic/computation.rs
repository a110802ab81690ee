//! Rows as they are prepared, found as a program asks for them.

use super::{Evaluation, Moment, Program};
use crate::op::{BatchRef, OpRef};
use crate::range::hash_key_range;
use crate::scan::{KeyedRow, ScanPage, ScanSpec, Stop, TURN_EXAMINED_DEFAULT};
use crate::value::is_expired;
use crate::{Engine, ReadError, Row, Tier};
use bytes::Bytes;
use pegasus_replication::ids::{Decree, PartitionId};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Rows that have to be known before a program can go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// Those under these raw keys.
    Rows(Vec<Bytes>),
    /// The first so many live rows of a hash key, in order of their sort keys.
    Head {
        /// The raw key of the hash key with an empty sort key.
        prefix: Bytes,
        rows: usize,
    },
}

/// Where applied rows are read: an engine on its core, or another handle of it on a helper thread.
pub trait Source {
    /// The live row under this raw key.
    ///
    /// # Errors
    /// [`ReadError`]; `Incomplete` if it is not in memory and may not be waited for.
    fn row(&self, raw_key: &[u8], now_s: u32) -> Result<Option<Row>, ReadError>;

    /// All rows of a range read, which has no turn limits of its own.
    ///
    /// # Errors
    /// [`ReadError`]; `Incomplete` if they are not in memory, or too many for one turn, and may not be waited for.
    fn page(&self, spec: &ScanSpec) -> Result<ScanPage, ReadError>;

    /// The replica that is read.
    fn partition(&self) -> PartitionId;

    /// Rows that one operation may look up here; with more it goes on where it may take its time.
    fn rows_max(&self) -> usize {
        usize::MAX
    }
}

/// Rows that one operation may look up on a data core: some 200 us.
const ROWS_PER_TURN: usize = 64;

/// Bytes of all rows that one operation may see. What it needs besides is a small part of them.
pub const ROWS_BYTES_MAX: usize = 128 << 20;

/// A replica in an engine, read as far as its tier goes.
#[derive(Debug)]
pub struct EngineSource<'a, E> {
    pub engine: &'a E,
    pub partition: PartitionId,
    pub tier: Tier,
}

impl<E: Engine> Source for EngineSource<'_, E> {
    fn row(&self, raw_key: &[u8], now_s: u32) -> Result<Option<Row>, ReadError> {
        self.engine.get(self.partition, raw_key, now_s, self.tier)
    }

    fn page(&self, spec: &ScanSpec) -> Result<ScanPage, ReadError> {
        let mut spec = spec.clone();
        if self.tier == Tier::CacheOnly {
            spec.turn_examined_max = TURN_EXAMINED_DEFAULT;
        }
        let page = self.engine.scan(self.partition, &spec, self.tier)?;
        match page.stop {
            Stop::Yield { .. } => Err(ReadError::Incomplete {
                partition: self.partition,
            }),
            Stop::Exhausted | Stop::Limit { .. } => Ok(page),
        }
    }

    fn partition(&self) -> PartitionId {
        self.partition
    }

    fn rows_max(&self) -> usize {
        match self.tier {
            Tier::CacheOnly => ROWS_PER_TURN,
            Tier::Full => usize::MAX,
        }
    }
}

/// The first rows of a hash key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Live ones, in order of their raw keys; fewer than `asked`: there are no more.
    pub rows: Vec<KeyedRow>,
    pub asked: usize,
}

/// What is known of the rows of a hash key.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    named: BTreeMap<Bytes, Option<Row>>,
    head: Option<Head>,
    /// Of the values of those that are named.
    named_bytes: usize,
}

impl Rows {
    /// The live row under a raw key.
    ///
    /// # Errors
    /// It is not known yet: what a program returns in turn.
    pub fn row(&self, raw_key: &Bytes) -> Result<Option<&Row>, Need> {
        match self.named.get(raw_key) {
            Some(row) => Ok(row.as_ref()),
            None => Err(Need::Rows(vec![raw_key.clone()])),
        }
    }

    /// All rows that were asked for by their raw keys so far; `None`: missing or expired.
    pub fn named(&self) -> impl Iterator<Item = (&Bytes, Option<&Row>)> {
        self.named.iter().map(|(key, row)| (key, row.as_ref()))
    }

    /// The first rows of the hash key, if they were asked for.
    #[must_use]
    pub const fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }
}

/// A program on its way to its end. May move from the core to a helper thread in between; nothing else of its gate gets a
/// decree meanwhile.
#[derive(Clone, Debug)]
pub struct Computation<P> {
    program: P,
    moment: Moment,
    rows: Rows,
    /// Everything that is in flight has been looked at; afterwards what was in flight may be applied, unseen by the engine
    /// that was read before.
    overlay: Option<BTreeMap<Bytes, Option<Row>>>,
}

impl<P: Program> Computation<P> {
    #[must_use]
    pub fn new(program: P, moment: Moment) -> Self {
        Self {
            program,
            moment,
            rows: Rows::default(),
            overlay: None,
        }
    }

    /// Goes on as far as `source` can answer. `inflight`: payloads of the mutations of its gate that may not be applied,
    /// the newest first; not looked at any more after [`Self::detach`].
    ///
    /// # Errors
    /// [`ReadError`]. After `Incomplete`, detach it and go on with a source that may wait.
    pub fn run<'a, I>(
        &mut self,
        inflight: impl Fn() -> I,
        source: &impl Source,
    ) -> Result<Evaluation<P::Answer>, ReadError>
    where
        I: Iterator<Item = &'a Bytes>,
    {
        self.run_over(&Walk(inflight), source)
    }

    /// The same, given what those mutations make of rows.
    ///
    /// # Errors
    /// See [`Self::run`].
    pub fn run_over(
        &mut self,
        pending: &impl Pending,
        source: &impl Source,
    ) -> Result<Evaluation<P::Answer>, ReadError> {
        loop {
            match self.program.evaluate(&self.rows, self.moment) {
                Ok(evaluation) => return Ok(evaluation),
                Err(Need::Rows(raw_keys)) => self.find_rows(raw_keys, pending, source)?,
                Err(Need::Head { prefix, rows }) => {
                    self.find_head(prefix, rows, pending, source)?;
                }
            }
        }
    }

    /// Remembers what is in flight, so that it may be applied meanwhile.
    pub fn detach<'a>(&mut self, inflight: impl Iterator<Item = &'a Bytes>) {
        if self.overlay.is_none() {
            self.overlay = Some(overlay_of(inflight));
        }
    }

    fn find_rows(
        &mut self,
        raw_keys: Vec<Bytes>,
        pending: &impl Pending,
        source: &impl Source,
    ) -> Result<(), ReadError> {
        let now_s = self.moment.now_s();
        let partition = source.partition();
        if self.rows.named.len() + raw_keys.len() > source.rows_max() {
            return Err(ReadError::Incomplete { partition });
        }
        for raw_key in raw_keys {
            let prepared = match &self.overlay {
                Some(overlay) => overlay.get(&raw_key).cloned(),
                None => pending.row(&raw_key),
            };
            let row = match prepared {
                Some(row) => row.filter(|row| !is_expired(row.expire_at, now_s)),
                None => source.row(&raw_key, now_s)?,
            };
            self.rows.named_bytes += row.as_ref().map_or(0, |row| row.data.len());
            self.rows.named.insert(raw_key, row);
            if self.rows.named_bytes > ROWS_BYTES_MAX {
                return Err(too_large(partition));
            }
        }
        Ok(())
    }

    fn find_head(
        &mut self,
        prefix: Bytes,
        asked: usize,
        pending: &impl Pending,
        source: &impl Source,
    ) -> Result<(), ReadError> {
        let now_s = self.moment.now_s();
        // Of the prepared rows the first ones are enough: what comes behind so many is not among the first.
        let (mut put, mut removed) = (Vec::new(), Vec::new());
        let mut see = |key: &Bytes, row: Option<&Row>| match row
            .filter(|row| !is_expired(row.expire_at, now_s))
        {
            Some(row) if put.len() < asked => put.push((key.clone(), row.clone())),
            Some(_) => {}
            None => removed.push(key.clone()),
        };
        match &self.overlay {
            Some(overlay) => overlay
                .range::<Bytes, _>(&prefix..)
                .take_while(|(key, _)| key.starts_with(&prefix))
                .for_each(|(key, row)| see(key, row.as_ref())),
            None => pending.each(&prefix, &mut see),
        }
        let mut spec = hash_key_range(prefix, now_s);
        // So many that those which are removed leave enough.
        spec.rows_max = asked.saturating_add(removed.len());
        spec.turn_examined_max = usize::MAX;
        spec.bytes_max = ROWS_BYTES_MAX;
        let page = source.page(&spec)?;
        if page.is_cut_by_bytes(&spec) {
            return Err(too_large(source.partition()));
        }
        let mut rows: BTreeMap<Bytes, Row> =
            page.rows.into_iter().map(|it| (it.key, it.row)).collect();
        for key in &removed {
            rows.remove(key);
        }
        rows.extend(put);
        let rows = rows.into_iter().take(asked);
        let rows = rows.map(|(key, row)| KeyedRow { key, row }).collect();
        self.rows.head = Some(Head { rows, asked });
        Ok(())
    }
}

const fn too_large(partition: PartitionId) -> ReadError {
    ReadError::TooLarge {
        partition,
        bytes_max: ROWS_BYTES_MAX,
    }
}

/// What mutations in flight make of rows: of each row the newest of them counts.
pub trait Pending {
    /// `None`: they leave it as it is; `Some(None)`: it is removed. Expiry is not looked at.
    fn row(&self, raw_key: &[u8]) -> Option<Option<Row>>;

    /// Shows all rows that they put or remove under `prefix`, in order of their raw keys.
    fn each(&self, prefix: &Bytes, see: &mut dyn FnMut(&Bytes, Option<&Row>));
}

/// Looks through payloads, the newest first, with every question.
struct Walk<F>(F);

impl<'a, F: Fn() -> I, I: Iterator<Item = &'a Bytes>> Pending for Walk<F> {
    fn row(&self, raw_key: &[u8]) -> Option<Option<Row>> {
        (self.0)().find_map(|payload| written_last(payload, raw_key))
    }

    fn each(&self, prefix: &Bytes, see: &mut dyn FnMut(&Bytes, Option<&Row>)) {
        let overlay = overlay_of((self.0)());
        overlay
            .range::<Bytes, _>(prefix..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .for_each(|(key, row)| see(key, row.as_ref()));
    }
}

/// What many mutations in flight make of rows, kept so that each is looked at once only, and not with every question.
#[derive(Debug, Default)]
pub struct Prepared {
    /// With the decree that made it so.
    rows: BTreeMap<Bytes, (Decree, Option<Row>)>,
    applied: Decree,
}

impl Prepared {
    /// Adds the payload of a decree, in order of decrees.
    pub fn add(&mut self, decree: Decree, payload: &Bytes) {
        for op in operations(payload) {
            let (key, row) = written(payload, op);
            self.rows.insert(key, (decree, row));
        }
    }

    /// What is applied by now is the engine's to tell. Cheap: rows are dropped when they are many.
    pub fn set_applied(&mut self, applied: Decree) {
        self.applied = applied;
        if self.rows.len() >= PREPARED_ROWS_KEPT {
            self.rows.retain(|_, (decree, _)| *decree > applied);
        }
    }
}

impl Pending for Prepared {
    fn row(&self, raw_key: &[u8]) -> Option<Option<Row>> {
        let (decree, row) = self.rows.get(raw_key)?;
        (*decree > self.applied).then(|| row.clone())
    }

    fn each(&self, prefix: &Bytes, see: &mut dyn FnMut(&Bytes, Option<&Row>)) {
        let rows = self.rows.range::<Bytes, _>(prefix..);
        for (key, (decree, row)) in rows.take_while(|(key, _)| key.starts_with(prefix)) {
            if *decree > self.applied {
                see(key, row.as_ref());
            }
        }
    }
}

/// Rows of [`Prepared`] among which applied ones are looked for: a few times what is in flight.
const PREPARED_ROWS_KEPT: usize = 1024;

fn overlay_of<'a>(inflight: impl Iterator<Item = &'a Bytes>) -> BTreeMap<Bytes, Option<Row>> {
    let mut overlay = BTreeMap::new();
    for payload in inflight {
        let mut batch = BTreeMap::new();
        for op in operations(payload) {
            let (key, row) = written(payload, op);
            batch.insert(key, row);
        }
        for (key, row) in batch {
            if let Entry::Vacant(unseen) = overlay.entry(key) {
                unseen.insert(row);
            }
        }
    }
    overlay
}

/// What a prepared payload makes of a row: `None` = nothing, `Some(None)` = it removes it.
fn written_last(payload: &Bytes, raw_key: &[u8]) -> Option<Option<Row>> {
    let of_row = operations(payload)
        .filter(|op| key_of(op) == raw_key)
        .last();
    of_row.map(|op| written(payload, op).1)
}

fn operations(payload: &[u8]) -> impl Iterator<Item = OpRef<'_>> {
    BatchRef::parse(payload)
        .expect("what is prepared here was made, or checked, here")
        .iter()
}

const fn key_of<'a>(op: &OpRef<'a>) -> &'a [u8] {
    match op {
        OpRef::Put { key, .. } | OpRef::Remove { key } => key,
    }
}

/// Raw key and row; the timetag is given when it is applied.
fn written(payload: &Bytes, op: OpRef<'_>) -> (Bytes, Option<Row>) {
    match op {
        OpRef::Put {
            key,
            value,
            expire_at,
        } => {
            let row = Row {
                expire_at,
                timetag: 0,
                data: payload.slice_ref(value),
            };
            (payload.slice_ref(key), Some(row))
        }
        OpRef::Remove { key } => (payload.slice_ref(key), None),
    }
}

#[cfg(test)]
pub(super) mod tests;

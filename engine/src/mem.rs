//! The engine of tests and of the simulator: ordered maps in memory, with the durability of the real one.
//!
//! Deterministic, single-threaded, no clock and no files. A [`MemEngine::flush`] makes everything applied so far durable,
//! a [`MemEngine::crash`] takes back everything above the last flush, exactly as a process that dies with full memtables.

use crate::atomic::RequestOutcome;
use crate::marker::Marker;
use crate::op::{BatchRef, OpRef};
use crate::progress::{FlushPolicy, Progress, Step};
use crate::scan::{self, Cursor, Order, ScanPage, ScanSpec};
use crate::value::{self, Header, TableVersion, ValueError};
use crate::{Applied, ApplyError, Engine, EnginePressure, ReadError, Row, Tier};
use bytes::Bytes;
use pegasus_replication::ids::{Ballot, Decree, PartitionId, ReplicaIncarnation, RequestId};
use std::collections::BTreeMap;
use std::time::Duration;

/// All replicas of one core, in memory.
#[derive(Debug)]
pub struct MemEngine {
    replicas: BTreeMap<PartitionId, MemReplica>,
    policy: FlushPolicy,
}

impl Default for MemEngine {
    fn default() -> Self {
        Self::new(Self::FLUSH_BYTES_DEFAULT)
    }
}

impl MemEngine {
    /// Unflushed bytes of one replica at which its flush is wanted, unless said otherwise.
    pub const FLUSH_BYTES_DEFAULT: u64 = 1 << 20;

    /// An empty engine that wants a flush for a replica of `flush_bytes` unflushed, or all of them together of 4 times as many.
    #[must_use]
    pub const fn new(flush_bytes: u64) -> Self {
        let policy = FlushPolicy {
            replica_bytes_max: flush_bytes,
            total_bytes_max: 4 * flush_bytes,
        };
        Self {
            replicas: BTreeMap::new(),
            policy,
        }
    }

    /// Makes an empty replica, durable at once. `true` if it was not there before; `false` if a replica of this
    /// partition exists already: then nothing changes, whatever its incarnation ([`Self::incarnation`]).
    pub fn create(&mut self, partition: PartitionId, incarnation: ReplicaIncarnation) -> bool {
        let missing = !self.replicas.contains_key(&partition);
        if missing {
            self.replicas
                .insert(partition, MemReplica::new(Marker::new(incarnation)));
        }
        missing
    }

    /// Removes a replica with all its rows. `false` if there is none of this incarnation.
    pub fn drop_replica(
        &mut self,
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
    ) -> bool {
        let found = self.incarnation(partition) == Some(incarnation);
        if found {
            self.replicas.remove(&partition);
        }
        found
    }

    #[must_use]
    pub fn incarnation(&self, partition: PartitionId) -> Option<ReplicaIncarnation> {
        self.replicas
            .get(&partition)
            .map(|replica| replica.durable.incarnation)
    }

    /// Replicas in order, with what a start would find of each: the durable marker.
    pub fn replicas(&self) -> impl Iterator<Item = (PartitionId, &Marker)> {
        self.replicas
            .iter()
            .map(|(&partition, replica)| (partition, &replica.durable))
    }

    /// Makes everything applied durable and returns the marker's decree; `None` if there is no such replica.
    pub fn flush(&mut self, partition: PartitionId) -> Option<Decree> {
        self.begin_flush(partition).ok()?;
        self.flush_unmarked(partition)
    }

    /// A flush that nobody prepared, as RocksDB makes them on its own limits: rows become durable, the marker only as
    /// far as it was written with them.
    pub fn flush_unmarked(&mut self, partition: PartitionId) -> Option<Decree> {
        let replica = self.replicas.get_mut(&partition)?;
        replica.undo.clear();
        replica.durable = replica.written.clone();
        let durable = replica.durable.decree;
        self.end_flush(partition, durable);
        Some(durable)
    }

    /// The process dies: every replica falls back to its last flush.
    pub fn crash(&mut self) {
        self.replicas.values_mut().for_each(MemReplica::crash);
    }

    /// A copy of a replica for a learner, and the decree that it stands at. Flushes first, as RocksDB does: what is handed
    /// out is durable here. `None` if there is no such replica.
    pub fn export(&mut self, partition: PartitionId) -> Option<MemCheckpoint> {
        self.flush(partition)?;
        let replica = self.replicas.get(&partition)?;
        Some(MemCheckpoint {
            rows: replica.rows.clone(),
            marker: replica.durable.clone(),
        })
    }

    /// Makes a replica of a checkpoint, durable at once. `None` if there is one of this partition already: then nothing
    /// changes ([`Self::drop_replica`] goes first).
    pub fn import(
        &mut self,
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
        checkpoint: MemCheckpoint,
    ) -> Option<Applied> {
        let marker = Marker {
            incarnation,
            ..checkpoint.marker
        };
        let applied = Applied {
            decree: marker.decree,
            ballot: marker.ballot,
        };
        if self.replicas.contains_key(&partition) {
            return None;
        }
        let replica = MemReplica {
            rows: checkpoint.rows,
            ..MemReplica::new(marker)
        };
        self.replicas.insert(partition, replica);
        Some(applied)
    }

    /// All stored rows of a replica, expired ones included, in key order: for comparing replicas.
    pub fn stored(&self, partition: PartitionId) -> impl Iterator<Item = (&[u8], &[u8])> {
        let rows = self
            .replicas
            .get(&partition)
            .into_iter()
            .flat_map(|replica| &replica.rows);
        rows.map(|(key, stored)| (key.as_ref(), stored.as_ref()))
    }

    fn read(&self, partition: PartitionId) -> Result<&MemReplica, ReadError> {
        self.replicas
            .get(&partition)
            .ok_or(ReadError::NoReplica { partition })
    }

    fn write(&mut self, partition: PartitionId) -> Result<&mut MemReplica, ApplyError> {
        self.replicas
            .get_mut(&partition)
            .ok_or(ApplyError::NoReplica { partition })
    }
}

impl Engine for MemEngine {
    fn apply(
        &mut self,
        partition: PartitionId,
        decree: Decree,
        ballot: Ballot,
        timestamp_us: u64,
        request_id: RequestId,
        payload: &[u8],
    ) -> Result<(), ApplyError> {
        let replica = self.write(partition)?;
        if !replica.progress.accepts(partition, decree)? {
            return Ok(());
        }
        let batch = BatchRef::parse(payload).map_err(|error| ApplyError::Corruption {
            partition,
            detail: error.to_string(),
        })?;
        let step = Step::new(decree, ballot, request_id, payload.len(), batch);
        replica.progress.foresee(batch);
        let marker = replica.progress.marker_due(&step);
        let timetag = value::timetag(timestamp_us, 0);
        batch.iter().for_each(|op| replica.execute(op, timetag));
        replica.progress.advance(&step);
        if let Some(marker) = marker {
            replica.mark(&marker);
        }
        Ok(())
    }

    fn get(
        &self,
        partition: PartitionId,
        raw_key: &[u8],
        now_s: u32,
        _: Tier,
    ) -> Result<Option<Row>, ReadError> {
        let stored = self.read(partition)?.rows.get(raw_key);
        stored
            .map_or(Ok(None), |stored| live_row(stored, now_s))
            .map_err(|error| damaged(partition, error))
    }

    fn multi_get(
        &self,
        partition: PartitionId,
        raw_keys: &[Bytes],
        now_s: u32,
        tier: Tier,
    ) -> Result<Vec<Option<Row>>, ReadError> {
        raw_keys
            .iter()
            .map(|key| self.get(partition, key, now_s, tier))
            .collect()
    }

    fn scan(
        &self,
        partition: PartitionId,
        spec: &ScanSpec,
        _: Tier,
    ) -> Result<ScanPage, ReadError> {
        let replica = self.read(partition)?;
        let elapsed = || Duration::ZERO;
        if spec.is_empty() {
            return Ok(ScanPage::empty());
        }
        let (start, stop) = spec.cursor_bounds();
        let bounds = (
            start.as_ref().map(Bytes::as_ref),
            stop.as_ref().map(Bytes::as_ref),
        );
        let range = replica.rows.range::<[u8], _>(bounds);
        match spec.order {
            Order::Ascending => scan::run(spec, &mut MemCursor::new(range), elapsed),
            Order::Descending => scan::run(spec, &mut MemCursor::new(range.rev()), elapsed),
        }
        .map_err(|error| damaged(partition, error))
    }

    fn last_applied(&self, partition: PartitionId) -> Option<Applied> {
        self.replicas
            .get(&partition)
            .map(|replica| replica.progress.applied())
    }

    fn request_outcome(
        &self,
        partition: PartitionId,
        request_id: RequestId,
        is_retry: bool,
    ) -> RequestOutcome {
        let replica = self.replicas.get(&partition);
        replica.map_or(RequestOutcome::New, |replica| {
            replica.progress.request_outcome(request_id, is_retry)
        })
    }

    fn foresee(&mut self, partition: PartitionId, payload: &[u8]) {
        if let (Some(replica), Ok(batch)) =
            (self.replicas.get_mut(&partition), BatchRef::parse(payload))
        {
            replica.progress.foresee(batch);
        }
    }

    fn is_plain(&self, partition: PartitionId, hash_key: &[u8]) -> bool {
        let replica = self.replicas.get(&partition);
        replica.is_some_and(|replica| replica.progress.is_plain(hash_key))
    }

    fn begin_flush(&mut self, partition: PartitionId) -> Result<(), ApplyError> {
        let replica = self.write(partition)?;
        if let Some(marker) = replica.progress.marker_behind() {
            replica.mark(&marker);
        }
        replica.progress.flush_begins();
        Ok(())
    }

    fn end_flush(&mut self, partition: PartitionId, durable: Decree) {
        if let Some(replica) = self.replicas.get_mut(&partition) {
            replica.progress.flush_ended();
            replica.progress.durable(durable);
        }
    }

    fn abort_flush(&mut self, partition: PartitionId) {
        if let Some(replica) = self.replicas.get_mut(&partition) {
            replica.progress.flush_ended();
        }
    }

    fn flush_wanted(&self) -> Option<PartitionId> {
        self.policy.choose(
            self.replicas
                .iter()
                .map(|(partition, replica)| (partition, &replica.progress, None)),
        )
    }

    fn unflushed_bytes(&self, partition: PartitionId) -> u64 {
        self.replicas
            .get(&partition)
            .map_or(0, |replica| replica.progress.unflushed_bytes())
    }

    fn pressure(&self) -> EnginePressure {
        EnginePressure::default()
    }
}

/// A replica's rows as of one decree, on their way to a learner.
#[derive(Clone, Debug)]
pub struct MemCheckpoint {
    rows: BTreeMap<Bytes, Bytes>,
    marker: Marker,
}

impl MemCheckpoint {
    /// Everything up to this decree is in it.
    #[must_use]
    pub const fn decree(&self) -> Decree {
        self.marker.decree
    }
}

#[derive(Debug)]
struct MemReplica {
    /// Raw key to stored value, header included: the very bytes RocksDB would hold.
    rows: BTreeMap<Bytes, Bytes>,
    progress: Progress,
    /// The newest marker, as it stands beside `rows`.
    written: Marker,
    /// The marker as of the last flush.
    durable: Marker,
    /// What each change since the last flush replaced.
    undo: Vec<(Bytes, Option<Bytes>)>,
}

impl MemReplica {
    fn new(marker: Marker) -> Self {
        Self {
            rows: BTreeMap::new(),
            progress: Progress::new(&marker),
            written: marker.clone(),
            durable: marker,
            undo: Vec::new(),
        }
    }

    fn execute(&mut self, op: OpRef<'_>, timetag: u64) {
        let (key, replaced) = match op {
            OpRef::Put {
                key,
                value,
                expire_at,
            } => {
                let key = Bytes::copy_from_slice(key);
                let stored = [Header::new(expire_at, timetag).as_ref(), value].concat();
                (key.clone(), self.rows.insert(key, stored.into()))
            }
            OpRef::Remove { key } => (Bytes::copy_from_slice(key), self.rows.remove(key)),
        };
        self.undo.push((key, replaced));
    }

    fn mark(&mut self, encoded: &[u8]) {
        self.written = Marker::decode(encoded).expect("a marker of ours can be read");
        self.progress.marked();
    }

    fn crash(&mut self) {
        while let Some((key, replaced)) = self.undo.pop() {
            match replaced {
                Some(stored) => self.rows.insert(key, stored),
                None => self.rows.remove(&key),
            };
        }
        self.written = self.durable.clone();
        self.progress = Progress::new(&self.durable);
    }
}

struct MemCursor<'a, I> {
    current: Option<(&'a Bytes, &'a Bytes)>,
    rest: I,
}

impl<'a, I: Iterator<Item = (&'a Bytes, &'a Bytes)>> MemCursor<'a, I> {
    fn new(mut rest: I) -> Self {
        Self {
            current: rest.next(),
            rest,
        }
    }
}

impl<'a, I: Iterator<Item = (&'a Bytes, &'a Bytes)>> Cursor for MemCursor<'a, I> {
    fn record(&self) -> Option<(&[u8], &[u8])> {
        self.current
            .map(|(key, stored)| (key.as_ref(), stored.as_ref()))
    }

    fn advance(&mut self) {
        self.current = self.rest.next();
    }
}

/// The row in a stored value, unless it has expired.
pub(crate) fn live_row(stored: &[u8], now_s: u32) -> Result<Option<Row>, ValueError> {
    let value = value::decode(stored, TableVersion::V1)?;
    Ok((!value::is_expired(value.expire_at, now_s)).then(|| Row {
        expire_at: value.expire_at,
        timetag: value.timetag,
        data: Bytes::copy_from_slice(value.data),
    }))
}

fn damaged(partition: PartitionId, error: ValueError) -> ReadError {
    ReadError::Corruption {
        partition,
        detail: error.to_string(),
    }
}

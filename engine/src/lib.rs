//! Storage of replicas: what a committed mutation becomes, and how rows are read back.
//!
//! **Its job.** Keep the rows of every replica of one core behind the small synchronous trait [`Engine`], apply
//! encoded batches of blind puts and removes in decree order, answer point and range reads within bounds, and say
//! what is durable. `rocks::RocksEngine` is one RocksDB database per core with a column family per
//! replica; [`MemEngine`] is the oracle of the tests and the engine of the simulator.
//!
//! **What it must never do.** Block the core that calls [`Engine`] (slow calls live on `rocks::RocksStore` and run
//! on helper threads), read a row in order to apply, know about protocols, ballots' meaning, leases or clients, or
//! claim as durable what a crash could take away: the marker in the replica's own column family is the only proof.
//!
//! **Reading order.** [`key`] and [`value`] (Apache Pegasus encodings), [`op`] (the batch that is logged and
//! replicated), [`atomic`] (operations that become batches), this file (the contract), [`scan`] and [`range`] (range reads), [`marker`] (what survives a crash),
//! [`mem`], then [`rocks`] and `row_cache`, which is in front of it. Byte layouts: `docs/formats.md`.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        reason = "a failed unwrap is a failed test, with its place"
    )
)]

pub mod atomic;
pub mod key;
pub mod marker;
pub mod mem;
pub mod op;
mod plain;
mod progress;
pub mod range;
#[cfg(feature = "rocks")]
pub mod rocks;
#[cfg(any(test, feature = "rocks"))]
#[cfg_attr(
    not(feature = "rocks"),
    allow(unreachable_pub, reason = "shown by `rocks`")
)]
mod row_cache;
pub mod scan;
pub mod value;

pub use atomic::RequestOutcome;
pub use marker::{Marker, RequestWindow};
pub use mem::{MemCheckpoint, MemEngine};
pub use op::{Batch, BatchError, BatchRef, Op, OpRef};
#[cfg(feature = "rocks")]
pub use rocks::{RocksEngine, RocksStore};
pub use scan::{Filter, KeyedRow, Order, ScanPage, ScanSpec, Stop};

use bytes::Bytes;
use pegasus_replication::ids::{Ballot, Decree, PartitionId, RequestId};

/// A live row, as a reader gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Absolute second since 2016-01-01 UTC at which the row becomes invisible; 0 = never.
    pub expire_at: u32,
    /// When and by which cluster the row was written ([`value::timetag`]); 0 for rows of value version 0.
    pub timetag: u64,
    /// The user's value; empty when the reader asked for no values.
    pub data: Bytes,
}

/// How far a read may go for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Memtables and block cache only: never blocks, answers [`ReadError::Incomplete`] if that is not enough.
    /// The only tier for a data core.
    CacheOnly,
    /// Also the disk. For helper threads.
    Full,
}

/// The last mutation a replica has applied, in memory at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Applied {
    /// 0 = nothing yet.
    pub decree: Decree,
    pub ballot: Ballot,
}

/// A committed mutation on its way into the engine.
#[derive(Clone, Copy, Debug)]
pub struct Mutation<'a> {
    pub partition: PartitionId,
    /// Follows the last one applied to the partition.
    pub decree: Decree,
    pub ballot: Ballot,
    /// Unix microseconds, stamped by the primary; goes into the rows' timetags, so that all replicas store the same bytes.
    pub timestamp_us: u64,
    /// Of a client other than 0: enters the replica's request window.
    pub request_id: RequestId,
    /// An encoded batch (see [`op`]); empty = a no-op.
    pub payload: &'a [u8],
}

/// Numbers by which new writes are refused before they get a decree. Cheap to read (no lock, no system call).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct EnginePressure {
    /// Full memtables that wait for their flush, of the replica that has most of them.
    pub immutable_memtables: u32,
    /// Files in level 0, of the replica that has most of them.
    pub level0_files: u32,
    /// Bytes in memtables of all replicas of the core, mutable and immutable.
    pub memtable_bytes: u64,
    /// The bound of `memtable_bytes`.
    pub memtable_bytes_max: u64,
    /// The engine delays or stops writes right now: [`ApplyError::Busy`] is likely.
    pub stalled: bool,
}

impl EnginePressure {
    /// Full memtables of one replica from which new writes are refused. RocksDB itself would stop at twice as many.
    pub const IMMUTABLE_MEMTABLES_MAX: u32 = 4;
    /// Level-0 files of one replica from which new writes are refused: reads look into each of them.
    pub const LEVEL0_FILES_MAX: u32 = 40;

    /// Whether new writes should be refused with "busy" (what already has a decree is applied all the same).
    #[must_use]
    pub const fn is_high(&self) -> bool {
        self.stalled
            || self.immutable_memtables >= Self::IMMUTABLE_MEMTABLES_MAX
            || self.level0_files >= Self::LEVEL0_FILES_MAX
            || (self.memtable_bytes_max > 0 && self.memtable_bytes >= self.memtable_bytes_max)
    }
}

/// Why a mutation was not applied. Nothing of it has been, whatever the variant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Applying now would wait. Keep the mutation and try again; its client waits.
    #[error("replica {partition}: the engine is busy")]
    Busy { partition: PartitionId },
    /// No such replica is open here.
    #[error("replica {partition}: not in this engine")]
    NoReplica { partition: PartitionId },
    /// A decree was left out: a bug of the caller.
    #[error("replica {partition}: decree {decree} does not follow {applied}")]
    OutOfOrder {
        partition: PartitionId,
        applied: Decree,
        decree: Decree,
    },
    /// The payload, or the replica's files, are damaged.
    #[error("replica {partition}: {detail}")]
    Corruption {
        partition: PartitionId,
        detail: String,
    },
    /// The disk or the engine failed.
    #[error("replica {partition}: {detail}")]
    Io {
        partition: PartitionId,
        detail: String,
    },
}

/// Where [`Engine::apply_all`] has stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}, after {applied} mutations")]
pub struct ApplyAllError {
    /// Mutations before the one that failed: all of them are applied, none behind it is.
    pub applied: usize,
    /// Why the next one was not.
    pub error: ApplyError,
}

/// Why a read has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Memtables and block cache do not hold the answer: ask again with [`Tier::Full`] on a helper thread.
    #[error("replica {partition}: not in memory")]
    Incomplete { partition: PartitionId },
    /// No such replica is open here.
    #[error("replica {partition}: not in this engine")]
    NoReplica { partition: PartitionId },
    /// A block or file of this replica is damaged; `detail` names it. Other replicas are not affected.
    #[error("replica {partition}: {detail}")]
    Corruption {
        partition: PartitionId,
        detail: String,
    },
    /// The rows that one operation has to see take more memory than it may have.
    #[error("replica {partition}: the rows of one operation exceed {bytes_max} bytes")]
    TooLarge {
        partition: PartitionId,
        bytes_max: usize,
    },
    /// The disk or the engine failed.
    #[error("replica {partition}: {detail}")]
    Io {
        partition: PartitionId,
        detail: String,
    },
}

/// What a core thread asks of its storage.
///
/// # Contract
/// - `apply` takes decrees of a replica in order, each exactly once; a decree at or below the last applied one is
///   answered `Ok` and does nothing, so that replay may start early.
/// - A batch becomes visible whole or not at all, and so does its part in the marker.
/// - After a crash `last_applied` is the decree of the last durable marker; rows may already hold effects of later
///   decrees, which is harmless because batches are blind: applying them again gives the same rows. No reads before
///   that replay has reached the commit point.
/// - Expired rows are invisible to every read, whether or not they are still stored.
/// - Reads see everything applied before them.
pub trait Engine {
    /// Applies the encoded batch `payload` (see [`op`]; empty = a no-op) as `decree` of `partition`.
    ///
    /// `timestamp_us` (Unix microseconds, stamped by the primary) goes into the rows' timetags, so that all replicas
    /// store the same bytes. A `request_id` of a client other than 0 enters the replica's request window.
    ///
    /// # Errors
    /// [`ApplyError`]; nothing has been applied then.
    fn apply(
        &mut self,
        partition: PartitionId,
        decree: Decree,
        ballot: Ballot,
        timestamp_us: u64,
        request_id: RequestId,
        payload: &[u8],
    ) -> Result<(), ApplyError>;

    /// Applies `mutations` one after the other, as [`Engine::apply`] would, in as few writes as the engine can. They may be of
    /// any partitions; those of one partition next to each other are the cheapest.
    ///
    /// # Errors
    /// Stops at the first that is not applied.
    fn apply_all(&mut self, mutations: &[Mutation<'_>]) -> Result<(), ApplyAllError> {
        for (applied, mutation) in mutations.iter().enumerate() {
            let &Mutation {
                partition,
                decree,
                ballot,
                timestamp_us,
                request_id,
                payload,
            } = mutation;
            self.apply(partition, decree, ballot, timestamp_us, request_id, payload)
                .map_err(|error| ApplyAllError { applied, error })?;
        }
        Ok(())
    }

    /// The row under `raw_key` as of second `now_s` (since 2016-01-01 UTC); `None` if missing or expired.
    ///
    /// # Errors
    /// [`ReadError`].
    fn get(
        &self,
        partition: PartitionId,
        raw_key: &[u8],
        now_s: u32,
        tier: Tier,
    ) -> Result<Option<Row>, ReadError>;

    /// One answer per key, in the order of `raw_keys`. Cheaper than as many `get`s.
    ///
    /// # Errors
    /// [`ReadError`]; one key that fails fails all.
    fn multi_get(
        &self,
        partition: PartitionId,
        raw_keys: &[Bytes],
        now_s: u32,
        tier: Tier,
    ) -> Result<Vec<Option<Row>>, ReadError>;

    /// One page of a range read. See [`ScanSpec`] for its bounds and [`ScanSpec::resume`] for the next page.
    ///
    /// # Errors
    /// [`ReadError`]; rows already found are lost then.
    fn scan(
        &self,
        partition: PartitionId,
        spec: &ScanSpec,
        tier: Tier,
    ) -> Result<ScanPage, ReadError>;

    /// The last mutation applied, or `None` if there is no such replica. Kept in memory.
    fn last_applied(&self, partition: PartitionId) -> Option<Applied>;

    /// What this replica knows of `request_id`, from its window of the last [`RequestWindow::LENGTH_MAX`].
    /// `is_retry`: it was sent before, so that `New` needs to be certain. Kept in memory.
    fn request_outcome(
        &self,
        partition: PartitionId,
        request_id: RequestId,
        is_retry: bool,
    ) -> RequestOutcome;

    /// Tells that `payload` is prepared for `partition` and may be applied: [`Engine::is_plain`] heeds its rows from now on.
    /// `apply` does so itself.
    fn foresee(&mut self, partition: PartitionId, payload: &[u8]);

    /// Whether `hash_key` is known to have no row with a sort key, neither applied nor foreseen. False: it may have. Kept in
    /// memory, and about as true after a crash as before it.
    fn is_plain(&self, partition: PartitionId, hash_key: &[u8]) -> bool;

    /// Writes the marker of the last applied decree, so that a flush which starts now makes all of it durable.
    /// To be called right before a flush is handed to a helper thread; counts as the start of that flush.
    ///
    /// # Errors
    /// [`ApplyError`]; no flush counts as begun then.
    fn begin_flush(&mut self, partition: PartitionId) -> Result<(), ApplyError>;

    /// Tells that the durable marker of `partition` has been read as `durable` after a flush, whatever caused it.
    fn end_flush(&mut self, partition: PartitionId, durable: Decree);

    /// Tells that a flush begun for `partition` has failed, so that it may be wanted again.
    fn abort_flush(&mut self, partition: PartitionId);

    /// The replica whose flush should begin now, if any: our trigger, which fires before the engine's own limits.
    fn flush_wanted(&self) -> Option<PartitionId>;

    /// Bytes applied to `partition` and not known durable: what a log truncation up to its end would have to wait for.
    fn unflushed_bytes(&self, partition: PartitionId) -> u64;

    /// How close the engine is to its bounds.
    fn pressure(&self) -> EnginePressure;
}

//! PacificA and the log of a core, as plain state machines: everything that decides about replication, and nothing else.
//!
//! **What it must never do.** Read a clock, open a socket or a file, start a thread, draw a random number, know bytes on the
//! wire or an engine. [`Shard::handle`](shard::Shard::handle) is told what has happened and says what is to be done; the
//! node does it, or the simulator, with the same code.
//!
//! # The protocol on one page
//!
//! Meta holds for each partition a configuration: ballot, primary, secondaries. It persists before it tells, and only it makes
//! ballots. A replica adopts a configuration of a higher ballot from meta, or from a prepare or a beacon of its primary;
//! the adoption is a log record, durable before anything is acknowledged (and, on a primary, before anything is sent) under it.
//!
//! A mutation gets the next decree from the primary. It is appended to the primary's log and sent to every secondary at the
//! same time, with the ballot of its predecessor. A secondary appends it if its own order up to the predecessor is the
//! primary's, and acknowledges when it is durable. When the primary's own log and **all** secondaries hold it durably it is
//! committed, then applied in decree order, then the client is answered. Commit points ride on later prepares and on beacons.
//!
//! A new ballot begins with reconciliation: all above the primary's commit point is prepared again under the new ballot with
//! the same decrees, then a no-op. Older entries commit together with that no-op; the primary serves when it is applied.
//! A restarted primary never goes on in its old ballot: it asks meta for the next one first. What is pending at a primary
//! that stays primary over a change of ballot stays pending.
//!
//! A primary answers reads while every member has acknowledged a beacon sent within the lease period, checked again after
//! the engine has read. A secondary that has acknowledged none for the longer grace period asks meta to take over, and from
//! then on acknowledges nothing of that ballot. A member that is away, slow, lost or out of service is removed on the
//! primary's proposal; a learner catches up from the primary's log or a checkpoint, is counted, and then added.
//!
//! A client is told that its write was *not executed*, or that its outcome is *unknown*, never one for the other.
//!
//! # Invariants
//!
//! 1. Committed prefixes of any two replicas agree; a commit point never goes back.
//! 2. `committed(secondary) <= committed(primary) <= prepared(any member)`.
//! 3. At most one primary serves at any instant.
//! 4. Every configuration contains every acknowledged mutation.
//! 5. An acknowledged write survives any crash of all nodes at once.
//!
//! [`check_group`] and [`Shard::check`](shard::Shard::check) assert what a snapshot can show of them.
//!
//! # Reading order
//!
//! [`ids`], [`config`], [`message`], [`event`] (the vocabulary); [`shard`] (one core), [`replica`] and in it `primary`, `peers`,
//! `secondary`, `reconfigure`, `durable` (the protocol), `lease`, `removal`, `handover`, `learner`, `session` (its groups),
//! `progress`, `prepared_list`, `read`; [`log`]. The arguments for safety are in
//! docs/replication.md; `tests/scripts` shows each rule at work.

#![forbid(unsafe_code)]

/// Whether the deliberate bug of this name is at work; never, in a build without the feature `planted`.
#[cfg(feature = "planted")]
#[macro_export]
macro_rules! planted {
    ($bug:ident) => {
        $crate::planted::is_planted($crate::planted::Bug::$bug)
    };
}

/// Whether the deliberate bug of this name is at work: never, in a build without the feature `planted`.
#[cfg(not(feature = "planted"))]
#[macro_export]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

pub mod config;
pub mod event;
pub mod ids;
pub mod log;
pub mod message;
#[cfg(feature = "planted")]
pub mod planted;
pub mod replica;
pub mod shard;

pub use replica::{Health, LearnStage, Phase, Replica, RoleName, check_group};
pub use shard::{Shard, StoredReplica};

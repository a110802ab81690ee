//! An async client of Pegasus on tokio.
//!
//! It hashes a key to its partition, sends the request to the core that is the partition's primary over one pipelined
//! connection for each core, and follows the partition when it moves. Every operation ends by its deadline, and an
//! [`Error`] says whether the operation was executed, was not, or may have been.
//!
//! ```no_run
//! # async fn example() -> Result<(), pegasus_client::Error> {
//! use pegasus_client::{Client, ClientOptions};
//! let client = Client::connect(ClientOptions::new(["127.0.0.1:34601"])).await?;
//! let table = client.table("users").await?;
//! table.put(b"user_1", b"name", b"Ada").await?;
//! assert_eq!(table.get(b"user_1", b"name").await?.as_deref(), Some(&b"Ada"[..]));
//! # Ok(())
//! # }
//! ```
//!
//! When a core dies or says nothing for 300 ms, it asks meta and other cores where its partitions are now. Operations that
//! were not sent yet, and reads, go on at the new primary; a write that was sent waits for its answer until the deadline,
//! and is unknown then, unless the caller allowed to repeat it. Nothing is sent so late that its outcome would become
//! unknown for want of time. Increments and checked writes carry an identity: they are repeated until their outcome is known,
//! and executed once.
//!
//! It never retries what may have been executed unless asked to, spawns no task for a request, and keeps nothing
//! unbounded: requests in flight, bytes in flight and retries all have limits.
//!
//! Reading order: `options`, `error`, `table` (data operations), `atomic`, `scan`, `admin`; then how a request travels: `driver`
//! (deadline, retries) and `driver/attempt`, `route` (which core; `route/routes`: what is believed of which answer),
//! `endpoint` (dialling), `pipeline` (one connection; `pipeline/silence`), `pending` (who waits).

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests fail by panicking"))]

mod admin;
mod atomic;
mod client;
mod driver;
mod encode;
mod endpoint;
mod error;
mod options;
mod pending;
mod pipeline;
mod reply;
mod route;
mod scan;
mod table;

#[cfg(feature = "fuzzing")]
pub use admin::any_bytes;
pub use admin::{
    BackoffInfo, BackupInfo, BackupList, BackupPhase, BackupTarget, BalanceInfo, BalanceLimits,
    BalanceScope, ChangeOutcome, ClusterInfo, ClusterSummary, CompactInfo, CoreInfo, CreateTable,
    CreatedTable, DrainInfo, DrainKind, EnvInfo, Health, HotKey, HotKeys, LearnerInfo, MemberInfo,
    MetaChange, MetaInfo, MoveInfo, NodeInfo, PartitionBackup, PartitionInfo, PartitionRestore,
    PolicyAction, PolicyInfo, PolicyRequest, PolicyStart, PolicyTableInfo, ProgramInfo,
    ReplicaHealth, RestoreInfo, RestoreRequest, ScrubInfo, TableInfo, WorkState,
};
pub use atomic::{Check, CheckKind, CheckOutcome, CheckedRow, Expiry, IncrExpiry, Mutation, Set};
pub use bytes::Bytes;
pub use client::Client;
pub use error::{Cause, Error, Result};
pub use options::{ClientOptions, FullScan, HashScan, MatchKind, MultiGet, Pattern, SortKeyRange};
pub use pegasus_fbs::code::{Code, Execution};
pub use pegasus_fbs::stats_page::Snapshot as CoreSnapshot;
pub use reply::{Row, Rows, Ttl};
pub use scan::Scanner;
pub use table::Table;

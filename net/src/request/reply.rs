//! What a client is told.

use super::Page;
use bytes::Bytes;
use pegasus_fbs::code::Code;
use std::net::SocketAddr;
use std::sync::Arc;

/// What an operation is answered with.
pub type Reply = Result<Response, Failure>;

/// The answer to an operation that was executed.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// To every write. `count`: rows named by a multi remove.
    Written {
        decree: u64,
        count: u32,
    },
    /// To `Incr`.
    Incremented {
        outcome: Incremented,
        /// The sum; for [`Incremented::Overflow`] the number as it is, for [`Incremented::NotANumber`] 0.
        value: i64,
        /// 0 where nothing was written.
        decree: u64,
    },
    /// To `CheckAndSet` and `CheckAndMutate`.
    Checked {
        outcome: Checked,
        checked_value: CheckedValue,
        /// 0 where nothing was written.
        decree: u64,
    },
    /// To `Get`; a missing row is `Failure` with `NotFound`.
    Value(Bytes),
    Exists(bool),
    /// To `Ttl`; `None` = never expires. A missing row is `NotFound`.
    Ttl(Option<u32>),
    Count(u64),
    /// To `MultiGet`, `BatchGet` and `Scan`.
    Rows(Rows),
    Route(Route),
    Pong,
    /// To `CoreStats`: the page without its zeros (`pegasus_fbs::stats_page::compact`).
    CoreStats(Vec<u64>),
    HotKeys(Arc<HotKeys>),
    Scrub(Scrubbing),
    Compact(Compacting),
    /// To `OpenScanner` and `NextPage`.
    Page(Page),
    /// To `CloseScanner`: nothing is sent.
    Silent,
    /// To `Operation::Invalid` with [`super::Invalid::Argument`]: the partition serves, the operation makes no sense.
    InvalidArgument(&'static str),
    /// To `RemoteCommand`.
    Text(String),
    Http(Box<pegasus_http::Response>),
    /// To `Redis`.
    Redis(pegasus_resp::Value),
}

/// What became of an [`super::Incr`]. All but `Done` have changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Incremented {
    Done,
    /// The stored value is no number (Apache error 4).
    NotANumber,
    /// The sum has no room in 64 bits (Apache error 4, with the old value).
    Overflow,
}

/// What became of a [`super::CheckAndSet`] or [`super::CheckAndMutate`]. All but `Passed` have changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Checked {
    Passed,
    /// The row does not look like that (Apache error 13).
    Failed,
    /// A number was asked for and is none, or the request itself makes no sense (Apache error 4).
    Invalid,
}

/// The checked row before the operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckedValue {
    NotAsked,
    Missing,
    Found(Bytes),
    /// This is the answer to a retry, and the value was too long to be remembered for it.
    Forgotten,
}

/// The keys that a core was asked for most in the last seconds, from a sample of its requests.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct HotKeys {
    /// The time that all counts are of.
    pub window_ms: u64,
    /// All requests of that time that read and have one hash key, and of those that write.
    pub reads: u64,
    pub writes: u64,
    /// The most asked for first.
    pub keys: Vec<HotKey>,
}

/// One of them. Counts are of requests, estimated from the sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HotKey {
    pub table: u32,
    pub partition: u32,
    /// Whether the requests write it; false: they read it.
    pub is_write: bool,
    /// The hash key, or the sort key where that is empty; cut if it is long.
    pub key: Bytes,
    /// Length of the whole key.
    pub key_bytes: u32,
    /// At most so many requests ...
    pub count: u64,
    /// ... of which at most so many were for other keys.
    pub error: u64,
}

/// How compacting by hand on a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Compacting {
    /// This question's order was taken.
    pub began: bool,
    /// Something is ordered or under way.
    pub is_running: bool,
    /// Replicas of the order under way that are done, and of how many.
    pub done: u64,
    pub total: u64,
    /// Orders behind it.
    pub waiting: u64,
    /// Unix seconds of the end of the last order; 0 = none since the node started.
    pub finished_unix_s: u64,
}

/// How scrubbing of a node is.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Scrubbing {
    /// This question has ordered a pass.
    pub began: bool,
    /// A pass is ordered or under way.
    pub is_running: bool,
    /// Replicas that the pass under way has checked, and of how many.
    pub done: u64,
    pub total: u64,
    /// Unix seconds of the end of the last whole pass; 0 = none yet.
    pub finished_unix_s: u64,
    /// What the last pass, or the one under way, has found, in words.
    pub findings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    pub rows: Vec<Row>,
    /// False: stopped by a limit, more may follow.
    pub complete: bool,
    /// Scan only, when not complete: send it back to go on.
    pub resume_key: Bytes,
    /// Scan with `only_count`.
    pub count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Row {
    /// Empty in the answer to `MultiGet`, whose hash key is known.
    pub hash_key: Bytes,
    pub sort_key: Bytes,
    pub value: Bytes,
    /// Seconds since 2016-01-01 UTC, 0 = never.
    pub expire_at: u32,
}

/// Where a table's partitions are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub table: u32,
    /// By index.
    pub partitions: Vec<PartitionRoute>,
}

/// Addresses are client ports, `ip:port`, as meta has them.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PartitionRoute {
    pub ballot: u64,
    /// Empty = none.
    pub primary: String,
    pub secondaries: Vec<String>,
}

/// Why there is no `Response`. `code` says whether the operation was executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: Code,
    /// For people: lower case, names the thing.
    pub message: String,
    /// 0 = no advice.
    pub retry_after_ms: u32,
    /// Client port of the core that is primary, when known.
    pub primary: Option<SocketAddr>,
    /// Ballot of the configuration that says so; 0 = not known.
    pub ballot: u64,
}

impl Failure {
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after_ms: 0,
            primary: None,
            ballot: 0,
        }
    }
}

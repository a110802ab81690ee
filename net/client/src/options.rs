//! What a caller can choose: of the client, and of the operations with many options.

use bytes::Bytes;
use std::time::Duration;

/// Options of a client. Start from [`ClientOptions::new`] and change fields.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// `host:port` of meta processes; those of data nodes work as well, except for admin calls.
    pub addresses: Vec<String>,
    /// Deadline of each operation, retries included. Default 5 s. Too short: operations fail during a failover, which
    /// takes most of a second.
    pub timeout: Duration,
    /// Deadline of admin calls. Default 15 s, because creating a table is answered after up to 10 s.
    pub admin_timeout: Duration,
    /// How long one attempt to connect may take. Default 1 s.
    pub connect_timeout: Duration,
    /// Requests in flight on one connection; further ones wait within their deadline. A request takes one place, and
    /// one more for each 16 KiB. Default 1,024, range 1 to 1,000,000.
    pub inflight_max: usize,
    /// How long an operation is tried while the primary refuses it with one and the same state that seldom passes in
    /// seconds: too few replicas, or a replica out of service. Default: until the deadline, which may survive the restart of a
    /// node. Shorter: the caller hears of it early; zero: at once.
    pub refusal_timeout: Duration,
    /// Send a blind write again when its outcome is unknown: the connection was lost, or the core is silent and its
    /// partition has moved to another. Such writes carry an identity, by which a server knows those that it has executed; it
    /// remembers the last 4,096 of a partition, which each costs it some memory and log. Off by default. Increments and
    /// checked writes are always repeated so.
    pub retry_unknown_writes: bool,
}

impl ClientOptions {
    /// Defaults for a cluster that is reached at these addresses.
    pub fn new<A: Into<String>>(addresses: impl IntoIterator<Item = A>) -> Self {
        Self {
            addresses: addresses.into_iter().map(Into::into).collect(),
            timeout: Duration::from_secs(5),
            admin_timeout: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(1),
            inflight_max: 1_024,
            refusal_timeout: Duration::MAX,
            retry_unknown_writes: false,
        }
    }
}

/// How a pattern is matched against a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatchKind {
    Anywhere,
    Prefix,
    Postfix,
}

/// A filter on keys. An empty text matches all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    pub kind: MatchKind,
    pub text: Bytes,
}

impl Pattern {
    pub fn prefix(text: impl Into<Bytes>) -> Self {
        Self {
            kind: MatchKind::Prefix,
            text: text.into(),
        }
    }

    pub fn postfix(text: impl Into<Bytes>) -> Self {
        Self {
            kind: MatchKind::Postfix,
            text: text.into(),
        }
    }

    pub fn anywhere(text: impl Into<Bytes>) -> Self {
        Self {
            kind: MatchKind::Anywhere,
            text: text.into(),
        }
    }
}

/// A range of sort keys within one hash key. The default is all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortKeyRange {
    /// Empty = from the first.
    pub start: Bytes,
    pub start_inclusive: bool,
    /// Empty = to the last; `stop_inclusive` is then ignored.
    pub stop: Bytes,
    pub stop_inclusive: bool,
}

impl Default for SortKeyRange {
    fn default() -> Self {
        Self {
            start: Bytes::new(),
            start_inclusive: true,
            stop: Bytes::new(),
            stop_inclusive: false,
        }
    }
}

/// Options of [`crate::Table::multi_get`]. The default reads all rows of the hash key, up to the server's limits
/// (3,000 rows, 30 MiB).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MultiGet {
    /// Non-empty: these rows, in this order; range, filter and `reverse` are ignored.
    pub sort_keys: Vec<Bytes>,
    pub range: SortKeyRange,
    pub filter: Option<Pattern>,
    /// Keep the last rows instead of the first when a limit cuts; the answer is ascending all the same.
    pub reverse: bool,
    /// Leave values out of the answer.
    pub no_value: bool,
    /// 0 = the server's limit.
    pub max_rows: u32,
    /// 0 = the server's limit.
    pub max_bytes: u32,
}

/// Options of [`crate::Table::hash_scan`]. The default reads all rows of the hash key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HashScan {
    pub range: SortKeyRange,
    pub filter: Option<Pattern>,
    pub no_value: bool,
    /// Rows of one page; 0 = the server's limit.
    pub batch_rows: u32,
    /// Bytes of one page; 0 = the server's limit.
    pub batch_bytes: u32,
}

/// Options of [`crate::Table::full_scan`]. The default reads all rows of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullScan {
    pub hash_filter: Option<Pattern>,
    pub sort_filter: Option<Pattern>,
    pub no_value: bool,
    /// Rows of one page; 0 = the server's limit.
    pub batch_rows: u32,
    /// Bytes of one page; 0 = the server's limit.
    pub batch_bytes: u32,
    /// How many partitions are read at the same time, and so how many pages are held in memory. Default 4, at least 1.
    pub concurrency: usize,
}

impl Default for FullScan {
    fn default() -> Self {
        Self {
            hash_filter: None,
            sort_filter: None,
            no_value: false,
            batch_rows: 0,
            batch_bytes: 0,
            concurrency: 4,
        }
    }
}

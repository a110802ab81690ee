//! What a client wants and what it is told, with every protocol forgotten.
//!
//! Front-ends make a [`Request`] from bytes and bytes from a [`Reply`]; everything behind them sees only these types.
//! Keys and values are slices of the receive buffer (`Bytes`): keep one for long and its whole chunk stays in memory.

mod redis;
mod reply;
mod scanner;

pub use redis::Redis;
pub use reply::{
    Checked, CheckedValue, Compacting, Failure, HotKey, HotKeys, Incremented, PartitionRoute,
    Reply, Response, Route, Row, Rows, Scrubbing,
};
pub use scanner::{Invalid, NextPage, OpenScanner, Page, ScannedRow};

use bytes::Bytes;
use std::time::Duration;

/// Hash keys are shorter than this, because their length travels and is stored as 16 bits (Apache Pegasus key schema).
pub const HASH_KEY_BYTES_MAX: usize = 65_534;
/// Bytes of the body of one request; a larger one is refused with `TooLarge`, and its bytes are never kept.
pub const REQUEST_BODY_BYTES_MAX: usize = 1 << 20;
/// Rows, keys or sort keys named by one request.
pub const REQUEST_ITEMS_MAX: usize = 16_384;
/// Bytes of a table's name.
pub const TABLE_NAME_BYTES_MAX: usize = 128;

/// One operation on one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// 0 where no partition is addressed (`Route`, `Ping`, `CoreStats`, `HotKeys`, `Scrub`, `Compact`).
    pub table: u32,
    /// Index of the partition, from 0.
    pub partition: u32,
    /// What was left of the asker's deadline when it sent the request; `None` = it gave none.
    pub timeout: Option<Duration>,
    pub operation: Operation,
}

/// The operations of the data path and of routing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Get(Key),
    Put(Put),
    Remove(Remove),
    Exist(Key),
    Ttl(Key),
    MultiPut(MultiPut),
    MultiGet(MultiGet),
    MultiRemove(MultiRemove),
    Incr(Incr),
    CheckAndSet(CheckAndSet),
    CheckAndMutate(CheckAndMutate),
    /// Keys of one partition, of any hash keys.
    BatchGet(Vec<Key>),
    /// Live rows of this hash key.
    SortKeyCount {
        hash_key: Bytes,
    },
    Scan(Scan),
    OpenScanner(OpenScanner),
    /// The next page of a scanner, whose number is good for one page.
    NextPage {
        context: u64,
    },
    /// Forgets a scanner; answered with [`Response::Silent`].
    CloseScanner {
        context: u64,
    },
    /// Well framed and not to be executed; answered where the partition would serve it, so that an asker that is wrong
    /// about the partition is told that first.
    Invalid(Invalid),
    /// Where the partitions of this table are.
    Route {
        table_name: String,
    },
    Ping,
    /// The statistics page of this core (`None`) or of another one of this node, by its index.
    CoreStats {
        core: Option<u16>,
    },
    /// The keys that this core (`None`), or another one of this node by its index, is asked for most.
    HotKeys {
        core: Option<u16>,
    },
    /// How scrubbing of this node is; with `start` a pass is ordered first.
    Scrub {
        start: bool,
    },
    /// How compacting by hand on this node is; with `start` the replicas of a table (`None`: of all) are ordered first.
    Compact {
        table: Option<u32>,
        start: bool,
    },
    /// A remote command of Apache Pegasus' tools.
    RemoteCommand {
        name: String,
        arguments: Vec<String>,
    },
    Http(Box<pegasus_http::Request>),
    /// A Redis command, of whatever keys; whoever has the connection finds their partitions.
    Redis(Redis),
}

impl Operation {
    /// Whether it changes data, and so needs a decree.
    #[must_use]
    pub const fn is_write(&self) -> bool {
        matches!(
            self,
            Self::Put(_)
                | Self::Remove(_)
                | Self::MultiPut(_)
                | Self::MultiRemove(_)
                | Self::Incr(_)
                | Self::CheckAndSet(_)
                | Self::CheckAndMutate(_)
        )
    }

    /// Whether it addresses a partition at all.
    #[must_use]
    pub const fn is_of_partition(&self) -> bool {
        !matches!(
            self,
            Self::Route { .. }
                | Self::Ping
                | Self::CoreStats { .. }
                | Self::HotKeys { .. }
                | Self::Scrub { .. }
                | Self::Compact { .. }
                | Self::RemoteCommand { .. }
                | Self::Http(_)
                | Self::Redis(_)
        )
    }

    /// The word for statistics and logs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Get(_) => "get",
            Self::Put(_) => "put",
            Self::Remove(_) => "remove",
            Self::Exist(_) => "exist",
            Self::Ttl(_) => "ttl",
            Self::MultiPut(_) => "multi_put",
            Self::MultiGet(_) => "multi_get",
            Self::MultiRemove(_) => "multi_remove",
            Self::Incr(_) => "incr",
            Self::CheckAndSet(_) => "check_and_set",
            Self::CheckAndMutate(_) => "check_and_mutate",
            Self::BatchGet(_) => "batch_get",
            Self::SortKeyCount { .. } => "sortkey_count",
            Self::Scan(_) | Self::OpenScanner(_) | Self::NextPage { .. } => "scan",
            Self::CloseScanner { .. } => "close_scanner",
            Self::Invalid(_) => "invalid",
            Self::Route { .. } => "route",
            Self::Ping => "ping",
            Self::CoreStats { .. } => "core_stats",
            Self::HotKeys { .. } => "hot_keys",
            Self::Scrub { .. } => "scrub",
            Self::Compact { .. } => "compact",
            Self::RemoteCommand { .. } => "remote_command",
            Self::Http(_) => "http",
            Self::Redis(_) => "redis",
        }
    }
}

/// Name of a row.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Key {
    pub hash_key: Bytes,
    pub sort_key: Bytes,
}

/// Identity of a write for exactly-once retries; (0, 0) = none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct RequestId {
    pub client: u64,
    pub sequence: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    pub key: Key,
    pub value: Bytes,
    pub expiry: Expiry,
    pub id: RequestId,
}

/// When the rows of a write become invisible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Expiry {
    /// As the table says: after its `default_ttl`, or never.
    #[default]
    Default,
    /// So many seconds after the primary has taken the write; 0 is [`Expiry::Default`].
    After(u32),
    /// At this second since 2016-01-01 UTC, stored as it is given, also when it is over; 0 is [`Expiry::Default`].
    At(u32),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remove {
    pub key: Key,
    pub id: RequestId,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MultiPut {
    pub hash_key: Bytes,
    /// Sort key and value, at least one.
    pub rows: Vec<(Bytes, Bytes)>,
    /// One for all.
    pub expiry: Expiry,
    pub id: RequestId,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MultiRemove {
    pub hash_key: Bytes,
    /// At least one.
    pub sort_keys: Vec<Bytes>,
    pub id: RequestId,
}

/// Adds to a decimal number (Apache Pegasus `incr`). A missing row counts as 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incr {
    pub key: Key,
    pub increment: i64,
    pub expiry: IncrExpiry,
    pub id: RequestId,
    /// See [`CheckAndSet::is_retry`].
    pub is_retry: bool,
}

/// When the row of an [`Incr`] becomes invisible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum IncrExpiry {
    /// As before.
    #[default]
    Keep,
    /// Never, or after the table's `default_ttl`.
    Remove,
    /// So many seconds after the primary has taken the request; 0 is [`IncrExpiry::Keep`].
    After(u32),
    /// At this second since 2016-01-01 UTC; 0 is [`IncrExpiry::Keep`].
    At(u32),
}

/// What a row must look like for a write to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub sort_key: Bytes,
    /// Apache Pegasus `cas_check_type`, 0 to 17; any other number is answered with [`Checked::Invalid`].
    pub kind: i32,
    pub operand: Bytes,
}

/// Writes one row if another one, or the same, passes a check (Apache Pegasus `check_and_set`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckAndSet {
    pub hash_key: Bytes,
    pub check: Check,
    /// `None` = the row that is checked.
    pub set_sort_key: Option<Bytes>,
    pub value: Bytes,
    pub expiry: Expiry,
    /// The answer tells what the checked row was before.
    pub return_check_value: bool,
    pub id: RequestId,
    /// This identity was sent before and the outcome is not known: a server that may have forgotten it answers `Unknown`
    /// instead of executing.
    pub is_retry: bool,
}

/// Changes rows of one hash key if one of them passes a check (Apache Pegasus `check_and_mutate`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckAndMutate {
    pub hash_key: Bytes,
    pub check: Check,
    /// In this order; none at all, or an unknown one, is answered with [`Checked::Invalid`].
    pub mutations: Vec<Mutate>,
    /// See [`CheckAndSet::return_check_value`].
    pub return_check_value: bool,
    pub id: RequestId,
    /// See [`CheckAndSet::is_retry`].
    pub is_retry: bool,
}

/// One change of a [`CheckAndMutate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mutate {
    Put {
        sort_key: Bytes,
        value: Bytes,
        expiry: Expiry,
    },
    Remove {
        sort_key: Bytes,
    },
    /// The asker named an operation that is neither of these.
    Unknown {
        operation: i32,
    },
}

impl Mutate {
    /// Of the row that it changes; none if it is unknown.
    #[must_use]
    pub fn sort_key(&self) -> Option<&[u8]> {
        match self {
            Self::Put { sort_key, .. } | Self::Remove { sort_key } => Some(sort_key),
            Self::Unknown { .. } => None,
        }
    }
}

/// Rows of one hash key, by sort keys or by range (Apache Pegasus `multi_get`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MultiGet {
    pub hash_key: Bytes,
    pub rows: MultiGetRows,
    /// 0 = the server's limit.
    pub max_rows: u32,
    /// Bytes of sort keys and values; 0 = the server's limit.
    pub max_bytes: u32,
    pub no_value: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MultiGetRows {
    /// Those of these that exist, in this order.
    Named(Vec<Bytes>),
    /// Those in this range that the filter lets through; ascending, also when `reverse` keeps the last ones.
    Range {
        range: SortKeyRange,
        filter: Filter,
        reverse: bool,
    },
}

/// Part of a hash key's rows.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SortKeyRange {
    /// Empty = from the first row.
    pub start: Bytes,
    pub start_inclusive: bool,
    /// Empty = to the end of the hash key, whatever `stop_inclusive` says.
    pub stop: Bytes,
    pub stop_inclusive: bool,
}

/// What a key has to look like. An empty pattern matches everything.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Filter {
    pub kind: FilterKind,
    pub pattern: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum FilterKind {
    #[default]
    None,
    Anywhere,
    Prefix,
    Postfix,
}

/// One page of a scan. Stateless: the client sends the `resume_key` of the last page back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    pub rows: ScanRows,
    pub sort_filter: Filter,
    /// 0 = the server's limit.
    pub batch_rows: u32,
    /// 0 = the server's limit.
    pub batch_bytes: u32,
    pub no_value: bool,
    /// Count the matching rows of this page instead of returning them.
    pub only_count: bool,
    /// Raw key after which to go on; empty = from the start.
    pub resume_key: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScanRows {
    /// Within one hash key.
    OfHashKey {
        hash_key: Bytes,
        range: SortKeyRange,
    },
    /// The whole partition.
    OfPartition { hash_filter: Filter },
}

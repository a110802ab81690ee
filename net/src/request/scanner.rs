//! Scanners as Apache Pegasus has them: the server keeps where a scan stands, under a number.

use super::Filter;
use bytes::Bytes;

/// Begins a scan over the raw keys of a partition (`get_scanner_request`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenScanner {
    /// Raw keys as the asker sent them; need not be well formed.
    pub start_key: Bytes,
    pub start_inclusive: bool,
    /// Empty = to the end of the partition.
    pub stop_key: Bytes,
    pub stop_inclusive: bool,
    pub hash_filter: Filter,
    pub sort_filter: Filter,
    /// Rows of a page; 0 = the server's limit, which also bounds it.
    pub batch_rows: u32,
    pub no_value: bool,
    /// Count the matching rows of a page instead of returning them.
    pub only_count: bool,
    /// Tell when rows expire.
    pub return_expiry: bool,
}

/// A row of a scanner.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ScannedRow {
    pub raw_key: Bytes,
    pub value: Bytes,
    /// Seconds since 2016-01-01 UTC, 0 = never.
    pub expire_at: u32,
}

/// Some rows of a scanner, in the order of their raw keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub rows: Vec<ScannedRow>,
    /// With [`OpenScanner::only_count`]: matching rows of this page.
    pub count: Option<u64>,
    /// As [`OpenScanner::return_expiry`].
    pub return_expiry: bool,
    pub next: NextPage,
}

/// What comes after a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextPage {
    /// It was the last.
    None,
    /// More may come after this raw key; nobody keeps that yet.
    After(Bytes),
    /// Ask with this number, once.
    Context(u64),
}

/// Why an operation is answered, and not executed, wherever the partition would serve it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// It makes no sense as it is (Apache error 4).
    Argument(&'static str),
    /// It came with more bytes than a write may have.
    TooLarge { bytes: u64, max: u64 },
}

//! What Redis commands mean: a command and what is known of the rows of its key in, an answer and changed rows out.
//!
//! **Its job.** Know every command that is understood ([`spec`]), how it is spread over keys ([`Call`]), and evaluate
//! the commands of one key, or a transaction of them, on the rows stored under it ([`evaluate()`]).
//!
//! **What it must never do.** I/O, reading a clock, knowing about partitions or connections. Arguments are a client's:
//! nothing in them may panic.
//!
//! A Redis key is a hash key. A *string* is the row with the empty sort key; a *hash* is a row for each field, the field
//! being the sort key, and all rows of a hash expire together. So one key lives in one partition, under one gate.
//!
//! Reading order: [`spec`], [`call`], [`rows`], [`mod@evaluate`] and the files beside it by kind of command; [`answer`] has the
//! sentences, [`number`], [`glob`] and [`time`] what several commands need.
//!
//! Source: the commands as documented at <https://redis.io/docs/latest/commands/>, checked against Redis 7.0.

#![forbid(unsafe_code)]

pub mod answer;
pub mod call;
pub mod evaluate;
pub mod glob;
pub mod number;
pub mod rows;
pub mod slot;
pub mod spec;
pub mod time;

pub use call::{Call, Calls, Gather, Refusal};
pub use evaluate::{Context, evaluate, replacement};
pub use rows::{Need, Row, State};
pub use spec::{Kind, Place, Spec};

/// Rows that one mutation may read and write: a hash with more fields is not removed, replaced or given another expiry in
/// one step, and not without.
pub const WRITE_ROWS_MAX: usize = 3000;
/// Fields that one read may return or count.
pub const READ_ROWS_MAX: usize = 65_536;
/// Bytes of fields and values that one read of a hash may return.
pub const READ_BYTES_MAX: usize = 16 << 20;
/// Bytes of one answer ([`answer::bytes`]). A short command can ask for one value very many times.
pub const ANSWER_BYTES_MAX: usize = 20 << 20;
/// Bytes of one value: what fits into one write beside its key.
pub const VALUE_BYTES_MAX: usize = 1_000_000;
/// Bytes of a key, and the reason why it has a bound: it is stored as a hash key (Apache Pegasus key schema).
pub const KEY_BYTES_MAX: usize = 65_534;

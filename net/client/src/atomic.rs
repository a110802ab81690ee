//! Atomic operations: add to a number, write if a row passes a check. Each carries an identity, so that it may be sent again
//! until its outcome is known, and is executed at most once.

use crate::encode::{self, Builder, RequestId};
use crate::error::{Error, Result};
use crate::reply::{self, Increment};
use crate::table::{Key, ROW_OVERHEAD, Table, check_hash_key, check_not_empty};
use bytes::Bytes;
use pegasus_fbs::code::Code;
use pegasus_fbs::frame::FrameKind;
use pegasus_fbs::hash::key_hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// When a row that is written becomes invisible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Expiry {
    /// As the table says: after its default time to live, or never.
    #[default]
    Default,
    /// After so long, rounded up to whole seconds, more than zero.
    After(Duration),
    /// At this second since 2016-01-01 UTC, more than zero.
    At(u32),
}

/// When the row of an increment becomes invisible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum IncrExpiry {
    /// As before; a new row as the table says.
    #[default]
    Keep,
    /// As the table says.
    Remove,
    /// After so long, rounded up to whole seconds, more than zero.
    After(Duration),
    /// At this second since 2016-01-01 UTC, more than zero.
    At(u32),
}

/// What a row is compared with. All but the first three pass only if the row exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CheckKind {
    /// Passes always.
    NoCheck = 0,
    NotExist = 1,
    NotExistOrEmpty = 2,
    Exist = 3,
    NotEmpty = 4,
    /// The value contains the operand.
    MatchAnywhere = 5,
    /// The value begins with the operand.
    MatchPrefix = 6,
    /// The value ends with the operand.
    MatchPostfix = 7,
    /// The value is less than the operand, byte by byte.
    BytesLess = 8,
    BytesLessOrEqual = 9,
    BytesEqual = 10,
    BytesGreaterOrEqual = 11,
    BytesGreater = 12,
    /// The value is less than the operand, both as numbers.
    IntLess = 13,
    IntLessOrEqual = 14,
    IntEqual = 15,
    IntGreaterOrEqual = 16,
    IntGreater = 17,
}

/// A condition on one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub sort_key: Bytes,
    pub kind: CheckKind,
    /// Ignored by the first five kinds.
    pub operand: Bytes,
}

/// What [`Table::check_and_set`] writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// `None` = the row that is checked.
    pub sort_key: Option<Bytes>,
    pub value: Bytes,
    pub expiry: Expiry,
}

/// One change of [`Table::check_and_mutate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mutation {
    Put {
        sort_key: Bytes,
        value: Bytes,
        expiry: Expiry,
    },
    Remove {
        sort_key: Bytes,
    },
}

/// What a check came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckOutcome {
    /// The check has passed, and everything is written; otherwise nothing is.
    pub passed: bool,
    pub checked: CheckedRow,
}

/// The checked row before the operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckedRow {
    Missing,
    Found(Bytes),
    /// The operation was executed by an attempt whose answer was lost, and the value was longer than the 254 bytes that a
    /// server keeps for that case.
    Forgotten,
}

impl Table {
    /// Adds `increment` to the number in a row, and tells the sum. A missing or empty row counts as 0.
    ///
    /// Fails with [`Code::InvalidArgument`], and changes nothing, if the row is no number or the sum has no room in 64 bits.
    pub async fn incr(&self, hash_key: &[u8], sort_key: &[u8], increment: i64) -> Result<i64> {
        self.incr_with_expiry(hash_key, sort_key, increment, IncrExpiry::Keep)
            .await
    }

    /// As [`Table::incr`], and changes when the row expires.
    pub async fn incr_with_expiry(
        &self,
        hash_key: &[u8],
        sort_key: &[u8],
        increment: i64,
        expiry: IncrExpiry,
    ) -> Result<i64> {
        let expiry = incr_fields(expiry)?;
        let attempts = Attempts::new(self.atomic_id());
        let key: Key<'_> = (hash_key, sort_key);
        let body = |builder: &mut Builder| {
            encode::incr(builder, key, increment, expiry, attempts.next());
        };
        let weight = hash_key.len() + sort_key.len();
        let answer = self
            .write_once(FrameKind::Incr, key_hash(hash_key, sort_key), weight, &body)
            .await?;
        match reply::read_increment(&answer)? {
            Increment::Done(sum) => Ok(sum),
            Increment::NotANumber => Err(invalid("the value is no number")),
            Increment::Overflow(value) => Err(invalid(format!(
                "{value} cannot take {increment} more: 64 bits have no room"
            ))),
        }
    }

    /// Writes a row if it, or another row of its hash key, passes a check.
    ///
    /// Fails with [`Code::InvalidArgument`], and changes nothing, if a number is compared with what is none.
    pub async fn check_and_set(
        &self,
        hash_key: &[u8],
        check: &Check,
        set: &Set,
    ) -> Result<CheckOutcome> {
        check_hash_key(hash_key)?;
        let expiry = fields(set.expiry)?;
        let attempts = Attempts::new(self.atomic_id());
        let body = |builder: &mut Builder| {
            encode::check_and_set(builder, hash_key, check, set, expiry, attempts.next());
        };
        let set_bytes = set.sort_key.as_ref().map_or(0, Bytes::len) + set.value.len();
        let weight = hash_key.len() + weight_of(check) + set_bytes;
        let kind = FrameKind::CheckAndSet;
        let answer = self
            .write_once(kind, key_hash(hash_key, &[]), weight, &body)
            .await?;
        outcome(&answer)
    }

    /// Puts and removes rows of one hash key, in this order and as one, if one of its rows passes a check.
    ///
    /// Fails as [`Table::check_and_set`] does.
    pub async fn check_and_mutate(
        &self,
        hash_key: &[u8],
        check: &Check,
        mutations: &[Mutation],
    ) -> Result<CheckOutcome> {
        check_hash_key(hash_key)?;
        check_not_empty(mutations.len())?;
        for mutation in mutations {
            mutation.expiry()?;
        }
        let attempts = Attempts::new(self.atomic_id());
        let body = |builder: &mut Builder| {
            encode::check_and_mutate(builder, hash_key, check, mutations, attempts.next());
        };
        let mutated: usize = mutations.iter().map(Mutation::weight).sum();
        let weight = hash_key.len() + weight_of(check) + mutated;
        let kind = FrameKind::CheckAndMutate;
        let answer = self
            .write_once(kind, key_hash(hash_key, &[]), weight, &body)
            .await?;
        outcome(&answer)
    }
}

impl Mutation {
    fn weight(&self) -> usize {
        match self {
            Self::Put {
                sort_key, value, ..
            } => sort_key.len() + value.len() + ROW_OVERHEAD,
            Self::Remove { sort_key } => sort_key.len() + ROW_OVERHEAD,
        }
    }

    /// Seconds to live and absolute second, both zero by default.
    pub(crate) fn expiry(&self) -> Result<(u32, u32)> {
        match self {
            Self::Put { expiry, .. } => fields(*expiry),
            Self::Remove { .. } => Ok((0, 0)),
        }
    }
}

fn weight_of(check: &Check) -> usize {
    check.sort_key.len() + check.operand.len() + ROW_OVERHEAD
}

fn outcome(answer: &Bytes) -> Result<CheckOutcome> {
    reply::read_check(answer)?
        .ok_or_else(|| invalid("the value, or the operand, that is compared as a number is none"))
}

/// One identity over all attempts; those after the first say so.
struct Attempts {
    id: RequestId,
    is_retry: AtomicBool,
}

impl Attempts {
    const fn new(id: RequestId) -> Self {
        Self {
            id,
            is_retry: AtomicBool::new(false),
        }
    }

    /// The identity, and whether it may have been sent before.
    fn next(&self) -> (RequestId, bool) {
        (self.id, self.is_retry.swap(true, Ordering::Relaxed))
    }
}

/// Seconds to live and absolute second, both zero by default.
pub(crate) fn fields(expiry: Expiry) -> Result<(u32, u32)> {
    match expiry {
        Expiry::Default => Ok((0, 0)),
        Expiry::After(ttl) => Ok((crate::table::ttl_seconds(ttl)?, 0)),
        Expiry::At(0) => Err(invalid("an expiry at second zero")),
        Expiry::At(second) => Ok((0, second)),
    }
}

/// The same, and whether the expiry goes.
fn incr_fields(expiry: IncrExpiry) -> Result<(u32, u32, bool)> {
    let (after, at) = match expiry {
        IncrExpiry::Keep => (0, 0),
        IncrExpiry::Remove => return Ok((0, 0, true)),
        IncrExpiry::After(ttl) => fields(Expiry::After(ttl))?,
        IncrExpiry::At(second) => fields(Expiry::At(second))?,
    };
    Ok((after, at, false))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::failed(Code::InvalidArgument, message)
}

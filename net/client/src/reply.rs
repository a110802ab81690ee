//! Answers as Rust values. Keys and values share the memory of the received frame.

use crate::atomic::{CheckOutcome, CheckedRow};
use crate::error::{Cause, Error, Result};
use bytes::Bytes;
use pegasus_fbs::code::Code;
use pegasus_fbs::flatbuffers::{Follow, Vector, Verifiable};
use pegasus_fbs::stats_page::{COMPACT_WORDS_MAX, Snapshot, expand};
use pegasus_fbs::{body, kv};
use std::time::{Duration, SystemTime};

/// One row. Its fields share the memory of the page it came with: copy what you keep for long.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Row {
    /// Empty where the caller named it (multi get).
    pub hash_key: Bytes,
    pub sort_key: Bytes,
    pub value: Bytes,
    /// Seconds since 2016-01-01 UTC, 0 = never; see [`Row::expires`].
    pub expire_at: u32,
}

impl Row {
    /// When the row expires, or `None` if it does not.
    #[must_use]
    pub fn expires(&self) -> Option<SystemTime> {
        const EPOCH: Duration = Duration::from_secs(1_451_606_400);
        (self.expire_at > 0)
            .then(|| SystemTime::UNIX_EPOCH + EPOCH + Duration::from_secs(self.expire_at.into()))
    }
}

/// Rows of a multi get.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    pub rows: Vec<Row>,
    /// False: a limit of rows, bytes or time cut the answer, and more rows may follow.
    pub complete: bool,
}

/// What is left of a row's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// It does not expire.
    Never,
    /// Whole seconds.
    Remaining(Duration),
}

/// One page of a scan.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) rows: Vec<Row>,
    pub(crate) complete: bool,
    pub(crate) resume_key: Bytes,
    pub(crate) count: u64,
}

/// The statistics page in an answer.
pub(crate) fn read_core_stats(frame: &Bytes) -> Result<Snapshot> {
    let reply = read::<kv::CoreStatsReply<'_>>(frame)?;
    let words = reply.words().unwrap_or_default();
    let incompatible = |message: String| Error::failed(Code::Incompatible, message);
    if words.len() > COMPACT_WORDS_MAX {
        return Err(incompatible(format!(
            "statistics of {} words, at most {COMPACT_WORDS_MAX} are expected",
            words.len()
        )));
    }
    let words: Vec<u64> = words.iter().collect();
    expand(&words)
        .and_then(|words| Snapshot::of_words(&words))
        .map_err(|error| incompatible(error.to_string()))
}

pub(crate) fn read_value(frame: &Bytes) -> Result<Bytes> {
    let reply = read::<kv::ValueReply<'_>>(frame)?;
    Ok(slice(frame, reply.value()))
}

pub(crate) fn read_exist(frame: &Bytes) -> Result<bool> {
    Ok(read::<kv::ExistReply<'_>>(frame)?.exists())
}

pub(crate) fn read_ttl(frame: &Bytes) -> Result<Ttl> {
    let seconds = read::<kv::TtlReply<'_>>(frame)?.ttl_seconds();
    Ok(u64::try_from(seconds).map_or(Ttl::Never, |seconds| {
        Ttl::Remaining(Duration::from_secs(seconds))
    }))
}

pub(crate) fn read_count(frame: &Bytes) -> Result<u64> {
    Ok(read::<kv::CountReply<'_>>(frame)?.count())
}

/// The write was executed, but how many rows it named cannot be read: its outcome is not fully known.
pub(crate) fn read_write_count(frame: &Bytes) -> Result<u64> {
    let reply = read::<kv::WriteReply<'_>>(frame)
        .map_err(|error| Error::Unknown(Cause::local(error.to_string())))?;
    Ok(reply.count().into())
}

/// What an increment came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Increment {
    Done(i64),
    NotANumber,
    Overflow(i64),
}

/// The increment was executed, but what it came to cannot be read: its outcome is not fully known.
pub(crate) fn read_increment(frame: &Bytes) -> Result<Increment> {
    let reply = read_executed::<kv::IncrReply<'_>>(frame)?;
    match reply.outcome() {
        kv::IncrOutcome::Done => Ok(Increment::Done(reply.value())),
        kv::IncrOutcome::NotANumber => Ok(Increment::NotANumber),
        kv::IncrOutcome::Overflow => Ok(Increment::Overflow(reply.value())),
        kv::IncrOutcome(number) => Err(strange("outcome", number)),
    }
}

/// `None`: a number was compared with what is none, or the check itself makes no sense.
pub(crate) fn read_check(frame: &Bytes) -> Result<Option<CheckOutcome>> {
    let reply = read_executed::<kv::CheckReply<'_>>(frame)?;
    let passed = match reply.outcome() {
        kv::CheckOutcome::Passed => true,
        kv::CheckOutcome::Failed => false,
        kv::CheckOutcome::Invalid => return Ok(None),
        kv::CheckOutcome(number) => return Err(strange("outcome", number)),
    };
    let checked = match reply.checked() {
        kv::CheckedRow::Missing => CheckedRow::Missing,
        kv::CheckedRow::Found => CheckedRow::Found(slice(frame, reply.checked_value())),
        kv::CheckedRow::Forgotten => CheckedRow::Forgotten,
        kv::CheckedRow(number) => return Err(strange("checked row", number)),
    };
    Ok(Some(CheckOutcome { passed, checked }))
}

fn read_executed<'a, T: Follow<'a> + Verifiable + 'a>(frame: &'a [u8]) -> Result<T::Inner> {
    read::<T>(frame).map_err(|error| Error::Unknown(Cause::local(error.to_string())))
}

fn strange(what: &str, number: u8) -> Error {
    Error::Unknown(Cause::local(format!("answer: unknown {what} {number}")))
}

pub(crate) fn read_rows(frame: &Bytes) -> Result<Rows> {
    let page = read_page(frame)?;
    Ok(Rows {
        rows: page.rows,
        complete: page.complete,
    })
}

pub(crate) fn read_page(frame: &Bytes) -> Result<Page> {
    let reply = read::<kv::RowsReply<'_>>(frame)?;
    let row = |row: kv::Row<'_>| Row {
        hash_key: slice(frame, row.hash_key()),
        sort_key: slice(frame, row.sort_key()),
        value: slice(frame, row.value()),
        expire_at: row.expire_at(),
    };
    Ok(Page {
        rows: reply
            .rows()
            .map(|rows| rows.iter().map(row).collect())
            .unwrap_or_default(),
        complete: reply.complete(),
        resume_key: slice(frame, reply.resume_key()),
        count: reply.count(),
    })
}

/// A verified root table, or the server's mistake as an error.
pub(crate) fn read<'a, T: Follow<'a> + Verifiable + 'a>(frame: &'a [u8]) -> Result<T::Inner> {
    body::read::<T>(frame)
        .map_err(|error| Error::failed(Code::Internal, format!("answer: {error}")))
}

pub(crate) fn slice(frame: &Bytes, vector: Option<Vector<'_, u8>>) -> Bytes {
    match body::bytes(vector) {
        [] => Bytes::new(),
        data => frame.slice_ref(data),
    }
}

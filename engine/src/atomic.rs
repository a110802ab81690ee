//! Operations that depend on the rows they change: worked out once, on the primary, and logged as blind writes.
//!
//! A [`Program`] is a pure function of a few rows of one hash key. It ends with what is to be written and what its client is
//! answered, or says which rows it has to know first ([`Need`]). [`Computation`] finds those as they are *prepared*: in the
//! mutations in flight, which a replica has not applied yet, and below them in the engine. So nothing waits for
//! writes in flight, and a counter takes as many increments in one flush as come.
//!
//! The semantics are those of Apache Pegasus (`rrdb.thrift`: incr, check_and_set, check_and_mutate).

mod check;
mod computation;
mod incr;
mod number;
mod result;

pub use check::{Check, CheckAndMutate, CheckKind, Checked, CheckedValue};
pub use computation::{
    Computation, EngineSource, Head, Need, Pending, Prepared, ROWS_BYTES_MAX, Rows, Source,
};
pub use incr::{Incr, IncrExpiry, Incremented};
pub use number::parse_number;

use crate::op::Batch;
use crate::value::seconds_since_epoch;
use bytes::Bytes;
use pegasus_replication::ids::Decree;

/// What is to be made of rows, for one request.
pub trait Program {
    /// What the client is told.
    type Answer;

    /// Works it out from what is known of the rows. Not called again once it has ended well.
    ///
    /// # Errors
    /// What has to be known first; then it is called again, with more rows.
    fn evaluate(&mut self, rows: &Rows, moment: Moment) -> Result<Evaluation<Self::Answer>, Need>;
}

/// As of when, and under which setting of its table, an operation is worked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Unix microseconds, as the primary has them.
    pub wall_us: u64,
    /// Of rows that name no expiry; 0 = for ever.
    pub default_ttl_s: u32,
}

impl Moment {
    /// Seconds since 2016-01-01 UTC.
    #[must_use]
    pub fn now_s(self) -> u32 {
        seconds_since_epoch(self.wall_us)
    }

    /// The expiry of a row that names none; 0 = never.
    #[must_use]
    pub fn expiry_of_default(self) -> u32 {
        match self.default_ttl_s {
            0 => 0,
            ttl => self.now_s().saturating_add(ttl),
        }
    }
}

/// What a program came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation<A> {
    pub answer: A,
    /// What is to be written; without operations nothing is, and nothing gets a decree.
    pub batch: Batch,
    /// The answer to a retry of the same request, at most [`RESULT_BYTES_MAX`](crate::op::RESULT_BYTES_MAX) bytes; empty
    /// where the request has no id, or nothing is written.
    pub result: Bytes,
}

impl<A> Evaluation<A> {
    /// Nothing is to be written.
    #[must_use]
    pub fn unchanged(answer: A) -> Self {
        Self {
            answer,
            batch: Batch::new(),
            result: Bytes::new(),
        }
    }
}

impl<A> Evaluation<A> {
    /// The same with another answer.
    #[must_use]
    pub fn map<B>(self, answer: impl FnOnce(A) -> B) -> Evaluation<B> {
        Evaluation {
            answer: answer(self.answer),
            batch: self.batch,
            result: self.result,
        }
    }
}

/// What an engine knows of a request id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestOutcome {
    /// Nothing: it has not been applied.
    New,
    /// It was applied with this decree, and this is what its evaluation gave as `result`.
    Applied { decree: Decree, result: Bytes },
    /// It may have been applied so long ago that it is not known any more.
    Forgotten,
}

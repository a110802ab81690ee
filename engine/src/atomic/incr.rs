//! `incr`: adds to a number that is stored as decimal text.

use super::{Evaluation, Moment, Need, Program, Rows, number, result};
use crate::op::Batch;
use bytes::Bytes;

/// Adds to the number in one row (Apache Pegasus `incr`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incr {
    /// Of the row.
    pub raw_key: Bytes,
    pub increment: i64,
    pub expiry: IncrExpiry,
}

/// What becomes of the row's expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncrExpiry {
    /// As it is; of a missing row, what the table gives.
    Keep,
    /// What the table gives.
    Remove,
    /// This second since 2016-01-01 UTC.
    At(u32),
}

/// What an [`Incr`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incremented {
    /// The sum, which is written.
    Done(i64),
    /// The stored value is no number. Nothing is written.
    NotANumber,
    /// The sum is out of range; the number stays as it is.
    Overflow(i64),
}

impl Program for Incr {
    type Answer = Incremented;

    fn evaluate(&mut self, rows: &Rows, moment: Moment) -> Result<Evaluation<Incremented>, Need> {
        let row = rows.row(&self.raw_key)?;
        let before = match row {
            None => Some(0),
            Some(row) if row.data.is_empty() => Some(0),
            Some(row) => number::parse_number(&row.data),
        };
        let Some(before) = before else {
            return Ok(Evaluation::unchanged(Incremented::NotANumber));
        };
        let Some(sum) = before.checked_add(self.increment) else {
            return Ok(Evaluation::unchanged(Incremented::Overflow(before)));
        };
        let expire_at = match (self.expiry, row) {
            (IncrExpiry::At(second), _) => second,
            (IncrExpiry::Keep, Some(row)) => row.expire_at,
            (IncrExpiry::Keep, None) | (IncrExpiry::Remove, _) => 0,
        };
        let expire_at = match expire_at {
            0 => moment.expiry_of_default(),
            second => second,
        };
        let mut batch = Batch::new();
        batch
            .put(&self.raw_key, sum.to_string().as_bytes(), expire_at)
            .expect("a raw key that a batch takes, and a value of 20 bytes");
        let answer = Incremented::Done(sum);
        Ok(Evaluation {
            answer,
            batch,
            result: result::of_sum(sum),
        })
    }
}

impl Incremented {
    /// The answer to a retry, from the `result` of the first time. `None` if it is that of another kind of operation.
    #[must_use]
    pub fn remembered(remembered: &[u8]) -> Option<Self> {
        result::sum(remembered).map(Self::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atomic::computation::tests::{MOMENT, moment, row, rows};
    use crate::op::{BatchRef, OpRef};

    fn incr(
        value: Option<(&[u8], u32)>,
        increment: i64,
        expiry: IncrExpiry,
        now: Moment,
    ) -> (Incremented, Option<(Vec<u8>, u32)>) {
        let raw_key = crate::key::encode(b"h", b"s").unwrap();
        let rows = rows([(
            &b"s"[..],
            value.map(|(data, expire_at)| row(data, expire_at)),
        )]);
        let mut program = Incr {
            raw_key: raw_key.clone(),
            increment,
            expiry,
        };
        let evaluation = program.evaluate(&rows, now).unwrap();
        let payload = evaluation.batch.encode();
        let mut written = BatchRef::parse(&payload)
            .unwrap()
            .iter()
            .map(|op| match op {
                OpRef::Put {
                    key,
                    value,
                    expire_at,
                } => {
                    assert_eq!(key, &raw_key[..]);
                    (value.to_vec(), expire_at)
                }
                OpRef::Remove { .. } => panic!("an increment removes nothing"),
            });
        let written = (written.next(), written.next());
        assert_eq!(written.1, None);
        if let Incremented::Done(sum) = evaluation.answer {
            assert_eq!(
                Incremented::remembered(&evaluation.result),
                Some(Incremented::Done(sum))
            );
        }
        (evaluation.answer, written.0)
    }

    fn done(sum: i64, expire_at: u32) -> (Incremented, Option<(Vec<u8>, u32)>) {
        (
            Incremented::Done(sum),
            Some((sum.to_string().into_bytes(), expire_at)),
        )
    }

    use IncrExpiry::{At, Keep, Remove};

    #[test]
    fn a_missing_or_empty_value_counts_as_zero() {
        assert_eq!(incr(None, -3, Keep, MOMENT), done(-3, 0));
        assert_eq!(incr(Some((b"", 500)), 4, Keep, MOMENT), done(4, 500));
        assert_eq!(incr(None, 4, At(700), MOMENT), done(4, 700));
    }

    #[test]
    fn a_number_is_read_in_any_base_and_written_as_decimal_text() {
        assert_eq!(incr(Some((b" 0x10", 0)), 1, Keep, MOMENT), done(17, 0));
        assert_eq!(incr(Some((b"7", 0)), 0, Keep, MOMENT), done(7, 0));
        assert_eq!(
            incr(Some((b"-1", 0)), i64::MIN + 1, Keep, MOMENT),
            done(i64::MIN, 0)
        );
    }

    #[test]
    fn what_is_no_number_stays_as_it_is() {
        assert_eq!(
            incr(Some((b"x", 0)), 1, Keep, MOMENT),
            (Incremented::NotANumber, None)
        );
        assert_eq!(
            incr(Some((b"1 ", 0)), 1, At(9), MOMENT),
            (Incremented::NotANumber, None)
        );
    }

    #[test]
    fn a_sum_out_of_range_leaves_the_number_and_tells_it() {
        let text = i64::MAX.to_string();
        let value = Some((text.as_bytes(), 0));
        assert_eq!(
            incr(value, 1, Keep, MOMENT),
            (Incremented::Overflow(i64::MAX), None)
        );
        let low = i64::MIN.to_string();
        let value = Some((low.as_bytes(), 0));
        assert_eq!(
            incr(value, -1, Keep, MOMENT),
            (Incremented::Overflow(i64::MIN), None)
        );
    }

    #[test]
    fn the_expiry_is_kept_removed_or_set() {
        let value: Option<(&[u8], u32)> = Some((b"1", 500));
        assert_eq!(incr(value, 1, Keep, MOMENT), done(2, 500));
        assert_eq!(incr(value, 1, Remove, MOMENT), done(2, 0));
        assert_eq!(incr(value, 1, At(600), MOMENT), done(2, 600));
    }

    #[test]
    fn a_row_without_expiry_gets_that_of_its_table() {
        let now = moment(100, 30);
        assert_eq!(incr(None, 1, Keep, now), done(1, 130));
        assert_eq!(incr(Some((b"1", 0)), 1, Keep, now), done(2, 130));
        assert_eq!(incr(Some((b"1", 500)), 1, Remove, now), done(2, 130));
        assert_eq!(incr(Some((b"1", 500)), 1, Keep, now), done(2, 500));
        assert_eq!(incr(Some((b"1", 500)), 1, At(7), now), done(2, 7));
    }
}

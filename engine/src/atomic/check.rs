//! `check_and_set` and `check_and_mutate`: a batch that is written if a row passes a check.

use super::{Evaluation, Moment, Need, Program, Rows, number, result};
use crate::Row;
use crate::op::Batch;
use crate::scan::contains;
use bytes::Bytes;

/// What the check compares (Apache Pegasus `cas_check_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CheckKind {
    NoCheck = 0,
    NotExist = 1,
    NotExistOrEmpty = 2,
    Exist = 3,
    NotEmpty = 4,
    MatchAnywhere = 5,
    MatchPrefix = 6,
    MatchPostfix = 7,
    BytesLess = 8,
    BytesLessOrEqual = 9,
    BytesEqual = 10,
    BytesGreaterOrEqual = 11,
    BytesGreater = 12,
    IntLess = 13,
    IntLessOrEqual = 14,
    IntEqual = 15,
    IntGreaterOrEqual = 16,
    IntGreater = 17,
}

impl CheckKind {
    /// All of them, by number.
    pub const ALL: [Self; 18] = [
        Self::NoCheck,
        Self::NotExist,
        Self::NotExistOrEmpty,
        Self::Exist,
        Self::NotEmpty,
        Self::MatchAnywhere,
        Self::MatchPrefix,
        Self::MatchPostfix,
        Self::BytesLess,
        Self::BytesLessOrEqual,
        Self::BytesEqual,
        Self::BytesGreaterOrEqual,
        Self::BytesGreater,
        Self::IntLess,
        Self::IntLessOrEqual,
        Self::IntEqual,
        Self::IntGreaterOrEqual,
        Self::IntGreater,
    ];

    /// The kind of this number; `None` if there is none.
    #[must_use]
    pub fn from_number(number: i32) -> Option<Self> {
        let index = usize::try_from(number).ok()?;
        Self::ALL.get(index).copied()
    }
}

/// A condition on one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Of the row that is looked at.
    pub raw_key: Bytes,
    pub kind: CheckKind,
    pub operand: Bytes,
}

/// Writes a batch if a row passes a check. `check_and_set` is the one whose batch is one put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckAndMutate {
    pub check: Check,
    /// At least one operation, on rows of the same hash key.
    pub batch: Batch,
    /// The answer tells what the checked row was before.
    pub return_check_value: bool,
}

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// The batch is written.
    Passed,
    Failed,
    /// The value or the operand had to be a number and is none.
    Invalid,
}

/// The checked row before the operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckedValue {
    NotAsked,
    Missing,
    Found(Bytes),
    /// Only in answers to retries: it was too long to be remembered.
    Forgotten,
}

impl Check {
    /// Whether a row, as it is, passes.
    #[must_use]
    pub fn evaluate(&self, row: Option<&Row>) -> Checked {
        use CheckKind as Kind;
        let value = row.map(|row| &row.data[..]);
        let operand = &self.operand[..];
        let passes = match (self.kind, value) {
            (Kind::NoCheck, _) => true,
            (Kind::NotExist, value) => value.is_none(),
            (Kind::NotExistOrEmpty, value) => value.is_none_or(<[u8]>::is_empty),
            (_, None) => false,
            (Kind::Exist, Some(_)) => true,
            (Kind::NotEmpty, Some(value)) => !value.is_empty(),
            (Kind::MatchAnywhere, Some(value)) => contains(value, operand),
            (Kind::MatchPrefix, Some(value)) => value.starts_with(operand),
            (Kind::MatchPostfix, Some(value)) => value.ends_with(operand),
            (Kind::BytesLess, Some(value)) => value < operand,
            (Kind::BytesLessOrEqual, Some(value)) => value <= operand,
            (Kind::BytesEqual, Some(value)) => value == operand,
            (Kind::BytesGreaterOrEqual, Some(value)) => value >= operand,
            (Kind::BytesGreater, Some(value)) => value > operand,
            (
                Kind::IntLess
                | Kind::IntLessOrEqual
                | Kind::IntEqual
                | Kind::IntGreaterOrEqual
                | Kind::IntGreater,
                Some(value),
            ) => return self.compare_numbers(value),
        };
        if passes {
            Checked::Passed
        } else {
            Checked::Failed
        }
    }

    fn compare_numbers(&self, value: &[u8]) -> Checked {
        let numbers = (
            number::parse_number(value),
            number::parse_number(&self.operand),
        );
        let (Some(value), Some(operand)) = numbers else {
            return Checked::Invalid;
        };
        let passes = match self.kind {
            CheckKind::IntLess => value < operand,
            CheckKind::IntLessOrEqual => value <= operand,
            CheckKind::IntEqual => value == operand,
            CheckKind::IntGreaterOrEqual => value >= operand,
            _ => value > operand,
        };
        if passes {
            Checked::Passed
        } else {
            Checked::Failed
        }
    }
}

impl Program for CheckAndMutate {
    type Answer = (Checked, CheckedValue);

    fn evaluate(
        &mut self,
        rows: &Rows,
        _: Moment,
    ) -> Result<Evaluation<(Checked, CheckedValue)>, Need> {
        let row = rows.row(&self.check.raw_key)?;
        let checked = self.check.evaluate(row);
        let value = match row {
            _ if !self.return_check_value => CheckedValue::NotAsked,
            None => CheckedValue::Missing,
            Some(row) => CheckedValue::Found(row.data.clone()),
        };
        if checked != Checked::Passed {
            return Ok(Evaluation::unchanged((checked, value)));
        }
        Ok(Evaluation {
            result: result::of_check(&value),
            answer: (checked, value),
            batch: std::mem::take(&mut self.batch),
        })
    }
}

impl CheckedValue {
    /// What a retry of a passed check is told, from the `result` of the first time. `None` if it is that of another kind of
    /// operation.
    #[must_use]
    pub fn remembered(remembered: &[u8]) -> Option<Self> {
        result::check(remembered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atomic::computation::tests::{MOMENT, row, rows};
    use crate::op::RESULT_BYTES_MAX;

    fn check(kind: CheckKind, value: Option<&[u8]>, operand: &[u8]) -> Checked {
        let check = Check {
            raw_key: Bytes::new(),
            kind,
            operand: Bytes::copy_from_slice(operand),
        };
        check.evaluate(value.map(|value| row(value, 0)).as_ref())
    }

    /// Every kind against a missing, an empty and a few other values: `p`assed, `f`ailed, `i`nvalid.
    #[test]
    fn each_kind_decides_as_apache_pegasus_does() {
        let values: [Option<&[u8]>; 6] = [
            None,
            Some(b""),
            Some(b"12"),
            Some(b"123"),
            Some(b"2"),
            Some(b"x"),
        ];
        let expected = [
            "pppppp", // no check
            "pfffff", // not exist
            "ppffff", // not exist or empty
            "fppppp", // exist
            "ffpppp", // not empty
            "ffppff", // 12 anywhere
            "ffppff", // 12 first
            "ffpfff", // 12 last
            "fpffff", // bytes < 12
            "fppfff", // bytes <= 12
            "ffpfff", // bytes == 12
            "ffpppp", // bytes >= 12
            "fffppp", // bytes > 12
            "fiffpi", // numbers < 12
            "fipfpi", // numbers <= 12
            "fipffi", // numbers == 12
            "fippfi", // numbers >= 12
            "fifpfi", // numbers > 12
        ];
        for (kind, expected) in CheckKind::ALL.into_iter().zip(expected) {
            let letters: String = values
                .iter()
                .map(|value| match check(kind, *value, b"12") {
                    Checked::Passed => 'p',
                    Checked::Failed => 'f',
                    Checked::Invalid => 'i',
                })
                .collect();
            assert_eq!(letters, expected, "{kind:?}");
        }
    }

    #[test]
    fn an_empty_operand_matches_every_value_and_is_no_number() {
        for kind in [
            CheckKind::MatchAnywhere,
            CheckKind::MatchPrefix,
            CheckKind::MatchPostfix,
        ] {
            assert_eq!(check(kind, Some(b"abc"), b""), Checked::Passed);
            assert_eq!(check(kind, Some(b""), b""), Checked::Passed);
            assert_eq!(check(kind, None, b""), Checked::Failed);
        }
        assert_eq!(
            check(CheckKind::IntEqual, Some(b"1"), b""),
            Checked::Invalid
        );
        assert_eq!(check(CheckKind::IntEqual, None, b""), Checked::Failed);
    }

    #[test]
    fn bytes_compare_without_sign_and_numbers_with_theirs() {
        assert_eq!(
            check(CheckKind::BytesGreater, Some(b"\xff"), b"\x7f"),
            Checked::Passed
        );
        assert_eq!(
            check(CheckKind::BytesLess, Some(b"10"), b"9"),
            Checked::Passed
        );
        assert_eq!(
            check(CheckKind::IntGreater, Some(b"10"), b"9"),
            Checked::Passed
        );
        assert_eq!(
            check(CheckKind::IntEqual, Some(b"0x10"), b" 16"),
            Checked::Passed
        );
        assert_eq!(
            check(CheckKind::IntLess, Some(b"-1"), b"0"),
            Checked::Passed
        );
    }

    #[test]
    fn kinds_have_the_numbers_of_apache_pegasus() {
        for (number, kind) in CheckKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
            assert_eq!(
                CheckKind::from_number(i32::try_from(number).unwrap()),
                Some(kind)
            );
        }
        assert_eq!(CheckKind::from_number(18), None);
        assert_eq!(CheckKind::from_number(-1), None);
    }

    fn evaluate(
        value: Option<&[u8]>,
        return_check_value: bool,
    ) -> Evaluation<(Checked, CheckedValue)> {
        let raw_key = crate::key::encode(b"h", b"s").unwrap();
        let mut batch = Batch::new();
        batch.put(&raw_key, b"new", 0).unwrap();
        let check = Check {
            raw_key,
            kind: CheckKind::Exist,
            operand: Bytes::new(),
        };
        let rows = rows([(&b"s"[..], value.map(|value| row(value, 0)))]);
        CheckAndMutate {
            check,
            batch,
            return_check_value,
        }
        .evaluate(&rows, MOMENT)
        .unwrap()
    }

    #[test]
    fn the_batch_is_written_only_if_the_check_passes() {
        let passed = evaluate(Some(b"old"), false);
        assert_eq!(passed.answer, (Checked::Passed, CheckedValue::NotAsked));
        assert_eq!(passed.batch.count(), 1);
        let failed = evaluate(None, false);
        assert_eq!(failed.answer, (Checked::Failed, CheckedValue::NotAsked));
        assert!(failed.batch.is_empty());
    }

    #[test]
    fn the_checked_value_is_told_and_remembered() {
        let found = CheckedValue::Found(Bytes::from_static(b"old"));
        let passed = evaluate(Some(b"old"), true);
        assert_eq!(passed.answer.1, found);
        assert_eq!(CheckedValue::remembered(&passed.result), Some(found));
        assert_eq!(
            evaluate(None, true).answer,
            (Checked::Failed, CheckedValue::Missing)
        );
        let passed = evaluate(Some(b"old"), false);
        assert_eq!(
            CheckedValue::remembered(&passed.result),
            Some(CheckedValue::NotAsked)
        );
        let long = evaluate(Some(&[7; RESULT_BYTES_MAX]), true);
        assert_eq!(
            CheckedValue::remembered(&long.result),
            Some(CheckedValue::Forgotten)
        );
    }
}

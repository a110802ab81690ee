//! What is remembered of an answer, for a retry of its request. Layout: `docs/formats.md`, "Results".

use super::CheckedValue;
use crate::op::RESULT_BYTES_MAX;
use bytes::{BufMut, Bytes, BytesMut};

const TAG_SUM: u8 = 1;
const TAG_NOT_ASKED: u8 = 2;
const TAG_MISSING: u8 = 3;
const TAG_FOUND: u8 = 4;
const TAG_FORGOTTEN: u8 = 5;

pub(super) fn of_sum(sum: i64) -> Bytes {
    let mut result = BytesMut::with_capacity(9);
    result.put_u8(TAG_SUM);
    result.put_i64_le(sum);
    result.freeze()
}

pub(super) fn sum(result: &[u8]) -> Option<i64> {
    match result.split_first()? {
        (&TAG_SUM, sum) => Some(i64::from_le_bytes(sum.try_into().ok()?)),
        _ => None,
    }
}

/// Of a check that passed.
pub(super) fn of_check(value: &CheckedValue) -> Bytes {
    match value {
        CheckedValue::NotAsked => Bytes::from_static(&[TAG_NOT_ASKED]),
        CheckedValue::Missing => Bytes::from_static(&[TAG_MISSING]),
        CheckedValue::Found(value) if value.len() < RESULT_BYTES_MAX => {
            let mut result = BytesMut::with_capacity(1 + value.len());
            result.put_u8(TAG_FOUND);
            result.put_slice(value);
            result.freeze()
        }
        CheckedValue::Found(_) | CheckedValue::Forgotten => Bytes::from_static(&[TAG_FORGOTTEN]),
    }
}

pub(super) fn check(result: &[u8]) -> Option<CheckedValue> {
    match result.split_first()? {
        (&TAG_NOT_ASKED, []) => Some(CheckedValue::NotAsked),
        (&TAG_MISSING, []) => Some(CheckedValue::Missing),
        (&TAG_FOUND, value) => Some(CheckedValue::Found(Bytes::copy_from_slice(value))),
        (&TAG_FORGOTTEN, []) => Some(CheckedValue::Forgotten),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_frozen() {
        assert_eq!(of_sum(-2).as_ref(), b"\x01\xfe\xff\xff\xff\xff\xff\xff\xff");
        assert_eq!(of_check(&CheckedValue::NotAsked).as_ref(), b"\x02");
        assert_eq!(of_check(&CheckedValue::Missing).as_ref(), b"\x03");
        assert_eq!(
            of_check(&CheckedValue::Found(Bytes::from_static(b"v"))).as_ref(),
            b"\x04v"
        );
        assert_eq!(of_check(&CheckedValue::Forgotten).as_ref(), b"\x05");
    }

    #[test]
    fn results_of_other_operations_are_refused() {
        assert_eq!(sum(b"\x02"), None);
        assert_eq!(sum(b"\x01\x00"), None);
        assert_eq!(check(&of_sum(1)), None);
        assert_eq!((sum(b""), check(b"")), (None, None));
    }
}

//! How a record is stored and named. Load and run must agree on it.
//!
//! A record is a number from 0. Its hash key is `user<number / records_per_hash_key>`; what stands behind it is, by layout:
//!
//! | | records per hash key 1 | more |
//! |---|---|---|
//! | rows of fields (YCSB) | sort keys `field0`, `field1`, .. | `00000007field0`, .. |
//! | one value | sort key `00000000` | `00000007` |
//!
//! Data is spread over partitions by hash key, so the only order there is lies within a hash key: scans start at a
//! record and end with its hash key at the latest (YCSB's own picture of workload E: the posts of one thread).

use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layout {
    /// At least 1.
    pub(crate) records_per_hash_key: u64,
    /// 0: a record is one value; otherwise a row of so many fields, at most [`FIELDS_MAX`].
    pub(crate) fields: usize,
    /// Bytes of the value, or of each field.
    pub(crate) value_bytes: usize,
}

/// Which stored value something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CellName {
    pub(crate) record: u64,
    /// 0 in the layout of one value.
    pub(crate) field: usize,
}

pub(crate) const FIELDS_MAX: usize = 100;
/// The longest key that there is.
const KEY_BYTES_MAX: usize = 40;

/// A key, on the stack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    bytes: [u8; KEY_BYTES_MAX],
    length: usize,
}

impl Layout {
    /// Stored values of a record.
    pub(crate) fn cells(self) -> usize {
        self.fields.max(1)
    }

    pub(crate) fn is_rows(self) -> bool {
        self.fields > 0
    }

    /// `user` and at least twelve digits.
    pub(crate) fn hash_key(self, record: u64) -> Key {
        let mut key = Key::new();
        key.push(b"user");
        key.push_digits(record / self.records_per_hash_key, 12);
        key
    }

    /// Sort key of one field of a record.
    pub(crate) fn sort_key(self, record: u64, field: usize) -> Key {
        let mut key = self.sort_key_prefix(record);
        if self.is_rows() {
            key.push(b"field");
            key.push_digits(field as u64, 1);
        }
        key
    }

    /// What the sort keys of all fields of a record begin with, and no sort key of another record of its hash key.
    pub(crate) fn sort_key_prefix(self, record: u64) -> Key {
        let mut key = Key::new();
        if !self.is_rows() || self.records_per_hash_key > 1 {
            key.push_digits(record % self.records_per_hash_key, 8);
        }
        key
    }

    /// The first sort key behind those of a record; `None` when nothing of the hash key can be behind it.
    pub(crate) fn sort_key_end(self, record: u64) -> Option<Key> {
        (self.records_per_hash_key > 1).then(|| {
            let mut key = Key::new();
            key.push_digits(record % self.records_per_hash_key + 1, 8);
            key
        })
    }

    /// Which cell a sort key under `record`'s hash key names; `None` if it is not one of ours.
    pub(crate) fn cell_of(self, record: u64, sort_key: &[u8]) -> Option<CellName> {
        let first = record - record % self.records_per_hash_key;
        let (index, field) = if self.is_rows() {
            let at = sort_key.iter().position(|byte| *byte == b'f')?;
            let (index, field) = sort_key.split_at(at);
            let index = if self.records_per_hash_key > 1 {
                digits(index)?
            } else {
                index.is_empty().then_some(0)?
            };
            (
                index,
                usize::try_from(digits(field.strip_prefix(b"field")?)?).ok()?,
            )
        } else {
            (digits(sort_key)?, 0)
        };
        let name = CellName {
            record: first + index,
            field,
        };
        let known = index < self.records_per_hash_key
            && field < self.cells()
            && self.sort_key(name.record, field).as_ref() == sort_key;
        known.then_some(name)
    }

    /// The last record under `record`'s hash key.
    pub(crate) fn last_sibling(self, record: u64) -> u64 {
        record - record % self.records_per_hash_key + (self.records_per_hash_key - 1)
    }
}

impl Key {
    fn new() -> Self {
        Self {
            bytes: [0; KEY_BYTES_MAX],
            length: 0,
        }
    }

    fn push(&mut self, text: &[u8]) {
        self.bytes[self.length..self.length + text.len()].copy_from_slice(text);
        self.length += text.len();
    }

    /// Decimal digits with leading zeros up to `width`.
    fn push_digits(&mut self, mut number: u64, width: usize) {
        const DIGITS_MAX: usize = 20;
        let mut text = [b'0'; DIGITS_MAX];
        let mut at = DIGITS_MAX;
        while number > 0 {
            at -= 1;
            #[allow(clippy::cast_possible_truncation, reason = "a digit is below ten")]
            let digit = (number % 10) as u8;
            text[at] += digit;
            number /= 10;
        }
        self.push(&text[at.min(DIGITS_MAX - width)..]);
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// A number of decimal digits and nothing else.
fn digits(text: &[u8]) -> Option<u64> {
    let all = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    all.then(|| std::str::from_utf8(text).ok()?.parse().ok())?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn layout(records_per_hash_key: u64, fields: usize) -> Layout {
        Layout {
            records_per_hash_key,
            fields,
            value_bytes: 100,
        }
    }

    #[test]
    fn a_sort_key_leads_back_to_its_cell() {
        for (per_key, fields) in [(1, 0), (1, 10), (100, 0), (100, 10), (7, 100)] {
            let layout = layout(per_key, fields);
            for record in [0, 1, 99, 100, 12_345] {
                let sibling = record - record % per_key;
                for field in 0..layout.cells() {
                    let key = layout.sort_key(record, field);
                    assert_eq!(
                        layout.cell_of(sibling, key.as_ref()),
                        Some(CellName { record, field })
                    );
                }
            }
        }
    }

    #[test]
    fn names_are_as_documented() {
        let text = |key: Key| String::from_utf8(key.as_ref().to_vec()).unwrap();
        assert_eq!(text(layout(1, 10).hash_key(57)), "user000000000057");
        assert_eq!(text(layout(1, 10).sort_key(57, 9)), "field9");
        assert_eq!(text(layout(10, 10).sort_key(57, 0)), "00000007field0");
        assert_eq!(text(layout(1, 0).sort_key(57, 0)), "00000000");
        assert_eq!(text(layout(10, 0).sort_key(57, 0)), "00000007");
        assert_eq!(
            text(layout(10, 0).hash_key(57)),
            text(layout(10, 0).hash_key(50))
        );
        assert_eq!(
            text(layout(1, 0).hash_key(u64::MAX)),
            format!("user{}", u64::MAX)
        );
    }

    #[test]
    fn strange_sort_keys_name_nothing() {
        let rows = layout(10, 10);
        for key in [
            "",
            "field0",
            "00000010field0",
            "00000001field10",
            "1field0",
            "00000001field+1",
            "00000001field01",
            "x",
        ] {
            assert_eq!(rows.cell_of(50, key.as_bytes()), None, "{key}");
        }
        assert_eq!(layout(1, 10).cell_of(5, b"00000000field0"), None);
        assert_eq!(layout(1, 0).cell_of(5, b"00000001"), None);
    }

    #[test]
    fn the_range_of_a_record_holds_its_fields_and_no_others() {
        let rows = layout(10, 10);
        let (start, end) = (rows.sort_key_prefix(57), rows.sort_key_end(57).unwrap());
        for field in 0..10 {
            let inside = rows.sort_key(57, field);
            assert!(start.as_ref() <= inside.as_ref() && inside.as_ref() < end.as_ref());
            assert!(rows.sort_key(58, field).as_ref() >= end.as_ref());
            assert!(rows.sort_key(56, field).as_ref() < start.as_ref());
        }
        assert_eq!(rows.last_sibling(57), 59);
    }
}

//! Did the server tell the truth? Values that name themselves, and a shadow of what each record may hold.
//!
//! Layout of a value (all integers little-endian):
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | `PGB1` |
//! | 4 | 4 | CRC32C of all that follows |
//! | 8 | 8 | record |
//! | 16 | 8 | version |
//! | 24 | .. | filler derived from record and version |
//!
//! Every record belongs to one worker, which has one operation at a time, so the rule needs no clock. After
//! acknowledged write v a read must return v, or a write of unknown outcome that was not seen yet: such a write may
//! take effect at any time after it was sent, but only once. Versions grow and are never used twice, not by a later
//! run either.

use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// The shortest value that can be checked.
pub(crate) const VALUE_BYTES_MIN: usize = 24;
const MAGIC: &[u8; 4] = b"PGB1";

/// The value of a record at a version, exactly `length` bytes long; shorter than `VALUE_BYTES_MIN` it is filler only.
pub(crate) fn value(record: u64, version: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    if length < VALUE_BYTES_MIN {
        fill(&mut bytes, record ^ version);
        return bytes;
    }
    bytes[..4].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&record.to_le_bytes());
    bytes[16..24].copy_from_slice(&version.to_le_bytes());
    fill(&mut bytes[24..], record.rotate_left(32) ^ version);
    let crc = crc32c::crc32c(&bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Xorshift64: incompressible enough, and far cheaper than the request that carries it.
fn fill(bytes: &mut [u8], seed: u64) {
    let mut state = seed | 1;
    for chunk in bytes.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
}

/// Record and version of a value; `None` if it is not one of ours, whole.
fn decode(bytes: &[u8]) -> Option<(u64, u64)> {
    let (head, _) = bytes.split_first_chunk::<VALUE_BYTES_MIN>()?;
    let word = |at: usize| -> Option<u64> {
        Some(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?))
    };
    let crc = u32::from_le_bytes(head.get(4..8)?.try_into().ok()?);
    let intact = head.starts_with(MAGIC) && crc == crc32c::crc32c(bytes.get(8..)?);
    intact.then_some((word(8)?, word(16)?))
}

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fault {
    /// An acknowledged row is not there.
    Lost,
    /// An older version than the last acknowledged one.
    Stale,
    /// A version that was never written, or was refused.
    NeverWritten,
    /// A whole value of another record.
    Foreign,
    /// Not a value of ours: cut, altered or strange.
    Damaged,
}

/// An answer that cannot be true.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Violation {
    pub(crate) fault: Fault,
    pub(crate) record: u64,
    pub(crate) sentence: String,
}

/// What the records of one worker may hold. Takes 16 to 40 bytes for each record touched.
#[derive(Debug)]
pub(crate) struct Shadow {
    /// First version of this run; anything below is from an earlier one.
    base: u64,
    /// The last version this worker gave to a write.
    issued: u64,
    /// Records below this were loaded before the run.
    loaded: u64,
    current: HashMap<u64, u64>,
    /// Writes of unknown outcome that no read has shown, by record. Rare, so apart.
    open: HashMap<u64, Vec<u64>>,
}

impl Shadow {
    pub(crate) fn new(base: u64, loaded: u64) -> Self {
        Self {
            base,
            issued: base,
            loaded,
            current: HashMap::new(),
            open: HashMap::new(),
        }
    }

    /// A version for the next write.
    pub(crate) fn next_version(&mut self) -> u64 {
        self.issued += 1;
        self.issued
    }

    pub(crate) fn acknowledged(&mut self, record: u64, version: u64) {
        self.current.insert(record, version);
    }

    /// The write may have been done, may be done later, or never.
    pub(crate) fn unknown(&mut self, record: u64, version: u64) {
        self.open.entry(record).or_default().push(version);
    }

    /// Records with something to check after the run.
    pub(crate) fn touched(&self) -> Vec<u64> {
        self.current.keys().copied().collect()
    }

    /// Judges what a read of `record` returned, and learns from it.
    pub(crate) fn check(&mut self, record: u64, answer: Option<&[u8]>) -> Result<(), Violation> {
        let Some(bytes) = answer else {
            return self.check_absent(record);
        };
        match decode(bytes) {
            None => Err(violation(
                Fault::Damaged,
                record,
                format!("{} bytes that were never written", bytes.len()),
            )),
            Some((other, version)) if other != record => Err(violation(
                Fault::Foreign,
                record,
                format!("the value of record {other} at version {version}"),
            )),
            Some((_, version)) => self.check_version(record, version),
        }
    }

    fn check_absent(&self, record: u64) -> Result<(), Violation> {
        if let Some(version) = self.current.get(&record) {
            return Err(violation(
                Fault::Lost,
                record,
                format!("no row, version {version} was acknowledged or seen"),
            ));
        }
        if record < self.loaded {
            return Err(violation(
                Fault::Lost,
                record,
                "no row, it should have been loaded".to_owned(),
            ));
        }
        Ok(())
    }

    fn check_version(&mut self, record: u64, version: u64) -> Result<(), Violation> {
        let current = self.current.get(&record).copied();
        if current == Some(version) {
            return Ok(());
        }
        if self.take_open(record, version)
            || (current.is_none() && version <= self.base && record < self.loaded)
        {
            self.current.insert(record, version);
            return Ok(());
        }
        let fault = match current {
            Some(acknowledged) if version < acknowledged => Fault::Stale,
            _ => Fault::NeverWritten,
        };
        let expected = current.map_or("a version of an earlier run".to_owned(), |v| {
            format!("version {v}")
        });
        Err(violation(
            fault,
            record,
            format!("version {version}, expected {expected}"),
        ))
    }

    /// A write of unknown outcome that is seen has taken effect: it cannot do so again.
    fn take_open(&mut self, record: u64, version: u64) -> bool {
        let Some(versions) = self.open.get_mut(&record) else {
            return false;
        };
        let Some(index) = versions.iter().position(|v| *v == version) else {
            return false;
        };
        versions.swap_remove(index);
        true
    }
}

/// Judges a row that another worker may be writing: it must be a whole value of the record that its key names.
/// `named` is that record, `None` if the key is not one of ours; `asked` is what the violation is filed under.
pub(crate) fn check_whole(named: Option<u64>, asked: u64, bytes: &[u8]) -> Result<(), Violation> {
    match (decode(bytes), named) {
        (Some((record, _)), Some(named)) if record == named => Ok(()),
        (Some((record, version)), _) => Err(violation(
            Fault::Foreign,
            named.unwrap_or(asked),
            format!("the value of record {record} at version {version}"),
        )),
        (None, _) => Err(violation(
            Fault::Damaged,
            named.unwrap_or(asked),
            format!("{} bytes that were never written", bytes.len()),
        )),
    }
}

fn violation(fault: Fault, record: u64, found: String) -> Violation {
    Violation {
        fault,
        record,
        sentence: format!("record {record}: read {found}"),
    }
}

/// A number above all versions of earlier runs: microseconds since 1970. A worker that writes more than a million
/// records a second for as long as the pause between two runs would reach into the next.
pub(crate) fn version_base() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX / 2)
}

/// The version that `load` writes.
pub(crate) const LOADED_VERSION: u64 = 1;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    const BASE: u64 = 1_000;
    const LOADED: u64 = 100;

    fn fault(result: Result<(), Violation>) -> Fault {
        result.unwrap_err().fault
    }

    fn shadow_after_write() -> (Shadow, u64) {
        let mut shadow = Shadow::new(BASE, LOADED);
        let version = shadow.next_version();
        shadow.acknowledged(7, version);
        (shadow, version)
    }

    #[test]
    fn the_acknowledged_version_passes_and_nothing_else() {
        let (mut shadow, version) = shadow_after_write();
        assert_eq!(shadow.check(7, Some(&value(7, version, 100))), Ok(()));
        assert_eq!(fault(shadow.check(7, None)), Fault::Lost);
        assert_eq!(
            fault(shadow.check(7, Some(&value(7, LOADED_VERSION, 100)))),
            Fault::Stale
        );
        assert_eq!(
            fault(shadow.check(7, Some(&value(7, version + 1, 100)))),
            Fault::NeverWritten
        );
        assert_eq!(
            fault(shadow.check(7, Some(&value(8, version, 100)))),
            Fault::Foreign
        );
    }

    #[test]
    fn a_single_changed_bit_is_found() {
        let (mut shadow, version) = shadow_after_write();
        let good = value(7, version, 40);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                fault(shadow.check(7, Some(&bad))),
                Fault::Damaged,
                "bit {bit}"
            );
        }
        assert_eq!(fault(shadow.check(7, Some(&good[..39]))), Fault::Damaged);
        assert_eq!(fault(shadow.check(7, Some(b""))), Fault::Damaged);
    }

    #[test]
    fn a_write_of_unknown_outcome_may_be_seen_or_not_but_takes_effect_once() {
        let (mut shadow, first) = shadow_after_write();
        let unknown = shadow.next_version();
        shadow.unknown(7, unknown);
        assert_eq!(shadow.check(7, Some(&value(7, first, 64))), Ok(()));
        assert_eq!(shadow.check(7, Some(&value(7, unknown, 64))), Ok(()));
        assert_eq!(
            fault(shadow.check(7, Some(&value(7, first, 64)))),
            Fault::Stale
        );
        let third = shadow.next_version();
        shadow.acknowledged(7, third);
        assert_eq!(
            fault(shadow.check(7, Some(&value(7, unknown, 64)))),
            Fault::Stale
        );
    }

    #[test]
    fn an_unknown_write_may_take_effect_after_a_later_one() {
        let mut shadow = Shadow::new(BASE, LOADED);
        let unknown = shadow.next_version();
        shadow.unknown(7, unknown);
        let second = shadow.next_version();
        shadow.acknowledged(7, second);
        assert_eq!(shadow.check(7, Some(&value(7, unknown, 64))), Ok(()));
    }

    #[test]
    fn a_loaded_record_must_be_there_in_some_earlier_version() {
        let mut shadow = Shadow::new(BASE, LOADED);
        assert_eq!(fault(shadow.check(3, None)), Fault::Lost);
        assert_eq!(
            fault(shadow.check(3, Some(&value(3, BASE + 1, 64)))),
            Fault::NeverWritten
        );
        assert_eq!(shadow.check(3, Some(&value(3, 999, 64))), Ok(()));
        assert_eq!(
            fault(shadow.check(3, Some(&value(3, 998, 64)))),
            Fault::Stale
        );
    }

    #[test]
    fn a_record_that_was_never_inserted_is_absent() {
        let mut shadow = Shadow::new(BASE, LOADED);
        assert_eq!(shadow.check(LOADED, None), Ok(()));
        assert_eq!(
            fault(shadow.check(LOADED, Some(&value(LOADED, 5, 64)))),
            Fault::NeverWritten
        );
    }

    #[test]
    fn rows_of_a_range_must_be_whole_and_in_their_place() {
        assert_eq!(check_whole(Some(7), 1, &value(7, 5, 64)), Ok(()));
        assert_eq!(
            fault(check_whole(Some(7), 1, &value(8, 5, 64))),
            Fault::Foreign
        );
        assert_eq!(
            fault(check_whole(None, 1, &value(8, 5, 64))),
            Fault::Foreign
        );
        assert_eq!(fault(check_whole(Some(7), 1, b"x")), Fault::Damaged);
    }

    #[test]
    fn values_have_exactly_the_length_asked_for() {
        for length in [0, 1, 23, 24, 25, 100, 1_000] {
            assert_eq!(value(1, 2, length).len(), length);
        }
        assert_eq!(decode(&value(1, 2, 24)), Some((1, 2)));
    }
}

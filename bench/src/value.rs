//! Values that name themselves, so that a reader can tell a true one from any other.
//!
//! Layout (all integers little-endian):
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | `PGB2` |
//! | 4 | 4 | CRC32C of all that follows |
//! | 8 | 8 | record |
//! | 16 | 7 | version |
//! | 23 | 1 | field, 0 for a record of one value |
//! | 24 | .. | filler derived from all of these |

use crate::layout::CellName;
use std::time::{SystemTime, UNIX_EPOCH};

/// The shortest value that can be checked.
pub(crate) const VALUE_BYTES_MIN: usize = 24;
const MAGIC: &[u8; 4] = b"PGB2";
const VERSION_BITS: u32 = 56;

/// The version that `load` writes.
pub(crate) const LOADED_VERSION: u64 = 1;

/// Fills `bytes` with the value of a cell at a version, exactly `length` bytes; shorter than `VALUE_BYTES_MIN` it is
/// filler only.
pub(crate) fn write_value(bytes: &mut Vec<u8>, cell: CellName, version: u64, length: usize) {
    assert!(version >> VERSION_BITS == 0, "version {version} is too big");
    let tail = version | (cell.field as u64) << VERSION_BITS;
    bytes.clear();
    bytes.resize(length, 0);
    if length < VALUE_BYTES_MIN {
        fill(bytes, cell.record ^ tail);
        return;
    }
    bytes[..4].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&cell.record.to_le_bytes());
    bytes[16..24].copy_from_slice(&tail.to_le_bytes());
    fill(&mut bytes[24..], cell.record.rotate_left(32) ^ tail);
    let crc = crc32c::crc32c(&bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// The same as a fresh vector.
pub(crate) fn value(cell: CellName, version: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length);
    write_value(&mut bytes, cell, version, length);
    bytes
}

/// Cell and version of a value; `None` if it is not one of ours, whole.
pub(crate) fn decode(bytes: &[u8]) -> Option<(CellName, u64)> {
    let (head, _) = bytes.split_first_chunk::<VALUE_BYTES_MIN>()?;
    let word = |at: usize| -> Option<u64> {
        Some(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?))
    };
    let crc = u32::from_le_bytes(head.get(4..8)?.try_into().ok()?);
    if !head.starts_with(MAGIC) || crc != crc32c::crc32c(bytes.get(8..)?) {
        return None;
    }
    let (record, tail) = (word(8)?, word(16)?);
    let field = usize::try_from(tail >> VERSION_BITS).ok()?;
    Some((CellName { record, field }, tail & ((1 << VERSION_BITS) - 1)))
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

/// A number above all versions of earlier runs: microseconds since 1970. A run that writes more than a million times a
/// second for as long as the pause before the next one would reach into that.
pub(crate) fn version_base() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(0) & ((1 << (VERSION_BITS - 1)) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELL: CellName = CellName {
        record: 7,
        field: 3,
    };

    #[test]
    fn values_have_exactly_the_length_asked_for_and_name_themselves() {
        for length in [0, 1, 23, 24, 25, 100, 1_000] {
            let bytes = value(CELL, 9, length);
            assert_eq!(bytes.len(), length);
            assert_eq!(
                decode(&bytes),
                (length >= VALUE_BYTES_MIN).then_some((CELL, 9))
            );
        }
    }

    #[test]
    fn a_single_changed_bit_is_found() {
        let good = value(CELL, 9, 40);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bad), None, "bit {bit}");
        }
        assert_eq!(decode(&good[..39]), None);
        assert_eq!(decode(b""), None);
    }

    #[test]
    fn the_clock_gives_versions_that_fit() {
        assert!(version_base() > LOADED_VERSION && version_base() >> (VERSION_BITS - 1) == 0);
    }
}

//! Stored values: a header with expiry and timetag before the user's data (Apache Pegasus, `base/value_schema_*.h`).
//!
//! | version | layout |
//! |---|---|
//! | 0 | `expire_at u32 BE`, data |
//! | 1 | `expire_at u32 BE`, `timetag u64 BE`, data |
//! | 2 | `0x82`, `expire_at u32 BE`, `timetag u64 BE`, data |
//!
//! A set top bit in the first byte means version 2 or later; versions 0 and 1 are told apart by the table, not by the
//! bytes. We write version 1, except for an `expire_at` of 2^31 and above (from 2084 on): its own top bit would be read
//! as a version, so such a row is written as version 2, which every reader of the format understands.

/// Unix second of 2016-01-01 00:00:00 UTC, the epoch of every expiry.
pub const EPOCH_UNIX_S: u64 = 1_451_606_400;

/// Longest header of a stored value.
pub const HEADER_BYTES_MAX: usize = HEADER_BYTES_V1 + 1;

const HEADER_BYTES_V0: usize = 4;
const HEADER_BYTES_V1: usize = 12;
const VERSION_FLAG: u8 = 0x80;
const VERSION_2: u8 = VERSION_FLAG | 2;

/// What values without a version of their own are: a property of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TableVersion {
    V0,
    #[default]
    V1,
}

/// A stored value that is shorter than its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("value of {bytes} bytes is shorter than its header")]
pub struct ValueError {
    pub bytes: usize,
}

/// The header of a stored value, to be written before the data.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    bytes: [u8; HEADER_BYTES_MAX],
    length: usize,
}

impl Header {
    /// The header for `expire_at` (seconds since 2016, 0 = never) and `timetag`.
    #[must_use]
    pub fn new(expire_at: u32, timetag: u64) -> Self {
        let mut bytes = [0; HEADER_BYTES_MAX];
        let versioned = expire_at.to_be_bytes()[0] & VERSION_FLAG != 0;
        let start = usize::from(versioned);
        if versioned {
            bytes[0] = VERSION_2;
        }
        bytes[start..start + 4].copy_from_slice(&expire_at.to_be_bytes());
        bytes[start + 4..start + 12].copy_from_slice(&timetag.to_be_bytes());
        Self {
            bytes,
            length: start + HEADER_BYTES_V1,
        }
    }
}

impl AsRef<[u8]> for Header {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// A stored value, taken apart without a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueRef<'a> {
    pub expire_at: u32,
    /// 0 for version 0.
    pub timetag: u64,
    pub data: &'a [u8],
}

/// Takes a stored value of a table of version `table` apart.
///
/// # Errors
/// [`ValueError`] if it is shorter than its header.
pub fn decode(stored: &[u8], table: TableVersion) -> Result<ValueRef<'_>, ValueError> {
    let error = ValueError {
        bytes: stored.len(),
    };
    match (stored.first(), table) {
        // An unknown later version is read as the latest known one, as Apache Pegasus does.
        (Some(first), _) if first & VERSION_FLAG != 0 => decode_v1(&stored[1..]),
        (_, TableVersion::V1) => decode_v1(stored),
        (_, TableVersion::V0) => {
            stored
                .split_first_chunk::<HEADER_BYTES_V0>()
                .map(|(expire_at, data)| ValueRef {
                    expire_at: u32::from_be_bytes(*expire_at),
                    timetag: 0,
                    data,
                })
        }
    }
    .ok_or(error)
}

fn decode_v1(stored: &[u8]) -> Option<ValueRef<'_>> {
    let (expire_at, rest) = stored.split_first_chunk::<4>()?;
    let (timetag, data) = rest.split_first_chunk::<8>()?;
    Some(ValueRef {
        expire_at: u32::from_be_bytes(*expire_at),
        timetag: u64::from_be_bytes(*timetag),
        data,
    })
}

/// Whether a row with `expire_at` is invisible at second `now_s`; both since 2016, 0 = never expires.
#[must_use]
pub const fn is_expired(expire_at: u32, now_s: u32) -> bool {
    expire_at > 0 && expire_at <= now_s
}

/// Seconds since 2016 of a Unix time in microseconds; clamped to the u32 that is stored.
#[must_use]
pub fn seconds_since_epoch(unix_us: u64) -> u32 {
    u32::try_from((unix_us / 1_000_000).saturating_sub(EPOCH_UNIX_S)).unwrap_or(u32::MAX)
}

/// `timestamp_us << 8 | cluster << 1 | deleted`: 56 bits of Unix microseconds, 7 bits of cluster id, 1 bit.
#[must_use]
pub const fn timetag(timestamp_us: u64, cluster: u8) -> u64 {
    (timestamp_us << 8) | (((cluster & 0x7f) as u64) << 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stored(expire_at: u32, timetag: u64, data: &[u8]) -> Vec<u8> {
        let mut stored = Header::new(expire_at, timetag).as_ref().to_vec();
        stored.extend_from_slice(data);
        stored
    }

    proptest! {
        #[test]
        fn decoding_inverts_encoding(expire_at: u32, timetag: u64, data in prop::collection::vec(any::<u8>(), 0..40)) {
            let stored = stored(expire_at, timetag, &data);
            let value = decode(&stored, TableVersion::V1).unwrap();
            prop_assert_eq!(value, ValueRef { expire_at, timetag, data: &data });
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = decode(&bytes, TableVersion::V0);
            if let Ok(value) = decode(&bytes, TableVersion::V1) {
                prop_assert!(value.data.len() < bytes.len());
            }
        }
    }

    #[test]
    fn version_1_is_that_of_apache_pegasus() {
        assert_eq!(
            stored(1, 2, b"v"),
            b"\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02v"
        );
    }

    #[test]
    fn expiry_that_looks_like_a_version_is_written_as_version_2() {
        let stored = stored(0x8000_0001, 7, b"v");
        assert_eq!(stored[0], 0x82);
        assert_eq!(
            decode(&stored, TableVersion::V0).unwrap().expire_at,
            0x8000_0001
        );
    }

    #[test]
    fn version_0_has_no_timetag() {
        let value = decode(b"\x00\x00\x00\x05data", TableVersion::V0).unwrap();
        assert_eq!(
            value,
            ValueRef {
                expire_at: 5,
                timetag: 0,
                data: b"data"
            }
        );
    }

    #[test]
    fn unknown_later_versions_are_read_as_the_latest() {
        let value = decode(
            b"\x83\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x09d",
            TableVersion::V1,
        )
        .unwrap();
        assert_eq!(
            value,
            ValueRef {
                expire_at: 5,
                timetag: 9,
                data: b"d"
            }
        );
    }

    #[test]
    fn expiry_is_exact_to_the_second() {
        assert!(!is_expired(0, u32::MAX));
        assert!(!is_expired(10, 9));
        assert!(is_expired(10, 10));
        assert_eq!(seconds_since_epoch(EPOCH_UNIX_S * 1_000_000 + 2_999_999), 2);
        assert_eq!(seconds_since_epoch(0), 0);
    }

    #[test]
    fn timetag_packs_time_and_cluster() {
        assert_eq!(timetag(1, 3), 0x106);
        assert_eq!(timetag(1, 0xff), 0x1fe);
    }
}

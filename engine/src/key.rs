//! Raw keys: `u16 BE hash_key_len | hash_key | sort_key` (Apache Pegasus, `pegasus_key_schema.h`).
//!
//! Raw keys order by the length of the hash key first, then by hash key, then by sort key.

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes of the length field before a hash key.
pub const HASH_KEY_LENGTH_BYTES: usize = 2;

/// Longest hash key. 65,535 is reserved by Apache Pegasus.
pub const HASH_KEY_BYTES_MAX: usize = 65_534;

/// Longest raw key. A key travels in a batch, so that is the bound that matters.
pub const RAW_KEY_BYTES_MAX: usize = crate::op::BATCH_BYTES_MAX;

/// A raw key that no client could have meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("raw key of {bytes} bytes is shorter than its length field")]
    Short { bytes: usize },
    #[error("raw key of {bytes} bytes declares a hash key of {declared} bytes")]
    Truncated { bytes: usize, declared: usize },
    #[error("hash key of {bytes} bytes is longer than {HASH_KEY_BYTES_MAX}")]
    HashKeyTooLong { bytes: usize },
    #[error("raw key of {bytes} bytes is longer than {RAW_KEY_BYTES_MAX}")]
    TooLong { bytes: usize },
}

/// The raw key of `(hash_key, sort_key)`.
///
/// # Errors
/// [`KeyError::HashKeyTooLong`] or [`KeyError::TooLong`].
pub fn encode(hash_key: &[u8], sort_key: &[u8]) -> Result<Bytes, KeyError> {
    let bytes = HASH_KEY_LENGTH_BYTES + hash_key.len() + sort_key.len();
    let length = u16::try_from(hash_key.len())
        .ok()
        .filter(|_| hash_key.len() <= HASH_KEY_BYTES_MAX)
        .ok_or(KeyError::HashKeyTooLong {
            bytes: hash_key.len(),
        })?;
    if bytes > RAW_KEY_BYTES_MAX {
        return Err(KeyError::TooLong { bytes });
    }
    let mut key = BytesMut::with_capacity(bytes);
    key.put_u16(length);
    key.put_slice(hash_key);
    key.put_slice(sort_key);
    Ok(key.freeze())
}

/// Writes the raw key of `(hash_key, sort_key)` to the start of `buffer`; its length, or `None` if it does not fit.
#[must_use]
pub fn encode_short<const N: usize>(
    hash_key: &[u8],
    sort_key: &[u8],
    buffer: &mut [u8; N],
) -> Option<u8> {
    let length = u16::try_from(hash_key.len()).ok()?.to_be_bytes();
    let bytes = length.len() + hash_key.len() + sort_key.len();
    let (length_out, rest) = buffer.get_mut(..bytes)?.split_at_mut(length.len());
    let (hash_out, sort_out) = rest.split_at_mut(hash_key.len());
    length_out.copy_from_slice(&length);
    hash_out.copy_from_slice(hash_key);
    sort_out.copy_from_slice(sort_key);
    u8::try_from(bytes).ok()
}

/// Hash key and sort key of a raw key.
///
/// # Errors
/// [`KeyError`] if the key is malformed or too long.
pub fn decode(raw_key: &[u8]) -> Result<(&[u8], &[u8]), KeyError> {
    let bytes = raw_key.len();
    if bytes > RAW_KEY_BYTES_MAX {
        return Err(KeyError::TooLong { bytes });
    }
    let (length, rest) = raw_key
        .split_first_chunk::<HASH_KEY_LENGTH_BYTES>()
        .ok_or(KeyError::Short { bytes })?;
    let declared = usize::from(u16::from_be_bytes(*length));
    if declared > HASH_KEY_BYTES_MAX {
        return Err(KeyError::HashKeyTooLong { bytes: declared });
    }
    rest.split_at_checked(declared)
        .ok_or(KeyError::Truncated { bytes, declared })
}

/// The first `2 + hash_key_len` bytes: what all rows of one hash key share. `None` for keys that are not raw keys.
#[must_use]
pub fn hash_key_prefix(raw_key: &[u8]) -> Option<&[u8]> {
    let (length, _) = raw_key.split_first_chunk::<HASH_KEY_LENGTH_BYTES>()?;
    raw_key.get(..HASH_KEY_LENGTH_BYTES + usize::from(u16::from_be_bytes(*length)))
}

/// The smallest byte string above all strings that start with `prefix`; `None` if there is none (all bytes 255).
#[must_use]
pub fn prefix_successor(prefix: &[u8]) -> Option<Bytes> {
    let kept = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut successor = BytesMut::from(prefix.get(..=kept)?);
    if let Some(last) = successor.last_mut() {
        *last += 1;
    }
    Some(successor.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn decoding_inverts_encoding(hash_key in prop::collection::vec(any::<u8>(), 0..300), sort_key in prop::collection::vec(any::<u8>(), 0..300)) {
            let raw_key = encode(&hash_key, &sort_key).unwrap();
            prop_assert_eq!(decode(&raw_key).unwrap(), (hash_key.as_slice(), sort_key.as_slice()));
            prop_assert_eq!(hash_key_prefix(&raw_key).unwrap().len(), 2 + hash_key.len());
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok((hash_key, sort_key)) = decode(&bytes) {
                let again = encode(hash_key, sort_key).unwrap();
                prop_assert_eq!(again.as_ref(), bytes.as_slice());
            }
        }

        #[test]
        fn successor_bounds_exactly_the_strings_with_the_prefix(prefix in prop::collection::vec(any::<u8>(), 0..4), other in prop::collection::vec(any::<u8>(), 0..6)) {
            let inside = other.starts_with(&prefix);
            let below = prefix_successor(&prefix).is_none_or(|end| other.as_slice() < end.as_ref());
            prop_assert_eq!(inside, other >= prefix && below);
        }
    }

    #[test]
    fn layout_is_that_of_apache_pegasus() {
        assert_eq!(encode(b"h", b"sort").unwrap().as_ref(), b"\x00\x01hsort");
        assert_eq!(encode(b"", b"").unwrap().as_ref(), b"\x00\x00");
    }

    #[test]
    fn malformed_keys_are_named() {
        assert_eq!(decode(b"x"), Err(KeyError::Short { bytes: 1 }));
        assert_eq!(
            decode(b"\x00\x05abc"),
            Err(KeyError::Truncated {
                bytes: 5,
                declared: 5
            })
        );
        assert_eq!(
            decode(b"\xff\xff"),
            Err(KeyError::HashKeyTooLong { bytes: 65_535 })
        );
        assert!(matches!(
            encode(&[0; 65_535], b""),
            Err(KeyError::HashKeyTooLong { .. })
        ));
        assert_eq!(hash_key_prefix(b"\x00\x05abc"), None);
    }
}

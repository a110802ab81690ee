//! Which hash keys have no row but the one with the empty sort key, told without reading.
//!
//! A blind write of such a row is enough to replace all that its hash key has; for any other hash key somebody who wants
//! that (a string of Redis takes the place of a hash) has to look for rows first. So each replica remembers which hash
//! keys have got a row with a sort key, in buckets of their hashes, and never forgets it: what is said to be plain is.
//!
//! ```text
//!   known, no bucket marked --a row with a sort key--> known, some marked --more than BUCKETS_MARKED_MAX--> unknown
//! ```
//!
//! It is part of the [marker](crate::marker), which is durable with the rows that it describes and goes with them to
//! learners; rows above the marker are applied again after a start, and marked again. In a table whose rows all have
//! sort keys the buckets are soon too many: then nothing is known any more, and noting costs nothing.

use crate::key;
use crate::op::{BatchRef, OpRef};
use bytes::Buf;
use std::borrow::Cow;

/// Buckets of hash keys.
const BUCKETS: usize = 4096;
const BYTES: usize = BUCKETS / 8;

/// With more buckets marked most answers would be wrong guesses: nothing is known then.
const BUCKETS_MARKED_MAX: u32 = 1024;

const TAG_NONE_MARKED: u8 = 0;
const TAG_SOME_MARKED: u8 = 1;

/// What is known of the hash keys of one replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum PlainKeys {
    /// Any may have rows with sort keys.
    #[default]
    Unknown,
    /// None has.
    All,
    /// Those of the marked buckets may have.
    But(Box<Marked>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marked {
    bits: [u8; BYTES],
    count: u32,
}

impl PlainKeys {
    /// Notes the rows that a batch puts.
    pub(crate) fn note(&mut self, batch: BatchRef<'_>) {
        if *self == Self::Unknown {
            return;
        }
        for op in batch {
            if let OpRef::Put { key, .. } = op
                && let Ok((hash_key, [_, ..])) = key::decode(key)
            {
                self.mark(bucket(hash_key));
            }
        }
    }

    fn mark(&mut self, bucket: usize) {
        let (byte, bit) = (bucket / 8, 1 << (bucket % 8));
        let marked = match self {
            Self::Unknown => return,
            Self::All => Marked::none(),
            Self::But(marked) if marked.bits[byte] & bit != 0 => return,
            Self::But(marked) => {
                marked.bits[byte] |= bit;
                marked.count += 1;
                if marked.count > BUCKETS_MARKED_MAX {
                    *self = Self::Unknown;
                }
                return;
            }
        };
        *self = Self::But(Box::new(marked));
        self.mark(bucket);
    }

    /// Whether this hash key is known to have no row with a sort key.
    pub(crate) fn is_plain(&self, hash_key: &[u8]) -> bool {
        match self {
            Self::Unknown => false,
            Self::All => true,
            Self::But(marked) => {
                let bucket = bucket(hash_key);
                marked.bits[bucket / 8] & (1 << (bucket % 8)) == 0
            }
        }
    }

    /// As part of a marker; `None`: there is nothing to say. Layout: `docs/formats.md`, "Marker".
    pub(crate) fn encode(&self) -> Option<Cow<'_, [u8]>> {
        match self {
            Self::Unknown => None,
            Self::All => Some(Cow::Borrowed(&[TAG_NONE_MARKED])),
            Self::But(marked) => Some(Cow::Owned([&[TAG_SOME_MARKED], &marked.bits[..]].concat())),
        }
    }

    /// Takes it off the front of `rest`; survives any bytes.
    pub(crate) fn take(rest: &mut &[u8]) -> Option<Self> {
        let (&tag, after) = rest.split_first()?;
        *rest = after;
        if tag == TAG_NONE_MARKED {
            return Some(Self::All);
        }
        if tag != TAG_SOME_MARKED {
            return None;
        }
        let bits = *rest.first_chunk::<BYTES>()?;
        rest.advance(BYTES);
        let count = bits.iter().map(|byte| byte.count_ones()).sum();
        (1..=BUCKETS_MARKED_MAX)
            .contains(&count)
            .then(|| Self::But(Box::new(Marked { bits, count })))
    }
}

impl Marked {
    const fn none() -> Self {
        Self {
            bits: [0; BYTES],
            count: 0,
        }
    }
}

/// The bucket of a hash key is in files: it never changes.
fn bucket(hash_key: &[u8]) -> usize {
    crc32c::crc32c(hash_key) as usize % BUCKETS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Batch;
    use proptest::prelude::*;

    fn noted(plain: &mut PlainKeys, hash_key: &[u8], sort_key: &[u8]) {
        let mut batch = Batch::new();
        batch
            .put(&key::encode(hash_key, sort_key).unwrap(), b"v", 0)
            .unwrap();
        plain.note(BatchRef::parse(&batch.encode()).unwrap());
    }

    #[test]
    fn only_rows_with_a_sort_key_take_a_hash_key_out() {
        let mut plain = PlainKeys::All;
        noted(&mut plain, b"string", b"");
        assert_eq!(plain, PlainKeys::All);
        noted(&mut plain, b"hash", b"field");
        assert!(!plain.is_plain(b"hash"));
        assert!(plain.is_plain(b"string"));
    }

    #[test]
    fn removing_a_row_tells_nothing() {
        let mut plain = PlainKeys::All;
        let mut batch = Batch::new();
        batch
            .remove(&key::encode(b"hash", b"field").unwrap())
            .unwrap();
        plain.note(BatchRef::parse(&batch.encode()).unwrap());
        assert_eq!(plain, PlainKeys::All);
    }

    #[test]
    fn too_many_hash_keys_with_sort_keys_and_nothing_is_known() {
        let mut plain = PlainKeys::All;
        (0..8 * BUCKETS_MARKED_MAX)
            .for_each(|number| noted(&mut plain, &number.to_le_bytes(), b"s"));
        assert_eq!(plain, PlainKeys::Unknown);
        assert!(!plain.is_plain(b"another"));
        assert_eq!(plain.encode(), None);
    }

    proptest! {
        #[test]
        fn decoding_inverts_encoding(hash_keys in prop::collection::vec(any::<u32>(), 0..50)) {
            let mut plain = PlainKeys::All;
            hash_keys.iter().for_each(|hash_key| noted(&mut plain, &hash_key.to_le_bytes(), b"s"));
            let encoded = plain.encode().unwrap().into_owned();
            let mut rest = &encoded[..];
            let decoded = PlainKeys::take(&mut rest).unwrap();
            prop_assert!(rest.is_empty());
            prop_assert!(hash_keys.iter().all(|hash_key| !decoded.is_plain(&hash_key.to_le_bytes())));
            prop_assert_eq!(decoded, plain);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = PlainKeys::take(&mut &bytes[..]);
        }
    }
}

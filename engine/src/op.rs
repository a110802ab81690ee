//! Storage operations after every protocol has been forgotten, and the batch that carries them.
//!
//! An encoded batch is the payload of a mutation: it goes into the log, into prepares and to [`Engine::apply`]
//! unchanged. All its operations are blind, so applying it twice is applying it once.
//!
//! Layout (`docs/formats.md`, "Batch"): `version u8 = 1 | count varint | operations`, each operation
//! `tag u8 | key length varint | key` and, for a put, `| expire_at u32 LE | data length varint | data`. A batch that carries
//! the answer of its client, for retries, is `version u8 = 2 | result length u8 | result | count varint | operations`.
//! The empty payload is a batch without operations: a no-op.
//!
//! [`Engine::apply`]: crate::Engine::apply

use crate::key::{self, KeyError};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes of an encoded batch: 1 MiB, the largest write Apache Pegasus accepts by default.
pub const BATCH_BYTES_MAX: usize = 1 << 20;

/// Operations in one batch.
pub const BATCH_OPS_MAX: usize = 65_536;

/// Bytes of the result that a batch carries.
pub const RESULT_BYTES_MAX: usize = 255;

/// The newest version this code writes and reads: with a result. Without one it writes version 1.
pub const BATCH_VERSION: u8 = 2;

const VERSION_PLAIN: u8 = 1;

const TAG_PUT: u8 = 1;
const TAG_REMOVE: u8 = 2;

/// A varint of ours is a u32 in groups of 7 bits.
const VARINT_BYTES_MAX: usize = 5;

/// One blind write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Stores the user's `value` under the raw `key`; `expire_at` in seconds since 2016, 0 = never.
    Put {
        key: Bytes,
        value: Bytes,
        expire_at: u32,
    },
    /// Removes the row under the raw `key`, if there is one.
    Remove { key: Bytes },
}

/// An [`Op`] inside an encoded batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpRef<'a> {
    Put {
        key: &'a [u8],
        value: &'a [u8],
        expire_at: u32,
    },
    Remove {
        key: &'a [u8],
    },
}

/// Why a batch cannot be made or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("batch of {bytes} bytes is larger than {BATCH_BYTES_MAX}")]
    TooLarge { bytes: usize },
    #[error("batch of {count} operations is larger than {BATCH_OPS_MAX}")]
    TooMany { count: usize },
    #[error("batch has format version {version}, this build reads 1 to {BATCH_VERSION}")]
    Version { version: u8 },
    #[error("batch spells that it has no operations; one without any is empty")]
    SpelledEmpty,
    #[error("batch spells that it has no result; one without has version 1")]
    SpelledNoResult,
    #[error("batch ends within operation {index}")]
    Truncated { index: usize },
    #[error("batch has an unknown operation {tag} at index {index}")]
    Tag { tag: u8, index: usize },
    #[error("batch has {bytes} bytes after its last operation")]
    Trailing { bytes: usize },
    #[error("operation {index}: {error}")]
    Key { error: KeyError, index: usize },
}

/// A batch in the making. Operations take effect in their order; later ones win.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Batch {
    ops: BytesMut,
    count: usize,
}

impl Batch {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A batch of these operations.
    ///
    /// # Errors
    /// [`BatchError`] on a malformed key or over a limit.
    pub fn from_ops<'a>(ops: impl IntoIterator<Item = &'a Op>) -> Result<Self, BatchError> {
        let mut batch = Self::new();
        for op in ops {
            match op {
                Op::Put {
                    key,
                    value,
                    expire_at,
                } => batch.put(key, value, *expire_at)?,
                Op::Remove { key } => batch.remove(key)?,
            }
        }
        Ok(batch)
    }

    /// Adds a put. `expire_at` in seconds since 2016, 0 = never.
    ///
    /// # Errors
    /// [`BatchError`] on a malformed key or over a limit; the batch is unchanged then.
    pub fn put(&mut self, raw_key: &[u8], value: &[u8], expire_at: u32) -> Result<(), BatchError> {
        self.check(raw_key, value.len())?;
        self.ops.put_u8(TAG_PUT);
        put_bytes(&mut self.ops, raw_key);
        self.ops.put_u32_le(expire_at);
        put_bytes(&mut self.ops, value);
        self.count += 1;
        Ok(())
    }

    /// Adds a remove.
    ///
    /// # Errors
    /// [`BatchError`] on a malformed key or over a limit; the batch is unchanged then.
    pub fn remove(&mut self, raw_key: &[u8]) -> Result<(), BatchError> {
        self.check(raw_key, 0)?;
        self.ops.put_u8(TAG_REMOVE);
        put_bytes(&mut self.ops, raw_key);
        self.count += 1;
        Ok(())
    }

    fn check(&self, raw_key: &[u8], value_bytes: usize) -> Result<(), BatchError> {
        key::decode(raw_key).map_err(|error| BatchError::Key {
            error,
            index: self.count,
        })?;
        if self.count >= BATCH_OPS_MAX {
            return Err(BatchError::TooMany {
                count: self.count + 1,
            });
        }
        let overhead =
            2 + RESULT_BYTES_MAX + VARINT_BYTES_MAX + self.ops.len() + 1 + 2 * VARINT_BYTES_MAX + 4;
        let bytes = raw_key
            .len()
            .saturating_add(value_bytes)
            .saturating_add(overhead);
        if bytes > BATCH_BYTES_MAX {
            return Err(BatchError::TooLarge { bytes });
        }
        Ok(())
    }

    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the payload, about, without a result.
    #[must_use]
    pub fn bytes(&self) -> usize {
        1 + VARINT_BYTES_MAX + self.ops.len()
    }

    /// The payload of a mutation: at most [`BATCH_BYTES_MAX`] bytes; empty if there are no operations.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        self.encode_with_result(b"")
    }

    /// The same, with what a retry of its request is to be answered.
    ///
    /// # Panics
    /// If `result` is longer than [`RESULT_BYTES_MAX`].
    #[must_use]
    pub fn encode_with_result(&self, result: &[u8]) -> Bytes {
        if self.is_empty() {
            return Bytes::new();
        }
        let mut encoded =
            BytesMut::with_capacity(2 + result.len() + VARINT_BYTES_MAX + self.ops.len());
        if result.is_empty() {
            encoded.put_u8(VERSION_PLAIN);
        } else {
            encoded.put_u8(BATCH_VERSION);
            encoded.put_u8(u8::try_from(result.len()).expect("a result has at most 255 bytes"));
            encoded.put_slice(result);
        }
        put_varint(&mut encoded, self.count);
        encoded.put_slice(&self.ops);
        encoded.freeze()
    }
}

/// An encoded batch that has been checked whole, read in place.
#[derive(Clone, Copy, Debug)]
pub struct BatchRef<'a> {
    result: &'a [u8],
    ops: &'a [u8],
    count: usize,
}

impl<'a> BatchRef<'a> {
    /// Checks an encoded batch. Survives any bytes; costs one pass and no allocation.
    ///
    /// # Errors
    /// [`BatchError`] naming the first thing that is wrong.
    pub fn parse(encoded: &'a [u8]) -> Result<Self, BatchError> {
        if encoded.len() > BATCH_BYTES_MAX {
            return Err(BatchError::TooLarge {
                bytes: encoded.len(),
            });
        }
        let mut rest = encoded;
        let Some((&version, after)) = rest.split_first() else {
            return Ok(Self {
                result: &[],
                ops: &[],
                count: 0,
            });
        };
        rest = after;
        let result = match version {
            VERSION_PLAIN => &[],
            BATCH_VERSION => take_result(&mut rest)?,
            version => return Err(BatchError::Version { version }),
        };
        let count = take_varint(&mut rest).ok_or(BatchError::Truncated { index: 0 })?;
        if count > BATCH_OPS_MAX {
            return Err(BatchError::TooMany { count });
        }
        // Equal batches are equal bytes: the no-op has one spelling, no bytes at all.
        if count == 0 {
            return Err(BatchError::SpelledEmpty);
        }
        let ops = rest;
        for index in 0..count {
            take_op(&mut rest, index)?;
        }
        if !rest.is_empty() {
            return Err(BatchError::Trailing { bytes: rest.len() });
        }
        Ok(Self { result, ops, count })
    }

    /// What a retry of its request is to be answered; empty if it carries nothing.
    #[must_use]
    pub const fn result(&self) -> &'a [u8] {
        self.result
    }

    /// The operations in order.
    #[must_use]
    pub const fn iter(&self) -> BatchIter<'a> {
        BatchIter {
            rest: self.ops,
            index: 0,
            count: self.count,
        }
    }

    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }
}

impl<'a> IntoIterator for BatchRef<'a> {
    type Item = OpRef<'a>;
    type IntoIter = BatchIter<'a>;

    fn into_iter(self) -> BatchIter<'a> {
        self.iter()
    }
}

/// Iterator over a checked batch; borrows keys and values from it.
#[derive(Clone, Debug)]
pub struct BatchIter<'a> {
    rest: &'a [u8],
    index: usize,
    count: usize,
}

impl<'a> Iterator for BatchIter<'a> {
    type Item = OpRef<'a>;

    fn next(&mut self) -> Option<OpRef<'a>> {
        if self.index == self.count {
            return None;
        }
        let op =
            take_op(&mut self.rest, self.index).expect("BatchRef::parse has walked the same bytes");
        self.index += 1;
        Some(op)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.count - self.index;
        (left, Some(left))
    }
}

impl ExactSizeIterator for BatchIter<'_> {}

fn take_result<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], BatchError> {
    let truncated = BatchError::Truncated { index: 0 };
    let Some((&length, after)) = rest.split_first() else {
        return Err(truncated);
    };
    // Equal batches are equal bytes.
    if length == 0 {
        return Err(BatchError::SpelledNoResult);
    }
    let (result, after) = after.split_at_checked(length.into()).ok_or(truncated)?;
    *rest = after;
    Ok(result)
}

/// Takes one operation off the front of `rest`.
fn take_op<'a>(rest: &mut &'a [u8], index: usize) -> Result<OpRef<'a>, BatchError> {
    let truncated = BatchError::Truncated { index };
    let Some((&tag, after)) = rest.split_first() else {
        return Err(truncated);
    };
    *rest = after;
    if tag != TAG_PUT && tag != TAG_REMOVE {
        return Err(BatchError::Tag { tag, index });
    }
    let Some(key) = take_bytes(rest) else {
        return Err(truncated);
    };
    key::decode(key).map_err(|error| BatchError::Key { error, index })?;
    if tag == TAG_REMOVE {
        return Ok(OpRef::Remove { key });
    }
    if rest.len() < 4 {
        return Err(truncated);
    }
    let expire_at = rest.get_u32_le();
    let value = take_bytes(rest).ok_or(truncated)?;
    Ok(OpRef::Put {
        key,
        value,
        expire_at,
    })
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_varint(out, bytes.len());
    out.put_slice(bytes);
}

fn put_varint(out: &mut BytesMut, mut value: usize) {
    while value >= 0x80 {
        out.put_u8(low_bits(value) | 0x80);
        value >>= 7;
    }
    out.put_u8(low_bits(value));
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "only the low 7 bits are kept"
)]
const fn low_bits(value: usize) -> u8 {
    (value & 0x7f) as u8
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take_varint(rest)?;
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(bytes)
}

/// A varint of at most 32 bits in its shortest form; any other spelling is refused, so that equal batches are equal bytes.
fn take_varint(rest: &mut &[u8]) -> Option<usize> {
    let mut value = 0_u64;
    for position in 0..VARINT_BYTES_MAX {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            let shortest = position == 0 || byte != 0;
            return u32::try_from(value)
                .ok()
                .filter(|_| shortest)
                .and_then(|value| usize::try_from(value).ok());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn raw_key() -> impl Strategy<Value = Bytes> {
        let part = || prop::collection::vec(any::<u8>(), 0..20);
        (part(), part()).prop_map(|(hash_key, sort_key)| key::encode(&hash_key, &sort_key).unwrap())
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (
                raw_key(),
                prop::collection::vec(any::<u8>(), 0..200),
                any::<u32>()
            )
                .prop_map(|(key, value, expire_at)| Op::Put {
                    key,
                    value: value.into(),
                    expire_at
                }),
            raw_key().prop_map(|key| Op::Remove { key }),
        ]
    }

    fn to_owned(op: OpRef<'_>) -> Op {
        match op {
            OpRef::Put {
                key,
                value,
                expire_at,
            } => Op::Put {
                key: Bytes::copy_from_slice(key),
                value: Bytes::copy_from_slice(value),
                expire_at,
            },
            OpRef::Remove { key } => Op::Remove {
                key: Bytes::copy_from_slice(key),
            },
        }
    }

    proptest! {
        #[test]
        fn decoding_inverts_encoding(ops in prop::collection::vec(op(), 0..20), result in prop::collection::vec(any::<u8>(), 0..=RESULT_BYTES_MAX)) {
            let encoded = Batch::from_ops(&ops).unwrap().encode_with_result(&result);
            let batch = BatchRef::parse(&encoded).unwrap();
            prop_assert_eq!(batch.result(), if ops.is_empty() { &[][..] } else { &result[..] });
            prop_assert_eq!(batch.count(), ops.len());
            prop_assert_eq!(batch.iter().map(to_owned).collect::<Vec<_>>(), ops);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..60), version in 0..=3_u8) {
            if let (1.., Some(first)) = (version, bytes.first_mut()) {
                *first = version;
            }
            if let Ok(batch) = BatchRef::parse(&bytes) {
                let ops: Vec<Op> = batch.iter().map(to_owned).collect();
                let again = Batch::from_ops(&ops).unwrap().encode_with_result(batch.result());
                prop_assert_eq!(again.as_ref(), bytes.as_slice());
            }
        }

        #[test]
        fn every_truncation_of_a_batch_is_refused(ops in prop::collection::vec(op(), 1..5), result in prop::collection::vec(any::<u8>(), 0..5)) {
            let encoded = Batch::from_ops(&ops).unwrap().encode_with_result(&result);
            for length in 1..encoded.len() {
                prop_assert!(BatchRef::parse(&encoded[..length]).is_err());
            }
        }
    }

    #[test]
    fn the_empty_payload_is_a_batch_without_operations() {
        assert!(Batch::new().encode().is_empty());
        assert_eq!(BatchRef::parse(b"").unwrap().count(), 0);
    }

    #[test]
    fn layout_is_frozen() {
        let mut batch = Batch::new();
        batch.put(b"\x00\x01hs", b"v", 0x0102_0304).unwrap();
        batch.remove(b"\x00\x00").unwrap();
        assert_eq!(
            batch.encode().as_ref(),
            b"\x01\x02\x01\x04\x00\x01hs\x04\x03\x02\x01\x01v\x02\x02\x00\x00"
        );
        assert_eq!(
            batch.encode_with_result(b"ok").as_ref(),
            b"\x02\x02ok\x02\x01\x04\x00\x01hs\x04\x03\x02\x01\x01v\x02\x02\x00\x00"
        );
    }

    #[test]
    fn limits_hold_while_a_batch_grows() {
        let mut batch = Batch::new();
        assert!(matches!(
            batch.put(b"\x00\x00", &vec![0; BATCH_BYTES_MAX], 0),
            Err(BatchError::TooLarge { .. })
        ));
        assert!(matches!(batch.remove(b"\x00"), Err(BatchError::Key { .. })));
        assert!(batch.is_empty());
        batch
            .put(b"\x00\x00", &vec![0; BATCH_BYTES_MAX - 320], 0)
            .unwrap();
        let encoded = batch.encode_with_result(&[1; RESULT_BYTES_MAX]);
        assert!(encoded.len() <= BATCH_BYTES_MAX);
        assert!(BatchRef::parse(&encoded).is_ok());
    }

    #[test]
    fn a_later_version_is_refused_by_name() {
        assert_eq!(
            BatchRef::parse(b"\x03\x00").unwrap_err(),
            BatchError::Version { version: 3 }
        );
        assert_eq!(
            BatchRef::parse(b"\x02\x00\x01").unwrap_err(),
            BatchError::SpelledNoResult
        );
    }
}

//! How a hash key and a sort key become one key: the length of the hash key in two bytes, then both.

use crate::binary::{Encode, Kind, write_length};

/// A raw key that is written from its two parts. Only the first 65,535 bytes of a hash key would count; no hash key of
/// Apache Pegasus is that long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct RawKey<'a> {
    pub hash_key: &'a [u8],
    pub sort_key: &'a [u8],
}

impl RawKey<'_> {
    /// As bytes of its own.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut raw = Vec::with_capacity(2 + self.hash_key.len() + self.sort_key.len());
        self.append(&mut raw);
        raw
    }

    #[inline]
    fn append(&self, out: &mut Vec<u8>) {
        let length = u16::try_from(self.hash_key.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(self.hash_key);
        out.extend_from_slice(self.sort_key);
    }
}

/// A blob.
impl Encode for RawKey<'_> {
    const KIND: Kind = Kind::Struct;

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        write_length(2 + self.hash_key.len() + self.sort_key.len(), out);
        self.append(out);
    }
}

/// Hash key and sort key of a raw key, `None` if it is shorter than it says.
#[must_use]
#[inline]
pub fn split_raw_key(raw: &[u8]) -> Option<RawKey<'_>> {
    let (length, keys) = raw.split_first_chunk::<2>()?;
    let (hash_key, sort_key) = keys.split_at_checked(u16::from_be_bytes(*length).into())?;
    Some(RawKey { hash_key, sort_key })
}

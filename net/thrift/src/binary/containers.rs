//! Lists, sets and maps.

use super::value::write_length;
use super::{Decode, Encode, Kind, Reader};
use crate::DecodeError;

/// A `set`, in the order of the wire; nothing checks that it is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set<T>(pub Vec<T>);

/// A `map`, in the order of the wire; keys may repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map<K, V>(pub Vec<(K, V)>);

/// A `list` that is written from an iterator, which is gone through a second time if it does not know its length.
#[derive(Clone, Debug, Default)]
pub struct Each<I>(pub I);

impl<T> Default for Set<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Encode> Encode for Vec<T> {
    const KIND: Kind = Kind::List;

    fn encode(&self, out: &mut Vec<u8>) {
        write_elements(self.len(), self.iter(), out);
    }
}

impl<'a, T: Decode<'a>> Decode<'a> for Vec<T> {
    const BYTES_MIN: usize = 5;

    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.enter()?;
        let count = reader.elements(T::KIND)?;
        // Memory follows bytes that are there, not a number somebody claims.
        let mut elements = Self::with_capacity(count.min(reader.rest().len() / T::BYTES_MIN));
        for _ in 0..count {
            elements.push(T::decode(reader)?);
        }
        reader.leave();
        Ok(elements)
    }
}

impl<T: Encode> Encode for Set<T> {
    const KIND: Kind = Kind::Set;

    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

impl<'a, T: Decode<'a>> Decode<'a> for Set<T> {
    const BYTES_MIN: usize = 5;

    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Vec::decode(reader).map(Self)
    }
}

impl<K: Encode, V: Encode> Encode for Map<K, V> {
    const KIND: Kind = Kind::Map;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[K::KIND.byte(), V::KIND.byte()]);
        write_length(self.0.len(), out);
        for (key, value) in &self.0 {
            key.encode(out);
            value.encode(out);
        }
    }
}

impl<'a, K: Decode<'a>, V: Decode<'a>> Decode<'a> for Map<K, V> {
    const BYTES_MIN: usize = 6;

    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.enter()?;
        let count = reader.entries(K::KIND, V::KIND)?;
        let bytes_min = K::BYTES_MIN + V::BYTES_MIN;
        let mut entries = Vec::with_capacity(count.min(reader.rest().len() / bytes_min));
        for _ in 0..count {
            entries.push((K::decode(reader)?, V::decode(reader)?));
        }
        reader.leave();
        Ok(Self(entries))
    }
}

impl<I: Iterator<Item: Encode> + Clone> Encode for Each<I> {
    const KIND: Kind = Kind::List;

    fn encode(&self, out: &mut Vec<u8>) {
        let count = match self.0.size_hint() {
            (least, Some(most)) if least == most => least,
            _ => self.0.clone().count(),
        };
        write_elements(count, self.0.clone(), out);
    }
}

impl<T: Encode> Encode for &T {
    const KIND: Kind = T::KIND;

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        (*self).encode(out);
    }

    #[inline]
    fn is_present(&self) -> bool {
        (*self).is_present()
    }
}

fn write_elements<T: Encode>(count: usize, elements: impl Iterator<Item = T>, out: &mut Vec<u8>) {
    out.push(T::KIND.byte());
    write_length(count, out);
    for element in elements {
        element.encode(out);
    }
}

//! What a field can hold: how plain values look, and a struct of one field.

use super::{Kind, Reader};
use crate::{DecodeError, Fault};

/// Something that can be written as the value of a field or as an element.
pub trait Encode {
    /// The type byte in front of it.
    const KIND: Kind;

    /// Appends the value, without field header.
    fn encode(&self, out: &mut Vec<u8>);

    /// False for an optional field that is left out.
    #[inline]
    fn is_present(&self) -> bool {
        true
    }
}

/// Something that can be read; it borrows from the bytes.
pub trait Decode<'a>: Encode + Sized {
    /// No value takes fewer bytes: what memory for many is reserved by. At least 1.
    const BYTES_MIN: usize = 1;

    /// # Errors
    /// See [`DecodeError`].
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError>;
}

/// Appends a field, unless it is optional and absent.
#[inline]
pub fn write_field<T: Encode>(id: i16, value: &T, out: &mut Vec<u8>) {
    if value.is_present() {
        let [high, low] = id.to_be_bytes();
        out.extend_from_slice(&[T::KIND.byte(), high, low]);
        value.encode(out);
    }
}

/// Appends a struct of one field: what a request or an answer is wrapped in.
#[inline]
pub fn write_only_field<T: Encode>(id: i16, value: &T, out: &mut Vec<u8>) {
    write_field(id, value, out);
    out.push(0);
}

/// The first field of a struct, whatever its id, to the end of the bytes; `T::default()` if there is none. More fields
/// are skipped.
///
/// # Errors
/// When the field is of another type, or when bytes are missing or left over.
#[inline]
pub fn read_only_field<'a, T: Decode<'a> + Default>(
    reader: &mut Reader<'a>,
) -> Result<T, DecodeError> {
    let mut value = None;
    while let Some((kind, _)) = reader.field()? {
        if value.is_some() {
            reader.skip(kind)?;
            continue;
        }
        if kind != T::KIND {
            let fault = Fault::WrongType {
                found: kind.byte(),
                expected: T::KIND.byte(),
            };
            return Err(DecodeError::new("argument", fault));
        }
        value = Some(T::decode(reader)?);
    }
    if !reader.rest().is_empty() {
        let bytes = reader.rest().len() as u64;
        return Err(DecodeError::new("body", Fault::Trailing { bytes }));
    }
    Ok(value.unwrap_or_default())
}

macro_rules! plain {
    ($type:ty, $kind:ident, $bytes:literal, $read:expr, |$value:ident| $written:expr) => {
        impl Encode for $type {
            const KIND: Kind = Kind::$kind;

            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                let $value = *self;
                out.extend_from_slice(&$written);
            }
        }

        impl Decode<'_> for $type {
            const BYTES_MIN: usize = $bytes;

            #[inline]
            fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                $read(reader)
            }
        }
    };
}

plain!(
    bool,
    Bool,
    1,
    |it: &mut Reader<'_>| it.byte().map(|byte| byte != 0),
    |it| [u8::from(it)]
);
plain!(
    i8,
    Byte,
    1,
    |it: &mut Reader<'_>| it.byte().map(|byte| i8::from_be_bytes([byte])),
    |it| it.to_be_bytes()
);
plain!(i16, I16, 2, Reader::i16, |it| it.to_be_bytes());
plain!(i32, I32, 4, Reader::i32, |it| it.to_be_bytes());
plain!(i64, I64, 8, Reader::i64, |it| it.to_be_bytes());

/// A `string`.
impl Encode for &str {
    const KIND: Kind = Kind::String;

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        write_bytes(self.as_bytes(), out);
    }
}

impl<'a> Decode<'a> for &'a str {
    const BYTES_MIN: usize = 4;

    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.text()
    }
}

/// A `blob`: says that it is a struct, and is a length and bytes.
impl Encode for &[u8] {
    const KIND: Kind = Kind::Struct;

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        write_bytes(self, out);
    }
}

impl<'a> Decode<'a> for &'a [u8] {
    const BYTES_MIN: usize = 4;

    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.bytes()
    }
}

/// A field that may be absent.
impl<T: Encode> Encode for Option<T> {
    const KIND: Kind = T::KIND;

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        if let Some(value) = self {
            value.encode(out);
        }
    }

    #[inline]
    fn is_present(&self) -> bool {
        self.is_some()
    }
}

impl<'a, T: Decode<'a>> Decode<'a> for Option<T> {
    const BYTES_MIN: usize = T::BYTES_MIN;

    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        T::decode(reader).map(Some)
    }
}

/// Lengths on the wire are of 31 bits.
///
/// # Panics
/// When there are more: nobody holds such an answer in memory.
#[inline]
pub(crate) fn write_length(length: usize, out: &mut Vec<u8>) {
    let length = i32::try_from(length).expect("an answer is far shorter than 2 GiB");
    out.extend_from_slice(&length.to_be_bytes());
}

#[inline]
pub(crate) fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    write_length(bytes.len(), out);
    out.extend_from_slice(bytes);
}

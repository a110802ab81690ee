//! Bytes in, values out.

use super::Kind;
use crate::{DecodeError, Fault};

/// Structs and containers within each other; the deepest answer of Apache Pegasus has 8.
pub const DEPTH_MAX: u8 = 32;
/// Elements of all containers of one message together: memory per element is more than its byte on the wire.
pub const ELEMENTS_MAX: u32 = 1 << 20;

/// A place in bytes that hold Thrift values. Never reads beyond the end.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    depth_left: u8,
    elements_left: u32,
    elements_max: u32,
}

impl<'a> Reader<'a> {
    /// With at most [`ELEMENTS_MAX`] elements in containers.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self::with_elements_max(bytes, ELEMENTS_MAX)
    }

    /// With at most so many elements in all lists, sets and maps together (a map's entry is one).
    #[must_use]
    pub const fn with_elements_max(bytes: &'a [u8], elements_max: u32) -> Self {
        Self {
            rest: bytes,
            depth_left: DEPTH_MAX,
            elements_left: elements_max,
            elements_max,
        }
    }

    /// What has not been read.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// # Errors
    /// When fewer are left.
    #[inline]
    pub fn take(&mut self, bytes: usize) -> Result<&'a [u8], DecodeError> {
        let Some((taken, rest)) = self.rest.split_at_checked(bytes) else {
            return Err(self.truncated(bytes));
        };
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.truncated(N));
        };
        self.rest = rest;
        Ok(*taken)
    }

    /// # Errors
    /// At the end of the bytes, as all functions here.
    #[inline]
    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        self.array().map(|[byte]| byte)
    }

    /// # Errors
    /// At the end of the bytes.
    #[inline]
    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        self.array().map(i16::from_be_bytes)
    }

    /// # Errors
    /// At the end of the bytes.
    #[inline]
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_be_bytes)
    }

    /// # Errors
    /// At the end of the bytes.
    #[inline]
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_be_bytes)
    }

    /// A length and as many bytes.
    ///
    /// # Errors
    /// When the length is negative, or more than what is left.
    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.length()?;
        self.take(length)
    }

    /// # Errors
    /// As [`Reader::bytes`], and when they are not UTF-8.
    pub fn text(&mut self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| DecodeError::new("text", Fault::NotUtf8))
    }

    /// The type and the id of the next field of a struct, `None` at its end.
    ///
    /// # Errors
    /// When the type is unknown.
    #[inline]
    pub fn field(&mut self) -> Result<Option<(Kind, i16)>, DecodeError> {
        match self.byte()? {
            0 => Ok(None),
            byte => Ok(Some((Kind::of(byte)?, self.i16()?))),
        }
    }

    /// Number of elements of a list or a set, which are of this kind.
    ///
    /// # Errors
    /// When they are of another kind, negative in number, more than the limit, or more than the bytes that are left.
    pub fn elements(&mut self, kind: Kind) -> Result<usize, DecodeError> {
        let found = self.byte()?;
        let count = self.count()?;
        check_kind(count, found, kind)?;
        Ok(count)
    }

    /// Number of entries of a map with keys and values of these kinds.
    ///
    /// # Errors
    /// As [`Reader::elements`].
    pub fn entries(&mut self, key: Kind, value: Kind) -> Result<usize, DecodeError> {
        let (found_key, found_value) = (self.byte()?, self.byte()?);
        let count = self.count()?;
        check_kind(count, found_key, key)?;
        check_kind(count, found_value, value)?;
        Ok(count)
    }

    /// Goes into a struct.
    ///
    /// # Errors
    /// When there are [`DEPTH_MAX`] around it.
    #[inline]
    pub fn enter(&mut self) -> Result<(), DecodeError> {
        let Some(left) = self.depth_left.checked_sub(1) else {
            let max = DEPTH_MAX.into();
            return Err(DecodeError::new("value", Fault::TooDeep { max }));
        };
        self.depth_left = left;
        Ok(())
    }

    /// Goes out of it again.
    #[inline]
    pub const fn leave(&mut self) {
        self.depth_left = self.depth_left.saturating_add(1);
    }

    /// Skips a value. A special type of Apache's cannot be skipped, because it says that it is a struct.
    ///
    /// # Errors
    /// When there is no such value.
    pub fn skip(&mut self, kind: Kind) -> Result<(), DecodeError> {
        match kind {
            Kind::Bool | Kind::Byte => self.take(1).map(drop),
            Kind::I16 => self.take(2).map(drop),
            Kind::I32 => self.take(4).map(drop),
            Kind::I64 | Kind::Double => self.take(8).map(drop),
            Kind::String => self.bytes().map(drop),
            Kind::Struct => self.skip_struct(),
            Kind::List | Kind::Set => self.skip_list(),
            Kind::Map => self.skip_map(),
        }
    }

    fn skip_struct(&mut self) -> Result<(), DecodeError> {
        self.enter()?;
        while let Some((kind, _)) = self.field()? {
            self.skip(kind)?;
        }
        self.leave();
        Ok(())
    }

    fn skip_list(&mut self) -> Result<(), DecodeError> {
        self.enter()?;
        let kind = self.byte()?;
        for _ in 0..self.length()? {
            self.skip(Kind::of(kind)?)?;
        }
        self.leave();
        Ok(())
    }

    fn skip_map(&mut self) -> Result<(), DecodeError> {
        self.enter()?;
        let (key, value) = (self.byte()?, self.byte()?);
        for _ in 0..self.length()? {
            self.skip(Kind::of(key)?)?;
            self.skip(Kind::of(value)?)?;
        }
        self.leave();
        Ok(())
    }

    /// No element is shorter than a byte, so a number above what is left is a lie, told before anything is allocated.
    fn count(&mut self) -> Result<usize, DecodeError> {
        let count = self.length()?;
        if count > self.rest.len() {
            return Err(self.truncated(count));
        }
        let left = u32::try_from(count).ok();
        let Some(left) = left.and_then(|count| self.elements_left.checked_sub(count)) else {
            let fault = Fault::TooLarge {
                found: count as u64,
                max: self.elements_max.into(),
            };
            return Err(DecodeError::new("number of elements", fault));
        };
        self.elements_left = left;
        Ok(count)
    }

    #[inline]
    fn length(&mut self) -> Result<usize, DecodeError> {
        let found = self.i32()?;
        usize::try_from(found).map_err(|_| DecodeError::new("length", Fault::Negative { found }))
    }

    #[cold]
    const fn truncated(&self, needed: usize) -> DecodeError {
        let fault = Fault::Truncated {
            needed: needed as u64,
            left: self.rest.len() as u64,
        };
        DecodeError::new("value", fault)
    }
}

/// The kind of no elements does not matter: some clients write none.
fn check_kind(count: usize, found: u8, expected: Kind) -> Result<(), DecodeError> {
    if count > 0 && found != expected.byte() {
        let fault = Fault::WrongType {
            found,
            expected: expected.byte(),
        };
        return Err(DecodeError::new("element", fault));
    }
    Ok(())
}

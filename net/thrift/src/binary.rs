//! Thrift's binary encoding (`TBinaryProtocol`), as far as Apache Pegasus uses it.

#[macro_use]
mod structure;
#[macro_use]
mod enumeration;
mod containers;
mod reader;
mod value;

pub use containers::{Each, Map, Set};
pub use reader::{DEPTH_MAX, ELEMENTS_MAX, Reader};
pub(crate) use value::write_length;
pub use value::{Decode, Encode, read_only_field, write_field, write_only_field};

use crate::{DecodeError, Fault};

/// The type byte of a field or of the elements of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    Bool = 2,
    Byte = 3,
    Double = 4,
    I16 = 6,
    I32 = 8,
    I64 = 10,
    /// Text or bytes.
    String = 11,
    /// A struct, or one of Apache's special types, which say that they are structs and are not.
    Struct = 12,
    Map = 13,
    Set = 14,
    List = 15,
}

impl Kind {
    /// # Errors
    /// When no type has this number.
    pub const fn of(byte: u8) -> Result<Self, DecodeError> {
        Ok(match byte {
            2 => Self::Bool,
            3 => Self::Byte,
            4 => Self::Double,
            6 => Self::I16,
            8 => Self::I32,
            10 => Self::I64,
            11 => Self::String,
            12 => Self::Struct,
            13 => Self::Map,
            14 => Self::Set,
            15 => Self::List,
            _ => {
                return Err(DecodeError::new(
                    "thrift type",
                    Fault::Unknown { found: byte as i64 },
                ));
            }
        })
    }

    /// The byte on the wire.
    #[must_use]
    pub const fn byte(self) -> u8 {
        self as u8
    }
}

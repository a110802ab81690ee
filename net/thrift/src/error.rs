//! Why bytes are not what they should be.

use std::fmt;
use thiserror::Error;

/// Why bytes cannot be understood: which thing, and what is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{}: {fault}", Thing(self.what, self.part))]
pub struct DecodeError {
    /// The struct or the header, by its Apache name. Empty if only the part is known.
    pub what: &'static str,
    /// The field of it. Empty if the whole is meant.
    pub part: &'static str,
    pub fault: Fault,
}

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    #[error("{needed} bytes needed, {left} are left")]
    Truncated { needed: u64, left: u64 },
    #[error("length {found} is negative")]
    Negative { found: i32 },
    #[error("{found}, the limit is {max}")]
    TooLarge { found: u64, max: u64 },
    #[error("{found}, expected {expected}")]
    Unexpected { found: i64, expected: i64 },
    #[error("unknown number {found}")]
    Unknown { found: i64 },
    #[error("thrift type {found}, expected {expected}")]
    WrongType { found: u8, expected: u8 },
    #[error("{bytes} bytes after the end")]
    Trailing { bytes: u64 },
    #[error("nested deeper than {max}")]
    TooDeep { max: u64 },
    #[error("checksum {found:08x}, expected {expected:08x}")]
    Checksum { found: u32, expected: u32 },
    #[error("not UTF-8")]
    NotUtf8,
}

impl DecodeError {
    pub(crate) const fn new(part: &'static str, fault: Fault) -> Self {
        Self {
            what: "",
            part,
            fault,
        }
    }

    /// Names the struct and its field, unless something within it has been named.
    #[must_use]
    #[cold]
    pub(crate) const fn within(self, what: &'static str, part: &'static str) -> Self {
        if self.what.is_empty() {
            Self {
                what,
                part,
                fault: self.fault,
            }
        } else {
            self
        }
    }
}

struct Thing(&'static str, &'static str);

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            ("", part) => f.write_str(part),
            (what, "") => f.write_str(what),
            (what, part) => write!(f, "{what}.{part}"),
        }
    }
}

//! What messages are wrapped in: THFT (all clients but C++) and RDSN (C++, the shell, servers).

pub mod message;
mod name;
pub mod rdsn;
pub mod thft;

pub use message::Message;
pub use name::Name;

use crate::{DecodeError, Fault};
use std::ops::Range;

/// What a receiver is ready to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one body.
    pub body_bytes_max: usize,
}

impl Limits {
    /// 64 MiB.
    pub const DEFAULT: Self = Self {
        body_bytes_max: 64 << 20,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What could be made of the bytes at the front of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<T> {
    /// Come back when the input has at least so many bytes, those that are there already counted.
    NeedMore(usize),
    Done(T),
}

/// One whole frame at the front of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame<H> {
    pub header: H,
    /// Where the body is in the input.
    pub body: Range<usize>,
    /// Bytes of the whole frame: the next one begins after them.
    pub consumed: usize,
}

impl<T> Progress<T> {
    pub(crate) fn map<U>(self, with: impl FnOnce(T) -> U) -> Progress<U> {
        match self {
            Self::NeedMore(bytes) => Progress::NeedMore(bytes),
            Self::Done(value) => Progress::Done(with(value)),
        }
    }
}

/// How long a frame says it is.
#[derive(Clone, Copy, Debug)]
struct Extent {
    header_bytes: usize,
    body_bytes: usize,
}

impl Extent {
    /// Bytes of the whole frame, once they are there.
    fn whole(
        self,
        what: &'static str,
        input: &[u8],
        limits: &Limits,
    ) -> Result<Progress<usize>, DecodeError> {
        if self.body_bytes > limits.body_bytes_max {
            let fault = Fault::TooLarge {
                found: self.body_bytes as u64,
                max: limits.body_bytes_max as u64,
            };
            return Err(DecodeError::new("", fault).within(what, "body_length"));
        }
        let bytes = self.header_bytes + self.body_bytes;
        Ok(if input.len() < bytes {
            Progress::NeedMore(bytes)
        } else {
            Progress::Done(bytes)
        })
    }

    /// The frame with this header, once it is whole.
    const fn frame<H>(self, header: H) -> Frame<H> {
        let consumed = self.header_bytes + self.body_bytes;
        Frame {
            header,
            body: self.header_bytes..consumed,
            consumed,
        }
    }
}

/// Lengths of frames are signed to some and unsigned to others: with the top bit they are lies.
fn length(what: &'static str, part: &'static str, found: u32) -> Result<usize, DecodeError> {
    let signed = found.cast_signed();
    usize::try_from(signed)
        .map_err(|_| DecodeError::new("", Fault::Negative { found: signed }).within(what, part))
}

/// What clients send along to pick a thread by.
pub(crate) const fn thread_hash(app_id: i32, partition_index: i32) -> i32 {
    app_id.wrapping_mul(7919).wrapping_add(partition_index)
}

//! Why bytes are not RESP.

use thiserror::Error;

/// Why bytes are not RESP, or more than the limits allow. The stream cannot be resynchronised after any of them: answer
/// with the sentence, then close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    #[error("Protocol error: expected {expected}, got byte 0x{found:02x}")]
    Unexpected { expected: &'static str, found: u8 },
    #[error("Protocol error: invalid {what}")]
    Invalid { what: &'static str },
    #[error("Protocol error: {what} of {found}, the limit is {max}")]
    TooLarge {
        what: &'static str,
        found: u64,
        max: usize,
    },
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
}

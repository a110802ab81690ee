//! The Redis protocol (RESP2 and RESP3): bytes to structs and back, for both sides of a connection.
//!
//! Never does I/O, never reads a clock, never panics on bytes, and keeps no more memory than received bytes and the
//! [`Limits`] account for.
//!
//! Reading order: `limits`, `command` (what clients send), `value` (what servers answer), `encode`; `line` and `extent`
//! are how both decoders find their way through bytes that arrive in pieces.
//!
//! Source: the Redis serialization protocol specification, <https://redis.io/docs/latest/develop/reference/protocol-spec/>.
//! Streamed strings and aggregates (`$?`, `*?`), which no server sends, are refused.

#![forbid(unsafe_code)]

mod command;
mod encode;
mod error;
mod extent;
mod inline;
mod limits;
mod line;
mod value;

pub use command::{Command, CommandDecoder};
pub use encode::{Version, encode_bulk, encode_command, encode_value};
pub use error::DecodeError;
pub use limits::Limits;
pub use value::{Value, ValueDecoder};

//! The protocols of Apache Pegasus: bytes to structs and back, for both sides of a connection.
//!
//! Never does I/O, never reads a clock, never panics on bytes, and keeps no more memory than received bytes account for.
//! Requests and answers borrow from the bytes they were read from; answers are written straight into the output.
//! Apache's words (`app` for a table, `gpid` for a partition) are used here, and nowhere else.
//!
//! Reading order: `error`, `code` (names of errors), `binary` (Thrift's encoding, and `structure!`, in which the structs
//! are spelled), `special` (Apache's own value types), `frame` (THFT and RDSN), `rpc` (names of requests), `call` (a
//! request of either protocol, and the way back to its sender), then the structs: `data`, `meta`, `remote`.
//!
//! The layouts: `docs/formats.md`. Source: Apache Pegasus, `idl/*.thrift` and `src/runtime/rpc`.

#![forbid(unsafe_code)]

#[macro_use]
pub mod binary;
mod call;
mod code;
pub mod data;
mod error;
pub mod frame;
pub mod meta;
pub mod remote;
mod rpc;
mod special;

pub use call::{Call, Oversized, Protocol, ReplyTo, detect, frame_length, oversized};
pub use code::{ErrorCode, FrameStatus, storage};
pub use error::{DecodeError, Fault};
pub use frame::{Limits, Name, Progress};
pub use rpc::{Rpc, RpcKind};
pub use special::{Gpid, HostPort, RpcAddress, TaskCode};

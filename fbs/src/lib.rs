//! The native wire contract, shared by replica, meta and client: bytes and their meaning, nothing else.
//!
//! It opens no socket and keeps no state beyond a decoder's position; the only file it reads is a statistics page.
//!
//! Reading order: [`frame`] (header, checksum, incremental decoder), then the FlatBuffers bodies in `schema/`
//! (modules [`kv`], [`admin`], [`meta`], [`peer`]), [`body`] (verified reading and writing of bodies), [`code`]
//! (status codes and what they say about execution), [`hash`] (which partition a key belongs to),
//! [`stats_page`] (the per-core statistics file).

#![deny(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::cast_possible_truncation,
        reason = "tests fail by panicking"
    )
)]

pub mod body;
pub mod code;
pub mod frame;
pub mod hash;
pub mod stats_page;

#[allow(
    warnings,
    unsafe_code,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    reason = "flatc output, never edited"
)]
#[rustfmt::skip]
#[path = "generated/mod.rs"]
mod generated;

pub use flatbuffers;
pub use generated::pegasus::{admin, kv, meta, peer, transfer};

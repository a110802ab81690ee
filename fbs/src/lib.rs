//! The native wire contract, shared by replica, meta and client.

pub mod frame;

#[allow(warnings, clippy::all, reason = "flatc output, never edited")]
#[rustfmt::skip]
#[path = "generated/mod.rs"]
mod generated;

pub use generated::pegasus::{admin, kv, meta, peer};

//! The real binary, with a real meta in this process and a real client, over loopback.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod damage;
mod data;
mod harness;
mod refusals;
mod stats;
mod wire;

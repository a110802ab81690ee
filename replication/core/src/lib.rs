//! PacificA and the log of a core, as plain state machines.

#![forbid(unsafe_code)]

pub mod config;
pub mod event;
pub mod ids;
pub mod log;
pub mod message;

//! The client against servers made up in this process, which speak native frames over loopback.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod admin;
mod atomic;
mod failover;
mod failures;
mod fake;
mod operations;
mod routing;
mod scans;

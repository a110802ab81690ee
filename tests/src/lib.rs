//! What the end-to-end tests share: clusters of real processes, networks that are cut, disks that lose power, clients that
//! remember what they were told, real input.

#![forbid(unsafe_code)]

pub mod apache;
pub mod cluster;
pub mod foreign;
pub mod model;
pub mod network;
pub mod packages;
pub mod port_block;
pub mod power_disk;
pub mod raw;
pub mod verified;
pub mod web;
pub mod writers;
pub mod zookeeper;

use std::io::Write;

/// Whether this test may mount file systems and make networks. If not it says so where `cargo test` does not swallow it, and the test ends:
/// `.ci/run` takes such a line for a failure.
#[must_use]
pub fn has_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        // A test that cannot even say this is not worth failing for.
        let _ = writeln!(std::io::stderr(), "skipped: needs root: {test}");
    }
    root
}

//! The program as it is built, against servers: liars that `--verify` must catch, and the real Redis and etcd.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod bench;
mod calibrate;
mod foreign;
mod liar;
mod process;
mod verify;

/// The null server of the bench, with a liar in the place of its memory.
#[path = "../../src"]
#[allow(
    dead_code,
    reason = "modules of a program, of which only the server is used"
)]
mod src {
    pub(crate) mod affinity;
    pub(crate) mod null_server;
}

use src::affinity;

//! Looks at the machine: CPUs, NUMA nodes, interrupts, drives and limits as the kernel tells them, and how fast a drive is.
//!
//! It changes nothing but what [`Root::write`] is told to, starts nothing that outlives a call, and never panics on what a
//! kernel, a container or a hypervisor shows: what cannot be read is an error or `None`. All of `/sys` and `/proc` is read below a [`Root`],
//! so that tests can show it a machine that does not exist.
//!
//! Reading order: [`root`], [`cpus`], [`numa`], [`mount`], [`drive`], [`interrupts`], [`limits`]; then [`blocks`], [`measure`] (a drive, measured)
//! and [`speed`] (what came out, as a file that the node reads); [`process`] is what the calling process takes; [`units`] are sizes and lists of CPUs as settings spell them.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")
)]

pub mod blocks;
pub mod cpus;
pub mod drive;
pub mod interrupts;
pub mod limits;
pub mod measure;
pub mod mount;
pub mod numa;
pub mod process;
pub mod root;
pub mod speed;
pub mod units;

pub use root::Root;

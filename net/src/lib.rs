//! Moves bytes: the io_uring ring of a core with its sockets, log writes and wake-ups, and the front-ends that turn bytes
//! into one [`request::Request`] and answers into bytes.
//!
//! It decides nothing about data: it knows neither replicas nor tables, never blocks except in the ring, starts no thread,
//! and keeps every queue bounded (`options`).
//!
//! Reading order: [`core_io`] (what a core's loop calls), [`request`], [`frontend`], then `connection` and [`peer`],
//! last `ring`. [`mesh`] and [`waker`] join the cores of a node.

#![deny(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::cast_possible_truncation,
        reason = "tests fail by panicking"
    )
)]

pub mod aligned;
pub mod clock;
pub mod core_io;
pub mod counters;
mod dial;
pub mod frontend;
pub mod listener;
pub mod mesh;
pub mod options;
pub mod peer;
pub mod request;
pub mod spread;
pub mod waker;

mod connection;
#[allow(
    unsafe_code,
    reason = "the one place that hands memory to the kernel; every block says why it may"
)]
mod ring;

pub use core_io::{Arrival, CoreIo, IoEvent, ReplyTo, Sent};
pub use dial::dial;
pub use options::{Identity, LeaseTerms, LogFlush, NetOptions, PeerId, PollPolicy};
pub use ring::{StartError, probe};
pub use waker::Waker;

//! Cores with real sockets on loopback, in this process: clients, garbage, back-pressure, links, log writes, wake-ups.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "tests fail by panicking"
)]

mod any_bytes;
mod apache;
mod apache_bytes;
mod backpressure;
mod bad_input;
mod clients;
mod harness;
mod http;
mod idle;
mod links;
mod log;
mod protocol;
mod receipts;
mod resp;
mod roundtrip;
mod wakeups;

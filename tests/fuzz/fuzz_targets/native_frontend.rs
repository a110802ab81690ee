//! The decoder of client requests against any bytes; what must hold is in the tests of `pegasus-net`.

#![no_main]

#[path = "../../../net/tests/sockets/any_bytes.rs"]
mod any_bytes;

libfuzzer_sys::fuzz_target!(|input: &[u8]| any_bytes::run(input));

//! The front-ends of Apache Pegasus and of HTTP; what must hold is in the tests of `pegasus-net`.

#![no_main]

#[path = "../../../net/tests/sockets/apache_bytes.rs"]
mod apache_bytes;

libfuzzer_sys::fuzz_target!(|input: &[u8]| apache_bytes::run(input));

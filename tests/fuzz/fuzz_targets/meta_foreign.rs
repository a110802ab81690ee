//! Streams of Apache's clients and of HTTP at meta; what must hold is in the tests of `pegasus-meta`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pegasus_meta::server::any_bytes::foreign::run(input));

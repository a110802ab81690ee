//! Frames of nodes, clients and operators; what must hold is in the tests of `pegasus-meta`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pegasus_meta::server::any_bytes::run(input));

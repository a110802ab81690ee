//! Handshakes of cores; what must hold is in the tests of `pegasus-net`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pegasus_net::peer::any_bytes::run(input));

//! Answers of servers; what must hold is in the tests of `pegasus-client`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pegasus_client::any_bytes::run(input));

//! Streams of Redis answers; what must hold is in the tests of `pegasus-resp`.

#![no_main]

#[path = "../../../net/resp/tests/any_bytes/resp_values.rs"]
mod resp_values;

libfuzzer_sys::fuzz_target!(|input: &[u8]| resp_values::run(input));

//! Bodies of frames against any bytes; what must hold is in the tests of `pegasus-fbs`.

#![no_main]

#[path = "../../../fbs/tests/any_bytes/bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|input: &[u8]| bodies::run(input));

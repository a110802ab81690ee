//! Streams of frames; what must hold is in the tests of `pegasus-fbs`.

#![no_main]

#[path = "../../../fbs/tests/any_bytes/frames.rs"]
mod frames;

libfuzzer_sys::fuzz_target!(|input: &[u8]| frames::run(input));

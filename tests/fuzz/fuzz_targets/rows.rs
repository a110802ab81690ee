//! Batches, markers, keys and values; what must hold is in the tests of `pegasus-engine`.

#![no_main]

#[path = "../../../engine/tests/any_bytes/rows.rs"]
mod rows;

libfuzzer_sys::fuzz_target!(|input: &[u8]| rows::run(input));

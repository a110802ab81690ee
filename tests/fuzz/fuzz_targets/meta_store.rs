//! The files of meta; what must hold is in the tests of `pegasus-meta`.

#![no_main]

#[path = "../../../meta/tests/any_bytes/store.rs"]
mod store;

libfuzzer_sys::fuzz_target!(|input: &[u8]| store::run(input));

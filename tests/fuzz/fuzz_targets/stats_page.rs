//! Statistics pages; what must hold is in the tests of `pegasus-fbs`.

#![no_main]

#[path = "../../../fbs/tests/any_bytes/stats_page.rs"]
mod stats_page;

libfuzzer_sys::fuzz_target!(|input: &[u8]| stats_page::run(input));

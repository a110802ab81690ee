//! Streams of Redis commands; what must hold is in the tests of `pegasus-resp`.

#![no_main]

#[path = "../../../net/resp/tests/any_bytes/resp_commands.rs"]
mod resp_commands;

libfuzzer_sys::fuzz_target!(|input: &[u8]| resp_commands::run(input));

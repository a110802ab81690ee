//! `cluster.toml` and pid files; what must hold is in the tests of `pegasus-cli`.

#![no_main]
#![allow(dead_code, reason = "modules of a package, of which only the decoders are run")]

#[path = "../../../tools/cli/src/local/any_bytes.rs"]
mod any_bytes;
#[path = "../../../tools/cli/src/local/cluster_file.rs"]
mod cluster_file;
#[path = "../../../tools/cli/src/local/process.rs"]
mod process;

libfuzzer_sys::fuzz_target!(|input: &[u8]| any_bytes::run(input));

//! Lines of files to import; what must hold is in the tests of `pegasus-cli`.

#![no_main]
#![allow(dead_code, reason = "modules of a package, of which only the decoders are run")]

#[path = "../../../tools/cli/src/import/any_bytes.rs"]
mod any_bytes;
#[path = "../../../tools/cli/src/import/columns.rs"]
mod columns;
#[path = "../../../tools/cli/src/text.rs"]
mod text;

libfuzzer_sys::fuzz_target!(|input: &[u8]| any_bytes::run(input));

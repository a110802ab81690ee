//! Forwarded Redis commands and their answers; what must hold is in the tests of `pegasus-replica`.

#![no_main]
#![allow(dead_code, reason = "modules of a package, of which only the decoders are run")]

#[path = "../../../replication/node/src/forward/any_bytes.rs"]
mod any_bytes;
#[path = "../../../replication/node/src/forward.rs"]
mod forward;

libfuzzer_sys::fuzz_target!(|input: &[u8]| any_bytes::run(input));

//! Answers of servers; what must hold is in the tests of `pegasus-client`.

#![no_main]
#![allow(dead_code, reason = "modules of a package, of which only the decoders are run")]

#[path = "../../../net/client/src/admin/any_bytes.rs"]
mod any_bytes;
#[path = "../../../net/client/src/error.rs"]
mod error;
#[path = "../../../net/client/src/admin/info.rs"]
mod info;
#[path = "../../../net/client/src/reply.rs"]
mod reply;

libfuzzer_sys::fuzz_target!(|input: &[u8]| any_bytes::run(input));

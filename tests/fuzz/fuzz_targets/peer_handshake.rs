//! Handshakes of cores; what must hold is in the tests of `pegasus-net`.

#![no_main]
#![allow(dead_code, reason = "modules of a package, of which only the decoders are run")]

#[path = "../../../net/src/peer/any_bytes.rs"]
mod any_bytes;
#[path = "../../../net/src/peer/handshake.rs"]
mod handshake;
mod options {
    pub(crate) use pegasus_net::options::{Identity, PeerId};
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| any_bytes::run(input));

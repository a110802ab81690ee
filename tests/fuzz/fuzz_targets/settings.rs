//! Values with units; what must hold is in the tests of `pegasus-replica`.

#![no_main]
#![allow(dead_code, reason = "modules of a package, of which only the decoders are run")]

#[path = "../../../replication/node/src/config/tests/any_bytes.rs"]
mod any_bytes;
mod config {
    pub(crate) use pegasus_host::units::{ByteSize, Cores};
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| any_bytes::run(input));

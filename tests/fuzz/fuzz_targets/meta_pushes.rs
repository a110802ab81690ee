//! What a node keeps of its members, and what meta pushes; what must hold is in the tests of `pegasus-replica`.

#![no_main]
#![allow(dead_code, unused_imports, reason = "modules of a package, of which only the decoders are run")]

#[path = "../../../replication/node/src/data_dir.rs"]
mod data_dir;
#[path = "../../../replication/node/src/directory.rs"]
mod directory;
#[path = "../../../replication/node/src/members.rs"]
mod members;
#[path = "../../../replication/node/src/settings.rs"]
mod settings;
#[path = "../../../replication/node/src/throttle.rs"]
mod throttle;
#[path = "../../../replication/node/src/wire.rs"]
mod wire;

// In the same folder, as far as paths go.
#[path = "."]
mod meta_link {
    #[path = "../../../replication/node/src/meta_link/any_bytes.rs"]
    pub(crate) mod any_bytes;
    #[path = "../../../replication/node/src/meta_link/frames.rs"]
    pub(crate) mod frames;
    #[path = "../../../replication/node/src/meta_link/told.rs"]
    mod told;

    pub(crate) use told::{Health, ReplicaKey, Report, Wish};
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| meta_link::any_bytes::run(input));

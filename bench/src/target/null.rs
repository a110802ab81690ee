//! A server within this process (see `null_server`): what is measured is the bench.
//!
//! There is one for the whole process, started by the first who asks, so that all connections see the same rows.

use super::Description;
use crate::null_server::{Memory, NullServer};
use anyhow::anyhow;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// The address of the server, `HOST:PORT`.
pub(super) fn address() -> anyhow::Result<String> {
    static SERVER: OnceLock<Result<NullServer, String>> = OnceLock::new();
    SERVER
        .get_or_init(|| {
            NullServer::start(Memory::default(), None).map_err(|error| format!("{error:#}"))
        })
        .as_ref()
        .map(|server| server.address.to_string())
        .map_err(|error| anyhow!("null server: {error}"))
}

pub(super) fn describe() -> Description {
    Description {
        protocol: "null".to_owned(),
        server: "a thread of this process".to_owned(),
        durability: Some("none: memory only, and only while this process runs".to_owned()),
        notes: BTreeMap::from([(
            "wire".to_owned(),
            "the native protocol over loopback".to_owned(),
        )]),
        ..Description::default()
    }
}

#[cfg(test)]
mod tests;

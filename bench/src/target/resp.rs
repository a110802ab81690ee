//! Redis' protocol against a cluster of ours: every client port speaks it, for every key of the table.
//!
//! Each connection goes to one core, in turn; a core passes on what belongs to another. Only a cluster of one core
//! answers all of it where it arrives.

use super::{ConnectOptions, Description, native, redis};
use anyhow::Context as _;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Connections that were made so far, for the turn.
static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);

pub(super) async fn connect(
    meta: &[String],
    table: &str,
    options: &ConnectOptions,
) -> anyhow::Result<redis::Session> {
    let addresses = native::client_addresses(meta, options.timeout).await?;
    let turn = CONNECTIONS.fetch_add(1, Ordering::Relaxed) % addresses.len().max(1);
    let address = addresses.get(turn).context("no node is alive")?;
    redis::Session::connect(address, table, options).await
}

pub(super) async fn describe(meta: &[String], table: &str) -> anyhow::Result<Description> {
    let description = native::describe(meta, table).await?;
    Ok(Description {
        protocol: "resp".to_owned(),
        notes: redis::notes(),
        ..description
    })
}

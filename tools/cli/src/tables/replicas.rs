//! `pegasus table set-replicas`: more or fewer copies of each partition.

use crate::connect::Connect;
use crate::orders::{self, Wait};
use crate::output::Output;
use clap::Args;
use serde_json::json;
use std::time::Instant;

#[derive(Debug, Args)]
pub(crate) struct SetReplicas {
    /// Name of the table
    name: String,
    /// Copies of each partition, on different nodes: 1 to 7
    #[arg(allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=7))]
    replicas: u32,
    #[command(flatten)]
    wait: Wait,
}

pub(super) async fn run(
    options: &SetReplicas,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let SetReplicas {
        name,
        replicas,
        wait,
    } = options;
    let client = orders::client(connect).await?;
    let given = Instant::now();
    let first = client.set_replicas(name, *replicas).await?;
    // The same order again changes nothing; its answer tells how far it is.
    let now = async || Ok(client.set_replicas(name, *replicas).await?);
    let outcome = wait.stay(given, first, now).await?;
    let order = json!({ "table": name, "replicas": replicas });
    let done = format!("each partition of {name} has {replicas} replicas");
    wait.tell(&outcome, order, &done, out)
}

//! `pegasus cluster rebalance`: what concerns the whole cluster.

use crate::connect::Connect;
use crate::orders::{self, Wait};
use crate::output::Output;
use clap::{Args, Subcommand};
use serde_json::json;
use std::time::Instant;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Spread primaries evenly over nodes and cores now
    #[command(after_help = "\
Meta does it by itself once nothing has happened for a minute (`balance_delay_ms`), unless `balance_primaries` is off. One
primary is handed over at a time, and only while no partition lacks anything; the order is recorded until meta is restarted.

  pegasus cluster rebalance --wait
  pegasus cluster rebalance --wait=60   exit code 4 if it takes longer; it goes on")]
    Rebalance(Rebalance),
}

#[derive(Debug, Args)]
pub(crate) struct Rebalance {
    #[command(flatten)]
    wait: Wait,
}

pub(crate) async fn run(
    command: &Command,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    match command {
        Command::Rebalance(options) => rebalance(options.wait, connect, out).await,
    }
}

async fn rebalance(wait: Wait, connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    let client = orders::client(connect).await?;
    let given = Instant::now();
    let first = client.rebalance().await?;
    // The same order again changes nothing; its answer tells how far it is.
    let now = async || Ok(client.rebalance().await?);
    let outcome = wait.stay(given, first, now).await?;
    let done = "primaries are spread as evenly as their replicas allow";
    wait.tell(&outcome, json!({ "rebalance": true }), done, out)
}

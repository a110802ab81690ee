//! `pegasus node drain|undrain`: emptying a node before it goes away, and letting it have replicas again.

use crate::connect::Connect;
use crate::exit::{Exit, Failed};
use crate::orders::{self, Wait};
use crate::output::Output;
use clap::Args;
use pegasus_client::Client;
use serde_json::json;
use std::time::Instant;

#[derive(Debug, Args)]
pub(crate) struct Drain {
    /// Number of the node
    node: u32,
    /// Move its replicas to other nodes too, not only the lead
    #[arg(long = "move")]
    move_replicas: bool,
    #[command(flatten)]
    wait: Wait,
}

#[derive(Debug, Args)]
pub(crate) struct Undrain {
    /// Number of the node
    node: u32,
}

pub(super) async fn drain(
    options: &Drain,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let Drain {
        node,
        move_replicas,
        wait,
    } = *options;
    let client = orders::client(connect).await?;
    expect_node(&client, node).await?;
    let given = Instant::now();
    let first = client.drain_node(node, move_replicas).await?;
    // The same order again changes nothing; its answer tells how far it is.
    let now = async || Ok(client.drain_node(node, move_replicas).await?);
    let outcome = wait.stay(given, first, now).await?;
    let order = json!({ "node": node, "draining": true, "move": move_replicas });
    let done = if move_replicas {
        format!("node {node} is empty, and gets nothing new until `pegasus node undrain {node}`")
    } else {
        format!(
            "node {node} leads nothing, and gets nothing new until `pegasus node undrain {node}`"
        )
    };
    wait.tell(&outcome, order, &done, out)
}

pub(super) async fn undrain(
    options: &Undrain,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let node = options.node;
    let client = orders::client(connect).await?;
    expect_node(&client, node).await?;
    let outcome = client.undrain_node(node).await?;
    let order = json!({ "node": node, "draining": false });
    let done = format!(
        "node {node} may have replicas again; what has left it does not come back by itself"
    );
    Wait::default().tell(&outcome, order, &done, out)
}

async fn expect_node(client: &Client, node: u32) -> anyhow::Result<()> {
    let known = client.list_nodes().await?.nodes;
    if known.iter().any(|it| it.node == node) {
        return Ok(());
    }
    let sentence = format!("there is no node {node}; `pegasus node list` has them");
    Err(Failed::error(Exit::NotFound, sentence))
}

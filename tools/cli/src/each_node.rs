//! A question to every node, which any core of it answers.

use crate::connect::Connect;
use crate::exit::{Exit, Failed};
use clap::Args;
use futures::future::join_all;
use pegasus_client::{Client, NodeInfo};
use std::time::Duration;

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Which {
    /// Only this node
    #[arg(long, value_name = "N")]
    node: Option<u32>,
}

/// What one node says.
pub(crate) struct Told<T> {
    pub(crate) node: u32,
    pub(crate) answer: Result<T, String>,
}

/// A node that does not answer is not waited for as long as meta.
const PATIENCE: Duration = Duration::from_secs(2);

/// A client that waits for a node no longer than it should.
pub(crate) async fn client(connect: &Connect) -> anyhow::Result<Client> {
    let patience = connect.timeout_or(PATIENCE);
    connect
        .client_with(|options| options.admin_timeout = patience)
        .await
}

/// Asks every node that is meant, by `ask_core` with the address of one of its cores.
///
/// # Errors
/// Meta does not answer, or there is no such node. That a node does not answer is in what it has told.
pub(crate) async fn ask<T>(
    client: &Client,
    which: Which,
    ask_core: impl AsyncFn(&str) -> pegasus_client::Result<T>,
) -> anyhow::Result<Vec<Told<T>>> {
    let mut nodes = client.list_nodes().await?.nodes;
    nodes.retain(|it| which.node.is_none_or(|only| only == it.node));
    if nodes.is_empty() {
        let sentence = match which.node {
            Some(node) => format!("there is no node {node}; `pegasus node list` has them"),
            None => "no node has registered with meta yet".to_owned(),
        };
        return Err(Failed::error(Exit::NotFound, sentence));
    }
    Ok(join_all(nodes.iter().map(|it| ask_node(it, &ask_core))).await)
}

/// The next core is asked when one does not answer.
async fn ask_node<T>(
    node: &NodeInfo,
    ask_core: &impl AsyncFn(&str) -> pegasus_client::Result<T>,
) -> Told<T> {
    let mut answer = Err(format!("gone for {} s", node.last_heartbeat.as_secs()));
    for core in node.cores.iter().filter(|_| node.alive) {
        answer = ask_core(&core.client_address)
            .await
            .map_err(|error| error.to_string());
        if answer.is_ok() {
            break;
        }
    }
    Told {
        node: node.node,
        answer,
    }
}

/// Nodes by number, as sentences name them.
pub(crate) fn names<T>(told: &[Told<T>], is_meant: impl Fn(&Told<T>) -> bool) -> Option<String> {
    let names: Vec<String> = told
        .iter()
        .filter(|it| is_meant(it))
        .map(|it| it.node.to_string())
        .collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// # Errors
/// A node has not answered.
pub(crate) fn check_answers<T>(told: &[Told<T>]) -> anyhow::Result<()> {
    match names(told, |it| it.answer.is_err()) {
        Some(silent) => {
            let sentence = format!("no answer from node {silent}");
            Err(Failed::error(Exit::Unavailable, sentence))
        }
        None => Ok(()),
    }
}

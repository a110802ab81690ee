//! `pegasus local add-node` and `remove-node`: a local cluster grows and shrinks while it serves.

use super::control::Cluster;
use super::place::Lock;
use super::{Place, show};
use crate::connect::Connect;
use crate::exit::{Exit, Failed};
use crate::nodes::drain::decommission_by;
use crate::orders::{self, Wait};
use crate::output::{Output, Style, note};
use clap::Args;
use std::time::Duration;

#[derive(Debug, Args)]
pub(crate) struct AddNode {
    #[command(flatten)]
    place: Place,
    /// Seconds to wait until it answers
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 60,
        allow_negative_numbers = true
    )]
    #[arg(value_parser = clap::value_parser!(u64).range(..=86_400))]
    wait: u64,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveNode {
    #[command(flatten)]
    place: Place,
    /// Number of the node: 3 for node-3
    number: u16,
    /// Seconds to wait until its replicas are elsewhere
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 3_600,
        allow_negative_numbers = true
    )]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    wait: u64,
}

pub(super) async fn add(options: &AddNode, out: &mut Output) -> anyhow::Result<()> {
    let mut cluster = options.place.cluster()?;
    let _lock = Lock::take(&cluster.dir)?;
    cluster.file.nodes += 1;
    cluster.file.check()?;
    cluster.file.save(&cluster.dir)?;
    let poll = cluster.file.poll().to_owned();
    cluster
        .start(&poll, Duration::from_secs(options.wait))
        .await?;
    let number = cluster.file.nodes;
    tell(&cluster, out).await?;
    note(format!(
        "node-{number} has joined; replicas and primaries are balanced onto it (`pegasus balance status`)"
    ));
    Ok(())
}

pub(super) async fn remove(options: &RemoveNode, out: &mut Output) -> anyhow::Result<()> {
    let mut cluster = options.place.cluster()?;
    let _lock = Lock::take(&cluster.dir)?;
    let name = format!("node-{}", options.number);
    let process = cluster.processes().find(|it| it.name == name);
    let Some(process) = process.filter(|_| options.number > 0) else {
        let sentence =
            format!("there is no {name} in this cluster; `pegasus local status` has them");
        return Err(Failed::error(Exit::NotFound, sentence));
    };
    let connect = Connect::new(cluster.file.meta_addresses(), None);
    let client = orders::client(&connect).await?;
    let address = cluster.first_address(&name);
    let nodes = client.list_nodes().await?.nodes;
    let is_it = |it: &&pegasus_client::NodeInfo| {
        let first = it.cores.first().map(|core| &core.client_address);
        first == address.as_ref()
    };
    // It may have been forgotten in an attempt before.
    if let Some(node) = nodes.iter().find(is_it) {
        let wait = Wait::seconds(options.wait);
        decommission_by(&client, node.node, wait, out).await?;
    }
    cluster.end_one(&process, Duration::from_secs(60)).await?;
    cluster.file.removed.push(options.number);
    cluster.file.save(&cluster.dir)?;
    cluster.delete_one(&process)?;
    tell(&cluster, out).await
}

async fn tell(cluster: &Cluster, out: &mut Output) -> anyhow::Result<()> {
    let status = cluster.status().await;
    match out.style {
        Style::Json => out.json(&status),
        Style::People => show(&status, out),
    }
}

//! `pegasus node list`.

use crate::connect::Connect;
use crate::output::{Output, Style, bytes, table};
use clap::Subcommand;
use pegasus_client::{ClusterInfo, CoreInfo, NodeInfo};
use serde_json::{Value, json};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// All nodes with their cores, addresses and replicas
    List,
}

pub(crate) async fn run(
    command: &Command,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let Command::List = command;
    let cluster = connect.client().await?.list_nodes().await?;
    match out.style {
        Style::Json => out.json(&cluster_json(&cluster)),
        Style::People => show(&cluster, out),
    }
}

fn show(cluster: &ClusterInfo, out: &mut Output) -> anyhow::Result<()> {
    out.line(format!("cluster {:032x}", cluster.cluster_id))?;
    let mut rows = table(
        &[
            "node",
            "state",
            "core",
            "cpu",
            "client address",
            "replicas",
            "primaries",
            "disk free",
            "host",
            "pid",
        ],
        &[0, 2, 3, 5, 6, 9],
    );
    for node in &cluster.nodes {
        for (index, core) in node.cores.iter().enumerate() {
            rows.add_row([
                node.node.to_string(),
                state(node),
                index.to_string(),
                core.cpu.to_string(),
                core.client_address.clone(),
                core.replicas.to_string(),
                core.primaries.to_string(),
                disk(node),
                node.host.clone(),
                node.pid.to_string(),
            ]);
        }
    }
    Ok(out.table(&rows)?)
}

/// `-` until the node has said so in a heartbeat.
fn disk(node: &NodeInfo) -> String {
    if node.disk_total == 0 {
        return "-".to_owned();
    }
    format!("{} of {}", bytes(node.disk_free), bytes(node.disk_total))
}

fn state(node: &NodeInfo) -> String {
    if node.alive {
        return "alive".to_owned();
    }
    format!("gone for {} s", node.last_heartbeat.as_secs())
}

fn cluster_json(cluster: &ClusterInfo) -> Value {
    json!({
        "cluster_id": format!("{:032x}", cluster.cluster_id),
        "nodes": cluster.nodes.iter().map(node_json).collect::<Vec<_>>(),
    })
}

fn node_json(node: &NodeInfo) -> Value {
    json!({
        "node": node.node,
        "alive": node.alive,
        "host": node.host,
        "pid": node.pid,
        "last_heartbeat_ms": u64::try_from(node.last_heartbeat.as_millis()).unwrap_or(u64::MAX),
        "stats_dir": node.stats_dir,
        "disk_total": node.disk_total,
        "disk_free": node.disk_free,
        "cores": node.cores.iter().map(core_json).collect::<Vec<_>>(),
    })
}

fn core_json(core: &CoreInfo) -> Value {
    json!({
        "client_address": core.client_address,
        "peer_address": core.peer_address,
        "cpu": core.cpu,
        "replicas": core.replicas,
        "primaries": core.primaries,
    })
}

//! `pegasus node list|drain|undrain|decommission|restart-plan|log-level`.

pub(crate) mod drain;
mod log_level;
pub(crate) mod restart_plan;

use crate::connect::Connect;
use crate::output::{Output, Style, bytes, table};
use clap::Subcommand;
use pegasus_client::{ClusterInfo, CoreInfo, NodeInfo};
use serde_json::{Value, json};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// All nodes with their cores, addresses and replicas
    List,
    /// Hand over everything that a node leads; with --move, move its replicas away too
    #[command(after_help = "\
For a restart, drain without --move: no request waits for a failover. Before a node goes for good, drain with --move and
--wait. A drained node gets nothing new until `node undrain`. The order is recorded and goes on by itself.

Examples:
  pegasus node drain 2 --wait
  pegasus node drain 2 --move --wait=3600   exit code 4 if it takes longer; it goes on")]
    Drain(drain::Drain),
    /// Let a drained node have replicas again
    Undrain(drain::Undrain),
    /// Empty a node for good; the cluster then forgets it
    #[command(after_help = "\
Its replicas are copied to other nodes; refused if one of them had no place to go, with the partitions. --wait shows how
much is left. The order goes on by itself, `node undrain` takes it back. A node that has died is forgotten in the same way.

Examples:
  pegasus node decommission 4 --wait
  pegasus node decommission 4 --wait=3600   exit code 4 if it takes longer; it goes on")]
    Decommission(drain::Decommission),
    /// Which node to restart next, and whether that is safe now
    #[command(after_help = restart_plan::AFTER_HELP)]
    RestartPlan,
    /// Which lines a node, or meta, logs
    #[command(after_help = log_level::AFTER_HELP)]
    LogLevel(log_level::LogLevel),
}

pub(crate) async fn run(
    command: &Command,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    match command {
        Command::List => list(connect, out).await,
        Command::Drain(options) => drain::drain(options, connect, out).await,
        Command::Undrain(options) => drain::undrain(options, connect, out).await,
        Command::Decommission(options) => drain::decommission(options, connect, out).await,
        Command::RestartPlan => restart_plan::run(connect, out).await,
        Command::LogLevel(options) => log_level::run(options, connect, out).await,
    }
}

async fn list(connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
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
            "release",
            "core",
            "cpu",
            "client address",
            "replicas",
            "primaries",
            "disk free",
            "host",
            "pid",
        ],
        &[0, 3, 4, 6, 7, 10],
    );
    for node in &cluster.nodes {
        for (index, core) in node.cores.iter().enumerate() {
            rows.add_row([
                node.node.to_string(),
                state(node),
                release(node),
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
    out.table(&rows)?;
    for node in cluster.nodes.iter().filter(|it| it.unknown_replicas > 0) {
        out.line(format!(
            "node {} keeps {} copies of tables that meta does not know",
            node.node, node.unknown_replicas
        ))?;
    }
    Ok(())
}

/// `-` until the node has said so in a heartbeat.
fn disk(node: &NodeInfo) -> String {
    if node.disk_total == 0 {
        return "-".to_owned();
    }
    format!("{} of {}", bytes(node.disk_free), bytes(node.disk_total))
}

/// `0.1.0 (1/1)`: the release, with the versions of the protocol and of its directory; `-` until it has said so.
fn release(node: &NodeInfo) -> String {
    node.program.as_ref().map_or("-".to_owned(), |it| {
        format!("{} ({}/{})", it.version, it.protocol, it.disk_format)
    })
}

fn state(node: &NodeInfo) -> String {
    let draining = match node {
        _ if node.is_decommissioned => ", leaves for good",
        _ if node.is_draining => ", draining",
        _ if node.is_leaving => ", stopping",
        _ => "",
    };
    if node.alive {
        return format!("alive{draining}");
    }
    format!("gone for {} s{draining}", node.last_heartbeat.as_secs())
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
        "draining": node.is_draining,
        "decommissioned": node.is_decommissioned,
        "leaving": node.is_leaving,
        "refuses_writes": node.refuses_writes,
        "clock_ahead_ms": node.clock_ahead_ms,
        "version": node.program.as_ref().map(|it| &it.version),
        "protocol": node.program.as_ref().map(|it| it.protocol),
        "disk_format": node.program.as_ref().map(|it| it.disk_format),
        "started_unix_ms": node.program.as_ref().map(|it| it.started_unix_ms),
        "unknown_replicas": node.unknown_replicas,
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

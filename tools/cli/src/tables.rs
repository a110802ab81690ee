//! `pegasus table create|list|show|drop`.

use crate::confirm::confirm;
use crate::connect::Connect;
use crate::output::{Output, Style, table};
use clap::{Args, Subcommand};
use pegasus_client::{CreateTable, MemberInfo, PartitionInfo, TableInfo};
use serde_json::{Value, json};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a table and wait until it serves
    #[command(after_help = "\
The partition count is fixed for the life of the table; 8 for each core of the cluster is a good start.

Examples:
  pegasus table create demo --partitions 8 --replicas 3
  pegasus table create scratch --partitions 2 --replicas 3 --allow-degraded   with fewer than 3 nodes")]
    Create(Create),
    /// All tables
    List,
    /// One table: its partitions, who holds them and how they are
    Show {
        /// Name of the table
        name: String,
    },
    /// Delete a table with all its rows
    Drop {
        /// Name of the table
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Letters, digits and _ . : -
    name: String,
    /// A power of two, 2 to 65536
    #[arg(long, allow_negative_numbers = true, value_parser = partition_count)]
    partitions: u32,
    /// Copies of each partition, on different nodes: 1 to 7
    #[arg(long, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=7))]
    replicas: u32,
    /// Create it even with fewer nodes than replicas
    #[arg(long)]
    allow_degraded: bool,
}

fn partition_count(text: &str) -> Result<u32, &'static str> {
    text.parse()
        .ok()
        .filter(|count: &u32| (2..=65_536).contains(count) && count.is_power_of_two())
        .ok_or("a table has a power of two of partitions, from 2 to 65536")
}

pub(crate) async fn run(
    command: Command,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    match command {
        Command::Create(options) => create(options, connect, out).await,
        Command::List => list(connect, out).await,
        Command::Show { name } => show(&name, connect, out).await,
        Command::Drop { name, yes } => drop_table(&name, yes, connect, out).await,
    }
}

async fn create(options: Create, connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    let wanted = CreateTable {
        name: options.name,
        partition_count: options.partitions,
        replica_count: options.replicas,
        allow_degraded: options.allow_degraded,
    };
    let client = connect.client().await?;
    let created = client.create_table(&wanted).await?;
    match out.style {
        Style::Json => out.json(&json!({
            "name": wanted.name, "table_id": created.table_id, "degraded": created.degraded,
        })),
        Style::People => {
            let degraded = if created.degraded {
                "; it has fewer replicas than asked for"
            } else {
                ""
            };
            Ok(out.line(format!(
                "created table {} (number {}){degraded}",
                wanted.name, created.table_id
            ))?)
        }
    }
}

async fn list(connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    let tables = connect.client().await?.list_tables().await?;
    if out.style == Style::Json {
        return out.json(&tables.iter().map(table_json).collect::<Vec<_>>());
    }
    if tables.is_empty() {
        out.line("no tables; `pegasus table create NAME --partitions 8 --replicas 3` makes one")?;
        return Ok(());
    }
    let mut rows = table(
        &[
            "table",
            "number",
            "partitions",
            "healthy",
            "replicas",
            "state",
        ],
        &[1, 2, 3, 4],
    );
    for info in &tables {
        rows.add_row([
            info.name.clone(),
            info.table_id.to_string(),
            info.partition_count.to_string(),
            info.healthy_partitions.to_string(),
            info.replica_count.to_string(),
            info.health.to_string(),
        ]);
    }
    Ok(out.table(&rows)?)
}

async fn show(name: &str, connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    let info = connect.client().await?.show_table(name).await?;
    if out.style == Style::Json {
        let mut shown = table_json(&info);
        shown["partitions"] = info.partitions.iter().map(partition_json).collect();
        return out.json(&shown);
    }
    out.line(format!(
        "table {} (number {}): {}, {} partitions ({} healthy), {} replicas",
        info.name,
        info.table_id,
        info.health,
        info.partition_count,
        info.healthy_partitions,
        info.replica_count
    ))?;
    let mut rows = table(
        &[
            "partition",
            "ballot",
            "state",
            "primary",
            "secondaries",
            "committed",
        ],
        &[0, 5],
    );
    for partition in &info.partitions {
        rows.add_row([
            partition.index.to_string(),
            ballot(partition.ballot),
            partition.health.to_string(),
            partition.primary.as_ref().map_or("none".to_owned(), member),
            partition
                .secondaries
                .iter()
                .map(member)
                .collect::<Vec<_>>()
                .join("\n"),
            partition
                .primary
                .as_ref()
                .map_or(String::new(), |primary| primary.committed.to_string()),
        ]);
    }
    Ok(out.table(&rows)?)
}

async fn drop_table(
    name: &str,
    yes: bool,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let client = connect.client().await?;
    // Asked first, so that nobody confirms the deletion of a table that is not there.
    client.show_table(name).await?;
    if !yes {
        confirm(&format!("Delete table {name} with all its rows?"))?;
    }
    let number = client.drop_table(name).await?;
    match out.style {
        Style::Json => out.json(&json!({ "name": name, "table_id": number, "dropped": true })),
        Style::People => Ok(out.line(format!("dropped table {name} (number {number})"))?),
    }
}

/// Epoch (16 bits) and counter (47 bits), as logs show them.
fn ballot(ballot: u64) -> String {
    const COUNTER_BITS: u32 = 47;
    format!(
        "{}|{}",
        ballot >> COUNTER_BITS,
        ballot & ((1 << COUNTER_BITS) - 1)
    )
}

/// `node 1 core 0 serving`, and why it does not.
fn member(member: &MemberInfo) -> String {
    let state = if member.alive {
        member.health.to_string()
    } else {
        "node is gone".to_owned()
    };
    let reason = if member.reason.is_empty() {
        String::new()
    } else {
        format!(" ({})", member.reason)
    };
    format!("node {} core {} {state}{reason}", member.node, member.core)
}

fn table_json(info: &TableInfo) -> Value {
    json!({
        "name": info.name,
        "table_id": info.table_id,
        "partition_count": info.partition_count,
        "replica_count": info.replica_count,
        "healthy_partitions": info.healthy_partitions,
        "state": info.health.to_string(),
        "created_unix_ms": info.created_unix_ms,
    })
}

fn partition_json(partition: &PartitionInfo) -> Value {
    json!({
        "partition": partition.index,
        "ballot": partition.ballot,
        "state": partition.health.to_string(),
        "primary": partition.primary.as_ref().map(member_json),
        "secondaries": partition.secondaries.iter().map(member_json).collect::<Vec<_>>(),
    })
}

fn member_json(member: &MemberInfo) -> Value {
    json!({
        "node": member.node,
        "core": member.core,
        "address": member.address,
        "alive": member.alive,
        "state": member.health.to_string(),
        "reason": member.reason,
        "committed": member.committed,
        "prepared": member.prepared,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pegasus_client::ReplicaHealth;

    #[test]
    fn a_ballot_reads_as_epoch_and_counter() {
        assert_eq!(ballot(7), "0|7");
        assert_eq!(ballot((2 << 47) | 5), "2|5");
        assert_eq!(ballot((1 << 47) - 1), "0|140737488355327");
    }

    #[test]
    fn a_member_out_of_service_says_why() {
        let mut info = MemberInfo {
            node: 2,
            core: 1,
            address: String::new(),
            alive: true,
            health: ReplicaHealth::Serving,
            reason: String::new(),
            committed: 0,
            prepared: 0,
        };
        assert_eq!(member(&info), "node 2 core 1 serving");
        info.health = ReplicaHealth::OutOfService;
        info.reason = "checksum mismatch".to_owned();
        assert_eq!(
            member(&info),
            "node 2 core 1 out of service (checksum mismatch)"
        );
        info.alive = false;
        assert_eq!(
            member(&info),
            "node 2 core 1 node is gone (checksum mismatch)"
        );
    }
}

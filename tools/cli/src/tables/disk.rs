//! `pegasus table disk`: what the replicas of a table take on disk.

use crate::connect::Connect;
use crate::output::{Output, Style, bytes, table};
use pegasus_client::{MemberInfo, PartitionInfo, TableInfo};
use serde_json::{Value, json};

pub(super) async fn run(name: &str, connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    let info = connect.client().await?.show_table(name).await?;
    match out.style {
        Style::Json => out.json(&table_json(&info)),
        Style::People => show(&info, out),
    }
}

fn members(partition: &PartitionInfo) -> impl Iterator<Item = &MemberInfo> {
    partition.primary.iter().chain(&partition.secondaries)
}

fn sum<'a>(members: impl Iterator<Item = &'a MemberInfo>) -> u64 {
    members.map(|it| it.bytes).sum()
}

/// Of one copy of the table, by its primaries.
fn primaries(info: &TableInfo) -> u64 {
    sum(info.partitions.iter().filter_map(|it| it.primary.as_ref()))
}

fn all(info: &TableInfo) -> u64 {
    sum(info.partitions.iter().flat_map(members))
}

fn show(info: &TableInfo, out: &mut Output) -> anyhow::Result<()> {
    out.line(format!(
        "table {}: {} in {} partitions, {} with all replicas",
        info.name,
        bytes(primaries(info)),
        info.partition_count,
        bytes(all(info))
    ))?;
    let mut rows = table(&["partition", "primary", "", "secondaries"], &[0, 2]);
    for partition in &info.partitions {
        let (place, size) = match &partition.primary {
            Some(it) => (place(it), bytes(it.bytes)),
            None => ("none".to_owned(), String::new()),
        };
        let others = partition.secondaries.iter();
        let others: Vec<String> = others
            .map(|it| format!("{} {}", self::place(it), bytes(it.bytes)))
            .collect();
        rows.add_row([partition.index.to_string(), place, size, others.join("\n")]);
    }
    Ok(out.table(&rows)?)
}

fn place(member: &MemberInfo) -> String {
    format!("node {} core {}", member.node, member.core)
}

fn table_json(info: &TableInfo) -> Value {
    let member = |it: &MemberInfo| json!({ "node": it.node, "core": it.core, "bytes": it.bytes });
    let partition = |it: &PartitionInfo| {
        json!({
            "partition": it.index,
            "primary": it.primary.as_ref().map(member),
            "secondaries": it.secondaries.iter().map(member).collect::<Vec<_>>(),
        })
    };
    json!({
        "name": info.name,
        "bytes": primaries(info),
        "bytes_of_all_replicas": all(info),
        "partitions": info.partitions.iter().map(partition).collect::<Vec<_>>(),
    })
}

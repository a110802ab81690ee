//! `pegasus node restart-plan`: which node to restart next, whether that is safe now, and if not, why.

use crate::connect::Connect;
use crate::exit::{Exit, Failed};
use crate::output::{Output, Style, table};
use crate::status::{Facts, span};
use pegasus_client::{Health, NodeInfo, TableInfo};
use serde_json::{Value, json};
use std::cmp::Reverse;

pub(super) const AFTER_HELP: &str = "\
Nodes of the oldest release come first, then those that have run the longest, so that the next one is always the first.
Restart it with `systemctl restart pegasus-replica` on its host (it hands over what it leads, no request is lost), then
ask again: the next one is due when everything is whole. `pegasus local restart --rolling` does all of it for a local
cluster. Exit code 0 if the next node can be restarted now, 4 if not.";

pub(super) async fn run(connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    let mut facts = Facts::collect(connect, false).await?;
    let client = connect.client().await?;
    for table in facts.tables.iter_mut().filter(|it| needs_all(it)) {
        *table = client.show_table(&table.name).await?;
    }
    let order = order(&facts);
    let hindrance = order.first().and_then(|node| hindrance(&facts, node));
    match out.style {
        Style::Json => out.json(&to_json(&order, hindrance.as_deref()))?,
        Style::People => show(&facts, &order, hindrance.as_deref(), out)?,
    }
    match hindrance {
        Some(_) => Err(Failed::told(Exit::Unavailable)),
        None => Ok(()),
    }
}

fn show(
    facts: &Facts,
    order: &[&NodeInfo],
    hindrance: Option<&str>,
    out: &mut Output,
) -> anyhow::Result<()> {
    let mut rows = table(&["node", "host", "release", "runs for"], &[0, 3]);
    for node in order {
        let program = node.program.as_ref();
        rows.add_row([
            node.node.to_string(),
            node.host.clone(),
            program.map_or("-".to_owned(), |it| it.version.clone()),
            program.map_or("-".to_owned(), |it| {
                span(facts.now_ms().saturating_sub(it.started_unix_ms))
            }),
        ]);
    }
    out.table(&rows)?;
    let Some(next) = order.first() else {
        return Ok(out.line("no node is alive")?);
    };
    let told = match hindrance {
        None => format!("next: node {}; it can be restarted now", next.node),
        Some(reason) => format!("next: node {}, but not now: {reason}", next.node),
    };
    Ok(out.line(told)?)
}

fn to_json(order: &[&NodeInfo], hindrance: Option<&str>) -> Value {
    let nodes = order.iter().map(|node| {
        json!({
            "node": node.node,
            "host": node.host,
            "version": node.program.as_ref().map(|it| &it.version),
            "started_unix_ms": node.program.as_ref().map(|it| it.started_unix_ms),
        })
    });
    json!({
        "next": order.first().map(|node| node.node),
        "safe_now": hindrance.is_none(),
        "why_not": hindrance,
        "nodes": nodes.collect::<Vec<_>>(),
    })
}

/// Nodes that are alive, in the order in which to restart them.
fn order(facts: &Facts) -> Vec<&NodeInfo> {
    let versions = facts.nodes.iter().filter_map(|it| it.program.as_ref());
    let newest = versions.map(|it| numbers(&it.version)).max();
    let mut nodes: Vec<&NodeInfo> = facts.nodes.iter().filter(|it| it.alive).collect();
    nodes.sort_by_key(|node| {
        let program = node.program.as_ref();
        let is_old = program.map(|it| numbers(&it.version)) != newest;
        (
            Reverse(is_old),
            program.map(|it| it.started_unix_ms),
            node.node,
        )
    });
    nodes
}

/// `0.10.1` is newer than `0.9`.
fn numbers(version: &str) -> Vec<u64> {
    let parts = version.split(|letter: char| !letter.is_ascii_digit());
    parts.filter_map(|part| part.parse().ok()).collect()
}

/// Why this node cannot be restarted now without anybody noticing.
pub(crate) fn hindrance(facts: &Facts, node: &NodeInfo) -> Option<String> {
    if let Some(reason) = facts.lacks() {
        return Some(reason);
    }
    let others = facts.nodes.iter().filter(|it| it.node != node.node);
    let mut going = others.filter(|it| it.alive && (it.is_leaving || it.is_draining));
    if let Some(other) = going.next() {
        return Some(format!(
            "node {} is being emptied or about to stop, what this one leads may find no place",
            other.node
        ));
    }
    let alone = facts
        .tables
        .iter()
        .filter(|it| needs_all(it) && is_on(it, node.node));
    let names: Vec<&str> = alone.map(|it| it.name.as_str()).collect();
    (!names.is_empty()).then(|| {
        format!(
            "table {} has no replica to spare: some of its partitions are away while the node restarts",
            names.join(", ")
        )
    })
}

/// With one member less its partitions take no writes.
fn needs_all(table: &TableInfo) -> bool {
    table.replica_count <= table.min_replicas.max(1)
}

fn is_on(table: &TableInfo, node: u32) -> bool {
    let members = table
        .partitions
        .iter()
        .flat_map(|it| it.primary.iter().chain(&it.secondaries));
    table.health != Health::Dropped && members.into_iter().any(|it| it.node == node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::fake;

    #[test]
    fn nodes_of_older_releases_come_first_and_then_the_oldest_processes() {
        let mut facts = fake::healthy(4);
        let programs = [
            ("0.10.0", 100),
            ("0.9.3", 300),
            ("0.10.0", 50),
            ("0.9.3", 200),
        ];
        for (node, (version, started)) in facts.nodes.iter_mut().zip(programs) {
            node.program = Some(fake::program(version, started));
        }
        let order: Vec<u32> = order(&facts).iter().map(|it| it.node).collect();
        assert_eq!(order, [4, 2, 3, 1]);
    }

    #[test]
    fn a_node_is_not_restarted_while_something_is_missing_or_another_one_goes() {
        let facts = fake::healthy(3);
        assert_eq!(hindrance(&facts, &facts.nodes[0]), None);
        let mut ill = facts.clone();
        ill.tables[0].health = Health::Degraded;
        assert!(hindrance(&ill, &ill.nodes[0]).is_some_and(|it| it.contains("table t")));
        let mut going = facts.clone();
        going.nodes[1].is_leaving = true;
        assert!(hindrance(&going, &going.nodes[0]).is_some_and(|it| it.contains("node 2")));
        assert_eq!(hindrance(&going, &going.nodes[1]), None);
    }

    #[test]
    fn a_table_without_a_replica_to_spare_is_named() {
        let mut facts = fake::healthy(3);
        facts.tables[0].replica_count = 1;
        facts.tables[0].min_replicas = 1;
        let reason = hindrance(&facts, &facts.nodes[0]);
        assert!(reason.is_some_and(|it| it.contains("table t has no replica to spare")));
    }
}

//! The replicas of one core by table, as meta knows them.

use futures::future::join_all;
use pegasus_client::{Client, MemberInfo, ReplicaHealth, TableInfo};
use serde::Serialize;
use std::collections::BTreeMap;

/// What a core has of one table: indexes of partitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct TableShare {
    pub(super) table: String,
    pub(super) primaries: Vec<u32>,
    pub(super) secondaries: Vec<u32>,
    /// Replicas that do not work, each with its reason.
    pub(super) troubled: Vec<String>,
}

/// Names of all tables by number, and what this core has of each; none if meta does not tell.
pub(super) async fn of_core(
    client: &Client,
    node: u32,
    core: u32,
) -> (BTreeMap<u32, String>, Option<Vec<TableShare>>) {
    /// Every table is one question to meta.
    const TABLES_MAX: usize = 64;
    let Ok(tables) = client.list_tables().await else {
        return (BTreeMap::new(), None);
    };
    let names = tables
        .iter()
        .map(|table| (table.table_id, table.name.clone()))
        .collect();
    if tables.len() > TABLES_MAX {
        return (names, None);
    }
    let asked = tables.iter().map(|table| client.show_table(&table.name));
    // A table that was dropped meanwhile has no replicas any more.
    let shares = join_all(asked).await.into_iter().flatten();
    let shares = shares.filter_map(|table| share(&table, node, core));
    (names, Some(shares.collect()))
}

/// `None` if the core has no replica of the table.
fn share(table: &TableInfo, node: u32, core: u32) -> Option<TableShare> {
    let is_here = |member: &&MemberInfo| member.node == node && member.core == core;
    let mut share = TableShare {
        table: table.name.clone(),
        primaries: Vec::new(),
        secondaries: Vec::new(),
        troubled: Vec::new(),
    };
    for partition in &table.partitions {
        let primary = partition.primary.iter().find(is_here);
        let secondary = partition.secondaries.iter().find(is_here);
        if primary.is_some() {
            share.primaries.push(partition.index);
        }
        if secondary.is_some() {
            share.secondaries.push(partition.index);
        }
        if let Some(member) = primary.or(secondary).filter(|member| is_troubled(member)) {
            share.troubled.push(trouble(partition.index, member));
        }
    }
    let has_some = !share.primaries.is_empty() || !share.secondaries.is_empty();
    has_some.then_some(share)
}

fn is_troubled(member: &MemberInfo) -> bool {
    !member.alive || !matches!(member.health, ReplicaHealth::Ready | ReplicaHealth::Serving)
}

fn trouble(partition: u32, member: &MemberInfo) -> String {
    let state = match member.alive {
        true => member.health.to_string(),
        false => "node is gone".to_owned(),
    };
    match member.reason.is_empty() {
        true => format!("partition {partition}: {state}"),
        false => format!("partition {partition}: {state} ({})", member.reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pegasus_client::{Health, PartitionInfo};

    fn member(node: u32, health: ReplicaHealth) -> MemberInfo {
        MemberInfo {
            node,
            core: 0,
            address: String::new(),
            alive: true,
            health,
            reason: String::new(),
            committed: 0,
            prepared: 0,
            since_unix_ms: None,
            bytes: 0,
        }
    }

    #[test]
    fn a_core_has_its_own_replicas_and_those_that_do_not_work_are_named() {
        let partition = |index, primary, secondary| PartitionInfo {
            learner: None,
            degraded_since_unix_ms: None,
            backoffs: Vec::new(),
            moving: String::new(),
            index,
            ballot: 1,
            health: Health::Healthy,
            primary: Some(member(primary, ReplicaHealth::Serving)),
            secondaries: vec![member(secondary, ReplicaHealth::OutOfService)],
        };
        let table = TableInfo {
            min_replicas: 0,
            table_id: 1,
            name: "t".to_owned(),
            partition_count: 3,
            replica_count: 2,
            health: Health::Healthy,
            healthy_partitions: 3,
            created_unix_ms: 0,
            dropped_unix_ms: 0,
            kept_until_unix_ms: 0,
            partitions: vec![partition(0, 1, 2), partition(1, 2, 1), partition(2, 3, 2)],
        };
        let expected = TableShare {
            table: "t".to_owned(),
            primaries: vec![0],
            secondaries: vec![1],
            troubled: vec!["partition 1: out of service".to_owned()],
        };
        assert_eq!(share(&table, 1, 0), Some(expected));
        assert_eq!(share(&table, 1, 5), None);
    }
}

//! A change in words, for whoever looks into an export.

use crate::state::{Change, Partition, Table};
use pegasus_replication::config::{Member, Stage};

pub(super) fn words(change: &Change) -> String {
    match change {
        Change::Cluster(it) => format!("cluster {} {}, epoch {}", it.id, it.name, it.epoch),
        Change::Counters(it) => format!(
            "next numbers: node {}, table {}, replica {}",
            it.next_node, it.next_table, it.next_incarnation
        ),
        Change::NodeJoined(it) => {
            let cores = it.cores.iter().map(|core| core.client_address.as_str());
            let cores: Vec<&str> = cores.collect();
            format!("node {} on {}: {}", it.id, it.host, cores.join(" "))
        }
        Change::TableCreated(it) => table(it),
        Change::PartitionsChanged { table, partitions } => {
            let all = partitions.iter().map(|(index, it)| partition(*index, it));
            format!(
                "table {table}, what is planned: {}",
                all.collect::<Vec<_>>().join("; ")
            )
        }
        Change::TableEnvs { table, envs } => {
            let all = envs.iter().map(|(key, value)| format!("{key}={value}"));
            format!(
                "table {table}, settings: {}",
                all.collect::<Vec<_>>().join(" ")
            )
        }
        Change::TableKept {
            table,
            at_ms,
            until_ms,
        } => {
            format!("table {table}, dropped at {at_ms} ms, can be recalled until {until_ms} ms")
        }
        other => format!("{other:?}"),
    }
}

fn table(it: &Table) -> String {
    let dropped = it.dropped_ms.map(|at| format!(", dropped at {at} ms"));
    let partitions = it.indexed().map(|(index, it)| partition(index, it));
    format!(
        "table {} {}, {} partitions of {} replicas, created at {} ms{}: {}",
        it.id,
        it.name,
        it.partition_count,
        it.replica_count,
        it.created_ms,
        dropped.unwrap_or_default(),
        partitions.collect::<Vec<_>>().join("; ")
    )
}

/// "0 at 1|7 on 2/0#11 3/1#12 1/0#14": ballot, then node, core and number of each member, the primary first.
fn partition(index: u32, it: &Partition) -> String {
    let members = it.members().map(member);
    let members: Vec<String> = members.collect();
    let stage = match it.stage {
        Stage::Creating => " (being made)",
        Stage::Active => "",
    };
    let learner = it
        .learner
        .map(|it| format!(", {} learns", member(&it.member)));
    format!(
        "{index} at {}{stage} on {}{}",
        it.ballot,
        members.join(" "),
        learner.unwrap_or_default()
    )
}

fn member(it: &Member) -> String {
    format!("{}#{}", it.address, it.incarnation)
}

//! `pegasus table move`: another primary, or a replica on another core.

use super::shown;
use crate::connect::Connect;
use crate::cores::name::{CoreName, NodeName};
use crate::exit::{Exit, Failed};
use crate::orders::{self, Wait};
use crate::output::Output;
use clap::Args;
use pegasus_client::{ChangeOutcome, Client, MemberInfo, PartitionInfo};
use serde_json::json;
use std::time::Instant;

#[derive(Debug, Args)]
#[group(id = "what", required = true, multiple = true, args = ["primary_to", "replica_from"])]
pub(crate) struct Move {
    /// Name of the table
    name: String,
    /// Index of the partition, from 0
    partition: u32,
    /// Make the secondary on this node the primary
    #[arg(long, value_name = "NODE[/CORE]", conflicts_with_all = ["replica_from", "replica_to"])]
    primary_to: Option<NodeName>,
    /// Move the replica that this node has
    #[arg(long, value_name = "NODE[/CORE]", requires = "replica_to")]
    replica_from: Option<NodeName>,
    /// to this core
    #[arg(long, value_name = "NODE/CORE", requires = "replica_from")]
    replica_to: Option<CoreName>,
    #[command(flatten)]
    wait: Wait,
}

pub(super) async fn run(options: &Move, connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    let client = orders::client(connect).await?;
    match (options.primary_to, options.replica_from, options.replica_to) {
        (Some(to), ..) => lead(options, to, &client, out).await,
        (None, Some(from), Some(to)) => replace(options, from, to, &client, out).await,
        _ => Err(Failed::usage(
            "--primary-to, or --replica-from and --replica-to",
        )),
    }
}

async fn lead(
    options: &Move,
    to: NodeName,
    client: &Client,
    out: &mut Output,
) -> anyhow::Result<()> {
    let Move {
        name, partition, ..
    } = options;
    let member = member_at(options, to, &look(options, client).await?)?;
    let given = Instant::now();
    let first = client.move_primary(name, *partition, to.node).await?;
    let now = async || {
        let now = look(options, client).await?;
        let leads = now.primary.as_ref().is_some_and(|it| it.node == to.node);
        progress(options, &now, leads)
    };
    let outcome = options.wait.stay(given, first, now).await?;
    let order = json!({ "table": name, "partition": partition, "primary": core_json(&member) });
    let CoreName { node, core } = at(&member);
    let done =
        format!("partition {partition} of {name} has its primary on node {node} core {core}");
    options.wait.tell(&outcome, order, &done, out)
}

async fn replace(
    options: &Move,
    from: NodeName,
    to: CoreName,
    client: &Client,
    out: &mut Output,
) -> anyhow::Result<()> {
    let Move {
        name, partition, ..
    } = options;
    let old = member_at(options, from, &look(options, client).await?)?;
    let target = (to.node, to.core);
    let given = Instant::now();
    let first = client
        .move_replica(name, *partition, from.node, target)
        .await?;
    let now = async || {
        let now = look(options, client).await?;
        let is_there = |core: CoreName| members(&now).any(|it| at(it) == core);
        progress(options, &now, is_there(to) && !is_there(at(&old)))
    };
    let outcome = options.wait.stay(given, first, now).await?;
    let order = json!({
        "table": name, "partition": partition,
        "from": core_json(&old), "to": { "node": to.node, "core": to.core },
    });
    let CoreName { node, core } = at(&old);
    let done = format!(
        "partition {partition} of {name} has moved from node {node} core {core} to node {} core {}",
        to.node, to.core
    );
    options.wait.tell(&outcome, order, &done, out)
}

/// The partition as meta sees it now.
async fn look(options: &Move, client: &Client) -> anyhow::Result<PartitionInfo> {
    let mut table = client.show_table(&options.name).await?;
    let count = table.partition_count;
    let index = options.partition;
    let at = table.partitions.iter().position(|it| it.index == index);
    at.map(|at| table.partitions.swap_remove(at))
        .ok_or_else(|| {
            let name = &options.name;
            let sentence =
                format!("table {name} has {count} partitions from 0, and no partition {index}");
            Failed::error(Exit::NotFound, sentence)
        })
}

/// An order that is not recorded any more and has not done its work was given up.
fn progress(options: &Move, now: &PartitionInfo, is_done: bool) -> anyhow::Result<ChangeOutcome> {
    if !is_done && now.moving.is_empty() {
        let Move {
            name, partition, ..
        } = options;
        let sentence = format!(
            "meta has given up moving partition {partition} of {name}; `pegasus table show {name}` and meta's log tell more"
        );
        return Err(Failed::error(Exit::Failed, sentence));
    }
    let learner = now.learner.as_ref();
    let waits_for = match learner {
        _ if is_done => String::new(),
        Some(it) => shown::learner(it, now.primary.as_ref(), shown::now_ms()),
        None => now.moving.clone(),
    };
    Ok(ChangeOutcome { is_done, waits_for })
}

fn members(partition: &PartitionInfo) -> impl Iterator<Item = &MemberInfo> {
    partition.primary.iter().chain(&partition.secondaries)
}

fn at(member: &MemberInfo) -> CoreName {
    CoreName {
        node: member.node,
        core: member.core,
    }
}

fn member_at(options: &Move, name: NodeName, now: &PartitionInfo) -> anyhow::Result<MemberInfo> {
    let mut all = members(now);
    let fits = |it: &&MemberInfo| it.node == name.node && name.core.is_none_or(|c| c == it.core);
    let found = all.find(fits).cloned();
    found.ok_or_else(|| {
        let held: Vec<String> = members(now).map(|it| at(it).to_string()).collect();
        let sentence = format!(
            "partition {} of {} has no replica there; it has {}",
            options.partition,
            options.name,
            held.join(", ")
        );
        Failed::error(Exit::NotFound, sentence)
    })
}

fn core_json(member: &MemberInfo) -> serde_json::Value {
    json!({ "node": member.node, "core": member.core })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::exit::exit_of;
    use clap::Parser;
    use pegasus_client::Health;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Move,
    }

    fn parsed(line: &str) -> Option<Move> {
        let words = ["move"].into_iter().chain(line.split_whitespace());
        Line::try_parse_from(words).ok().map(|it| it.options)
    }

    #[test]
    fn a_move_names_a_new_primary_or_both_ends_of_a_replicas_way() {
        let lead = parsed("t 3 --primary-to 2").unwrap();
        assert_eq!(
            lead.primary_to,
            Some(NodeName {
                node: 2,
                core: None
            })
        );
        let away = parsed("t 3 --replica-from 1 --replica-to 4/0 --wait=5").unwrap();
        assert_eq!(away.replica_to, Some(CoreName { node: 4, core: 0 }));
        for refused in [
            "t 3",
            "t --primary-to 2",
            "t 3 --replica-from 1",
            "t 3 --replica-to 4/0",
            "t 3 --replica-from 1 --replica-to 4",
            "t 3 --primary-to 2 --replica-from 1 --replica-to 4/0",
            "t 3 --primary-to 2 --wait 5",
        ] {
            assert!(parsed(refused).is_none(), "{refused}");
        }
    }

    fn partition(moving: &str) -> PartitionInfo {
        PartitionInfo {
            index: 3,
            ballot: 1,
            health: Health::Healthy,
            primary: None,
            secondaries: Vec::new(),
            learner: None,
            degraded_since_unix_ms: None,
            backoffs: Vec::new(),
            moving: moving.to_owned(),
        }
    }

    #[test]
    fn an_order_that_meta_has_forgotten_unfinished_was_given_up() {
        let options = parsed("t 3 --primary-to 2").unwrap();
        let error = progress(&options, &partition(""), false).unwrap_err();
        assert_eq!(exit_of(&error), Exit::Failed);
        assert!(error.to_string().contains("given up"), "{error}");
        let waits = progress(&options, &partition("leads soon"), false).unwrap();
        assert_eq!((waits.is_done, &waits.waits_for[..]), (false, "leads soon"));
        assert!(progress(&options, &partition(""), true).unwrap().is_done);
    }

    #[test]
    fn a_replica_that_is_not_there_is_not_found() {
        let options = parsed("t 3 --primary-to 2/1").unwrap();
        let to = options.primary_to.unwrap();
        let error = member_at(&options, to, &partition("")).unwrap_err();
        assert_eq!(exit_of(&error), Exit::NotFound);
    }
}

//! `pegasus meta list|add|remove`: the metas of a cluster that has several.

use crate::connect::Connect;
use crate::output::{Output, Style, table};
use clap::{Args, Subcommand};
use pegasus_client::{MetaChange, MetaInfo};
use serde_json::{Value, json};
use std::net::SocketAddr;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show them: who leads, and who answers
    List,
    /// Add a member that was made by `pegasus-meta init --member NUMBER --join CLUSTER` and runs
    #[command(after_help = "\
  pegasus meta add 2 10.0.0.2:35601

Returns once it has everything and votes. A number is used once: a member that has lost its directory is removed, and
comes back under a new one.")]
    Add(Add),
    /// Remove a member, alive or not; stop its process afterwards
    Remove {
        /// Its number
        member: u64,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// Its number
    member: u64,
    /// Where its peers reach it: ip:port
    peer_address: SocketAddr,
}

pub(crate) async fn run(
    command: &Command,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let client = connect.client().await?;
    let change = match command {
        Command::List => None,
        Command::Add(add) => Some(MetaChange::Add {
            member: add.member,
            peer_address: add.peer_address.to_string(),
        }),
        Command::Remove { member } => Some(MetaChange::Remove { member: *member }),
    };
    if let Some(change) = change {
        client.change_metas(&change).await?;
    }
    let cluster = client.cluster().await?;
    match out.style {
        Style::Json => {
            let metas: Vec<Value> = cluster.metas.iter().map(to_json).collect();
            out.json(&json!({ "term": cluster.term, "metas": metas }))
        }
        Style::People if cluster.metas.is_empty() => {
            Ok(out.line("one meta, which keeps its state alone")?)
        }
        Style::People => show(&cluster.metas, out),
    }
}

fn to_json(it: &MetaInfo) -> Value {
    json!({
        "member": it.member,
        "address": it.address,
        "peer_address": it.peer_address,
        "leads": it.leads,
        "up": it.is_up,
        "learner": it.is_learner,
    })
}

fn show(metas: &[MetaInfo], out: &mut Output) -> anyhow::Result<()> {
    let mut rows = table(&["member", "address", "peers", "state"], &[0]);
    for it in metas {
        let state = match (it.leads, it.is_learner, it.is_up) {
            (true, ..) => "leads",
            (_, true, _) => "is brought up to date",
            (.., Some(true)) => "follows",
            (.., Some(false)) => "down",
            (.., None) => "not known",
        };
        rows.add_row([
            it.member.to_string(),
            it.address.clone(),
            it.peer_address.clone(),
            state.to_owned(),
        ]);
    }
    Ok(out.table(&rows)?)
}

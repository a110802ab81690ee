//! `pegasus backup ..`: make backups of tables, look at them, check them, delete them; policies make them by the clock.

mod policy;
mod share;
mod shown;
pub(crate) mod site;

use crate::confirm::confirm;
use crate::connect::Connect;
use crate::exit::{Exit, Failed};
use crate::output::{Output, Style, bytes};
use clap::{Args, Subcommand};
use pegasus_backup::catalog;
use pegasus_backup::pace::Pace;
use pegasus_client::{BackupInfo, BackupPhase};
use pegasus_host::units::ByteSize;
use serde_json::json;
use share::Share;
use site::Place;
use std::time::Duration;

pub(crate) use share::Share as Bar;

/// How often whoever waits looks.
const LOOK_EVERY: Duration = Duration::from_millis(300);

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Back up a table now
    #[command(after_help = "\
Each partition is in the backup as it was at one decree of its own; partitions are not in step with each other. A backup of a
table that has one at the same place already moves only what has changed since then.

  pegasus backup create users --target local --wait
  pegasus backup create users --target local --budget 20M   at most 20 MB/s from each node")]
    Create(Create),
    /// Backups that the cluster knows, or those that lie at a target
    List(List),
    /// One backup, with its partitions
    Show(One),
    /// Read a whole backup back and check every file against its list
    Verify(Verify),
    /// Delete a backup and all its files, for good
    Delete(Delete),
    /// Stop a running backup; its files are deleted
    Cancel {
        /// Its number
        id: u64,
    },
    /// Backups by the clock
    #[command(subcommand)]
    Policy(policy::Command),
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The table
    table: String,
    /// A target in the configuration of the cluster
    #[arg(long, value_name = "NAME")]
    target: String,
    /// The directory below the target [default: the name of the cluster]
    #[arg(long, value_name = "DIRECTORY")]
    root: Option<String>,
    /// At most so many bytes a second from each node, such as 20M [default: as nodes are configured]
    #[arg(long, value_name = "BYTES")]
    budget: Option<ByteSize>,
    /// Stay until it is complete; leaving (Ctrl-C) stops nothing
    #[arg(long)]
    wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only of this table
    #[arg(long)]
    table: Option<String>,
    /// Only those of this policy; of a cluster
    #[arg(long)]
    policy: Option<String>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// Its number
    id: u64,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    one: One,
    /// At most so many bytes a second, such as 20M
    #[arg(long, value_name = "BYTES")]
    budget: Option<ByteSize>,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    one: One,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn run(
    command: &Command,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    match command {
        Command::Create(options) => create(options, connect, out).await,
        Command::List(options) => list(options, connect, out).await,
        Command::Show(one) => show(one, connect, out).await,
        Command::Verify(options) => verify(options, connect, out).await,
        Command::Delete(options) => delete(options, connect, out).await,
        Command::Cancel { id } => {
            connect.client().await?.cancel_backup(*id).await?;
            told("cancelled", *id, out)
        }
        Command::Policy(command) => policy::run(command, connect, out).await,
    }
}

fn told(what: &str, id: u64, out: &mut Output) -> anyhow::Result<()> {
    match out.style {
        Style::Json => out.json(&json!({ "backup": id, what: true })),
        Style::People => Ok(out.line(format!("backup {id} {what}"))?),
    }
}

async fn create(options: &Create, connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    let client = connect.client().await?;
    let root = options.root.as_deref().unwrap_or_default();
    let budget = options.budget.map_or(0, |it| it.0);
    let id = client
        .start_backup(&options.table, &options.target, root, budget)
        .await?;
    if !options.wait {
        return match out.style {
            Style::Json => out.json(&json!({ "backup": id })),
            Style::People => Ok(out.line(format!(
                "backup {id} of {} has begun; `pegasus backup show {id}` tells how far it is",
                options.table
            ))?),
        };
    }
    let share = Share::new();
    loop {
        let info = client.backup(id).await?;
        if !matches!(info.phase, BackupPhase::Running | BackupPhase::Recording) {
            share.finish();
            return ended(&info, out);
        }
        let done = format!(
            "{} of {} partitions",
            info.partitions_done, info.partition_count
        );
        share.update(info.bytes_done, info.bytes_total, &done);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn ended(info: &BackupInfo, out: &mut Output) -> anyhow::Result<()> {
    if info.phase != BackupPhase::Complete {
        let words = shown::phase(info.phase);
        let message = format!("backup {}: {words}: {}", info.id, info.message);
        return Err(Failed::error(Exit::Failed, message));
    }
    match out.style {
        Style::Json => out.json(&shown::json_of(info)),
        Style::People => Ok(out.line(format!(
            "backup {} is complete: {} at the target, {} of them sent",
            info.id,
            bytes(info.bytes_total),
            bytes(info.bytes_sent)
        ))?),
    }
}

async fn list(options: &List, connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    if options.place.target.is_some() {
        if options.policy.is_some() && options.place.is_url() {
            return Err(Failed::usage(
                "--policy is about what the cluster knows, not about what lies at a target",
            ));
        }
        return list_target(options, connect, out).await;
    }
    let table = options.table.as_deref().unwrap_or_default();
    let policy = options.policy.as_deref().unwrap_or_default();
    let known = connect.client().await?.backups(table, policy, 0).await?;
    shown::backups(&known.backups, out)
}

async fn list_target(options: &List, connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    let (target, roots) = options.place.open(connect).await?;
    let mut found = Vec::new();
    for root in &roots {
        for backup in catalog::list(&target, root).await? {
            let tables = backup.info.as_ref().map(|it| it.tables());
            let has = |name: &String| tables.iter().flatten().any(|(_, it)| it == name);
            if options.table.as_ref().is_none_or(has) {
                found.push((root.clone(), backup));
            }
        }
    }
    shown::found(&found, out)
}

async fn show(one: &One, connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    if one.place.target.is_none() {
        let info = connect.client().await?.backup(one.id).await?;
        return shown::backup(&info, out);
    }
    let (target, root) = one.place.find(one.id, connect).await?;
    let contents = catalog::show(&target, &root, one.id).await?;
    shown::contents(one.id, &contents, out)
}

/// The same place with what the cluster knows of the backup, if no target is named.
async fn place_of(one: &One, connect: &Connect) -> anyhow::Result<Place> {
    let mut place = one.place.clone();
    if place.target.is_none() {
        let info = connect.client().await?.backup(one.id).await?;
        place.target = Some(info.target);
        place.root = Some(info.root);
    }
    Ok(place)
}

async fn verify(options: &Verify, connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    let one = &options.one;
    let place = place_of(one, connect).await?;
    let (target, root) = place.find(one.id, connect).await?;
    let contents = catalog::show(&target, &root, one.id).await?;
    let partitions = contents.tables.iter().flat_map(|table| &table.partitions);
    let lists = partitions.filter_map(|it| it.current.as_ref());
    let total: u64 = lists
        .flat_map(|(_, list)| &list.files)
        .map(|file| file.bytes())
        .sum();
    let pace = Pace::new(options.budget.map_or(0, |it| it.0));
    let share = Share::new();
    let mut done = 0;
    let mut seen = |more: u64| {
        done += more;
        share.update(done, total, "read");
    };
    let verified = catalog::verify(&target, &root, one.id, &pace, &mut seen).await?;
    share.finish();
    shown::verified(one.id, &verified, out)?;
    if verified.faults.is_empty() {
        Ok(())
    } else {
        Err(Failed::told(Exit::Failed))
    }
}

async fn delete(options: &Delete, connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    let one = &options.one;
    let ask = |what: &str| {
        if options.yes {
            return Ok(());
        }
        confirm(&format!("Delete {what} and all its files, for good?"))
    };
    if one.place.target.is_none() {
        let client = connect.client().await?;
        let info = client.backup(one.id).await?;
        ask(&format!(
            "backup {} of table {} at {}",
            info.id, info.table, info.target
        ))?;
        client.delete_backup(one.id).await?;
        return told("deleted", one.id, out);
    }
    let (target, root) = one.place.find(one.id, connect).await?;
    ask(&format!("backup {} at {}/{root}", one.id, target.name()))?;
    catalog::delete(&target, &root, one.id).await?;
    told("deleted", one.id, out)
}

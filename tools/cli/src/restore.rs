//! `pegasus restore`: a new table from a backup.

use crate::backup::Bar;
use crate::connect::Connect;
use crate::exit::{Exit, Failed};
use crate::output::{Output, Style, table};
use crate::text;
use clap::{Args, Subcommand};
use pegasus_client::{Client, RestoreInfo, RestoreRequest, WorkState};
use serde_json::{Value, json};
use std::time::Duration;

const LOOK_EVERY: Duration = Duration::from_millis(300);

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Restore {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// How far the restore of a table is
    Status {
        /// The new table
        table: String,
    },
}

#[derive(Debug, Args)]
struct Options {
    /// A target in the configuration of the cluster
    #[arg(long, value_name = "NAME", required = true)]
    target: Option<String>,
    /// The directory below the target; of a backup of another cluster, usually its name [default: the name of this cluster]
    #[arg(long, value_name = "DIRECTORY")]
    root: Option<String>,
    /// The number of the backup
    #[arg(long, value_name = "ID", required = true)]
    backup: Option<u64>,
    /// The table that was backed up
    #[arg(long, value_name = "NAME", required = true)]
    table: Option<String>,
    /// Its number, where a backup has several of that name
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    table_id: u32,
    /// The name of the new table [default: the old one]
    #[arg(long = "as", value_name = "NAME")]
    new_name: Option<String>,
    /// A partition whose backup is damaged comes up empty, and is named
    #[arg(long)]
    skip_bad_partition: bool,
    /// How many replicas each partition is to have [default: as it was]
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    replicas: u32,
    /// Fewer nodes than replicas are enough
    #[arg(long)]
    allow_degraded: bool,
    /// Stay until the table serves; leaving (Ctrl-C) stops nothing
    #[arg(long)]
    wait: bool,
}

pub(crate) async fn run(
    restore: &Restore,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    if let Some(Command::Status { table }) = &restore.command {
        let info = connect.client().await?.restore_status(table).await?;
        return show(&info, out);
    }
    let options = &restore.options;
    let request = RestoreRequest {
        target: options.target.clone().unwrap_or_default(),
        root: options.root.clone().unwrap_or_default(),
        backup_id: options.backup.unwrap_or_default(),
        table: options.table.clone().unwrap_or_default(),
        table_id: options.table_id,
        new_name: options.new_name.clone().unwrap_or_default(),
        skips_bad: options.skip_bad_partition,
        replica_count: options.replicas,
        allow_degraded: options.allow_degraded,
    };
    let client = connect.client().await?;
    let (id, name) = client.start_restore(&request).await?;
    if options.wait {
        return wait(&client, &name, out).await;
    }
    match out.style {
        Style::Json => out.json(&json!({ "table": name, "table_id": id })),
        Style::People => Ok(out.line(format!(
            "table {name} (#{id}) is being restored; `pegasus restore status {name}` tells how far it is"
        ))?),
    }
}

async fn wait(client: &Client, name: &str, out: &mut Output) -> anyhow::Result<()> {
    let bar = Bar::new();
    loop {
        let info = client.restore_status(name).await?;
        let done = info
            .partitions
            .iter()
            .filter(|it| it.state == WorkState::Done);
        let (bytes_done, bytes_total) = info
            .partitions
            .iter()
            .fold((0, 0), |(a, b), it| (a + it.bytes_done, b + it.bytes_total));
        match info.state {
            WorkState::Done => {
                bar.finish();
                return show(&info, out);
            }
            WorkState::Failed | WorkState::Cancelled => {
                bar.finish();
                let why = if info.message.is_empty() {
                    "the table was dropped"
                } else {
                    &info.message
                };
                let message = format!(
                    "table {name} could not be restored: {why}; `pegasus table drop {name}` removes what there is of it"
                );
                return Err(Failed::error(Exit::Failed, message));
            }
            WorkState::NotBegun | WorkState::Running => {}
        }
        let sentence = format!("{} of {} partitions", done.count(), info.partitions.len());
        bar.update(bytes_done, bytes_total, &sentence);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn show(info: &RestoreInfo, out: &mut Output) -> anyhow::Result<()> {
    if out.style == Style::Json {
        return out.json(&json_of(info));
    }
    let done = info
        .partitions
        .iter()
        .filter(|it| it.state == WorkState::Done);
    out.line(format!(
        "table {} (#{}) from backup {} of {} (#{}) at {}/{}: {}, {} of {} partitions",
        info.table,
        info.table_id,
        info.backup_id,
        info.old_table,
        info.old_table_id,
        info.target,
        info.root,
        words(info.state),
        done.count(),
        info.partitions.len()
    ))?;
    if !info.message.is_empty() {
        out.line(text::escape(info.message.as_bytes()))?;
    }
    let unusual =
        |it: &&pegasus_client::PartitionRestore| it.state != WorkState::Done || it.is_skipped;
    let unusual: Vec<_> = info.partitions.iter().filter(unusual).collect();
    if unusual.is_empty() {
        return Ok(());
    }
    let mut shown = table(&["Partition", "State", "Node", "Done", "Error"], &[0, 2, 3]);
    for it in unusual {
        let state = if it.is_skipped {
            "skipped, empty"
        } else {
            words(it.state)
        };
        shown.add_row([
            it.index.to_string(),
            state.to_owned(),
            it.node.to_string(),
            format!("{}.{} %", it.permille / 10, it.permille % 10),
            text::escape(it.error.as_bytes()),
        ]);
    }
    Ok(out.table(&shown)?)
}

const fn words(state: WorkState) -> &'static str {
    match state {
        WorkState::NotBegun => "waiting",
        WorkState::Running => "running",
        WorkState::Done => "done",
        WorkState::Failed => "failed",
        WorkState::Cancelled => "cancelled",
    }
}

fn json_of(info: &RestoreInfo) -> Value {
    let partitions = info.partitions.iter().map(|it| {
        json!({
            "partition": it.index, "state": words(it.state), "node": it.node, "permille": it.permille,
            "bytes_total": it.bytes_total, "bytes_done": it.bytes_done, "skipped": it.is_skipped, "error": it.error,
        })
    });
    let partitions: Vec<Value> = partitions.collect();
    json!({
        "table": info.table, "table_id": info.table_id, "target": info.target, "root": info.root,
        "backup": info.backup_id, "old_table": info.old_table, "old_table_id": info.old_table_id,
        "state": words(info.state), "started_ms": info.started_unix_ms, "ended_ms": info.ended_unix_ms,
        "message": info.message, "partitions": partitions,
    })
}

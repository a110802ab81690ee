//! `pegasus table create|list|show|move|drop|recall|rename|env`.
//!
//! `shown` is what is said of a table and its partitions, `moves` the orders to move them, `dropped` how tables go and come
//! back, `envs` their settings.

mod advise;
mod disk;
mod dropped;
mod envs;
mod moves;
mod replicas;
mod shown;
mod slow;
mod stat;
mod truncate;

use crate::connect::Connect;
use crate::exit::{Exit, Failed};
use crate::output::{Output, Style, table};
use clap::{Args, Subcommand};
use pegasus_client::{Client, Code, CreateTable, CreatedTable, Error, Health, TableInfo};
use serde_json::json;
use shown::Ailing;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a table and wait until it serves
    #[command(after_help = "\
The partition count is fixed for the life of the table; `pegasus table advise --size SIZE` says how many are right.

Examples:
  pegasus table create demo --partitions 8 --replicas 3
  pegasus table create scratch --partitions 2 --replicas 3 --allow-degraded   with fewer than 3 nodes")]
    Create(Create),
    /// All tables
    List {
        /// Those that were dropped and can be recalled
        #[arg(long)]
        dropped: bool,
        #[command(flatten)]
        names: Names,
    },
    /// What tables are asked for, or the partitions of one
    #[command(after_help = "\
Each request counts once, on the primary that answers it.

Examples:
  pegasus table stat
  pegasus table stat demo --interval 10")]
    Stat(stat::Stat),
    /// What the replicas of a table take on disk
    Disk {
        /// Name of the table
        name: String,
    },
    /// The last requests that took too long, who asked and where their time went
    #[command(after_help = "\
What is slow is said by the table (`replica.slow_query_threshold`, in milliseconds) or else by each node
(`stats.slow_request_ms`). The last 64 of a table are kept on each node.

Examples:
  pegasus table env set demo replica.slow_query_threshold=50
  pegasus table slow demo")]
    Slow(slow::Slow),
    /// How many partitions a table should have
    Advise(advise::Advise),
    /// One table: its partitions, who holds them and how they are
    #[command(after_help = "\
The last column is there when something is under way: a learner and how far it is, since when a member is missing, nodes
that failed with the partition and have to wait before they get it again, an order that is being carried out.")]
    Show {
        /// Name of the table
        name: String,
    },
    /// Make a secondary the primary, or move a replica to another core
    #[command(after_help = "\
The order is recorded and goes on by itself, also when meta is restarted. A replica moves by a new one that catches up
first and then takes the old one's place; only then the old one is deleted. No request fails beyond a retry.

Examples:
  pegasus table move demo 3 --primary-to 2
  pegasus table move demo 3 --replica-from 1 --replica-to 4/0 --wait")]
    Move(moves::Move),
    /// Have more or fewer copies of each partition
    #[command(after_help = "\
More: new replicas are made a few at a time, and writes need as many members as the rule says (2 from 3 replicas on) once all
partitions have them. Fewer: those on the fullest cores leave, once the others follow. The order goes on by itself.

Examples:
  pegasus table set-replicas demo 3 --wait")]
    SetReplicas(replicas::SetReplicas),
    /// Drop a table; for 7 days it can be recalled
    #[command(after_help = "\
The name is free at once. The rows stay where they are until the time is over, and take up their space; nobody can read or
write them.

Examples:
  pegasus table drop demo
  pegasus table drop demo --reserve 0 --yes        delete it for good
  pegasus table list --dropped")]
    Drop(dropped::Drop),
    /// Take all rows out of a table; for 7 days they can be recalled
    #[command(after_help = "\
The table is dropped and made anew, with the same partitions, replicas and settings: quick, whatever is in it. For the moment that
takes nobody can read or write it. Rows that fit a filter are deleted by `pegasus clear-data`.

Examples:
  pegasus table truncate demo
  pegasus table recall 3 --name demo-before")]
    Truncate(truncate::Truncate),
    /// Bring a dropped table back
    #[command(after_help = "\
Examples:
  pegasus table list --dropped          its number
  pegasus table recall 3
  pegasus table recall 3 --name demo2   its old name may be taken")]
    Recall(dropped::Recall),
    /// Give a table another name
    Rename {
        /// Its name now
        from: String,
        /// Its new name
        to: String,
    },
    /// Settings of a table
    #[command(subcommand)]
    Env(envs::Command),
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
    /// A table that exists will do if it has these partitions and replicas
    #[arg(long)]
    if_missing: bool,
}

/// Which names are listed.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct Names {
    /// Only this table
    #[arg(long, value_name = "TABLE")]
    name: Option<String>,
    /// Only tables whose names start with this
    #[arg(long, value_name = "TEXT")]
    name_prefix: Option<String>,
    /// Only tables whose names end with this
    #[arg(long, value_name = "TEXT")]
    name_postfix: Option<String>,
    /// Only tables whose names contain this
    #[arg(long, value_name = "TEXT")]
    name_contains: Option<String>,
}

impl Names {
    fn has(&self, name: &str) -> bool {
        let fits = |text: &Option<String>, test: fn(&str, &str) -> bool| {
            text.as_ref().is_none_or(|text| test(name, text))
        };
        fits(&self.name, |name, text| name == text)
            && fits(&self.name_prefix, |name, text| name.starts_with(text))
            && fits(&self.name_postfix, |name, text| name.ends_with(text))
            && fits(&self.name_contains, |name, text| name.contains(text))
    }
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
        Command::List {
            dropped: false,
            names,
        } => list(&names, connect, out).await,
        Command::List {
            dropped: true,
            names,
        } => dropped::list(&names, connect, out).await,
        Command::Stat(options) => stat::run(&options, connect, out).await,
        Command::Disk { name } => disk::run(&name, connect, out).await,
        Command::Slow(options) => slow::run(&options, connect, out).await,
        Command::Advise(options) => advise::run(&options, connect, out).await,
        Command::Show { name } => shown::run(&name, connect, out).await,
        Command::Move(options) => moves::run(&options, connect, out).await,
        Command::SetReplicas(options) => replicas::run(&options, connect, out).await,
        Command::Drop(options) => dropped::drop_table(&options, connect, out).await,
        Command::Truncate(options) => truncate::run(&options, connect, out).await,
        Command::Recall(options) => dropped::recall(&options, connect, out).await,
        Command::Rename { from, to } => dropped::rename(&from, &to, connect, out).await,
        Command::Env(command) => envs::run(command, connect, out).await,
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
    let created = match client.create_table(&wanted).await {
        Err(error) if options.if_missing && is_there(&error) => {
            let found = client.show_table(&wanted.name).await?;
            check_same(&wanted, &found)?;
            CreatedTable {
                table_id: found.table_id,
                degraded: false,
            }
        }
        created => created?,
    };
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

fn is_there(error: &Error) -> bool {
    matches!(error, Error::Failed { code, .. } if *code == Code::AlreadyExists)
}

/// # Errors
/// The table that exists is another one than is wanted.
fn check_same(wanted: &CreateTable, found: &TableInfo) -> anyhow::Result<()> {
    let (partitions, replicas) = (found.partition_count, found.replica_count);
    if (partitions, replicas) == (wanted.partition_count, wanted.replica_count) {
        return Ok(());
    }
    let name = &wanted.name;
    let sentence = format!(
        "table {name} exists already, with {partitions} partitions and {replicas} replicas"
    );
    Err(Failed::error(Exit::Failed, sentence))
}

async fn list(names: &Names, connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    let client = connect.client().await?;
    let mut tables = client.list_tables().await?;
    tables.retain(|it| names.has(&it.name));
    let mut ailing = Vec::new();
    for info in &tables {
        ailing.push(look_closer(info, ailing.iter().flatten().count(), &client).await);
    }
    if out.style == Style::Json {
        let all = tables.iter().zip(&ailing);
        let all = all.map(|(info, ailing)| shown::listed_json(info, ailing.as_ref()));
        return out.json(&all.collect::<Vec<_>>());
    }
    if tables.is_empty() {
        out.line("no tables; `pegasus table create NAME --partitions 8 --replicas 3` makes one")?;
        return Ok(());
    }
    let mut header = vec![
        "table",
        "number",
        "partitions",
        "healthy",
        "replicas",
        "state",
    ];
    let has_details = ailing.iter().any(Option::is_some);
    header.extend(has_details.then_some("of its partitions"));
    let mut rows = table(&header, &[1, 2, 3, 4]);
    for (info, ailing) in tables.iter().zip(&ailing) {
        let mut row = vec![
            info.name.clone(),
            info.table_id.to_string(),
            info.partition_count.to_string(),
            info.healthy_partitions.to_string(),
            info.replica_count.to_string(),
            info.health.to_string(),
        ];
        row.extend(has_details.then(|| ailing.as_ref().map_or_else(String::new, Ailing::in_words)));
        rows.add_row(row);
    }
    Ok(out.table(&rows)?)
}

/// What is wrong with a table that is not healthy, for the first few of those.
async fn look_closer(info: &TableInfo, looked: usize, client: &Client) -> Option<Ailing> {
    const LOOKED_MAX: usize = 16;
    if info.health == Health::Healthy || looked >= LOOKED_MAX {
        return None;
    }
    let detail = client.show_table(&info.name).await.ok()?;
    Some(Ailing::of(&detail))
}

//! `pegasus cluster info|level|rebalance`: what concerns the whole cluster.

use crate::connect::Connect;
use crate::orders::{self, Wait};
use crate::output::{Output, Style, table};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};
use std::time::Instant;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// What there is to know of the cluster
    Info,
    /// Show or set how much meta does by itself
    #[command(after_help = "\
  lively    everything: replicas are moved for balance too
  steady    the same, but for balance only primaries are moved, which copies nothing; the default
  freezed   dead members are removed and replaced as primaries; no new replicas, no new tables
  blind     configurations stay as they are, whatever happens; tables can be dropped, recalled, renamed and set up
  stopped   the same

The level is kept when meta is restarted.")]
    Level {
        /// The new level; without one it is only shown
        level: Option<Level>,
    },
    /// Spread primaries evenly over nodes and cores now
    #[command(after_help = "\
The same as `pegasus balance run --primaries-only`. Meta does it by itself once nothing has happened for a minute
(`balance_delay_ms`), unless `balance_primaries` is off. A few primaries are handed over at a time, and only while no
partition lacks anything; the order is recorded.

  pegasus cluster rebalance --wait
  pegasus cluster rebalance --wait=60   exit code 4 if it takes longer; it goes on")]
    Rebalance(Rebalance),
}

#[derive(Debug, Args)]
pub(crate) struct Rebalance {
    #[command(flatten)]
    wait: Wait,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    Stopped,
    Blind,
    Freezed,
    Steady,
    Lively,
}

impl Level {
    const fn number(self) -> u16 {
        match self {
            Self::Stopped => 100,
            Self::Blind => 200,
            Self::Freezed => 300,
            Self::Steady => 400,
            Self::Lively => 500,
        }
    }
}

/// What people call a level, also one of a later version.
fn name_of(number: u16) -> String {
    let known = Level::value_variants()
        .iter()
        .find(|level| level.number() == number);
    let value = known.and_then(ValueEnum::to_possible_value);
    value.map_or_else(|| number.to_string(), |value| value.get_name().to_owned())
}

pub(crate) async fn run(
    command: &Command,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    match command {
        Command::Info => info(connect, out).await,
        Command::Level { level } => set_level(*level, connect, out).await,
        Command::Rebalance(options) => rebalance(options.wait, connect, out).await,
    }
}

async fn info(connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    let cluster = connect.client().await?.cluster().await?;
    let id = format!("{:032x}", cluster.cluster_id);
    if out.style == Style::Json {
        let mut all = Map::new();
        all.insert("cluster_id".to_owned(), json!(id));
        let details = cluster.details.into_iter();
        all.extend(details.map(|(key, value)| (key, Value::String(value))));
        return out.json(&Value::Object(all));
    }
    let mut rows = table(&["", "value"], &[]);
    rows.add_row(["cluster_id", id.as_str()]);
    for (key, value) in &cluster.details {
        rows.add_row([key, value]);
    }
    Ok(out.table(&rows)?)
}

async fn set_level(
    level: Option<Level>,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let client = connect.client().await?;
    let (before, now) = match level {
        Some(level) => (client.set_level(level.number()).await?, level.number()),
        None => {
            let now = client.cluster().await?.level;
            (now, now)
        }
    };
    match out.style {
        Style::Json => out.json(&json!({ "before": name_of(before), "level": name_of(now) })),
        Style::People if before == now => Ok(out.line(name_of(now))?),
        Style::People => Ok(out.line(format!("{}, before {}", name_of(now), name_of(before)))?),
    }
}

async fn rebalance(wait: Wait, connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    let client = orders::client(connect).await?;
    let given = Instant::now();
    let first = client.rebalance().await?;
    // The same order again changes nothing; its answer tells how far it is.
    let now = async || Ok(client.rebalance().await?);
    let outcome = wait.stay(given, first, now).await?;
    let done = "primaries are spread as evenly as their replicas allow";
    wait.tell(&outcome, json!({ "rebalance": true }), done, out)
}

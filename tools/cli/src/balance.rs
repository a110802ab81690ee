//! `pegasus balance status|plan|run|pause|resume|limit`: what meta moves so that cores, nodes and disks carry the same.

use crate::connect::Connect;
use crate::orders::{self, Wait};
use crate::output::{Output, Style, bytes, table};
use clap::{Args, Subcommand};
use pegasus_client::{BalanceInfo, BalanceLimits, BalanceScope, MoveInfo};
use serde_json::{Value, json};
use std::time::Instant;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// What is under way, what is planned, and what it waits for
    Status(Show),
    /// What would be moved now, and why; nothing is changed
    Plan(Plan),
    /// Move now what should be moved, whatever the level of the cluster is
    #[command(after_help = "\
By itself meta spreads primaries (which copies nothing) from level `steady` on, and moves replicas at level `lively`, once
nothing has happened for a minute (`balance_delay_ms`). Nothing is begun while any partition lacks a replica. The order is
kept when meta is restarted, and is done when there is nothing more to move.

  pegasus balance plan
  pegasus balance run --wait
  pegasus balance run --primaries-only --wait=60   exit code 4 if it takes longer; it goes on")]
    Run(Run),
    /// Begin nothing new until `resume` or `run`; what is under way goes on
    Pause,
    /// End a pause
    Resume,
    /// How many moves there are at a time; kept when meta is restarted
    Limit(Limit),
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// So many moves are listed
    #[arg(long, default_value_t = 20)]
    moves: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// Of primaries alone: nothing is copied
    #[arg(long)]
    primaries_only: bool,
    #[command(flatten)]
    show: Show,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Of primaries alone: nothing is copied
    #[arg(long)]
    primaries_only: bool,
    #[command(flatten)]
    wait: Wait,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Limit {
    /// Replicas that are copied at a time in the cluster [default of a cluster: 16]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    copies: Option<u32>,
    /// Those that one node gives or gets, at most as many as it may have learners [default of a cluster: 1]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    copies_per_node: Option<u32>,
    /// Primaries that are handed over at a time in the cluster [default of a cluster: 16]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    hand_overs: Option<u32>,
}

pub(crate) async fn run(
    command: &Command,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    match command {
        Command::Status(show) => {
            let info = connect.client().await?.balance_status().await?;
            print(&info, show.moves, out)
        }
        Command::Plan(plan) => {
            let scope = scope_of(plan.primaries_only);
            let info = connect.client().await?.balance_plan(scope).await?;
            print(&info, plan.show.moves, out)
        }
        Command::Run(options) => carry_out(options, connect, out).await,
        Command::Pause => {
            connect.client().await?.balance_pause().await?;
            told(
                json!({ "paused": true }),
                "paused; what is under way goes on",
                out,
            )
        }
        Command::Resume => {
            connect.client().await?.balance_resume().await?;
            told(json!({ "paused": false }), "resumed", out)
        }
        Command::Limit(limit) => {
            let limits = BalanceLimits {
                copies_max: limit.copies.unwrap_or(0),
                copies_per_node_max: limit.copies_per_node.unwrap_or(0),
                hand_overs_max: limit.hand_overs.unwrap_or(0),
            };
            let client = connect.client().await?;
            client.balance_limit(limits).await?;
            let now = client.balance_status().await?.limits;
            told(limits_json(now), &limits_words(now), out)
        }
    }
}

const fn scope_of(primaries_only: bool) -> BalanceScope {
    if primaries_only {
        BalanceScope::Primaries
    } else {
        BalanceScope::Everything
    }
}

async fn carry_out(options: &Run, connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    let client = orders::client(connect).await?;
    let scope = scope_of(options.primaries_only);
    let given = Instant::now();
    let first = client.balance_run(scope).await?;
    // The same order again changes nothing; its answer tells how far it is.
    let now = async || Ok(client.balance_run(scope).await?);
    let outcome = options.wait.stay(given, first, now).await?;
    let order = json!({ "balance": "run", "primaries_only": options.primaries_only });
    let done = "nothing more is to be moved";
    options.wait.tell(&outcome, order, done, out)
}

fn told(json: Value, words: &str, out: &mut Output) -> anyhow::Result<()> {
    match out.style {
        Style::Json => out.json(&json),
        Style::People => Ok(out.line(words)?),
    }
}

fn limits_json(limits: BalanceLimits) -> Value {
    json!({
        "copies": limits.copies_max,
        "copies_per_node": limits.copies_per_node_max,
        "hand_overs": limits.hand_overs_max,
    })
}

fn limits_words(limits: BalanceLimits) -> String {
    format!(
        "at a time {} copies, {} for each node, and {} hand-overs",
        limits.copies_max, limits.copies_per_node_max, limits.hand_overs_max
    )
}

/// A sentence on how it stands.
fn state_words(info: &BalanceInfo) -> String {
    let wanted = match info.wanted {
        BalanceScope::Nothing => "by itself",
        BalanceScope::Primaries => "ordered, primaries alone",
        BalanceScope::Everything => "ordered",
    };
    let paused = if info.is_paused { "paused; " } else { "" };
    let waits = match info.waits_for.as_str() {
        "" if info.moves_total == 0 => "; nothing is to be moved".to_owned(),
        "" => String::new(),
        reason => format!("; waits: {reason}"),
    };
    format!("{paused}{wanted}, {} moves{waits}", info.moves_total)
}

fn print(info: &BalanceInfo, moves_max: usize, out: &mut Output) -> anyhow::Result<()> {
    if out.style == Style::Json {
        return out.json(&all_json(info));
    }
    out.line(state_words(info))?;
    out.line(format!(
        "of a core: {} replicas, {} primaries, {} requests a second (weighted; {} on average)",
        range(info.replicas),
        range(info.primaries),
        info.load.1,
        info.load.0
    ))?;
    out.line(limits_words(info.limits))?;
    if info.moves.is_empty() {
        return Ok(());
    }
    let mut rows = table(
        &[
            "partition",
            "what",
            "from",
            "to",
            "bytes",
            "gain",
            "why",
            "",
        ],
        &[4, 5],
    );
    for it in info.moves.iter().take(moves_max) {
        rows.add_row([
            format!("{}.{}", it.table, it.partition),
            kind(it).to_owned(),
            format!("{}/{}", it.from.0, it.from.1),
            format!("{}/{}", it.to.0, it.to.1),
            if it.copies {
                bytes(it.bytes)
            } else {
                String::new()
            },
            it.gain.to_string(),
            it.reason.clone(),
            if it.is_running { "under way" } else { "" }.to_owned(),
        ]);
    }
    out.table(&rows)?;
    let more = usize::try_from(info.moves_total)?.saturating_sub(moves_max);
    if more > 0 {
        out.line(format!("and {more} more"))?;
    }
    Ok(())
}

fn range((least, most): (u32, u32)) -> String {
    if least == most {
        least.to_string()
    } else {
        format!("{least} to {most}")
    }
}

const fn kind(it: &MoveInfo) -> &'static str {
    if it.copies { "replica" } else { "primary" }
}

fn all_json(info: &BalanceInfo) -> Value {
    let moves: Vec<Value> = info
        .moves
        .iter()
        .map(|it| {
            json!({
                "table": it.table, "partition": it.partition, "what": kind(it),
                "from": { "node": it.from.0, "core": it.from.1 },
                "to": { "node": it.to.0, "core": it.to.1 },
                "bytes": it.bytes, "gain": it.gain, "reason": it.reason, "running": it.is_running,
            })
        })
        .collect();
    json!({
        "paused": info.is_paused,
        "wanted": match info.wanted {
            BalanceScope::Nothing => Value::Null,
            BalanceScope::Primaries => json!("primaries"),
            BalanceScope::Everything => json!("everything"),
        },
        "waits_for": info.waits_for,
        "limits": limits_json(info.limits),
        "replicas": { "min": info.replicas.0, "max": info.replicas.1 },
        "primaries": { "min": info.primaries.0, "max": info.primaries.1 },
        "load": { "mean": info.load.0, "max": info.load.1 },
        "moves_total": info.moves_total,
        "moves": moves,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        command: Command,
    }

    fn info() -> BalanceInfo {
        BalanceInfo {
            is_paused: true,
            wanted: BalanceScope::Nothing,
            limits: BalanceLimits {
                copies_max: 16,
                copies_per_node_max: 1,
                hand_overs_max: 16,
            },
            waits_for: "an operator has paused it".to_owned(),
            moves: vec![MoveInfo {
                table_id: 1,
                table: "t".to_owned(),
                partition: 3,
                copies: true,
                from: (1, 0),
                to: (4, 1),
                reason: "its core holds more replicas than others".to_owned(),
                gain: 5,
                bytes: 1 << 20,
                is_running: false,
            }],
            moves_total: 7,
            replicas: (0, 12),
            primaries: (4, 4),
            load: (100, 130),
        }
    }

    #[test]
    fn a_limit_names_at_least_one_number() {
        let parsed = |line: &str| {
            let words = ["balance"].into_iter().chain(line.split_whitespace());
            Line::try_parse_from(words).is_ok()
        };
        assert!(parsed("limit --copies 4"));
        assert!(parsed("run --primaries-only --wait=3"));
        for refused in [
            "limit",
            "limit --copies 0",
            "limit --hand-overs 10001",
            "plan --wait",
        ] {
            assert!(!parsed(refused), "{refused}");
        }
    }

    #[test]
    fn what_is_said_names_the_pause_and_what_is_left() {
        let words = state_words(&info());
        assert_eq!(
            words,
            "paused; by itself, 7 moves; waits: an operator has paused it"
        );
        let json = all_json(&info());
        assert_eq!(json["moves"][0]["what"], "replica");
        assert_eq!(
            (&json["wanted"], &json["moves_total"]),
            (&Value::Null, &json!(7))
        );
        assert_eq!(
            (range((4, 4)), range((0, 12))),
            ("4".to_owned(), "0 to 12".to_owned())
        );
    }
}

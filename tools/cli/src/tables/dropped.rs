//! Tables go, come back, and change their names.

use super::Names;
use crate::confirm::confirm;
use crate::connect::Connect;
use crate::output::{Output, Style, table};
use clap::Args;
use pegasus_client::TableInfo;
use serde_json::json;
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Debug, Args)]
pub(crate) struct Drop {
    /// Name of the table
    name: String,
    /// How long it can be recalled, in seconds; 0 deletes it at once [default: 7 days]
    #[arg(long, value_name = "SECONDS")]
    reserve: Option<u64>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Recall {
    /// Number of the table (`pegasus table list --dropped`)
    number: u32,
    /// What it is called from now on [default: its old name]
    #[arg(long)]
    name: Option<String>,
}

pub(super) async fn drop_table(
    options: &Drop,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let name = &options.name;
    let client = connect.client().await?;
    // Asked first, so that nobody confirms the deletion of a table that is not there.
    client.show_table(name).await?;
    let for_good = options.reserve == Some(0);
    if !options.yes {
        confirm(&if for_good {
            format!("Delete table {name} with all its rows, for good?")
        } else {
            format!("Drop table {name}?")
        })?;
    }
    let number = client.drop_table_for(name, options.reserve).await?;
    match out.style {
        Style::Json => out.json(&json!({ "name": name, "table_id": number, "dropped": true })),
        Style::People => {
            let how = if for_good {
                String::new()
            } else {
                format!("; `pegasus table recall {number}` brings it back")
            };
            Ok(out.line(format!("dropped table {name} (number {number}){how}"))?)
        }
    }
}

pub(super) async fn recall(
    options: &Recall,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let client = connect.client().await?;
    let recalled = client
        .recall_table(options.number, options.name.as_deref())
        .await?;
    match out.style {
        Style::Json => out.json(&json!({
            "table_id": recalled.table_id, "degraded": recalled.degraded, "recalled": true,
        })),
        Style::People => Ok(out.line(format!("recalled table number {}", recalled.table_id))?),
    }
}

pub(super) async fn rename(
    from: &str,
    to: &str,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    connect.client().await?.rename_table(from, to).await?;
    match out.style {
        Style::Json => out.json(&json!({ "from": from, "to": to })),
        Style::People => Ok(out.line(format!("table {from} is called {to} now"))?),
    }
}

/// Dropped tables that can be recalled.
pub(super) async fn list(names: &Names, connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    let mut tables = connect.client().await?.list_dropped_tables().await?;
    tables.retain(|it| names.has(&it.name));
    if out.style == Style::Json {
        let all = tables.iter().map(|it| {
            json!({
                "name": it.name, "table_id": it.table_id, "partition_count": it.partition_count,
                "replica_count": it.replica_count, "dropped_unix_ms": it.dropped_unix_ms,
                "kept_until_unix_ms": it.kept_until_unix_ms,
            })
        });
        return out.json(&all.collect::<Vec<_>>());
    }
    if tables.is_empty() {
        out.line("no dropped table can be recalled")?;
        return Ok(());
    }
    let header = ["number", "table", "partitions", "replicas", "deleted in"];
    let mut rows = table(&header, &[0, 2, 3]);
    for it in &tables {
        rows.add_row([
            it.table_id.to_string(),
            it.name.clone(),
            it.partition_count.to_string(),
            it.replica_count.to_string(),
            left(it),
        ]);
    }
    Ok(out.table(&rows)?)
}

/// The time until a table is deleted, roughly.
fn left(it: &TableInfo) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_s = now.map_or(0, |now| now.as_secs());
    roughly((it.kept_until_unix_ms / 1_000).saturating_sub(now_s))
}

fn roughly(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::roughly;

    #[test]
    fn times_are_shown_in_the_unit_that_says_enough() {
        assert_eq!(roughly(0), "0 s");
        assert_eq!(roughly(120), "2 min");
        assert_eq!(roughly(7_200), "2 h");
        assert_eq!(roughly(7 * 86_400 - 1), "6 days");
    }
}

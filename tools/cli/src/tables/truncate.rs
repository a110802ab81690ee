//! `pegasus table truncate`: all rows go at once, and can be called back for a while.
//!
//! The table is dropped, and a new one of the same name, size and settings takes its place. Nothing is deleted by that, and it
//! costs the same whatever is in it. Between the two steps the name is nobody's: requests fail for as long as a table takes to
//! be made.

use crate::confirm::confirm;
use crate::connect::Connect;
use crate::output::{Output, Style};
use anyhow::Context as _;
use clap::Args;
use pegasus_client::CreateTable;
use serde_json::json;

#[derive(Debug, Args)]
pub(crate) struct Truncate {
    /// Name of the table
    name: String,
    /// How long the rows can be called back, in seconds [default: 7 days]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    reserve: Option<u64>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(
    options: &Truncate,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let name = &options.name;
    let client = connect.client().await?;
    let before = client.show_table(name).await?;
    let envs = client.table_envs(name).await?;
    let envs: Vec<(String, String)> = envs.into_iter().map(|it| (it.key, it.value)).collect();
    if !options.yes {
        confirm(&format!("Take all rows out of table {name}?"))?;
    }
    let dropped = client.drop_table_for(name, options.reserve).await?;
    let again = || {
        format!(
            "its rows are in table number {dropped}: `pegasus table recall {dropped}` brings it back"
        )
    };
    let wanted = CreateTable {
        name: name.clone(),
        partition_count: before.partition_count,
        replica_count: before.replica_count,
        // It had to do with as many nodes before.
        allow_degraded: true,
    };
    let created = client.create_table(&wanted).await.with_context(again)?;
    if !envs.is_empty() {
        let set = client.set_table_envs(name, &envs).await;
        set.with_context(|| {
            format!(
                "table {name} is there, empty and without its settings; {}",
                again()
            )
        })?;
    }
    match out.style {
        Style::Json => out.json(&json!({
            "name": name, "table_id": created.table_id, "dropped_table_id": dropped,
        })),
        Style::People => Ok(out.line(format!(
            "table {name} is empty (number {}); `pegasus table recall {dropped} --name OTHER` brings its rows back",
            created.table_id
        ))?),
    }
}

//! `pegasus table env list|get|set|delete|clear`: settings of a table, by key.

use crate::connect::Connect;
use crate::exit::Failed;
use crate::output::{Output, Style, table};
use anyhow::bail;
use clap::Subcommand;
use serde_json::{Value, json};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// All settings of a table, and which of them act
    List {
        /// Name of the table
        table: String,
    },
    /// Print the value of one setting
    Get {
        /// Name of the table
        table: String,
        /// Key of the setting
        key: String,
    },
    /// Make settings: all or none
    #[command(after_help = "\
Keys and values are those of Apache Pegasus. A key that does not act yet is kept until it does.

Examples:
  pegasus table env set demo default_ttl=86400
  pegasus table env set demo replica.deny_client_request='reconfig*write' business.info=ours")]
    Set {
        /// Name of the table
        table: String,
        /// What is set
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = pair)]
        envs: Vec<(String, String)>,
    },
    /// Take settings away
    Delete {
        /// Name of the table
        table: String,
        /// Keys of the settings
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
    },
    /// Take away all settings, or those below a prefix
    Clear {
        /// Name of the table
        table: String,
        /// Only keys that begin with this and a dot, such as manual_compact.once
        #[arg(long, conflicts_with = "all")]
        prefix: Option<String>,
        /// All of them
        #[arg(long)]
        all: bool,
    },
}

fn pair(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text
        .split_once('=')
        .ok_or("a setting is KEY=VALUE, such as default_ttl=86400")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(super) async fn run(
    command: Command,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let client = connect.client().await?;
    let changed = match command {
        Command::List { table } => return list(&table, connect, out).await,
        Command::Get { table, key } => return get(&table, &key, connect, out).await,
        Command::Set { table, envs } => {
            client.set_table_envs(&table, &envs).await?;
            table
        }
        Command::Delete { table, keys } => {
            client.delete_table_envs(&table, &keys).await?;
            table
        }
        Command::Clear { table, prefix, all } => {
            let prefix = match (prefix, all) {
                (Some(prefix), false) if !prefix.is_empty() => prefix,
                (None, true) => String::new(),
                _ => {
                    let message = "say which: --prefix PREFIX, or --all";
                    return Err(Failed::usage(message.to_owned()));
                }
            };
            client.clear_table_envs(&table, &prefix).await?;
            table
        }
    };
    list(&changed, connect, out).await
}

async fn list(name: &str, connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    let envs = connect.client().await?.table_envs(name).await?;
    if out.style == Style::Json {
        let all = envs
            .iter()
            .map(|it| json!({ "key": it.key, "value": it.value, "acts": it.acts }));
        return out.json(&Value::Array(all.collect()));
    }
    if envs.is_empty() {
        out.line(format!("table {name} has no settings"))?;
        return Ok(());
    }
    let mut rows = table(&["key", "value", ""], &[]);
    for it in &envs {
        let note = if it.acts {
            ""
        } else {
            "kept, does not act yet"
        };
        rows.add_row([it.key.as_str(), it.value.as_str(), note]);
    }
    Ok(out.table(&rows)?)
}

async fn get(name: &str, key: &str, connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    let envs = connect.client().await?.table_envs(name).await?;
    let Some(found) = envs.iter().find(|it| it.key == key) else {
        bail!("table {name} has no setting {key}");
    };
    match out.style {
        Style::Json => out.json(&json!({ "key": key, "value": found.value, "acts": found.acts })),
        Style::People => Ok(out.line(&found.value)?),
    }
}

//! `pegasus table slow`: the last requests that took too long, of all nodes.

use crate::connect::Connect;
use crate::each_node::{self, Told, Which, check_answers};
use crate::output::{Output, Style, wide_table};
use clap::Args;
use pegasus_client::Client;
use serde_json::Value;

#[derive(Debug, Args)]
pub(crate) struct Slow {
    /// Name of the table; without it all tables
    name: Option<String>,
    #[command(flatten)]
    which: Which,
    /// How many, the newest first
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
}

pub(super) async fn run(options: &Slow, connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    let client = each_node::client(connect).await?;
    if let Some(name) = &options.name {
        // A table that is not there is said by meta, who knows names that are near.
        client.show_table(name).await?;
    }
    let told = ask(&client, options).await?;
    let mut requests: Vec<Value> = Vec::new();
    for node in &told {
        let of_node = node.answer.as_ref().map_or(&[][..], Vec::as_slice);
        requests.extend(of_node.iter().cloned().map(|mut request| {
            request["node"] = node.node.into();
            request
        }));
    }
    requests.sort_by_key(|request| std::cmp::Reverse(request["answered_unix_us"].as_u64()));
    requests.truncate(options.limit.into());
    match out.style {
        Style::Json => out.json(&requests)?,
        Style::People => show(&requests, out)?,
    }
    check_answers(&told)
}

async fn ask(client: &Client, options: &Slow) -> anyhow::Result<Vec<Told<Vec<Value>>>> {
    let arguments: Vec<&str> = options.name.iter().map(String::as_str).collect();
    let ask_core = async |address: &str| {
        client
            .remote_command(address, "slow-requests", &arguments)
            .await
    };
    let told = each_node::ask(client, options.which, ask_core).await?;
    let read = |node: Told<String>| Told {
        node: node.node,
        answer: node.answer.and_then(|text| parse(&text)),
    };
    Ok(told.into_iter().map(read).collect())
}

fn parse(text: &str) -> Result<Vec<Value>, String> {
    serde_json::from_str(text).map_err(|_| text.chars().take(200).collect())
}

fn show(requests: &[Value], out: &mut Output) -> anyhow::Result<()> {
    if requests.is_empty() {
        return Ok(out.line(
            "no slow requests; what is slow is said by `replica.slow_query_threshold` of a table and `stats.slow_request_ms` of a node",
        )?);
    }
    let header = [
        "ago",
        "table",
        "partition",
        "operation",
        "answer",
        "ms",
        "stages, in ms",
        "client",
        "key hash",
        "node",
    ];
    let mut rows = wide_table(&header, &[2, 5]);
    let now_us = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |it| u64::try_from(it.as_micros()).unwrap_or(u64::MAX));
    for request in requests {
        rows.add_row(row(request, now_us));
    }
    Ok(out.table(&rows)?)
}

fn row(request: &Value, now_us: u64) -> [String; 10] {
    let text = |key: &str| match &request[key] {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    let ago_s =
        now_us.saturating_sub(request["answered_unix_us"].as_u64().unwrap_or(now_us)) / 1_000_000;
    [
        format!("{ago_s} s"),
        text("table"),
        text("partition"),
        text("operation"),
        text("code"),
        ms(request["total_us"].as_u64().unwrap_or(0)),
        stages(&request["stages_us"]),
        text("client"),
        text("key_hash"),
        text("node"),
    ]
}

/// The longest first.
fn stages(stages: &Value) -> String {
    let stages = stages.as_object().into_iter().flatten();
    let mut stages: Vec<(&str, u64)> = stages
        .filter_map(|(name, us)| Some((name.as_str(), us.as_u64()?)))
        .filter(|(_, us)| *us >= 100)
        .collect();
    stages.sort_by_key(|(_, us)| std::cmp::Reverse(*us));
    let shown: Vec<String> = stages
        .iter()
        .map(|(name, us)| format!("{name} {}", ms(*us)))
        .collect();
    shown.join(", ")
}

fn ms(us: u64) -> String {
    format!("{}.{}", us / 1_000, us % 1_000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_request_is_told_with_its_longest_stages_first() {
        let request = json!({
            "answered_unix_us": 5_000_000, "client": "10.0.0.1:7", "table": "users", "partition": 3,
            "operation": "put", "code": "ok", "key_hash": "00ab", "bytes": 9, "total_us": 123_456,
            "stages_us": {"flush": 120_000, "queue": 3_456, "send": 10}, "node": 2,
        });
        let told = row(&request, 12_000_000);
        let wanted = [
            "7 s",
            "users",
            "3",
            "put",
            "ok",
            "123.4",
            "flush 120.0, queue 3.4",
            "10.0.0.1:7",
            "00ab",
            "2",
        ];
        assert_eq!(told, wanted.map(str::to_owned));
    }

    #[test]
    fn what_is_no_list_is_an_error_and_not_an_empty_list() {
        assert_eq!(parse("[]"), Ok(Vec::new()));
        assert_eq!(
            parse("unsupported: slow-requests"),
            Err("unsupported: slow-requests".to_owned())
        );
    }
}

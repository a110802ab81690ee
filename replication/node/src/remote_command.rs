//! Remote commands: questions by name, of the shell and the admin tools of Apache Pegasus. A port speaks of its own core.

use crate::compaction::CompactionStatus;
use crate::directory::Directory;
use crate::http::metrics::process_memory_mb;
use crate::http::{Subject, VERSION};
use crate::slow::name_in;
use crate::view::NodeView;
use pegasus_fbs::stats_page::{Counter, Gauge};
use pegasus_http::utc;
use pegasus_replication::ids::TableId;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// The commands that are answered, and what for.
const COMMANDS: [(&str, &str); 14] = [
    (
        "config-dump",
        "config-dump - the configuration as it was at the start",
    ),
    ("help", "help [command] - all commands, or what one is for"),
    (
        "log-level",
        "log-level [level] | log-level module level - which lines are logged; without arguments only told",
    ),
    (
        "perf-counters",
        "perf-counters [name]... - counters of these names, or all",
    ),
    (
        "perf-counters-by-postfix",
        "perf-counters-by-postfix [text]... - counters whose names end so",
    ),
    (
        "perf-counters-by-prefix",
        "perf-counters-by-prefix [text]... - counters whose names begin so",
    ),
    (
        "perf-counters-by-substr",
        "perf-counters-by-substr [text]... - counters in whose names it is",
    ),
    (
        "replica.list",
        "replica.list [table] - what replicas of the node take and were asked for, as JSON",
    ),
    (
        "replica.query-app-envs",
        "replica.query-app-envs [table] - settings of tables as this node knows them, as JSON",
    ),
    (
        "replica.query-compact",
        "replica.query-compact [table] - how compacting by hand is",
    ),
    (
        "reset-log-start-level",
        "reset-log-start-level [DEBUG|INFO|WARNING|ERROR|FATAL] - the least level that is logged; without one that of the start",
    ),
    ("server-info", "server-info - version and start"),
    ("server-stat", "server-stat - how the core is"),
    (
        "slow-requests",
        "slow-requests [table] - the last slow requests, the newest first, as JSON",
    ),
];

/// The answer to a command. One that is not built is told by its name, whether Apache Pegasus has it or not.
#[must_use]
pub fn answer(name: &str, arguments: &[String], subject: &Subject, node: &NodeView) -> String {
    match name {
        "config-dump" => node.configuration.clone(),
        "log-level" => log_level(arguments),
        "reset-log-start-level" => reset_log_level(arguments),
        "slow-requests" => about_table(arguments, node, slow_requests),
        "replica.list" => about_table(arguments, node, replicas),
        "replica.query-app-envs" => about_table(arguments, node, envs),
        "replica.query-compact" => about_table(arguments, node, compaction),
        "help" => help(arguments),
        "server-info" => {
            let started_s = subject.page.identity().started_unix_us / 1_000_000;
            format!(
                "Pegasus Server {VERSION} (thread-per-core) Release, Started at {}",
                utc(started_s)
            )
        }
        "server-stat" => server_stat(subject),
        "perf-counters" => counters(subject, |it| {
            arguments.is_empty() || arguments.iter().any(|name| name == it)
        }),
        "perf-counters-by-substr" => {
            counters(subject, |it| any(arguments, |text| it.contains(text)))
        }
        "perf-counters-by-prefix" => {
            counters(subject, |it| any(arguments, |text| it.starts_with(text)))
        }
        "perf-counters-by-postfix" => {
            counters(subject, |it| any(arguments, |text| it.ends_with(text)))
        }
        other => format!("unsupported: {}", shown(other)),
    }
}

/// The levels in force, perhaps after a change.
fn log_level(arguments: &[String]) -> String {
    let changed = match arguments {
        [] => return pegasus_logs::levels(),
        [level] => pegasus_logs::set_level(None, level),
        [module, level] => pegasus_logs::set_level(Some(module), level),
        _ => return "refused: log-level takes a level, or a module and a level".to_owned(),
    };
    changed.unwrap_or_else(|error| format!("refused: {error}"))
}

/// With Apache's names of levels.
fn reset_log_level(arguments: &[String]) -> String {
    let Some(wanted) = arguments.first() else {
        let reset = pegasus_logs::reset_levels();
        return reset.unwrap_or_else(|error| format!("refused: {error}"));
    };
    let level = match &*wanted.to_ascii_uppercase() {
        "WARNING" => "warn",
        "FATAL" => "error",
        _ => wanted,
    };
    pegasus_logs::set_level(None, level).unwrap_or_else(|error| format!("refused: {error}"))
}

/// The first argument is a table's name or number; without one all tables are meant.
fn about_table(
    arguments: &[String],
    node: &NodeView,
    answer: impl Fn(&NodeView, &Directory, Option<TableId>) -> String,
) -> String {
    let directory = node.directory();
    let Some(wanted) = arguments.first() else {
        return answer(node, &directory, None);
    };
    let named = directory.tables.iter().find(|(_, it)| it.name == *wanted);
    let table = named.map(|(table, _)| *table);
    let table = table.or_else(|| wanted.parse().ok().map(TableId));
    match table {
        Some(table) => answer(node, &directory, Some(table)),
        None => format!("refused: there is no table {}", shown(wanted)),
    }
}

fn slow_requests(node: &NodeView, directory: &Directory, table: Option<TableId>) -> String {
    let last = node.slow.last(table.map(|table| table.0));
    let told = last
        .iter()
        .map(|entry| entry.json(&name_in(directory, entry.request.table)));
    Value::Array(told.collect()).to_string()
}

fn replicas(node: &NodeView, directory: &Directory, table: Option<TableId>) -> String {
    let all = node.replicas(&node.pages.snapshots(), directory);
    let wanted = all
        .iter()
        .filter(|it| table.is_none_or(|table| table.0 == it.stats.table));
    let told = wanted.map(|it| {
        json!({
            "table": it.table,
            "table_id": it.stats.table,
            "partition": it.stats.partition,
            "core": it.core,
            "role": it.stats.role().name(),
            "rows": it.size.rows,
            "file_bytes": it.size.file_bytes,
            "memtable_bytes": it.size.memtable_bytes,
            "reads": it.stats.reads(),
            "writes": it.stats.writes(),
        })
    });
    Value::Array(told.collect()).to_string()
}

fn envs(_: &NodeView, directory: &Directory, table: Option<TableId>) -> String {
    let wanted = directory.tables.iter();
    let wanted = wanted.filter(|(it, _)| table.is_none_or(|table| table == **it));
    let told: serde_json::Map<String, Value> = wanted
        .map(|(_, it)| (it.name.clone(), json!(it.settings.envs())))
        .collect();
    Value::Object(told).to_string()
}

fn compaction(node: &NodeView, _: &Directory, table: Option<TableId>) -> String {
    if let Some(table) = table {
        let counts = node.compaction.counts(table);
        return format!(
            "{} replicas are idle, {} wait, {} are compacted, {} are done",
            counts.idle, counts.queued, counts.running, counts.finished
        );
    }
    let CompactionStatus {
        running,
        waiting,
        finished_unix_s,
    } = node.compaction.status();
    let (done, total) = running.unwrap_or_default();
    let last = match finished_unix_s {
        0 => "nothing was done since the start".to_owned(),
        time_s => format!("all was done at {}", utc(time_s)),
    };
    format!("{done} of {total} replicas are done, {waiting} orders wait, {last}")
}

fn any(arguments: &[String], matches: impl Fn(&str) -> bool) -> bool {
    arguments.iter().any(|text| matches(text))
}

fn help(arguments: &[String]) -> String {
    let Some(wanted) = arguments.first() else {
        let mut all = String::new();
        for (_, text) in COMMANDS {
            // Writing to a string does not fail.
            let _ = writeln!(all, "{text}");
        }
        return all;
    };
    let found = COMMANDS.iter().find(|(name, _)| name == wanted);
    found.map_or_else(
        || format!("unsupported: {}", shown(wanted)),
        |(_, text)| (*text).to_owned(),
    )
}

/// No longer than a line.
fn shown(name: &str) -> &str {
    &name[..name.floor_char_boundary(128)]
}

fn server_stat(subject: &Subject) -> String {
    let page = &subject.page;
    let (_, resident_mb) = process_memory_mb();
    format!(
        "requests: {}, failures: {}, replicas: {}, primaries: {}, in work: {}, connections: {}, resident memory: {resident_mb} MB",
        page.sum(Counter::requests()),
        page.sum(Counter::failures()),
        page.gauge(Gauge::Replicas),
        page.gauge(Gauge::Primaries),
        page.gauge(Gauge::RequestsInflight),
        page.gauge(Gauge::Connections),
    )
}

/// The counters whose names fit, as tools parse them.
fn counters(subject: &Subject, fits: impl Fn(&str) -> bool) -> String {
    let page = &subject.page;
    let (_, resident_mb) = process_memory_mb();
    let (total, free) = (
        page.gauge(Gauge::DiskTotalBytes) >> 20,
        page.gauge(Gauge::DiskFreeBytes) >> 20,
    );
    let ratio = (free * 100).checked_div(total).unwrap_or(0);
    let node = [
        ("replica*eon.replica_stub*disk.capacity.total(MB)", total),
        ("replica*eon.replica_stub*disk.available.total(MB)", free),
        ("replica*eon.replica_stub*disk.available.total.ratio", ratio),
        (
            "replica*eon.replica_stub*replica(Count)",
            page.gauge(Gauge::Replicas),
        ),
        ("replica*server*memused.res(MB)", resident_mb),
    ];
    let node = node.map(|(name, value)| (name.to_owned(), "NUMBER", value));
    let core = Counter::ALL.iter().map(|it| {
        (
            format!("replica*core*{}", it.name()),
            "NUMBER",
            page.counter(*it),
        )
    });
    let all = node
        .into_iter()
        .chain(core)
        .filter(|(name, _, _)| fits(name));
    #[allow(
        clippy::cast_precision_loss,
        reason = "tools read floating-point numbers"
    )]
    let all =
        all.map(|(name, kind, value)| json!({"name": name, "type": kind, "value": value as f64}));
    let seconds = page.published_unix_us() / 1_000_000;
    json!({
        "result": "OK",
        "timestamp": seconds,
        "timestamp_str": utc(seconds),
        "counters": all.collect::<Vec<Value>>(),
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::tests::{subject, with_node};

    fn ask(name: &str, arguments: &[&str]) -> String {
        let arguments: Vec<String> = arguments.iter().map(|it| (*it).to_owned()).collect();
        with_node(|node| answer(name, &arguments, &subject(), node))
    }

    #[test]
    fn counters_are_json_with_the_names_that_were_asked_for() {
        let told: Value = serde_json::from_str(&ask("perf-counters-by-substr", &["disk.capacity"]))
            .expect("it is JSON");
        assert_eq!(told["result"], "OK");
        let counters = told["counters"].as_array().expect("a list");
        assert_eq!(counters.len(), 1);
        assert_eq!(
            counters[0]["name"],
            "replica*eon.replica_stub*disk.capacity.total(MB)"
        );
        assert_eq!(counters[0]["value"], 100.0);
        let told: Value =
            serde_json::from_str(&ask("perf-counters-by-prefix", &["nobody"])).expect("it is JSON");
        assert_eq!(told["counters"], json!([]));
    }

    #[test]
    fn every_command_that_is_answered_is_in_the_help_and_others_are_named() {
        let help = ask("help", &[]);
        for (name, _) in COMMANDS {
            assert!(help.contains(name));
            assert!(!ask(name, &[]).starts_with("unsupported"), "{name}");
            assert!(ask("help", &[name]).starts_with(name));
        }
        assert_eq!(ask("flush-log", &[]), "unsupported: flush-log");
        let refused = ask("replica.list", &["nobody"]);
        assert_eq!(refused, "refused: there is no table nobody");
        assert_eq!(ask("slow-requests", &["7"]), "[]");
        assert!(ask("log-level", &["noisy"]).starts_with("refused: "));
        assert!(ask("server-info", &[]).starts_with("Pegasus Server "));
    }
}

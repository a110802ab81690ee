//! Remote commands: questions by name, of the shell and the admin tools of Apache Pegasus. A port speaks of its own core.

use crate::http::metrics::process_memory_mb;
use crate::http::{Subject, VERSION};
use pegasus_fbs::stats_page::{Counter, Gauge};
use pegasus_http::utc;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// The commands that are answered, and what for.
const COMMANDS: [(&str, &str); 7] = [
    ("help", "help [command] - all commands, or what one is for"),
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
    ("server-info", "server-info - version and start"),
    ("server-stat", "server-stat - how the core is"),
];

/// The answer to a command. One that is not built is told by its name, whether Apache Pegasus has it or not.
#[must_use]
pub fn answer(name: &str, arguments: &[String], subject: &Subject) -> String {
    match name {
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
    use crate::http::tests::subject;

    fn ask(name: &str, arguments: &[&str]) -> String {
        let arguments: Vec<String> = arguments.iter().map(|it| (*it).to_owned()).collect();
        answer(name, &arguments, &subject())
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
        assert!(ask("server-info", &[]).starts_with("Pegasus Server "));
    }
}

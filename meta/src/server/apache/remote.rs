//! Remote commands: texts to operators who ask by name.

use pegasus_http::utc;
use std::fmt::Write as _;

/// What each does, for `help`.
const COMMANDS: [(&str, &str); 9] = [
    ("help", "help [command]: all commands, or what one does"),
    (
        "log-level",
        "log-level [level] | log-level module level: which lines are logged; without arguments only told",
    ),
    (
        "reset-log-start-level",
        "reset-log-start-level [DEBUG|INFO|WARNING|ERROR|FATAL]: the least level that is logged; without one that of the start",
    ),
    (
        "server-info",
        "server-info: version and start of this server",
    ),
    ("server-stat", "server-stat: numbers about this server"),
    (
        "perf-counters",
        "perf-counters [regex..]: counters of this server",
    ),
    (
        "perf-counters-by-postfix",
        "perf-counters-by-postfix [text..]: counters whose names end so",
    ),
    (
        "perf-counters-by-substr",
        "perf-counters-by-substr [text..]: counters whose names have one of these",
    ),
    (
        "perf-counters-by-prefix",
        "perf-counters-by-prefix [text..]: counters whose names begin so",
    ),
];

/// The answer to a command.
pub(in crate::server) fn command(
    name: &str,
    arguments: &[String],
    started_s: u64,
    now_ms: u64,
) -> String {
    match name {
        "log-level" => log_level(arguments),
        "reset-log-start-level" => reset_log_level(arguments),
        "help" => help(arguments.first().map(String::as_str)),
        "server-info" => format!(
            "Pegasus Server {} (thread-per-core) Release, Started at {}",
            env!("CARGO_PKG_VERSION"),
            utc(started_s)
        ),
        "server-stat" => {
            format!(
                "started {} s ago",
                (now_ms / 1_000).saturating_sub(started_s)
            )
        }
        // Meta counts by `/metrics` only.
        "perf-counters"
        | "perf-counters-by-substr"
        | "perf-counters-by-prefix"
        | "perf-counters-by-postfix" => {
            let seconds = now_ms / 1_000;
            format!(
                r#"{{"result":"OK","timestamp":{seconds},"timestamp_str":"{}","counters":[]}}"#,
                utc(seconds)
            )
        }
        other => {
            let shown: String = other.chars().take(128).collect();
            format!("unknown command '{shown}'")
        }
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
    let changed = match arguments.first() {
        None => pegasus_logs::reset_levels(),
        Some(wanted) => {
            let level = match &*wanted.to_ascii_uppercase() {
                "WARNING" => "warn",
                "FATAL" => "error",
                _ => wanted,
            };
            pegasus_logs::set_level(None, level)
        }
    };
    changed.unwrap_or_else(|error| format!("refused: {error}"))
}

fn help(about: Option<&str>) -> String {
    if let Some(name) = about {
        let known = COMMANDS.iter().find(|(known, _)| *known == name);
        return known.map_or_else(
            || {
                let shown: String = name.chars().take(128).collect();
                format!("cannot find command '{shown}'")
            },
            |(_, text)| (*text).to_owned(),
        );
    }
    let mut all = String::new();
    for (_, text) in COMMANDS {
        _ = writeln!(all, "{text}");
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_nobody_knows_is_named() {
        let answer = command("nonsense", &[], 0, 0);
        assert_eq!(answer, "unknown command 'nonsense'");
    }

    #[test]
    fn every_command_that_is_answered_is_in_the_help() {
        let help = command("help", &[], 0, 0);
        for (name, _) in COMMANDS {
            assert!(help.contains(name), "{name}");
            assert!(!command(name, &[], 0, 0).starts_with("unknown"), "{name}");
        }
        let postfix = ["perf-counters-by-postfix".to_owned()];
        assert!(command("help", &postfix, 0, 0).starts_with(&postfix[0]));
    }
}

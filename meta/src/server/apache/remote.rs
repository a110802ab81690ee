//! Remote commands: texts to operators who ask by name.

use std::fmt::Write as _;

/// What each does, for `help`.
const COMMANDS: [(&str, &str); 6] = [
    ("help", "help [command]: all commands, or what one does"),
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
        "help" => help(arguments.first().map(String::as_str)),
        "server-info" => format!(
            "Pegasus Server {} (thread-per-core) Release, Started at {}",
            env!("CARGO_PKG_VERSION"),
            date(started_s)
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
                date(seconds)
            )
        }
        other => {
            let shown: String = other.chars().take(128).collect();
            format!("unknown command '{shown}'")
        }
    }
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

/// Unix seconds as `2016-01-31 12:00:00`, in UTC.
pub(in crate::server) fn date(seconds: u64) -> String {
    let days = seconds / 86_400;
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// Year, month and day of a number of days since 1970 (Gregorian, in eras of 400 years that begin in March).
const fn civil(days: u64) -> (u64, u64, u64) {
    // Days from 0000-03-01 to 1970-01-01.
    let days = days.saturating_add(719_468);
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400;
    (if month <= 2 { year + 1 } else { year }, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let cases = [
            (0, "1970-01-01 00:00:00"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_451_606_399, "2015-12-31 23:59:59"),
            (1_451_606_400, "2016-01-01 00:00:00"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(date(seconds), expected);
        }
    }

    #[test]
    fn a_command_that_nobody_knows_is_named() {
        let answer = command("nonsense", &[], 0, 0);
        assert_eq!(answer, "unknown command 'nonsense'");
    }
}

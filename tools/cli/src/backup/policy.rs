//! `pegasus backup policy ..`: backups by the clock.

use crate::connect::Connect;
use crate::exit::Failed;
use crate::output::{Output, Style, table};
use clap::{Args, Subcommand};
use pegasus_client::{PolicyAction, PolicyInfo, PolicyRequest, PolicyStart};
use pegasus_host::units::ByteSize;
use serde_json::{Value, json};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a policy
    #[command(after_help = "\
Each table has backups of its own. A time that is missed, because meta was down or the table was being backed up, is made up
for once. When a backup is complete, complete ones of the policy beyond the newest `--keep` are deleted at the target.

  pegasus backup policy add nightly --target local --tables users,orders --interval 1d --start 03:30 --keep 7")]
    Add(Add),
    /// All policies
    List,
    /// One policy, with its tables
    Show {
        /// Its name
        name: String,
    },
    /// Change a policy; what is not named stays as it is
    Modify(Modify),
    /// Let a policy begin backups again, from its next time on
    Enable {
        /// Its name
        name: String,
    },
    /// Have a policy begin nothing any more
    Disable(Stop),
    /// Remove a policy; its backups stay
    Remove(Stop),
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// Its name
    name: String,
    /// A target in the configuration of the cluster
    #[arg(long, value_name = "NAME")]
    target: String,
    /// The directory below the target [default: the name of the cluster]
    #[arg(long, value_name = "DIRECTORY")]
    root: Option<String>,
    /// The tables
    #[arg(
        long,
        value_name = "TABLE[,TABLE]",
        value_delimiter = ',',
        required = true
    )]
    tables: Vec<String>,
    /// From one backup to the next, such as 1d, 6h, 30m or seconds
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    interval: u64,
    /// Time of the day, UTC, at which the first begins; intervals count from there [default: at once]
    #[arg(long, value_name = "HH:MM", value_parser = minute_of_day)]
    start: Option<u16>,
    /// Complete backups of each table that are kept
    #[arg(long, value_name = "COUNT", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    keep: u32,
    /// At most so many bytes a second from each node, such as 20M
    #[arg(long, value_name = "BYTES")]
    budget: Option<ByteSize>,
}

#[derive(Debug, Args)]
pub(crate) struct Modify {
    /// Its name
    name: String,
    /// Tables to add
    #[arg(long, value_name = "TABLE[,TABLE]", value_delimiter = ',')]
    add: Vec<String>,
    /// Tables to leave out
    #[arg(long, value_name = "TABLE[,TABLE]", value_delimiter = ',')]
    remove: Vec<String>,
    /// From one backup to the next
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    interval: Option<u64>,
    /// Time of the day, UTC, or `any`
    #[arg(long, value_name = "HH:MM", value_parser = start)]
    start: Option<PolicyStart>,
    /// Complete backups of each table that are kept
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    keep: Option<u32>,
    /// At most so many bytes a second from each node; 0: as they are configured
    #[arg(long, value_name = "BYTES")]
    budget: Option<ByteSize>,
}

#[derive(Debug, Args)]
pub(crate) struct Stop {
    /// Its name
    name: String,
    /// Also while one of its backups is running, which is cancelled
    #[arg(long)]
    force: bool,
}

/// `HH:MM` as minutes since midnight.
fn minute_of_day(text: &str) -> Result<u16, String> {
    let wrong = || format!("{text:?} is no time of the day from 00:00 to 23:59 (UTC)");
    let (hours, minutes) = text.split_once(':').ok_or_else(wrong)?;
    let number = |text: &str, max: u16| {
        let is_plain = (1..=2).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_digit());
        let number = text.parse::<u16>().ok();
        number.filter(|it| is_plain && *it <= max)
    };
    let hours = number(hours, 23).ok_or_else(wrong)?;
    Ok(hours * 60 + number(minutes, 59).ok_or_else(wrong)?)
}

fn start(text: &str) -> Result<PolicyStart, String> {
    match text {
        "any" => Ok(PolicyStart::NoFixedTime),
        text => minute_of_day(text).map(PolicyStart::Minute),
    }
}

/// `1d`, `6h`, `30m`, `45s` or seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.char_indices().last() {
        Some((at, 'd')) => (&text[..at], 86_400),
        Some((at, 'h')) => (&text[..at], 3_600),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 's')) => (&text[..at], 1),
        _ => (text, 1),
    };
    let number = digits.parse::<u64>().ok();
    let seconds = number
        .and_then(|it| it.checked_mul(unit))
        .filter(|it| *it > 0);
    seconds.ok_or_else(|| format!("{text:?} is no time such as 1d, 6h, 30m or 3600"))
}

pub(super) async fn run(
    command: &Command,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let request = match command {
        Command::List => {
            let policies = connect.client().await?.backup_policies("").await?;
            return show(&policies, out);
        }
        Command::Show { name } => {
            let policies = connect.client().await?.backup_policies(name).await?;
            return show(&policies, out);
        }
        Command::Add(add) => PolicyRequest {
            action: PolicyAction::Add,
            name: add.name.clone(),
            target: add.target.clone(),
            root: add.root.clone().unwrap_or_default(),
            add_tables: add.tables.clone(),
            interval_seconds: add.interval,
            start: add.start.map_or(PolicyStart::AsItIs, PolicyStart::Minute),
            keep_count: add.keep,
            bytes_per_second: add.budget.map(|it| it.0),
            ..PolicyRequest::default()
        },
        Command::Modify(modify) => modified(modify)?,
        Command::Enable { name } => switch(PolicyAction::Enable, name, false),
        Command::Disable(stop) => switch(PolicyAction::Disable, &stop.name, stop.force),
        Command::Remove(stop) => switch(PolicyAction::Remove, &stop.name, stop.force),
    };
    let client = connect.client().await?;
    client.order_backup_policy(&request).await?;
    if request.action == PolicyAction::Remove {
        return match out.style {
            Style::Json => out.json(&json!({ "policy": request.name, "removed": true })),
            Style::People => Ok(out.line(format!("policy {} is removed", request.name))?),
        };
    }
    show(&client.backup_policies(&request.name).await?, out)
}

fn modified(modify: &Modify) -> anyhow::Result<PolicyRequest> {
    let request = PolicyRequest {
        action: PolicyAction::Modify,
        name: modify.name.clone(),
        add_tables: modify.add.clone(),
        remove_tables: modify.remove.clone(),
        interval_seconds: modify.interval.unwrap_or(0),
        start: modify.start.unwrap_or(PolicyStart::AsItIs),
        keep_count: modify.keep.unwrap_or(0),
        bytes_per_second: modify.budget.map(|it| it.0),
        ..PolicyRequest::default()
    };
    let unchanged = PolicyRequest {
        action: PolicyAction::Modify,
        name: modify.name.clone(),
        ..PolicyRequest::default()
    };
    if request == unchanged {
        return Err(Failed::usage("nothing is to be changed: see --help"));
    }
    Ok(request)
}

fn switch(action: PolicyAction, name: &str, force: bool) -> PolicyRequest {
    PolicyRequest {
        action,
        name: name.to_owned(),
        force,
        ..PolicyRequest::default()
    }
}

fn time_of_day(minute: Option<u16>) -> String {
    minute.map_or_else(
        || "any time".to_owned(),
        |minute| format!("{:02}:{:02} UTC", minute / 60, minute % 60),
    )
}

fn show(policies: &[PolicyInfo], out: &mut Output) -> anyhow::Result<()> {
    if out.style == Style::Json {
        let policies: Vec<Value> = policies.iter().map(json_of).collect();
        return out.json(&json!({ "policies": policies }));
    }
    let header = [
        "Policy",
        "On",
        "Target",
        "Root",
        "Every",
        "Start",
        "Keep",
        "Table",
        "Last",
        "Newest complete",
        "Next",
    ];
    let mut shown = table(&header, &[6]);
    for it in policies {
        for of_table in &it.tables {
            let dropped = if of_table.is_dropped {
                " (dropped)"
            } else {
                ""
            };
            let id = |id: u64| {
                if id == 0 {
                    String::new()
                } else {
                    id.to_string()
                }
            };
            shown.add_row([
                it.name.clone(),
                if it.is_enabled { "yes" } else { "no" }.to_owned(),
                it.target.clone(),
                it.root.clone(),
                format!("{} s", it.interval_seconds),
                time_of_day(it.start_minute),
                it.keep_count.to_string(),
                format!("{}{dropped}", of_table.name),
                id(of_table.last_backup_id),
                id(of_table.newest_complete_ms),
                if it.is_enabled {
                    id(of_table.next_ms)
                } else {
                    String::new()
                },
            ]);
        }
    }
    Ok(out.table(&shown)?)
}

fn json_of(policy: &PolicyInfo) -> Value {
    let tables = policy.tables.iter().map(|it| {
        json!({
            "table": it.name, "table_id": it.id, "dropped": it.is_dropped, "last_backup": it.last_backup_id,
            "newest_complete_ms": it.newest_complete_ms, "next_ms": it.next_ms,
        })
    });
    let tables: Vec<Value> = tables.collect();
    json!({
        "policy": policy.name, "enabled": policy.is_enabled, "target": policy.target, "root": policy.root,
        "interval_seconds": policy.interval_seconds, "start_minute": policy.start_minute,
        "keep": policy.keep_count, "bytes_per_second": policy.bytes_per_second, "tables": tables,
    })
}

#[cfg(test)]
mod tests {
    use super::{minute_of_day, seconds};

    #[test]
    fn intervals_have_units_and_are_not_nothing() {
        assert_eq!(seconds("1d"), Ok(86_400));
        assert_eq!(seconds("6h"), Ok(21_600));
        assert_eq!(seconds("30m"), Ok(1_800));
        assert_eq!(seconds("90"), Ok(90));
        for text in ["", "d", "0", "1w", "-1", "99999999999999999999d"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_of_the_day_are_hours_and_minutes() {
        assert_eq!(minute_of_day("03:30"), Ok(210));
        for text in ["24:00", "12:60", "12", "+1:00"] {
            assert!(minute_of_day(text).is_err(), "{text}");
        }
    }
}

//! `pegasus scrub start|status`: nodes read everything they have on disk and check it.

use crate::connect::Connect;
use crate::each_node::{self, Which, check_answers};
use crate::exit::{Exit, Failed};
use crate::output::{Output, Style, table};
use clap::Subcommand;
use pegasus_client::ScrubInfo;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Begin a pass now, on every node, unless one is under way
    #[command(after_help = "\
A pass reads every table file and every log of a node and checks their checksums, slowly: process.scrub.share_percent of
the time. Nodes make one by themselves every process.scrub.period_hours.")]
    Start(Which),
    /// How far the passes are and what they have found (exit code 1 if they have found damage)
    Status(Which),
}

type Told = each_node::Told<ScrubInfo>;

pub(crate) async fn run(
    command: &Command,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let (which, start) = match command {
        Command::Start(which) => (which, true),
        Command::Status(which) => (which, false),
    };
    let client = each_node::client(connect).await?;
    let ask_core = async |core: &str| client.scrub(core, start).await;
    let told = each_node::ask(&client, *which, ask_core).await?;
    match out.style {
        Style::Json => out.json(&told.iter().map(told_json).collect::<Vec<_>>())?,
        Style::People => show(&told, out)?,
    }
    end(&told, start)
}

fn show(told: &[Told], out: &mut Output) -> anyhow::Result<()> {
    let mut rows = table(&["node", "state", "last whole pass", "findings"], &[0, 3]);
    for it in told {
        rows.add_row(match &it.answer {
            Ok(info) => [
                it.node.to_string(),
                state(info),
                finished(info, SystemTime::now()),
                info.findings.len().to_string(),
            ],
            Err(error) => [
                it.node.to_string(),
                error.clone(),
                String::new(),
                String::new(),
            ],
        });
    }
    out.table(&rows)?;
    for (node, finding) in findings(told) {
        out.line(format!("node {node}: {finding}"))?;
        out.line(format!("  {}", advice(finding)))?;
    }
    Ok(())
}

fn findings(told: &[Told]) -> impl Iterator<Item = (u32, &str)> {
    let answered = told
        .iter()
        .filter_map(|it| Some((it.node, it.answer.as_ref().ok()?)));
    answered.flat_map(|(node, info)| info.findings.iter().map(move |it| (node, it.as_str())))
}

/// `checking: 3 of 8 replicas`
fn state(info: &ScrubInfo) -> String {
    let began = if info.began { ", begun now" } else { "" };
    match info {
        _ if !info.is_running => "idle".to_owned(),
        _ if info.total == 0 => format!("begins{began}"),
        _ if info.done == info.total => format!("checking: logs{began}"),
        _ => format!("checking: {} of {} replicas{began}", info.done, info.total),
    }
}

fn finished(info: &ScrubInfo, now: SystemTime) -> String {
    let Some(at) = info.finished_unix_s else {
        return "none yet".to_owned();
    };
    let ago = now
        .duration_since(UNIX_EPOCH + Duration::from_secs(at))
        .unwrap_or_default()
        .as_secs();
    match ago {
        0..120 => format!("{ago} s ago"),
        120..7200 => format!("{} min ago", ago / 60),
        7200..172_800 => format!("{} h ago", ago / 3600),
        _ => format!("{} days ago", ago / 86_400),
    }
}

/// What an operator does about it.
fn advice(finding: &str) -> &'static str {
    if finding.starts_with("replica") {
        "it was taken out of service and is made anew from its peers by itself (`pegasus table show`); look at this node's drive"
    } else {
        "harmless while the node runs: what was in it is being written to table files; look at this node's drive"
    }
}

fn end(told: &[Told], start: bool) -> anyhow::Result<()> {
    check_answers(told)?;
    let found = findings(told).count();
    if found > 0 && !start {
        let places = if found == 1 { "place" } else { "places" };
        let sentence = format!("scrubbing has found damage in {found} {places}");
        return Err(Failed::error(Exit::Failed, sentence));
    }
    Ok(())
}

fn told_json(told: &Told) -> Value {
    match &told.answer {
        Err(error) => json!({ "node": told.node, "error": error }),
        Ok(info) => json!({
            "node": told.node,
            "began": info.began,
            "running": info.is_running,
            "done": info.done,
            "total": info.total,
            "finished_unix_s": info.finished_unix_s,
            "findings": info.findings,
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::exit::exit_of;

    fn told(findings: &[&str]) -> Told {
        let info = ScrubInfo {
            findings: findings.iter().map(|it| (*it).to_owned()).collect(),
            ..ScrubInfo::default()
        };
        Told {
            node: 2,
            answer: Ok(info),
        }
    }

    #[test]
    fn a_pass_says_how_far_it_is() {
        let mut info = ScrubInfo::default();
        assert_eq!(state(&info), "idle");
        info.is_running = true;
        info.began = true;
        assert_eq!(state(&info), "begins, begun now");
        info.began = false;
        (info.done, info.total) = (3, 8);
        assert_eq!(state(&info), "checking: 3 of 8 replicas");
        info.done = 8;
        assert_eq!(state(&info), "checking: logs");
    }

    #[test]
    fn the_last_pass_is_as_old_as_it_is() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let at = |finished_unix_s| {
            let info = ScrubInfo {
                finished_unix_s,
                ..ScrubInfo::default()
            };
            finished(&info, now)
        };
        assert_eq!(at(None), "none yet");
        assert_eq!(at(Some(999_990)), "10 s ago");
        assert_eq!(at(Some(999_000)), "16 min ago");
        assert_eq!(at(Some(1_000_010)), "0 s ago", "a clock that was set back");
        assert_eq!(at(Some(1)), "11 days ago");
    }

    #[test]
    fn damage_fails_who_asks_for_it_and_silence_is_said_first() {
        let exit = |told: &[Told], start| end(told, start).map_err(|it| exit_of(&it));
        assert_eq!(exit(&[told(&[])], false), Ok(()));
        let damaged = told(&["log of core 0: corrupt"]);
        assert_eq!(exit(&[damaged], false), Err(Exit::Failed));
        let damaged = told(&["replica 1.2 on core 0: block checksum mismatch"]);
        assert_eq!(exit(&[damaged], true), Ok(()));
        let silent = Told {
            node: 3,
            answer: Err("gone for 7 s".to_owned()),
        };
        let damaged = told(&["log of core 0: corrupt"]);
        assert_eq!(exit(&[damaged, silent], false), Err(Exit::Unavailable));
    }

    #[test]
    fn every_finding_comes_with_what_to_do() {
        assert!(advice("replica 1.2 on core 0: x").contains("made anew"));
        assert!(advice("log of core 0: x").contains("harmless while the node runs"));
    }
}

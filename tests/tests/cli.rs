//! The command line against real local clusters, as people and scripts use it: every verb, its JSON, its exit codes.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "cli/bulk.rs"]
mod bulk;
#[path = "cli/cores.rs"]
mod cores;
#[path = "cli/failover.rs"]
mod failover;
#[path = "cli/local.rs"]
mod local;
#[path = "cli/rows.rs"]
mod rows;
#[path = "cli/shell.rs"]
mod shell;
#[path = "cli/tune.rs"]
mod tune;
#[path = "cli/usage.rs"]
mod usage;

use e2e::cluster::Cluster;
use serde_json::Value;
use std::process::{Command, Output};

/// What a command did: exit code, standard output, standard error.
struct Done {
    code: i32,
    out: String,
    err: String,
}

impl Done {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().expect("not killed by a signal"),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn run(command: &mut Command) -> Self {
        Self::of(&command.output().unwrap())
    }

    /// Standard output as JSON; a failure shows all of it.
    fn json(&self) -> Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|error| panic!("{error}: {} / {}", self.out, self.err))
    }

    /// The error that `--json` has put on the last line of standard error.
    fn error(&self) -> Value {
        let last = self.err.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {}", self.err))
    }
}

fn done(cluster: &Cluster, arguments: &[&str]) -> Done {
    Done::run(&mut cluster.command(arguments))
}

/// Runs it with `--json` and wants success.
fn json(cluster: &Cluster, arguments: &[&str]) -> Value {
    let done = Done::run(cluster.command(arguments).arg("--json"));
    assert_eq!(done.code, 0, "{arguments:?}: {}", done.err);
    done.json()
}

/// Runs it with and without `--json` and wants this exit code, once in words and once in JSON.
fn refused(cluster: &Cluster, arguments: &[&str], code: i32, kind: &str, says: &str) {
    let words = done(cluster, arguments);
    assert_eq!(words.code, code, "{arguments:?}: {}", words.err);
    assert!(words.err.contains(says), "{arguments:?}: {}", words.err);
    let json = Done::run(cluster.command(arguments).arg("--json"));
    assert_eq!(json.code, code, "{arguments:?}: {}", json.err);
    let error = json.error();
    assert_eq!(
        (error["exit"].as_i64(), error["kind"].as_str()),
        (Some(code.into()), Some(kind)),
        "{arguments:?}"
    );
    let sentence = error["error"].as_str().unwrap();
    assert!(sentence.contains(says), "{arguments:?}: {sentence}");
}

/// Lines of tables, and the columns a terminal needs for the widest of them.
fn table_width(text: &str) -> usize {
    let lines = text
        .lines()
        .filter(|line| line.starts_with(['│', '┌', '└']));
    lines.map(|line| line.chars().count()).max().unwrap_or(0)
}

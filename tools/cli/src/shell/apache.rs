//! The verbs of Apache Pegasus' shell, each translated into command lines of ours. Source: its `help`.
//!
//! Verbs that both have by the same name and with the same words (`get`, `set`, `del`, `incr`, `ttl`, `exist`, `count`,
//! `hash`) are not here: the CLI's take the table in use.

mod admin;
mod facts;
mod filters;
mod rows;

use super::argv::Argv;
use super::own::Own;
use crate::exit::Failed;
use clap::{Arg, ArgAction, Command, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
pub(super) use facts::Facts;
use std::ffi::OsString;
use std::path::PathBuf;

/// What a line does.
#[derive(Debug)]
pub(super) enum Action {
    /// Runs command lines of the CLI, until one fails; what they print goes to the file, if there is one.
    Run {
        lines: Vec<Vec<OsString>>,
        output: Option<PathBuf>,
    },
    /// Runs one whose changes are the next lines.
    Mutate(Argv),
    /// Concerns the shell itself.
    Own(Own),
}

type Told = anyhow::Result<Action>;

impl Action {
    fn run(argv: Argv) -> Self {
        Self::run_to(argv, None)
    }

    fn run_to(argv: Argv, output: Option<PathBuf>) -> Self {
        Self::all([argv], output)
    }

    fn all(lines: impl IntoIterator<Item = Argv>, output: Option<PathBuf>) -> Self {
        let lines = lines.into_iter().map(Argv::words).collect();
        Self::Run { lines, output }
    }
}

/// What a translation needs to know.
#[derive(Debug)]
pub(super) struct Context<'a> {
    /// The one in use.
    pub(super) table: Option<&'a str>,
    pub(super) facts: &'a Facts,
}

impl<'a> Context<'a> {
    fn table(&self) -> anyhow::Result<&'a str> {
        self.table
            .ok_or_else(|| Failed::usage("no table is in use: `use TABLE` first"))
    }

    const fn facts(&self) -> &'a Facts {
        self.facts
    }
}

/// One line of Apache's shell, or one that concerns ours alone.
#[derive(Debug, Parser)]
#[command(name = "", no_binary_name = true, disable_help_subcommand = true)]
#[command(disable_help_flag = true, disable_version_flag = true)]
struct Line {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    #[command(flatten)]
    Rows(rows::Verb),
    #[command(flatten)]
    Admin(admin::Verb),
    #[command(flatten)]
    Own(Own),
}

/// A line that is understood.
#[derive(Debug)]
pub(super) struct Parsed(Verb);

impl Parsed {
    /// Whether `Context::facts` have to be there.
    pub(super) const fn needs_facts(&self) -> bool {
        matches!(&self.0, Verb::Admin(verb) if verb.needs_facts())
    }

    pub(super) fn translate(self, context: &Context<'_>) -> Told {
        match self.0 {
            Verb::Rows(verb) => verb.translate(context),
            Verb::Admin(verb) => verb.translate(context),
            Verb::Own(own) => Ok(Action::Own(own)),
        }
    }
}

/// The verbs, for help and completion. `-h` filters in some of them, so help is `--help` alone.
pub(super) fn command() -> Command {
    let help = || {
        Arg::new("help")
            .long("help")
            .action(ArgAction::Help)
            .help("Print help")
    };
    let mut command = Line::command();
    let names: Vec<String> = (command.get_subcommands())
        .map(|it| it.get_name().to_owned())
        .collect();
    for name in names {
        command = command.mut_subcommand(name, |it| it.disable_help_flag(true).arg(help()));
    }
    command
}

/// Whether a line is one of these; a verb may be written with `-` for `_`. `balance` is ours too: Apache's names a partition.
pub(super) fn knows(words: &[OsString], command: &Command) -> bool {
    let Some(verb) = words.first().and_then(|verb| verb.to_str()) else {
        return false;
    };
    let names_partition = |word: &OsString| {
        word.to_str()
            .is_some_and(|word| word.starts_with("-g") || word.starts_with("--gpid"))
    };
    match verb {
        "balance" => words.iter().any(names_partition),
        _ => command.find_subcommand(spelled(verb)).is_some(),
    }
}

fn spelled(verb: &str) -> String {
    verb.replace('-', "_")
}

/// # Errors
/// Of clap: a wrong line, or one that asks for help.
pub(super) fn parse(words: &[OsString], command: &Command) -> Result<Parsed, clap::Error> {
    let mut words = words.to_vec();
    if let Some(verb) = words.first_mut()
        && let Some(text) = verb.to_str()
    {
        *verb = spelled(text).into();
    }
    let matches = command.clone().try_get_matches_from(words)?;
    Line::from_arg_matches(&matches).map(|line| Parsed(line.verb))
}

/// Verbs of Apache's shell that there is nothing for, and why.
pub(super) fn missing(verb: &str) -> Option<&'static str> {
    let found = MISSING.iter().find(|(verbs, _)| verbs.contains(&verb));
    found.map(|(_, why)| *why)
}

const MISSING: [(&[&str], &str); 8] = [
    (
        &[
            "add_backup_policy",
            "ls_backup_policy",
            "query_backup_policy",
            "modify_backup_policy",
            "disable_backup_policy",
            "enable_backup_policy",
            "restore_app",
            "query_restore_status",
        ],
        "there are no backup policies; `export` and `import` keep the rows of a table",
    ),
    (
        &[
            "add_dup",
            "query_dup",
            "dups",
            "remove_dup",
            "start_dup",
            "pause_dup",
            "set_dup_fail_mode",
        ],
        "clusters do not follow one another; `copy_data` copies a table to another cluster",
    ),
    (
        &[
            "start_bulk_load",
            "query_bulk_load_status",
            "pause_bulk_load",
            "restart_bulk_load",
            "cancel_bulk_load",
            "clear_bulk_load",
        ],
        "files are not loaded as a whole; `import` writes the rows of one",
    ),
    (
        &[
            "start_partition_split",
            "query_partition_split",
            "local_partition_split",
        ],
        "the number of partitions is fixed; `copy_data` to a table with more of them",
    ),
    (&["flush_log"], "what a client was told is on disk already"),
    (
        &[
            "get_atomic_idempotent",
            "enable_atomic_idempotent",
            "disable_atomic_idempotent",
        ],
        "atomic writes are always safe to repeat",
    ),
    (
        &[
            "local_get",
            "rdb_key_str2hex",
            "rdb_key_hex2str",
            "rdb_value_hex2str",
            "sst_dump",
            "mlog_dump",
        ],
        "files of a node are read by the node only",
    ),
    (
        &["recover"],
        "the state of meta is rebuilt by `pegasus-meta recover`",
    ),
];

#[cfg(test)]
mod tests;

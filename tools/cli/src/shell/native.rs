//! The verbs of the CLI inside the shell: the same definitions, with the table in use where a verb wants one.

use crate::Cli;
use clap::{Arg, Command, CommandFactory as _};
use std::ffi::{OsStr, OsString};

pub(super) fn command() -> Command {
    let mut command = Cli::command();
    // Global options become known to every verb.
    command.build();
    command
}

pub(super) fn knows(verb: &str, root: &Command) -> bool {
    verb == "--help" || verb == "--version" || root.find_subcommand(verb).is_some()
}

/// How a verb names the table that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TakesTable {
    No,
    /// As the first word behind it.
    First,
    /// As `--table`.
    Option,
}

/// Only where a table must be named, so that a verb never means another thing while one is in use.
pub(super) fn takes_table(verb: &Command) -> TakesTable {
    let first = verb.get_positionals().next();
    let is_table = |arg: &&Arg| arg.get_id() == "table" && arg.is_required_set();
    if first.as_ref().is_some_and(is_table) {
        return TakesTable::First;
    }
    let has_option = verb.get_opts().any(|arg| is_table(&arg));
    if has_option {
        TakesTable::Option
    } else {
        TakesTable::No
    }
}

/// The words with the table in use put where the verb wants it.
pub(super) fn with_table(
    mut words: Vec<OsString>,
    table: Option<&str>,
    root: &Command,
) -> Vec<OsString> {
    let verb = words.first().and_then(|verb| verb.to_str());
    let verb = verb.and_then(|verb| root.find_subcommand(verb));
    let (Some(verb), Some(table)) = (verb, table) else {
        return words;
    };
    let is_named = |word: &OsString| word == "--table" || begins(word, "--table=");
    let asks_help = words.iter().any(|word| word == "--help" || word == "-h");
    match takes_table(verb) {
        _ if asks_help => {}
        TakesTable::First => words.insert(1, table.into()),
        TakesTable::Option if !words.iter().any(is_named) => {
            words.insert(1, format!("--table={table}").into());
        }
        TakesTable::Option | TakesTable::No => {}
    }
    words
}

/// Adds `--yes` to a verb that asks.
pub(super) fn say_yes(words: &mut Vec<OsString>, root: &Command) {
    let mut verb = root;
    let mut depth = 0;
    for word in words.iter() {
        let Some(found) = word.to_str().and_then(|word| verb.find_subcommand(word)) else {
            break;
        };
        verb = found;
        depth += 1;
    }
    let asks = verb.get_arguments().any(|arg| arg.get_id() == "yes");
    if asks && !words.iter().any(|word| word == "--yes") {
        words.insert(depth, "--yes".into());
    }
}

fn begins(word: &OsStr, with: &str) -> bool {
    word.as_encoded_bytes().starts_with(with.as_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn with(line: &str, table: Option<&str>) -> String {
        let words = line.split(' ').map(Into::into).collect();
        let words = with_table(words, table, &command());
        let words: Vec<String> = words
            .into_iter()
            .map(|it| it.into_string().unwrap())
            .collect();
        words.join(" ")
    }

    #[test]
    fn verbs_on_rows_take_the_table_in_use_and_others_do_not() {
        let there = |line: &str| with(line, Some("t"));
        for verb in [
            "get",
            "set",
            "del",
            "exist",
            "ttl",
            "incr",
            "scan",
            "count",
            "hash",
            "multi-set",
            "multi-get",
            "multi-del",
            "del-range",
            "check-and-set",
            "check-and-mutate",
            "count-data",
            "copy-data",
            "clear-data",
        ] {
            assert_eq!(there(&format!("{verb} a b")), format!("{verb} t a b"));
        }
        assert_eq!(
            there("import f --format tsv"),
            "import --table=t f --format tsv"
        );
        assert_eq!(there("export --table u"), "export --table u");
        for line in [
            "table list",
            "table show u",
            "node list",
            "nonsense a",
            "get --help",
        ] {
            assert_eq!(there(line), line);
        }
        assert_eq!(with("get u a b", None), "get u a b");
    }

    #[test]
    fn who_wants_no_questions_says_yes_to_verbs_that_ask() {
        let yes = |line: &str| {
            let mut words: Vec<OsString> = line.split(' ').map(Into::into).collect();
            say_yes(&mut words, &command());
            words.join(OsStr::new(" ")).into_string().unwrap()
        };
        assert_eq!(yes("table drop t"), "table drop --yes t");
        assert_eq!(yes("clear-data t"), "clear-data --yes t");
        assert_eq!(yes("table drop t --yes"), "table drop t --yes");
        assert_eq!(yes("table list"), "table list");
        assert_eq!(yes("set t drop a b"), "set t drop a b");
    }
}

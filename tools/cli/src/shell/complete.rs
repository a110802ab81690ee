//! What Tab offers: verbs, options and their values, tables and files, all of it from the definitions of the verbs.

use super::native::{TakesTable, takes_table};
use super::words::{Line, Word, quoted};
use super::{apache, native, suggest};
use crate::connect::Connect;
use clap::{Arg, Command, ValueHint};
use reedline::{Completer, CompletionResult, Span, Suggestion};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Names that change while the shell runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    tables: Mutex<Vec<String>>,
    /// One is in use, so verbs on rows are written without it.
    has_table: AtomicBool,
    is_asking: AtomicBool,
}

impl Names {
    pub(super) fn set_tables(&self, tables: Vec<String>) {
        *(self.0.tables.lock()).unwrap_or_else(PoisonError::into_inner) = tables;
    }

    pub(super) fn set_in_use(&self, has_table: bool) {
        self.0.has_table.store(has_table, Ordering::Relaxed);
    }

    fn tables(&self) -> Vec<String> {
        (self.0.tables.lock())
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Asks meta in the background; one that does not answer leaves what was known.
    pub(super) fn refresh(&self, runtime: &tokio::runtime::Handle, connect: &Connect) {
        if self.0.is_asking.swap(true, Ordering::Relaxed) {
            return;
        }
        let (names, connect) = (self.clone(), connect.clone());
        runtime.spawn(async move {
            if let Ok(client) = connect.client().await
                && let Ok(tables) = client.list_tables().await
            {
                names.set_tables(tables.into_iter().map(|it| it.name).collect());
            }
            names.0.is_asking.store(false, Ordering::Relaxed);
        });
    }
}

pub(super) struct Suggest {
    names: Names,
    native: Command,
    apache: Command,
}

/// What may stand where the cursor is, with a note.
type Offers = Vec<(String, Option<String>)>;

/// As many files of a directory are looked at.
const FILES_MAX: usize = 1_000;

impl Completer for Suggest {
    fn complete(&mut self, line: &str, pos: usize) -> CompletionResult {
        let before = line.get(..pos).unwrap_or(line);
        let read = Line::read(before.as_bytes());
        let mut words = match read.is_between {
            true => Vec::new(),
            false => read.commands.last().cloned().unwrap_or_default(),
        };
        // Behind a blank a new word begins.
        let open = words.pop_if(|word| word.at.end == before.len());
        let start = open.as_ref().map_or(before.len(), |word| word.at.start);
        let typed = open.map_or_else(String::new, |word| text(&word));
        let words: Vec<String> = words.iter().map(text).collect();
        let suggestions: Vec<Suggestion> = (self.offers(&words, &typed).into_iter())
            .filter(|(value, _)| value.starts_with(&typed))
            .map(|(value, description)| Suggestion {
                append_whitespace: !value.ends_with(['/', '=']),
                value: quoted(&value),
                description,
                span: Span::new(start, pos.max(start)),
                ..Suggestion::default()
            })
            .collect();
        CompletionResult::fresh(suggestions)
    }
}

fn text(word: &Word) -> String {
    String::from_utf8_lossy(&word.text).into_owned()
}

impl Suggest {
    pub(super) fn new(names: Names) -> Self {
        Self {
            names,
            native: native::command(),
            apache: apache::command(),
        }
    }

    /// `words` stand before the word that is typed.
    fn offers(&self, words: &[String], typed: &str) -> Offers {
        let Some((first, rest)) = words.split_first() else {
            let all = suggest::verbs(&self.native).chain(suggest::verbs(&self.apache));
            let mut all: Offers = all
                .map(|(name, about)| (name.to_owned(), Some(about)))
                .collect();
            all.sort();
            all.dedup_by(|a, b| a.0 == b.0);
            return all;
        };
        if first == "help" {
            return self.offers_of_help(rest);
        }
        if let Some(verb) = self.apache.find_subcommand(first.replace('-', "_")) {
            return self.words_of(verb, rest, typed, 0);
        }
        let Some(mut verb) = self.native.find_subcommand(first) else {
            return Vec::new();
        };
        let in_use = self.names.0.has_table.load(Ordering::Relaxed);
        let given = usize::from(in_use && takes_table(verb) == TakesTable::First);
        let mut rest = rest;
        while let Some((next, behind)) = rest.split_first()
            && let Some(found) = verb.find_subcommand(next)
        {
            (verb, rest) = (found, behind);
        }
        self.words_of(verb, rest, typed, given)
    }

    fn offers_of_help(&self, words: &[String]) -> Offers {
        let mut at = &self.native;
        for word in words {
            match at.find_subcommand(word) {
                Some(found) => at = found,
                None => return Vec::new(),
            }
        }
        match words.is_empty() {
            true => self.offers(&[], ""),
            false => suggest::verbs(at)
                .map(|(name, about)| (name.to_owned(), Some(about)))
                .collect(),
        }
    }

    /// `given` positional words are there without being written.
    fn words_of(&self, verb: &Command, words: &[String], typed: &str, given: usize) -> Offers {
        if let Some(option) = words.last().and_then(|word| waits_for_value(verb, word)) {
            return self.values(option, typed);
        }
        if let Some((name, _)) = typed.split_once('=')
            && let Some(option) = option(verb, name)
        {
            let values = self.values(option, typed.get(name.len() + 1..).unwrap_or_default());
            return values
                .into_iter()
                .map(|(value, about)| (format!("{name}={value}"), about))
                .collect();
        }
        if typed.starts_with('-') {
            return options(verb);
        }
        let below = suggest::verbs(verb).map(|(name, about)| (name.to_owned(), Some(about)));
        let mut offers: Offers = below.collect();
        let position = given + positional_count(verb, words);
        let positionals: Vec<&Arg> = verb.get_positionals().collect();
        if let Some(arg) = positionals.get(position).or(positionals.last())
            && (position < positionals.len() || takes_many(arg))
        {
            offers.extend(self.values(arg, typed));
        }
        offers
    }

    fn values(&self, arg: &Arg, typed: &str) -> Offers {
        let possible = arg.get_possible_values();
        if !possible.is_empty() {
            let shown = possible.iter().filter(|it| !it.is_hide_set());
            return shown
                .map(|it| {
                    let help = it.get_help().map(ToString::to_string);
                    (it.get_name().to_owned(), help)
                })
                .collect();
        }
        match arg.get_value_hint() {
            ValueHint::AnyPath | ValueHint::FilePath | ValueHint::DirPath => files(typed),
            _ if names_table(arg) => self
                .names
                .tables()
                .into_iter()
                .map(|it| (it, None))
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// Whether what stands there is the name of a table that exists.
fn names_table(arg: &Arg) -> bool {
    let id = arg.get_id().as_str();
    let shown = arg.get_value_names().and_then(|names| names.first());
    matches!(
        id,
        "table" | "app_name" | "old_app_name" | "target_app_name"
    ) || shown.is_some_and(|name| *name == "TABLE")
        || (id == "name" && arg.is_positional())
        || (id == "from" && arg.is_positional())
}

fn takes_many(arg: &Arg) -> bool {
    arg.get_num_args()
        .is_some_and(|range| range.max_values() > 1)
}

/// The option that `word` names, by its long or short name.
fn option<'a>(verb: &'a Command, word: &str) -> Option<&'a Arg> {
    let is_it = |arg: &&Arg| match word.strip_prefix("--") {
        Some(long) => arg.get_long() == Some(long),
        None => {
            let mut letters = word.chars();
            letters.next() == Some('-')
                && arg.get_short() == letters.next()
                && letters.next().is_none()
        }
    };
    verb.get_opts().find(is_it)
}

fn waits_for_value<'a>(verb: &'a Command, word: &str) -> Option<&'a Arg> {
    let found = option(verb, word)?;
    let takes_value = found
        .get_num_args()
        .is_none_or(|range| range.min_values() > 0);
    takes_value.then_some(found)
}

fn options(verb: &Command) -> Offers {
    let shown = verb
        .get_arguments()
        .filter(|it| !it.is_positional() && !it.is_hide_set());
    let named = shown.filter_map(|it| {
        let help = it.get_help().map(ToString::to_string);
        Some((format!("--{}", it.get_long()?), help))
    });
    let mut all: Offers = named.collect();
    all.sort();
    all
}

fn positional_count(verb: &Command, words: &[String]) -> usize {
    let mut count = 0;
    let mut before: Option<&String> = None;
    for word in words {
        let is_value = before.is_some_and(|option| waits_for_value(verb, option).is_some());
        let is_option = word.len() > 1 && word.starts_with('-');
        count += usize::from(!is_value && !is_option);
        before = Some(word);
    }
    count
}

/// Files and directories that begin so.
fn files(typed: &str) -> Offers {
    let (directory, start) = match typed.rfind('/') {
        Some(slash) => typed.split_at(slash + 1),
        None => ("", typed),
    };
    let place = if directory.is_empty() { "." } else { directory };
    let Ok(entries) = std::fs::read_dir(Path::new(place)) else {
        return Vec::new();
    };
    let names = entries.take(FILES_MAX).filter_map(|entry| {
        let entry = entry.ok()?;
        let name = entry.file_name().into_string().ok()?;
        let is_shown =
            name.starts_with(start) && (start.starts_with('.') || !name.starts_with('.'));
        let end = if entry.path().is_dir() { "/" } else { "" };
        is_shown.then(|| (format!("{directory}{name}{end}"), None))
    });
    let mut all: Offers = names.collect();
    all.sort();
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn offered(line: &str, in_use: bool) -> Vec<String> {
        let names = Names::default();
        names.set_tables(vec!["demo".to_owned(), "other table".to_owned()]);
        names.set_in_use(in_use);
        let result = Suggest::new(names).complete(line, line.len());
        result
            .suggestions()
            .iter()
            .map(|it| it.value.clone())
            .collect()
    }

    #[test]
    fn verbs_of_both_vocabularies_are_offered() {
        assert_eq!(offered("multi_get_s", false), ["multi_get_sortkeys"]);
        assert_eq!(offered("check-and-s", false), ["check-and-set"]);
        assert_eq!(offered("use demo; vers", false), ["version"]);
        assert!(offered("", false).len() > 60);
        assert!(!offered("in-b", false).contains(&"in-background".to_owned()));
    }

    #[test]
    fn options_and_their_values_come_from_the_definitions() {
        assert_eq!(offered("table create x --parti", false), ["--partitions"]);
        assert_eq!(
            offered("full_scan --hash_key_filter_ty", false),
            ["--hash_key_filter_type"]
        );
        assert_eq!(offered("full_scan -h pre", false), ["prefix"]);
        assert_eq!(offered("export --format=t", false), ["--format=tsv"]);
        assert_eq!(offered("cluster level ste", false), ["steady"]);
        assert_eq!(offered("table sho", false), ["show"]);
        assert_eq!(offered("help table dro", false), ["drop"]);
    }

    #[test]
    fn tables_are_offered_where_one_is_named() {
        for line in [
            "use ",
            "table show ",
            "app ",
            "get ",
            "export --table ",
            "drop ",
        ] {
            assert_eq!(offered(line, false), ["demo", "\"other table\""], "{line}");
        }
        assert_eq!(offered("get de", false), ["demo"]);
        assert!(offered("get demo ", false).is_empty(), "a key");
        assert!(offered("get ", true).is_empty(), "the one in use");
        assert_eq!(offered("table show ", true).len(), 2);
    }

    #[test]
    fn files_are_offered_where_one_is_read_or_written() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("rows.tsv"), "").unwrap();
        std::fs::create_dir(directory.path().join("rows.d")).unwrap();
        std::fs::write(directory.path().join(".hidden"), "").unwrap();
        let place = directory.path().display();
        let full = |name: &str| format!("{place}/{name}");
        assert_eq!(
            offered(&format!("import {place}/"), false),
            [full("rows.d/"), full("rows.tsv")]
        );
        assert_eq!(
            offered(&format!("full_scan -o {place}/rows.t"), false),
            [full("rows.tsv")]
        );
    }
}

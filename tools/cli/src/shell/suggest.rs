//! What there is: the list of all verbs, and the one that was meant.

use clap::Command;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Verbs that are no more different from a word than a typing error.
const LIKENESS_MIN: f64 = 0.8;

/// Names of verbs that are not hidden, with what they do.
pub(super) fn verbs(root: &Command) -> impl Iterator<Item = (&str, String)> {
    let shown = root.get_subcommands().filter(|it| !it.is_hide_set());
    shown.flat_map(|it| {
        let about = it.get_about().map(ToString::to_string).unwrap_or_default();
        let names = std::iter::once(it.get_name()).chain(it.get_visible_aliases());
        names.map(move |name| (name, about.clone()))
    })
}

/// The verb that is most like a word.
pub(super) fn near(word: &str, native: &Command, apache: &Command) -> Option<String> {
    let word = word.to_lowercase();
    let all: BTreeSet<&str> = verbs(native)
        .chain(verbs(apache))
        .map(|(name, _)| name)
        .collect();
    let rated = all
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&word, name), name));
    rated
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name.to_owned())
}

/// What `help` prints.
pub(super) fn overview(native: &Command, apache: &Command) -> String {
    let mut text = String::from("Commands, as behind `pegasus`:\n");
    let ours: BTreeSet<&str> = verbs(native).map(|(name, _)| name).collect();
    push(verbs(native), &mut text);
    text.push_str("\nOf the shell, and by the names of Apache Pegasus' shell:\n");
    push(
        verbs(apache).filter(|(name, _)| !ours.contains(name)),
        &mut text,
    );
    text.push_str(
        "
`help VERB` says more. After `use TABLE`, commands on rows are for that table, and are written without its name.
Keys and values may hold any byte: \\xHH, \\n, \\t, \\0, \\\\; \"..\" and '..' hold blanks. ; parts commands.
Ctrl-C ends a command, Ctrl-D leaves.",
    );
    text
}

fn push<'a>(verbs: impl Iterator<Item = (&'a str, String)>, text: &mut String) {
    for (name, about) in verbs {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {name:<20} {about}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::{apache, native};

    #[test]
    fn a_typing_error_finds_the_verb_that_was_meant() {
        let (native, apache) = (native::command(), apache::command());
        let near = |word| near(word, &native, &apache);
        for (word, meant) in [
            ("gett", "get"),
            ("mutli_get", "multi_get"),
            ("hashscan", "hash_scan"),
            ("LS", "ls"),
            ("cluster_inof", "cluster_info"),
            ("exti", "exit"),
        ] {
            assert_eq!(near(word).as_deref(), Some(meant), "{word}");
        }
        assert_eq!(near("zzz"), None);
    }

    #[test]
    fn help_lists_every_verb_once_and_no_hidden_one() {
        let text = overview(&native::command(), &apache::command());
        for verb in [
            "get",
            "table",
            "multi_get_range",
            "use",
            "exit",
            "count_data",
        ] {
            let lines = text
                .lines()
                .filter(|line| line.split_whitespace().next() == Some(verb));
            assert_eq!(lines.count(), 1, "{verb}");
        }
        assert!(!text.contains("in-background"), "{text}");
    }
}

//! The lines after `check_and_mutate`: `set SORT_KEY VALUE [TTL]`, `del SORT_KEY`, `ok`, `abort`.

use super::input::{Input, Read};
use crate::exit::{Exit, Failed};
use crate::text;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

/// Changes as `check-and-mutate --escaped` takes them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) words: Vec<OsString>,
    /// Of all that is written.
    pub(super) ttl: Option<u32>,
}

/// Reads lines up to `ok`.
///
/// # Errors
/// A line that is none of them, `abort`, or the end: nothing is to be done.
pub(super) fn read(input: &mut Input) -> anyhow::Result<Changes> {
    let mut changes = Changes::default();
    let mut ttls = Vec::new();
    loop {
        let words = match input.next("mutation (set, del, ok, abort)> ")? {
            Read::Command(words) => words,
            Read::Wrong(error) => return Err(error),
            Read::Cancelled | Read::End => return Err(nothing("no ok came")),
        };
        let words: Vec<&OsStr> = words.iter().map(OsString::as_os_str).collect();
        match &words[..] {
            [word] if *word == "ok" => break,
            [word] if *word == "abort" => return Err(nothing("aborted")),
            [verb, sort_key] if *verb == "del" => {
                changes.words.push(format!("!{}", written(sort_key)).into());
            }
            [verb, sort_key, value, ttl @ ..] if *verb == "set" && ttl.len() < 2 => {
                ttls.push(ttl.first().map(|ttl| seconds(ttl)).transpose()?);
                let change = format!("{}={}", written(sort_key), written(value));
                changes.words.push(change.into());
            }
            _ => {
                return Err(Failed::usage(
                    "a mutation is set SORT_KEY VALUE [SECONDS], del SORT_KEY, ok, or abort; nothing was done",
                ));
            }
        }
    }
    if changes.words.is_empty() {
        return Err(nothing("there are no mutations"));
    }
    changes.ttl = ttls.first().copied().flatten();
    if ttls.iter().any(|ttl| *ttl != changes.ttl) {
        return Err(Failed::usage(
            "all rows of a check_and_mutate have one time to live; nothing was done",
        ));
    }
    Ok(changes)
}

fn nothing(why: &str) -> anyhow::Error {
    Failed::error(Exit::Failed, format!("{why}: nothing was done"))
}

fn seconds(text: &OsStr) -> anyhow::Result<u32> {
    let parsed = text.to_str().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| {
        let text = text.to_string_lossy();
        Failed::usage(format!("'{text}': a time to live is a number of seconds"))
    })
}

/// Escaped so that neither = nor ! in a key is taken for a sign.
fn written(bytes: &OsStr) -> String {
    text::escape(bytes.as_bytes())
        .replace('=', "\\x3d")
        .replace('!', "\\x21")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn of(lines: &str) -> anyhow::Result<Changes> {
        read(&mut Input::text(lines.as_bytes().to_vec()))
    }

    #[test]
    fn lines_up_to_ok_are_the_changes() {
        let changes = of("set a=b 'x y' 60\ndel !c\nok\nset d e").unwrap();
        assert_eq!(changes.words, ["a\\x3db=x y", "!\\x21c"]);
        assert_eq!(changes.ttl, Some(60));
    }

    #[test]
    fn nothing_is_done_without_ok_or_with_a_line_that_is_wrong() {
        for lines in [
            "set a b",
            "set a b\nabort",
            "ok",
            "put a b\nok",
            "set a b c\nok",
            "set a b 1\nset c d 2\nok",
            "set 'a\nok",
        ] {
            assert!(of(lines).is_err(), "{lines:?}");
        }
    }
}

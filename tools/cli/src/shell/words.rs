//! A line as words. Keys and values are any bytes, so every byte can be written.
//!
//! | written | means |
//! |---|---|
//! | blanks | end a word |
//! | `;` and the end of the line | end a command |
//! | `# ..` where a command would begin | nothing, up to the end of the line |
//! | `"a b"` | one word, with the escapes below |
//! | `'a b'` | one word, letter by letter |
//! | `\\ \t \n \r \0 \xHH`, outside of `' '` | that byte |
//! | `\` and a blank or a sign, such as `\;` or `\"` | the sign itself |

use std::ffi::OsString;
use std::fmt;
use std::ops::Range;
use std::os::unix::ffi::OsStringExt as _;

/// One word, and the bytes of the line that it was written with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: Vec<u8>,
    pub(super) at: Range<usize>,
}

impl Word {
    pub(super) fn os(self) -> OsString {
        OsString::from_vec(self.text)
    }
}

/// Why a line cannot be read. Offsets count bytes from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// The quote that begins here does not end.
    Quote { at: usize },
    /// The backslash here begins no escape.
    Escape { at: usize },
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quote { at } => write!(
                f,
                "column {}: the quote that begins here does not end",
                at + 1
            ),
            Self::Escape { at } => write!(
                f,
                "column {}: a backslash must be followed by one of \\ t n r 0, by xHH, or by a blank or sign",
                at + 1
            ),
        }
    }
}

impl std::error::Error for Wrong {}

/// The commands of a line, each of one word at least, as far as they can be read. With a problem the word that has it is
/// the last one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) commands: Vec<Vec<Word>>,
    pub(super) comment: Option<Range<usize>>,
    pub(super) problem: Option<Wrong>,
    /// A word typed now would begin another command.
    pub(super) is_between: bool,
}

impl Line {
    /// The commands of a line that is well-formed.
    pub(super) fn whole(line: &[u8]) -> Result<Vec<Vec<Word>>, Wrong> {
        let read = Self::read(line);
        match read.problem {
            None => Ok(read.commands),
            Some(wrong) => Err(wrong),
        }
    }

    pub(super) fn read(line: &[u8]) -> Self {
        let mut read = Self {
            is_between: true,
            ..Self::default()
        };
        let mut at = 0;
        while let Some(&byte) = line.get(at) {
            at = match byte {
                b';' | b'\n' => {
                    read.is_between = true;
                    at + 1
                }
                b'#' if read.is_between => {
                    let end = line[at..].iter().position(|byte| *byte == b'\n');
                    let end = end.map_or(line.len(), |length| at + length);
                    read.comment = Some(at..end);
                    end
                }
                _ if byte.is_ascii_whitespace() => at + 1,
                _ => match read.word(line, at) {
                    Some(end) => end,
                    None => break,
                },
            };
        }
        read
    }

    /// Reads the word that begins at `start`; where it ends, unless the line cannot be read further.
    fn word(&mut self, line: &[u8], start: usize) -> Option<usize> {
        let mut text = Vec::new();
        let (end, problem) = match take_word(line, start, &mut text) {
            Ok(end) => (end, None),
            Err(wrong) => (line.len(), Some(wrong)),
        };
        if std::mem::take(&mut self.is_between) {
            self.commands.push(Vec::new());
        }
        if let Some(command) = self.commands.last_mut() {
            let at = start..end;
            command.push(Word { text, at });
        }
        self.problem = problem;
        problem.is_none().then_some(end)
    }
}

fn take_word(line: &[u8], start: usize, text: &mut Vec<u8>) -> Result<usize, Wrong> {
    let mut at = start;
    let mut quote: Option<(u8, usize)> = None;
    while let Some(&byte) = line.get(at) {
        match (quote, byte) {
            (Some((open, _)), _) if open == byte => {
                quote = None;
                at += 1;
            }
            (Some((b'\'', _)), _) => {
                text.push(byte);
                at += 1;
            }
            (_, b'\\') => {
                let rest = line.get(at + 1..).unwrap_or_default();
                let (value, length) = escaped(rest).ok_or(Wrong::Escape { at })?;
                text.push(value);
                at += 1 + length;
            }
            (Some(_), _) => {
                text.push(byte);
                at += 1;
            }
            (None, b'"' | b'\'') => {
                quote = Some((byte, at));
                at += 1;
            }
            (None, b';') => break,
            (None, _) if byte.is_ascii_whitespace() => break,
            (None, _) => {
                text.push(byte);
                at += 1;
            }
        }
    }
    match quote {
        Some((_, at)) => Err(Wrong::Quote { at }),
        None => Ok(at),
    }
}

/// The byte that the letters after a backslash stand for, and how many letters that took.
fn escaped(rest: &[u8]) -> Option<(u8, usize)> {
    let first = *rest.first()?;
    crate::text::escaped_byte(rest).or_else(|| {
        let is_itself = first == b' ' || first.is_ascii_punctuation();
        is_itself.then_some((first, 1))
    })
}

/// A word written so that it is read as these bytes.
pub(super) fn quoted(text: &str) -> String {
    let is_plain = |letter: char| {
        !letter.is_whitespace() && !letter.is_control() && !"\\;\"'#".contains(letter)
    };
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!(
            "\"{}\"",
            crate::text::escape(text.as_bytes()).replace('"', "\\\"")
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn read(line: &str) -> Vec<Vec<String>> {
        let commands = Line::whole(line.as_bytes()).unwrap();
        let shown = |word: Word| crate::text::escape(&word.text);
        let shown = |command: Vec<Word>| command.into_iter().map(shown).collect();
        commands.into_iter().map(shown).collect()
    }

    #[test]
    fn blanks_part_words_and_semicolons_part_commands() {
        let none: Vec<Vec<String>> = Vec::new();
        assert_eq!(read(""), none);
        assert_eq!(read(" ;; \t; "), none);
        assert_eq!(read("get  a\tb"), [["get", "a", "b"]]);
        assert_eq!(
            read("use t;get a b; "),
            [vec!["use", "t"], vec!["get", "a", "b"]]
        );
        assert_eq!(read("a\nb"), [["a"], ["b"]]);
    }

    #[test]
    fn a_comment_begins_where_a_command_could() {
        assert_eq!(read("# get a; b\nget c #d; # end"), [["get", "c", "#d"]]);
    }

    #[test]
    fn quotes_hold_blanks_and_are_kept_apart() {
        assert_eq!(
            read(r#"set "a b" 'c;d' "" ''"#),
            [["set", "a b", "c;d", "", ""]]
        );
        assert_eq!(read(r#"a"b c"'d'e"#), [["ab cde"]]);
        assert_eq!(read(r#"'a\x41"' "'""#), [[r#"a\\x41""#, "'"]]);
    }

    #[test]
    fn every_byte_can_be_written_with_escapes() {
        assert_eq!(
            read(r#"\x41\xAB "\xff\0\n\t\r\\" \ \;\"\'"#),
            [["A\\xab", "\\xff\\0\\n\\t\\r\\\\", " ;\"'"]]
        );
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named_by_its_column() {
        let wrong = |line: &str| Line::whole(line.as_bytes()).unwrap_err();
        assert_eq!(wrong("get 'a b"), Wrong::Quote { at: 4 });
        assert_eq!(wrong(r"get \q"), Wrong::Escape { at: 4 });
        assert_eq!(wrong(r"get \x4"), Wrong::Escape { at: 4 });
        assert_eq!(wrong("a\\"), Wrong::Escape { at: 1 });
        assert!(wrong("get 'a").to_string().starts_with("column 5:"));
    }

    #[test]
    fn an_unfinished_line_gives_the_words_so_far() {
        let line = Line::read(b"use t; get 'a b");
        assert_eq!(line.commands.len(), 2);
        assert_eq!(line.commands[1][1].text, b"a b");
        assert_eq!(line.commands[1][1].at, 11..15);
        assert!(Line::read(b"use t;").is_between);
        assert!(!Line::read(b"use t ").is_between);
    }

    #[test]
    fn what_is_quoted_reads_as_it_was() {
        for text in [
            "",
            "plain",
            "a b",
            "a;b",
            "a\"b",
            "a\\x",
            "#a",
            "tab\there",
            "naïve",
        ] {
            let line = Line::whole(quoted(text).as_bytes()).unwrap();
            assert_eq!(line[0][0].text, text.as_bytes(), "{text:?}");
        }
    }
}

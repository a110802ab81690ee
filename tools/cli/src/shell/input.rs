//! Where commands come from: an argument, a file, or somebody at a terminal.

use super::editor::{Editor, Typed};
use super::words::{Line, Word};
use crate::exit::{Exit, Failed};
use anyhow::Context as _;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Cursor, Read as _};

/// What comes next.
#[derive(Debug)]
pub(super) enum Read {
    Command(Vec<OsString>),
    /// A line that cannot be read.
    Wrong(anyhow::Error),
    /// Ctrl-C at the prompt.
    Cancelled,
    End,
}

/// Commands, one after the other.
pub(super) struct Input {
    from: From,
    /// Commands of the line that was read last.
    waiting: VecDeque<Vec<Word>>,
    line: u64,
}

enum From {
    Text(Box<dyn BufRead>),
    /// The same, from standard input, which nobody else may read.
    Stdin(Box<dyn BufRead>),
    Editor(Box<Editor>),
}

/// Longer than any row.
const LINE_BYTES_MAX: u64 = 64 << 20;

impl Input {
    pub(super) fn text(text: Vec<u8>) -> Self {
        Self::of(From::Text(Box::new(Cursor::new(text))))
    }

    pub(super) fn stdin() -> Self {
        Self::of(From::Stdin(Box::new(BufReader::new(std::io::stdin()))))
    }

    pub(super) fn editor(editor: Editor) -> Self {
        Self::of(From::Editor(Box::new(editor)))
    }

    fn of(from: From) -> Self {
        Self {
            from,
            waiting: VecDeque::new(),
            line: 0,
        }
    }

    pub(super) const fn is_interactive(&self) -> bool {
        matches!(self.from, From::Editor(_))
    }

    pub(super) const fn is_stdin(&self) -> bool {
        matches!(self.from, From::Stdin(_))
    }

    /// The line that was read last, for errors in files.
    pub(super) fn place(&self) -> Option<String> {
        self.is_stdin().then(|| format!("line {}", self.line))
    }

    pub(super) const fn editor_mut(&mut self) -> Option<&mut Editor> {
        match &mut self.from {
            From::Editor(editor) => Some(editor),
            _ => None,
        }
    }

    /// The next command; `prompt` is what somebody at a terminal sees.
    ///
    /// # Errors
    /// Nothing can be read any more.
    pub(super) fn next(&mut self, prompt: &str) -> anyhow::Result<Read> {
        loop {
            if let Some(words) = self.waiting.pop_front() {
                return Ok(Read::Command(words.into_iter().map(Word::os).collect()));
            }
            let line = match &mut self.from {
                From::Text(text) | From::Stdin(text) => read_line(text.as_mut())?,
                From::Editor(editor) => match editor.read(prompt)? {
                    Typed::Line(line) => Some(line.into_bytes()),
                    Typed::Cancelled => return Ok(Read::Cancelled),
                    Typed::End => None,
                },
            };
            let Some(line) = line else {
                return Ok(Read::End);
            };
            self.line += 1;
            match Line::whole(&line) {
                Ok(commands) => self.waiting = commands.into(),
                Err(wrong) => return Ok(Read::Wrong(Failed::usage(wrong.to_string()))),
            }
        }
    }

    /// What is left of the line is not run: something before it failed.
    pub(super) fn skip_line(&mut self) {
        self.waiting.clear();
    }
}

/// A line with its end, `None` where there is no more.
fn read_line(from: &mut dyn BufRead) -> anyhow::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut bounded = from.take(LINE_BYTES_MAX);
    bounded
        .read_until(b'\n', &mut line)
        .context("standard input")?;
    if line.len() as u64 == LINE_BYTES_MAX {
        let sentence = format!("a line is longer than {LINE_BYTES_MAX} bytes");
        return Err(Failed::error(Exit::Failed, sentence));
    }
    Ok((!line.is_empty()).then_some(line))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn commands_come_one_by_one_and_a_bad_line_does_not_end_them() {
        let mut input = Input::text(b"use t; get a b\n\n# no\nget 'x\nls".to_vec());
        let mut all = Vec::new();
        loop {
            match input.next("").unwrap() {
                Read::Command(words) => all.push(words.join(std::ffi::OsStr::new(" "))),
                Read::Wrong(error) => all.push(error.to_string().into()),
                Read::Cancelled => unreachable!("nobody is there to cancel"),
                Read::End => break,
            }
        }
        assert_eq!(all.len(), 4, "{all:?}");
        assert_eq!(
            (&all[0], &all[1], &all[3]),
            (&"use t".into(), &"get a b".into(), &"ls".into())
        );
        assert!(all[2].to_string_lossy().starts_with("column 5"));
    }

    #[test]
    fn the_rest_of_a_line_can_be_left_out() {
        let mut input = Input::text(b"a; b; c\nd".to_vec());
        assert!(matches!(input.next("").unwrap(), Read::Command(words) if words == ["a"]));
        input.skip_line();
        assert!(matches!(input.next("").unwrap(), Read::Command(words) if words == ["d"]));
    }
}

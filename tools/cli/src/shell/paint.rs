//! Colours of the line that is typed: verbs that exist, options, quotes, and what cannot be read.

use super::words::Line;
use super::{apache, native, suggest};
use reedline::{Color, Highlighter, StyledText};
use std::collections::HashSet;

pub(super) struct Paint {
    verbs: HashSet<String>,
}

impl Paint {
    pub(super) fn new() -> Self {
        let (native, apache) = (native::command(), apache::command());
        let verbs = suggest::verbs(&native).chain(suggest::verbs(&apache));
        Self {
            verbs: verbs.map(|(name, _)| name.to_owned()).collect(),
        }
    }

    fn colour(&self, line: &str, index: usize, at: std::ops::Range<usize>) -> Color {
        let written = line.get(at).unwrap_or_default();
        match written {
            _ if index == 0 && self.verbs.contains(&written.replace('-', "_")) => Color::Green,
            _ if index == 0 && self.verbs.contains(written) => Color::Green,
            // It may become one.
            _ if index == 0 && self.verbs.iter().any(|verb| verb.starts_with(written)) => {
                Color::Default
            }
            _ if index == 0 => Color::Red,
            _ if written.starts_with('-') => Color::Cyan,
            _ if written.contains(['"', '\'', '\\']) => Color::Yellow,
            _ => Color::Default,
        }
    }
}

impl Highlighter for Paint {
    fn highlight(&self, line: &str, _: usize) -> StyledText {
        let read = Line::read(line.as_bytes());
        let last = read.commands.last().and_then(|words| words.last());
        let broken = (read.problem.and(last)).map(|word| word.at.start);
        let mut pieces: Vec<(std::ops::Range<usize>, Color)> = Vec::new();
        for words in &read.commands {
            for (index, word) in words.iter().enumerate() {
                let colour = match broken == Some(word.at.start) {
                    true => Color::Red,
                    false => self.colour(line, index, word.at.clone()),
                };
                pieces.push((word.at.clone(), colour));
            }
        }
        pieces.extend(read.comment.map(|at| (at, Color::DarkGray)));
        pieces.sort_by_key(|(at, _)| at.start);
        let mut styled = StyledText::new();
        let mut done = 0;
        for (at, colour) in pieces {
            let between = line.get(done..at.start).unwrap_or_default();
            styled.push((Color::Default.normal(), between.to_owned()));
            done = at.end;
            let word = line.get(at).unwrap_or_default();
            styled.push((colour.normal(), word.to_owned()));
        }
        let rest = line.get(done..).unwrap_or_default();
        styled.push((Color::Default.normal(), rest.to_owned()));
        styled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_leave_the_text_as_it_is() {
        let paint = Paint::new();
        for line in [
            "",
            "  get a 'b c' # x",
            "nonsense; use naïve",
            "get 'open",
            "# all",
            "multi_get --json \\x41",
        ] {
            assert_eq!(paint.highlight(line, 0).raw_string(), line, "{line:?}");
        }
    }

    #[test]
    fn a_verb_is_told_from_what_is_none() {
        let paint = Paint::new();
        assert_eq!(paint.colour("get a", 0, 0..3), Color::Green);
        assert_eq!(paint.colour("ge", 0, 0..2), Color::Default);
        assert_eq!(paint.colour("gte a", 0, 0..3), Color::Red);
    }
}

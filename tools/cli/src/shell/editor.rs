//! The line that somebody types: history, completion, hints and colours.

use super::complete::{Names, Suggest};
use super::history;
use super::paint::Paint;
use crate::output::note;
use reedline::{
    Color, ColumnarMenu, DefaultHinter, Emacs, KeyCode, KeyModifiers, MenuBuilder as _, Prompt,
    PromptEditMode, PromptHistorySearch, PromptHistorySearchStatus, Reedline, ReedlineEvent,
    ReedlineMenu, Signal, default_emacs_keybindings,
};
use std::borrow::Cow;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What came of a prompt.
#[derive(Debug)]
pub(super) enum Typed {
    Line(String),
    /// Ctrl-C.
    Cancelled,
    /// Ctrl-D, or the program has to end.
    End,
}

pub(super) struct Editor {
    line: Reedline,
    pub(super) names: Names,
}

/// Whether there is somebody to talk with, at a terminal that can do what that takes.
pub(super) fn is_possible() -> bool {
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal() && !is_dumb
}

fn has_colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

impl Editor {
    /// `ends` lets a prompt end that somebody waits at.
    pub(super) fn new(names: Names, ends: Arc<AtomicBool>) -> Self {
        const MENU: &str = "completion";
        let mut keys = default_emacs_keybindings();
        keys.add_binding(
            KeyModifiers::NONE,
            KeyCode::Tab,
            ReedlineEvent::UntilFound(vec![
                ReedlineEvent::Menu(MENU.to_owned()),
                ReedlineEvent::MenuNext,
            ]),
        );
        let menu = ColumnarMenu::default().with_name(MENU);
        let mut line = Reedline::create()
            .with_ansi_colors(has_colours())
            .with_completer(Box::new(Suggest::new(names.clone())))
            .with_quick_completions(true)
            .with_partial_completions(true)
            .with_menu(ReedlineMenu::EngineCompleter(Box::new(menu)))
            .with_edit_mode(Box::new(Emacs::new(keys)))
            .with_history_exclusion_prefix(Some(" ".to_owned()))
            .with_break_signal(ends);
        if has_colours() {
            let hinter = DefaultHinter::default().with_style(Color::DarkGray.normal());
            line = line
                .with_hinter(Box::new(hinter))
                .with_highlighter(Box::new(Paint::new()));
        }
        Self {
            line: with_history(line),
            names,
        }
    }

    pub(super) fn read(&mut self, prompt: &str) -> std::io::Result<Typed> {
        let typed = self
            .line
            .read_line(&Sign(prompt))
            .map_err(std::io::Error::other)?;
        // A shell that is killed has lost no line; one that cannot be kept is no reason to stop.
        let _ = self.line.sync_history();
        Ok(match typed {
            Signal::Success(line) => Typed::Line(line),
            Signal::CtrlC => Typed::Cancelled,
            _ => Typed::End,
        })
    }
}

/// The shell works without a history, too.
fn with_history(line: Reedline) -> Reedline {
    let Some(path) = history::path() else {
        return line;
    };
    match history::open(&path) {
        Ok(history) => line.with_history(Box::new(history)),
        Err(error) => {
            note(format!("{}: no history: {error}", path.display()));
            line
        }
    }
}

/// Asks for one line, without history. `None`: Ctrl-C or Ctrl-D.
pub(crate) fn ask(question: &str) -> std::io::Result<Option<String>> {
    let mut line = Reedline::create().with_ansi_colors(has_colours());
    let typed = line
        .read_line(&Sign(question))
        .map_err(std::io::Error::other)?;
    Ok(match typed {
        Signal::Success(answer) => Some(answer),
        _ => None,
    })
}

/// A prompt of plain text.
struct Sign<'a>(&'a str);

impl Prompt for Sign<'_> {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.0)
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_indicator(&self, _: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        let how = match search.status {
            PromptHistorySearchStatus::Passing => "",
            PromptHistorySearchStatus::Failing => "nothing ",
        };
        Cow::Owned(format!("({how}found for '{}') ", search.term))
    }

    fn get_prompt_color(&self) -> Color {
        Color::Cyan
    }
}

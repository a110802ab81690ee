//! What keys mean.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// What the view is busy with, which decides what a key means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Normal,
    /// Letters of a filter are typed.
    Filter,
    /// The list of keys is shown: any key ends that.
    Help,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Quit,
    Back,
    Open,
    /// So many rows down, or up if it is negative.
    Move(i32),
    /// So many pages.
    Page(i32),
    First,
    Last,
    /// One of the lists, from 0.
    List(usize),
    NextList,
    PreviousList,
    SortNext,
    SortPrevious,
    Reverse,
    Filter,
    AllTables,
    Pause,
    Slower,
    Faster,
    Help,
    Type(char),
    Erase,
    Accept,
}

/// All keys, as the help shows them.
pub(super) const HELP: [(&str, &str); 14] = [
    ("1 2 3 4", "cores, tables, partitions, hot keys"),
    ("Tab, Shift-Tab", "the next list, the one before"),
    ("Up Down, j k", "one row; PgUp PgDn a page; Home End, g G"),
    (
        "Enter",
        "look closer: a core, a table's partitions, a partition",
    ),
    ("Esc, Backspace", "back"),
    ("< >, Left Right", "sort by the column before, the next one"),
    ("r", "sort the other way round"),
    ("/", "only tables whose names contain what you type"),
    ("c", "all tables"),
    ("Space", "pause and go on"),
    ("+ -", "longer, shorter intervals"),
    ("? h", "this list"),
    ("q, Ctrl-C", "quit"),
    ("", "Columns that have no room are in the closer look."),
];

/// What a key means; `None`: nothing.
pub(super) fn action(key: &KeyEvent, mode: Mode) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
    if is_control {
        return matches!(key.code, KeyCode::Char('c' | 'd')).then_some(Action::Quit);
    }
    match mode {
        Mode::Help => Some(match key.code {
            KeyCode::Char('q') => Action::Quit,
            _ => Action::Back,
        }),
        Mode::Filter => match key.code {
            KeyCode::Esc => Some(Action::Back),
            KeyCode::Enter => Some(Action::Accept),
            KeyCode::Backspace => Some(Action::Erase),
            KeyCode::Char(letter) => Some(Action::Type(letter)),
            _ => None,
        },
        Mode::Normal => normal(key.code),
    }
}

fn normal(code: KeyCode) -> Option<Action> {
    Some(match code {
        KeyCode::Char('q') => Action::Quit,
        KeyCode::Esc | KeyCode::Backspace => Action::Back,
        KeyCode::Enter => Action::Open,
        KeyCode::Up | KeyCode::Char('k') => Action::Move(-1),
        KeyCode::Down | KeyCode::Char('j') => Action::Move(1),
        KeyCode::PageUp => Action::Page(-1),
        KeyCode::PageDown => Action::Page(1),
        KeyCode::Home | KeyCode::Char('g') => Action::First,
        KeyCode::End | KeyCode::Char('G') => Action::Last,
        KeyCode::Char(digit @ '1'..='4') => Action::List(digit as usize - '1' as usize),
        KeyCode::Tab => Action::NextList,
        KeyCode::BackTab => Action::PreviousList,
        KeyCode::Right | KeyCode::Char('>' | '.') => Action::SortNext,
        KeyCode::Left | KeyCode::Char('<' | ',') => Action::SortPrevious,
        KeyCode::Char('r') => Action::Reverse,
        KeyCode::Char('/') => Action::Filter,
        KeyCode::Char('c') => Action::AllTables,
        KeyCode::Char(' ') => Action::Pause,
        KeyCode::Char('+' | '=') => Action::Slower,
        KeyCode::Char('-') => Action::Faster,
        KeyCode::Char('?' | 'h') => Action::Help,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(code: KeyCode, mode: Mode) -> Option<Action> {
        action(&KeyEvent::new(code, KeyModifiers::NONE), mode)
    }

    #[test]
    fn control_c_ends_it_whatever_it_is_busy_with() {
        for mode in [Mode::Normal, Mode::Filter, Mode::Help] {
            let key = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
            assert_eq!(action(&key, mode), Some(Action::Quit));
        }
    }

    #[test]
    fn letters_are_typed_into_a_filter_and_are_keys_elsewhere() {
        let q = KeyCode::Char('q');
        assert_eq!(press(q, Mode::Normal), Some(Action::Quit));
        assert_eq!(press(q, Mode::Filter), Some(Action::Type('q')));
        assert_eq!(press(KeyCode::Esc, Mode::Filter), Some(Action::Back));
        assert_eq!(press(KeyCode::Char('x'), Mode::Help), Some(Action::Back));
        assert_eq!(
            press(KeyCode::Char('3'), Mode::Normal),
            Some(Action::List(2))
        );
        assert_eq!(press(KeyCode::Char('z'), Mode::Normal), None);
    }

    #[test]
    fn a_key_that_is_let_go_means_nothing() {
        let mut key = KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE);
        key.kind = KeyEventKind::Release;
        assert_eq!(action(&key, Mode::Normal), None);
    }
}

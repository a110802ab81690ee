//! What the view is at: screen, order, filter; and how actions change that. No terminal.

use super::keys::{Action, Mode};
use super::lists::{self, List, Sort, Subject};
use super::model::Model;
use crate::cores::name::CoreName;
use std::time::Duration;

/// Intervals that + and - go through, in milliseconds.
const INTERVALS_MS: [u64; 7] = [500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000];
/// Letters of a filter.
const FILTER_MAX: usize = 64;
/// Screens to go back to.
const STACK_MAX: usize = 32;

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Screen {
    Cores,
    Tables,
    /// Of one table, or of all.
    Partitions(Option<u32>),
    HotKeys,
    Core(CoreName),
    Partition {
        table_id: u32,
        partition: u32,
    },
}

/// The lists, by their digit.
const LISTS: [Screen; 4] = [
    Screen::Cores,
    Screen::Tables,
    Screen::Partitions(None),
    Screen::HotKeys,
];

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    GoOn,
    Quit,
}

/// Where the view is in one list, or in one closer look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) sort: Sort,
    /// The line under the cursor; in a closer look the first one that is shown.
    pub(super) line: usize,
}

#[derive(Debug)]
pub(super) struct App {
    pub(super) model: Model,
    pub(super) screen: Screen,
    stack: Vec<Screen>,
    /// By list, and one for closer looks.
    places: [Place; 5],
    pub(super) filter: String,
    /// What is being typed.
    pub(super) typed: Option<String>,
    pub(super) is_help: bool,
    pub(super) is_paused: bool,
    pub(super) interval: Duration,
    /// What to tell in the last line, an error for example.
    pub(super) message: Option<String>,
    /// Lines that the terminal has room for, as last drawn.
    pub(super) page_lines: usize,
}

impl App {
    pub(super) fn new(interval: Duration, filter: String) -> Self {
        let place = |column| Place {
            sort: Sort {
                column,
                is_reversed: false,
            },
            line: 0,
        };
        Self {
            model: Model::default(),
            screen: Screen::Cores,
            stack: Vec::new(),
            places: [place(0), place(1), place(4), place(4), place(0)],
            filter,
            typed: None,
            is_help: false,
            is_paused: false,
            interval,
            message: None,
            page_lines: 10,
        }
    }

    pub(super) fn mode(&self) -> Mode {
        match (self.is_help, &self.typed) {
            (true, _) => Mode::Help,
            (false, Some(_)) => Mode::Filter,
            (false, None) => Mode::Normal,
        }
    }

    /// The list on the screen, in order; `None` in a closer look.
    pub(super) fn list(&self) -> Option<List> {
        let (model, filter) = (&self.model, self.filter.as_str());
        let mut list = match self.screen {
            Screen::Cores => lists::cores(model, filter),
            Screen::Tables => lists::tables(model, filter),
            Screen::Partitions(table) => lists::partitions(model, filter, table),
            Screen::HotKeys => lists::hot_keys(model, filter),
            Screen::Core(_) | Screen::Partition { .. } => return None,
        };
        list.sort(self.place().sort);
        Some(list)
    }

    pub(super) fn place(&self) -> Place {
        self.places[self.index()]
    }

    /// A closer look is shown from this line.
    pub(super) fn scrolled_to(&mut self, line: usize) {
        let index = self.index();
        self.places[index].line = line;
    }

    /// Whether hot keys are looked at, which are asked for only then.
    pub(super) const fn wants_hot_keys(&self) -> bool {
        matches!(self.screen, Screen::HotKeys | Screen::Partition { .. })
    }

    const fn index(&self) -> usize {
        match self.screen {
            Screen::Cores => 0,
            Screen::Tables => 1,
            Screen::Partitions(_) => 2,
            Screen::HotKeys => 3,
            Screen::Core(_) | Screen::Partition { .. } => 4,
        }
    }

    pub(super) fn update(&mut self, action: Action) -> Next {
        match action {
            Action::Quit => return Next::Quit,
            Action::Help => self.is_help = true,
            Action::Back => self.back(),
            Action::Open => self.open(),
            Action::Move(lines) => self.step(i64::from(lines)),
            Action::Page(pages) => {
                let lines = i64::try_from(self.page_lines.max(1)).unwrap_or(1);
                self.step(i64::from(pages) * lines);
            }
            Action::First => self.step(i64::MIN),
            Action::Last => self.step(i64::MAX),
            Action::List(index) => self.show_list(index),
            Action::NextList => self.show_list((self.list_index() + 1) % LISTS.len()),
            Action::PreviousList => {
                self.show_list((self.list_index() + LISTS.len() - 1) % LISTS.len());
            }
            Action::SortNext => self.sort_by(1),
            Action::SortPrevious => self.sort_by(-1),
            Action::Reverse => {
                let index = self.index();
                let sort = &mut self.places[index].sort;
                sort.is_reversed = !sort.is_reversed;
            }
            Action::Filter => self.typed = Some(self.filter.clone()),
            Action::AllTables => self.filter.clear(),
            Action::Pause => self.is_paused = !self.is_paused,
            Action::Slower => self.change_interval(true),
            Action::Faster => self.change_interval(false),
            Action::Type(letter) => {
                if let Some(typed) = self.typed.as_mut().filter(|it| it.len() < FILTER_MAX) {
                    typed.push(letter);
                }
            }
            Action::Erase => {
                if let Some(typed) = &mut self.typed {
                    typed.pop();
                }
            }
            Action::Accept => self.filter = self.typed.take().unwrap_or_default(),
        }
        Next::GoOn
    }

    fn back(&mut self) {
        if self.is_help {
            self.is_help = false;
        } else if self.typed.take().is_none()
            && let Some(screen) = self.stack.pop()
        {
            self.screen = screen;
        }
    }

    fn open(&mut self) {
        let Some(list) = self.list() else {
            return;
        };
        let line = self.place().line.min(list.lines.len().saturating_sub(1));
        let Some(line) = list.lines.get(line) else {
            return;
        };
        let screen = match line.subject {
            Subject::Core(name) => Screen::Core(name),
            Subject::Table(table_id) => Screen::Partitions(Some(table_id)),
            Subject::Partition {
                table_id,
                partition,
            } => Screen::Partition {
                table_id,
                partition,
            },
        };
        if self.stack.len() == STACK_MAX {
            self.stack.remove(0);
        }
        self.stack.push(std::mem::replace(&mut self.screen, screen));
        let index = self.index();
        self.places[index].line = 0;
    }

    fn step(&mut self, lines: i64) {
        let last = self
            .list()
            .map_or(usize::MAX, |list| list.lines.len().saturating_sub(1));
        let index = self.index();
        let line = &mut self.places[index].line;
        // In a closer look the view knows how long it is; it draws the last page then.
        let last = last.min(10_000);
        let now = i64::try_from((*line).min(last)).unwrap_or(0);
        let last = i64::try_from(last).unwrap_or(0);
        *line = usize::try_from(now.saturating_add(lines).clamp(0, last)).unwrap_or(0);
    }

    fn list_index(&self) -> usize {
        match self.index() {
            4 => 0,
            index => index,
        }
    }

    fn show_list(&mut self, index: usize) {
        if let Some(screen) = LISTS.get(index) {
            self.screen = *screen;
            self.stack.clear();
        }
    }

    fn sort_by(&mut self, columns: i32) {
        let Some(list) = self.list() else {
            return;
        };
        let count = i32::try_from(list.columns.len()).unwrap_or(1);
        let index = self.index();
        let column = &mut self.places[index].sort.column;
        let now = i32::try_from(*column).unwrap_or(0);
        *column = usize::try_from((now + columns).rem_euclid(count)).unwrap_or(0);
    }

    fn change_interval(&mut self, is_slower: bool) {
        let now = u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX);
        let next = if is_slower {
            INTERVALS_MS.iter().find(|it| **it > now)
        } else {
            INTERVALS_MS.iter().rev().find(|it| **it < now)
        };
        if let Some(next) = next {
            self.interval = Duration::from_millis(*next);
        }
    }
}

#[cfg(test)]
mod tests;

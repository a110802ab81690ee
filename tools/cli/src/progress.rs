//! How far a long command has come, on standard error: a bar on a terminal, a line every ten seconds elsewhere.

use crate::output::{bytes, count, note, rate};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::cell::{Cell, RefCell};
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// Shows rows, and a share of the whole when that is known.
#[derive(Debug)]
pub(crate) struct Progress {
    what: &'static str,
    bar: ProgressBar,
    start: Instant,
    /// When the next plain line is due; not used on a terminal.
    next_line: Cell<Option<Instant>>,
}

const LINE_EVERY: Duration = Duration::from_secs(10);

impl Progress {
    /// `total_bytes` is the whole that `update`'s `done_bytes` is a part of.
    pub(crate) fn new(what: &'static str, total_bytes: Option<u64>) -> Self {
        let start = Instant::now();
        let terminal = std::io::stderr().is_terminal();
        let bar = match total_bytes {
            Some(total) => ProgressBar::new(total).with_style(style(
                "{msg} [{bar:30}] {bytes}/{total_bytes} {elapsed_precise}, {eta_precise} left",
            )),
            None => {
                ProgressBar::new_spinner().with_style(style("{spinner} {msg} {elapsed_precise}"))
            }
        };
        if !terminal {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let next_line = Cell::new((!terminal).then(|| start + LINE_EVERY));
        Self {
            what,
            bar,
            start,
            next_line,
        }
    }

    pub(crate) fn update(&self, rows: u64, done_bytes: u64) {
        if let Some(due) = self.next_line.get() {
            let now = Instant::now();
            if now >= due {
                self.next_line.set(Some(now + LINE_EVERY));
                note(self.sentence(rows, done_bytes));
            }
            return;
        }
        self.bar.set_position(done_bytes);
        self.bar.set_message(format!(
            "{} {} rows, {}",
            self.what,
            count(rows),
            self.rate(rows)
        ));
    }

    /// A message that is not overwritten.
    pub(crate) fn say(&self, message: &str) {
        self.bar.suspend(|| note(message));
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// `imported 12,345 rows (1.2 MiB) in 3.2 s, 3,858 rows/s`
    pub(crate) fn sentence(&self, rows: u64, done_bytes: u64) -> String {
        format!(
            "{} {} rows ({}) in {:.1} s, {}",
            self.what,
            count(rows),
            bytes(done_bytes),
            self.elapsed().as_secs_f64(),
            self.rate(rows)
        )
    }

    fn rate(&self, rows: u64) -> String {
        let seconds = self.elapsed().as_secs_f64().max(0.001);
        format!("{} rows/s", rate(rows as f64 / seconds))
    }
}

/// Shows what is waited for: on a terminal always, elsewhere when it has changed, every ten seconds at most.
#[derive(Debug)]
pub(crate) struct Waiting {
    bar: ProgressBar,
    /// When the next plain line is due; not used on a terminal.
    next_line: Cell<Option<Instant>>,
    said: RefCell<String>,
}

impl Waiting {
    pub(crate) fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::new_spinner().with_style(style("{spinner} {msg} {elapsed_precise}"));
        if !terminal {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        Self {
            bar,
            next_line: Cell::new((!terminal).then(Instant::now)),
            said: RefCell::default(),
        }
    }

    pub(crate) fn update(&self, what: &str) {
        let Some(due) = self.next_line.get() else {
            self.bar.set_message(what.to_owned());
            self.bar.tick();
            return;
        };
        let now = Instant::now();
        if now >= due && *self.said.borrow() != what {
            self.next_line.set(Some(now + LINE_EVERY));
            what.clone_into(&mut self.said.borrow_mut());
            note(format!("waiting: {what}"));
        }
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates are constants and well-formed")
        .progress_chars("=> ")
}

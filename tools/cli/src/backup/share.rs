//! How much of something is done, in bytes: a bar with the time that is left on a terminal, a line every ten seconds elsewhere.

use crate::output::{bytes, note};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const LINE_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Share {
    bar: ProgressBar,
    /// When the next plain line is due; not used on a terminal.
    next_line: Mutex<Option<Instant>>,
}

impl Share {
    pub(crate) fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let template =
            "{msg} [{bar:30}] {bytes}/{total_bytes} {elapsed_precise}, {eta_precise} left";
        let style = ProgressStyle::with_template(template)
            .expect("the template is a constant and well-formed")
            .progress_chars("=> ");
        let bar = ProgressBar::new(0).with_style(style);
        if !terminal {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let next_line = Mutex::new((!terminal).then(|| Instant::now() + LINE_EVERY));
        Self { bar, next_line }
    }

    pub(crate) fn update(&self, done: u64, total: u64, what: &str) {
        let mut next_line = match self.next_line.lock() {
            Ok(next_line) => next_line,
            Err(poisoned) => poisoned.into_inner(),
        };
        let Some(due) = *next_line else {
            self.bar.set_length(total);
            self.bar.set_position(done);
            self.bar.set_message(what.to_owned());
            return;
        };
        let now = Instant::now();
        if now >= due {
            *next_line = Some(now + LINE_EVERY);
            note(format!("{what}, {} of {}", bytes(done), bytes(total)));
        }
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

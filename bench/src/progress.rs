//! The progress bar, while threads work.

use crate::plan::{Plan, Work, milliseconds};
use crate::record::Shared;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;
use std::time::Duration;

const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Without a terminal: a line each ten seconds.
const LINE_EVERY_SECONDS: u64 = 10;

/// Shows progress until `is_over`.
pub(crate) fn watch(plan: &Plan, shared: &Shared, is_over: impl Fn() -> bool) {
    let terminal = std::io::stderr().is_terminal();
    let bar = bar(whole(plan), terminal);
    let (mut seconds, mut counted) = (0, 0);
    while !is_over() {
        std::thread::sleep(LOOK_EVERY);
        let operations = shared.operations();
        let elapsed = shared.start().elapsed();
        bar.set_position(match plan.work {
            Work::RunFor { .. } => milliseconds(elapsed),
            _ => operations,
        });
        if elapsed.as_secs() <= seconds {
            continue;
        }
        let per_second = (operations - counted) / (elapsed.as_secs() - seconds);
        let sentence = format!("{per_second} op/s, {} failed", shared.errors());
        seconds = elapsed.as_secs();
        counted = operations;
        bar.set_message(sentence.clone());
        if !terminal && seconds.is_multiple_of(LINE_EVERY_SECONDS) {
            eprintln!("{seconds} s: {operations} operations, {sentence}");
        }
    }
    bar.finish_and_clear();
}

/// What the bar counts to: operations, or milliseconds.
fn whole(plan: &Plan) -> u64 {
    match plan.work {
        Work::Load(_) => plan.task.records,
        Work::RunFor { warm_up, time } => milliseconds(warm_up + time),
        Work::RunOperations(count) => count,
    }
}

fn bar(whole: u64, terminal: bool) -> ProgressBar {
    let style = ProgressStyle::with_template("[{bar:40}] {percent:>3} % {elapsed_precise} {msg}")
        .expect("the template is a constant and well-formed")
        .progress_chars("=> ");
    let bar = ProgressBar::new(whole).with_style(style);
    if !terminal {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar
}

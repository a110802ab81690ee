//! Runs of seeds: in parallel, with panics caught and named by their seed, and a summary that shows the runs were not idle.

use crate::history::{Broken, Violation};
use crate::world::{Judges, Totals, World};
use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What a run of enough seeds must have done on average, or it proved nothing.
const ACKNOWLEDGED_MIN: u64 = 2_000;
const FAULTS_MIN: u64 = 20;
/// Averages are judged from this many seeds of at least a virtual minute.
const SEEDS_JUDGED: usize = 50;
/// That everything was met is judged from this many.
const SEEDS_COVERED: usize = 500;
const SPAN_JUDGED: Duration = Duration::from_secs(60);

/// What becomes of the other seeds when one fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnFailure {
    Stop,
    GoOn,
}

/// Runs `seeds` and prints a summary; fails if one of them did, or if all together did too little.
pub(crate) fn run_all(
    seeds: &[u64],
    span: Duration,
    jobs: u16,
    on_failure: OnFailure,
    judges: Judges,
) -> ExitCode {
    let next = AtomicUsize::new(0);
    let failures = AtomicUsize::new(0);
    let is_over = AtomicBool::new(false);
    let totals = Mutex::new(Totals::default());
    let start = Instant::now();
    let progress = indicatif::ProgressBar::new(seeds.len() as u64);
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) else {
                        return;
                    };
                    match run_one(seed, span, false, judges) {
                        Ok(run) => totals.lock().expect("no holder panics").add(&run),
                        Err(violation) => {
                            failures.fetch_add(1, Ordering::Relaxed);
                            is_over.store(on_failure == OnFailure::Stop, Ordering::Relaxed);
                            progress.suspend(|| report_failure(seed, span, &violation));
                        }
                    }
                    progress.inc(1);
                }
            });
        }
    });
    progress.finish_and_clear();
    let totals = totals.into_inner().expect("no holder panics");
    let failures = failures.into_inner();
    if failures > 0 {
        eprintln!("{failures} seeds failed");
        return ExitCode::FAILURE;
    }
    summarize(seeds.len(), span, &totals, start.elapsed())
}

/// Runs one seed, with a trace if asked.
pub(crate) fn replay(seed: u64, span: Duration, trace: bool) -> ExitCode {
    match run_one(seed, span, trace, Judges::All) {
        Ok(totals) => summarize(1, span, &totals, Duration::ZERO),
        Err(violation) => {
            report_failure(seed, span, &violation);
            ExitCode::FAILURE
        }
    }
}

thread_local! {
    /// Where the last panic of this thread began.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs one seed. An assertion that fails is a broken invariant.
pub(crate) fn run_one(
    seed: u64,
    span: Duration,
    trace: bool,
    judges: Judges,
) -> Result<Totals, Violation> {
    let run = || {
        let mut world = World::new(seed, trace, judges);
        world.run(span).map(|()| world.totals)
    };
    panic::set_hook(Box::new(|info| {
        PLACE.set(info.location().map(ToString::to_string).unwrap_or_default());
    }));
    panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Violation {
            broken: Broken::Invariant,
            text: format!("{}: {}", PLACE.take(), text.unwrap_or_default()),
        })
    })
}

fn report_failure(seed: u64, span: Duration, violation: &Violation) {
    eprintln!("seed {seed} FAILED: {violation}");
    eprintln!(
        "to see it: sim replay {seed} --seconds {} --trace",
        span.as_secs()
    );
}

#[allow(
    clippy::print_stdout,
    reason = "the summary is what the program is for"
)]
fn summarize(seeds: usize, span: Duration, totals: &Totals, took: Duration) -> ExitCode {
    let runs = seeds.max(1) as u64;
    println!(
        "{seeds} seeds of {} s passed in {:.1} s: {} events, {} writes acknowledged, {} reads, {} refused, {} unknown",
        span.as_secs(),
        took.as_secs_f64(),
        totals.events,
        totals.acknowledged,
        totals.reads,
        totals.rejected,
        totals.unknown
    );
    for line in totals.coverage.lines() {
        println!("{line}");
    }
    println!(
        "per seed: {} acknowledged, {} faults",
        totals.acknowledged / runs,
        totals.coverage.fault_count() / runs
    );
    let mut faults = Vec::new();
    if seeds >= SEEDS_JUDGED && span >= SPAN_JUDGED {
        if totals.acknowledged / runs < ACKNOWLEDGED_MIN {
            faults.push(format!("fewer than {ACKNOWLEDGED_MIN} writes a seed"));
        }
        if totals.coverage.fault_count() / runs < FAULTS_MIN {
            faults.push(format!("fewer than {FAULTS_MIN} faults a seed"));
        }
    }
    if seeds >= SEEDS_COVERED && span >= SPAN_JUDGED {
        faults.extend(
            totals
                .coverage
                .missing()
                .into_iter()
                .map(|what| format!("never met: {what}")),
        );
    }
    if faults.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("too little happened: {}", faults.join("; "));
    ExitCode::FAILURE
}

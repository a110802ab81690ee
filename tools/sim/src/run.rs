//! Runs of seeds: in parallel, with panics caught and named by their seed, and a summary that shows the runs were not idle.

use crate::scenario::FAULTS;
use crate::world::{Totals, World};
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
const SPAN_JUDGED: Duration = Duration::from_secs(60);

/// Runs `seeds` and prints a summary; fails if one of them did, or if all together did too little.
pub(crate) fn run_all(seeds: &[u64], span: Duration, jobs: u16) -> ExitCode {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let totals = Mutex::new(Totals::default());
    let start = Instant::now();
    let progress = indicatif::ProgressBar::new(seeds.len() as u64);
    panic::set_hook(Box::new(|_| {}));
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) else {
                        return;
                    };
                    match run_one(seed, span, false) {
                        Ok(run) => totals.lock().expect("no holder panics").add(&run),
                        Err(reason) => {
                            failed.store(true, Ordering::Relaxed);
                            report_failure(seed, span, &reason);
                        }
                    }
                    progress.inc(1);
                }
            });
        }
    });
    progress.finish_and_clear();
    let totals = totals.into_inner().expect("no holder panics");
    if failed.into_inner() {
        return ExitCode::FAILURE;
    }
    summarize(seeds.len(), span, &totals, start.elapsed())
}

/// Runs one seed, with a trace if asked.
pub(crate) fn replay(seed: u64, span: Duration, trace: bool) -> ExitCode {
    match run_one(seed, span, trace) {
        Ok(totals) => summarize(1, span, &totals, Duration::ZERO),
        Err(reason) => {
            report_failure(seed, span, &reason);
            ExitCode::FAILURE
        }
    }
}

fn run_one(seed: u64, span: Duration, trace: bool) -> Result<Totals, String> {
    let run = || {
        let mut world = World::new(seed, trace);
        world
            .run(span)
            .map(|()| world.totals)
            .map_err(|violation| violation.to_string())
    };
    panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("an assertion failed: {}", text.unwrap_or_default()))
    })
}

fn report_failure(seed: u64, span: Duration, reason: &str) {
    eprintln!("seed {seed} FAILED: {reason}");
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
    for fault in FAULTS {
        println!(
            "  {fault:?}: {}",
            totals.faults.get(&fault).copied().unwrap_or_default()
        );
    }
    println!(
        "per seed: {} acknowledged, {} faults",
        totals.acknowledged / runs,
        totals.fault_count() / runs
    );
    if seeds >= SEEDS_JUDGED && span >= SPAN_JUDGED {
        let enough = totals.acknowledged / runs >= ACKNOWLEDGED_MIN
            && totals.fault_count() / runs >= FAULTS_MIN;
        let all_kinds = FAULTS.iter().all(|fault| totals.faults.contains_key(fault));
        if !enough || !all_kinds {
            eprintln!(
                "too little happened: at least {ACKNOWLEDGED_MIN} writes, {FAULTS_MIN} faults a seed and every fault kind are expected"
            );
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

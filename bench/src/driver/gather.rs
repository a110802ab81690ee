//! From what each thread saw to the outcome.

use super::{Common, Finished, Share};
use crate::affinity;
use crate::outcome::{BenchUse, FORMAT, Measured, Offered, Outcome, Verified};
use crate::plan::{Plan, Rate};
use crate::record::{Recorder, Shared};
use crate::verify::History;
use crate::workload::Kind;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub(super) fn gather(
    common: &Common,
    shared: &Arc<Shared>,
    shares: Vec<Share>,
    started: SystemTime,
) -> Finished {
    let plan = &common.plan;
    let mut recorder = Recorder::new(Arc::clone(shared), 0, None);
    let mut usages = Vec::new();
    let mut retries = 0;
    let mut load_failure = None;
    for share in shares {
        recorder.add(share.recorder);
        usages.push(share.usage);
        retries += share.retries;
        load_failure = load_failure.or(share.load_failure);
    }
    let (elapsed, errors) = (shared.measured(), recorder.error_counts());
    let operations: u64 = Kind::ALL
        .iter()
        .map(|kind| recorder.latency(*kind).count())
        .sum();
    let errors_total: u64 = errors.iter().map(|error| error.count).sum();
    let offered = plan
        .rate
        .map(|rate| offered(rate, &recorder, operations + errors_total));
    let skipped = recorder.skipped;
    let mut outcome = Outcome {
        format: FORMAT,
        setup: plan.setup(started),
        elapsed_seconds: elapsed.as_secs_f64(),
        operations,
        operations_per_second: per_second(operations, elapsed),
        offered,
        latencies: measured(&recorder),
        misses: recorder.misses,
        scanned_records: recorder.scanned_records,
        errors_total,
        errors,
        retries,
        longest_gap_ms: shared.longest_gap().as_secs_f64() * 1000.0,
        bench: BenchUse::new(usages, operations + errors_total),
        verify: common
            .history
            .as_ref()
            .map(|history| verified(history, &recorder)),
        periods: shared.periods().outcomes(
            &recorder.periods,
            shared.measured_from(),
            shared.measured_from() + elapsed,
        ),
        series: recorder.series.intervals(elapsed),
        warnings: Vec::new(),
    };
    outcome.warnings = warnings(plan, &outcome);
    Finished {
        outcome,
        load_failure,
        skipped,
    }
}

fn offered(rate: Rate, recorder: &Recorder, sent: u64) -> Offered {
    Offered {
        rate: rate.per_second,
        arrival: rate.arrival,
        intended: sent + recorder.never_sent,
        never_sent: recorder.never_sent,
        start_delay: recorder.start_delay.percentiles(),
    }
}

fn measured(recorder: &Recorder) -> std::collections::BTreeMap<Kind, Measured> {
    Kind::ALL
        .into_iter()
        .filter(|kind| recorder.latency(*kind).count() > 0)
        .map(|kind| (kind, Measured::new(recorder.latency(kind))))
        .collect()
}

fn verified(history: &History, recorder: &Recorder) -> Verified {
    let (checked, unjudged) = history.checked();
    Verified {
        violations: recorder.violations,
        examples: recorder.examples.clone(),
        checked,
        unjudged,
        swept: recorder.swept,
        unread: recorder.unread,
    }
}

fn per_second(operations: u64, elapsed: Duration) -> f64 {
    let seconds = elapsed.as_secs_f64();
    if seconds > 0.0 {
        (operations as f64 / seconds * 10.0).round() / 10.0
    } else {
        0.0
    }
}

/// What a reader has to know before trusting the figures.
fn warnings(plan: &Plan, outcome: &Outcome) -> Vec<String> {
    let mut warnings = Vec::new();
    warnings.extend(bottleneck(outcome));
    warnings.extend(shared_with_servers(plan));
    warnings.extend(shared_between_threads(plan));
    warnings.extend(fell_behind(outcome));
    warnings
}

fn bottleneck(outcome: &Outcome) -> Option<String> {
    let busiest = outcome
        .bench
        .threads
        .iter()
        .filter(|thread| thread.is_bottleneck())
        .max_by(|a, b| a.busy_percent.total_cmp(&b.busy_percent))?;
    let what = if busiest.waiting_percent > busiest.busy_percent {
        "give it CPUs of its own (--cpus, apart from the servers')"
    } else {
        "use more --threads on CPUs of their own (--cpus), or a lower rate"
    };
    Some(format!(
        "the bench itself was the bottleneck: one of its threads ran {:.0} % of the time and waited for its CPU {:.0} %, so that the \
         rate may be the bench's and latencies include its delays; {what}",
        busiest.busy_percent, busiest.waiting_percent
    ))
}

fn shared_with_servers(plan: &Plan) -> Option<String> {
    let servers = &plan.description.server_cpus;
    let own = if plan.cpus.is_empty() {
        affinity::allowed().unwrap_or_default()
    } else {
        plan.cpus.clone()
    };
    let mut both: Vec<usize> = own
        .into_iter()
        .filter(|cpu| servers.contains(cpu))
        .collect();
    both.sort_unstable();
    both.dedup();
    let verb = if plan.cpus.is_empty() {
        "may run"
    } else {
        "run"
    };
    (!both.is_empty()).then(|| {
        format!(
            "threads of the bench {verb} on CPUs that servers of this machine use ({}): each takes time from the other; --cpus pins \
             the bench elsewhere",
            list(&both)
        )
    })
}

fn shared_between_threads(plan: &Plan) -> Option<String> {
    let threads = plan.shape.threads;
    let mut cpus = plan.cpus.clone();
    cpus.sort_unstable();
    cpus.dedup();
    let available = if cpus.is_empty() {
        affinity::allowed().map_or(usize::MAX, |all| all.len())
    } else {
        cpus.len()
    };
    (threads > available).then(|| {
        format!("{threads} threads of the bench share {available} CPUs: they delay each other")
    })
}

fn fell_behind(outcome: &Outcome) -> Option<String> {
    let offered = outcome.offered.as_ref()?;
    let delay = &offered.start_delay;
    // Ten times what a timer and a wake-up of a busy machine explain.
    let late = delay.p99_us > 10_000.0;
    (offered.never_sent > 0 || late).then(|| {
        format!(
            "operations started late: p50 {:.1} ms, p99 {:.1} ms after their time, {} of {} never; latencies include the delay. Either the \
             server cannot do {} operations a second, or there are too few workers (--connections x --inflight is {})",
            delay.p50_us / 1_000.0,
            delay.p99_us / 1_000.0,
            offered.never_sent,
            offered.intended,
            offered.rate,
            outcome.setup.workers
        )
    })
}

fn list(cpus: &[usize]) -> String {
    let words: Vec<String> = cpus.iter().map(usize::to_string).collect();
    words.join(", ")
}

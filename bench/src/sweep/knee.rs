//! The knee in some twenty seconds, for a rate that is a share of it.

use super::command::step;
use super::search::{Limits, Sample, Search};
use crate::arrival::Arrival;
use crate::driver;
use crate::plan::{Plan, Rate, Verification, Work};
use anyhow::ensure;
use std::time::Duration;

const PROBE: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(1_500);
const WARM_UP: Duration = Duration::from_millis(500);

/// The highest rate at which the p99 of the plan's operations is at most ten times that at a tenth of what a closed loop of
/// the same shape reaches. Within a fifth: enough to choose a load by.
///
/// # Errors
/// When nobody answers, or nothing succeeds.
pub(crate) fn find(plan: &Plan) -> anyhow::Result<f64> {
    let mut plan = plan.clone();
    (plan.rate, plan.trace) = (None, None);
    plan.verification = Verification::default();
    plan.work = Work::RunFor {
        warm_up: WARM_UP,
        time: PROBE,
    };
    let closed = driver::run(&plan)?.outcome;
    ensure!(
        closed.operations > 0,
        "the knee was looked for, but no operation succeeded within {} s",
        PROBE.as_secs()
    );
    let most = closed.operations_per_second;
    plan.work = Work::RunFor {
        warm_up: WARM_UP,
        time: STEP,
    };
    let mut search = Search::new(limits(most));
    while let Some(rate) = search.next() {
        plan.rate = Some(Rate {
            per_second: rate,
            arrival: Arrival::Constant,
        });
        let outcome = step(&plan, rate, search.steps().len())?;
        search.record(rate, Sample::of(&outcome)?);
    }
    // A machine on which not even a tenth holds is measured at that.
    let knee = search.held().unwrap_or(limits(most).from);
    eprintln!(
        "the knee is at about {knee:.0} operations a second; a closed loop reaches {most:.0}"
    );
    Ok(knee)
}

/// `most`: what a closed loop reaches.
fn limits(most: f64) -> Limits {
    let from = (most * 0.1).max(0.01);
    Limits {
        from,
        to: (most * 1.2).max(from),
        factor: 1.6,
        p99_max_us: None,
        p99_times: 10.0,
        refinements: 2,
    }
}

//! `pegasus-bench sweep`: the command line, and the steps.

use super::report::{STEP_HEADING, SweepReport, step_line};
use super::search::{Limits, STEPS_MAX, Sample, Search};
use crate::driver;
use crate::options::{Offer, RunOptions, seconds};
use crate::outcome::Outcome;
use crate::plan::{Plan, Rate, Work};
use crate::report::{Machine, publish, write_html};
use anyhow::{Context as _, ensure};
use clap::Args;
use std::time::{Duration, Instant};

#[derive(Debug, Args)]
pub(crate) struct SweepOptions {
    #[command(flatten)]
    run: RunOptions,
    /// Operations a second to begin with: far below what the server can do, its p99 there is the measure of the others
    #[arg(long, value_name = "OPS", default_value_t = 1000.0)]
    from: f64,
    /// Operations a second not to go beyond
    #[arg(long, value_name = "OPS", default_value_t = 1_000_000.0)]
    to: f64,
    /// Each rate is so many times the one before, until a step breaks
    #[arg(long, default_value_t = 1.5)]
    factor: f64,
    /// Measured seconds of each step, after the warm-up
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    step_seconds: f64,
    /// A step breaks when its p99 is above this, such as 500us, 5ms or 1s [default: --p99-times that of the lowest rate]
    #[arg(long, value_name = "TIME", value_parser = time_us)]
    p99_max: Option<f64>,
    /// The same, as a multiple of the p99 at the lowest rate
    #[arg(
        long,
        value_name = "TIMES",
        default_value_t = 10.0,
        conflicts_with = "p99_max"
    )]
    p99_times: f64,
    /// Halvings between the last rate that held and the first that broke
    #[arg(long, value_name = "COUNT", default_value_t = 4)]
    refine: usize,
    /// Start no step after so many minutes
    #[arg(long, value_name = "MINUTES", default_value_t = 30.0)]
    minutes_max: f64,
}

impl SweepOptions {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let limits = self.limits()?;
        let time = seconds("--step-seconds", self.step_seconds, 0.05..=3600.0)?;
        let patience = seconds("--minutes-max", self.minutes_max * 60.0, 0.0..=86_400.0)?;
        let plan = self.plan(time)?;
        let machine = Machine::of_this_host();
        let floor = self.run.floor()?;
        let mut search = Search::new(limits);
        let mut first = None;
        let end = Instant::now() + patience;
        eprintln!("{STEP_HEADING}");
        while let Some(rate) = search.next() {
            if first.is_some() && Instant::now() >= end {
                break;
            }
            let outcome = step(&plan, rate, search.steps().len())
                .with_context(|| format!("step of {rate:.0} operations a second"))?;
            eprintln!("{}", step_line(search.record(rate, Sample::of(&outcome)?)));
            first.get_or_insert(outcome);
        }
        let first: Outcome = first.context("a search begins with a step")?;
        let report = SweepReport::new(machine, limits, self.step_seconds, &search, &first, floor);
        if let Some(path) = &self.run.common.html {
            write_html(path, &report.html())?;
        }
        publish(self.run.common.json.as_deref(), &report, || report.text())
    }

    fn limits(&self) -> anyhow::Result<Limits> {
        ensure!(
            0.01 <= self.from && self.from <= self.to && self.to <= 100_000_000.0,
            "--from {} --to {}: at least 0.01, ascending, at most 100000000 operations a second",
            self.from,
            self.to
        );
        ensure!(
            (1.02..=100.0).contains(&self.factor),
            "--factor {}: 1.02 to 100 are allowed",
            self.factor
        );
        ensure!(
            (1.0..=1_000_000.0).contains(&self.p99_times),
            "--p99-times {}: 1 to 1000000 are allowed",
            self.p99_times
        );
        ensure!(
            self.refine <= STEPS_MAX,
            "--refine {}: at most {STEPS_MAX} are allowed",
            self.refine
        );
        Ok(Limits {
            from: self.from,
            to: self.to,
            factor: self.factor,
            p99_max_us: self.p99_max,
            p99_times: self.p99_times,
            refinements: self.refine,
        })
    }

    /// That of all steps, with the lowest rate.
    fn plan(&self, time: Duration) -> anyhow::Result<Plan> {
        let run = &self.run;
        ensure!(
            run.rate.is_none() && run.operations.is_none(),
            "sweep chooses the rates itself (--from, --to) and its steps have --step-seconds: --rate and --operations are for run"
        );
        ensure!(
            !run.verify && run.common.verify_state.is_none() && run.trace.is_none(),
            "sweep does not verify and writes no trace: --verify, --verify-state and --trace are for run"
        );
        let mut options = run.clone();
        // The rate also lets --arrival pass.
        options.rate = Some(Offer::PerSecond(self.from));
        options.seconds = time.as_secs_f64();
        options.plan()
    }
}

pub(super) fn step(plan: &Plan, rate: f64, index: usize) -> anyhow::Result<Outcome> {
    let mut plan = plan.clone();
    plan.rate = plan.rate.map(|before| Rate {
        per_second: rate,
        ..before
    });
    // Not the same keys again in the same order: the caches of the step before would know them.
    plan.task.seed = plan.task.seed.wrapping_add(index as u64);
    debug_assert!(matches!(plan.work, Work::RunFor { .. }));
    Ok(driver::run(&plan)?.outcome)
}

/// `500us`, `5ms`, `1s`, in microseconds.
fn time_us(text: &str) -> Result<f64, String> {
    let units = [("us", 1.0), ("µs", 1.0), ("ms", 1e3), ("s", 1e6)];
    let time = units.into_iter().find_map(|(unit, factor)| {
        let number: f64 = text.strip_suffix(unit)?.trim().parse().ok()?;
        Some(number * factor)
    });
    match time {
        Some(time) if (1.0..=1e9).contains(&time) => Ok(time),
        _ => Err("a time from 1us to 1000s is expected, such as 500us, 5ms or 1s".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(time_us("500us"), Ok(500.0));
        assert_eq!(time_us("5 ms"), Ok(5_000.0));
        assert_eq!(time_us("1.5s"), Ok(1_500_000.0));
        for wrong in ["5", "ms", "-1ms", "nans", "0us", "5 hours"] {
            assert!(time_us(wrong).is_err(), "{wrong}");
        }
    }
}

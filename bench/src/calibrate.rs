//! What could this bench drive at most? The same load once more, for a second, against a server that has nothing to do.
//!
//! A run whose rate comes near that one measured the bench, and the machine's network, as much as the server.

use crate::affinity;
use crate::driver;
use crate::null_server::{Memory, NullServer};
use crate::outcome::{Calibration, Outcome};
use crate::plan::{Plan, Verification, Work};
use crate::target::Target;
use crate::worker::Loading;
use crate::workload::Mix;
use anyhow::{Context as _, anyhow, ensure};
use std::time::Duration;

const WARM_UP: Duration = Duration::from_millis(200);
const TIME: Duration = Duration::from_secs(1);
/// Enough to spread over, and loaded in a moment.
const RECORDS_MAX: u64 = 10_000;

/// Measures, and notes it in the outcome of `plan`, with a warning if the run came too near.
///
/// # Errors
/// When the null server cannot be started or does not answer.
pub(crate) fn calibrate(plan: &Plan, outcome: &mut Outcome) -> anyhow::Result<()> {
    let calibration = measure(plan, outcome.operations_per_second).context("calibration")?;
    outcome.warnings.extend(calibration.warning());
    outcome.bench.calibration = Some(calibration);
    Ok(())
}

/// Writes all records of a plan: a null server is empty at the start of every process.
///
/// # Errors
/// When a record cannot be written.
pub(crate) fn load(plan: &Plan) -> anyhow::Result<()> {
    let mut load = plan.clone();
    load.work = Work::Load(Loading {
        give_up_after: Duration::ZERO,
        resume: false,
    });
    load.task.mix = Mix::LOAD;
    load.distribution = Mix::LOAD.distribution;
    (load.workload, load.rate, load.trace) = (None, None, None);
    load.verification = Verification::default();
    match driver::run(&load)?.load_failure {
        Some(failure) => Err(anyhow!("the null server was not loaded: {failure}")),
        None => Ok(()),
    }
}

fn measure(plan: &Plan, rate: f64) -> anyhow::Result<Calibration> {
    let server = NullServer::start(Memory::default(), server_cpu(plan)?)?;
    let address = server.address.to_string();
    let (protocol, target) = match plan.target {
        Target::Redis { .. } | Target::Resp { .. } => {
            let database = String::new();
            ("redis", Target::Redis { address, database })
        }
        // Nobody here speaks etcd's protocol but etcd: its own cost is that of HTTP/2, and higher than this. The cost of
        // Apache's protocols is that of the native one and a little more.
        Target::Native { .. } | Target::Apache { .. } | Target::Null | Target::Etcd { .. } => {
            let (meta, table) = (vec![address], "null".to_owned());
            ("native", Target::Native { meta, table })
        }
    };
    let mut idle = plan.clone();
    idle.target = target;
    idle.work = Work::RunFor {
        warm_up: WARM_UP,
        time: TIME,
    };
    (idle.rate, idle.trace) = (None, None);
    idle.verification.state = None;
    idle.task.records = plan.task.records.min(RECORDS_MAX.max(idle.task.workers));
    load(&idle)?;
    let outcome = driver::run(&idle)?.outcome;
    ensure!(
        outcome.operations > 0 && outcome.errors_total == 0,
        "{} operations against the null server, {} failed",
        outcome.operations,
        outcome.errors_total
    );
    let operations_per_second = outcome.operations_per_second;
    Ok(Calibration {
        protocol: protocol.to_owned(),
        operations_per_second,
        cpu_us_per_operation: outcome.bench.cpu_us_per_operation,
        used_percent: rate / operations_per_second * 100.0,
        at_least: !outcome.bench.bottleneck,
    })
}

/// Where the measured servers are, or else where the bench is not.
fn server_cpu(plan: &Plan) -> anyhow::Result<Option<usize>> {
    if plan.cpus.is_empty() {
        return Ok(None);
    }
    let free = |cpu: &usize| !plan.cpus.contains(cpu);
    let mut cpus = plan.description.server_cpus.iter().copied().filter(free);
    match cpus.next() {
        Some(cpu) => Ok(Some(cpu)),
        None => Ok(affinity::allowed()?.into_iter().find(free)),
    }
}

impl Calibration {
    /// A run at more than this share of what the bench can drive is about the bench too.
    const USED_PERCENT_MAX: f64 = 100.0 / 3.0;

    /// For reports: `the bench itself could drive 900000 operations a second of this mix (..); the run used 12 % of that`.
    pub(crate) fn sentence(&self) -> String {
        format!(
            "against a server that has nothing to do the same load reaches {}{:.0} operations a second ({} protocol, {:.2} us of CPU each); the run used {:.0} % of that",
            if self.at_least { "at least " } else { "" },
            self.operations_per_second,
            self.protocol,
            self.cpu_us_per_operation,
            self.used_percent
        )
    }

    fn warning(&self) -> Option<String> {
        (!self.at_least && self.used_percent > Self::USED_PERCENT_MAX).then(|| {
            format!(
                "the bench can drive only {:.1} times the rate of this run: it may be what limits the rate; give it more --threads on CPUs of their own",
                100.0 / self.used_percent
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calibration(used_percent: f64, at_least: bool) -> Calibration {
        Calibration {
            protocol: "native".to_owned(),
            operations_per_second: 1_000_000.0,
            cpu_us_per_operation: 0.98,
            used_percent,
            at_least,
        }
    }

    #[test]
    fn a_run_at_a_third_of_what_the_bench_can_do_is_doubted() {
        assert!(calibration(34.0, false).warning().is_some());
        assert!(calibration(33.0, false).warning().is_none());
        assert!(
            calibration(90.0, true).warning().is_none(),
            "round trips were the limit, not the bench"
        );
        let sentence = calibration(12.3, true).sentence();
        assert!(
            sentence.contains("at least 1000000 operations"),
            "{sentence}"
        );
        assert!(sentence.contains("used 12 %"), "{sentence}");
    }
}

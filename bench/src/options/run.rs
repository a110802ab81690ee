//! `pegasus-bench run`: the command line, also that of each step of a sweep.

use super::{CommonOptions, Offer, seconds};
use crate::arrival::Arrival;
use crate::floor::{self, Floor, Poll};
use crate::keys::Distribution;
use crate::plan::{Plan, Rate, Verification, Work};
use crate::sweep::knee;
use crate::value::VALUE_BYTES_MIN;
use crate::workload::{Kind, SCAN_RECORDS_MAX, Workload};
use anyhow::{bail, ensure};
use clap::Args;
use std::path::PathBuf;

#[derive(Clone, Debug, Args)]
pub(crate) struct RunOptions {
    #[command(flatten)]
    pub(crate) common: CommonOptions,
    /// The mix of operations
    #[arg(long, value_enum, default_value_t = Workload::A)]
    pub(crate) workload: Workload,
    /// Which records are wanted more often [default: that of the workload]
    #[arg(long, value_enum)]
    pub(crate) distribution: Option<Distribution>,
    /// Measured seconds
    #[arg(long, default_value_t = 10.0)]
    pub(crate) seconds: f64,
    /// Run so many operations instead (closed loop, without warm-up)
    #[arg(long, conflicts_with_all = ["seconds", "rate"])]
    pub(crate) operations: Option<u64>,
    /// Seconds before the measurement starts
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    pub(crate) warm_up: f64,
    /// Open loop: start so many operations a second, whatever the server does, and count latencies from the moment each
    /// was meant to start. `50%`: of the knee, which a sweep of some twenty seconds finds first; `auto` is that too. Without it the
    /// loop of a run is closed, which is for rates and not for latencies: a worker starts its next operation when the one before
    /// is answered
    #[arg(long, value_name = "OPS|PERCENT%|auto", allow_hyphen_values = true)]
    pub(crate) rate: Option<Offer>,
    /// How the starts of an open loop lie in time
    #[arg(long, value_enum, default_value_t = Arrival::Constant)]
    pub(crate) arrival: Arrival,
    /// Check every answer against what was written, and read every written record again at the end
    #[arg(long)]
    pub(crate) verify: bool,
    /// Seed of all random choices
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Write every measured operation to this file, 32 bytes each (docs/measurements.md has the format)
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// Compare with the limits in this report of `pegasus-bench floor --json`
    #[arg(long, value_name = "FILE", conflicts_with = "with_floor")]
    pub(crate) floor: Option<PathBuf>,
    /// Measure the limits first, two seconds each, flushing in this directory; the echo's client is pinned as --cpus says
    #[arg(long, value_name = "DIR")]
    pub(crate) with_floor: Option<PathBuf>,
    /// How the echo server of --with-floor waits: as the nodes do (poll in their configuration)
    #[arg(long, value_enum, default_value_t = Poll::Sleep, requires = "with_floor")]
    pub(crate) poll: Poll,
    /// CPU of the echo server of --with-floor: that of the data core [default: the first allowed one]
    #[arg(long, value_name = "CPU", requires = "with_floor")]
    pub(crate) server_cpu: Option<usize>,
}

impl RunOptions {
    /// Checks everything, and asks the target what it is.
    ///
    /// # Errors
    /// Names the option that is wrong, or what the target is not.
    pub(crate) fn plan(&self) -> anyhow::Result<Plan> {
        let mix = self.workload.mix();
        let work = self.work()?;
        let rate = self.rate()?;
        self.check_layout()?;
        let mut plan = self.common.plan(work, mix)?;
        plan.rate = rate;
        plan.task.seed = self.seed;
        plan.workload = Some(self.workload);
        plan.distribution = self.distribution.unwrap_or(mix.distribution);
        plan.verification = Verification {
            verify: self.verify,
            state: plan.verification.state,
        };
        plan.trace = self.trace.clone();
        Ok(plan)
    }

    /// The limits to compare with: those of a file, or measured now.
    ///
    /// # Errors
    /// When there is no such file, or the limits cannot be measured.
    pub(crate) fn floor(&self) -> anyhow::Result<Option<Floor>> {
        match (&self.floor, &self.with_floor) {
            (Some(path), _) => floor::load(path).map(Some),
            (None, Some(dir)) => {
                let client_cpu = self.common.cpus.first().copied();
                Floor::quick(dir.clone(), self.poll, self.server_cpu, client_cpu).map(Some)
            }
            (None, None) => Ok(None),
        }
    }

    fn work(&self) -> anyhow::Result<Work> {
        const DAYS: f64 = 86_400.0;
        if let Some(count) = self.operations {
            ensure!(count > 0, "--operations 0: at least 1");
            return Ok(Work::RunOperations(count));
        }
        Ok(Work::RunFor {
            warm_up: seconds("--warm-up", self.warm_up, 0.0..=3600.0)?,
            time: seconds("--seconds", self.seconds, 0.001..=30.0 * DAYS)?,
        })
    }

    fn rate(&self) -> anyhow::Result<Option<Rate>> {
        let Some(offer) = &self.rate else {
            ensure!(
                self.arrival == Arrival::Constant,
                "--arrival needs --rate: in a closed loop the answers say when the next operation starts"
            );
            return Ok(None);
        };
        match *offer {
            Offer::PerSecond(per_second) if (0.01..=100_000_000.0).contains(&per_second) => {
                Ok(Some(Rate {
                    per_second,
                    arrival: self.arrival,
                }))
            }
            Offer::OfKnee(share) if (0.01..=2.0).contains(&share) => {
                ensure!(
                    self.common.verify_state.is_none(),
                    "--rate {offer} writes unchecked values while it looks for the knee: with --verify-state give a number"
                );
                Ok(None)
            }
            _ => bail!(
                "--rate {offer}: 0.01 to 100000000 operations a second are allowed, 1% to 200% of the knee, or auto"
            ),
        }
    }

    /// Finds the knee first if the rate is a share of it. The records must be there.
    ///
    /// # Errors
    /// When the knee cannot be looked for.
    pub(crate) fn settle_rate(&self, plan: &mut Plan) -> anyhow::Result<()> {
        let Some(Offer::OfKnee(share)) = self.rate else {
            return Ok(());
        };
        let knee = knee::find(plan)?;
        plan.knee = Some(knee);
        plan.rate = Some(Rate {
            per_second: knee * share,
            arrival: self.arrival,
        });
        Ok(())
    }

    fn check_layout(&self) -> anyhow::Result<()> {
        /// What a server answers at most to one scan.
        const SCAN_ROWS_MAX: usize = 3_000;
        let layout = self.common.layout()?;
        ensure!(
            self.common.verify_state.is_none() || self.verify,
            "--verify-state needs --verify: a run that checks nothing would make it untrue"
        );
        ensure!(
            !self.verify || layout.value_bytes >= VALUE_BYTES_MIN,
            "--verify needs values of at least {VALUE_BYTES_MIN} bytes (--field-size or --value-size)"
        );
        if !self.workload.mix().has(Kind::Scan) {
            return Ok(());
        }
        ensure!(
            layout.records_per_hash_key > 1,
            "workload e scans records of one hash key: load and run with --records-per-hash-key 1000, for example"
        );
        ensure!(
            layout.cells() * SCAN_RECORDS_MAX as usize <= SCAN_ROWS_MAX,
            "workload e scans up to {SCAN_RECORDS_MAX} records of {} rows each, a server answers {SCAN_ROWS_MAX} rows at most: use fewer --fields",
            layout.cells()
        );
        Ok(())
    }
}

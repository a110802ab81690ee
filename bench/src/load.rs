//! `pegasus-bench load`.

use crate::driver;
use crate::options::{CommonOptions, seconds};
use crate::plan::Work;
use crate::report::{Machine, Report, Watch};
use crate::worker::Loading;
use crate::workload::Mix;
use anyhow::bail;
use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct LoadOptions {
    #[command(flatten)]
    common: CommonOptions,
    /// Seconds to try a record before the load stops
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    give_up_after: f64,
    /// Leave records alone that are there already, as a load writes them: goes on with one that was interrupted
    #[arg(long)]
    resume: bool,
}

impl LoadOptions {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let machine = Machine::of_this_host();
        let give_up_after = seconds("--give-up-after", self.give_up_after, 0.0..=86_400.0)?;
        let loading = Loading {
            give_up_after,
            resume: self.resume,
        };
        let plan = self.common.plan(Work::Load(loading), Mix::LOAD)?;
        let watch = Watch::start(&plan.target);
        let finished = driver::run(&plan)?;
        let cores = watch.map(Watch::finish);
        let report = Report::new(machine, finished.outcome, None, cores);
        self.common.publish(&report)?;
        if self.resume {
            eprintln!("{} records were there already", finished.skipped);
        }
        match finished.load_failure {
            Some(failure) => {
                bail!("the load is not complete: {failure}; load --resume goes on with it")
            }
            None => driver::keep_loaded_state(&plan),
        }
    }
}

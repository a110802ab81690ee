//! `pegasus-bench run`.

use crate::driver;
use crate::options::RunOptions;
use crate::report::{Machine, Report, Watch};
use anyhow::bail;
use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    options: RunOptions,
}

impl Run {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let plan = self.options.plan()?;
        let machine = Machine::of_this_host();
        let floor = self.options.floor()?;
        let watch = Watch::start(&plan.target);
        let outcome = driver::run(&plan)?.outcome;
        let cores = watch.map(Watch::finish);
        let report = Report::new(machine, outcome, floor, cores);
        self.options.common.publish(&report)?;
        match report.outcome.verdict() {
            Some(sentence) => bail!("{sentence}"),
            None => Ok(()),
        }
    }
}

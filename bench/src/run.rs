//! `pegasus-bench run`.

use crate::calibrate;
use crate::driver;
use crate::options::RunOptions;
use crate::report::{Machine, Report, Watch};
use crate::target::Target;
use anyhow::bail;
use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    options: RunOptions,
    /// Afterwards run the same load for a second against a server in this process that has nothing to do: how much of what the
    /// bench can drive did the run use?
    #[arg(long)]
    calibrate: bool,
}

impl Run {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let mut plan = self.options.plan()?;
        let machine = Machine::of_this_host();
        let floor = self.options.floor()?;
        if plan.target == Target::Null {
            calibrate::load(&plan)?;
        }
        self.options.settle_rate(&mut plan)?;
        let watch = Watch::start(&plan.target);
        let mut outcome = driver::run(&plan)?.outcome;
        let cores = watch.map(Watch::finish);
        if self.calibrate {
            calibrate::calibrate(&plan, &mut outcome)?;
        }
        let report = Report::new(machine, outcome, floor, cores);
        self.options.common.publish(&report)?;
        match report.outcome.verdict() {
            Some(sentence) => bail!("{sentence}"),
            None => Ok(()),
        }
    }
}

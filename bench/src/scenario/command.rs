//! `pegasus-bench scenario`: the command line.

use super::cluster::Cluster;
use super::disk;
use super::event::{self, Event};
use super::local::Local;
use super::script::Script;
use crate::driver::{self, Stage};
use crate::options::{Offer, RunOptions, seconds};
use crate::plan::{Plan, Work};
use crate::report::{Machine, Report, Watch};
use anyhow::{Context as _, bail, ensure};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Args)]
pub(crate) struct ScenarioOptions {
    #[command(flatten)]
    run: RunOptions,
    /// What happens, one after the other; may be repeated
    #[arg(long = "event", value_enum, value_name = "EVENT")]
    events: Vec<Event>,
    /// The cluster's directory, if it is one of `pegasus local`: for events that touch processes
    #[arg(long, value_name = "DIR")]
    local: Option<PathBuf>,
    /// The program `pegasus` [default: the one beside this program, or on the PATH]
    #[arg(long, value_name = "FILE")]
    pegasus: Option<PathBuf>,
    /// The node of --local that slow-disk, learner and kill happen to, from 1 [default: the last one]
    #[arg(long, value_name = "N")]
    node: Option<u32>,
    /// Seconds before the first event: what the events are held against
    #[arg(long, value_name = "SECONDS", default_value_t = 15.0)]
    quiet: f64,
    /// Seconds after each event
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    settle: f64,
    /// How long events last that do not end by themselves
    #[arg(long, value_name = "SECONDS", default_value_t = 15.0)]
    event_seconds: f64,
    /// How long a killed node is away
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    down_seconds: f64,
    /// An event that takes longer fails the scenario
    #[arg(long, value_name = "SECONDS", default_value_t = 300.0)]
    event_seconds_max: f64,
    /// Reads, and as many writes, that a slow disk does in a second
    #[arg(long, value_name = "COUNT", default_value_t = 300)]
    disk_operations: u32,
    /// The table that the neighbour floods; made if there is none
    #[arg(long, value_name = "TABLE", default_value = "neighbour")]
    neighbour: String,
}

/// The same, checked.
#[derive(Clone, Debug)]
pub(super) struct Knobs {
    pub(super) events: Vec<Event>,
    pub(super) node: Option<u32>,
    pub(super) quiet: Duration,
    pub(super) settle: Duration,
    pub(super) event_time: Duration,
    pub(super) down_time: Duration,
    pub(super) event_max: Duration,
    pub(super) disk_operations: u32,
    pub(super) neighbour: String,
    /// Those of the bench.
    pub(super) cpus: Vec<usize>,
}

/// The load goes on until the script is done; should that hang, it ends.
const LOAD_TIME_MAX: Duration = Duration::from_secs(24 * 3600);

impl ScenarioOptions {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let knobs = self.knobs()?;
        let directory = self.local.as_deref();
        let local = directory
            .map(|directory| Local::open(directory, self.pegasus.as_deref()))
            .transpose()?;
        let (options, mut plan) = self.plan()?;
        prepare(&plan, &knobs)?;
        let machine = Machine::of_this_host();
        let floor = options.floor()?;
        options.settle_rate(&mut plan)?;
        let watch = Watch::start(&plan.target);
        let outcome = driver::run_beside(&plan, |stage| {
            let done = play(stage, &plan, local, knobs);
            stage.stop();
            done
        })?
        .outcome;
        let report = Report::new(machine, outcome, floor, watch.map(Watch::finish));
        options.common.publish(&report)?;
        match report.outcome.verdict() {
            Some(sentence) => bail!("{sentence}"),
            None => Ok(()),
        }
    }

    fn knobs(&self) -> anyhow::Result<Knobs> {
        event::check(&self.events, self.local.is_some())?;
        disk::check(self.disk_operations)?;
        ensure!(
            self.run.operations.is_none(),
            "a scenario lasts as long as its events do: --operations is for run"
        );
        let time = |option, value| seconds(option, value, 0.1..=86_400.0);
        Ok(Knobs {
            events: self.events.clone(),
            node: self.node,
            quiet: time("--quiet", self.quiet)?,
            settle: time("--settle", self.settle)?,
            event_time: time("--event-seconds", self.event_seconds)?,
            down_time: time("--down-seconds", self.down_seconds)?,
            event_max: time("--event-seconds-max", self.event_seconds_max)?,
            disk_operations: self.disk_operations,
            neighbour: self.neighbour.clone(),
            cpus: self.run.common.cpus.clone(),
        })
    }

    /// An open loop, at half of the knee if nothing else was asked for.
    fn plan(&self) -> anyhow::Result<(RunOptions, Plan)> {
        let mut options = self.run.clone();
        options.rate.get_or_insert(Offer::OfKnee(0.5));
        let mut plan = options.plan()?;
        let warm_up = plan.warm_up();
        plan.work = Work::RunFor {
            warm_up,
            time: LOAD_TIME_MAX,
        };
        Ok((options, plan))
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("runtime")
}

/// What has to be there before the load begins.
fn prepare(plan: &Plan, knobs: &Knobs) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let cluster = Cluster::connect(&plan.target).await?;
        cluster.wait_healthy(knobs.event_max).await?;
        if knobs.events.contains(&Event::Neighbour) {
            cluster
                .ensure_table(&knobs.neighbour)
                .await
                .with_context(|| format!("table {} for the neighbour", knobs.neighbour))?;
        }
        Ok(())
    })
}

fn play(stage: &Stage, plan: &Plan, local: Option<Local>, knobs: Knobs) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let script = Script {
            stage,
            cluster: Cluster::connect(&plan.target).await?,
            local,
            knobs,
        };
        script.run().await
    })
}

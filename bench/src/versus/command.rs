//! `pegasus-bench versus`: the command line, and the rounds.

use super::report::{Figures, Row, SCHEMA, Server, VersusReport, gather};
use crate::arrival::Arrival;
use crate::calibrate;
use crate::driver;
use crate::floor::Poll;
use crate::keys::Distribution;
use crate::options::{CommonOptions, Offer, Protocol, RunOptions};
use crate::plan::Plan;
use crate::report::{Machine, publish, write_html};
use crate::target::Target;
use crate::workload::Workload;
use anyhow::{Context as _, bail, ensure};
use clap::Args;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::str::FromStr;

#[derive(Debug, Args)]
pub(crate) struct VersusOptions {
    /// A server and what it is called; at least two. Ratios are those of the first one to each. URLs are those of run --target
    #[arg(long = "server", value_name = "NAME=URL", required = true)]
    servers: Vec<Named>,
    /// Mixes of operations
    #[arg(long = "workload", value_enum, default_values_t = [Workload::C, Workload::Put])]
    workloads: Vec<Workload>,
    /// Connections x operations under way on each
    #[arg(long = "shape", value_name = "COUNTxCOUNT", default_values_t = [Shape::new(1, 1), Shape::new(50, 1), Shape::new(50, 16)])]
    shapes: Vec<Shape>,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measured seconds of each run
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Seconds before each
    #[arg(long, value_name = "SECONDS", default_value_t = 0.5)]
    warm_up: f64,
    /// Open loops of so many operations a second, or a share of each server's own knee [default: closed loops]
    #[arg(long, value_name = "OPS|PERCENT%|auto", allow_hyphen_values = true)]
    rate: Option<Offer>,
    /// Which records are wanted more often [default: that of the workload]
    #[arg(long, value_enum)]
    distribution: Option<Distribution>,
    #[arg(long, default_value_t = 10_000)]
    records: u64,
    /// Bytes of each record's one value
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    value_size: usize,
    /// Write all records to each server first
    #[arg(long)]
    load: bool,
    /// Threads of this program
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// CPUs to pin them to [default: the scheduler chooses]
    #[arg(long, value_name = "CPU[,CPU]", value_delimiter = ',')]
    cpus: Vec<usize>,
    /// Deadline of an operation in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    timeout: u64,
    /// Write the report to this file, as JSON (- for standard output, instead of the text)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report to this file, as one page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    name: String,
    url: String,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, url) = text
            .split_once('=')
            .ok_or("a name, =, and a URL are expected, such as redis=redis://127.0.0.1:6379")?;
        if name.is_empty() {
            return Err("the name is empty".to_owned());
        }
        Target::from_str(url).map_err(|error| format!("{error:#}"))?;
        Ok(Self {
            name: name.to_owned(),
            url: url.to_owned(),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    connections: usize,
    inflight: usize,
}

impl Shape {
    const fn new(connections: usize, inflight: usize) -> Self {
        Self {
            connections,
            inflight,
        }
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.connections, self.inflight)
    }
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let counts = text.split_once('x').and_then(|(connections, inflight)| {
            Some((connections.parse().ok()?, inflight.parse().ok()?))
        });
        match counts {
            Some((connections, inflight)) => Ok(Self::new(connections, inflight)),
            None => Err("two counts are expected, such as 50x16".to_owned()),
        }
    }
}

impl VersusOptions {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        self.check()?;
        let machine = Machine::of_this_host();
        let mut warnings = BTreeMap::new();
        let mut rows = Vec::new();
        let servers = self.describe()?;
        for workload in &self.workloads {
            for shape in &self.shapes {
                rows.extend(self.cell(*workload, *shape, &mut warnings)?);
            }
        }
        let report = VersusReport {
            schema: SCHEMA.to_owned(),
            machine,
            servers,
            rounds: self.rounds,
            seconds: self.seconds,
            records: format!("{} records of {} bytes", self.records, self.value_size),
            rows,
            warnings: warnings.into_values().collect(),
        };
        if let Some(path) = &self.html {
            write_html(path, &report.html())?;
        }
        publish(self.json.as_deref(), &report, || report.text())
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.servers.len() >= 2,
            "--server: at least two are compared"
        );
        let names: BTreeSet<&str> = self.servers.iter().map(|it| it.name.as_str()).collect();
        ensure!(
            names.len() == self.servers.len(),
            "--server: each needs a name of its own"
        );
        ensure!(
            (1..=1_000).contains(&self.rounds),
            "--rounds {}: 1 to 1000 are allowed",
            self.rounds
        );
        ensure!(
            !self.workloads.contains(&Workload::E),
            "--workload e: scans need records that share hash keys, which versus does not load; use run and compare"
        );
        Ok(())
    }

    /// Finds out early who is not there; loads them if asked for.
    fn describe(&self) -> anyhow::Result<Vec<Server>> {
        let first = *self.shapes.first().context("--shape: at least one")?;
        let mut servers = Vec::new();
        for named in &self.servers {
            let plan = self.options(named, Workload::C, first).plan()?;
            if self.load || plan.target == Target::Null {
                let mut loading = self.options(named, Workload::C, Shape::new(8, 8)).plan()?;
                loading.verification.state = None;
                calibrate::load(&loading).with_context(|| format!("loading {}", named.name))?;
            }
            servers.push(Server {
                name: named.name.clone(),
                description: plan.description,
            });
        }
        Ok(servers)
    }

    /// All servers in one mix and shape.
    fn cell(
        &self,
        workload: Workload,
        shape: Shape,
        warnings: &mut BTreeMap<String, String>,
    ) -> anyhow::Result<Vec<Row>> {
        let mut plans: Vec<Plan> = Vec::new();
        for named in &self.servers {
            let options = self.options(named, workload, shape);
            let mut plan = options.plan()?;
            options.settle_rate(&mut plan)?;
            plans.push(plan);
        }
        let mut rounds: Vec<Vec<Figures>> = vec![Vec::new(); plans.len()];
        for round in 0..self.rounds {
            for index in order(plans.len(), round) {
                let named = &self.servers[index];
                let mut plan = plans[index].clone();
                plan.task.seed = plan.task.seed.wrapping_add(round as u64);
                let outcome = driver::run(&plan)
                    .with_context(|| named.name.clone())?
                    .outcome;
                if outcome.operations == 0 {
                    bail!("{}: no operation succeeded", named.name);
                }
                gather(warnings, &named.name, &outcome);
                let figures = Figures::of(&outcome)?;
                eprintln!(
                    "workload {} {shape} round {}: {} {:.0} op/s, p50 {:.1} us, p99 {:.1} us",
                    workload.name(),
                    round + 1,
                    named.name,
                    figures.operations_per_second,
                    figures.p50_us,
                    figures.p99_us
                );
                rounds[index].push(figures);
            }
        }
        let base = rounds.first().cloned().unwrap_or_default();
        let rows = self.servers.iter().zip(rounds).enumerate();
        Ok(rows
            .map(|(index, (named, rounds))| {
                let of = (workload, shape.to_string(), named.name.clone());
                Row::new(of, rounds, (index > 0).then_some(base.as_slice()))
            })
            .collect())
    }

    fn options(&self, named: &Named, workload: Workload, shape: Shape) -> RunOptions {
        RunOptions {
            common: CommonOptions {
                target: Some(named.url.clone()),
                meta: Vec::new(),
                table: None,
                protocol: Protocol::Native,
                records: self.records,
                fields: 1,
                field_size: self.value_size,
                value_size: Some(self.value_size),
                records_per_hash_key: 1,
                threads: self.threads.min(shape.connections),
                connections: shape.connections,
                inflight: shape.inflight,
                cpus: self.cpus.clone(),
                timeout: self.timeout,
                verify_state: None,
                json: None,
                html: None,
            },
            workload,
            distribution: self.distribution,
            seconds: self.seconds,
            operations: None,
            warm_up: self.warm_up,
            rate: self.rate.clone(),
            arrival: Arrival::Constant,
            verify: false,
            seed: 1,
            trace: None,
            floor: None,
            with_floor: None,
            poll: Poll::Sleep,
            server_cpu: None,
        }
    }
}

/// Every other round backwards, so that nobody is always the first after a pause.
fn order(count: usize, round: usize) -> Vec<usize> {
    if round.is_multiple_of(2) {
        (0..count).collect()
    } else {
        (0..count).rev().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_shapes_are_what_they_say() {
        assert!(Named::from_str("redis=redis://127.0.0.1:6379").is_ok());
        for wrong in ["redis://127.0.0.1:6379", "=null://", "a=nonsense://x"] {
            assert!(Named::from_str(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Shape::from_str("50x16"), Ok(Shape::new(50, 16)));
        for wrong in ["50", "x", "50x", "axb", "-1x1"] {
            assert!(Shape::from_str(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_other_round_goes_backwards() {
        assert_eq!(order(3, 0), [0, 1, 2]);
        assert_eq!(order(3, 1), [2, 1, 0]);
        assert_eq!(order(3, 2), [0, 1, 2]);
    }
}

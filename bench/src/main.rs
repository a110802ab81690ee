//! `pegasus-bench`: load a table, drive it with YCSB mixes in a closed loop, check every answer if asked to, and measure
//! what this machine can do at best.
//!
//! Reading order: `workload` (the mixes), `keys` (which records), `verify` (is the answer true), `worker` (one closed
//! loop), `driver` (threads and connections), `record` and `histogram` (what happened), `floor`, `report`.

#![forbid(unsafe_code)]

mod affinity;
mod arrival;
mod driver;
#[cfg(test)]
mod fake_server;
mod floor;
mod histogram;
mod keys;
mod layout;
mod outcome;
mod record;
mod report;
mod target;
mod verify;
mod worker;
mod workload;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Parser, Subcommand};
use driver::{Plan, Shape, Work};
use floor::Floor;
use keys::{Chooser, Distribution, Names};
use pegasus_client::{Client, ClientOptions};
use report::{Facts, Report};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use worker::Task;
use workload::{Kind, Mix, Workload};

/// Measure a Pegasus cluster: load records, run a mix of operations, report latencies.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
A first measurement:
  pegasus table create bench --partitions 8 --replicas 3
  pegasus-bench load --table bench --records 100000
  pegasus-bench run  --table bench --records 100000 --workload a --seconds 30

One operation at a time, as a multiple of what the machine can do:
  pegasus-bench run --table bench --records 100000 --workload put --connections 1 --inflight 1 --seconds 10 --with-floor /data

Is every answer true, also while servers are killed?
  pegasus-bench run --table bench --records 100000 --workload a --seconds 600 --verify

All loops are closed: a worker starts its next operation when the one before is answered, so a server that stalls
receives less load meanwhile. Latencies are those of successful operations; failures are counted by code.

Exit codes: 0 done, 1 failed (no cluster, no table, a load that could not be finished, an answer that cannot be true),
2 wrong command line."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write every record once
    Load(Load),
    /// Run a mix of operations over loaded records
    Run(Run),
    /// Measure this machine's own limits: loopback echo, and 4 KiB overwrite + fdatasync
    Floor(floor::FloorOptions),
}

/// What load and run have in common.
#[derive(Debug, Args)]
struct Common {
    /// Addresses of meta servers
    #[arg(
        long,
        env = "PEGASUS_META",
        value_name = "ADDR[,ADDR]",
        value_delimiter = ',',
        default_value = "127.0.0.1:34601"
    )]
    meta: Vec<String>,
    /// The table; it must exist
    #[arg(long)]
    table: String,
    /// Number of records
    #[arg(long, default_value_t = 100_000)]
    records: u64,
    /// Bytes of each value; at least 24 to verify it
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    value_size: usize,
    /// Records that share a hash key; load and run must agree; workload e needs more than 1
    #[arg(long, value_name = "ROWS", default_value_t = 1)]
    rows_per_hash_key: u64,
    /// Threads of this program
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Clients; each has a connection to every core
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Operations under way on each client
    #[arg(long, default_value_t = 4)]
    inflight: usize,
    /// CPUs to pin the threads of this program to, in turn [default: the scheduler chooses]
    #[arg(long, value_name = "CPU[,CPU]", value_delimiter = ',')]
    cpus: Vec<usize>,
    /// Deadline of an operation, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    timeout: u64,
    /// Write the report to this file, as JSON (- for standard output, instead of the text)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Load {
    #[command(flatten)]
    common: Common,
    /// Seconds to try a record before the load stops
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    give_up_after: u64,
}

#[derive(Debug, Args)]
struct Run {
    #[command(flatten)]
    common: Common,
    /// The mix of operations (YCSB core workloads; inserts and ranges as far as the key layout has them)
    #[arg(long, value_enum, default_value_t = Workload::A)]
    workload: Workload,
    /// Which records are wanted more often [default: that of the workload]
    #[arg(long, value_enum)]
    distribution: Option<Distribution>,
    /// Measured seconds
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Run so many operations instead (without warm-up)
    #[arg(long, conflicts_with = "seconds")]
    operations: Option<u64>,
    /// Seconds before the measurement starts
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    warm_up: f64,
    /// Check every answer, and read every written row again at the end; then each record belongs to one worker
    #[arg(long)]
    verify: bool,
    /// Seed of all random choices
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Compare with the limits in this report of `pegasus-bench floor --json`
    #[arg(long, value_name = "FILE", conflicts_with = "with_floor")]
    floor: Option<PathBuf>,
    /// Measure the limits first, two seconds each, flushing in this directory; the echo's client is pinned as --cpus says
    #[arg(long, value_name = "DIR")]
    with_floor: Option<PathBuf>,
    /// CPU of the echo server of --with-floor: that of the data core [default: the first allowed one]
    #[arg(long, value_name = "CPU", requires = "with_floor")]
    server_cpu: Option<usize>,
    /// How the echo server of --with-floor waits: as the nodes do (poll in their configuration)
    #[arg(long, value_enum, default_value_t = floor::Poll::Sleep, requires = "with_floor")]
    poll: floor::Poll,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Load(options) => load(&options),
        Command::Run(options) => run(&options),
        Command::Floor(options) => options.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pegasus-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn load(options: &Load) -> anyhow::Result<()> {
    let common = &options.common;
    let shape = common.check()?;
    let workers = (shape.workers() as u64).min(common.records);
    let table = common.look_up_table()?;
    let plan = Arc::new(Plan {
        choosers: Chooser::for_workers(Distribution::Uniform, common.records, workers, true),
        ..common.plan(
            shape,
            Work::Load {
                give_up_after: Duration::from_secs(options.give_up_after),
            },
            Mix::LOAD,
        )
    });
    let facts = Facts {
        workload: None,
        distribution: None,
        records_divided: true,
        partitions: table.partition_count,
        replicas: table.replica_count,
        started: SystemTime::now(),
        floor: None,
    };
    let outcome = driver::run(&plan)?;
    let report = Report::new(&plan, facts, &outcome);
    common.publish(&report)?;
    match outcome.load_error {
        Some(error) => Err(error).context("the load is not complete"),
        None => Ok(()),
    }
}

fn run(options: &Run) -> anyhow::Result<()> {
    let common = &options.common;
    let shape = common.check()?;
    let mix = options.check(shape)?;
    let distribution = options.distribution.unwrap_or(mix.distribution);
    let floor = options.floor()?;
    let table = common.look_up_table()?;
    let divided = options.verify || distribution == Distribution::Latest;
    let mut plan = Plan {
        choosers: Chooser::for_workers(
            distribution,
            common.records,
            shape.workers() as u64,
            divided,
        ),
        ..common.plan(shape, options.work(), mix)
    };
    plan.task.verify = options.verify;
    plan.task.seed = options.seed;
    let plan = Arc::new(plan);
    let facts = Facts {
        workload: Some(options.workload),
        distribution: Some(distribution),
        records_divided: divided,
        partitions: table.partition_count,
        replicas: table.replica_count,
        started: SystemTime::now(),
        floor,
    };
    let outcome = driver::run(&plan)?;
    let report = Report::new(&plan, facts, &outcome);
    common.publish(&report)?;
    match report.verdict() {
        Some(sentence) => bail!("{sentence}"),
        None => Ok(()),
    }
}

impl Common {
    fn check(&self) -> anyhow::Result<Shape> {
        let shape = Shape {
            threads: self.threads,
            connections: self.connections,
            inflight: self.inflight,
        };
        shape.check()?;
        ensure!(
            (1..=10_000_000_000).contains(&self.records),
            "--records {}: 1 to 10000000000 are allowed",
            self.records
        );
        ensure!(
            self.value_size <= 1 << 20,
            "--value-size {}: at most 1048576 are allowed",
            self.value_size
        );
        ensure!(
            self.rows_per_hash_key > 0,
            "--rows-per-hash-key 0: at least 1"
        );
        ensure!(
            (1..=600_000).contains(&self.timeout),
            "--timeout {}: 1 to 600000 ms are allowed",
            self.timeout
        );
        Ok(shape)
    }

    /// All of a plan but the choosers.
    fn plan(&self, shape: Shape, work: Work, mix: Mix) -> Plan {
        Plan {
            meta: self.meta.clone(),
            table: self.table.clone(),
            shape,
            cpus: self.cpus.clone(),
            timeout: Duration::from_millis(self.timeout),
            work,
            task: Task {
                mix,
                names: Names {
                    rows_per_hash_key: self.rows_per_hash_key,
                },
                records: self.records,
                value_bytes: self.value_size,
                seed: 1,
                version_base: verify::version_base(),
                verify: false,
            },
            choosers: Vec::new(),
        }
    }

    /// What the report says about the table; also finds out early that there is none.
    fn look_up_table(&self) -> anyhow::Result<pegasus_client::TableInfo> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let client = Client::connect(ClientOptions::new(self.meta.clone()))
                .await
                .with_context(|| format!("cluster at {}", self.meta.join(", ")))?;
            client
                .show_table(&self.table)
                .await
                .with_context(|| format!("table {}", self.table))
        })
    }

    fn publish(&self, report: &Report) -> anyhow::Result<()> {
        report::publish(self.json.as_deref(), report, || report.text())
    }
}

impl Run {
    fn check(&self, shape: Shape) -> anyhow::Result<Mix> {
        let mix = self.workload.mix();
        let common = &self.common;
        ensure!(
            common.records >= shape.workers() as u64,
            "{} records are fewer than the {} workers (connections x inflight)",
            common.records,
            shape.workers()
        );
        ensure!(
            !mix.has(Kind::Scan) || common.rows_per_hash_key > 1,
            "workload e reads ranges of a hash key: load and run with --rows-per-hash-key 100, for example"
        );
        ensure!(
            !self.verify || common.value_size >= verify::VALUE_BYTES_MIN,
            "--verify needs --value-size of at least {}",
            verify::VALUE_BYTES_MIN
        );
        Ok(mix)
    }

    fn work(&self) -> Work {
        match self.operations {
            Some(count) => Work::RunOperations(count),
            None => Work::RunFor {
                warm_up: Duration::from_secs_f64(self.warm_up.clamp(0.0, 3600.0)),
                time: Duration::from_secs_f64(self.seconds.clamp(0.001, 30.0 * 86_400.0)),
            },
        }
    }

    fn floor(&self) -> anyhow::Result<Option<Floor>> {
        match (&self.floor, &self.with_floor) {
            (Some(path), _) => floor::load(path).map(Some),
            (None, Some(dir)) => self.measure_floor(dir).map(Some),
            (None, None) => Ok(None),
        }
    }

    fn measure_floor(&self, dir: &Path) -> anyhow::Result<Floor> {
        Floor::quick(
            dir.to_owned(),
            self.poll,
            self.server_cpu,
            self.common.cpus.first().copied(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}

//! `pegasus-bench`: load records, drive them with YCSB mixes in closed and open loops, check every answer if asked to, and
//! measure what this machine can do at best.
//!
//! Reading order: `options` and `plan` (what to do), `workload` (the mixes), `layout` and `keys` (which records), `target`
//! (through which protocol), `pace` (when operations start), `worker` (one operation after another), `driver` (threads
//! and connections), `record`, `series` and `histogram` (what happened), `value` and `verify` (is the answer true), `outcome` (what
//! is kept of it); then `floor`, `report`, `html`.

#![forbid(unsafe_code)]

mod affinity;
mod alarm;
mod arrival;
mod calibrate;
mod compare;
mod driver;
mod floor;
mod histogram;
mod html;
mod keys;
mod layout;
mod load;
mod null_server;
mod options;
mod outcome;
mod pace;
mod period;
mod plan;
mod progress;
mod record;
mod report;
mod run;
mod scenario;
mod series;
mod sweep;
mod target;
mod trace;
mod usage;
mod value;
mod verify;
mod versus;
mod worker;
mod workload;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Measure a Pegasus cluster, or a server that it is compared with: load records, run a mix of operations, report latencies.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
A first measurement (records as in YCSB: 1 KB in 10 fields):
  pegasus table create bench --partitions 8 --replicas 3
  pegasus-bench load --table bench --records 100000
  pegasus-bench run  --table bench --records 100000 --workload a --seconds 30

The same for another server:
  pegasus-bench load --target redis://127.0.0.1:6379 --records 100000
  pegasus-bench run  --target redis://127.0.0.1:6379 --records 100000 --workload a --seconds 30

What do users see at 5000 operations a second, stalls included?
  pegasus-bench run --table bench --records 100000 --workload b --rate 5000 --seconds 60
  pegasus-bench run --table bench --records 100000 --workload b --rate auto --seconds 60     (half of the knee)

One operation at a time, as a multiple of what the machine can do:
  pegasus-bench run --table bench --records 100000 --workload put --connections 1 --inflight 1 --with-floor /data

Is every answer true, also while servers are killed?
  pegasus-bench run --table bench --records 100000 --workload a --seconds 600 --verify

What does a full compaction, a neighbour or a dead node cost? At half of the knee, marked on the page's pictures:
  pegasus-bench scenario --local DIR --table bench --records 100000 --workload b \
      --event compaction --event neighbour --event kill --html scenario.html

How much can it take before the tail breaks? One page with pictures, for anybody to open:
  pegasus-bench sweep --table bench --records 100000 --workload b --from 1000 --step-seconds 10 --html sweep.html

How does it stand against Redis and etcd, through every protocol of its own? In turn, five rounds:
  pegasus-bench versus --server ours=native://127.0.0.1:34601/t --server resp=resp://127.0.0.1:34601/t \
      --server redis=redis://127.0.0.1:6379 --workload c --workload put --shape 1x1 --shape 50x1 --shape 50x16 --load

Is this version faster than that one, or is it chance? Three runs of each, in turn:
  pegasus-bench compare --a 'old*.json' --b 'new*.json'

Without --rate the loop of a run is closed, which measures rates: a worker starts its next operation when the one before is answered, so a server that
stalls receives less load meanwhile and its worst moments are counted once, and the report says so. With --rate it is open, which measures latencies: operations start at their
time, and latencies count from it. Latencies are those of successful operations; failures are counted by code.

Exit codes: 0 done, 1 failed (nobody there, no table, a load that could not be finished, an answer that cannot be true),
2 wrong command line, 3 slower than compare --fail-if-slower allows."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write every record once
    Load(load::LoadOptions),
    /// Run a mix of operations over loaded records
    Run(run::Run),
    /// Measure this machine's own limits: loopback echo, and 4 KiB overwrite + fdatasync
    Floor(floor::FloorOptions),
    /// Offer more and more operations a second until the tail breaks, and find the knee
    Sweep(sweep::SweepOptions),
    /// Inject compactions, copies, kills, slow disks and floods during an open loop, and tell what each costs
    Scenario(Box<scenario::ScenarioOptions>),
    /// Run the same against several servers by turns, round after round: medians and ratios in one table
    Versus(Box<versus::VersusOptions>),
    /// Put reports of runs side by side: ratios, and whether a difference is larger than chance
    Compare(compare::CompareOptions),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Load(options) => options.run().map(|()| true),
        Command::Run(options) => options.run().map(|()| true),
        Command::Floor(options) => options.run().map(|()| true),
        Command::Sweep(options) => options.run().map(|()| true),
        Command::Scenario(options) => options.run().map(|()| true),
        Command::Versus(options) => options.run().map(|()| true),
        Command::Compare(options) => options.run(),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(SLOWER),
        Err(error) => {
            eprintln!("pegasus-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `compare --fail-if-slower` found something that is.
const SLOWER: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}

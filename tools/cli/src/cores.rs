//! `pegasus core list|show`: what each core does, and where the time of its requests goes.
//!
//! Reading order: `source` (pages and the wire), `state`, `numbers`; then `list` and `show`.

#[cfg(test)]
pub(crate) mod fake;
mod list;
pub(crate) mod name;
pub(crate) mod numbers;
mod show;
pub(crate) mod source;
pub(crate) mod state;
pub(crate) mod traffic;

use crate::connect::Connect;
use crate::output::Output;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show requests, latencies, flushes and queues of each core
    #[command(after_help = "\
Two readings, --interval apart. Latencies are those of the interval, in microseconds, from a request's last byte to its
answer, measured in the node. Failures are all answers but ok and not found; flushes are those of the log; in work:
requests taken and not answered; prepares: writes prepared and not committed; to apply: writes committed and not yet in
RocksDB; disk reads: reads that wait for the disk; log queue: bytes appended and not yet durable; cache hits: reads that
needed no disk; stalls: how often the core did not return to its loop within 10 ms. `core show` explains one core.

States:
  running   it publishes its numbers
  starting  its node has been started again and has not opened this core yet
  stopped   it has ended as it should
  stuck     its process is there, but paused, or has published nothing for three seconds
  dead      its process is gone
  silent    its node does not answer, and its page is not on this machine

Examples:
  pegasus core list
  pegasus core list --node 2 --interval 10
  pegasus core list --watch
  pegasus core list --over wire --json
  pegasus core list --stats-dir /data/node-1/stats    without asking anybody, for a cluster whose meta is down")]
    List(list::List),
    /// Explain where the time of one core's requests goes
    #[command(after_help = "\
Prints the stages of writes and reads with their share of the time, which of them dominates and what that means, the
slowest requests of the last minutes with the time of each stage, and the core's replicas, queues, log, memory and
connections. Of a core that does not run, everything since its start is shown, read from the page it left behind.

Examples:
  pegasus core show 1/0                   the next two seconds of core 0 of node 1
  pegasus core show 1/0 --interval 30
  pegasus core show 1/0 --since-start --json
  pegasus core show 1/0 --stats-dir /data/node-1/stats")]
    Show(show::Show),
}

pub(crate) async fn run(
    command: &Command,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    match command {
        Command::List(options) => list::run(options, connect, out).await,
        Command::Show(options) => show::run(options, connect, out).await,
    }
}

/// Seconds between two readings.
pub(crate) fn interval(text: &str) -> Result<f64, &'static str> {
    text.parse()
        .ok()
        .filter(|seconds| (0.1..=3600.0).contains(seconds))
        .ok_or("0.1 to 3600 seconds are allowed")
}

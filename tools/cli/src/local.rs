//! `pegasus local`: a whole cluster on this machine, for trying things out and for tests.
//!
//! ```text
//! DIR/cluster.toml     how many nodes and cores, which ports (cluster_file.rs)
//! DIR/meta/            log, pid; data/ belongs to pegasus-meta
//! DIR/node-1/ ...      log, pid; data/ belongs to pegasus-replica
//! ```
//!
//! Every process is found through its own pid file, so any of these commands may be interrupted and run again.

#[cfg(test)]
mod any_bytes;
mod cluster_file;
mod control;
mod members;
mod metas;
mod place;
pub(crate) mod process;
mod rolling;
mod status;

use crate::confirm::confirm;
use crate::exit::{Exit, Failed};
use crate::output::{Output, Style, note, table};
use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand, ValueEnum};
use cluster_file::{BASE_PORT_DEFAULT, CORES_MAX, ClusterFile, NODES_MAX};
use control::{Cluster, Ended};
use place::{Lock, Place, refuse_foreign_directory};
use status::Status;
use std::fs;
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a cluster in the background, or what is missing of one that exists
    #[command(after_help = "\
Examples:
  pegasus local start                          three nodes of one core each, on ports 34601 and 34801..
  pegasus local start --nodes 1 --cores 2
  pegasus local start --metas 3                three metas, of which one may be lost
  pegasus local start --dir /tmp/try --base-port 0   a second cluster, on free ports
  pegasus local start -- --cache-size 256MiB         with an option of pegasus-replica

What runs is left alone. A cluster keeps its cores and ports for life; --nodes may grow.")]
    Start(Start),
    /// Show the processes and whether they answer (exit code 4 if one does not, 3 if there is no cluster)
    #[command(after_help = "\
States:
  running        it answers (a node: meta hears from it, and all its cores answer)
  not answering  its process is there; it starts, or hangs: its log tells
  paused         its process is stopped by a signal (SIGSTOP); kill -CONT PID lets it go on
  stopped        it has ended as it should
  dead           it has ended otherwise: killed, failed, or the machine went down; `pegasus local start` starts it again")]
    Status(Place),
    /// End all processes, nodes first; the data stays
    Stop(Stop),
    /// Restart one process after the other while the cluster serves; with --binary, upgrade it
    #[command(after_help = "\
Examples:
  pegasus local restart --rolling                      no request fails
  pegasus local restart --rolling --binary /opt/new    the programs of another release, from now on

Meta goes first, then each node once everything is whole. After trouble or Ctrl-C the same command goes on.")]
    Restart(rolling::Restart),
    /// Start one node more; it joins, and gets its share
    AddNode(members::AddNode),
    /// Empty a node, have the cluster forget it, stop it and delete its directory
    RemoveNode(members::RemoveNode),
    /// Delete the cluster with all its data; asks, and only when nothing runs
    Wipe(Wipe),
}

#[derive(Debug, Args)]
pub(crate) struct Start {
    #[command(flatten)]
    place: Place,
    /// Number of data nodes [default: 3, or what is there]
    #[arg(long, allow_negative_numbers = true, value_parser = clap::value_parser!(u16).range(1..=i64::from(NODES_MAX)))]
    nodes: Option<u16>,
    /// Number of metas: 1 keeps its state alone, 3 or 5 are a group [default: 1, or what is there]
    #[arg(long, allow_negative_numbers = true)]
    metas: Option<u16>,
    /// Cores (data threads) of each node [default: 1, or what is there]
    #[arg(long, allow_negative_numbers = true, value_parser = clap::value_parser!(u16).range(1..=i64::from(CORES_MAX)))]
    cores: Option<u16>,
    /// Meta m listens on this + m, node n on this + 201 + 100 * (n - 1); 0 picks free ports [default: 34600]
    #[arg(long, value_name = "PORT", allow_negative_numbers = true)]
    base_port: Option<u16>,
    /// What a data thread does when it has nothing to do
    #[arg(long, value_enum, default_value_t = Poll::Sleep)]
    poll: Poll,
    /// Seconds to wait until everything answers
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 60,
        allow_negative_numbers = true
    )]
    #[arg(value_parser = clap::value_parser!(u64).range(..=86_400))]
    wait: u64,
    /// A further option for pegasus-meta, such as --meta-option=--heal-delay-ms=5000; may be repeated, kept for later starts
    #[arg(
        long = "meta-option",
        value_name = "OPTION",
        allow_hyphen_values = true
    )]
    meta_options: Vec<String>,
    /// Further options for every pegasus-replica, behind --; kept for later starts once they have worked
    #[arg(last = true, value_name = "OPTION")]
    node_options: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Stop {
    #[command(flatten)]
    place: Place,
    /// Kill at once (SIGKILL), as a crash would
    #[arg(long)]
    kill: bool,
    /// Seconds to wait for a graceful end
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 30,
        allow_negative_numbers = true
    )]
    #[arg(value_parser = clap::value_parser!(u64).range(..=86_400))]
    wait: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Wipe {
    #[command(flatten)]
    place: Place,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Passed on to `pegasus-replica --poll`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Poll {
    /// Sleep at once: right where nodes share the CPUs
    Sleep,
    /// Poll for some microseconds, then sleep
    Adaptive,
    /// Never sleep: lowest latency, needs a CPU for each core
    Busy,
}

impl Poll {
    fn name(self) -> &'static str {
        match self {
            Self::Sleep => "sleep",
            Self::Adaptive => "adaptive",
            Self::Busy => "busy",
        }
    }
}

/// Where `pegasus local` has its cluster when nobody names a directory.
pub(crate) fn default_dir() -> Option<std::path::PathBuf> {
    place::default_dir().ok()
}

pub(crate) async fn run(command: Command, out: &mut Output) -> anyhow::Result<()> {
    match command {
        Command::Start(options) => start(&options, out).await,
        Command::Status(place) => status(&place, out).await,
        Command::Stop(options) => stop(&options, out).await,
        Command::Restart(options) => rolling::run(&options, out).await,
        Command::AddNode(options) => members::add(&options, out).await,
        Command::RemoveNode(options) => members::remove(&options, out).await,
        Command::Wipe(options) => wipe(&options, out),
    }
}

async fn start(options: &Start, out: &mut Output) -> anyhow::Result<()> {
    let dir = options.place.dir()?;
    let existing = ClusterFile::load(&dir)?;
    if existing.is_none() {
        refuse_foreign_directory(&dir)?;
    }
    fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let _lock = Lock::take(&dir)?;
    let file = match existing {
        Some(file) => options.merge(file)?,
        None => options.new_cluster()?,
    };
    // Kept before anything runs, so that `local stop` finds it; new options are kept once they have worked.
    file.save(&dir)?;
    let mut file = options.with_further_options(file);
    file.poll = Some(options.poll.name().to_owned());
    let cluster = Cluster::new(dir, file);
    let left_alone = cluster
        .start(options.poll.name(), Duration::from_secs(options.wait))
        .await?;
    cluster.file.save(&cluster.dir)?;
    if left_alone > 0 && !options.node_options.is_empty() {
        note(format!(
            "{left_alone} of the nodes run already: the options behind -- reach them when they are started again"
        ));
    }
    let status = cluster.status().await;
    match out.style {
        Style::Json => out.json(&status),
        Style::People => {
            show(&status, out)?;
            Ok(out.line(cluster.what_next())?)
        }
    }
}

impl Start {
    fn new_cluster(&self) -> anyhow::Result<ClusterFile> {
        let base_port = self.base_port.unwrap_or(BASE_PORT_DEFAULT);
        let (nodes, cores) = (self.nodes.unwrap_or(3), self.cores.unwrap_or(1));
        let file = ClusterFile::with_metas(self.metas.unwrap_or(1), nodes, cores, base_port);
        match base_port {
            0 => file,
            _ => file.map_err(|error| Failed::usage(format!("--base-port: {error:#}"))),
        }
    }

    /// Options given now replace those of earlier starts.
    fn with_further_options(&self, mut file: ClusterFile) -> ClusterFile {
        if !self.node_options.is_empty() {
            file.node_options.clone_from(&self.node_options);
        }
        if !self.meta_options.is_empty() {
            file.meta_options.clone_from(&self.meta_options);
        }
        file
    }

    /// An existing cluster keeps its shape; only nodes may be added.
    fn merge(&self, mut file: ClusterFile) -> anyhow::Result<ClusterFile> {
        let differs = |what: &str, asked: u16, there: u16| {
            Failed::error(
                Exit::Failed,
                format!(
                    "{what}: this cluster has {there}, not {asked}; `pegasus local wipe` it first or choose another --dir"
                ),
            )
        };
        if let Some(cores) = self.cores.filter(|c| *c != file.cores) {
            return Err(differs("cores", cores, file.cores));
        }
        if let Some(metas) = self.metas.filter(|it| *it != file.metas) {
            return Err(differs("metas", metas, file.metas));
        }
        if let Some(port) = self.base_port.filter(|p| *p != 0 && *p != file.base_port) {
            return Err(differs("base port", port, file.base_port));
        }
        if let Some(nodes) = self.nodes {
            if nodes < file.nodes {
                return Err(differs("nodes", nodes, file.nodes));
            }
            file = ClusterFile { nodes, ..file };
            file.check()?;
        }
        Ok(file)
    }
}

async fn status(place: &Place, out: &mut Output) -> anyhow::Result<()> {
    let cluster = place.cluster()?;
    let status = cluster.status().await;
    match out.style {
        Style::Json => out.json(&status)?,
        Style::People => show(&status, out)?,
    }
    match status.advice() {
        None => Ok(()),
        Some(advice) => Err(Failed::error(Exit::Unavailable, advice)),
    }
}

fn show(status: &Status, out: &mut Output) -> anyhow::Result<()> {
    let mut rows = table(&["process", "state", "pid", "address", "log"], &[2]);
    for process in &status.processes {
        rows.add_row([
            process.name.clone(),
            process.state.name().to_owned(),
            process.pid.map(|pid| pid.to_string()).unwrap_or_default(),
            process.addresses_short(),
            process.log.display().to_string(),
        ]);
    }
    Ok(out.table(&rows)?)
}

async fn stop(options: &Stop, out: &mut Output) -> anyhow::Result<()> {
    let cluster = options.place.cluster()?;
    let _lock = Lock::take(&cluster.dir)?;
    let ended = if options.kill {
        cluster.kill().await?
    } else {
        cluster.stop(Duration::from_secs(options.wait)).await?
    };
    match out.style {
        Style::Json => out.json(&ended)?,
        Style::People => out.line(describe(&ended))?,
    }
    if ended.still_running.is_empty() {
        return Ok(());
    }
    Err(Failed::error(
        Exit::Failed,
        format!(
            "still running: {}; `pegasus local stop --kill` ends them at once",
            ended.still_running.join(", ")
        ),
    ))
}

fn describe(ended: &Ended) -> String {
    if ended.stopped.is_empty() && ended.still_running.is_empty() {
        return "nothing was running".to_owned();
    }
    format!("stopped: {}", ended.stopped.join(", "))
}

fn wipe(options: &Wipe, out: &mut Output) -> anyhow::Result<()> {
    let cluster = options.place.cluster()?;
    let _lock = Lock::take(&cluster.dir)?;
    let running: Vec<String> = cluster
        .processes()
        .filter(|p| p.running().is_some())
        .map(|p| p.name)
        .collect();
    ensure!(
        running.is_empty(),
        "still running: {}; `pegasus local stop` first",
        running.join(", ")
    );
    if !options.yes {
        confirm(&format!(
            "Delete the cluster in {} with all its data?",
            cluster.dir.display()
        ))?;
    }
    cluster.delete()?;
    match out.style {
        Style::Json => out.json(&serde_json::json!({ "wiped": cluster.dir })),
        Style::People => Ok(out.line(format!("deleted {}", cluster.dir.display()))?),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn asked(nodes: Option<u16>, cores: Option<u16>, base_port: Option<u16>) -> Start {
        Start {
            place: Place { dir: None },
            nodes,
            cores,
            metas: None,
            base_port,
            poll: Poll::Sleep,
            wait: 1,
            meta_options: Vec::new(),
            node_options: Vec::new(),
        }
    }

    fn there() -> ClusterFile {
        ClusterFile::new(3, 1, 20_000).unwrap()
    }

    #[test]
    fn an_existing_cluster_keeps_its_shape() {
        assert_eq!(asked(None, None, None).merge(there()).unwrap(), there());
        assert_eq!(
            asked(Some(3), Some(1), Some(20_000))
                .merge(there())
                .unwrap(),
            there()
        );
        assert_eq!(asked(None, None, Some(0)).merge(there()).unwrap(), there());
        assert!(asked(None, Some(2), None).merge(there()).is_err());
        assert!(asked(None, None, Some(20_100)).merge(there()).is_err());
    }

    #[test]
    fn nodes_may_be_added_and_not_removed() {
        assert_eq!(asked(Some(5), None, None).merge(there()).unwrap().nodes, 5);
        assert!(asked(Some(2), None, None).merge(there()).is_err());
        assert!(asked(Some(99), None, None).merge(there()).is_err());
    }
}

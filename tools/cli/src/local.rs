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
pub(crate) mod process;

use crate::exit::{Exit, Failed};
use crate::output::{Output, Style, table};
use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand, ValueEnum};
use cluster_file::{BASE_PORT_DEFAULT, ClusterFile};
use control::{Cluster, Ended};
use rustix::fs::{FlockOperation, flock};
use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a cluster in the background, or what is missing of one that exists
    #[command(after_help = "\
Examples:
  pegasus local start                          three nodes of one core each, on ports 34601 and 34801..
  pegasus local start --nodes 1 --cores 2
  pegasus local start --dir /tmp/try --base-port 0   a second cluster, on free ports
  pegasus local start -- --cache-size 256MiB         with an option of pegasus-replica")]
    Start(Start),
    /// Show the processes and whether they answer (exit code 4 if one is missing, 3 if there is no cluster)
    Status(Place),
    /// End all processes; the data stays
    Stop(Stop),
    /// Delete the cluster with all its data
    Wipe(Wipe),
}

/// Which local cluster.
#[derive(Clone, Debug, Args)]
pub(crate) struct Place {
    /// Directory of the cluster [default: $XDG_DATA_HOME/pegasus-local, that is ~/.local/share/pegasus-local]
    #[arg(long, env = "PEGASUS_LOCAL_DIR", value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Start {
    #[command(flatten)]
    place: Place,
    /// Number of data nodes [default: 3, or what is there]
    #[arg(long)]
    nodes: Option<u16>,
    /// Cores (data threads) of each node [default: 1, or what is there]
    #[arg(long)]
    cores: Option<u16>,
    /// Meta listens on this + 1, node n on this + 201 + 100 * (n - 1); 0 picks free ports [default: 34600]
    #[arg(long, value_name = "PORT")]
    base_port: Option<u16>,
    /// What a data thread does when it has nothing to do
    #[arg(long, value_enum, default_value_t = Poll::Sleep)]
    poll: Poll,
    /// Seconds to wait until everything answers
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,
    /// Further options for every pegasus-replica, behind --; kept for later starts
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
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
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

pub(crate) async fn run(command: Command, out: &mut Output) -> anyhow::Result<()> {
    match command {
        Command::Start(options) => start(&options, out).await,
        Command::Status(place) => status(&place, out).await,
        Command::Stop(options) => stop(&options, out).await,
        Command::Wipe(options) => wipe(&options, out),
    }
}

impl Place {
    fn dir(&self) -> anyhow::Result<PathBuf> {
        let dir = match &self.dir {
            Some(dir) => dir.clone(),
            None => default_dir()?,
        };
        std::path::absolute(&dir).with_context(|| dir.display().to_string())
    }

    /// The cluster in this directory, or exit code 3.
    fn cluster(&self) -> anyhow::Result<Cluster> {
        let dir = self.dir()?;
        match ClusterFile::load(&dir)? {
            Some(file) => Ok(Cluster::new(dir, file)),
            None => Err(Failed::error(
                Exit::NotFound,
                format!(
                    "{}: no local cluster here; `pegasus local start` makes one",
                    dir.display()
                ),
            )),
        }
    }
}

fn default_dir() -> anyhow::Result<PathBuf> {
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    variable("XDG_DATA_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".local/share")))
        .map(|data| data.join("pegasus-local"))
        .context("neither XDG_DATA_HOME nor HOME is set: name a directory with --dir")
}

/// Held while a command changes a cluster, so that two of them never work on it at once.
#[derive(Debug)]
struct Lock {
    _file: fs::File,
}

impl Lock {
    fn take(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join(LOCK_NAME);
        let file = fs::File::create(&path).with_context(|| path.display().to_string())?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Failed::error(
                Exit::Unavailable,
                format!(
                    "{}: another `pegasus local` command is at work here",
                    dir.display()
                ),
            )),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }
}

const LOCK_NAME: &str = "lock";

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
        None => ClusterFile::new(
            options.nodes.unwrap_or(3),
            options.cores.unwrap_or(1),
            options.base_port.unwrap_or(BASE_PORT_DEFAULT),
        )?,
    };
    let file = options.with_node_options(file);
    file.save(&dir)?;
    let cluster = Cluster::new(dir, file);
    cluster
        .start(options.poll.name(), Duration::from_secs(options.wait))
        .await?;
    match out.style {
        Style::Json => out.json(&cluster.status().await),
        Style::People => {
            show(&cluster, out).await?;
            Ok(out.line(cluster.what_next())?)
        }
    }
}

impl Start {
    /// Options given now replace those of earlier starts.
    fn with_node_options(&self, mut file: ClusterFile) -> ClusterFile {
        if !self.node_options.is_empty() {
            file.node_options.clone_from(&self.node_options);
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

/// A new cluster goes into a directory that is absent or empty (a lock file of an interrupted start does not count).
fn refuse_foreign_directory(dir: &Path) -> anyhow::Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| dir.display().to_string()),
    };
    for entry in entries {
        let name = entry
            .with_context(|| dir.display().to_string())?
            .file_name();
        ensure!(
            name == LOCK_NAME,
            "{}: not empty and not a local cluster ({} is there); choose another --dir",
            dir.display(),
            name.to_string_lossy()
        );
    }
    Ok(())
}

async fn status(place: &Place, out: &mut Output) -> anyhow::Result<()> {
    let cluster = place.cluster()?;
    let all_well = match out.style {
        Style::Json => {
            let status = cluster.status().await;
            out.json(&status)?;
            status.is_well()
        }
        Style::People => show(&cluster, out).await?,
    };
    if all_well {
        return Ok(());
    }
    Err(Failed::error(
        Exit::Unavailable,
        "not everything runs; `pegasus local start` starts what is missing",
    ))
}

/// Prints the processes; `true` if all of them run and answer.
async fn show(cluster: &Cluster, out: &mut Output) -> anyhow::Result<bool> {
    let status = cluster.status().await;
    let mut rows = table(&["process", "state", "pid", "address", "log"], &[2]);
    for process in &status.processes {
        rows.add_row([
            process.name.clone(),
            process.state().to_owned(),
            process.pid.map(|pid| pid.to_string()).unwrap_or_default(),
            process.addresses.join(" "),
            process.log.display().to_string(),
        ]);
    }
    out.table(&rows)?;
    Ok(status.is_well())
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

/// Asks on the terminal; without one `--yes` is needed.
pub(crate) fn confirm(question: &str) -> anyhow::Result<()> {
    ensure!(
        io::stdin().is_terminal(),
        "{question} There is nobody to ask: add --yes"
    );
    let mut stderr = io::stderr();
    write!(stderr, "{question} [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if !matches!(answer.trim(), "y" | "Y" | "yes") {
        bail!("nothing was done");
    }
    Ok(())
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
            base_port,
            poll: Poll::Sleep,
            wait: 1,
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

    #[test]
    fn a_directory_with_other_things_in_it_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        refuse_foreign_directory(&dir.path().join("absent")).unwrap();
        refuse_foreign_directory(dir.path()).unwrap();
        fs::write(dir.path().join("thesis.tex"), "").unwrap();
        let error = refuse_foreign_directory(dir.path())
            .unwrap_err()
            .to_string();
        assert!(error.contains("thesis.tex"), "{error}");
    }

    #[test]
    fn two_commands_never_change_a_cluster_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path()).unwrap();
        let refused = Lock::take(dir.path()).unwrap_err();
        assert_eq!(crate::exit::exit_of(&refused), Exit::Unavailable);
        drop(first);
        Lock::take(dir.path()).unwrap();
    }
}

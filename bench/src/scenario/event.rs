//! What is done to the cluster.

use super::cluster::Cluster;
use super::command::Knobs;
use super::disk::SlowDisk;
use super::local::Local;
use super::script::Script;
use anyhow::{Context as _, bail, ensure};
use clap::ValueEnum;
use std::process::{Child, Command, Stdio};

/// In the order in which they are given, each once or several times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Event {
    /// All files of the table are rewritten on all nodes; over when they are
    Compaction,
    /// Another program writes to a table with as many requests under way as it can have; lasts --event-seconds
    Neighbour,
    /// A node's disk does --disk-operations a second only (needs --local and root); lasts --event-seconds
    SlowDisk,
    /// A replica of each partition moves to a node that has none; over when they have
    Move,
    /// A node loses all its data and learns all of it again (needs --local); over when the table is healthy
    Learner,
    /// A node is killed and started again after --down-seconds (needs --local); over when the table is healthy
    Kill,
}

impl Event {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Compaction => "compaction",
            Self::Neighbour => "neighbour",
            Self::SlowDisk => "slow disk",
            Self::Move => "move",
            Self::Learner => "learner",
            Self::Kill => "kill",
        }
    }

    /// Whether it touches processes, and not only what they serve.
    pub(super) fn needs_local(self) -> bool {
        matches!(self, Self::SlowDisk | Self::Learner | Self::Kill)
    }

    /// From begin to end; the period is begun here, when it begins.
    pub(super) async fn inject(self, script: &Script<'_>) -> anyhow::Result<()> {
        let (cluster, knobs) = (&script.cluster, &script.knobs);
        match self {
            Self::Compaction => {
                script.begin_event(self);
                cluster.compact(knobs.event_max).await
            }
            Self::Move => {
                script.begin_event(self);
                cluster.move_replicas().await?;
                cluster.wait_healthy(knobs.event_max).await
            }
            Self::Neighbour => {
                script.begin_event(self);
                let mut flood = Flood::begin(cluster, knobs)?;
                script.rest(knobs.event_time).await?;
                flood.check()
            }
            Self::SlowDisk => {
                let (local, node) = script.local_node()?;
                script.begin_event(self);
                let slow =
                    SlowDisk::begin(local.pid(&node)?, local.directory(), knobs.disk_operations)?;
                script.rest(knobs.event_time).await?;
                drop(slow);
                Ok(())
            }
            Self::Learner => {
                let (local, node) = script.local_node()?;
                script.begin_quiet("one node less");
                local.kill(&node)?;
                local.wipe(&node)?;
                script.rest(knobs.down_time).await?;
                start(local).await?;
                cluster.wait_learning(knobs.event_max).await?;
                script.begin_event(self);
                cluster.wait_healthy(knobs.event_max).await
            }
            Self::Kill => {
                let (local, node) = script.local_node()?;
                script.begin_event(self);
                local.kill(&node)?;
                script.rest(knobs.down_time).await?;
                start(local).await?;
                cluster.wait_healthy(knobs.event_max).await
            }
        }
    }
}

/// The program waits for the nodes; meanwhile this thread has nothing else to do.
async fn start(local: &Local) -> anyhow::Result<()> {
    let local = local.clone();
    tokio::task::spawn_blocking(move || local.start())
        .await
        .context("starting what does not run")?
}

/// Another process of this program that writes to another table as fast as it can. Ends with this.
struct Flood(Child);

impl Flood {
    fn begin(cluster: &Cluster, knobs: &Knobs) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("the path of this program")?;
        let seconds = knobs.event_time.as_secs_f64() + 3600.0;
        let mut command = Command::new(program);
        command
            .args([
                "run",
                "--workload",
                "put",
                "--value-size",
                "1000",
                "--records",
                "100000",
            ])
            .args(["--connections", "8", "--inflight", "64", "--warm-up", "0"])
            .args(["--seconds", &seconds.to_string()])
            .args(["--meta", &cluster.meta.join(",")])
            .args(["--table", &knobs.neighbour]);
        if !knobs.cpus.is_empty() {
            let cpus: Vec<String> = knobs.cpus.iter().map(usize::to_string).collect();
            command.args(["--cpus", &cpus.join(",")]);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("the neighbour, a second pegasus-bench")?;
        Ok(Self(child))
    }

    /// It has to be at it still.
    fn check(&mut self) -> anyhow::Result<()> {
        match self.0.try_wait().context("the neighbour")? {
            None => Ok(()),
            Some(status) => bail!("the neighbour ended by itself: {status}"),
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// # Errors
/// Names the event that cannot be done, and what it needs.
pub(super) fn check(events: &[Event], has_local: bool) -> anyhow::Result<()> {
    ensure!(
        !events.is_empty(),
        "--event: at least one, such as --event compaction"
    );
    if let Some(event) = events
        .iter()
        .find(|event| event.needs_local() && !has_local)
    {
        bail!(
            "--event {}: needs --local DIR, the directory of a cluster of `pegasus local`",
            event
                .to_possible_value()
                .map_or_else(String::new, |it| it.get_name().to_owned())
        );
    }
    Ok(())
}

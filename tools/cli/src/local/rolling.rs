//! `pegasus local restart --rolling`: one process after the other is stopped, started, and waited for, while clients are
//! served. A node that is told to stop hands over what it leads, so that no request waits for it.
//!
//! ```text
//! meta first --> for each node: everything is whole -> SIGTERM -> start -> it answers -> everything is whole again
//! ```
//!
//! How far it is stands in `rolling.toml` of the cluster's directory: after trouble, or Ctrl-C, the same command goes on
//! behind what is done.

use super::cluster_file::write_whole;
use super::control::Cluster;
use super::place::Lock;
use super::process::Process;
use super::{Place, show};
use crate::connect::Connect;
use crate::exit::{Exit, Failed};
use crate::nodes::restart_plan::hindrance;
use crate::output::{Output, Style, note};
use crate::progress::Waiting;
use crate::status::Facts;
use anyhow::{Context as _, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// So long it has to be whole: a node that has just come back is not known to lack anything yet.
const SETTLED: Duration = Duration::from_millis(300);
const FILE_NAME: &str = "rolling.toml";

#[derive(Debug, Args)]
pub(crate) struct Restart {
    #[command(flatten)]
    place: Place,
    /// One process after the other, while the cluster serves
    #[arg(long, required = true)]
    rolling: bool,
    /// From now on run the programs in this directory (an upgrade, or back)
    #[arg(long, value_name = "DIR")]
    binary: Option<PathBuf>,
    /// Leave meta as it is
    #[arg(long)]
    nodes_only: bool,
    /// Seconds to wait for each step
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 300,
        allow_negative_numbers = true
    )]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    wait: u64,
    /// Begin anew, and forget how far an earlier restart came
    #[arg(long)]
    anew: bool,
}

/// How far a restart is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Progress {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    binary: Option<PathBuf>,
    /// Processes that have been restarted.
    done: Vec<String>,
}

pub(super) async fn run(options: &Restart, out: &mut Output) -> anyhow::Result<()> {
    let mut cluster = options.place.cluster()?;
    let _lock = Lock::take(&cluster.dir)?;
    let path = cluster.dir.join(FILE_NAME);
    let progress = match options.anew {
        true => Progress::default(),
        false => Progress::load(&path)?,
    };
    let progress = Progress {
        binary: options.binary()?.or(progress.binary),
        ..progress
    };
    if let Some(binary) = &progress.binary {
        cluster.file.binary = Some(binary.clone());
        cluster.programs()?;
    }
    let roll = Roll {
        wait: Duration::from_secs(options.wait),
        connect: Connect::new(cluster.file.meta_addresses(), None),
        cluster,
        path,
    };
    roll.run(progress, options.nodes_only)
        .await
        .with_context(|| {
            format!(
                "stopped; `pegasus local restart --rolling --dir {}` goes on from here",
                roll.cluster.dir.display()
            )
        })?;
    let status = roll.cluster.status().await;
    match out.style {
        Style::Json => out.json(&status),
        Style::People => show(&status, out),
    }
}

impl Restart {
    fn binary(&self) -> anyhow::Result<Option<PathBuf>> {
        let Some(dir) = &self.binary else {
            return Ok(None);
        };
        let dir = fs::canonicalize(dir).with_context(|| dir.display().to_string())?;
        Ok(Some(dir))
    }
}

impl Progress {
    fn load(path: &Path) -> anyhow::Result<Self> {
        match fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).with_context(|| {
                format!(
                    "{}: not how far a restart came; --anew begins again",
                    path.display()
                )
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    fn save(&self, path: &Path) -> anyhow::Result<()> {
        write_whole(path, toml::to_string(self)?.as_bytes())
    }
}

struct Roll {
    cluster: Cluster,
    connect: Connect,
    path: PathBuf,
    wait: Duration,
}

impl Roll {
    async fn run(&self, mut progress: Progress, nodes_only: bool) -> anyhow::Result<()> {
        let idle: Vec<String> = self
            .cluster
            .processes()
            .filter(|it| it.running().is_none())
            .map(|it| it.name)
            .collect();
        ensure!(
            idle.is_empty(),
            "{} does not run; `pegasus local start --dir {}` first",
            idle.join(", "),
            self.cluster.dir.display()
        );
        self.cluster.file.save(&self.cluster.dir)?;
        progress.save(&self.path)?;
        let names: Vec<Process> = self.cluster.processes().collect();
        for process in names {
            let is_meta = !process.name.starts_with("node-");
            if progress.done.contains(&process.name) || (is_meta && nodes_only) {
                continue;
            }
            self.restart(&process, is_meta).await?;
            progress.done.push(process.name);
            progress.save(&self.path)?;
        }
        fs::remove_file(&self.path).with_context(|| self.path.display().to_string())?;
        // The last one leads nothing now. It goes on by itself.
        let client = crate::orders::client(&self.connect).await?;
        client.rebalance().await?;
        Ok(())
    }

    async fn restart(&self, process: &Process, is_meta: bool) -> anyhow::Result<()> {
        let name = process.name.as_str();
        if !is_meta {
            self.wait_until_safe(name).await?;
        }
        let began = Instant::now();
        note(format!("{name}: restarting"));
        self.cluster.end_one(process, self.wait).await?;
        self.cluster.start_one(process, self.wait).await?;
        self.wait_until_whole(name).await?;
        note(format!(
            "{name}: back after {:.1} s",
            began.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    /// Until it may be restarted without anybody noticing.
    async fn wait_until_safe(&self, name: &str) -> anyhow::Result<()> {
        let address = self.cluster.first_address(name);
        let look = async || {
            let facts = Facts::collect(&self.connect, false).await?;
            let is_it = |it: &&pegasus_client::NodeInfo| {
                it.cores
                    .first()
                    .is_some_and(|core| Some(&core.client_address) == address.as_ref())
            };
            // One that was forgotten as a node has nothing to hand over.
            let node = facts.nodes.iter().find(is_it);
            Ok(node.and_then(|node| hindrance(&facts, node)))
        };
        self.wait_for(name, look, Duration::ZERO).await
    }

    async fn wait_until_whole(&self, name: &str) -> anyhow::Result<()> {
        let look = async || {
            let facts = Facts::collect(&self.connect, false).await?;
            Ok(facts.lacks())
        };
        self.wait_for(name, look, SETTLED).await
    }

    /// Looks until nothing has stood in the way for as long as `settled`.
    async fn wait_for(
        &self,
        name: &str,
        look: impl AsyncFn() -> anyhow::Result<Option<String>>,
        settled: Duration,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + self.wait;
        let waiting = Waiting::new();
        let mut clear_since = None;
        loop {
            let reason = match look().await {
                Ok(None) => None,
                Ok(Some(reason)) => Some(reason),
                // Meta may be the one that is restarted.
                Err(error) => Some(format!("{error:#}")),
            };
            let now = Instant::now();
            match reason {
                None if now - *clear_since.get_or_insert(now) >= settled => {
                    waiting.finish();
                    return Ok(());
                }
                None => {}
                Some(reason) if now >= deadline => {
                    waiting.finish();
                    let seconds = self.wait.as_secs();
                    let sentence = format!("{name}: not after {seconds} s: {reason}");
                    return Err(Failed::error(Exit::Unavailable, sentence));
                }
                Some(reason) => {
                    clear_since = None;
                    waiting.update(&format!("{name}: {reason}"));
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn how_far_a_restart_is_survives_and_garbage_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        assert_eq!(Progress::load(&path).unwrap(), Progress::default());
        let progress = Progress {
            binary: Some("/opt/new".into()),
            done: vec!["meta".to_owned(), "node-1".to_owned()],
        };
        progress.save(&path).unwrap();
        assert_eq!(Progress::load(&path).unwrap(), progress);
        fs::write(&path, "hello").unwrap();
        let error = Progress::load(&path).unwrap_err().to_string();
        assert!(error.contains("--anew"), "{error}");
    }
}

//! The metas of a local cluster: one alone, or the members of a group.

use super::control::{Cluster, text, wait_for_ports};
use super::process::Process;
use crate::connect::Connect;
use anyhow::{Context as _, ensure};
use pegasus_client::MetaChange;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_millis(20);

impl Cluster {
    /// Starts the metas that do not run; the members of a new group come together.
    pub(super) async fn start_metas(&self, deadline: Instant) -> anyhow::Result<()> {
        if self.file.metas > 1 && !self.has_data() {
            self.make_members()?;
        }
        for (number, process) in self.metas() {
            if process.running().is_none() {
                wait_for_ports(&process.name, &self.file.meta_ports(number)).await?;
                self.start_meta(number, &process)?;
            }
        }
        if self.file.metas == 1 {
            return self.wait_for(deadline, &["meta"]).await;
        }
        self.gather(deadline).await
    }

    pub(super) fn start_meta(&self, number: u16, process: &Process) -> anyhow::Result<()> {
        let mut arguments = vec![
            "run".to_owned(),
            "--dir".to_owned(),
            text(&process.data_dir()),
            "--listen".to_owned(),
            self.file.meta_address(number).to_string(),
        ];
        if self.file.metas > 1 {
            let peers = self.file.meta_peer_address(number).to_string();
            arguments.extend(["--group-listen".to_owned(), peers]);
        } else if !self.has_data() {
            // Beside nodes with data, an empty meta directory is a loss, not a beginning.
            arguments.push("--init-if-empty".to_owned());
        }
        arguments.extend(self.backup_target());
        arguments.extend(self.file.meta_options.iter().cloned());
        let (_, program) = self.programs()?;
        process.start(&program, &arguments)
    }

    /// Some node has been started before.
    fn has_data(&self) -> bool {
        let mut processes = self.processes();
        processes.any(|it| it.name.starts_with("node-") && it.data_dir().exists())
    }

    /// Directories of members that have none: the first founds the group, the others are of its cluster.
    fn make_members(&self) -> anyhow::Result<()> {
        let (_, program) = self.programs()?;
        let known = self.dir.join("cluster-id");
        for (number, process) in self.metas() {
            if process.data_dir().exists() {
                continue;
            }
            let (dir, number) = (text(&process.data_dir()), number.to_string());
            let mut arguments = vec!["init", "--dir", &dir, "--member", &number];
            let cluster = std::fs::read_to_string(&known).unwrap_or_default();
            if number != "1" {
                ensure!(
                    !cluster.is_empty(),
                    "{}: it is not known what cluster this is",
                    known.display()
                );
                arguments.extend(["--join", &cluster]);
            }
            let said = run(&program, &arguments)?;
            if number == "1" {
                let id = said.split_whitespace().nth(1);
                let id = id.with_context(|| format!("pegasus-meta init said {said:?}"))?;
                std::fs::write(&known, id).with_context(|| known.display().to_string())?;
            }
        }
        Ok(())
    }

    /// Until the group has a leader and all metas are in it.
    async fn gather(&self, deadline: Instant) -> anyhow::Result<()> {
        let connect = Connect::new(self.file.meta_addresses(), Some(Duration::from_secs(5)));
        loop {
            let gathered = self.add_missing(&connect).await;
            match gathered {
                Ok(()) => break,
                Err(error) if Instant::now() >= deadline => {
                    return Err(error.context("the metas do not come together"));
                }
                Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
        let names: Vec<String> = self.metas().map(|(_, process)| process.name).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.wait_for(deadline, &names).await
    }

    async fn add_missing(&self, connect: &Connect) -> anyhow::Result<()> {
        let client = connect.client().await?;
        let group = client.cluster().await?.metas;
        for (number, _) in self.metas() {
            let member = u64::from(number);
            let is_in = |it: &pegasus_client::MetaInfo| it.member == member && !it.is_learner;
            if group.iter().any(is_in) {
                continue;
            }
            let peer_address = self.file.meta_peer_address(number).to_string();
            let change = MetaChange::Add {
                member,
                peer_address,
            };
            client.change_metas(&change).await?;
        }
        Ok(())
    }
}

/// Runs a program to its end; what it printed.
fn run(program: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .env("NO_COLOR", "1")
        .output()
        .with_context(|| program.display().to_string())?;
    ensure!(
        output.status.success(),
        "{} {}: {}",
        program.display(),
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

//! The processes of one local cluster, taken together: start, wait, look, stop, delete.

use super::cluster_file::{BASE_PORT_DEFAULT, ClusterFile, FILE_NAME};
use super::place::{LOCK_NAME, default_dir};
use super::process::Process;
use super::status::{ProcessStatus, State, Status};
use crate::connect;
use crate::exit::{Exit, Failed};
use anyhow::{Context as _, bail};
use rustix::process::Signal;
use serde::Serialize;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A cluster directory and what is written in its `cluster.toml`.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) dir: PathBuf,
    pub(crate) file: ClusterFile,
}

/// What a stop achieved.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Ended {
    pub(crate) stopped: Vec<String>,
    pub(crate) still_running: Vec<String>,
}

impl Cluster {
    pub(crate) fn new(dir: PathBuf, file: ClusterFile) -> Self {
        Self { dir, file }
    }

    /// Meta first.
    pub(crate) fn processes(&self) -> impl Iterator<Item = Process> {
        let metas = self.metas().map(|(_, process)| process);
        metas.chain(self.nodes().map(|(_, process)| process))
    }

    /// A single one has no number in its name.
    pub(super) fn metas(&self) -> impl Iterator<Item = (u16, Process)> {
        self.file.meta_numbers().map(|number| {
            let name = match self.file.metas {
                1 => "meta".to_owned(),
                _ => format!("meta-{number}"),
            };
            (number, Process::new(name, &self.dir))
        })
    }

    fn nodes(&self) -> impl Iterator<Item = (u16, Process)> {
        self.file
            .numbers()
            .map(|number| (number, Process::new(format!("node-{number}"), &self.dir)))
    }

    fn node_addresses(&self, number: u16) -> Vec<String> {
        let first = self.file.node_port(number);
        (0..self.file.cores)
            .map(|core| format!("127.0.0.1:{}", first + core))
            .collect()
    }

    /// Starts what does not run and waits until all of it answers. Tells how many nodes ran already.
    pub(crate) async fn start(&self, poll: &str, wait: Duration) -> anyhow::Result<usize> {
        let (replica, _) = self.programs()?;
        let deadline = Instant::now() + wait;
        self.start_metas(deadline).await?;
        let mut left_alone = 0;
        for (number, process) in self.nodes() {
            if process.running().is_some() {
                left_alone += 1;
                continue;
            }
            wait_for_ports(&process.name, &self.file.node_ports(number)).await?;
            let is_new = !process.data_dir().exists();
            process.start(&replica, &self.node_arguments(number, &process, poll))?;
            if is_new {
                // Meta numbers nodes in the order in which they come: node-2 shall be node 2.
                self.wait_for(deadline, &[&process.name]).await?;
            }
        }
        let names: Vec<String> = self.processes().map(|process| process.name).collect();
        self.wait_for(
            deadline,
            &names.iter().map(String::as_str).collect::<Vec<_>>(),
        )
        .await?;
        Ok(left_alone)
    }

    /// Backups go to a directory beside the processes', which all of them see.
    pub(super) fn backup_target(&self) -> [String; 2] {
        let dir = text(&self.dir.join("backup"));
        ["--backup-target".to_owned(), format!("local=file://{dir}")]
    }

    fn node_arguments(&self, number: u16, process: &Process, poll: &str) -> Vec<String> {
        let pairs = [
            ("--dir", text(&process.data_dir())),
            ("--meta", self.file.meta_addresses().join(",")),
            ("--cores", self.file.cores.to_string()),
            ("--listen", "127.0.0.1".to_owned()),
            ("--base-port", self.file.node_port(number).to_string()),
            ("--poll", poll.to_owned()),
        ];
        let options = pairs
            .into_iter()
            .flat_map(|(name, value)| [name.to_owned(), value]);
        std::iter::once("run".to_owned())
            .chain(options)
            .chain(self.backup_target())
            .chain(self.file.node_options.iter().cloned())
            .collect()
    }

    /// `pegasus-replica` and `pegasus-meta` of this cluster.
    pub(super) fn programs(&self) -> anyhow::Result<(PathBuf, PathBuf)> {
        let find = |name: &str| match &self.file.binary {
            Some(dir) => {
                let program = dir.join(name);
                let sentence = || format!("{}: no program there", program.display());
                is_program(&program)
                    .then(|| program.clone())
                    .with_context(sentence)
            }
            None => find_program(name),
        };
        Ok((find("pegasus-replica")?, find("pegasus-meta")?))
    }

    /// Ends one process as it should, or says that it does not end.
    pub(super) async fn end_one(&self, process: &Process, wait: Duration) -> anyhow::Result<()> {
        let mut ended = Ended::default();
        end(
            std::slice::from_ref(process),
            Signal::TERM,
            wait,
            &mut ended,
        )
        .await?;
        if ended.still_running.is_empty() {
            return Ok(());
        }
        let sentence = format!(
            "{} does not end within {} s. {}",
            process.name,
            wait.as_secs(),
            last_words(process)
        );
        Err(Failed::error(Exit::Unavailable, sentence))
    }

    /// Starts one process, as all of them are started, and waits until it answers.
    pub(super) async fn start_one(&self, process: &Process, wait: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + wait;
        let number = self.nodes().find(|(_, it)| it.name == process.name);
        let meta = self.metas().find(|(_, it)| it.name == process.name);
        match number {
            None => {
                let number = meta.map_or(1, |(number, _)| number);
                wait_for_ports(&process.name, &self.file.meta_ports(number)).await?;
                self.start_meta(number, process)?;
            }
            Some((number, _)) => {
                wait_for_ports(&process.name, &self.file.node_ports(number)).await?;
                let arguments = self.node_arguments(number, process, self.file.poll());
                process.start(&self.programs()?.0, &arguments)?;
            }
        }
        self.wait_for(deadline, &[&process.name]).await
    }

    /// The client address of core 0 of the node of this name.
    pub(super) fn first_address(&self, name: &str) -> Option<String> {
        let (number, _) = self.nodes().find(|(_, it)| it.name == name)?;
        self.node_addresses(number).into_iter().next()
    }

    /// Removes the files of a process that does not run.
    pub(super) fn delete_one(&self, process: &Process) -> anyhow::Result<()> {
        fs::remove_dir_all(&process.dir).with_context(|| process.dir.display().to_string())
    }

    /// Waits until these processes run and answer.
    pub(super) async fn wait_for(&self, deadline: Instant, names: &[&str]) -> anyhow::Result<()> {
        const LOOK_EVERY: Duration = Duration::from_millis(20);
        loop {
            let status = self.status().await;
            let start = status.start_command();
            let mut waiting = status.processes;
            waiting.retain(|process| names.contains(&process.name.as_str()));
            if let Some(dead) = waiting.iter().find(|process| process.pid.is_none()) {
                let process = Process::new(&dead.name, &self.dir);
                bail!(
                    "{} ended while it started. {}",
                    dead.name,
                    last_words(&process)
                );
            }
            waiting.retain(|process| !process.answers);
            if let Some(paused) = waiting.iter().find(|p| p.state == State::Paused) {
                let advice = paused.advice(&start).unwrap_or_default();
                return Err(Failed::error(Exit::Unavailable, advice));
            }
            if waiting.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(self.not_answering(&waiting));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn not_answering(&self, waiting: &[ProcessStatus]) -> anyhow::Error {
        let names: Vec<&str> = waiting
            .iter()
            .map(|process| process.name.as_str())
            .collect();
        let logs: Vec<String> = names
            .iter()
            .map(|name| last_words(&Process::new(*name, &self.dir)))
            .collect();
        Failed::error(
            Exit::Unavailable,
            format!(
                "no answer in time from {}. {}",
                names.join(", "),
                logs.join("\n")
            ),
        )
    }

    /// Looks at every process and asks meta about the nodes. Takes a second at most.
    pub(crate) async fn status(&self) -> Status {
        const ASK_FOR: Duration = Duration::from_secs(1);
        let metas = self.file.meta_addresses();
        let heard = match self.metas().any(|(_, it)| it.running().is_some()) {
            true => connect::answering_cores(&metas, ASK_FOR).await.ok(),
            false => None,
        };
        let mut processes = Vec::new();
        for (number, process) in self.metas() {
            let address = self.file.meta_address(number).to_string();
            // One that follows answers as well, if only by saying who leads.
            let answers = match self.file.metas {
                1 => heard.is_some(),
                _ => process.running().is_some() && connect::answers(&address, ASK_FOR).await,
            };
            processes.push(ProcessStatus::look(&process, answers, vec![address]));
        }
        for (number, process) in self.nodes() {
            let addresses = self.node_addresses(number);
            // The process of ours, not another cluster's on the same ports.
            let is_heard = |pid| {
                let heard = heard.as_ref()?;
                Some(addresses.iter().all(|a| heard.get(a) == Some(&pid)))
            };
            let answers = process.running().and_then(is_heard).unwrap_or(false);
            let transfer_address = format!("127.0.0.1:{}", self.file.transfer_port(number));
            processes.push(ProcessStatus {
                transfer_address: Some(transfer_address),
                ..ProcessStatus::look(&process, answers, addresses)
            });
        }
        Status {
            dir: self.dir.clone(),
            meta: metas.join(","),
            processes,
        }
    }

    /// Asks every process to end: nodes first, so that they can still tell meta.
    pub(crate) async fn stop(&self, wait: Duration) -> anyhow::Result<Ended> {
        let mut ended = Ended::default();
        let nodes: Vec<Process> = self.nodes().map(|(_, process)| process).collect();
        end(&nodes, Signal::TERM, wait, &mut ended).await?;
        let metas: Vec<Process> = self.metas().map(|(_, process)| process).collect();
        end(&metas, Signal::TERM, wait, &mut ended).await?;
        Ok(ended)
    }

    /// SIGKILL for all of them at once.
    pub(crate) async fn kill(&self) -> anyhow::Result<Ended> {
        const KILL_WAIT: Duration = Duration::from_secs(10);
        let mut ended = Ended::default();
        let all: Vec<Process> = self.processes().collect();
        end(&all, Signal::KILL, KILL_WAIT, &mut ended).await?;
        Ok(ended)
    }

    /// Removes what `start` has made and nothing else; the description goes last, so that a wipe can be repeated.
    pub(crate) fn delete(&self) -> anyhow::Result<()> {
        for process in self.processes() {
            if process.dir.exists() {
                fs::remove_dir_all(&process.dir)
                    .with_context(|| process.dir.display().to_string())?;
            }
        }
        let description = self.dir.join(FILE_NAME);
        fs::remove_file(&description).with_context(|| description.display().to_string())?;
        // Somebody else's files in the directory keep it.
        let _ = fs::remove_file(self.dir.join(LOCK_NAME));
        let _ = fs::remove_dir(&self.dir);
        Ok(())
    }

    /// What a newcomer types after `start`.
    pub(crate) fn what_next(&self) -> String {
        let replicas = self.file.nodes.min(3);
        let mut lines = Vec::new();
        let metas = self.file.meta_addresses();
        if self.file.base_port != BASE_PORT_DEFAULT || metas.len() > 1 {
            lines.push(format!("export PEGASUS_META={}", metas.join(",")));
        }
        lines.push(format!(
            "pegasus table create demo --partitions 8 --replicas {replicas}"
        ));
        lines.push("pegasus set demo user-1 name Ada".to_owned());
        lines.push("pegasus get demo user-1 name".to_owned());
        let stop = match default_dir() {
            Ok(default) if default == self.dir => "pegasus local stop".to_owned(),
            _ => format!("pegasus local stop --dir {}", self.dir.display()),
        };
        lines.push(format!(
            "{stop}      (the data stays; `local wipe` deletes it)"
        ));
        format!("\nNext:\n  {}", lines.join("\n  "))
    }
}

/// Signals the processes together and waits for each of them, `wait` in all.
async fn end(
    processes: &[Process],
    signal: Signal,
    wait: Duration,
    ended: &mut Ended,
) -> anyhow::Result<()> {
    const LOOK_EVERY: Duration = Duration::from_millis(20);
    let mut waiting = Vec::new();
    for process in processes {
        if process.signal(signal)? {
            // A paused process takes the signal only when it goes on.
            process.signal(Signal::CONT)?;
            waiting.push(process);
        } else {
            process.forget()?;
        }
    }
    let deadline = Instant::now() + wait;
    loop {
        waiting.retain(|process| {
            let runs = process.running().is_some();
            if !runs {
                ended.stopped.push(process.name.clone());
            }
            runs
        });
        if waiting.is_empty() || Instant::now() >= deadline {
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    for process in processes {
        if process.running().is_none() {
            process.forget()?;
        }
    }
    ended
        .still_running
        .extend(waiting.iter().map(|process| process.name.clone()));
    Ok(())
}

/// A process that has just ended may hold its ports for a moment; somebody else holds them for longer.
pub(super) async fn wait_for_ports(name: &str, ports: &[u16]) -> anyhow::Result<()> {
    const WAIT: Duration = Duration::from_secs(5);
    const LOOK_EVERY: Duration = Duration::from_millis(20);
    let deadline = Instant::now() + WAIT;
    loop {
        let bind = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port));
        let taken = ports.iter().find(|port| bind(port).is_err());
        match taken {
            None => return Ok(()),
            Some(port) if Instant::now() >= deadline => {
                return Err(Failed::error(
                    Exit::Unavailable,
                    format!(
                        "{name}: port {port} of 127.0.0.1 is taken by another process; end that one, or start a cluster elsewhere (--dir DIR --base-port 0)"
                    ),
                ));
            }
            Some(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

fn last_words(process: &Process) -> String {
    let lines = process.last_log_lines(10);
    if lines.is_empty() {
        return format!("Its log {} is empty.", process.log_path().display());
    }
    format!("The end of {}:\n{lines}", process.log_path().display())
}

/// Beside this program, else in PATH.
fn find_program(name: &str) -> anyhow::Result<PathBuf> {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|me| me.parent().map(|dir| dir.join(name)));
    let in_path = std::env::var_os("PATH")
        .map(|path| {
            std::env::split_paths(&path)
                .map(|dir| dir.join(name))
                .collect::<Vec<_>>()
        })
        .unwrap_or_default();
    beside
        .into_iter()
        .chain(in_path)
        .find(|candidate| is_program(candidate))
        .with_context(|| format!("{name} is neither beside this program nor in PATH; build it with `cargo build --release`"))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

pub(super) fn text(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn cluster(dir: &Path) -> Cluster {
        Cluster::new(dir.to_owned(), ClusterFile::new(2, 2, 20_000).unwrap())
    }

    #[test]
    fn deleting_leaves_files_of_others_alone() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = cluster(dir.path());
        cluster.file.save(dir.path()).unwrap();
        for process in cluster.processes() {
            fs::create_dir_all(process.data_dir()).unwrap();
        }
        fs::write(dir.path().join("notes"), "mine").unwrap();
        cluster.delete().unwrap();
        let left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(left, ["notes"]);
    }

    #[test]
    fn each_node_is_told_its_own_ports() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = cluster(dir.path());
        let (number, second) = cluster.nodes().nth(1).unwrap();
        let arguments = cluster.node_arguments(number, &second, "sleep").join(" ");
        assert!(arguments.contains("--base-port 20301 "), "{arguments}");
        assert!(arguments.contains("--meta 127.0.0.1:20001 "), "{arguments}");
        assert_eq!(
            cluster.node_addresses(2),
            ["127.0.0.1:20301", "127.0.0.1:20302"]
        );
    }

    #[tokio::test]
    async fn a_stopped_cluster_is_shown_as_stopped_and_stops_again() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = cluster(dir.path());
        let status = cluster.status().await;
        assert!(status.advice().is_some());
        let transfers = status
            .processes
            .iter()
            .map(|p| p.transfer_address.as_deref());
        let transfers: Vec<_> = transfers.collect();
        assert_eq!(transfers[..2], [None, Some("127.0.0.1:21203")]);
        assert!(status.processes.iter().all(|p| p.state == State::Stopped));
        let ended = cluster.stop(Duration::ZERO).await.unwrap();
        assert!(ended.stopped.is_empty() && ended.still_running.is_empty());
    }
}

//! A local cluster of real processes, started and driven by the `pegasus` CLI as a user would.

mod launch;

use crate::network::{Namespace, Network};
use crate::port_block::PortBlock;
use anyhow::{Context, Result, bail, ensure};
pub use launch::Launch;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long anything that should happen may take on a loaded machine before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One cluster in its own directory; killed and removed when dropped.
#[derive(Debug)]
pub struct Cluster {
    directory: PathBuf,
    meta: String,
    place: Place,
}

/// Where its processes listen.
#[derive(Debug)]
enum Place {
    /// On loopback; `pegasus local` knows it.
    Local { _ports: PortBlock },
    /// Each in a namespace; this is the one of clients.
    Network(Namespace),
}

/// What processes are started with, beyond what `pegasus local` gives them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// As `pegasus-replica run` takes them.
    pub node: &'a [&'a str],
    /// As `pegasus-meta run` takes them.
    pub meta: &'a [&'a str],
    /// How many metas; 0: one, which keeps its state alone.
    pub metas: u16,
}

impl Cluster {
    /// Starts one meta and `nodes` nodes of `cores` cores on a free block of ports.
    pub fn start(directory: &Path, nodes: u16, cores: u16) -> Result<Self> {
        Self::start_with(directory, nodes, cores, &[])
    }

    /// The same with further options for every node, as `pegasus-replica run` takes them.
    pub fn start_with(
        directory: &Path,
        nodes: u16,
        cores: u16,
        node_options: &[&str],
    ) -> Result<Self> {
        let options = Options {
            node: node_options,
            ..Options::default()
        };
        Self::start_options(directory, nodes, cores, options)
    }

    /// The same with options for meta too.
    pub fn start_options(
        directory: &Path,
        nodes: u16,
        cores: u16,
        options: Options<'_>,
    ) -> Result<Self> {
        let ports = PortBlock::take()?;
        let base_port = ports.base().to_string();
        let mut cluster = Self {
            directory: directory.to_owned(),
            meta: String::new(),
            place: Place::Local { _ports: ports },
        };
        let (nodes, cores) = (nodes.to_string(), cores.to_string());
        let mut arguments = vec!["start", "--nodes", &nodes, "--cores", &cores];
        arguments.extend(["--base-port", &base_port]);
        let metas = options.metas.to_string();
        if options.metas > 0 {
            arguments.extend(["--metas", &metas]);
        }
        let meta: Vec<String> = (options.meta.iter())
            .map(|option| format!("--meta-option={option}"))
            .collect();
        arguments.extend(meta.iter().map(String::as_str));
        if !options.node.is_empty() {
            arguments.push("--");
            arguments.extend(options.node);
        }
        cluster.local(&arguments)?;
        let status = cluster.status()?;
        let address = status["meta"]
            .as_str()
            .context("status names no meta address")?;
        cluster.meta = address.to_owned();
        Ok(cluster)
    }

    /// Starts the cluster of one node and one core whose directory was made elsewhere, on a free block of ports.
    pub fn start_copied(directory: &Path) -> Result<Self> {
        let ports = PortBlock::take()?;
        let description = directory.join("cluster.toml");
        let text = std::fs::read_to_string(&description)?;
        let lines = text
            .lines()
            .map(|line| match line.starts_with("base_port") {
                true => format!("base_port = {}", ports.base()),
                false => line.to_owned(),
            });
        std::fs::write(&description, lines.collect::<Vec<_>>().join("\n"))?;
        let mut cluster = Self {
            directory: directory.to_owned(),
            meta: String::new(),
            place: Place::Local { _ports: ports },
        };
        cluster.local(&["start"])?;
        let status = cluster.status()?;
        let address = status["meta"]
            .as_str()
            .context("status names no meta address")?;
        cluster.meta = address.to_owned();
        Ok(cluster)
    }

    /// One meta and `nodes` nodes of a core each, every one on a machine of its own: node n on machine n, meta on the next
    /// one, clients on the last.
    pub fn start_on(network: &Network, directory: &Path, nodes: u16) -> Result<Self> {
        let (meta, clients) = (usize::from(nodes) + 1, usize::from(nodes) + 2);
        let cluster = Self {
            directory: directory.to_owned(),
            meta: format!("{}:34601", network.machine(meta).address()),
            place: Place::Network(network.machine(clients).clone()),
        };
        launch::start_on(&cluster, network, nodes)?;
        Ok(cluster)
    }

    /// Where clients reach it; `None`: from anywhere.
    #[must_use]
    pub const fn clients(&self) -> Option<&Namespace> {
        match &self.place {
            Place::Local { .. } => None,
            Place::Network(clients) => Some(clients),
        }
    }

    /// Starts whatever of it does not run.
    pub fn start_again(&self) -> Result<()> {
        self.local(&["start"]).map(drop)
    }

    /// SIGKILL to every process at once.
    pub fn kill_all(&self) -> Result<()> {
        match self.place {
            Place::Local { .. } => self.local(&["stop", "--kill"]).map(drop),
            Place::Network(_) => {
                let running = self.names()?.into_iter().filter(|name| self.runs(name));
                running.into_iter().try_for_each(|name| self.kill(&name))
            }
        }
    }

    pub fn stop(&self) -> Result<()> {
        self.local(&["stop"]).map(drop)
    }

    pub fn status(&self) -> Result<Value> {
        let output = self
            .command(["local", "status", "--json"])
            .arg("--dir")
            .arg(&self.directory)
            .output()?;
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("local status --json printed {output:?}"))
    }

    /// Address of the meta process, "ip:port".
    #[must_use]
    pub fn meta(&self) -> &str {
        &self.meta
    }

    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where node `number` (from 1) keeps its data.
    #[must_use]
    pub fn data_directory(&self, number: u16) -> PathBuf {
        self.directory.join(format!("node-{number}")).join("data")
    }

    /// The pid of `meta`, `node-1`, ... as its pid file has it.
    pub fn pid(&self, name: &str) -> Result<i32> {
        let path = self.directory.join(name).join("pid");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        text.split_whitespace()
            .next()
            .and_then(|word| word.parse().ok())
            .context("a pid file begins with a pid")
    }

    /// SIGKILL to one process: `meta`, `node-1`, ...
    pub fn kill(&self, name: &str) -> Result<()> {
        let pid = Pid::from_raw(self.pid(name)?).context("pid 0")?;
        self.signal(name, Signal::KILL)?;
        wait_until("the process to be gone", || test_kill_process(pid).is_err())
    }

    /// A signal to one process, such as STOP and CONT.
    pub fn signal(&self, name: &str, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.pid(name)?).context("pid 0")?;
        kill_process(pid, signal).with_context(|| format!("{signal:?} to {name}"))
    }

    /// Whether the process has not ended.
    #[must_use]
    pub fn runs(&self, name: &str) -> bool {
        let pid = self.pid(name).ok().and_then(Pid::from_raw);
        pid.is_some_and(|pid| test_kill_process(pid).is_ok())
    }

    /// How to start a process that runs now again after it has ended, alone and whenever a test wants.
    pub fn launch(&self, name: &str) -> Result<Launch> {
        Launch::of(self, name)
    }

    /// All that `meta`, `node-1`, ... has said so far.
    pub fn log(&self, name: &str) -> Result<String> {
        let path = self.directory.join(name).join("log");
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    /// `table show` as JSON.
    pub fn table(&self, table: &str) -> Result<Value> {
        Ok(serde_json::from_str(
            &self.pegasus(&["table", "show", table, "--json"])?,
        )?)
    }

    /// The partitions of the table by the node (from 1) that has their primary, as meta knows it.
    pub fn led(&self, table: &str) -> Result<BTreeMap<u16, Vec<u32>>> {
        let shown = self.table(table)?;
        let partitions = shown["partitions"].as_array().context("partitions")?;
        let mut led: BTreeMap<u16, Vec<u32>> = BTreeMap::new();
        for (index, partition) in (0..).zip(partitions) {
            if let Some(node) = partition["primary"]["node"].as_u64() {
                led.entry(u16::try_from(node)?).or_default().push(index);
            }
        }
        Ok(led)
    }

    /// The node that has most primaries of the table, and their partitions.
    pub fn busiest(&self, table: &str) -> Result<(u16, Vec<u32>)> {
        let led = self.led(table)?;
        let busiest = led
            .into_iter()
            .max_by_key(|(_, partitions)| partitions.len());
        busiest.context("no partition has a primary")
    }

    /// The CLI with its meta address set, once it is known.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = match self.clients() {
            None => Command::new(program("pegasus")),
            Some(clients) => {
                let mut command = clients.command();
                command.arg(program("pegasus"));
                command
            }
        };
        command.args(arguments).stdin(Stdio::null());
        if self.meta.is_empty() {
            command.env_remove("PEGASUS_META");
        } else {
            command.env("PEGASUS_META", &self.meta);
        }
        command
    }

    /// Runs the CLI; standard output if it succeeds, an error with all it printed otherwise.
    pub fn pegasus(&self, arguments: &[&str]) -> Result<String> {
        checked(self.command(arguments).output()?, arguments)
    }

    /// Runs the CLI and wants it to fail: exit code and standard error.
    pub fn pegasus_fails(&self, arguments: &[&str]) -> Result<(i32, String)> {
        let output = self.command(arguments).output()?;
        ensure!(
            !output.status.success(),
            "{arguments:?} should have failed and printed {output:?}"
        );
        let code = output.status.code().context("the CLI was killed")?;
        Ok((code, String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    /// Starts the CLI without waiting for it.
    pub fn spawn(&self, arguments: &[&str]) -> Result<Child> {
        Ok(self
            .command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?)
    }

    pub fn create_table(&self, name: &str, partitions: u32, replicas: u32) -> Result<()> {
        let (partitions, replicas) = (partitions.to_string(), replicas.to_string());
        self.pegasus(&[
            "table",
            "create",
            name,
            "--partitions",
            &partitions,
            "--replicas",
            &replicas,
        ])
        .map(drop)
    }

    /// Waits until every partition of the table serves again, after a start.
    pub fn wait_healthy(&self, table: &str) -> Result<()> {
        let mut last = String::new();
        let outcome = wait_until("the table to be healthy", || {
            let output = self.command(["table", "show", table, "--json"]).output();
            last = output.map_or_else(
                |error| error.to_string(),
                |output| String::from_utf8_lossy(&output.stdout).into_owned(),
            );
            serde_json::from_str::<Value>(&last).is_ok_and(|table| table["state"] == "healthy")
        });
        outcome.with_context(|| format!("table show said: {last}\n{}", self.last_log_lines()))
    }

    /// The end of every process's log, for a failure message.
    #[must_use]
    pub fn last_log_lines(&self) -> String {
        const TAIL_LINES: usize = 15;
        let mut text = String::new();
        let names = std::fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten();
        for process in names.map(|entry| entry.path()) {
            let Ok(log) = std::fs::read_to_string(process.join("log")) else {
                continue;
            };
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
            text.push_str(&format!("--- {}\n{}\n", process.display(), tail.join("\n")));
        }
        text
    }

    /// Of the processes that were ever started: `meta`, `node-1`, ...
    fn names(&self) -> Result<Vec<String>> {
        let entries = std::fs::read_dir(&self.directory)?.flatten();
        let started = entries.filter(|entry| entry.path().join("pid").exists());
        Ok(started
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect())
    }

    /// `pegasus local` with these arguments, about this cluster.
    pub fn local(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.command(["local", arguments[0], "--dir"]);
        command.arg(&self.directory).args(&arguments[1..]);
        checked(command.output()?, arguments).with_context(|| self.last_log_lines())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.kill_all() {
            eprintln!(
                "cannot stop the cluster in {}: {error:#}",
                self.directory.display()
            );
        }
    }
}

/// A program of this build: the test binaries lie in `deps` beside them.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    let directory = test
        .parent()
        .and_then(Path::parent)
        .expect("tests lie in target/PROFILE/deps");
    let path = directory.join(name);
    assert!(
        path.exists(),
        "{} is missing: run `make test`, which builds it first",
        path.display()
    );
    path
}

/// Looks again every 20 ms until the condition holds; an error after a minute.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() > PATIENCE {
            bail!("waited {PATIENCE:?} for {what}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn checked(output: Output, arguments: &[&str]) -> Result<String> {
    ensure!(
        output.status.success(),
        "pegasus {arguments:?}: {}\nstdout: {}\nstderr: {}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

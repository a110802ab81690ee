//! Processes started one by one, in any order, on any machine of a network.

use super::{Cluster, program, wait_until};
use crate::network::{Namespace, Network};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// How one process is started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// `meta`, `node-1`, ...
    name: String,
    /// Has its log and its pid file.
    directory: PathBuf,
    namespace: Option<Namespace>,
    /// The program and its arguments.
    words: Vec<String>,
}

impl Launch {
    pub(super) fn of(cluster: &Cluster, name: &str) -> Result<Self> {
        let path = format!("/proc/{}/cmdline", cluster.pid(name)?);
        let words = std::fs::read_to_string(&path).context(path)?;
        Ok(Self {
            name: name.to_owned(),
            directory: cluster.directory().join(name),
            namespace: None,
            words: words.split_terminator('\0').map(str::to_owned).collect(),
        })
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts it and does not wait for it. Its parent is gone at once, so that nobody has to bury it.
    pub fn start(&self) -> Result<()> {
        std::fs::create_dir_all(&self.directory)?;
        let shell = ["sh", "-c", r#"log=$1; shift; "$@" >>"$log" 2>&1 &"#, "sh"];
        let mut command = self
            .namespace
            .as_ref()
            .map_or_else(|| Command::new("env"), Namespace::command);
        command.args(shell).arg(self.directory.join("log"));
        command.arg(program("pegasus")).arg("in-background");
        command.arg(self.directory.join("pid")).args(&self.words);
        command.env("NO_COLOR", "1").stdin(Stdio::null());
        let status = command.status().with_context(|| format!("{command:?}"))?;
        ensure!(status.success(), "{command:?}: {status}");
        Ok(())
    }
}

/// Starts meta, then the nodes one after another, so that node n is number n.
pub(super) fn start_on(cluster: &Cluster, network: &Network, nodes: u16) -> Result<()> {
    std::fs::create_dir_all(cluster.directory())?;
    let token = cluster.directory().join("token");
    std::fs::write(&token, "a secret of this test")?;
    std::fs::set_permissions(&token, PermissionsExt::from_mode(0o600))?;
    let launch = |name: &str, machine: usize, program_name: &str, arguments: &[&str]| {
        let directory = cluster.directory().join(name);
        let mut words = vec![
            program(program_name).display().to_string(),
            "run".to_owned(),
        ];
        let data = directory.join("data").display().to_string();
        words.extend(["--dir".to_owned(), data]);
        words.extend(["--token-file".to_owned(), token.display().to_string()]);
        words.extend(arguments.iter().map(|word| (*word).to_owned()));
        let launch = Launch {
            name: name.to_owned(),
            directory,
            namespace: Some(network.machine(machine).clone()),
            words,
        };
        launch.start()
    };
    let meta = usize::from(nodes) + 1;
    let listen = ["--listen", cluster.meta(), "--init-if-empty"];
    launch("meta", meta, "pegasus-meta", &listen)?;
    for number in 1..=nodes {
        let address = network.machine(number.into()).address();
        let arguments = [
            ["--meta", cluster.meta()],
            ["--listen", address],
            ["--cores", "1"],
            ["--poll", "sleep"],
        ];
        let name = format!("node-{number}");
        launch(
            &name,
            number.into(),
            "pegasus-replica",
            arguments.as_flattened(),
        )?;
        wait_until("the node to join", || {
            joined(cluster) == Some(number.into())
        })
        .with_context(|| cluster.last_log_lines())?;
    }
    Ok(())
}

fn joined(cluster: &Cluster) -> Option<usize> {
    let said = cluster.pegasus(&["node", "list", "--json"]).ok()?;
    let nodes: Value = serde_json::from_str(&said).ok()?;
    Some(nodes["nodes"].as_array()?.len())
}

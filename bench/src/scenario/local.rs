//! The processes of a cluster of `pegasus local`, through the program `pegasus`.

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A cluster by its directory.
#[derive(Clone, Debug)]
pub(super) struct Local {
    directory: PathBuf,
    program: PathBuf,
}

/// What `pegasus local status --json` says, as far as it is of interest here.
#[derive(Debug, Deserialize)]
struct Status {
    processes: Vec<Process>,
}

#[derive(Debug, Deserialize)]
struct Process {
    name: String,
    /// Absent when it does not run.
    pid: Option<i32>,
}

impl Local {
    /// `program`: that of the CLI; otherwise the one beside this program, or on the PATH.
    ///
    /// # Errors
    /// When there is no such cluster.
    pub(super) fn open(directory: &Path, program: Option<&Path>) -> anyhow::Result<Self> {
        let local = Self {
            directory: directory.to_owned(),
            program: program.map_or_else(beside_this_program, Path::to_owned),
        };
        local.status()?;
        Ok(local)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Of data nodes, such as `node-1`.
    ///
    /// # Errors
    /// When the program does not run, or says what it never does.
    pub(super) fn nodes(&self) -> anyhow::Result<Vec<String>> {
        let processes = self.status()?.processes.into_iter();
        let names = processes.map(|process| process.name);
        Ok(names.filter(|name| name.starts_with("node-")).collect())
    }

    /// # Errors
    /// When it does not run.
    pub(super) fn pid(&self, name: &str) -> anyhow::Result<Pid> {
        let found = self
            .status()?
            .processes
            .into_iter()
            .find(|process| process.name == name);
        let pid = found.and_then(|process| Pid::from_raw(process.pid?));
        pid.with_context(|| format!("{name} does not run"))
    }

    /// Ends a process at once, as a crash does.
    ///
    /// # Errors
    /// When it does not run, or is somebody else's.
    pub(super) fn kill(&self, name: &str) -> anyhow::Result<()> {
        let pid = self.pid(name)?;
        kill_process(pid, Signal::KILL).with_context(|| format!("killing {name}"))
    }

    /// Starts what does not run, and waits until it answers.
    ///
    /// # Errors
    /// What the program says.
    pub(super) fn start(&self) -> anyhow::Result<()> {
        self.run(&["start"]).map(drop)
    }

    /// Removes all data of a node that does not run.
    ///
    /// # Errors
    /// Names the directory.
    pub(super) fn wipe(&self, name: &str) -> anyhow::Result<()> {
        let data = self.directory.join(name).join("data");
        std::fs::remove_dir_all(&data).with_context(|| data.display().to_string())
    }

    fn status(&self) -> anyhow::Result<Status> {
        // Its exit code says whether all answer, which is not the question.
        let text = self.run(&["status", "--json"])?;
        serde_json::from_str(&text).with_context(|| {
            format!(
                "`{} local status` did not tell about {}",
                self.program.display(),
                self.directory.display()
            )
        })
    }

    fn run(&self, words: &[&str]) -> anyhow::Result<String> {
        let name = self.program.display();
        let (command, options) = words
            .split_first()
            .context("a command of `pegasus local`")?;
        let done = Command::new(&self.program)
            .args(["local", command, "--dir"])
            .arg(&self.directory)
            .args(options)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run {name} (--pegasus says where it is)"))?;
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        if *command == "status" && !text.is_empty() {
            return Ok(text);
        }
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr);
            bail!("`{name} local {command}`: {}", said.trim());
        }
        ensure!(
            *command != "status" || !text.is_empty(),
            "`{name} local status` said nothing"
        );
        Ok(text)
    }
}

fn beside_this_program() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let beside = own.with_file_name("pegasus");
    if beside.is_file() {
        beside
    } else {
        PathBuf::from("pegasus")
    }
}

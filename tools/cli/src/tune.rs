//! `pegasus tune check|apply|disk`: is this machine set up for a data node, and how fast is its drive.
//!
//! Reading order: `settings` (what a node is told), `row` (one thing that was looked at), `rows` (all of them), then the three commands.

mod apply;
mod check;
mod disk;
#[cfg(test)]
mod fake;
mod row;
mod rows;
mod settings;

use crate::output::Output;
use clap::{Args, Subcommand};
use pegasus_host::Root;
use settings::NodeSettings;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// What of this machine is set, what should be, and why
    #[command(after_help = "\
Verdicts: ok, advice (it would be faster), warn (slow or unsafe), unknown (the kernel does not tell, as in many containers and guests).
Exit code 0: no warn (with --strict: no advice either); 1 otherwise. Nothing is changed.

  pegasus tune check --config /etc/pegasus/node.toml
  pegasus tune check --dir /data/pegasus --json")]
    Check(check::Check),
    /// Set what root may set of what `check` advises, until the next restart of the machine
    #[command(after_help = "\
Only what is not right yet is touched. Each change is printed, old -> new, with how to undo it and how to make it last.

  pegasus tune apply --config /etc/pegasus/node.toml --dry-run
  pegasus tune apply --config /etc/pegasus/node.toml --yes")]
    Apply(apply::Apply),
    /// Measure the drive below a node's directory, and write the result there for the node
    #[command(after_help = "\
Needs twice the size of its file as free space, and about a minute. The file has no name: nothing is left behind, however it ends. The
node reads the result (drive.toml) when it starts the next time: what copies of replicas and compactions may take follows from it.

  pegasus tune disk --dir /data/pegasus
  pegasus tune disk --dir /data/pegasus --size '4 GiB' --seconds 10")]
    Disk(disk::Disk),
}

/// Which node is asked about, and which machine.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Subject {
    /// Configuration of the node (the TOML file of pegasus-replica): its directory, CPUs and connections
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data directory of the node: its drive and file system [default: that of --config]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Look at the sys and proc below this directory instead of this machine's
    #[arg(long, value_name = "DIR", hide = true)]
    root: Option<PathBuf>,
}

impl Subject {
    fn root(&self) -> Root {
        self.root.as_ref().map_or_else(Root::system, Root::at)
    }

    fn settings(&self) -> anyhow::Result<NodeSettings> {
        let mut settings = match &self.config {
            Some(path) => NodeSettings::read(path)?,
            None => NodeSettings::default(),
        };
        if let Some(dir) = &self.dir {
            settings.dir = Some(dir.clone());
        }
        Ok(settings)
    }
}

pub(crate) async fn run(command: &Command, out: &mut Output) -> anyhow::Result<()> {
    match command {
        Command::Check(options) => check::run(options, out),
        Command::Apply(options) => apply::run(options, out),
        Command::Disk(options) => disk::run(options, out).await,
    }
}

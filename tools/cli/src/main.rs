//! `pegasus`: the command line of a cluster. It starts one on this machine, shows and changes tables, reads and writes
//! rows, moves data in and out, and shows what each core does.
//!
//! Results go to standard output (tables for people, `--json` for machines) and everything else to standard error.
//!
//! Reading order: `connect` (the client), `output`, `text`, `exit`; then one module for each family of commands.

#![forbid(unsafe_code)]

mod backup;
mod balance;
mod cluster;
mod compact;
mod confirm;
mod connect;
mod cores;
mod data;
mod doctor;
mod each_node;
mod exit;
mod export;
mod filters;
mod hotkeys;
mod import;
mod interrupt;
mod local;
mod metas;
mod nodes;
mod orders;
mod output;
mod patience;
mod progress;
mod remote;
mod restore;
mod rows;
mod scan;
mod scrub;
mod shell;
mod status;
mod tables;
mod text;
mod top;
mod tune;
mod walk;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use connect::Connect;
use exit::{EXIT_CODES, Exit, Failed, exit_of};
use local::process;
use output::{Output, Style, note};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Work with a Pegasus cluster: tables, rows, import and export, and what each core does.
#[derive(Debug, Parser)]
#[command(version, after_help = after_help(), arg_required_else_help = true)]
struct Cli {
    /// Addresses of meta servers
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        env = "PEGASUS_META",
        value_name = "ADDR[,ADDR]",
        value_delimiter = ',',
        value_parser = address,
        default_value = "127.0.0.1:34601"
    )]
    meta: Vec<String>,
    /// Print JSON for programs instead of tables for people
    #[arg(long, global = true, help_heading = GLOBAL)]
    json: bool,
    /// How long one request is tried, in seconds [default: 5; 15 for tables and nodes; 2 while replicas are missing and
    /// for statistics]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "SECONDS", allow_negative_numbers = true)]
    timeout: Option<f64>,
    #[command(subcommand)]
    command: Command,
}

const GLOBAL: &str = "Options of all commands";

#[derive(Debug, Subcommand)]
enum Command {
    /// A cluster on this machine, in the background
    #[command(subcommand)]
    Local(local::Command),
    /// Is the cluster healthy; if not: which partitions, since when, why, and what to do (exit code 0, 1 or 2)
    #[command(after_help = status::AFTER_HELP)]
    Status(status::Status),
    /// Collect the evidence of what is wrong into one archive, without secrets
    #[command(after_help = doctor::AFTER_HELP)]
    Doctor(doctor::Doctor),
    /// Create, list, show, move, set up, rename, drop and recall tables
    #[command(subcommand)]
    Table(tables::Command),
    /// The nodes of the cluster: list and empty them
    #[command(subcommand)]
    Node(nodes::Command),
    /// The cluster as a whole: what there is to know, how much meta does by itself, spread primaries evenly
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// The metas of a cluster that has several: list, add, remove
    #[command(subcommand)]
    Meta(metas::Command),
    /// What meta moves so that cores, nodes and disks carry the same: watch, plan, run, pause
    #[command(subcommand)]
    Balance(balance::Command),
    /// Backups of tables: make, list, check and delete them, and policies that make them by the clock
    #[command(subcommand)]
    Backup(backup::Command),
    /// Make a new table from a backup
    Restore(restore::Restore),
    /// The cores of the nodes: requests, latencies, queues
    #[command(subcommand)]
    Core(cores::Command),
    /// Watch every core: traffic, latencies, queues, caches, memory; down to a core, a table, a partition
    #[command(after_help = "\
A live view that needs a terminal; `pegasus core list --watch` and `pegasus core show` print the same for scripts. Numbers
are those of the last interval. Nodes on this machine are read from their statistics pages, also when they are stuck or dead,
which costs them nothing; others are asked over the wire.

Keys: 1 to 4 or Tab  cores, tables, partitions, hot keys    Enter  look closer    Esc  back    < >  sort by    r  reverse
      /  only one table    c  all tables    Space  pause    + -  slower, faster    ?  all keys    q  quit

NO_COLOR=1 switches colours off.

Examples:
  pegasus top
  pegasus top --interval 5 --table demo
  pegasus top --stats-dir /data/node-1/stats    without asking anybody, for a cluster whose meta is down")]
    Top(top::Top),
    /// The keys and the partitions that clients ask for most
    #[command(
        name = "hotkeys",
        after_help = "\
Every core looks at a sample of its requests and counts the hash keys in it (the sort key where the hash key is empty), for
reads and writes apart, of the last 15 to 30 seconds. Shares are of the core's reads, or writes. Keys are user data: they are
shown escaped, and cut after 128 bytes. Partitions are those of the last second.

Examples:
  pegasus hotkeys
  pegasus hotkeys --table demo --top 3
  pegasus hotkeys --json"
    )]
    HotKeys(hotkeys::HotKeys),
    /// Have nodes read and check everything they have on disk
    #[command(subcommand)]
    Scrub(scrub::Command),
    /// Have nodes rewrite the files of a table without what is overwritten or has expired
    #[command(subcommand)]
    Compact(compact::Command),
    /// Is this machine set up for a data node, and how fast is its drive
    #[command(subcommand)]
    Tune(tune::Command),
    /// Print the value of a row
    Get(rows::Get),
    /// Write a row
    Set(rows::Set),
    /// Delete a row
    Del(rows::Key),
    /// Tell whether a row exists (exit code 3 if it does not)
    Exist(rows::Key),
    /// Print how many seconds a row has left
    Ttl(rows::Key),
    /// Add to the number in a row, and print the sum
    Incr(rows::atomic::Incr),
    /// Write a row if it, or another one of its hash key, passes a check (exit code 3 if it does not)
    CheckAndSet(rows::atomic::CheckAndSet),
    /// Write and delete rows of a hash key, as one, if one of them passes a check (exit code 3 if it does not)
    CheckAndMutate(rows::atomic::CheckAndMutate),
    /// Write rows of one hash key, all or none of them
    MultiSet(rows::many::MultiSet),
    /// Print rows of one hash key, by name or from one to another
    MultiGet(rows::many::MultiGetArgs),
    /// Delete rows of one hash key, all or none of them
    MultiDel(rows::many::MultiDel),
    /// Delete the rows of one hash key from one sort key to another
    DelRange(rows::many::DelRange),
    /// Print how many rows a hash key, or a table, has
    Count(rows::many::Count),
    /// Print the hash of a key, its partition and its primary
    Hash(rows::place::Hash),
    /// Print the rows of a hash key, or of a whole table
    Scan(scan::Scan),
    /// Write the rows of a file into a table
    Import(import::Import),
    /// Write all rows of a table into a file
    Export(export::Export),
    /// Count the rows of a table, and how large they are
    CountData(data::count::CountData),
    /// Copy rows of a table into another one, also of another cluster
    CopyData(data::copy::CopyData),
    /// Delete rows of a table, by filters or all
    ClearData(data::clear::ClearData),
    /// Ask servers by the names of commands, as Apache Pegasus' shell does
    RemoteCommand(remote::RemoteCommand),
    /// All of this at a prompt, or from a file; also by the names of Apache Pegasus' shell
    Shell(shell::Shell),
    /// Becomes a process of its own session; used by `local start`
    #[command(name = process::BACKGROUND_COMMAND, hide = true)]
    InBackground {
        pid_file: PathBuf,
        program: PathBuf,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

fn after_help() -> String {
    format!(
        "\
A first session:
  pegasus local start                                    three nodes on this machine
  pegasus table create demo --partitions 8 --replicas 3
  pegasus set demo user-1 name Ada
  pegasus get demo user-1 name
  pegasus scan demo user-1                               all rows of the hash key user-1
  pegasus import data.tsv --table demo --format tsv --hash-key 1 --sort-key 2 --value 3
  pegasus core list                                      what each core does
  pegasus shell                                          all of this at a prompt
  pegasus local stop

A row is (hash key, sort key) -> value, all of them any bytes. Rows of one hash key live together, in the order of
their sort keys. Output escapes what a terminal cannot show (\\n, \\x00); JSON shows bytes that are not text as
{{\"b64\": \"..\"}}. PEGASUS_META holds the addresses of another cluster.

{EXIT_CODES}"
    )
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let style = if cli.json { Style::Json } else { Style::People };
    let mut out = Output::new(style);
    let result = run(cli, &mut out).and_then(|()| out.flush().context("standard output"));
    match result {
        Ok(()) => ExitCode::from(Exit::Ok as u8),
        Err(error) if is_broken_pipe(&error) => ExitCode::from(Exit::Ok as u8),
        Err(error) => {
            // What was printed before the error is part of the answer.
            let _ = out.flush();
            let exit = exit_of(&error);
            tell(&describe(&error), exit, style);
            ExitCode::from(exit as u8)
        }
    }
}

/// Everything but standard output is named where it fails.
fn describe(error: &anyhow::Error) -> String {
    let is_bare = error.chain().count() == 1;
    let is_output = error.is::<std::io::Error>() || error.is::<serde_json::Error>();
    match is_bare && is_output {
        true => format!("standard output: {error}"),
        false => format!("{error:#}"),
    }
}

/// Says why a command failed; an empty message means that it is said already.
fn tell(message: &str, exit: Exit, style: Style) {
    match style {
        _ if message.is_empty() => {}
        Style::People => note(format!("pegasus: {message}")),
        Style::Json => note(
            serde_json::json!({ "error": message, "kind": exit.name(), "exit": exit as u8 })
                .to_string(),
        ),
    }
}

/// A command line that is wrong, or that only asks for help or the version.
fn usage(error: &clap::Error) -> ExitCode {
    let wants_json = std::env::args_os().any(|argument| argument == "--json");
    if !error.use_stderr() || !wants_json {
        // Nobody may be there to read it.
        let _ = error.print();
    } else {
        let text = error.render().to_string();
        let message = text.split("\n\n").next().unwrap_or_default();
        let message = message.strip_prefix("error: ").unwrap_or(message);
        tell(message.trim(), Exit::Usage, Style::Json);
    }
    let exit = if error.use_stderr() {
        Exit::Usage
    } else {
        Exit::Ok
    };
    ExitCode::from(exit as u8)
}

fn run(cli: Cli, out: &mut Output) -> anyhow::Result<()> {
    if let Command::InBackground {
        pid_file,
        program,
        arguments,
    } = &cli.command
    {
        return process::become_background(pid_file, program, arguments);
    }
    if let Command::Shell(options) = cli.command {
        return shell::run(options, cli.meta, timeout(cli.timeout)?, out);
    }
    let connect = Connect::new(cli.meta, timeout(cli.timeout)?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(dispatch(cli.command, &connect, out))
}

async fn dispatch(command: Command, connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    match command {
        Command::Local(command) => local::run(command, out).await,
        Command::Table(command) => tables::run(command, connect, out).await,
        Command::Doctor(options) => doctor::run(&options, connect, out).await,
        Command::Status(options) => status::run(&options, connect, out).await,
        Command::Node(command) => nodes::run(&command, connect, out).await,
        Command::Cluster(command) => cluster::run(&command, connect, out).await,
        Command::Meta(command) => metas::run(&command, connect, out).await,
        Command::Balance(command) => balance::run(&command, connect, out).await,
        Command::Backup(command) => backup::run(&command, connect, out).await,
        Command::Restore(restore) => restore::run(&restore, connect, out).await,
        Command::Core(command) => cores::run(&command, connect, out).await,
        Command::Top(options) => top::run(&options, connect, out).await,
        Command::HotKeys(options) => hotkeys::run(&options, connect, out).await,
        Command::Scrub(command) => scrub::run(&command, connect, out).await,
        Command::Compact(command) => compact::run(&command, connect, out).await,
        Command::Tune(command) => tune::run(&command, out).await,
        Command::Get(options) => rows::get(&options, connect, out).await,
        Command::Set(options) => rows::set(&options, connect, out).await,
        Command::Del(key) => rows::del(&key, connect, out).await,
        Command::Exist(key) => rows::exist(&key, connect, out).await,
        Command::Ttl(key) => rows::ttl(&key, connect, out).await,
        Command::Incr(options) => rows::atomic::incr(&options, connect, out).await,
        Command::CheckAndSet(options) => rows::atomic::check_and_set(&options, connect, out).await,
        Command::CheckAndMutate(options) => {
            rows::atomic::check_and_mutate(&options, connect, out).await
        }
        Command::MultiSet(options) => rows::many::multi_set(&options, connect, out).await,
        Command::MultiGet(options) => rows::many::multi_get(&options, connect, out).await,
        Command::MultiDel(options) => rows::many::multi_del(&options, connect, out).await,
        Command::DelRange(options) => rows::many::del_range(&options, connect, out).await,
        Command::Count(options) => rows::many::count(&options, connect, out).await,
        Command::Hash(options) => rows::place::hash(&options, connect, out).await,
        Command::Scan(options) => scan::run(&options, connect, out).await,
        Command::Import(options) => import::run(&options, connect, out).await,
        Command::Export(options) => export::run(&options, connect, out).await,
        Command::CountData(options) => data::count::run(&options, connect, out).await,
        Command::CopyData(options) => data::copy::run(&options, connect, out).await,
        Command::ClearData(options) => data::clear::run(&options, connect, out).await,
        Command::RemoteCommand(options) => remote::run(&options, connect, out).await,
        Command::Shell(_) | Command::InBackground { .. } => {
            unreachable!("handled before there is a runtime")
        }
    }
}

/// An address without a port reaches nobody: said before anything is tried.
fn address(text: &str) -> Result<String, &'static str> {
    let has_port = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    has_port
        .then(|| text.to_owned())
        .ok_or("an address is HOST:PORT, for example 127.0.0.1:34601")
}

fn timeout(seconds: Option<f64>) -> anyhow::Result<Option<Duration>> {
    let Some(seconds) = seconds else {
        return Ok(None);
    };
    if !(0.001..=3600.0).contains(&seconds) {
        return Err(Failed::usage(format!(
            "--timeout {seconds:?}: 0.001 to 3600 seconds are allowed"
        )));
    }
    Ok(Some(Duration::from_secs_f64(seconds)))
}

/// The reader of our output has seen enough. A connection to a server never fails with an error of this type.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = error.chain().find_map(|cause| {
        let json = cause.downcast_ref::<serde_json::Error>();
        let io = cause.downcast_ref::<std::io::Error>();
        io.map(std::io::Error::kind)
            .or_else(|| json?.io_error_kind())
    });
    kind == Some(std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_global_options_may_stand_behind_the_command() {
        let parsed =
            Cli::try_parse_from(["pegasus", "table", "list", "--json", "--meta", "a:1,b:2"]);
        let cli = parsed.unwrap_or_else(|error| panic!("{error}"));
        assert!(cli.json);
        assert_eq!(cli.meta, ["a:1", "b:2"]);
    }

    #[test]
    fn an_address_without_a_port_is_refused() {
        assert_eq!(address("[::1]:34601").as_deref(), Ok("[::1]:34601"));
        for text in ["127.0.0.1", "localhost:", ":34601", "localhost:http", ""] {
            assert!(address(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_timeout_out_of_range_is_refused() {
        assert!(timeout(Some(0.0)).is_err());
        assert!(timeout(Some(f64::NAN)).is_err());
        assert!(
            matches!(timeout(Some(1.5)), Ok(Some(duration)) if duration == Duration::from_millis(1500))
        );
    }
}

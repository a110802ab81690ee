//! `pegasus-replica`: the data node as a program. Flags, logs, signals; everything else is in the library.

#![forbid(unsafe_code)]

use clap::{Args, Parser, Subcommand};
use pegasus_backup::TargetConfig;
use pegasus_replica::config::{ByteSize, Config, Cores, Poll};
use pegasus_replica::node::Node;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often it is looked whether all cores still run.
const LOOK_PERIOD: Duration = Duration::from_millis(100);

/// A data node of Pegasus: one thread per core, each with its partitions, its log and its database.
#[derive(Debug, Parser)]
#[command(version, name = "pegasus-replica", args_override_self = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node until SIGTERM or SIGINT.
    Run(RunArgs),
    /// Print the configuration that `run` would use, and check it.
    Config(RunArgs),
}

/// Flags win over the file.
#[derive(Debug, Args)]
struct RunArgs {
    /// TOML file with any setting.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data directory; formatted at the first start.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Meta servers.
    #[arg(
        long,
        value_name = "ADDR[,ADDR]",
        env = "PEGASUS_META",
        value_delimiter = ','
    )]
    meta: Option<Vec<SocketAddr>>,
    /// Data cores: how many, or which CPUs (2, cpu:2, 2,3 or 2-5).
    #[arg(long, value_name = "N|LIST")]
    cores: Option<Cores>,
    /// Address to listen on.
    #[arg(long, value_name = "IP")]
    listen: Option<IpAddr>,
    /// Address told to others, where it is not the one listened on.
    #[arg(long, value_name = "IP")]
    advertise: Option<IpAddr>,
    /// Client port of core 0; peer ports are 1000 higher; 0 = a free block.
    #[arg(long, value_name = "PORT")]
    base_port: Option<u16>,
    /// What a data thread does with nothing to do.
    #[arg(long, value_enum)]
    poll: Option<Poll>,
    /// CPUs of background work.
    #[arg(long, value_name = "CPU[,CPU]", value_delimiter = ',')]
    background_cpus: Option<Vec<u32>>,
    /// Block cache of each core.
    #[arg(long, value_name = "SIZE")]
    cache_size: Option<ByteSize>,
    /// Memtables of each core.
    #[arg(long, value_name = "SIZE")]
    memtable_size: Option<ByteSize>,
    /// One log segment.
    #[arg(long, value_name = "SIZE")]
    log_segment_size: Option<ByteSize>,
    /// Free space below which writes are refused.
    #[arg(long, value_name = "SIZE")]
    disk_reserve: Option<ByteSize>,
    /// File with the cluster's token, mode 600.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Where backups can be: a name and file:///DIR, s3://BUCKET/PREFIX or webhdfs://HOST:PORT/PREFIX. Any number of times;
    /// what else a target needs stands in the file.
    #[arg(long, value_name = "NAME=URL", value_parser = backup_target)]
    backup_target: Vec<(String, TargetConfig)>,
}

fn backup_target(text: &str) -> Result<(String, TargetConfig), String> {
    let (name, url) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| format!("{text:?} is not NAME=URL"))?;
    let config = TargetConfig::of_url(url);
    config.check()?;
    Ok((name.to_owned(), config))
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    abort_on_panic();
    match cli.command {
        Command::Run(arguments) => exit(config_of(arguments).and_then(|config| run(&config))),
        Command::Config(arguments) => exit(config_of(arguments).and_then(|config| print(&config))),
    }
}

fn exit(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pegasus-replica: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: &Config) -> anyhow::Result<()> {
    config.check()?;
    pegasus_logs::start(&config.process.logs)?;
    tracing::info!("configuration:\n{}", config.to_toml());
    let bind = config.process.listen.bind;
    if !bind.is_loopback() {
        tracing::warn!(%bind, "clients are not authenticated: whoever reaches this address can read and write");
    }
    let is_stopped = stop_flag()?;
    let stop = Arc::clone(&is_stopped);
    let node = Node::start(config, &move || stop.load(Ordering::Relaxed))?;
    tracing::info!(clients = ?node.client_addresses(), "node is up");
    while !is_stopped.load(Ordering::Relaxed) && !node.has_failed() {
        std::thread::park_timeout(LOOK_PERIOD);
        pegasus_logs::tell_left_out();
    }
    tracing::info!("node is stopping");
    if !node.has_failed() {
        node.leave(config.process.stop.handover_ms.duration());
    }
    node.stop()?;
    tracing::info!("node has stopped");
    Ok(())
}

#[allow(clippy::print_stdout, reason = "printing is what the command is for")]
fn print(config: &Config) -> anyhow::Result<()> {
    print!("{}", config.to_toml());
    Ok(config.check()?)
}

/// Set by SIGTERM and SIGINT. A second signal ends the process at once.
fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&flag);
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let main = std::thread::current();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                if seen.swap(true, Ordering::Relaxed) {
                    std::process::exit(128 + signal);
                }
                main.unpark();
            }
        })?;
    Ok(flag)
}

/// A bug on one core must not leave the others answering for it: the process ends, the replicas elsewhere carry on.
fn abort_on_panic() {
    std::panic::set_hook(Box::new(|info| {
        let thread = std::thread::current();
        let backtrace = std::backtrace::Backtrace::force_capture();
        if pegasus_logs::levels().is_empty() {
            eprintln!("pegasus-replica: {info}\n{backtrace}");
        }
        tracing::error!(thread = thread.name(), "{info}\n{backtrace}");
        std::process::abort();
    }));
}

fn config_of(arguments: RunArgs) -> anyhow::Result<Config> {
    let mut config = match &arguments.config {
        Some(path) => Config::read(path)?,
        None => Config::default(),
    };
    let process = &mut config.process;
    set(&mut process.dir, arguments.dir);
    set(&mut process.meta, arguments.meta);
    set(&mut process.cpu.cores, arguments.cores);
    set(&mut process.listen.bind, arguments.listen);
    set(&mut process.listen.base_port, arguments.base_port);
    set(&mut process.cpu.poll, arguments.poll);
    set(&mut process.cpu.background, arguments.background_cpus);
    set(&mut process.memory.cache, arguments.cache_size);
    set(&mut process.memory.memtables, arguments.memtable_size);
    set(&mut process.log.segment, arguments.log_segment_size);
    set(&mut process.disk.reserve, arguments.disk_reserve);
    process.backup.targets.extend(arguments.backup_target);
    process.listen.advertise = arguments.advertise.or(process.listen.advertise);
    process.token_file = arguments.token_file.or(process.token_file.take());
    Ok(config)
}

fn set<T>(place: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *place = given;
    }
}

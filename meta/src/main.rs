//! `pegasus-meta`: which core of which node holds which replica.

#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the program reads files and the environment, and says where it listens"
)]

mod options;
mod rebuild;

use anyhow::{Context as _, bail};
use clap::Parser as _;
use options::{Action, Arguments, InitArguments, RunArguments, Settings};
use pegasus_logs::LogsConfig;
use pegasus_meta::server::{Server, ServerOptions};
use pegasus_meta::state::{Cluster, ClusterId, State, may_name};
use pegasus_meta::store::FileStore;
use std::io::Write as _;
use std::path::Path;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    abort_on_panic();
    match arguments.action {
        Action::Init(arguments) => {
            pegasus_logs::start(&LogsConfig::default())?;
            init(&arguments)
        }
        Action::Run(arguments) => run(arguments),
        Action::Recover(arguments) => {
            pegasus_logs::start(&LogsConfig::default())?;
            rebuild::recover(&arguments)
        }
    }
}

/// A failed assertion ends the process, whatever thread found it: a meta that goes on without its decider only looks alive.
fn abort_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        print(info);
        std::process::abort();
    }));
}

fn init(arguments: &InitArguments) -> anyhow::Result<()> {
    let cluster = make(&arguments.dir, &arguments.cluster_name)?;
    println!("cluster {} {}", cluster.id, cluster.name);
    Ok(())
}

fn make(dir: &Path, name: &str) -> anyhow::Result<Cluster> {
    if !may_name(name) {
        bail!("cluster name {name:?} is not 1 to 128 of [a-zA-Z0-9_.:-]");
    }
    let cluster = Cluster {
        id: ClusterId(rand::random::<u128>().max(1)),
        name: name.to_owned(),
        epoch: 0,
    };
    FileStore::create(dir, &cluster)?;
    tracing::info!(cluster = %cluster.id, name, dir = %dir.display(), "made a cluster");
    Ok(cluster)
}

fn run(arguments: RunArguments) -> anyhow::Result<()> {
    let settings = Settings::read(arguments)?;
    pegasus_logs::start(&settings.logs)?;
    tracing::info!("settings:\n{}", settings.shown()?);
    if settings.init_if_empty && FileStore::is_absent(&settings.dir)? {
        make(&settings.dir, &settings.cluster_name)?;
    }
    let token = settings.token()?;
    let (store, durable) = FileStore::open(&settings.dir)?;
    say_who_may_connect(&settings, &token);
    let state = State::from_durable(durable).with_options(settings.heal);
    state.check();
    tracing::info!(cluster = %state.durable().cluster().id, tables = state.durable().tables().len(), "state read");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let options = ServerOptions {
        token,
        connections_max: settings.connections_max,
        ..ServerOptions::at(settings.listen)
    };
    runtime.block_on(serve(state, store, options))
}

async fn serve(state: State, store: FileStore, options: ServerOptions) -> anyhow::Result<()> {
    let dir = store.dir().to_owned();
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let listen = options.listen;
    let started = Server::start(state, Box::new(store), options).await;
    let mut server = started.with_context(|| format!("cannot listen on {listen}"))?;
    write_address(&dir, &server)?;
    println!("listening on {}", server.address());
    std::io::stdout().flush()?;
    tokio::spawn(tell_left_out());
    tokio::select! {
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
        error = server.failed() => return Err(error).context("the store has failed; nothing can be promised any more"),
    }
    tracing::info!("stopping");
    server.stop().await;
    Ok(())
}

/// Says from time to time which lines of the log were left out.
async fn tell_left_out() {
    let mut tick = tokio::time::interval(std::time::Duration::from_secs(1));
    loop {
        tick.tick().await;
        pegasus_logs::tell_left_out();
    }
}

/// For tests and tools: where this meta listens, if port 0 was asked for.
fn write_address(dir: &Path, server: &Server) -> anyhow::Result<()> {
    let path = dir.join("address");
    let unfinished = dir.join("address.new");
    std::fs::write(&unfinished, format!("{}\n", server.address()))
        .with_context(|| unfinished.display().to_string())?;
    std::fs::rename(&unfinished, &path).with_context(|| path.display().to_string())
}

fn say_who_may_connect(settings: &Settings, token: &[u8]) {
    if settings.listen.ip().is_loopback() {
        return;
    }
    if token.is_empty() {
        tracing::warn!(
            "{} has no authentication: whoever reaches it can make and drop tables; nodes may join from loopback only, since there is no token file",
            settings.listen
        );
    } else {
        tracing::warn!(
            "{}: nodes prove the cluster token; whoever reaches it can make and drop tables",
            settings.listen
        );
    }
}

//! `pegasus-meta`: which core of which node holds which replica.

#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the program reads files and the environment, and says where it listens"
)]

mod exchange;
mod options;
mod place_of_store;
mod rebuild;

use anyhow::{Context as _, bail};
use clap::Parser as _;
use options::{Action, Arguments, InitArguments, RunArguments, Settings};
use pegasus_logs::LogsConfig;
use pegasus_meta::group::{self, Group, GroupOptions};
use pegasus_meta::leadership::{Alone, Leadership};
use pegasus_meta::server::{Server, ServerOptions};
use pegasus_meta::state::{Cluster, ClusterId, Durable, may_name};
use pegasus_meta::store::zookeeper::{self, ZooKeeper};
use pegasus_meta::store::{FileStore, StoreError};
use place_of_store::ZooKeeperSettings;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::Write as _;
use std::path::Path;
use tokio::signal::unix::{SignalKind, signal};

/// Files of the store, links to other metas, and the like.
const FILES_BESIDE_CONNECTIONS: u64 = 256;

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
        Action::Export(arguments) => {
            pegasus_logs::start(&LogsConfig::default())?;
            exchange::export(&arguments)
        }
        Action::Import(arguments) => {
            pegasus_logs::start(&LogsConfig::default())?;
            exchange::import(&arguments)
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
    let dir = &arguments.dir;
    if let (Some(cluster), Some(member)) = (arguments.join, arguments.member) {
        group::prepare(dir, member, cluster)?;
        println!(
            "member {member} of cluster {cluster}; start it, then `pegasus meta add {member} ITS:PEERPORT`"
        );
        return Ok(());
    }
    let cluster = new_cluster(&arguments.cluster_name)?;
    match (arguments.zookeeper.options()?, arguments.member) {
        (Some(_), Some(_)) => {
            bail!("metas that share a store in ZooKeeper are no group: leave --member out")
        }
        (Some(options), None) => {
            exchange::make_in_zookeeper(&options, dir, &Durable::new(cluster.clone()))?;
        }
        (None, Some(member)) => drop(group::found(dir, member, &Durable::new(cluster.clone()))?),
        (None, None) => drop(FileStore::create(dir, &cluster)?),
    }
    tracing::info!(cluster = %cluster.id, name = cluster.name, dir = %dir.display(), "made a cluster");
    println!("cluster {} {}", cluster.id, cluster.name);
    Ok(())
}

fn new_cluster(name: &str) -> anyhow::Result<Cluster> {
    if !may_name(name) {
        bail!("cluster name {name:?} is not 1 to 128 of [a-zA-Z0-9_.:-]");
    }
    Ok(Cluster {
        id: ClusterId(rand::random::<u128>().max(1)),
        name: name.to_owned(),
        epoch: 0,
    })
}

fn run(arguments: RunArguments) -> anyhow::Result<()> {
    let settings = Settings::read(arguments)?;
    pegasus_logs::start(&settings.logs)?;
    tracing::info!("settings:\n{}", settings.shown()?);
    pegasus_backup::install_tls();
    allow_files(settings.connections_max);
    let token = settings.token()?;
    let leadership = leadership(&settings, &token)?;
    say_who_may_connect(&settings, &token);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let options = ServerOptions {
        token,
        connections_max: settings.connections_max,
        backup: settings.backup.clone(),
        ..ServerOptions::at(settings.listen)
    };
    runtime.block_on(serve(&settings, leadership, options))
}

/// Raises the limit of open files to what so many connections need, as far as the system allows it.
fn allow_files(connections_max: usize) {
    let wanted = connections_max as u64 + FILES_BESIDE_CONNECTIONS;
    let limit = getrlimit(Resource::Nofile);
    // None: no limit.
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let raised = Rlimit {
        current: Some(limit.maximum.map_or(wanted, |most| most.min(wanted))),
        maximum: limit.maximum,
    };
    let is_raised = setrlimit(Resource::Nofile, raised).is_ok();
    let allowed = if is_raised {
        raised.current
    } else {
        limit.current
    };
    if allowed.is_some_and(|allowed| allowed < wanted) {
        tracing::warn!(
            allowed,
            wanted,
            "this process may not have as many files open as connections_max = {connections_max} needs; raise its hard limit (LimitNOFILE), or lower connections_max"
        );
    }
}

/// Who leads, by what the directory is: alone, or a member of a group.
fn leadership(settings: &Settings, token: &[u8]) -> anyhow::Result<Box<dyn Leadership>> {
    let dir = &settings.dir;
    if let Some(zookeeper) = &settings.zookeeper {
        return in_zookeeper(settings, zookeeper);
    }
    if group::is_member(dir) {
        settings.group.check()?;
        let member = Group::open(GroupOptions {
            dir: dir.clone(),
            listen: settings.group.listen,
            advertise: settings.group.advertise.to_string(),
            client_address: settings.group.client_advertise.to_string(),
            token: token.to_vec(),
        })?;
        tracing::info!(cluster = %member.cluster(), member = member.identity().member, peers = %member.address(), "a member of a group");
        return Ok(Box::new(member));
    }
    if settings.init_if_empty && FileStore::is_absent(dir)? {
        let cluster = new_cluster(&settings.cluster_name)?;
        drop(FileStore::create(dir, &cluster)?);
        tracing::info!(cluster = %cluster.id, name = cluster.name, dir = %dir.display(), "made a cluster");
    }
    let (store, durable) = FileStore::open(dir)?;
    tracing::info!(cluster = %durable.cluster().id, tables = durable.tables().len(), "state read");
    Ok(Box::new(Alone::new(Box::new(store), durable)))
}

/// One of the metas that share a store in ZooKeeper.
fn in_zookeeper(
    settings: &Settings,
    zookeeper: &ZooKeeperSettings,
) -> anyhow::Result<Box<dyn Leadership>> {
    let (dir, options) = (&settings.dir, zookeeper.options()?);
    exchange::expect_no_other_store(dir)?;
    let expected = place_of_store::remembered(dir)?;
    if settings.init_if_empty && expected.is_none() && zookeeper::read(&options)?.is_none() {
        let cluster = new_cluster(&settings.cluster_name)?;
        match zookeeper::create(&options, &Durable::new(cluster)) {
            // Another meta that was started at the same time has made it.
            Ok(()) | Err(StoreError::Exists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let meta = ZooKeeper::open(options, zookeeper.address()?, expected)?;
    place_of_store::remember(dir, meta.cluster())?;
    tracing::info!(cluster = %meta.cluster(), "a meta of a store in ZooKeeper");
    Ok(Box::new(meta))
}

async fn serve(
    settings: &Settings,
    leadership: Box<dyn Leadership>,
    options: ServerOptions,
) -> anyhow::Result<()> {
    let dir = &settings.dir;
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let listen = options.listen;
    let started = Server::start_led(leadership, settings.heal, options).await;
    let mut server = started.with_context(|| format!("cannot listen on {listen}"))?;
    write_address(dir, &server)?;
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

//! `pegasus-meta export` and `import`: the state of one store as a file, and into another, empty store.

use crate::place_of_store::{ZooKeeperArguments, remember};
use anyhow::{Context as _, bail};
use clap::Args;
use pegasus_meta::export;
use pegasus_meta::group;
use pegasus_meta::state::{Durable, State};
use pegasus_meta::store::{FileStore, StoreError, zookeeper};
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

/// Reads only. Of a directory, meta has to be stopped; of ZooKeeper it may run, and what it decides later is not in the file.
#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    /// The directory of the store.
    #[arg(long, conflicts_with = "servers", required_unless_present = "servers")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    zookeeper: ZooKeeperArguments,
    /// The file to write; must not be there.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Stop the meta of the store that the file is from, for good: two that go on from one state give the same ballots twice.
#[derive(Debug, Args)]
pub(crate) struct ImportArguments {
    /// What `pegasus-meta export` has written.
    file: PathBuf,
    /// Into this directory, which must not hold a store.
    #[arg(long, conflicts_with = "servers", required_unless_present = "servers")]
    dir: Option<PathBuf>,
    /// As the first member of a group of metas, under this number.
    #[arg(long, alias = "group-member", value_name = "NUMBER", requires = "dir", value_parser = clap::value_parser!(u64).range(1..))]
    member: Option<u64>,
    #[command(flatten)]
    zookeeper: ZooKeeperArguments,
}

pub(crate) fn export(arguments: &ExportArguments) -> anyhow::Result<()> {
    let durable = match (arguments.zookeeper.options()?, &arguments.dir) {
        (Some(options), _) => {
            let read = zookeeper::read(&options)?;
            let running = zookeeper::running(&options)?;
            if let Some(leader) = running.first() {
                println!(
                    "warning: the meta at {leader} runs on this store: what it decides from now on is not in the file"
                );
            }
            let root = &options.root;
            read.with_context(|| format!("ZooKeeper holds no meta store at {root}"))?
        }
        (None, Some(dir)) => of_directory(dir)?,
        (None, None) => bail!("where is the state? name it by --dir or --zookeeper"),
    };
    write(&durable, &arguments.out)?;
    let cluster = durable.cluster();
    println!(
        "cluster {} {}: {} nodes, {} tables",
        cluster.id,
        cluster.name,
        durable.nodes().len(),
        durable.tables().len()
    );
    Ok(())
}

fn of_directory(dir: &Path) -> anyhow::Result<Durable> {
    if group::is_member(dir) {
        println!(
            "warning: this is what one member of a group knows to be decided; export of the one that led last, or of all and take the newest"
        );
        return Ok(group::read(dir)?);
    }
    let (_store, durable) = FileStore::open(dir)?;
    Ok(durable)
}

/// All of it, or no file.
fn write(durable: &Durable, path: &Path) -> anyhow::Result<()> {
    let named = || path.display().to_string();
    if path.exists() {
        bail!("{} is there already", named());
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let unfinished = PathBuf::from(name);
    let file = File::create(&unfinished).with_context(|| unfinished.display().to_string())?;
    let mut out = BufWriter::new(file);
    let written = export::write(durable, &mut out).and_then(|()| out.flush());
    let written = written.and_then(|()| out.get_ref().sync_all());
    written.with_context(|| unfinished.display().to_string())?;
    fs::rename(&unfinished, path).with_context(named)
}

/// The state in a file.
pub(crate) fn read(path: &Path) -> anyhow::Result<Durable> {
    let named = || path.display().to_string();
    let file = File::open(path).with_context(named)?;
    export::read(&mut BufReader::new(file)).with_context(named)
}

pub(crate) fn import(arguments: &ImportArguments) -> anyhow::Result<()> {
    let durable = read(&arguments.file)?;
    State::from_durable(durable.clone()).check();
    match (arguments.zookeeper.options()?, &arguments.dir) {
        (Some(options), _) => zookeeper::create(&options, &durable)?,
        (None, Some(dir)) if group::is_member(dir) => {
            return Err(StoreError::Exists { dir: dir.clone() }.into());
        }
        (None, Some(dir)) => match arguments.member {
            Some(member) => drop(group::found(dir, member, &durable)?),
            None => drop(FileStore::create_with(dir, &durable)?),
        },
        (None, None) => bail!("where is it to go? name it by --dir or --zookeeper"),
    }
    let cluster = durable.cluster();
    println!(
        "cluster {} {}: {} nodes, {} tables",
        cluster.id,
        cluster.name,
        durable.nodes().len(),
        durable.tables().len()
    );
    Ok(())
}

/// A directory has one kind of store.
pub(crate) fn expect_no_other_store(dir: &Path) -> anyhow::Result<()> {
    if group::is_member(dir) || !FileStore::is_absent(dir)? {
        bail!(
            "{} holds a meta store, and zookeeper.servers names another: `pegasus-meta export` and `import` bring the one into the other; then use another directory",
            dir.display()
        );
    }
    Ok(())
}

/// Makes a new cluster in ZooKeeper, of which the meta of `dir` is from now on.
pub(crate) fn make_in_zookeeper(
    options: &zookeeper::ZooKeeperOptions,
    dir: &Path,
    durable: &Durable,
) -> anyhow::Result<()> {
    expect_no_other_store(dir)?;
    zookeeper::create(options, durable)?;
    remember(dir, durable.cluster().id)
}

//! Where a store is, if not in a directory: ZooKeeper's section of the file, and its words on the command line.

use anyhow::{Context as _, bail};
use clap::Args;
use pegasus_meta::state::ClusterId;
use pegasus_meta::store::zookeeper::{Root, ZooKeeperOptions};
use serde::{Deserialize, Serialize};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

const ROOT: &str = "/pegasus/main";
const SESSION_TIMEOUT_MS: u64 = 6_000;
const SESSION_TIMEOUT_MS_MIN: u64 = 400;
const SESSION_TIMEOUT_MS_MAX: u64 = 600_000;
/// In the directory of a meta that keeps its state in ZooKeeper: which cluster it is of.
const CLUSTER_FILE: &str = "zookeeper-cluster";

/// A store in ZooKeeper.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ZooKeeperArguments {
    /// The state is in ZooKeeper, on these servers: HOST:PORT[,HOST:PORT].
    #[arg(long = "zookeeper", value_name = "SERVERS")]
    servers: Option<String>,
    /// Where in ZooKeeper. Default /pegasus/main.
    #[arg(long = "zookeeper-root", value_name = "PATH")]
    root: Option<String>,
    /// After so long without a meta another one may lead. Default 6000.
    #[arg(long = "zookeeper-session-timeout-ms", value_name = "MILLISECONDS")]
    session_timeout_ms: Option<u64>,
}

/// The section `zookeeper` of the file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ZooKeeperFile {
    servers: Option<String>,
    root: Option<String>,
    session_timeout_ms: Option<u64>,
    client_advertise: Option<SocketAddr>,
}

/// What holds of both.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ZooKeeperSettings {
    servers: String,
    root: String,
    session_timeout_ms: u64,
    /// How clients, nodes and other metas reach this one.
    client_advertise: SocketAddr,
}

impl ZooKeeperArguments {
    /// `None`: the state is in a directory.
    pub(crate) fn settings(
        self,
        file: ZooKeeperFile,
        listen: SocketAddr,
    ) -> anyhow::Result<Option<ZooKeeperSettings>> {
        let Some(servers) = self.servers.or(file.servers) else {
            if self.root.or(file.root).is_some() {
                bail!("zookeeper.root without zookeeper.servers: name the servers too");
            }
            return Ok(None);
        };
        let settings = ZooKeeperSettings {
            servers,
            root: self.root.or(file.root).unwrap_or_else(|| ROOT.to_owned()),
            session_timeout_ms: self
                .session_timeout_ms
                .or(file.session_timeout_ms)
                .unwrap_or(SESSION_TIMEOUT_MS),
            client_advertise: file.client_advertise.unwrap_or(listen),
        };
        settings.options()?;
        Ok(Some(settings))
    }

    /// Of a command that only reads or makes a store.
    pub(crate) fn options(&self) -> anyhow::Result<Option<ZooKeeperOptions>> {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let settings = self.clone().settings(ZooKeeperFile::default(), nowhere)?;
        settings.map(|it| it.options()).transpose()
    }
}

impl ZooKeeperSettings {
    pub(crate) fn options(&self) -> anyhow::Result<ZooKeeperOptions> {
        let range = SESSION_TIMEOUT_MS_MIN..=SESSION_TIMEOUT_MS_MAX;
        let session_timeout_ms = self.session_timeout_ms;
        if !range.contains(&session_timeout_ms) {
            bail!(
                "zookeeper.session_timeout_ms = {session_timeout_ms} is not {SESSION_TIMEOUT_MS_MIN} to {SESSION_TIMEOUT_MS_MAX}"
            );
        }
        let is_server = |it: &str| {
            it.rsplit_once(':')
                .is_some_and(|(_, port)| port.parse::<u16>().is_ok())
        };
        if !self.servers.split(',').all(is_server) {
            bail!(
                "zookeeper.servers = {:?} is not HOST:PORT[,HOST:PORT]",
                self.servers
            );
        }
        Ok(ZooKeeperOptions {
            servers: self.servers.clone(),
            root: Root::new(&self.root).map_err(anyhow::Error::msg)?,
            session_timeout: Duration::from_millis(session_timeout_ms),
        })
    }

    /// How others reach this meta.
    pub(crate) fn address(&self) -> anyhow::Result<String> {
        let address = self.client_advertise;
        if address.port() == 0 || address.ip().is_unspecified() {
            bail!(
                "zookeeper.client_advertise = {address}: a meta of several says where it is reached, by ip:port"
            );
        }
        Ok(address.to_string())
    }
}

/// The cluster that the meta of this directory was of before; `None` if it was of none.
pub(crate) fn remembered(dir: &Path) -> anyhow::Result<Option<ClusterId>> {
    let path = dir.join(CLUSTER_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let named = || path.display().to_string();
    let text = fs::read_to_string(&path).with_context(named)?;
    let id = u128::from_str_radix(text.trim(), 16).ok();
    let id = id.with_context(|| format!("{}: it is not the id of a cluster", named()))?;
    Ok(Some(ClusterId(id)))
}

/// Remembers the cluster: this meta is of no other from now on.
pub(crate) fn remember(dir: &Path, cluster: ClusterId) -> anyhow::Result<()> {
    if remembered(dir)? == Some(cluster) {
        return Ok(());
    }
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let path = dir.join(CLUSTER_FILE);
    let unfinished = path.with_extension("new");
    fs::write(&unfinished, format!("{cluster}\n"))
        .with_context(|| unfinished.display().to_string())?;
    fs::rename(&unfinished, &path).with_context(|| path.display().to_string())
}

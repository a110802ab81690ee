//! The command line and the configuration file.

use crate::exchange::{ExportArguments, ImportArguments};
use crate::place_of_store::{ZooKeeperArguments, ZooKeeperFile, ZooKeeperSettings};
use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};
use pegasus_backup::TargetConfig;
use pegasus_logs::LogsConfig;
use pegasus_meta::recover::NamedTable;
use pegasus_meta::server::BackupOptions;
use pegasus_meta::state::{ClusterId, HealOptions};
use pegasus_replication::ids::{PartitionId, TableId};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

const CONNECTIONS_MAX: usize = 16_384;
const TOKEN_BYTES_MAX: usize = 4096;

/// The meta server of a Pegasus cluster: places tables on nodes and cores.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) action: Action,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Make a new, empty cluster in a directory. Done once in a cluster's life.
    Init(InitArguments),
    /// Serve.
    Run(RunArguments),
    /// Rebuild a lost state from what the nodes have.
    Recover(RecoverArguments),
    /// Write the state of a store into a file.
    Export(ExportArguments),
    /// Make a store of such a file.
    Import(ImportArguments),
}

/// Nothing is guessed: what cannot be decided is listed, and then nothing is written.
#[derive(Debug, Args)]
pub(crate) struct RecoverArguments {
    /// Where the new state goes; must not hold one.
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// The cluster's id, 32 hexadecimal digits; every node.toml has it.
    #[arg(long, value_parser = cluster_id)]
    pub(crate) cluster_id: ClusterId,
    /// Numbers of ALL nodes that the cluster has, such as 1,2,3. One left out here may hold what is then overruled.
    #[arg(long, value_delimiter = ',', required = true)]
    pub(crate) nodes: Vec<u32>,
    /// Where the nodes look for meta.
    #[arg(long, default_value = "127.0.0.1:34601")]
    pub(crate) listen: SocketAddr,
    /// File (mode 0600) with the secret that nodes prove to know.
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// For people; 1 to 128 of [a-zA-Z0-9_.:-].
    #[arg(long, default_value = "pegasus")]
    pub(crate) cluster_name: String,
    /// How long to wait for nodes. Ends earlier once all of them have said everything.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) wait: u64,
    /// A table that no node knows by name: ID=NAME:PARTITIONS:REPLICAS. May be repeated.
    #[arg(long = "table", value_parser = named_table)]
    pub(crate) tables: Vec<NamedTable>,
    /// A table that stays lost; its copies stay where they are. May be repeated.
    #[arg(long = "leave-table", value_name = "ID")]
    pub(crate) leave: Vec<u32>,
    /// Partitions that go on with the best copy there is, or empty, whatever is lost: 4.0,4.7
    #[arg(long, value_delimiter = ',', value_parser = partition)]
    pub(crate) accept_loss: Vec<PartitionId>,
    /// An older copy of the state, as `pegasus-meta export` wrote it: names, settings and dropped tables are taken from it,
    /// never who holds what.
    #[arg(long, value_name = "FILE")]
    pub(crate) base: Option<PathBuf>,
}

impl RecoverArguments {
    /// The secret, as in [`Settings::token`].
    pub(crate) fn token(&self) -> anyhow::Result<Vec<u8>> {
        read_token(self.token_file.as_ref())
    }
}

fn backup_target(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=');
    let (name, url) = pair.ok_or("a target is NAME=URL, such as local=file:///srv/backups")?;
    Ok((name.to_owned(), url.to_owned()))
}

fn cluster_id(text: &str) -> Result<ClusterId, String> {
    let id = u128::from_str_radix(text, 16).ok().filter(|id| *id != 0);
    match id {
        Some(id) if text.len() == 32 => Ok(ClusterId(id)),
        _ => Err("a cluster id is 32 hexadecimal digits".to_owned()),
    }
}

fn named_table(text: &str) -> Result<NamedTable, String> {
    let parse = || {
        let (id, rest) = text.split_once('=')?;
        let (rest, replicas) = rest.rsplit_once(':')?;
        let (name, partitions) = rest.rsplit_once(':')?;
        Some(NamedTable {
            id: TableId(id.parse().ok()?),
            name: name.to_owned(),
            partition_count: partitions.parse().ok()?,
            replica_count: replicas.parse().ok()?,
            envs: std::collections::BTreeMap::new(),
        })
    };
    parse().ok_or_else(|| "a table is ID=NAME:PARTITIONS:REPLICAS, such as 4=users:16:3".to_owned())
}

fn partition(text: &str) -> Result<PartitionId, String> {
    let parse = || {
        let (table, index) = text.split_once('.')?;
        Some(PartitionId {
            table: TableId(table.parse().ok()?),
            index: index.parse().ok()?,
        })
    };
    parse().ok_or_else(|| "a partition is TABLE.INDEX, such as 4.0".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct InitArguments {
    /// Where meta keeps its state.
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// For people; 1 to 128 of [a-zA-Z0-9_.:-].
    #[arg(long, default_value = "pegasus")]
    pub(crate) cluster_name: String,
    /// Make it the first member of a group of metas, under this number.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) member: Option<u64>,
    /// Make it a further member of the group of this cluster, 32 hexadecimal digits. It takes part once the group has added
    /// it (`pegasus meta add`).
    #[arg(long, value_name = "CLUSTER ID", requires = "member", value_parser = cluster_id)]
    pub(crate) join: Option<ClusterId>,
    #[command(flatten)]
    pub(crate) zookeeper: ZooKeeperArguments,
}

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// Where meta keeps its state.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Address to listen on; port 0 takes a free one. Default 127.0.0.1:34601.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// File (mode 0600) with the secret that nodes prove to know. Without it nodes join from loopback only.
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// Make a new cluster if the directory holds none.
    #[arg(long)]
    init_if_empty: bool,
    /// How long after it has lost a member a partition gets a new one, unless a copy comes back. Default 60000.
    #[arg(long, value_name = "MILLISECONDS")]
    heal_delay_ms: Option<u64>,
    /// Spread primaries evenly again after failovers and returns of nodes. Default true.
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set)]
    balance_primaries: Option<bool>,
    /// How long nothing must have happened before that begins. Default 60000.
    #[arg(long, value_name = "MILLISECONDS")]
    balance_delay_ms: Option<u64>,
    /// Where other members of its group connect, if it is in one. Default 127.0.0.1:35601.
    #[arg(long, value_name = "ADDRESS")]
    group_listen: Option<SocketAddr>,
    /// How they reach it, if not as it listens.
    #[arg(long, value_name = "ADDRESS")]
    group_advertise: Option<SocketAddr>,
    /// How clients and nodes reach this member, if not as it listens.
    #[arg(long, value_name = "ADDRESS")]
    group_client_advertise: Option<SocketAddr>,
    #[command(flatten)]
    zookeeper: ZooKeeperArguments,
    /// A place for backups: NAME=URL, with a URL such as file:///srv/backups. May be repeated; what needs more than a URL
    /// goes into the file, as section backup.targets.NAME.
    #[arg(long = "backup-target", value_name = "NAME=URL", value_parser = backup_target)]
    backup_targets: Vec<(String, String)>,
    /// TOML file with a section `group` (`listen`, `advertise`, `client_advertise`), `dir`, `listen`, `token_file`, `cluster_name`, `connections_max` and a section `heal` with
    /// `heal_delay_ms`, `learners_per_node_max`, `learners_max`, `returning_per_node_max`, `slow_removals_per_second_max`,
    /// `balance_primaries`, `balance_delay_ms`; the command line wins.
    #[arg(long)]
    config: Option<PathBuf>,
}

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    dir: Option<PathBuf>,
    listen: Option<SocketAddr>,
    token_file: Option<PathBuf>,
    cluster_name: Option<String>,
    connections_max: Option<usize>,
    #[serde(default)]
    heal: HealOptions,
    #[serde(default)]
    backup: BackupOptions,
    #[serde(default)]
    logs: LogsConfig,
    #[serde(default)]
    group: GroupFile,
    #[serde(default)]
    zookeeper: ZooKeeperFile,
}

/// Its section `group`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupFile {
    listen: Option<SocketAddr>,
    advertise: Option<SocketAddr>,
    client_advertise: Option<SocketAddr>,
}

/// Where a member of a group is.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct GroupSettings {
    pub(crate) listen: SocketAddr,
    /// As others reach it.
    pub(crate) advertise: SocketAddr,
    pub(crate) client_advertise: SocketAddr,
}

impl GroupSettings {
    /// Others have to reach it: no port and no address that is found out later.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let named = [
            ("group.advertise", self.advertise),
            ("group.client_advertise", self.client_advertise),
        ];
        for (name, address) in named {
            if address.port() == 0 || address.ip().is_unspecified() {
                bail!(
                    "{name} = {address}: a member of a group says where others reach it, by ip:port"
                );
            }
        }
        Ok(())
    }
}

/// What holds after file and command line were read.
#[derive(Debug, Serialize)]
pub(crate) struct Settings {
    pub(crate) dir: PathBuf,
    pub(crate) listen: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_file: Option<PathBuf>,
    pub(crate) cluster_name: String,
    pub(crate) connections_max: usize,
    pub(crate) init_if_empty: bool,
    pub(crate) heal: HealOptions,
    pub(crate) backup: BackupOptions,
    pub(crate) logs: LogsConfig,
    /// Of a directory that is a member's.
    pub(crate) group: GroupSettings,
    /// The state is there, and not in the directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) zookeeper: Option<ZooKeeperSettings>,
}

impl Settings {
    /// Reads the configuration file, if one is named, and puts the command line over it.
    pub(crate) fn read(arguments: RunArguments) -> anyhow::Result<Self> {
        let file = match &arguments.config {
            None => File::default(),
            Some(path) => {
                let text =
                    std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
                toml::from_str(&text).with_context(|| path.display().to_string())?
            }
        };
        let dir = arguments
            .dir
            .or(file.dir)
            .context("where is its state? name it by --dir or by dir in the file")?;
        let connections_max = file.connections_max.unwrap_or(CONNECTIONS_MAX);
        if !(1..=1_000_000).contains(&connections_max) {
            bail!("connections_max = {connections_max} is not 1 to 1000000");
        }
        let mut heal = file.heal;
        heal.heal_delay_ms = arguments.heal_delay_ms.unwrap_or(heal.heal_delay_ms);
        heal.balance_primaries = arguments
            .balance_primaries
            .unwrap_or(heal.balance_primaries);
        heal.balance_delay_ms = arguments.balance_delay_ms.unwrap_or(heal.balance_delay_ms);
        heal.check().map_err(anyhow::Error::msg)?;
        let mut backup = file.backup;
        for (name, url) in &arguments.backup_targets {
            let target = TargetConfig::of_url(url);
            backup.targets.insert(name.clone(), target);
        }
        backup.check().map_err(anyhow::Error::msg)?;
        let logs = file.logs;
        let named = |error| anyhow::Error::msg(format!("logs: {error}"));
        logs.check().map_err(named)?;
        let default_listen = SocketAddr::from(([127, 0, 0, 1], 34601));
        let listen = arguments.listen.or(file.listen).unwrap_or(default_listen);
        let default_listen = SocketAddr::from(([127, 0, 0, 1], 35601));
        let group_listen = arguments.group_listen.or(file.group.listen);
        let group_listen = group_listen.unwrap_or(default_listen);
        let advertise = arguments.group_advertise.or(file.group.advertise);
        let client = arguments.group_client_advertise;
        let client = client.or(file.group.client_advertise);
        Ok(Self {
            dir,
            heal,
            backup,
            logs,
            group: GroupSettings {
                listen: group_listen,
                advertise: advertise.unwrap_or(group_listen),
                client_advertise: client.unwrap_or(listen),
            },
            zookeeper: arguments.zookeeper.settings(file.zookeeper, listen)?,
            listen,
            token_file: arguments.token_file.or(file.token_file),
            cluster_name: file.cluster_name.unwrap_or_else(|| "pegasus".to_owned()),
            connections_max,
            init_if_empty: arguments.init_if_empty,
        })
    }

    /// All of them, as the file would have them.
    pub(crate) fn shown(&self) -> anyhow::Result<String> {
        toml::to_string(self).context("settings as TOML")
    }

    /// The secret, without white space around it; empty without a file.
    pub(crate) fn token(&self) -> anyhow::Result<Vec<u8>> {
        read_token(self.token_file.as_ref())
    }
}

fn read_token(path: Option<&PathBuf>) -> anyhow::Result<Vec<u8>> {
    let Some(path) = path else {
        return Ok(Vec::new());
    };
    let named = || path.display().to_string();
    let mode = std::fs::metadata(path)
        .with_context(named)?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        bail!(
            "{}: others may read this secret (mode {:03o}); chmod 0600 it",
            named(),
            mode & 0o777
        );
    }
    let bytes = std::fs::read(path).with_context(named)?;
    let token = bytes.trim_ascii();
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
        bail!("{}: a token has 1 to {TOKEN_BYTES_MAX} bytes", named());
    }
    Ok(token.to_vec())
}

//! The command line and the configuration file.

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};
use pegasus_logs::LogsConfig;
use pegasus_meta::recover::NamedTable;
use pegasus_meta::state::{ClusterId, HealOptions};
use pegasus_replication::ids::{PartitionId, TableId};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

const CONNECTIONS_MAX: usize = 4096;
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
}

impl RecoverArguments {
    /// The secret, as in [`Settings::token`].
    pub(crate) fn token(&self) -> anyhow::Result<Vec<u8>> {
        read_token(self.token_file.as_ref())
    }
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
    /// TOML file with `dir`, `listen`, `token_file`, `cluster_name`, `connections_max` and a section `heal` with
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
    logs: LogsConfig,
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
    pub(crate) logs: LogsConfig,
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
        let logs = file.logs;
        let named = |error| anyhow::Error::msg(format!("logs: {error}"));
        logs.check().map_err(named)?;
        let default_listen = SocketAddr::from(([127, 0, 0, 1], 34601));
        Ok(Self {
            dir,
            heal,
            logs,
            listen: arguments.listen.or(file.listen).unwrap_or(default_listen),
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

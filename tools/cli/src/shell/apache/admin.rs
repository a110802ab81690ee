//! Verbs on tables, nodes and the cluster.

use super::facts::Facts;
use super::{Action, Context, Told};
use crate::exit::Failed;
use crate::shell::argv::Argv;
use clap::{Args, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
#[command(rename_all = "snake_case")]
pub(super) enum Verb {
    /// What there is to know of the cluster
    ClusterInfo(Shown),
    /// All tables
    #[command(visible_alias = "list_tables")]
    Ls {
        /// Those that were dropped, too
        #[arg(long, short)]
        all: bool,
        /// Taken, and without effect: what ails a table is always said
        #[arg(long, short)]
        detailed: bool,
        /// Only tables in this state
        #[arg(long, short, value_name = "STATE")]
        status: Option<TableStatus>,
        /// Only tables whose name fits
        #[arg(long, short, value_name = "TEXT")]
        pattern: Option<OsString>,
        /// How it fits
        #[arg(long, short, value_name = "TYPE", default_value = "anywhere")]
        match_type: NameMatch,
        #[command(flatten)]
        shown: Shown,
    },
    /// The partitions of a table
    #[command(visible_alias = "table_partitions")]
    App {
        #[command(flatten)]
        app: Named,
        #[command(flatten)]
        shown: Shown,
    },
    /// What a table takes on disk
    AppDisk {
        #[command(flatten)]
        app: Named,
        #[command(flatten)]
        shown: Shown,
    },
    /// Requests of tables, and what they take
    #[command(visible_alias = "table_stat")]
    AppStat {
        /// Only this table, by partition
        #[arg(long, short, value_name = "TABLE")]
        app_name: Option<OsString>,
        /// Taken, and without effect
        #[arg(long, short = 'q')]
        only_qps: bool,
        /// Taken, and without effect
        #[arg(long, short = 'u')]
        only_usage: bool,
        #[command(flatten)]
        shown: Shown,
    },
    /// All nodes
    Nodes {
        /// Taken, and without effect: replicas are always counted
        #[arg(long, short)]
        detailed: bool,
        /// What each core has of memory and disk
        #[arg(long, short = 'u')]
        resource_usage: bool,
        /// What each core does
        #[arg(long, short)]
        qps: bool,
        /// Taken, and without effect
        #[arg(long, short = 'i')]
        sample_interval_ms: bool,
        /// Taken, and without effect: nodes that are gone are marked
        #[arg(long, short, value_name = "STATE")]
        status: Option<String>,
        #[command(flatten)]
        shown: Shown,
    },
    /// Create a table
    Create {
        #[arg(value_name = "TABLE")]
        app_name: OsString,
        #[arg(long, short, default_value_t = 4)]
        partition_count: u32,
        #[arg(long, short, default_value_t = 3)]
        replica_count: u32,
        /// Fail if it exists; without, one that is the same will do
        #[arg(long, short)]
        fail_if_exist: bool,
        /// Settings: k1=v1,k2=v2
        #[arg(long, short, value_delimiter = ',', value_name = "KEY=VALUE,..")]
        envs: Vec<OsString>,
    },
    /// Drop a table
    Drop {
        #[arg(value_name = "TABLE")]
        app_name: OsString,
        /// How long it can be recalled [default: 7 days]
        #[arg(long, short, value_name = "SECONDS")]
        reserve_seconds: Option<u64>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Bring a dropped table back
    Recall {
        #[arg(value_name = "NUMBER")]
        app_id: u32,
        #[arg(value_name = "TABLE")]
        new_app_name: Option<OsString>,
    },
    /// Give a table another name
    Rename {
        old_app_name: OsString,
        new_app_name: OsString,
    },
    /// Settings of the table in use
    GetAppEnvs {
        #[command(flatten)]
        shown: Shown,
    },
    /// Make settings of the table in use
    SetAppEnvs {
        #[arg(required = true, value_name = "KEY VALUE", allow_hyphen_values = true)]
        envs: Vec<OsString>,
    },
    /// Take settings of the table in use away
    DelAppEnvs {
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<OsString>,
    },
    /// Take away all settings of the table in use, or those below a prefix
    ClearAppEnvs {
        #[arg(long, short)]
        all: bool,
        #[arg(long, short, conflicts_with = "all")]
        prefix: Option<OsString>,
    },
    /// How many copies the partitions of a table have
    GetReplicaCount { app_name: OsString },
    /// Change it
    SetReplicaCount {
        app_name: OsString,
        replica_count: u32,
    },
    /// How much meta does by itself
    #[command(visible_alias = "meta_level")]
    GetMetaLevel,
    /// Set it: stopped, blind, freezed, steady or lively
    SetMetaLevel { level: OsString },
    /// Move a primary or a replica
    #[command(after_help = "\
Behind -g it is Apache's command; without it is `pegasus balance`.

  balance -g 2.5 -p move_pri -f 10.0.0.1:34801 -t 10.0.0.2:34801")]
    Balance {
        /// Table and partition, such as 2.5
        #[arg(long, short)]
        gpid: Gpid,
        #[arg(long = "type", short = 'p', value_name = "TYPE")]
        kind: BalanceType,
        /// The core that has it
        #[arg(long, short, value_name = "ADDR")]
        from: String,
        /// The core that gets it
        #[arg(long, short, value_name = "ADDR")]
        to: String,
    },
    /// Make another member of a partition the primary
    Propose {
        /// Taken, and without effect
        #[arg(long, short)]
        force: bool,
        /// Table and partition, such as 2.5
        #[arg(long, short)]
        gpid: Gpid,
        /// UPGRADE_TO_PRIMARY or ASSIGN_PRIMARY; members come and go by themselves
        #[arg(long = "type", short = 'p', value_name = "TYPE")]
        kind: String,
        /// The core that carries it out
        #[arg(long, short, value_name = "ADDR")]
        target: Option<String>,
        /// The core that it is about
        #[arg(long, short, value_name = "ADDR")]
        node: String,
    },
    /// Ask servers by the name of a command; `remote_command help` lists them
    RemoteCommand {
        #[command(flatten)]
        servers: Servers,
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Versions of all servers
    ServerInfo(Servers),
    /// How all servers are
    ServerStat(Servers),
    /// What is wrong with partitions, and what to do
    DddDiagnose {
        /// Taken, and without effect: all of them are looked at
        #[arg(long, short)]
        gpid: Option<String>,
        /// Taken, and without effect: meta mends what can be mended
        #[arg(long, short)]
        diagnose: bool,
        /// Taken, and without effect
        #[arg(long, short)]
        auto_diagnose: bool,
        /// Taken, and without effect: nothing is asked
        #[arg(long, short)]
        skip_prompt: bool,
        /// Where it goes
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// The keys that clients ask for most; they are always counted
    DetectHotkey {
        /// Only of this table
        #[arg(long, short, value_name = "TABLE")]
        app_id: Option<OsString>,
        /// Taken, and without effect
        #[arg(long, short, value_name = "INDEX")]
        partition_index: Option<u32>,
        /// Taken, and without effect: both are shown
        #[arg(long, short = 't', value_name = "read|write")]
        hotkey_type: Option<String>,
        /// Taken, and without effect: counting needs no start
        #[arg(long, short = 'c', value_name = "start|stop|query")]
        detect_action: Option<String>,
        /// Taken, and without effect
        #[arg(long, short = 'd', value_name = "ADDR")]
        address: Option<String>,
    },
    /// Rewrite the files of a table without what is overwritten or has expired
    #[command(visible_alias = "manual_compaction")]
    ManualCompact {
        #[command(flatten)]
        app: Named,
    },
    /// How far such rewriting is
    QueryCompact,
}

/// How the answer is shown.
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub(super) struct Shown {
    /// As JSON
    #[arg(long, short)]
    json: bool,
    /// Taken, and without effect: nodes have numbers
    #[arg(long, short)]
    resolve_ip: bool,
    /// Where it goes
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub(super) struct Named {
    /// [default: the one in use]
    #[arg(value_name = "TABLE")]
    app_name: Option<OsString>,
    /// Taken, and without effect
    #[arg(long, short)]
    detailed: bool,
}

/// Which servers are asked.
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub(super) struct Servers {
    /// Servers of this kind
    #[arg(long = "type", short = 't', value_name = "TYPE", default_value = "all")]
    kind: ServerType,
    /// Only these
    #[arg(long, short = 'l', value_name = "ADDR,ADDR..")]
    servers: Option<OsString>,
    /// Taken, and without effect
    #[arg(long, short)]
    resolve_ip: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum ServerType {
    All,
    MetaServer,
    ReplicaServer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum TableStatus {
    All,
    Available,
    Creating,
    Dropping,
    Dropped,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum NameMatch {
    Anywhere,
    Prefix,
    Postfix,
    Exact,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum BalanceType {
    MovePri,
    CopyPri,
    CopySec,
}

/// A partition by number of its table and its index: `2.5`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gpid {
    table: u32,
    partition: u32,
}

impl std::str::FromStr for Gpid {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('.');
        parts
            .and_then(|(table, partition)| {
                Some(Self {
                    table: table.parse().ok()?,
                    partition: partition.parse().ok()?,
                })
            })
            .ok_or("a partition is NUMBER.INDEX, such as 2.5")
    }
}

impl Verb {
    /// Whether numbers and addresses have to be looked up first.
    pub(super) const fn needs_facts(&self) -> bool {
        matches!(self, Self::Balance { .. } | Self::Propose { .. })
    }

    pub(super) fn translate(self, context: &Context<'_>) -> Told {
        let argv = match self {
            Self::ClusterInfo(shown) => return Ok(shown.give(Argv::new("cluster info"))),
            Self::Ls {
                all,
                detailed: _,
                status,
                pattern,
                match_type,
                shown,
            } => return Ok(list(all, status, pattern, match_type, shown)),
            Self::App { app, shown } => {
                return Ok(shown.give(app.give("table show", context)?));
            }
            Self::AppDisk { app, shown } => {
                return Ok(shown.give(app.give("table disk", context)?));
            }
            Self::AppStat {
                app_name, shown, ..
            } => return Ok(shown.give(Argv::new("table stat").all(app_name))),
            Self::Nodes {
                resource_usage,
                qps,
                shown,
                ..
            } => {
                let verb = match resource_usage || qps {
                    true => "core list",
                    false => "node list",
                };
                return Ok(shown.give(Argv::new(verb)));
            }
            Self::Create {
                app_name,
                partition_count,
                replica_count,
                fail_if_exist,
                envs,
            } => {
                let create = Argv::new("table create")
                    .number("--partitions", Some(partition_count))
                    .number("--replicas", Some(replica_count))
                    .flag("--if-missing", !fail_if_exist)
                    .positional(app_name.clone());
                let set = (!envs.is_empty())
                    .then(|| Argv::new("table env set").positional(app_name).all(envs));
                return Ok(Action::all([create].into_iter().chain(set), None));
            }
            Self::Drop {
                app_name,
                reserve_seconds,
                yes,
            } => Argv::new("table drop")
                .number("--reserve", reserve_seconds)
                .flag("--yes", yes)
                .positional(app_name),
            Self::Recall {
                app_id,
                new_app_name,
            } => Argv::new("table recall")
                .option("--name", new_app_name)
                .positional(app_id.to_string()),
            Self::Rename {
                old_app_name,
                new_app_name,
            } => Argv::new("table rename").all([old_app_name, new_app_name]),
            Self::GetAppEnvs { shown } => {
                let argv = Argv::new("table env list").positional(context.table()?);
                return Ok(shown.give(argv));
            }
            Self::SetAppEnvs { envs } => Argv::new("table env set")
                .positional(context.table()?)
                .all(pairs(&envs)?),
            Self::DelAppEnvs { keys } => Argv::new("table env delete")
                .positional(context.table()?)
                .all(keys),
            Self::ClearAppEnvs { all, prefix } => Argv::new("table env clear")
                .flag("--all", all)
                .option("--prefix", prefix)
                .positional(context.table()?),
            Self::GetReplicaCount { app_name } => Argv::new("table show").positional(app_name),
            Self::SetReplicaCount {
                app_name,
                replica_count,
            } => Argv::new("table set-replicas")
                .positional(app_name)
                .positional(replica_count.to_string()),
            Self::GetMetaLevel => Argv::new("cluster level"),
            Self::SetMetaLevel { level } => Argv::new("cluster level").positional(level),
            Self::Balance {
                gpid,
                kind,
                from,
                to,
            } => moved(context.facts(), gpid, kind, &from, &to)?,
            Self::Propose {
                gpid, kind, node, ..
            } => proposed(context.facts(), gpid, &kind, &node)?,
            Self::RemoteCommand { servers, command } => {
                servers.give(Argv::new("remote-command")).all(command)
            }
            Self::ServerInfo(servers) => servers
                .give(Argv::new("remote-command"))
                .positional("server-info"),
            Self::ServerStat(servers) => servers
                .give(Argv::new("remote-command"))
                .positional("server-stat"),
            Self::DddDiagnose { output, .. } => {
                return Ok(Action::run_to(Argv::new("status"), output));
            }
            Self::DetectHotkey { app_id, .. } => Argv::new("hotkeys").option("--table", app_id),
            Self::ManualCompact { app } => app.give("compact start", context)?,
            Self::QueryCompact => Argv::new("compact status"),
        };
        Ok(Action::run(argv))
    }
}

fn list(
    all: bool,
    status: Option<TableStatus>,
    pattern: Option<OsString>,
    match_type: NameMatch,
    shown: Shown,
) -> Action {
    let option = match match_type {
        NameMatch::Anywhere => "--name-contains",
        NameMatch::Prefix => "--name-prefix",
        NameMatch::Postfix => "--name-postfix",
        NameMatch::Exact => "--name",
    };
    let both = all || status == Some(TableStatus::All);
    let dropped = status == Some(TableStatus::Dropped);
    let argv = |dropped: bool| {
        Argv::new("table list")
            .flag("--dropped", dropped)
            .flag("--json", shown.json)
            .option(option, pattern.as_ref())
    };
    let second = both.then(|| argv(true));
    let lines = [argv(dropped && !both)].into_iter().chain(second);
    Action::all(lines, shown.output)
}

/// `key value key value` as `key=value` each.
fn pairs(words: &[OsString]) -> anyhow::Result<Vec<OsString>> {
    let (pairs, rest) = words.as_chunks::<2>();
    if !rest.is_empty() {
        let sentence = "set_app_envs: a value is missing for the last key";
        return Err(Failed::usage(sentence));
    }
    let pair = |[key, value]: &[OsString; 2]| {
        let mut pair = key.clone();
        pair.push("=");
        pair.push(value);
        pair
    };
    Ok(pairs.iter().map(pair).collect())
}

fn moved(
    facts: &Facts,
    gpid: Gpid,
    kind: BalanceType,
    from: &str,
    to: &str,
) -> anyhow::Result<Argv> {
    let table = facts.table(gpid.table)?;
    let (from, to) = (facts.core(from)?, facts.core(to)?);
    let argv = Argv::new("table move");
    let argv = match kind {
        BalanceType::MovePri => argv.option("--primary-to", Some(to)),
        BalanceType::CopyPri | BalanceType::CopySec => argv
            .option("--replica-from", Some(from))
            .option("--replica-to", Some(to)),
    };
    Ok(argv
        .positional(table)
        .positional(gpid.partition.to_string()))
}

fn proposed(facts: &Facts, gpid: Gpid, kind: &str, node: &str) -> anyhow::Result<Argv> {
    let name = kind.to_ascii_uppercase();
    let name = name.strip_prefix("CT_").unwrap_or(&name);
    if !matches!(name, "UPGRADE_TO_PRIMARY" | "ASSIGN_PRIMARY") {
        return Err(Failed::usage(format!(
            "propose -p {kind}: members of a partition come and go by themselves; UPGRADE_TO_PRIMARY is taken, \
             `table move` moves a replica, `node drain` empties a node"
        )));
    }
    Ok(Argv::new("table move")
        .option("--primary-to", Some(facts.core(node)?))
        .positional(facts.table(gpid.table)?)
        .positional(gpid.partition.to_string()))
}

impl Shown {
    fn give(self, argv: Argv) -> Action {
        Action::run_to(argv.flag("--json", self.json), self.output)
    }
}

impl Named {
    fn give(self, verb: &str, context: &Context<'_>) -> anyhow::Result<Argv> {
        let name = match self.app_name {
            Some(name) => name,
            None => context.table()?.into(),
        };
        Ok(Argv::new(verb).positional(name))
    }
}

impl Servers {
    fn give(self, argv: Argv) -> Argv {
        let on = match self.kind {
            ServerType::All => None,
            ServerType::MetaServer => Some("meta"),
            ServerType::ReplicaServer => Some("nodes"),
        };
        argv.option("--on", on).option("--address", self.servers)
    }
}

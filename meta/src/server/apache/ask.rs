//! What is asked for: a command, a question, or something that is answered at once.

use super::{backup, quoted};
use crate::server::backup::RestoreRequest;
use crate::state::{Command, CreateTable, EnvChange, Level};
use pegasus_replication::ids::TableId;
use pegasus_thrift::meta::{
    AppEnvOperation, AppStatus, CreateAppRequest, DropAppRequest, MetaFunctionLevel, NodeStatus,
    PatternMatchType, QueryCfgRequest, RecallAppRequest, Request, SetMaxReplicaCountRequest,
    UpdateAppEnvRequest,
};
use pegasus_thrift::{Call, DecodeError, ErrorCode, Rpc, RpcKind};
use std::collections::BTreeMap;

/// Replicas that Apache Pegasus lets a table have at most.
const REPLICA_COUNT_MAX: i32 = 5;

/// A request, understood.
#[derive(Debug)]
pub(in crate::server) enum Ask {
    /// Changes something.
    Order(Command),
    /// A table is to be made from a backup, which has to be looked at first.
    Restore(Box<RestoreRequest>),
    /// Only reads what is durable.
    Question(Question),
    /// A remote command with its arguments.
    Remote {
        command: String,
        arguments: Vec<String>,
    },
    /// Security is asked about; there is none.
    Negotiate,
    /// Answered in the struct of the request.
    Refused { err: ErrorCode, hint: String },
    /// Nothing of this name is served here.
    Unknown,
    /// One of the requests that no client expects an answer to.
    Silent,
}

/// What is to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) enum Question {
    /// Where partitions are.
    Config {
        name: String,
        /// Empty: all.
        indices: Vec<i32>,
    },
    ListApps {
        status: AppStatus,
        pattern: Option<String>,
        match_type: Option<PatternMatchType>,
    },
    ListNodes {
        status: NodeStatus,
    },
    ClusterInfo,
    /// How many replicas the table wants.
    ReplicaCount {
        name: String,
    },
    /// How far backups of a table are; all of them, or one.
    BackupStatus {
        table: TableId,
        backup: Option<u64>,
    },
    /// No name: all. Of each so many backups.
    BackupPolicies {
        names: Vec<String>,
        count: usize,
    },
    /// How far a table is that is being made from a backup.
    RestoreStatus {
        table: i32,
    },
}

impl Question {
    /// What it is asked by.
    pub(in crate::server) const fn rpc(&self) -> Rpc {
        match self {
            Self::Config { .. } => Rpc::QueryPartitionConfigByIndex,
            Self::ListApps { .. } => Rpc::ListApps,
            Self::ListNodes { .. } => Rpc::ListNodes,
            Self::ClusterInfo => Rpc::ClusterInfo,
            Self::ReplicaCount { .. } => Rpc::GetMaxReplicaCount,
            Self::BackupStatus { .. } => Rpc::QueryBackupStatus,
            Self::BackupPolicies { .. } => Rpc::QueryBackupPolicy,
            Self::RestoreStatus { .. } => Rpc::QueryRestoreStatus,
        }
    }
}

/// # Errors
/// The arguments are not those of the request.
pub(in crate::server) fn read(call: &Call<'_>, now_ms: u64) -> Result<Ask, DecodeError> {
    let Some(request) = Request::of(call) else {
        return Ok(call.rpc.map_or(Ask::Unknown, not_built));
    };
    Ok(match request? {
        Request::QueryConfig(it) => query_config(&it),
        Request::CreateApp(it) => create(&it, now_ms),
        Request::DropApp(it) => Ask::Order(drop_table(&it, now_ms)),
        Request::RecallApp(it) => recall(&it, now_ms),
        Request::RenameApp(it) => Ask::Order(Command::RenameTable {
            from: it.old_app_name.to_owned(),
            to: it.new_app_name.to_owned(),
            now_ms,
        }),
        Request::ListApps(it) => Ask::Question(Question::ListApps {
            status: it.status,
            pattern: it.app_name_pattern.map(str::to_owned),
            match_type: it.match_type,
        }),
        Request::ListNodes(it) => Ask::Question(Question::ListNodes { status: it.status }),
        Request::ClusterInfo(_) => Ask::Question(Question::ClusterInfo),
        Request::UpdateAppEnv(it) => update_envs(&it, now_ms),
        Request::GetMaxReplicaCount(it) => Ask::Question(Question::ReplicaCount {
            name: quoted(it.app_name),
        }),
        Request::SetMaxReplicaCount(it) => set_replica_count(&it, now_ms),
        Request::ControlMeta(it) => control(it.level, now_ms),
        Request::StartBackupApp(it) => backup::start(&it, now_ms),
        Request::QueryBackupStatus(it) => backup::status_of(&it),
        Request::AddBackupPolicy(it) => backup::add_policy(&it, now_ms),
        Request::ModifyBackupPolicy(it) => backup::modify_policy(&it, now_ms),
        Request::QueryBackupPolicy(it) => backup::policies_of(&it),
        Request::StartRestore(it) => backup::restore(&it),
        Request::QueryRestoreStatus(it) => Ask::Question(Question::RestoreStatus {
            table: it.restore_app_id,
        }),
        Request::Command(it) => Ask::Remote {
            command: it.cmd.to_owned(),
            arguments: it.arguments.iter().map(|&it| it.to_owned()).collect(),
        },
        Request::Negotiate(_) => Ask::Negotiate,
    })
}

fn not_built(rpc: Rpc) -> Ask {
    if !rpc.is_answered() {
        return Ask::Silent;
    }
    match rpc.kind() {
        RpcKind::Meta if rpc == Rpc::StartRecovery => Ask::Refused {
            err: ErrorCode::ServiceAlreadyRunning,
            hint: "meta has its state; one that has lost it is rebuilt by `pegasus-meta recover`"
                .to_owned(),
        },
        RpcKind::Meta => Ask::Refused {
            err: ErrorCode::NotImplemented,
            hint: format!("{} is not supported by this server", rpc.name()),
        },
        _ => Ask::Unknown,
    }
}

fn query_config(it: &QueryCfgRequest<'_>) -> Ask {
    Ask::Question(Question::Config {
        name: it.app_name.to_owned(),
        indices: it.partition_indices.clone(),
    })
}

fn create(it: &CreateAppRequest<'_>, now_ms: u64) -> Ask {
    let options = &it.options;
    let replica_count = Some(options.replica_count)
        .filter(|count| (1..=REPLICA_COUNT_MAX).contains(count))
        .and_then(|count| u8::try_from(count).ok());
    let (Some(replica_count), Ok(partition_count)) =
        (replica_count, u32::try_from(options.partition_count))
    else {
        return Ask::Refused {
            err: ErrorCode::InvalidParameters,
            hint: String::new(),
        };
    };
    Ask::Order(Command::CreateTable(CreateTable {
        name: it.app_name.to_owned(),
        partition_count,
        replica_count,
        allow_degraded: false,
        may_exist: options.success_if_exist,
        envs: owned_map(&options.envs.0),
        now_ms,
    }))
}

fn owned_map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |&(key, value): &(&str, &str)| (key.to_owned(), value.to_owned());
    pairs.iter().map(owned).collect()
}

/// Missing tables are no error for some; that is told when the outcome is.
fn drop_table(it: &DropAppRequest<'_>, now_ms: u64) -> Command {
    let reserve = it.options.reserve_seconds.filter(|&seconds| seconds > 0);
    Command::DropTable {
        name: it.app_name.to_owned(),
        keep_seconds: reserve.and_then(|seconds| u64::try_from(seconds).ok()),
        now_ms,
    }
}

fn recall(it: &RecallAppRequest<'_>, now_ms: u64) -> Ask {
    let Ok(table) = u32::try_from(it.app_id) else {
        return Ask::Refused {
            err: ErrorCode::AppNotExist,
            hint: String::new(),
        };
    };
    Ask::Order(Command::RecallTable {
        table: TableId(table),
        name: Some(it.new_app_name)
            .filter(|name| !name.is_empty())
            .map(str::to_owned),
        now_ms,
    })
}

fn update_envs(it: &UpdateAppEnvRequest<'_>, now_ms: u64) -> Ask {
    let keys = it.keys.as_deref().unwrap_or_default();
    let values = it.values.as_deref().unwrap_or_default();
    let refused = |hint: &str| Ask::Refused {
        err: ErrorCode::InvalidParameters,
        hint: hint.to_owned(),
    };
    let change = match it.op {
        AppEnvOperation::Set if keys.len() != values.len() || keys.is_empty() => {
            return refused("keys and values are as many as each other, and at least one");
        }
        AppEnvOperation::Set => {
            let pairs = keys.iter().zip(values);
            EnvChange::Set(
                pairs
                    .map(|(&key, &value)| (key.to_owned(), value.to_owned()))
                    .collect(),
            )
        }
        AppEnvOperation::Del if keys.is_empty() => return refused("no key is named"),
        AppEnvOperation::Del => EnvChange::Delete(keys.iter().map(|&key| key.to_owned()).collect()),
        AppEnvOperation::Clear => match it.clear_prefix {
            Some(prefix) => EnvChange::Clear {
                prefix: prefix.to_owned(),
            },
            None => return refused("no prefix is named; an empty one clears everything"),
        },
        AppEnvOperation::Invalid | AppEnvOperation::Other(_) => {
            return refused("the operation is none of set, delete and clear");
        }
    };
    Ask::Order(Command::ChangeEnvs {
        table: quoted(it.app_name),
        change,
        now_ms,
    })
}

fn set_replica_count(it: &SetMaxReplicaCountRequest<'_>, now_ms: u64) -> Ask {
    let wanted = Some(it.max_replica_count)
        .filter(|count| (1..=REPLICA_COUNT_MAX).contains(count))
        .and_then(|count| u8::try_from(count).ok());
    let Some(replica_count) = wanted else {
        return Ask::Refused {
            err: ErrorCode::InvalidParameters,
            hint: format!("a replica count is 1 to {REPLICA_COUNT_MAX}"),
        };
    };
    Ask::Order(Command::SetReplicas {
        table: quoted(it.app_name),
        replica_count,
        now_ms,
    })
}

fn control(level: MetaFunctionLevel, now_ms: u64) -> Ask {
    let level = match level {
        MetaFunctionLevel::Invalid => None,
        wanted => {
            let number = u16::try_from(wanted.number()).unwrap_or(0);
            let Some(level) = Level::from_number(number) else {
                return Ask::Refused {
                    err: ErrorCode::InvalidParameters,
                    hint: String::new(),
                };
            };
            Some(level)
        }
    };
    Ask::Order(Command::SetLevel { level, now_ms })
}

//! What connections ask of the decider.

use super::apache::{self, Caller};
use super::backup::{BackupOptions, BackupQuery, Errand};
use super::outbox::Outbox;
use crate::leadership::MemberChange;
use crate::state::{BackupRefusal, Command, Node, Refusal, Wanted};
use pegasus_fbs::code::Code;
use pegasus_fbs::frame::Header;
use pegasus_replication::ids::{NodeId, NodeIncarnation};
use pegasus_thrift::Rpc;
use std::sync::Arc;
use tokio::sync::oneshot;

/// One errand.
#[derive(Debug)]
pub(super) enum Letter {
    /// Changes something, or may.
    Command {
        command: Command,
        reply: Reply,
    },
    /// Only reads.
    Query {
        query: Query,
        header: Header,
        outbox: Outbox,
    },
    /// A question of one of Apache's clients.
    Apache {
        question: apache::Question,
        caller: Caller,
    },
    /// A request by HTTP. Whoever waits for the answer sends it.
    Http {
        request: pegasus_http::Request,
        done: oneshot::Sender<pegasus_http::Response>,
    },
    /// An operator wants the members of the group to be others.
    ChangeMetas {
        change: MemberChange,
        header: Header,
        outbox: Outbox,
    },
    /// What is to be done at the targets of backups.
    Errands(oneshot::Sender<Vec<Errand>>),
    /// How the cluster is called; a meta that does not lead says who does.
    ClusterName(oneshot::Sender<Result<String, Failed>>),
    /// Who leads may have changed.
    Look,
    Stop,
}

/// Who waits for a command's outcome.
#[derive(Debug)]
pub(super) enum Reply {
    Nobody,
    /// An operator.
    Frame {
        header: Header,
        outbox: Outbox,
    },
    /// One of Apache's tools.
    Apache {
        rpc: Rpc,
        /// A table that is not there is as good as dropped.
        forgives_missing: bool,
        caller: Caller,
    },
    /// A node's heartbeat or proposal, over the connection of this session.
    Session {
        header: Header,
        session: Session,
    },
    /// A registration, before its proof.
    Number(oneshot::Sender<Result<NodeId, Failed>>),
    /// A registration, after its proof: from now on pushes go to this session.
    Join {
        session: Session,
        done: oneshot::Sender<Result<(), Failed>>,
    },
}

/// One registered connection of a node.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) node: NodeId,
    pub(super) incarnation: NodeIncarnation,
    /// Unique in this process.
    pub(super) number: u64,
    pub(super) outbox: Outbox,
}

/// What is to be shown.
#[derive(Debug)]
pub(super) enum Query {
    Route {
        name: String,
    },
    /// Those that are there, or those that are dropped and kept.
    ListTables {
        dropped: bool,
    },
    ShowTable {
        name: String,
    },
    ShowEnvs {
        name: String,
    },
    ShowCluster,
    ShowDrain {
        node: NodeId,
    },
    /// How balancing stands, or what would be moved now.
    ShowBalance {
        plan: Option<Wanted>,
    },
    ListNodes,
    /// Backups, policies and restores, and the targets that are configured.
    Backup {
        query: BackupQuery,
        options: Arc<BackupOptions>,
    },
    /// Whether a node could join; asked before it is given a number or a proof.
    MayJoin {
        node: Box<Node>,
        answer: oneshot::Sender<Result<(), Failed>>,
    },
}

/// A failure for the asker.
#[derive(Clone, Debug)]
pub(super) struct Failed {
    pub(super) code: Code,
    pub(super) message: String,
    /// `ip:port` of the meta to ask instead; empty = nobody is known, or none would say otherwise.
    pub(super) leader: String,
}

impl Failed {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            leader: String::new(),
        }
    }

    /// This meta does not lead.
    pub(super) fn not_leading(leader: Option<&str>) -> Self {
        let message = match leader {
            Some(leader) => format!("this meta does not lead; {leader} does"),
            None => "this meta does not lead, and knows nobody who does".to_owned(),
        };
        Self {
            leader: leader.unwrap_or_default().to_owned(),
            ..Self::new(Code::NotPrimary, message)
        }
    }
}

impl From<&Refusal> for Failed {
    fn from(refusal: &Refusal) -> Self {
        let code = match refusal {
            Refusal::TableExists(_) | Refusal::TableDiffers(_) => Code::AlreadyExists,
            Refusal::UnknownTable(_) | Refusal::NoSuchTable(_) => Code::UnknownTable,
            Refusal::NotDropped(_) => Code::AlreadyExists,
            Refusal::Frozen(_) => Code::NotServing,
            Refusal::NotEnoughNodes { .. } | Refusal::NoNodes => Code::NotEnoughNodes,
            Refusal::TooManyPartitions(_) | Refusal::TooManyTables | Refusal::TooManyNodes(_) => {
                Code::TooLarge
            }
            Refusal::NumbersExhausted => Code::Internal,
            Refusal::Backup(refusal) => code_of(refusal),
            Refusal::Behind(_) => Code::NotServing,
            Refusal::NotJoined { .. } => Code::NotServing,
            Refusal::BadName(_)
            | Refusal::BadEnv(_)
            | Refusal::BadPartitionCount(_)
            | Refusal::BadReplicaCount(_)
            | Refusal::UnknownNode(_)
            | Refusal::StaleIncarnation { .. }
            | Refusal::BadNode { .. }
            | Refusal::UnknownPartition { .. }
            | Refusal::NoSuchNode(_)
            | Refusal::BadLimit(_)
            | Refusal::BadMove { .. }
            | Refusal::BadDecommission { .. }
            | Refusal::Forgotten(_)
            | Refusal::CoresMissing { .. } => Code::InvalidArgument,
        };
        Self::new(code, refusal.to_string())
    }
}

const fn code_of(refusal: &BackupRefusal) -> Code {
    match refusal {
        BackupRefusal::NoSuchBackup(_) | BackupRefusal::NoSuchPolicy(_) => Code::NotFound,
        BackupRefusal::PolicyExists(_) => Code::AlreadyExists,
        BackupRefusal::IsRunning { .. }
        | BackupRefusal::PolicyIsRunning { .. }
        | BackupRefusal::IsBase { .. } => Code::Busy,
        BackupRefusal::IsCreating(_) => Code::Creating,
        BackupRefusal::TooManyPolicies(_) => Code::TooLarge,
        BackupRefusal::BadSite(_)
        | BackupRefusal::NotCancellable { .. }
        | BackupRefusal::NotDeletable { .. }
        | BackupRefusal::BadPolicyName(_)
        | BackupRefusal::BadPolicy { .. } => Code::InvalidArgument,
    }
}

pub(super) const fn tick(now_ms: u64) -> Letter {
    Letter::Command {
        command: Command::Tick { now_ms },
        reply: Reply::Nobody,
    }
}

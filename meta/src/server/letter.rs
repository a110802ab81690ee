//! What connections ask of the decider.

use super::apache::{self, Caller};
use super::outbox::Outbox;
use crate::state::{Command, Node, Refusal, Wanted};
use pegasus_fbs::code::Code;
use pegasus_fbs::frame::Header;
use pegasus_replication::ids::{NodeId, NodeIncarnation};
use pegasus_thrift::Rpc;
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
}

impl Failed {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
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

pub(super) const fn tick(now_ms: u64) -> Letter {
    Letter::Command {
        command: Command::Tick { now_ms },
        reply: Reply::Nobody,
    }
}

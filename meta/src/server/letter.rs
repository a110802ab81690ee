//! What connections ask of the decider.

use super::outbox::Outbox;
use crate::state::{Command, Node, Refusal};
use pegasus_fbs::code::Code;
use pegasus_fbs::frame::Header;
use pegasus_replication::ids::{NodeId, NodeIncarnation};
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
    ListTables,
    ShowTable {
        name: String,
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
            Refusal::TableExists(_) => Code::AlreadyExists,
            Refusal::UnknownTable(_) => Code::UnknownTable,
            Refusal::NotEnoughNodes { .. } | Refusal::NoNodes => Code::NotEnoughNodes,
            Refusal::TooManyPartitions(_) | Refusal::TooManyTables | Refusal::TooManyNodes(_) => {
                Code::TooLarge
            }
            Refusal::NumbersExhausted => Code::Internal,
            Refusal::NotJoined { .. } => Code::NotServing,
            Refusal::BadName(_)
            | Refusal::BadPartitionCount(_)
            | Refusal::BadReplicaCount(_)
            | Refusal::UnknownNode(_)
            | Refusal::StaleIncarnation { .. }
            | Refusal::BadNode { .. }
            | Refusal::UnknownPartition { .. }
            | Refusal::NoSuchNode(_)
            | Refusal::BadMove { .. }
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

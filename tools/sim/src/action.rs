//! What can happen next, and when: the queue that is the run's only clock.

use crate::history::{Expectation, Key, Value};
use crate::network::{LinkId, Pair};
use pegasus_meta::state::{Command, Sync};
use pegasus_replication::event::Event;
use pegasus_replication::ids::{CoreAddress, Instant, NodeId};
use pegasus_replication::message::Message;
use std::collections::BTreeMap;

/// Number of a client's request in this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RequestNumber(pub(crate) u64);

/// What a client asks of a partition's primary.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    Write { key: Key, value: Value },
    Read { key: Key, expected: Expectation },
}

impl Operation {
    pub(crate) const fn key(self) -> Key {
        match self {
            Self::Write { key, .. } | Self::Read { key, .. } => key,
        }
    }
}

/// How long a node or meta has lived: what was meant for an earlier life is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Life(pub(crate) u64);

#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// A message arrives over this link.
    Deliver {
        link: LinkId,
        from: CoreAddress,
        to: CoreAddress,
        message: Message,
    },
    /// A pair of cores tries to connect.
    Connect {
        pair: Pair,
    },
    /// Something a core waits for has happened: its log, its engine, its timer.
    Core {
        core: CoreAddress,
        life: Life,
        event: Event,
    },
    /// A log write and its flush are complete on the disk; then the core is told.
    Flushed {
        core: CoreAddress,
        life: Life,
        write: pegasus_replication::log::LogWriteId,
    },
    /// The engine takes what waits to be applied.
    ApplyWaiting {
        core: CoreAddress,
        life: Life,
    },
    /// The engine has flushed this replica's memtable.
    EngineFlushed {
        core: CoreAddress,
        life: Life,
        partition: pegasus_replication::ids::PartitionId,
    },
    /// A node reports to meta.
    Report {
        node: NodeId,
        life: Life,
    },
    /// A node introduces itself to meta.
    Join {
        node: NodeId,
        life: Life,
    },
    /// A command reaches meta; lost if meta is another one by then.
    ToMeta {
        life: Life,
        command: Command,
    },
    /// A push of meta reaches a node; lost if either has restarted.
    FromMeta {
        meta: Life,
        node: NodeId,
        life: Life,
        sync: Sync,
    },
    /// A client begins its next operation.
    Think {
        client: usize,
    },
    /// A client's request reaches a core.
    Request {
        request: RequestNumber,
        core: CoreAddress,
    },
    /// A client gives up waiting.
    Deadline {
        request: RequestNumber,
    },
    /// Chance strikes.
    Fault,
    StartNode {
        node: NodeId,
    },
    /// Loses power, if it still is in this life, and starts again.
    CrashNode {
        node: NodeId,
        life: Life,
    },
    /// The second end of a broken link learns of it.
    NoticeBreak {
        observer: CoreAddress,
        peer: CoreAddress,
    },
    StartMeta,
    /// Everything that was cut can connect again.
    Heal,
    MetaTick,
}

/// Actions by time; at one time in the order they were added.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    actions: BTreeMap<(Instant, u64), Action>,
    next: u64,
}

impl Queue {
    pub(crate) fn add(&mut self, at: Instant, action: Action) {
        self.next += 1;
        self.actions.insert((at, self.next), action);
    }

    pub(crate) fn pop(&mut self) -> Option<(Instant, Action)> {
        self.actions
            .pop_first()
            .map(|((at, _), action)| (at, action))
    }
}

//! What can happen next, and when: the queue that is the run's only clock.

use crate::history::{Item, Key, Moment, Value};
use crate::network::{LinkId, Pair, Way};
use crate::transfer::{Fetch, Parcel};
use bytes::Bytes;
use pegasus_engine::MemCheckpoint;
use pegasus_meta::state::{Command, Sync};
use pegasus_replication::event::{Compute, Event, Reject};
use pegasus_replication::ids::{CoreAddress, Instant, NodeId, PartitionId};
use pegasus_replication::log::LogWriteId;
use pegasus_replication::message::Message;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// Number of a client's request in this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RequestNumber(pub(crate) u64);

/// What a client asks of a partition's primary.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    Write {
        key: Key,
        value: Value,
    },
    /// Of an item to a list.
    Append {
        key: Key,
        item: Item,
    },
    /// Of a counter, by one.
    Increment {
        key: Key,
        item: Item,
    },
    Read {
        key: Key,
        begun: Moment,
    },
}

impl Operation {
    pub(crate) const fn key(self) -> Key {
        match self {
            Self::Write { key, .. }
            | Self::Append { key, .. }
            | Self::Increment { key, .. }
            | Self::Read { key, .. } => key,
        }
    }
}

/// What a core has said to a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Done, and what was found, or what came of it.
    Done(Option<Bytes>),
    Rejected(Reject),
    /// There was nobody to connect to.
    Unreachable,
}

/// How long a node or meta has lived: what was meant for an earlier life is dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Life(pub(crate) u64);

/// A connection between a node and meta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) meta: Life,
    pub(crate) node: NodeId,
    pub(crate) life: Life,
    /// Counts the connections that this life of the node has lost.
    pub(crate) number: u64,
}

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
    /// A paused or busy core goes on.
    Resume {
        core: CoreAddress,
        life: Life,
    },
    /// A log write and its flush are complete on the disk; then the core is told.
    Flushed {
        core: CoreAddress,
        life: Life,
        write: LogWriteId,
    },
    /// The engine takes what waits to be applied.
    ApplyWaiting {
        core: CoreAddress,
        life: Life,
    },
    /// The rows of an atomic operation have been read from the disk.
    RowsRead {
        core: CoreAddress,
        life: Life,
        compute: Compute,
    },
    /// The engine has flushed this replica's memtable.
    EngineFlushed {
        core: CoreAddress,
        life: Life,
        partition: PartitionId,
    },
    /// A learner's request for a copy reaches its source.
    FetchAsked {
        fetch: Fetch,
    },
    /// What the source has sent reaches the learner.
    FetchArrives {
        fetch: Fetch,
        source_life: Life,
        parcel: Parcel,
    },
    /// A checkpoint takes the place of what was there.
    FetchInstalled {
        fetch: Fetch,
        checkpoint: MemCheckpoint,
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
    /// A command reaches meta; lost if the connection is another one by then.
    ToMeta {
        session: Session,
        command: Command,
    },
    /// Meta's store has persisted what it was given first.
    MetaPersisted {
        life: Life,
    },
    /// A push of meta reaches a node; lost if the connection is another one by then.
    FromMeta {
        session: Session,
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
    /// A core's answer reaches the client.
    Answer {
        request: RequestNumber,
        reply: Reply,
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
    /// A link over a blocked way gives up.
    LinkGivesUp {
        pair: Pair,
        link: LinkId,
    },
    StartMeta,
    /// A machine that has lost everything joins as a new node.
    ReplaceNode,
    /// An operator rebuilds the state of meta.
    RecoverMeta,
    Block {
        ways: Vec<Way>,
    },
    /// What a fault has blocked is open again.
    Unblock {
        ways: Vec<Way>,
    },
    /// A node reaches meta again.
    UncutMeta {
        node: NodeId,
    },
    MetaTick,
    /// A drained node may have replicas again.
    EndDrain {
        node: NodeId,
    },
}

#[derive(Debug)]
struct Due {
    at: Instant,
    number: u64,
    action: Box<Action>,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// Actions by time; at one time in the order they were added.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    actions: BinaryHeap<Reverse<Due>>,
    next: u64,
}

impl Queue {
    pub(crate) fn add(&mut self, at: Instant, action: Action) {
        self.next += 1;
        let (number, action) = (self.next, Box::new(action));
        self.actions.push(Reverse(Due { at, number, action }));
    }

    pub(crate) fn pop(&mut self) -> Option<(Instant, Action)> {
        let Reverse(due) = self.actions.pop()?;
        Some((due.at, *due.action))
    }
}

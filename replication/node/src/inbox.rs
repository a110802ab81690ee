//! What a data core is told by the other threads of its node, and how.
//!
//! A bounded channel and a waker: a sleeping core is woken by one system call, a running one by none. Senders are never
//! data cores (those talk over `pegasus_net::mesh`), so a sender may wait for room.

use crate::background::backup::LayOutRequest;
use crate::directory::Directory;
use crate::engine_pool::PoolDone;
use crate::log_file::ReadySegment;
use crate::route_relay::RouteAnswer;
use crate::stats::relay::StatsAnswer;
use crate::transfer::{ExportRequest, Fetched, LogStartRequest};
use crossbeam_channel::{Receiver, Sender, bounded};
use pegasus_net::Waker;
use pegasus_replication::config::{Configuration, Member};
use pegasus_replication::event::Pressure;
use pegasus_replication::ids::{Ballot, PartitionId, ReplicaIncarnation};
use std::sync::Arc;

/// Inputs that wait for a core; a full inbox makes the sender wait.
const INBOX_MAX: usize = 4096;

/// One thing a core is told.
#[derive(Debug)]
pub enum CoreInput {
    /// Meta's configuration of a partition that has, or had, a member on this core.
    Configured(Configuration),
    /// Meta's word on who learns a partition; for its primary and for the learner.
    LearnerAssigned {
        configuration: Configuration,
        learner: Option<Member>,
        /// The learner is a new, empty replica; otherwise a copy that is there.
        is_fresh: bool,
    },
    /// Meta wants the primary of this ballot to hand over.
    HandOver {
        partition: PartitionId,
        ballot: Ballot,
        to: Member,
    },
    /// Meta's order to delete the replica of this incarnation.
    Dropped {
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
    },
    /// Tables and addresses have changed.
    Directory(Arc<Directory>),
    /// A job of this core's on the engine pool has ended.
    Pool(PoolDone),
    /// A segment file is zero-filled and durable.
    Segment(ReadySegment),
    /// No segment file could be made; the disk is full or broken. Tried again until it works.
    SegmentFailed { error: String },
    /// Free space, in bytes, and whether it allows new writes.
    Disk {
        pressure: Pressure,
        total: u64,
        free: u64,
    },
    /// Answer to a question for a table's routing.
    Route(RouteAnswer),
    /// Another node's learner wants the files of a replica of this core.
    Export(ExportRequest),
    /// Where to begin to read this core's log for other nodes' learners.
    LogStart(LogStartRequest),
    /// A backup wants the files of a replica of this core.
    LayOut(LayOutRequest),
    /// What a learner of this core has asked for.
    Fetched(Fetched),
    /// What the log holds of this replica is damaged: make the engine hold it durably.
    Flush { partition: PartitionId },
    /// Answer to a question for a core's statistics, or for scrubbing.
    Stats(StatsAnswer),
    /// Stop accepting, finish what is in work, then end.
    Stop,
}

/// The sending side; cheap to clone.
#[derive(Clone, Debug)]
pub struct InboxSender {
    sender: Sender<CoreInput>,
    waker: Waker,
}

/// An inbox for the core that `waker` wakes.
#[must_use]
pub fn inbox(waker: Waker) -> (InboxSender, Receiver<CoreInput>) {
    let (sender, receiver) = bounded(INBOX_MAX);
    (InboxSender { sender, waker }, receiver)
}

impl InboxSender {
    /// Tells the core. Waits while its inbox is full; a core that has ended is told nothing.
    pub fn send(&self, input: CoreInput) {
        if self.sender.send(input).is_ok() {
            self.waker.wake();
        }
    }
}

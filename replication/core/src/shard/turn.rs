//! What the replicas of a shard share while one event is handled.

use crate::config::ReplicationOptions;
use crate::event::{Effects, Pressure};
use crate::ids::{CoreAddress, Instant, PartitionId};
use crate::log::ShardLog;
use crate::replica::Deadlines;
use crate::shard::links::Links;
use std::collections::BTreeSet;

/// Everything of a shard that is not one replica's own.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) identity: CoreAddress,
    pub(crate) options: ReplicationOptions,
    pub(crate) log: ShardLog,
    pub(crate) links: Links,
    pub(crate) deadlines: Deadlines,
    pub(crate) pressure: Pressure,
    /// Reads in the engine, over all partitions.
    pub(crate) reads_inflight: usize,
    /// Replicas that owe their primary an acknowledgement; sent once each when the turn ends.
    pub(crate) acknowledgements: BTreeSet<PartitionId>,
}

/// One event's view of the shard, beside the replica it is about.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    pub(crate) now: Instant,
    pub(crate) desk: &'a mut Desk,
    pub(crate) effects: &'a mut Effects,
}

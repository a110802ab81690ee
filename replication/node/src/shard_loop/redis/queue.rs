//! Writes that wait for room in their partition, in the order in which they came: a primary takes so many mutations at a time
//! (`prepare_inflight_max`), and pipelines of many connections bring more. Whatever waits here has not been executed, and
//! nothing of its partition that came later goes before it.
//!
//! Bounded in count and bytes for each core: beyond that a write is refused as busy, and whoever asked tries again.

use super::super::ShardLoop;
use super::super::requests::{Measure, Origin};
use super::{Asked, Due};
use pegasus_fbs::code::Code;
use pegasus_fbs::stats_page::Counter;
use pegasus_net::request::Failure;
use pegasus_replication::ids::PartitionId;
use std::collections::{BTreeMap, VecDeque};

/// Writes, and bytes of their arguments, that wait on one core.
const QUEUED_MAX: usize = 65_536;
const QUEUED_BYTES_MAX: usize = 64 << 20;

/// What a mutation takes beside the arguments of its command, about.
const MUTATION_BYTES: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Queues {
    /// None of them is empty.
    by_partition: BTreeMap<PartitionId, VecDeque<Waiting>>,
    count: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    origin: Origin,
    asked: Asked,
    bytes: usize,
}

impl Queues {
    pub(super) fn is_empty(&self) -> bool {
        self.by_partition.is_empty()
    }

    /// True if it is the first of its partition.
    fn push(&mut self, waiting: Waiting) -> bool {
        self.count += 1;
        self.bytes += waiting.bytes;
        let partition = waiting.asked.partition;
        let queue = self.by_partition.entry(partition).or_default();
        queue.push_back(waiting);
        queue.len() == 1
    }

    fn front(&self, partition: PartitionId) -> Option<&Waiting> {
        self.by_partition.get(&partition)?.front()
    }

    fn pop(&mut self, partition: PartitionId) -> Option<Waiting> {
        let queue = self.by_partition.get_mut(&partition)?;
        let waiting = queue.pop_front()?;
        if queue.is_empty() {
            self.by_partition.remove(&partition);
        }
        self.count -= 1;
        self.bytes -= waiting.bytes;
        Some(waiting)
    }

    const fn has_room(&self, bytes: usize) -> bool {
        self.count < QUEUED_MAX && self.bytes + bytes <= QUEUED_BYTES_MAX
    }
}

impl ShardLoop {
    /// Whether a write has others before it that wait, or no room in its partition.
    pub(super) fn has_to_wait(&self, asked: &Asked) -> bool {
        let queues = &self.redis.queues;
        let is_behind = !queues.is_empty() && queues.front(asked.partition).is_some();
        is_behind || self.shard.is_busy(asked.partition, bytes_of(asked))
    }

    pub(super) fn queue_part(&mut self, origin: Origin, asked: Asked) {
        let bytes = bytes_of(&asked);
        if !self.redis.queues.has_room(bytes) {
            let message = "too many writes of Redis clients wait on this core";
            let failure = self.busy(Counter::RejectRequests, message);
            return self.refuse_waiting(origin, &asked, failure);
        }
        let (partition, deadline) = (asked.partition, asked.deadline);
        let is_first = self.redis.queues.push(Waiting {
            origin,
            asked,
            bytes,
        });
        if is_first {
            self.redis.at(deadline, Due::Queue(partition));
        }
    }

    fn refuse_waiting(&mut self, origin: Origin, asked: &Asked, failure: Failure) {
        let measure = Measure::untraced(None, asked.received);
        self.refuse(origin, measure, failure);
    }

    /// Partitions may have room by now.
    pub(in crate::shard_loop) fn take_queued(&mut self) {
        if self.redis.queues.is_empty() {
            return;
        }
        let queues = &self.redis.queues.by_partition;
        for partition in queues.keys().copied().collect::<Vec<_>>() {
            while let Some(front) = self.redis.queues.front(partition)
                && !self.shard.is_busy(partition, front.bytes)
                && let Some(Waiting { origin, asked, .. }) = self.redis.queues.pop(partition)
            {
                self.decide_part(origin, asked);
            }
        }
    }

    /// The time of the first that waited when this was asked for is over.
    pub(super) fn expire_queued(&mut self, partition: PartitionId) {
        while let Some(front) = self.redis.queues.front(partition) {
            if front.asked.deadline > self.now {
                let deadline = front.asked.deadline;
                self.redis.at(deadline, Due::Queue(partition));
                return;
            }
            if let Some(Waiting { origin, asked, .. }) = self.redis.queues.pop(partition) {
                let message = "its partition had no room for it in time";
                let failure = Failure::new(Code::Expired, message);
                self.refuse_waiting(origin, &asked, failure);
            }
        }
    }
}

fn bytes_of(asked: &Asked) -> usize {
    let calls = asked.calls.as_slice().iter();
    MUTATION_BYTES + calls.map(|call| call.command.bytes()).sum::<usize>()
}

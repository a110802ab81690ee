//! Requests in work on a core, found again by the ticket that the replication core carries around.

use super::atomic::AtomicTask;
use super::fair::FLOWS;
use super::read::ReadTask;
use super::redis::{DirectRead, PartId};
use crate::stats::TraceId;
use pegasus_fbs::stats_page::{PartitionSlot, Timing};
use pegasus_net::ReplyTo;
use pegasus_net::request::{OpenScanner, Reply};
use pegasus_replication::ids::{CoreAddress, Instant, PartitionId, TableId, Ticket};

/// Where the answer goes.
#[derive(Debug)]
pub(super) enum Origin {
    /// A connection of this core.
    Here(ReplyTo),
    /// A connection of another core of this node, which handed the request over.
    Core { core: usize, to: ReplyTo },
    /// A Redis command of a connection of this core.
    Part(PartId),
    /// A Redis read of a connection of this core, which has its row.
    Direct(Box<DirectRead>),
    /// One of another core of this node.
    CorePart { core: usize, part: PartId },
    /// One of a core of another node, by its own number.
    Peer { core: CoreAddress, id: u64 },
}

/// What is left to do.
#[derive(Debug)]
pub(super) enum Work {
    /// `count` is what the answer says; `rows` and encoded `bytes` are for the statistics.
    Write {
        count: u32,
        rows: usize,
        bytes: usize,
    },
    /// A string of a Redis client is put, whatever was there: the answer is OK.
    Stored {
        bytes: usize,
    },
    /// Not boxed: most requests are point reads, which allocate nothing.
    Read(ReadTask),
    Atomic(Box<AtomicTask>),
    /// The read, or the atomic operation, is on the engine pool.
    Away,
    /// The atomic operation is computed and waits to be applied: its answer without the decree, what was put or removed.
    Computed {
        reply: Box<Reply>,
        rows: usize,
        bytes: usize,
    },
    /// The read has its answer, which waits for the right to be given.
    Answered(Reply),
}

/// How the time of a request is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measure {
    /// The histogram of its operation; none for those that have none.
    pub(super) timing: Option<Timing>,
    /// When its last byte was found.
    pub(super) received: Instant,
    pub(super) trace: TraceId,
    /// Where its replica is counted.
    pub(super) slot: PartitionSlot,
}

impl Measure {
    /// Of a request whose stages are not followed.
    pub(super) const fn untraced(timing: Option<Timing>, received: Instant) -> Self {
        Self {
            timing,
            received,
            trace: TraceId::NONE,
            slot: PartitionSlot::NONE,
        }
    }
}

/// One request in work.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) origin: Origin,
    pub(super) partition: PartitionId,
    pub(super) measure: Measure,
    pub(super) deadline: Instant,
    pub(super) work: Work,
    /// The scanner of which this is a page.
    pub(super) scanner: Option<Box<OpenScanner>>,
}

/// All of them; a slab, so that finding one is an index.
#[derive(Debug)]
pub(super) struct Requests {
    slots: Vec<Slot>,
    free: Vec<u32>,
    count: usize,
    max: usize,
    /// How many there are of tables whose numbers are equal modulo [`FLOWS`].
    by_flow: Box<[u32; FLOWS]>,
}

#[derive(Debug)]
struct Slot {
    /// Tells the tickets of one slot apart; grows with each use.
    generation: u32,
    pending: Option<Pending>,
}

impl Requests {
    pub(super) fn new(max: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            count: 0,
            max,
            by_flow: Box::new([0; FLOWS]),
        }
    }

    pub(super) const fn count(&self) -> usize {
        self.count
    }

    pub(super) const fn max(&self) -> usize {
        self.max
    }

    /// Of this table, and perhaps of another one in the same flow.
    pub(super) const fn count_of(&self, table: TableId) -> usize {
        self.by_flow[table.0 as usize % FLOWS] as usize
    }

    /// Takes a request in; the caller has asked whether there is room.
    pub(super) fn insert(&mut self, pending: Pending) -> Ticket {
        assert!(self.count < self.max, "more requests than allowed");
        self.count += 1;
        self.by_flow[pending.partition.table.0 as usize % FLOWS] += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                pending: None,
            });
            u32::try_from(self.slots.len() - 1).expect("requests are bounded far below 2^32")
        });
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        slot.pending = Some(pending);
        Ticket(u64::from(slot.generation) << 32 | u64::from(index))
    }

    pub(super) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Pending> {
        self.slot(ticket)?.pending.as_mut()
    }

    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Pending> {
        let slot = self.slot(ticket)?;
        let pending = slot.pending.take()?;
        self.count -= 1;
        self.by_flow[pending.partition.table.0 as usize % FLOWS] -= 1;
        self.free.push(index_of(ticket));
        Some(pending)
    }

    /// The slot, if it still is this ticket's.
    fn slot(&mut self, ticket: Ticket) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(index_of(ticket) as usize)?;
        (u64::from(slot.generation) == ticket.0 >> 32).then_some(slot)
    }
}

const fn index_of(ticket: Ticket) -> u32 {
    #[allow(clippy::cast_possible_truncation, reason = "the low half is the index")]
    let index = ticket.0 as u32;
    index
}

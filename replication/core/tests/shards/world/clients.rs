//! What clients ask, and what they were answered.

use super::World;
use bytes::Bytes;
use pegasus_replication::event::{Event, Reject};
use pegasus_replication::ids::{Decree, Instant, PartitionId, RequestId, Ticket};

/// A read under way: what it must not miss, and what the engine has shown it.
pub(crate) struct Reading {
    pub(crate) partition: PartitionId,
    /// The newest decree that any client had seen when it was asked.
    pub(crate) floor: Decree,
    pub(crate) found: Decree,
}

/// A counter to be looked at, or increased by one: the payloads are numbers.
#[derive(Clone, Copy)]
pub(crate) struct Counting {
    pub(crate) request_id: RequestId,
    pub(crate) is_increment: bool,
    /// What it came to.
    pub(crate) value: Option<u64>,
}

/// A write that was answered with success.
#[derive(Clone)]
pub(crate) struct Acknowledged {
    pub(crate) partition: PartitionId,
    pub(crate) decree: Decree,
    pub(crate) payload: Bytes,
}

impl World {
    /// The ticket of the next request.
    pub(crate) fn next_ticket(&self) -> Ticket {
        Ticket(self.next_ticket)
    }

    pub(crate) fn ticket(&mut self) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.waiting.insert(ticket);
        ticket
    }

    pub(crate) fn write(
        &mut self,
        node: u32,
        partition: PartitionId,
        payload: Bytes,
        deadline: Instant,
    ) -> Ticket {
        let ticket = self.ticket();
        self.writes.insert(ticket, (partition, payload.clone()));
        let (request_id, wall_us) = (RequestId::default(), self.local(node).0 / 1000);
        self.feed(
            node,
            Event::Write {
                partition,
                ticket,
                request_id,
                gate: partition.index.into(),
                wall_us,
                payload,
                deadline,
            },
        );
        ticket
    }

    pub(crate) fn count(
        &mut self,
        node: u32,
        request_id: RequestId,
        partition: PartitionId,
        is_increment: bool,
        deadline: Instant,
    ) -> Ticket {
        let ticket = self.ticket();
        let counting = Counting {
            request_id,
            is_increment,
            value: None,
        };
        self.counting.insert(ticket, counting);
        let wall_us = self.local(node).0 / 1000;
        let event = Event::Atomic {
            partition,
            ticket,
            request_id,
            gate: partition.index.into(),
            wall_us,
            deadline,
        };
        self.feed(node, event);
        ticket
    }

    pub(crate) fn read(&mut self, node: u32, partition: PartitionId, deadline: Instant) -> Ticket {
        let ticket = self.ticket();
        let floor = self.seen.get(&partition).copied().unwrap_or_default();
        let found = Decree::ZERO;
        self.readings.insert(
            ticket,
            Reading {
                partition,
                floor,
                found,
            },
        );
        self.feed(
            node,
            Event::Read {
                partition,
                ticket,
                deadline,
            },
        );
        ticket
    }

    /// A request is answered once; a read misses nothing that anybody had seen before it was asked.
    pub(super) fn hear_reply(&mut self, node: u32, ticket: Ticket, decree: Decree) {
        assert!(self.waiting.remove(&ticket), "a ticket is answered once");
        if let Some((partition, payload)) = self.writes.get(&ticket).cloned() {
            self.acknowledged.push(Acknowledged {
                partition,
                decree,
                payload,
            });
            let seen = self.seen.entry(partition).or_default();
            *seen = decree.max(*seen);
        }
        if let Some(reading) = self.readings.remove(&ticket) {
            assert!(
                reading.found >= reading.floor,
                "node {node} answers a read of {} at decree {}, but {} had been seen before it was asked",
                reading.partition,
                reading.found,
                reading.floor
            );
            let seen = self.seen.entry(reading.partition).or_default();
            *seen = reading.found.max(*seen);
            self.reads_answered += 1;
        }
    }

    pub(super) fn hear_reject(&mut self, ticket: Ticket, reason: Reject) {
        assert!(self.waiting.remove(&ticket), "a ticket is answered once");
        assert!(
            reason != Reject::Unknown
                || self.writes.contains_key(&ticket)
                || self.counting.contains_key(&ticket),
            "reads have no unknown outcome"
        );
    }
}

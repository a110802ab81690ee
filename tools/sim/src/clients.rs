//! Closed-loop clients that wait for an answer only so long, and write everything down. Some of their requests go astray on
//! purpose, to cores that were primaries once or never.

use crate::action::{Action, Operation, Reply, RequestNumber};
use crate::history::{Key, Value, Violation};
use crate::world::World;
use bytes::Bytes;
use pegasus_engine::{Batch, Op, key};
use pegasus_replication::event::{Event, Reject};
use pegasus_replication::ids::{CoreAddress, Instant, PartitionId, RequestId, TableId, Ticket};
use std::ops::Range;
use std::time::Duration;

const DELAY: Range<Duration> = Duration::from_micros(20)..Duration::from_millis(4);
/// Primaries of a partition that are remembered.
const FORMER_MAX: usize = 8;

/// A request under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    client: usize,
    pub(crate) operation: Operation,
    deadline: Instant,
}

impl World {
    pub(crate) fn think(&mut self, client: usize) {
        if self.ending {
            return;
        }
        let Some(table) = self.table() else {
            let at = self.now.after(Duration::from_millis(100));
            self.queue.add(at, Action::Think { client });
            return;
        };
        let key = self.some_key(table);
        let Some(core) = self.whom_to_ask(key) else {
            self.think_again(client);
            return;
        };
        let operation = if self.random.client.percent(self.scenario.writes_of_100) {
            let value = self.history.begin_write(self.now, key);
            Operation::Write { key, value }
        } else {
            let begun = self.history.begin_read(self.now);
            Operation::Read { key, begun }
        };
        self.next_request += 1;
        let request = RequestNumber(self.next_request);
        let deadline = self.now.after(self.scenario.patience);
        let sent = Request {
            client,
            operation,
            deadline,
        };
        self.requests.insert(request, sent);
        let arrival = self.now.after(self.random.client.delay(DELAY));
        self.queue.add(arrival, Action::Request { request, core });
        self.queue.add(deadline, Action::Deadline { request });
    }

    fn some_key(&mut self, table: TableId) -> Key {
        let random = &mut self.random.client;
        let mut below = |bound: u32| u32::try_from(random.below(u64::from(bound))).expect("few");
        Key {
            table,
            partition: below(self.scenario.partitions),
            row: below(self.scenario.rows),
        }
    }

    /// The primary that meta names; or one that it named before; or anybody.
    fn whom_to_ask(&mut self, key: Key) -> Option<CoreAddress> {
        let configuration = self.configuration(partition_of(key))?;
        let primary = configuration.primary?.address;
        let former = self.former_primaries.entry(key.partition).or_default();
        if former.last() != Some(&primary) {
            former.push(primary);
            if former.len() > FORMER_MAX {
                former.remove(0);
            }
        }
        let random = &mut self.random.client;
        if !random.percent(self.scenario.astray_of_100) {
            return Some(primary);
        }
        if random.one_in(4) {
            let node = random.index(self.nodes.len());
            return Some(random.pick(&self.nodes[node].cores).address);
        }
        Some(*random.pick(former))
    }

    fn think_again(&mut self, client: usize) {
        let pause = self
            .random
            .client
            .duration(self.scenario.think / 2..self.scenario.think * 2);
        self.queue
            .add(self.now.after(pause), Action::Think { client });
    }

    pub(crate) fn request_arrives(
        &mut self,
        number: RequestNumber,
        address: CoreAddress,
    ) -> Result<(), Violation> {
        let Some(request) = self.requests.get(&number).copied() else {
            return Ok(());
        };
        if self.core(address).shard.is_none() {
            self.answer_later(number, Reply::Unreachable);
            return Ok(());
        }
        let clock = self.nodes[self.node_index(address.node)].clock;
        let left = request.deadline.since(self.now);
        let deadline = clock.local(self.now).after(left);
        let partition = partition_of(request.operation.key());
        let ticket = Ticket(number.0);
        self.core_mut(address).tickets.insert(number);
        let event = match request.operation {
            Operation::Write { key, value } => Event::Write {
                partition,
                ticket,
                request_id: RequestId::default(),
                gate: gate_of(key),
                wall_us: clock.wall_us(self.now),
                payload: encode(key, value),
                deadline,
            },
            Operation::Read { .. } => Event::Read {
                partition,
                ticket,
                deadline,
            },
        };
        self.core_event(address, event)
    }

    /// An answer leaves for the client.
    pub(crate) fn answer_later(&mut self, request: RequestNumber, reply: Reply) {
        let at = self.now.after(self.random.client.delay(DELAY));
        self.queue.add(at, Action::Answer { request, reply });
    }

    /// An answer has come, to a client that may have given up.
    pub(crate) fn answer(&mut self, number: RequestNumber, reply: Reply) {
        let Some(request) = self.forget(number) else {
            return;
        };
        let now = self.now;
        match (reply, request.operation) {
            (Reply::Done(_), Operation::Write { value, .. }) => {
                self.history.acknowledge(now, value)
            }
            (Reply::Done(found), Operation::Read { key, begun }) => {
                self.history.end_read(now, key, begun, found)
            }
            (Reply::Rejected(Reject::Unknown), _) => self.totals.unknown += 1,
            (_, Operation::Write { value, .. }) => {
                self.totals.rejected += 1;
                self.history.not_executed(value);
            }
            (_, Operation::Read { .. }) => self.totals.rejected += 1,
        }
    }

    /// The connection broke, time is up, or the answer is there: the client goes on.
    pub(crate) fn forget(&mut self, number: RequestNumber) -> Option<Request> {
        let request = self.requests.remove(&number)?;
        self.think_again(request.client);
        Some(request)
    }
}

pub(crate) const fn partition_of(key: Key) -> PartitionId {
    PartitionId {
        table: key.table,
        index: key.partition,
    }
}

/// Each row is a hash key of its own as far as atomic operations go.
const fn gate_of(key: Key) -> u64 {
    key.row as u64
}

pub(crate) fn raw_key(row: Key) -> Vec<u8> {
    key::encode(&row.partition.to_be_bytes(), &row.row.to_be_bytes())
        .expect("short keys")
        .to_vec()
}

fn encode(row: Key, value: Value) -> Bytes {
    let put = Op::Put {
        key: raw_key(row).into(),
        value: Bytes::copy_from_slice(&value.0.to_be_bytes()),
        expire_at: 0,
    };
    Batch::from_ops([&put]).expect("a small batch").encode()
}

/// The inverse for what a read found.
pub(crate) fn decode(data: &[u8]) -> Value {
    Value(u64::from_be_bytes(
        data.try_into().expect("only our values are in the table"),
    ))
}

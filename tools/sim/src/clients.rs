//! Closed-loop clients that wait for an answer only so long, and write everything down. Some of their requests go astray on
//! purpose, to cores that were primaries once or never. What must not be done twice is sent again under its identity until
//! its outcome is known.

use crate::action::{Action, Operation, Reply, RequestNumber};
use crate::atomics::request_id;
use crate::history::{Item, Key, Moment, Seen, Value, Violation};
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
/// How often a request is sent that must not be done twice.
const ATTEMPTS_MAX: u32 = 6;
/// After so many items another list is begun.
const ITEMS_MAX: u32 = 40;
/// Numbers of rows that are lists, and of those that are counters.
const LISTS: u32 = 1_000;
const COUNTERS: u32 = 1_000_000;

/// A request under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    client: usize,
    pub(crate) operation: Operation,
    deadline: Instant,
    /// Which time it is sent, from 1.
    attempt: u32,
}

impl Request {
    /// None for what may be done twice.
    pub(crate) fn id(&self) -> RequestId {
        match self.operation {
            Operation::Append { item, .. } | Operation::Increment { item, .. } => {
                request_id(self.client, item)
            }
            Operation::Write { .. } | Operation::Read { .. } => RequestId::default(),
        }
    }

    pub(crate) const fn is_retry(&self) -> bool {
        self.attempt > 1
    }
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
        let operation = self.some_operation(key);
        let attempt = 1;
        self.send_request(client, operation, attempt, core);
    }

    fn send_request(
        &mut self,
        client: usize,
        operation: Operation,
        attempt: u32,
        core: CoreAddress,
    ) {
        self.next_request += 1;
        let request = RequestNumber(self.next_request);
        let deadline = self.now.after(self.scenario.patience);
        let sent = Request {
            client,
            operation,
            deadline,
            attempt,
        };
        self.requests.insert(request, sent);
        let arrival = self.now.after(self.random.client.delay(DELAY));
        self.queue.add(arrival, Action::Request { request, core });
        self.queue.add(deadline, Action::Deadline { request });
    }

    fn some_key(&mut self, table: TableId) -> Key {
        let random = &mut self.random.client;
        let mut below = |bound: u32| u32::try_from(random.below(u64::from(bound))).expect("few");
        let (partition, row) = (below(self.scenario.partitions), below(self.scenario.rows));
        let is_ordered = random.percent(self.scenario.ordered_of_100);
        let key = Key {
            table,
            partition,
            row,
        };
        if !is_ordered {
            return key;
        }
        let row = if random.one_in(2) {
            // Of a counter there are few enough that clients meet.
            COUNTERS + row % 4
        } else {
            let items = self.appended.get(&partition_of(key)).copied();
            LISTS + items.unwrap_or_default() / ITEMS_MAX
        };
        Key { row, ..key }
    }

    fn some_operation(&mut self, key: Key) -> Operation {
        if !self.random.client.percent(self.scenario.writes_of_100) {
            let begun = self.history.begin_read(self.now);
            return Operation::Read { key, begun };
        }
        match Kind::of(key) {
            Kind::Register => {
                let value = self.history.begin_write(self.now, key);
                Operation::Write { key, value }
            }
            Kind::List => {
                *self.appended.entry(partition_of(key)).or_default() += 1;
                let item = self.history.begin_change(self.now, key);
                Operation::Append { key, item }
            }
            Kind::Counter => {
                let item = self.history.begin_change(self.now, key);
                Operation::Increment { key, item }
            }
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
        let key = request.operation.key();
        let (partition, gate) = (partition_of(key), gate_of(key));
        let ticket = Ticket(number.0);
        self.core_mut(address).tickets.insert(number);
        let request_id = request.id();
        let wall_us = clock.wall_us(self.now);
        let event = match request.operation {
            Operation::Write { key, value } => Event::Write {
                partition,
                ticket,
                request_id,
                gate,
                wall_us,
                payload: encode(key, value),
                deadline,
            },
            Operation::Append { .. } | Operation::Increment { .. } => Event::Atomic {
                partition,
                ticket,
                request_id,
                gate,
                wall_us,
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
        let Some(request) = self.requests.remove(&number) else {
            return;
        };
        let now = self.now;
        let item = match request.operation {
            Operation::Append { item, .. } | Operation::Increment { item, .. } => Some(item),
            Operation::Write { .. } | Operation::Read { .. } => None,
        };
        match (reply, request.operation) {
            (Reply::Done(_), Operation::Write { value, .. }) => {
                self.history.acknowledge(now, value)
            }
            (Reply::Done(found), Operation::Read { key, begun }) => {
                self.end_read(key, begun, found)
            }
            (Reply::Done(_), Operation::Append { item, .. }) => {
                self.history.acknowledge_change(now, item, None)
            }
            (Reply::Done(found), Operation::Increment { item, .. }) => {
                let sum = number_in(found.as_deref());
                self.history.acknowledge_change(now, item, Some(sum));
            }
            (Reply::Rejected(Reject::Unknown), _) => {
                self.totals.unknown += 1;
                return self.try_again(request);
            }
            (_, Operation::Write { value, .. }) => {
                self.totals.rejected += 1;
                self.history.not_executed(value);
            }
            (_, Operation::Read { .. }) => self.totals.rejected += 1,
            // That an earlier attempt was not executed does not follow.
            (_, _) if request.is_retry() => return self.try_again(request),
            (_, _) => {
                self.totals.rejected += 1;
                item.into_iter()
                    .for_each(|item| self.history.change_not_executed(item));
            }
        }
        self.think_again(request.client);
    }

    /// The connection broke, or time is up.
    pub(crate) fn give_up(&mut self, number: RequestNumber) {
        if let Some(request) = self.requests.remove(&number) {
            self.try_again(request);
        }
    }

    /// What has an identity is sent again, to whom it should go now.
    fn try_again(&mut self, request: Request) {
        let Request {
            client,
            operation,
            attempt,
            ..
        } = request;
        let is_ordered = request.id() != RequestId::default();
        let again = is_ordered && attempt < ATTEMPTS_MAX && !self.ending;
        let core = again.then(|| self.whom_to_ask(operation.key())).flatten();
        match core {
            Some(core) => {
                self.totals.coverage.note("sent again");
                self.send_request(client, operation, attempt + 1, core);
            }
            None => self.think_again(client),
        }
    }

    pub(crate) fn end_read(&mut self, key: Key, begun: Moment, found: Option<Bytes>) {
        let now = self.now;
        let seen = match Kind::of(key) {
            Kind::Register => {
                let value = found.map(|data| decode(&data));
                return self.history.end_read(now, key, begun, value);
            }
            Kind::List => Seen::List(items_in(found.as_deref().unwrap_or_default())),
            Kind::Counter => Seen::Count(number_in(found.as_deref())),
        };
        self.history.end_look(now, key, begun, seen);
    }
}

/// What a row is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Register,
    List,
    Counter,
}

impl Kind {
    const fn of(key: Key) -> Self {
        match key.row {
            COUNTERS.. => Self::Counter,
            LISTS.. => Self::List,
            _ => Self::Register,
        }
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
fn decode(data: &[u8]) -> Value {
    Value(u64::from_be_bytes(
        data.try_into().expect("only our values are in the table"),
    ))
}

fn items_in(data: &[u8]) -> Vec<Item> {
    let items = data.chunks(size_of::<u32>());
    let item =
        |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().expect("only items are in a list"));
    items.map(|bytes| Item(item(bytes))).collect()
}

fn number_in(data: Option<&[u8]>) -> u64 {
    let text = data.map(|data| std::str::from_utf8(data).expect("counters are text"));
    text.map_or(0, |text| text.parse().expect("counters are numbers"))
}

//! Closed-loop clients that know where primaries are from meta, wait a second for an answer, and write everything down.

use crate::action::{Action, Operation, RequestNumber};
use crate::history::{Ending, Key, Value, Violation};
use crate::world::{Request, World};
use bytes::Bytes;
use pegasus_engine::{Batch, Op, key};
use pegasus_replication::event::{Event, Reject};
use pegasus_replication::ids::{CoreAddress, Decree, PartitionId, RequestId, Ticket};
use std::ops::Range;
use std::time::Duration;

const DELAY: Range<Duration> = Duration::from_micros(20)..Duration::from_millis(4);
const PATIENCE: Duration = Duration::from_secs(1);

impl World {
    pub(crate) fn think(&mut self, client: usize) -> Result<(), Violation> {
        if self.ending {
            return Ok(());
        }
        let Some(table) = self.table() else {
            self.queue.add(
                self.now.after(Duration::from_millis(100)),
                Action::Think { client },
            );
            return Ok(());
        };
        let partition = u32::try_from(
            self.random
                .client
                .below(u64::from(self.scenario.partitions)),
        )
        .expect("few");
        let row =
            u32::try_from(self.random.client.below(u64::from(self.scenario.rows))).expect("few");
        let key = Key {
            table,
            partition,
            row,
        };
        let configured = self.meta.state.durable().tables()[&table].configuration(partition);
        let Some(primary) = configured.and_then(|configuration| configuration.primary) else {
            self.think_again(client);
            return Ok(());
        };
        let operation = if self.random.client.below(100) < self.scenario.writes_of_100 {
            Operation::Write {
                key,
                value: self.history.invoke_write(self.now, key),
            }
        } else {
            Operation::Read {
                key,
                expected: self.history.invoke_read(key),
            }
        };
        self.next_request += 1;
        let request = RequestNumber(self.next_request);
        let deadline = self.now.after(PATIENCE);
        self.requests.insert(
            request,
            Request {
                client,
                operation,
                deadline,
            },
        );
        let arrival = self.now.after(self.random.client.delay(DELAY));
        self.queue.add(
            arrival,
            Action::Request {
                request,
                core: primary.address,
            },
        );
        self.queue.add(deadline, Action::Deadline { request });
        Ok(())
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
        core: CoreAddress,
    ) -> Result<(), Violation> {
        let Some(request) = self.requests.get(&number).copied() else {
            return Ok(());
        };
        if self.core(core).shard.is_none() {
            // Connection refused: nothing was sent.
            return self.answer_not_executed(number);
        }
        let key = request.operation.key();
        let partition = PartitionId {
            table: key.table,
            index: key.partition,
        };
        let ticket = Ticket(number.0);
        let deadline = request.deadline;
        self.core_mut(core).tickets.insert(number);
        let event = match request.operation {
            Operation::Write { key, value } => Event::Write {
                partition,
                ticket,
                request_id: RequestId::default(),
                wall_us: self.now.0 / 1_000,
                payload: encode(key, value),
                deadline,
            },
            Operation::Read { .. } => Event::Read {
                partition,
                ticket,
                deadline,
            },
        };
        self.core_event(core, event)
    }

    /// The shard said yes to this ticket; for a read, `found` is what the engine had.
    pub(crate) fn answer(
        &mut self,
        number: RequestNumber,
        decree: Decree,
        found: Option<Value>,
    ) -> Result<(), Violation> {
        let Some(request) = self.requests.remove(&number) else {
            return Ok(());
        };
        self.think_again(request.client);
        match request.operation {
            Operation::Write { value, .. } => self.history.end_write(
                value,
                Ending::Acknowledged {
                    at: self.now,
                    decree,
                },
            ),
            Operation::Read { key, expected } => self.history.end_read(key, expected, found),
        }
    }

    pub(crate) fn reject(
        &mut self,
        number: RequestNumber,
        reason: Reject,
    ) -> Result<(), Violation> {
        if reason == Reject::Unknown {
            self.totals.unknown += 1;
            self.forget(number);
            return Ok(());
        }
        self.answer_not_executed(number)
    }

    fn answer_not_executed(&mut self, number: RequestNumber) -> Result<(), Violation> {
        self.totals.rejected += 1;
        let Some(request) = self.forget(number) else {
            return Ok(());
        };
        match request.operation {
            Operation::Write { value, .. } => self.history.end_write(value, Ending::NotExecuted),
            Operation::Read { .. } => Ok(()),
        }
    }

    pub(crate) fn give_up(&mut self, number: RequestNumber) -> Result<(), Violation> {
        self.forget(number);
        Ok(())
    }

    /// The connection broke or time is up: the client goes on without an answer.
    pub(crate) fn forget(&mut self, number: RequestNumber) -> Option<Request> {
        let request = self.requests.remove(&number)?;
        self.think_again(request.client);
        Some(request)
    }
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

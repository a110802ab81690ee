//! Atomic operations: computed when the core says whose turn it is, from what is in flight and the engine, as the node does.

use crate::action::{Action, Life, Operation, RequestNumber};
use crate::clients::{Request, raw_key};
use crate::cores::SimCore;
use crate::history::{Item, Violation};
use crate::world::World;
use bytes::Bytes;
use pegasus_engine::atomic::{
    Computation, EngineSource, Evaluation, Incr, IncrExpiry, Incremented, Moment, Need, Program,
    Rows,
};
use pegasus_engine::{Batch, Engine, RequestOutcome, Tier};
use pegasus_replication::event::{Compute, Computed, Event};
use pegasus_replication::ids::{CoreAddress, RequestId, Ticket};
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

const DISK_DELAY: Range<Duration> = Duration::from_micros(100)..Duration::from_millis(20);

/// What an operation makes of its row.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Append { raw_key: Bytes, item: Item },
    Increment(Incr),
}

impl Program for Change {
    /// What the client is answered.
    type Answer = Bytes;

    fn evaluate(&mut self, rows: &Rows, moment: Moment) -> Result<Evaluation<Bytes>, Need> {
        match self {
            Self::Append { raw_key, item } => {
                let before = rows.row(raw_key)?.map_or(&[][..], |row| &row.data);
                let list = [before, &item.0.to_be_bytes()].concat();
                let mut batch = Batch::new();
                batch.put(raw_key, &list, 0).expect("lists are short");
                let answer = Bytes::from_static(b"appended");
                let result = answer.clone();
                Ok(Evaluation {
                    answer,
                    batch,
                    result,
                })
            }
            Self::Increment(incr) => {
                let evaluated = incr.evaluate(rows, moment)?;
                let Incremented::Done(sum) = evaluated.answer else {
                    panic!("only increments are in this row: {:?}", evaluated.answer);
                };
                Ok(Evaluation {
                    answer: Bytes::from(sum.to_string()),
                    batch: evaluated.batch,
                    result: evaluated.result,
                })
            }
        }
    }
}

impl Change {
    /// `None`: the operation changes nothing in this way.
    pub(crate) fn of(operation: Operation) -> Option<Self> {
        match operation {
            Operation::Append { key, item } => Some(Self::Append {
                raw_key: raw_key(key).into(),
                item,
            }),
            Operation::Increment { key, .. } => Some(Self::Increment(Incr {
                raw_key: raw_key(key).into(),
                increment: 1,
                expiry: IncrExpiry::Keep,
            })),
            Operation::Write { .. } | Operation::Read { .. } => None,
        }
    }

    /// The answer to a retry of what was applied with this result.
    fn remembered(&self, result: Bytes) -> Option<Bytes> {
        match self {
            Self::Append { .. } => Some(result),
            Self::Increment(_) => match Incremented::remembered(&result)? {
                Incremented::Done(sum) => Some(Bytes::from(sum.to_string())),
                Incremented::NotANumber | Incremented::Overflow(_) => None,
            },
        }
    }
}

/// The identity of a request: the same for every time that it is sent.
pub(crate) fn request_id(client: usize, item: Item) -> RequestId {
    RequestId {
        client: client as u64 + 1,
        sequence: u64::from(item.0),
    }
}

impl SimCore {
    /// Works out the operation whose turn it is. `None`: its rows are read from the disk first, or nobody waits for it.
    pub(crate) fn compute(
        &mut self,
        compute: Compute,
        requests: &BTreeMap<RequestNumber, Request>,
        is_in_memory: bool,
    ) -> Option<Computed> {
        let number = RequestNumber(compute.ticket.0);
        let Some((request, change)) = requests
            .get(&number)
            .and_then(|request| Some((request, Change::of(request.operation)?)))
        else {
            // Its client has given up. Nothing was done.
            return Some(Computed::Answer);
        };
        let id = request.id();
        match self
            .engine
            .request_outcome(compute.partition, id, request.is_retry())
        {
            RequestOutcome::New => {}
            RequestOutcome::Forgotten => return Some(Computed::Forgotten),
            RequestOutcome::Applied { result, .. } => {
                let Some(answer) = change.remembered(result) else {
                    return Some(Computed::Forgotten);
                };
                self.found.insert(number, Some(answer));
                return Some(Computed::Remembered);
            }
        }
        let moment = Moment {
            wall_us: compute.wall_us,
            default_ttl_s: 0,
        };
        let mut computation = Computation::new(change, moment);
        let shard = self.shard.as_ref()?;
        if !is_in_memory {
            computation.detach(shard.inflight(compute.partition, compute.gate));
            self.computing.insert(compute.ticket, computation);
            return None;
        }
        let source = EngineSource {
            engine: &self.engine,
            partition: compute.partition,
            tier: Tier::Full,
        };
        let evaluation = computation
            .run(|| shard.inflight(compute.partition, compute.gate), &source)
            .ok();
        Some(self.settle(compute.ticket, evaluation))
    }

    /// Keeps the answer for when it may be given.
    fn settle(&mut self, ticket: Ticket, evaluation: Option<Evaluation<Bytes>>) -> Computed {
        // A replica that is gone meanwhile has refused whoever waited.
        let Some(evaluation) = evaluation else {
            return Computed::Answer;
        };
        let answer = Some(evaluation.answer);
        self.found.insert(RequestNumber(ticket.0), answer);
        let payload = evaluation.batch.encode_with_result(&evaluation.result);
        Computed::Write { payload }
    }
}

impl World {
    pub(crate) fn compute_later(&mut self, core: CoreAddress, compute: Compute) {
        let (life, delay) = (self.life(core.node), self.random.engine.delay(DISK_DELAY));
        let rows_read = Action::RowsRead {
            core,
            life,
            compute,
        };
        self.queue.add(self.now.after(delay), rows_read);
    }

    /// A helper has read the rows of an operation that is being computed.
    pub(crate) fn rows_read(
        &mut self,
        address: CoreAddress,
        life: Life,
        compute: Compute,
    ) -> Result<(), Violation> {
        if self.life(address.node) != life {
            return Ok(());
        }
        let Compute {
            partition,
            ticket,
            gate,
            ..
        } = compute;
        let core = self.core_mut(address);
        let Some(mut computation) = core.computing.remove(&ticket) else {
            return Ok(());
        };
        let source = EngineSource {
            engine: &core.engine,
            partition,
            tier: Tier::Full,
        };
        let evaluation = computation.run(|| [].iter(), &source).ok();
        let outcome = core.settle(ticket, evaluation);
        let computed = Event::Computed {
            partition,
            ticket,
            gate,
            outcome,
        };
        self.core_event(address, computed)
    }
}

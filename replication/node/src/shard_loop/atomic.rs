//! Atomic operations: computed here when the replication core says whose turn it is, on the core from memory or on the engine
//! pool from disk, then logged as blind writes.
//!
//! A write with a request id takes the same way, because it must not be done twice: the engine's window is asked first.

use super::ShardLoop;
use super::hot_gates::HOT_FROM;
use super::read::raw_key;
use super::redis::RedisWrite;
use super::requests::Work;
use super::write::{Moment, Write, add_put, add_remove};
use crate::clock;
use crate::engine_pool::PoolDone;
use bytes::Bytes;
use pegasus_engine::atomic::{
    self, Computation, EngineSource, Evaluation, Need, Program, Rows, Source,
};
use pegasus_engine::scan::{ScanPage, ScanSpec};
use pegasus_engine::{Batch, Engine, ReadError, RequestOutcome, RocksStore, Row, Tier};
use pegasus_fbs::code::Code;
use pegasus_fbs::stats_page::{Counter, Timing};
use pegasus_net::request::{
    Check, CheckAndMutate, CheckAndSet, Checked, CheckedValue, Failure, Incr, IncrExpiry,
    Incremented, Key, Mutate, Operation, Reply, RequestId, Response,
};
use pegasus_replication::event::{Compute, Computed, Event};
use pegasus_replication::ids::{self, PartitionId, Ticket};
use std::cell::Cell;

/// One atomic operation that waits for its turn.
#[derive(Debug)]
pub(super) struct AtomicTask {
    pub(super) request_id: ids::RequestId,
    is_retry: bool,
    default_ttl_s: u32,
    plan: Plan,
}

#[derive(Debug)]
enum Plan {
    /// Depends on no row; it only must not be done twice.
    Blind(Write),
    Dependent(Dependent),
}

/// What depends on rows.
#[derive(Debug)]
pub(crate) enum Dependent {
    Incr(atomic::Incr),
    Check(Box<atomic::CheckAndMutate>),
    Redis(RedisWrite),
    /// Makes no sense, whatever the rows are: this is the answer.
    Senseless(Response),
}

/// What an operation on the pool came to.
#[derive(Debug)]
pub enum ComputeOutcome {
    Evaluated(Evaluation<Reply>),
    /// A file of the replica is damaged.
    Damaged(String),
}

/// A replica read on a pool thread.
struct StoreSource {
    store: RocksStore,
    partition: PartitionId,
}

impl Source for StoreSource {
    fn row(&self, raw_key: &[u8], now_s: u32) -> Result<Option<Row>, ReadError> {
        self.store.get(self.partition, raw_key, now_s)
    }

    fn page(&self, spec: &ScanSpec) -> Result<ScanPage, ReadError> {
        self.store.scan(self.partition, spec)
    }

    fn partition(&self) -> PartitionId {
        self.partition
    }
}

impl AtomicTask {
    /// A write that depends on nothing, under an identity.
    pub(super) const fn blind(write: Write) -> Self {
        Self {
            request_id: write.request_id,
            is_retry: false,
            default_ttl_s: 0,
            plan: Plan::Blind(write),
        }
    }

    /// `Ok(Err(operation))`: it is none of these.
    pub(super) fn of(
        operation: Operation,
        moment: Moment,
        bytes_max: usize,
    ) -> Result<Result<Self, Operation>, Failure> {
        let (id, is_retry, dependent) = match operation {
            Operation::Incr(incr) => (incr.id, incr.is_retry, Dependent::incr(&incr, moment)?),
            Operation::CheckAndSet(set) => {
                let (id, is_retry) = (set.id, set.is_retry);
                let dependent = Dependent::check_and_set(set, moment, bytes_max)?;
                (id, is_retry, dependent)
            }
            Operation::CheckAndMutate(mutate) => {
                let (id, is_retry) = (mutate.id, mutate.is_retry);
                let dependent = Dependent::check_and_mutate(mutate, moment, bytes_max)?;
                (id, is_retry, dependent)
            }
            other => return Ok(Err(other)),
        };
        Ok(Ok(Self::dependent(
            dependent,
            id,
            is_retry,
            moment.default_ttl_seconds,
        )))
    }

    pub(super) const fn dependent(
        dependent: Dependent,
        id: RequestId,
        is_retry: bool,
        default_ttl_s: u32,
    ) -> Self {
        let RequestId { client, sequence } = id;
        Self {
            request_id: ids::RequestId { client, sequence },
            is_retry,
            default_ttl_s,
            plan: Plan::Dependent(dependent),
        }
    }
}

impl Dependent {
    fn incr(incr: &Incr, moment: Moment) -> Result<Self, Failure> {
        let after = |seconds| moment.now_s.saturating_add(seconds);
        let expiry = match incr.expiry {
            IncrExpiry::Keep | IncrExpiry::After(0) | IncrExpiry::At(0) => atomic::IncrExpiry::Keep,
            IncrExpiry::Remove => atomic::IncrExpiry::Remove,
            IncrExpiry::After(seconds) => atomic::IncrExpiry::At(after(seconds)),
            IncrExpiry::At(second) => atomic::IncrExpiry::At(second),
        };
        Ok(Self::Incr(atomic::Incr {
            raw_key: raw_key(&incr.key)?,
            increment: incr.increment,
            expiry,
        }))
    }

    fn check_and_set(set: CheckAndSet, moment: Moment, bytes_max: usize) -> Result<Self, Failure> {
        let Some(check) = check_of(&set.hash_key, &set.check)? else {
            return Ok(Self::senseless_check());
        };
        let key = Key {
            hash_key: set.hash_key,
            sort_key: set.set_sort_key.unwrap_or(set.check.sort_key),
        };
        let mut batch = Batch::new();
        add_put(&mut batch, &key, &set.value, moment.resolve(set.expiry))?;
        Self::check(check, batch, set.return_check_value, bytes_max)
    }

    fn check_and_mutate(
        request: CheckAndMutate,
        moment: Moment,
        bytes_max: usize,
    ) -> Result<Self, Failure> {
        let Some(check) = check_of(&request.hash_key, &request.check)? else {
            return Ok(Self::senseless_check());
        };
        let key = |sort_key| Key {
            hash_key: request.hash_key.clone(),
            sort_key,
        };
        let mut batch = Batch::new();
        for mutation in request.mutations {
            match mutation {
                Mutate::Put {
                    sort_key,
                    value,
                    expiry,
                } => add_put(&mut batch, &key(sort_key), &value, moment.resolve(expiry))?,
                Mutate::Remove { sort_key } => add_remove(&mut batch, &key(sort_key))?,
                Mutate::Unknown { .. } => return Ok(Self::senseless_check()),
            }
        }
        if batch.is_empty() {
            return Ok(Self::senseless_check());
        }
        Self::check(check, batch, request.return_check_value, bytes_max)
    }

    fn check(
        check: atomic::Check,
        batch: Batch,
        return_check_value: bool,
        bytes_max: usize,
    ) -> Result<Self, Failure> {
        let bytes = batch.bytes();
        if bytes > bytes_max {
            let message = format!("a write of {bytes} bytes, the limit is {bytes_max}");
            return Err(Failure::new(Code::TooLarge, message));
        }
        Ok(Self::Check(Box::new(atomic::CheckAndMutate {
            check,
            batch,
            return_check_value,
        })))
    }

    const fn senseless_check() -> Self {
        Self::Senseless(Response::Checked {
            outcome: Checked::Invalid,
            checked_value: CheckedValue::NotAsked,
            decree: 0,
        })
    }

    /// The answer to a retry of what was applied with this result; `None` if the result is of another kind of operation.
    fn remembered(&self, result: &[u8]) -> Option<Response> {
        match self {
            Self::Incr(_) => atomic::Incremented::remembered(result).map(incremented),
            Self::Check(_) => {
                let value = atomic::CheckedValue::remembered(result)?;
                Some(checked(atomic::Checked::Passed, value))
            }
            // Redis clients give no request ids.
            Self::Redis(_) | Self::Senseless(_) => None,
        }
    }
}

impl Program for Dependent {
    /// Of a write with decree 0, which is known later.
    type Answer = Reply;

    fn evaluate(&mut self, rows: &Rows, moment: atomic::Moment) -> Result<Evaluation<Reply>, Need> {
        Ok(match self {
            Self::Incr(incr) => incr
                .evaluate(rows, moment)?
                .map(|answer| Ok(incremented(answer))),
            Self::Check(check) => check
                .evaluate(rows, moment)?
                .map(|(outcome, value)| Ok(checked(outcome, value))),
            Self::Redis(write) => write
                .evaluate(rows, moment)?
                .map(|answer| Ok(Response::Redis(answer))),
            Self::Senseless(response) => Evaluation::unchanged(Ok(response.clone())),
        })
    }
}

/// `None`: there is no such check.
fn check_of(hash_key: &Bytes, check: &Check) -> Result<Option<atomic::Check>, Failure> {
    let Some(kind) = atomic::CheckKind::from_number(check.kind) else {
        return Ok(None);
    };
    let key = Key {
        hash_key: hash_key.clone(),
        sort_key: check.sort_key.clone(),
    };
    Ok(Some(atomic::Check {
        raw_key: raw_key(&key)?,
        kind,
        operand: check.operand.clone(),
    }))
}

const fn incremented(answer: atomic::Incremented) -> Response {
    let (outcome, value) = match answer {
        atomic::Incremented::Done(sum) => (Incremented::Done, sum),
        atomic::Incremented::NotANumber => (Incremented::NotANumber, 0),
        atomic::Incremented::Overflow(value) => (Incremented::Overflow, value),
    };
    Response::Incremented {
        outcome,
        value,
        decree: 0,
    }
}

fn checked(outcome: atomic::Checked, value: atomic::CheckedValue) -> Response {
    Response::Checked {
        outcome: match outcome {
            atomic::Checked::Passed => Checked::Passed,
            atomic::Checked::Failed => Checked::Failed,
            atomic::Checked::Invalid => Checked::Invalid,
        },
        checked_value: match value {
            atomic::CheckedValue::NotAsked => CheckedValue::NotAsked,
            atomic::CheckedValue::Missing => CheckedValue::Missing,
            atomic::CheckedValue::Found(value) => CheckedValue::Found(value),
            atomic::CheckedValue::Forgotten => CheckedValue::Forgotten,
        },
        decree: 0,
    }
}

/// The answer to a write, with the decree that it has got.
pub(super) const fn with_decree(mut response: Response, applied: ids::Decree) -> Response {
    if let Response::Written { decree, .. }
    | Response::Incremented { decree, .. }
    | Response::Checked { decree, .. } = &mut response
    {
        *decree = applied.0;
    }
    response
}

impl ShardLoop {
    /// Computes everything whose turn it is.
    pub(super) fn compute_all(&mut self) {
        while let Some(compute) = self.shard.next_compute() {
            if let Some(outcome) = self.compute(compute) {
                self.tell_computed(compute, outcome);
            }
        }
    }

    /// `None`: it goes on elsewhere, or its client is gone.
    fn compute(&mut self, compute: Compute) -> Option<Computed> {
        let ticket = compute.ticket;
        let pending = self.requests.get_mut(ticket)?;
        let Work::Atomic(task) = std::mem::replace(&mut pending.work, Work::Away) else {
            return None;
        };
        let AtomicTask {
            request_id,
            is_retry,
            default_ttl_s,
            plan,
        } = *task;
        let known = self
            .engine
            .request_outcome(compute.partition, request_id, is_retry);
        match known {
            RequestOutcome::New => {}
            RequestOutcome::Forgotten => return Some(Computed::Forgotten),
            RequestOutcome::Applied { decree, result } => {
                let response = plan.remembered(&result);
                let Some(response) = response else {
                    return Some(Computed::Forgotten);
                };
                pending.work = Work::Answered(Ok(with_decree(response, decree)));
                return Some(Computed::Remembered);
            }
        }
        match plan {
            Plan::Blind(Write {
                payload,
                count,
                rows,
                ..
            }) => {
                let bytes = payload.len();
                pending.work = Work::Write { count, rows, bytes };
                self.engine.foresee(compute.partition, &payload);
                Some(Computed::Write { payload })
            }
            Plan::Dependent(mut dependent) => {
                if let Dependent::Redis(write) = &mut dependent {
                    // Nothing else of its gate gets a decree before it is computed: what is true now stays so.
                    write.set_plain(self.engine.is_plain(compute.partition, write.key()));
                }
                let wall_us = compute.wall_us;
                let moment = atomic::Moment {
                    wall_us,
                    default_ttl_s,
                };
                self.evaluate(compute, Computation::new(dependent, moment))
            }
        }
    }

    fn evaluate(
        &mut self,
        compute: Compute,
        mut computation: Computation<Dependent>,
    ) -> Option<Computed> {
        let Compute {
            partition,
            ticket,
            gate,
            ..
        } = compute;
        let (shard, engine) = (&self.shard, &self.engine);
        let source = EngineSource {
            engine,
            partition,
            tier: Tier::CacheOnly,
        };
        let looked_at = Cell::new(0);
        let evaluated = match self.hot_gates.rows(shard, partition, gate) {
            Some(prepared) => computation.run_over(prepared, &source),
            None => {
                let look = |_: &&Bytes| looked_at.set(looked_at.get() + 1);
                computation.run(|| shard.inflight(partition, gate).inspect(look), &source)
            }
        };
        if looked_at.get() >= HOT_FROM {
            self.hot_gates.add(shard, partition, gate);
        }
        match evaluated {
            Ok(evaluation) => {
                self.stats.count(Counter::ReadsFromMemory);
                Some(self.settle(ticket, evaluation))
            }
            Err(ReadError::Incomplete { .. }) => {
                computation.detach(self.shard.inflight(partition, gate));
                self.compute_away(compute, computation)
            }
            Err(error) => {
                let outcome = ComputeOutcome::of_error(&error);
                Some(self.take_outcome(compute, outcome))
            }
        }
    }

    /// Goes on on the pool, where it may block; its gate stays closed meanwhile.
    fn compute_away(
        &mut self,
        compute: Compute,
        mut computation: Computation<Dependent>,
    ) -> Option<Computed> {
        let source = StoreSource {
            store: self.store.clone(),
            partition: compute.partition,
        };
        let job = Box::new(move |done: &mut dyn FnMut(PoolDone)| {
            let outcome = match computation.run(|| [].iter(), &source) {
                Ok(evaluation) => ComputeOutcome::Evaluated(evaluation),
                Err(error) => ComputeOutcome::of_error(&error),
            };
            let outcome = Box::new(outcome);
            done(PoolDone::Computed { compute, outcome });
        });
        if self.outbox.read(job).is_ok() {
            self.stats.count(Counter::ReadsFromDisk);
            self.engine_work.one_leaves();
            return None;
        }
        let failure = self.busy(Counter::RejectReadQueue, "too many reads wait for the disk");
        Some(self.settle(compute.ticket, Evaluation::unchanged(Err(failure))))
    }

    /// An operation has come back from the pool.
    pub(super) fn on_compute_outcome(&mut self, compute: Compute, outcome: ComputeOutcome) {
        self.engine_work.one_returns();
        self.send_miss_away();
        // A request that was refused meanwhile is gone.
        let Some(pending) = self.requests.get_mut(compute.ticket) else {
            return;
        };
        let received = pending.measure.received;
        self.stats
            .record(Timing::ReadDisk, self.now.since(received));
        let outcome = self.take_outcome(compute, outcome);
        self.tell_computed(compute, outcome);
        self.compute_all();
    }

    fn take_outcome(&mut self, compute: Compute, outcome: ComputeOutcome) -> Computed {
        let evaluation = match outcome {
            ComputeOutcome::Evaluated(evaluation) => evaluation,
            ComputeOutcome::Damaged(error) => {
                let partition = compute.partition;
                let event = Event::ReplicaFailed { partition, error };
                self.shard.handle(self.now, event, &mut self.effects);
                Evaluation::unchanged(Err(Failure::new(
                    Code::OutOfService,
                    "this replica is damaged and out of service",
                )))
            }
        };
        self.settle(compute.ticket, evaluation)
    }

    /// Keeps the answer for when it may be given; what the replication core is told.
    fn settle(&mut self, ticket: Ticket, evaluation: Evaluation<Reply>) -> Computed {
        let Evaluation {
            answer,
            batch,
            result,
        } = evaluation;
        let Some(pending) = self.requests.get_mut(ticket) else {
            return Computed::Answer;
        };
        if batch.is_empty() {
            pending.work = Work::Answered(answer);
            return Computed::Answer;
        }
        let payload = batch.encode_with_result(&result);
        self.engine.foresee(pending.partition, &payload);
        pending.work = Work::Computed {
            reply: Box::new(answer),
            rows: batch.count(),
            bytes: payload.len(),
        };
        Computed::Write { payload }
    }

    fn tell_computed(&mut self, compute: Compute, outcome: Computed) {
        if outcome == Computed::Answer {
            // The right to answer is that of the moment after the engine has read: a pause before it must be seen.
            self.now = clock::now();
        }
        let Compute {
            partition,
            ticket,
            gate,
            ..
        } = compute;
        let appended = self.shard.log().appended_count();
        let event = Event::Computed {
            partition,
            ticket,
            gate,
            outcome,
        };
        self.shard.handle(self.now, event, &mut self.effects);
        let number = self.shard.log().appended_count();
        if number > appended
            && let Some(pending) = self.requests.get_mut(ticket)
        {
            self.waits.on_append(number, pending.measure.trace);
        }
    }
}

impl Plan {
    fn remembered(&self, result: &[u8]) -> Option<Response> {
        match self {
            Self::Blind(write) => Some(Response::Written {
                decree: 0,
                count: write.count,
            }),
            Self::Dependent(dependent) => dependent.remembered(result),
        }
    }
}

impl ComputeOutcome {
    /// Nothing was done, whatever the error.
    fn of_error(error: &ReadError) -> Self {
        match error {
            ReadError::Corruption { .. } => Self::Damaged(error.to_string()),
            ReadError::NoReplica { .. } => Self::failed(Code::NotHere, error),
            ReadError::TooLarge { .. } => Self::failed(Code::TooLarge, error),
            ReadError::Io { partition, .. } | ReadError::Incomplete { partition } => {
                tracing::error!(%partition, %error, "read for an atomic operation failed");
                Self::failed(Code::NotServing, error)
            }
        }
    }

    fn failed(code: Code, error: &ReadError) -> Self {
        let failure = Failure::new(code, error.to_string());
        Self::Evaluated(Evaluation::unchanged(Err(failure)))
    }
}

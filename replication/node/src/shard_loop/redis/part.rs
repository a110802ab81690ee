//! Parts whose rows this core has: checked, given to the replication core, counted.

use super::super::ShardLoop;
use super::super::admit::denied;
use super::super::arrivals::Waiting;
use super::super::atomic::{AtomicTask, Dependent};
use super::super::read::ReadTask;
use super::super::requests::{Measure, Origin, Pending, Work};
use super::super::throttling::Delayed;
use super::commands::{self, goes_to_gate};
use super::{Asked, RedisRead, RedisScan, RedisWrite, scan};
use crate::clock;
use crate::throttle::Verdict;
use bytes::Bytes;
use pegasus_engine::value::seconds_since_epoch;
use pegasus_engine::{Batch, Engine, key};
use pegasus_fbs::code::Code;
use pegasus_fbs::hash::key_hash;
use pegasus_fbs::stats_page::{Counter, Timing};
use pegasus_net::request::{Failure, Reply, RequestId, Response};
use pegasus_redis::{Calls, Context, Kind};
use pegasus_replication::event::Event;
use pegasus_replication::ids::{self, PartitionId};
use pegasus_resp::Value;
use std::sync::Arc;

impl ShardLoop {
    /// A part whose rows this core has, or is believed to have: at once, or when its table's turn comes.
    pub(in crate::shard_loop) fn admit_part(&mut self, origin: Origin, asked: Asked) {
        let partition = asked.partition;
        if self.arrivals.note(partition.table.0) {
            return self.start_part(origin, asked);
        }
        self.keep_waiting(partition, Waiting::Part { origin, asked });
    }

    /// Its turn has come: past the throttles, or into them.
    pub(in crate::shard_loop) fn start_part(&mut self, origin: Origin, asked: Asked) {
        let table = self.directory.tables.get(&asked.partition.table);
        let is_write = asked.is_write();
        let is_free = table.is_none_or(|table| table.settings.throttles().is_none());
        if is_free && !self.throttling.holds_back(asked.partition, is_write) {
            return self.run_part(origin, asked);
        }
        let mut measure = Measure::untraced(Some(counted(&asked.calls).1), asked.received);
        measure.slot = self.stats.slot_of(asked.partition);
        match self.judge_part(&asked) {
            Verdict::Pass => self.run_part(origin, asked),
            Verdict::Delay(_) if self.is_over_share(asked.partition.table) => {
                let failure = self.over_share();
                self.refuse(origin, measure, failure);
            }
            Verdict::Delay(pause) => {
                self.delay(pause, is_write, Delayed::Part { origin, asked });
            }
            Verdict::Reject(pause) => self.reject_throttled(pause, is_write, origin, measure),
        }
    }

    /// Past the throttles. A write waits until its partition has room for it.
    pub(in crate::shard_loop) fn run_part(&mut self, origin: Origin, asked: Asked) {
        if asked.is_write() && self.has_to_wait(&asked) {
            return self.queue_part(origin, asked);
        }
        self.decide_part(origin, asked);
    }

    /// There is room for it, as far as can be known.
    pub(super) fn decide_part(&mut self, origin: Origin, asked: Asked) {
        let (counter, timing) = counted(&asked.calls);
        self.stats.count(counter);
        let Asked {
            partition,
            calls,
            received,
            deadline,
        } = asked;
        let key = commands::key_of(&calls);
        let hash = key_hash(&key, b"");
        let measure = Measure {
            timing: Some(timing),
            received,
            trace: self
                .stats
                .begin_part(timing, partition, hash, received, self.now),
            slot: self.stats.count_request(partition, Some(timing)),
        };
        if !key.is_empty() {
            let is_write = goes_to_gate(&calls);
            self.stats.note_key(partition, is_write, hash, (&key, b""));
        }
        let (work, wanted) = match self.prepare_part(partition, calls, &key, hash) {
            Ok(prepared) => prepared,
            Err(reply) => return self.send_answer(origin, measure, reply),
        };
        let ticket = self.requests.insert(Pending {
            origin,
            partition,
            measure,
            deadline,
            work,
            scanner: None,
        });
        let request_id = ids::RequestId::default();
        let event = match wanted {
            Wanted::Read => Event::Read {
                partition,
                ticket,
                deadline,
            },
            Wanted::Atomic { wall_us } => Event::Atomic {
                partition,
                ticket,
                request_id,
                gate: hash,
                wall_us,
                deadline,
            },
            Wanted::Write { wall_us, payload } => Event::Write {
                partition,
                ticket,
                request_id,
                gate: hash,
                wall_us,
                payload,
                deadline,
            },
        };
        let is_write = matches!(event, Event::Write { .. });
        let appended = self.shard.log().appended_count();
        self.decide(event);
        let number = self.shard.log().appended_count();
        if is_write && number > appended {
            self.waits.on_append(number, measure.trace);
        }
    }

    /// Checks all that can be checked without the replica's state.
    fn prepare_part(
        &mut self,
        partition: PartitionId,
        calls: Arc<Calls>,
        key: &[u8],
        hash: u64,
    ) -> Result<(Work, Wanted), Reply> {
        if self.is_stopping() {
            self.asked_at = self.now;
            return Err(Err(Failure::new(Code::NotServing, "this node is stopping")));
        }
        if self.is_over_share(partition.table) {
            return Err(Err(self.over_share()));
        }
        let Some(table) = self.directory.tables.get(&partition.table) else {
            return Err(Err(self.unknown_table(partition)));
        };
        let is_write = goes_to_gate(&calls);
        if table.settings.denial(is_write).is_some() {
            // Clients of Redis wait for every answer.
            return Err(Err(denied()));
        }
        let count = u64::from(table.partition_count);
        if !key.is_empty() && hash % count.max(1) != u64::from(partition.index) {
            let message = format!("the key does not belong to partition {partition}");
            return Err(Err(Failure::new(Code::NotHere, message)));
        }
        let wall_us = clock::wall_us();
        let context = Context {
            now_ms: wall_us / 1000,
            default_ttl_s: table.default_ttl_seconds,
        };
        if !is_write {
            let now_s = seconds_since_epoch(wall_us);
            let task = self.read_of_redis(partition, calls, context, now_s);
            return Ok((Work::Read(task.map_err(Err)?), Wanted::Read));
        }
        if let Some(payload) = self.blind_write(partition, &calls, key, hash, &context) {
            let bytes = payload.len();
            return Ok((Work::Stored { bytes }, Wanted::Write { wall_us, payload }));
        }
        let work = Self::work_of_redis_write(calls, context).map_err(Err)?;
        Ok((work, Wanted::Atomic { wall_us }))
    }

    /// A string that takes the place of what is there, where that is known to be no hash and not about to become one: a put
    /// that depends on nothing.
    fn blind_write(
        &self,
        partition: PartitionId,
        calls: &Calls,
        key: &[u8],
        hash: u64,
        context: &Context,
    ) -> Option<Bytes> {
        let (value, expire_at) = pegasus_redis::replacement(calls, context)?;
        let is_blind =
            self.engine.is_plain(partition, key) && self.shard.is_gate_open(partition, hash);
        if !is_blind {
            return None;
        }
        let mut batch = Batch::new();
        let raw_key = key::encode(key, b"").ok()?;
        batch.put(&raw_key, &value, expire_at).ok()?;
        Some(batch.encode())
    }

    fn read_of_redis(
        &self,
        partition: PartitionId,
        calls: Arc<Calls>,
        context: Context,
        now_s: u32,
    ) -> Result<ReadTask, Failure> {
        if let Some(call) = scan::page_call(&calls) {
            let after = self.redis.cursors.after(call, partition);
            return Ok(match RedisScan::new(call, after, now_s)? {
                Ok(scan) => ReadTask::of_redis_scan(partition, scan, now_s),
                Err(value) => ReadTask::known(partition, Ok(Response::Redis(value))),
            });
        }
        if calls
            .as_slice()
            .iter()
            .any(|call| call.spec.kind == Kind::DbSize)
        {
            let rows = i64::try_from(self.store.estimated_rows(partition)).unwrap_or(i64::MAX);
            let value = Value::Integer(rows);
            return Ok(ReadTask::known(partition, Ok(Response::Redis(value))));
        }
        let read = RedisRead::new(calls, context, now_s)?;
        Ok(ReadTask::of_redis(partition, read, now_s))
    }

    fn work_of_redis_write(calls: Arc<Calls>, context: Context) -> Result<Work, Failure> {
        let write = Dependent::Redis(RedisWrite::new(calls)?);
        let id = RequestId::default();
        let task = AtomicTask::dependent(write, id, false, context.default_ttl_s);
        Ok(Work::Atomic(Box::new(task)))
    }

    /// A page that was read gets a cursor.
    pub(in crate::shard_loop) fn with_cursor(
        &mut self,
        partition: PartitionId,
        reply: Reply,
    ) -> Reply {
        match reply {
            Ok(Response::Redis(value @ Value::Push(_))) => {
                Ok(Response::Redis(self.redis.cursors.number(partition, value)))
            }
            reply => reply,
        }
    }
}

/// What the replication core is asked.
enum Wanted {
    Read,
    Atomic { wall_us: u64 },
    Write { wall_us: u64, payload: Bytes },
}

/// The counter and the histogram of a part.
fn counted(calls: &Calls) -> (Counter, Timing) {
    let Calls::One(call) = calls else {
        return (Counter::RequestCheckAndMutate, Timing::CheckAndMutate);
    };
    match call.spec.kind {
        Kind::Get | Kind::MGet | Kind::HGet | Kind::StrLen | Kind::HStrLen | Kind::GetRange => {
            (Counter::RequestGet, Timing::Get)
        }
        Kind::Set
        | Kind::MSet
        | Kind::SetEx
        | Kind::PSetEx
        | Kind::SetNx
        | Kind::MSetNx
        | Kind::GetSet => (Counter::RequestPut, Timing::Put),
        Kind::Incr | Kind::IncrBy | Kind::Decr | Kind::DecrBy | Kind::IncrByFloat => {
            (Counter::RequestIncr, Timing::Incr)
        }
        Kind::Del | Kind::GetDel => (Counter::RequestRemove, Timing::Remove),
        Kind::Exists | Kind::HExists | Kind::Type => (Counter::RequestExist, Timing::Exist),
        Kind::Ttl | Kind::PTtl | Kind::ExpireTime | Kind::PExpireTime => {
            (Counter::RequestTtl, Timing::Ttl)
        }
        Kind::HSet | Kind::HMSet | Kind::HSetNx => (Counter::RequestMultiPut, Timing::MultiPut),
        Kind::HDel => (Counter::RequestMultiRemove, Timing::MultiRemove),
        Kind::HMGet | Kind::HGetAll | Kind::HKeys | Kind::HVals => {
            (Counter::RequestMultiGet, Timing::MultiGet)
        }
        Kind::HLen => (Counter::RequestSortKeyCount, Timing::SortKeyCount),
        Kind::Scan | Kind::HScan => (Counter::RequestScan, Timing::Scan),
        _ => (Counter::RequestCheckAndMutate, Timing::CheckAndMutate),
    }
}

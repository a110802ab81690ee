//! Parts whose rows this core has: checked, given to the replication core, counted.

use super::super::ShardLoop;
use super::super::admit::denied;
use super::super::atomic::{AtomicTask, Dependent};
use super::super::read::ReadTask;
use super::super::requests::{Measure, Origin, Pending, Work};
use super::commands::{self, goes_to_gate};
use super::{Asked, RedisRead, RedisScan, RedisWrite, scan};
use crate::clock;
use pegasus_engine::value::seconds_since_epoch;
use pegasus_fbs::code::Code;
use pegasus_fbs::hash::key_hash;
use pegasus_fbs::stats_page::{Counter, Timing};
use pegasus_net::request::{Failure, Reply, RequestId, Response};
use pegasus_redis::{Calls, Context, Kind};
use pegasus_replication::event::Event;
use pegasus_replication::ids::{self, Instant, PartitionId, Ticket};
use pegasus_resp::Value;
use std::sync::Arc;

impl ShardLoop {
    /// A part whose rows this core has, or is believed to have.
    pub(in crate::shard_loop) fn admit_part(&mut self, origin: Origin, asked: Asked) {
        let (counter, timing) = counted(&asked.calls);
        self.stats.count(counter);
        let Asked {
            partition,
            calls,
            received,
            deadline,
        } = asked;
        let hash = key_hash(&commands::key_of(&calls), b"");
        let measure = Measure {
            timing: Some(timing),
            received,
            trace: self
                .stats
                .begin_part(timing, partition, hash, received, self.now),
        };
        match self.prepare_part(partition, calls, hash) {
            Ok((work, wall_us)) => {
                let is_read = matches!(work, Work::Read(_));
                let ticket = self.requests.insert(Pending {
                    origin,
                    partition,
                    measure,
                    deadline,
                    work,
                    scanner: None,
                });
                if is_read {
                    self.decide(Event::Read {
                        partition,
                        ticket,
                        deadline,
                    });
                } else {
                    self.decide_atomic(partition, ticket, hash, wall_us, deadline);
                }
            }
            Err(reply) => self.send_answer(origin, measure, reply),
        }
    }

    /// Checks all that can be checked without the replica's state.
    fn prepare_part(
        &mut self,
        partition: PartitionId,
        calls: Arc<Calls>,
        hash: u64,
    ) -> Result<(Work, u64), Reply> {
        if self.is_stopping() {
            return Err(Err(Failure::new(Code::NotServing, "this node is stopping")));
        }
        if self.requests.is_full() {
            let message = "too many requests are in work on this core";
            return Err(Err(self.busy(Counter::RejectRequests, message)));
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
        let is_keyed = calls.as_slice().iter().any(|call| call.key().is_some());
        if is_keyed && hash % count.max(1) != u64::from(partition.index) {
            let message = format!("the key does not belong to partition {partition}");
            return Err(Err(Failure::new(Code::NotHere, message)));
        }
        let wall_us = clock::wall_us();
        let now_s = seconds_since_epoch(wall_us);
        let context = Context {
            now_ms: wall_us / 1000,
            default_ttl_s: table.default_ttl_seconds,
        };
        if is_write {
            let work = Self::work_of_redis_write(calls, context).map_err(Err)?;
            return Ok((work, wall_us));
        }
        let task = self
            .read_of_redis(partition, calls, context, now_s)
            .map_err(Err)?;
        Ok((Work::Read(Box::new(task)), wall_us))
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

    fn decide_atomic(
        &mut self,
        partition: PartitionId,
        ticket: Ticket,
        gate: u64,
        wall_us: u64,
        deadline: Instant,
    ) {
        self.decide(Event::Atomic {
            partition,
            ticket,
            request_id: ids::RequestId::default(),
            gate,
            wall_us,
            deadline,
        });
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

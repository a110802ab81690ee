#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::failed::may_try_again;
use super::*;
use crate::shard_loop::read::ReadTask;
use crate::shard_loop::read::{RowSource, Step};
use bytes::{Bytes, BytesMut};
use pegasus_engine::atomic::{Computation, EngineSource, Moment};
use pegasus_engine::scan::{ScanPage, ScanSpec};
use pegasus_engine::{Batch, Engine, MemEngine, ReadError, Row, Tier, key};
use pegasus_redis::Call;
use pegasus_redis::Context;
use pegasus_replication::ids;
use pegasus_replication::ids::{Ballot, Decree, ReplicaIncarnation, TableId};
use pegasus_resp::CommandDecoder;
use std::cell::Cell;
use std::ops::ControlFlow;

pub(super) const PARTITION: PartitionId = PartitionId {
    table: TableId(1),
    index: 0,
};

pub(super) fn call(line: &str) -> Call {
    let mut bytes = BytesMut::from(format!("{line}\r\n").as_bytes());
    let limits = pegasus_resp::Limits {
        line_bytes_max: 4 << 20,
        ..pegasus_resp::Limits::DEFAULT
    };
    let command = CommandDecoder::new(limits).decode(&mut bytes).unwrap();
    Call::new(command.unwrap()).unwrap()
}

fn calls(line: &str) -> Arc<Calls> {
    Arc::new(Calls::One(call(line)))
}

/// A replica in memory; counts how often it is asked.
pub(super) struct Replica {
    engine: MemEngine,
    decree: u64,
    asked: Cell<u32>,
    /// Rows that were asked for by name, with others.
    named: Cell<usize>,
}

impl Default for Replica {
    fn default() -> Self {
        let mut engine = MemEngine::default();
        assert!(engine.create(PARTITION, ReplicaIncarnation(1)));
        Self {
            engine,
            decree: 0,
            asked: Cell::new(0),
            named: Cell::new(0),
        }
    }
}

impl Replica {
    pub(super) fn put(&mut self, name: &str, sort_key: &str, value: &str) {
        let mut batch = Batch::new();
        let raw_key = key::encode(name.as_bytes(), sort_key.as_bytes()).unwrap();
        batch.put(&raw_key, value.as_bytes(), 0).unwrap();
        self.apply(&batch.encode());
    }

    fn apply(&mut self, payload: &[u8]) {
        self.decree += 1;
        let decree = Decree(self.decree);
        self.engine
            .apply(
                PARTITION,
                decree,
                Ballot(1),
                0,
                ids::RequestId::default(),
                payload,
            )
            .unwrap();
    }

    fn read(&self, line: &str) -> Value {
        let context = Context {
            now_ms: 1_800_000_000_000,
            default_ttl_s: 0,
        };
        let read = RedisRead::new(calls(line), context, 0).unwrap();
        let mut task = ReadTask::of_redis(PARTITION, read, 0);
        match task.step(self, Tier::CacheOnly) {
            Step::Done(Ok(Response::Redis(value))) => value,
            other => panic!("{other:?}"),
        }
    }

    /// What a write comes to while these payloads are in flight, the newest first: its answer, and its payload.
    fn write(&self, line: &str, inflight: &[Bytes]) -> (Value, Bytes) {
        let program = RedisWrite::new(calls(line)).unwrap();
        let moment = Moment {
            wall_us: 1_800_000_000_000_000,
            default_ttl_s: 0,
        };
        let source = EngineSource {
            engine: &self.engine,
            partition: PARTITION,
            tier: Tier::CacheOnly,
        };
        let mut computation = Computation::new(program, moment);
        let evaluation = computation.run(|| inflight.iter(), &source).unwrap();
        (evaluation.answer, evaluation.batch.encode())
    }

    fn run(&mut self, line: &str) -> Value {
        let (answer, payload) = self.write(line, &[]);
        if !payload.is_empty() {
            self.apply(&payload);
        }
        answer
    }
}

impl RowSource for Replica {
    fn row(
        &self,
        partition: PartitionId,
        raw_key: &[u8],
        now_s: u32,
        tier: Tier,
    ) -> Result<Option<Row>, ReadError> {
        self.asked.set(self.asked.get() + 1);
        self.engine.get(partition, raw_key, now_s, tier)
    }

    fn rows(
        &self,
        partition: PartitionId,
        raw_keys: &[Bytes],
        now_s: u32,
        tier: Tier,
        see: &mut dyn FnMut(Option<Row>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.asked.set(self.asked.get() + 1);
        for raw_key in raw_keys {
            if see(self.engine.get(partition, raw_key, now_s, tier)?).is_break() {
                break;
            }
            self.named.set(self.named.get() + 1);
        }
        Ok(())
    }

    fn page(
        &self,
        partition: PartitionId,
        spec: &ScanSpec,
        tier: Tier,
    ) -> Result<ScanPage, ReadError> {
        self.asked.set(self.asked.get() + 1);
        self.engine.scan(partition, spec, tier)
    }
}

#[test]
fn a_string_that_is_there_is_read_by_one_look() {
    let mut replica = Replica::default();
    replica.put("k", "", "v");
    assert_eq!(replica.read("GET k"), Value::Bulk(Bytes::from_static(b"v")));
    assert_eq!(replica.asked.get(), 1);
    assert_eq!(replica.read("GET none"), Value::Null);
    assert_eq!(
        replica.asked.get(),
        3,
        "whether a key is a hash is asked on a miss only"
    );
    replica.put("h", "f", "v");
    assert!(
        replica
            .read("GET h")
            .error()
            .unwrap()
            .starts_with("WRONGTYPE")
    );
}

#[test]
fn reads_find_rows_wherever_they_are() {
    let mut replica = Replica::default();
    replica.run("HSET h a 1 b 2 c 3");
    let text = |text: &'static str| Value::Bulk(Bytes::from_static(text.as_bytes()));
    assert_eq!(replica.read("HGET h b"), text("2"));
    assert_eq!(
        replica.read("HMGET h a none"),
        Value::Array(vec![text("1"), Value::Null])
    );
    assert_eq!(
        replica.read("HKEYS h"),
        Value::Array(vec![text("a"), text("b"), text("c")])
    );
    assert_eq!(replica.read("HLEN h"), Value::Integer(3));
    assert_eq!(replica.read("EXISTS h"), Value::Integer(1));
    assert_eq!(replica.read("TTL h"), Value::Integer(-1));
}

#[test]
fn a_hash_that_one_step_cannot_hold_is_read_on_the_pool() {
    let mut replica = Replica::default();
    for field in 0..1000 {
        replica.put("h", &format!("f{field:04}"), "v");
    }
    let context = Context {
        now_ms: 1_800_000_000_000,
        default_ttl_s: 0,
    };
    let read = RedisRead::new(calls("HLEN h"), context, 0).unwrap();
    let mut task = ReadTask::of_redis(PARTITION, read, 0);
    assert!(matches!(
        task.step(&replica, Tier::CacheOnly),
        Step::NeedsDisk
    ));
    let Step::Done(Ok(Response::Redis(answer))) = task.step(&replica, Tier::Full) else {
        panic!("the pool reads to the end");
    };
    assert_eq!(answer, Value::Integer(1000));
}

fn fields(count: usize) -> String {
    (0..count).map(|n| format!(" f{n:05}")).collect()
}

/// One step on the core, which does not suffice, and then one on the pool.
fn answer_of_pool(replica: &Replica, line: &str) -> pegasus_net::request::Reply {
    let context = Context {
        now_ms: 1_800_000_000_000,
        default_ttl_s: 0,
    };
    let read = RedisRead::new(calls(line), context, 0).unwrap();
    let mut task = ReadTask::of_redis(PARTITION, read, 0);
    let step = task.step(replica, Tier::CacheOnly);
    assert!(matches!(step, Step::NeedsDisk), "{step:?}");
    assert_eq!(replica.named.get(), 0, "rows looked up on the core");
    match task.step(replica, Tier::Full) {
        Step::Done(reply) => reply,
        other => panic!("{other:?}"),
    }
}

#[test]
fn many_fields_are_looked_up_on_the_pool() {
    let mut replica = Replica::default();
    replica.put("h", "f00007", "v");
    let line = format!("HMGET h{}", fields(1000));
    let Ok(Response::Redis(Value::Array(values))) = answer_of_pool(&replica, &line) else {
        panic!("an array");
    };
    assert_eq!(values.len(), 1000);
    assert_eq!(values[7], Value::Bulk(Bytes::from_static(b"v")));
}

#[test]
fn fields_larger_than_an_answer_are_read_only_as_far_as_that() {
    let mut replica = Replica::default();
    let value = "v".repeat(1_000_000);
    for field in 0..40 {
        replica.put("h", &format!("f{field:05}"), &value);
    }
    let line = format!("HMGET h{}", fields(40));
    let Ok(Response::Redis(value)) = answer_of_pool(&replica, &line) else {
        panic!("an answer");
    };
    assert_eq!(
        value,
        pegasus_redis::answer::error(pegasus_redis::answer::BIG_ANSWER)
    );
    assert!(replica.named.get() <= pegasus_redis::ANSWER_BYTES_MAX / 1_000_000);
}

#[test]
fn names_that_would_take_too_much_with_their_key_are_refused() {
    let replica = Replica::default();
    let key = "k".repeat(60_000);
    let too_many = pegasus_redis::answer::error(pegasus_redis::answer::BIG_COMMAND);
    let line = format!("HMGET {key}{}", fields(600));
    let Ok(Response::Redis(value)) = answer_of_pool(&replica, &line) else {
        panic!("an answer");
    };
    assert_eq!(value, too_many);
    let (value, payload) = replica.write(&format!("HDEL {key}{}", fields(600)), &[]);
    assert_eq!(value, too_many);
    assert!(payload.is_empty());
}

#[test]
fn many_fields_are_not_written_by_looking_each_up_on_the_core() {
    let replica = Replica::default();
    let program = RedisWrite::new(calls(&format!("HDEL h{}", fields(1000)))).unwrap();
    let moment = Moment {
        wall_us: 1_800_000_000_000_000,
        default_ttl_s: 0,
    };
    let source = |tier| EngineSource {
        engine: &replica.engine,
        partition: PARTITION,
        tier,
    };
    let mut computation = Computation::new(program, moment);
    let on_core = computation.run(|| [].iter(), &source(Tier::CacheOnly));
    assert!(matches!(on_core, Err(ReadError::Incomplete { .. })));
    let evaluation = computation.run(|| [].iter(), &source(Tier::Full)).unwrap();
    assert_eq!(evaluation.answer, Value::Integer(0));
}

#[test]
fn writes_see_what_is_in_flight() {
    let mut replica = Replica::default();
    replica.run("SET n 1");
    let (first, newer) = replica.write("INCR n", &[]);
    assert_eq!(first, Value::Integer(2));
    let (second, newest) = replica.write("INCR n", std::slice::from_ref(&newer));
    assert_eq!(second, Value::Integer(3));
    let (third, _) = replica.write("INCR n", &[newest, newer]);
    assert_eq!(third, Value::Integer(4));
    // A hash that is being removed is not one any more.
    replica.run("HSET h f v");
    let (_, removal) = replica.write("DEL h", &[]);
    assert_eq!(
        replica.write("SETNX h x", std::slice::from_ref(&removal)).0,
        Value::Integer(1)
    );
    assert_eq!(replica.write("HSET h g w", &[removal]).0, Value::Integer(1));
}

#[test]
fn a_string_takes_the_place_of_all_fields_as_one() {
    let mut replica = Replica::default();
    replica.run("HSET h a 1 b 2");
    let (answer, payload) = replica.write("SET h v", &[]);
    assert_eq!(answer, pegasus_redis::answer::ok());
    assert_eq!(
        pegasus_engine::BatchRef::parse(&payload).unwrap().count(),
        3
    );
    replica.apply(&payload);
    assert_eq!(
        replica.read("TYPE h"),
        Value::Simple(Bytes::from_static(b"string"))
    );
    assert_eq!(replica.run("DEL h"), Value::Integer(1));
    assert_eq!(replica.read("EXISTS h"), Value::Integer(0));
}

#[test]
fn a_command_that_changes_nothing_writes_nothing() {
    let mut replica = Replica::default();
    replica.run("SET k v");
    for line in [
        "SETNX k w",
        "DEL none",
        "EXPIRE none 10",
        "INCR k",
        "HSET k f v",
        "PERSIST k",
    ] {
        assert!(replica.write(line, &[]).1.is_empty(), "{line}");
    }
}

#[test]
fn a_write_over_the_limit_of_a_batch_is_refused() {
    let replica = Replica::default();
    let long = "v".repeat(60_000);
    let fields: Vec<String> = (0..20).map(|field| format!("f{field} {long}")).collect();
    let limits = pegasus_resp::Limits {
        line_bytes_max: 4 << 20,
        ..pegasus_resp::Limits::DEFAULT
    };
    let mut bytes = BytesMut::from(format!("HSET h {}\r\n", fields.join(" ")).as_bytes());
    let command = CommandDecoder::new(limits)
        .decode(&mut bytes)
        .unwrap()
        .unwrap();
    let calls = Arc::new(Calls::One(Call::new(command).unwrap()));
    let source = EngineSource {
        engine: &replica.engine,
        partition: PARTITION,
        tier: Tier::CacheOnly,
    };
    let moment = Moment {
        wall_us: 1_800_000_000_000_000,
        default_ttl_s: 0,
    };
    let mut computation = Computation::new(RedisWrite::new(calls).unwrap(), moment);
    let evaluation = computation.run(|| [].iter(), &source).unwrap();
    assert!(evaluation.batch.is_empty());
    assert!(evaluation.answer.error().unwrap().contains("larger than"));
}

#[test]
fn only_what_was_not_executed_or_only_reads_is_tried_again() {
    let failure = |code| Failure::new(code, "");
    for code in [
        Code::NotPrimary,
        Code::NotHere,
        Code::NotServing,
        Code::Busy,
    ] {
        assert!(may_try_again(&failure(code), true), "{code:?}");
    }
    for code in [Code::Unknown, Code::Internal] {
        assert!(!may_try_again(&failure(code), true), "{code:?}");
        assert!(may_try_again(&failure(code), false), "{code:?}");
    }
    for code in [
        Code::NotEnoughMembers,
        Code::DiskFull,
        Code::TooLarge,
        Code::InvalidArgument,
    ] {
        assert!(!may_try_again(&failure(code), false), "{code:?}");
    }
}

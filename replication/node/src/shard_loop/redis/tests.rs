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

pub(super) const PARTITION: PartitionId = PartitionId {
    table: TableId(1),
    index: 0,
};

pub(super) fn call(line: &str) -> Call {
    let mut bytes = BytesMut::from(format!("{line}\r\n").as_bytes());
    let command = CommandDecoder::default().decode(&mut bytes).unwrap();
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
}

impl Default for Replica {
    fn default() -> Self {
        let mut engine = MemEngine::default();
        assert!(engine.create(PARTITION, ReplicaIncarnation(1)));
        Self {
            engine,
            decree: 0,
            asked: Cell::new(0),
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
    ) -> Result<Vec<Option<Row>>, ReadError> {
        self.asked.set(self.asked.get() + 1);
        self.engine.multi_get(partition, raw_keys, now_s, tier)
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

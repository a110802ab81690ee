//! What the stages of one request cost, for docs/measurements.md:
//! `cargo test --release -p pegasus-replica --lib stages_cost -- --ignored --nocapture`.

use super::*;
use crate::config::StagesConfig;
use pegasus_net::request::{Key, Put, RequestId};
use rustix::time::{ClockId, clock_gettime};

const REQUESTS: u32 = 2_000_000;

fn put() -> Request {
    let operation = Operation::Put(Put {
        key: Key::default(),
        value: bytes::Bytes::new(),
        ttl_seconds: 0,
        id: RequestId::default(),
    });
    Request {
        table: 1,
        partition: 2,
        timeout: None,
        operation,
    }
}

/// All that a turn of the loop with `count` writes does for their stages: the stamps of the turn, too.
fn turn(stats: &mut Stats, request: &Request, count: u32, sent: &mut Vec<Sent>) {
    stats.begin_turn();
    let now = clock::now();
    let arrival = Arrival {
        received_ns: now.0,
        looked_at_ns: now.0,
        decoded_ns: now.0,
    };
    let decided = clock::now();
    for number in 0..count {
        let trace = stats.begin(Some(Timing::Put), request, &arrival);
        stats.set_key_hash(trace, 77);
        stats.wait_for_right(trace, now);
        stats.admitted(trace, Stage::LogWait, decided);
        stats.enter(trace, Stage::Flush, decided);
        stats.enter(trace, Stage::Replication, decided);
        stats.enter(trace, Stage::Apply, decided);
        // The engine works for one after the other.
        stats.wait_for_right(trace, Instant(decided.0 + u64::from(number) * 1_000));
        stats.set_bytes(trace, 100);
        if let Some(receipt) = stats.answered(trace, Code::Ok, decided) {
            let at_ns = decided.0;
            sent.push(Sent { receipt, at_ns });
        }
    }
    if stats.has_encoded() {
        stats.end_encoding(clock::now());
    }
    stats.sent(sent);
}

/// The time this thread has run, which a busy machine does not add to.
fn cpu_ns() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

#[test]
#[ignore = "a measurement"]
fn stages_cost() {
    let dir = tempfile::tempdir().expect("a directory");
    for count in [1, 4, 16, 64] {
        for stages in [StagesConfig::On, StagesConfig::Off] {
            let path = dir.path().join("page");
            let mut stats = Stats::create(&path, NodeId(1), CoreId(0), 1, stages).expect("a page");
            let (request, mut sent) = (put(), Vec::new());
            let started = cpu_ns();
            for _ in 0..REQUESTS / count {
                turn(&mut stats, &request, count, &mut sent);
            }
            let ns = (cpu_ns() - started) / i64::from(REQUESTS);
            eprintln!("{count:2} requests a turn, stages {stages:?}: {ns} ns a request");
        }
    }
    let started = cpu_ns();
    for _ in 0..REQUESTS {
        std::hint::black_box(clock::now());
    }
    let ns = (cpu_ns() - started) / i64::from(REQUESTS);
    eprintln!("one reading of the clock: {ns} ns");
}

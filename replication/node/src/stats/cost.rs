//! What the stages of one request cost, for docs/measurements.md:
//! `cargo test --release -p pegasus-replica --lib stages_cost -- --ignored --nocapture`.

use super::*;
use crate::config::StagesConfig;
use pegasus_net::request::{Expiry, Key, Put, RequestId};
use rustix::time::{ClockId, clock_gettime};

const REQUESTS: u32 = 2_000_000;

fn request(timing: Timing) -> Request {
    let key = Key::default();
    let operation = match timing {
        Timing::Put => Operation::Put(Put {
            key,
            value: bytes::Bytes::new(),
            expiry: Expiry::Default,
            id: RequestId::default(),
        }),
        _ => Operation::Get(key),
    };
    Request {
        table: 1,
        partition: 2,
        timeout: None,
        operation,
    }
}

/// All that a turn of the loop with `count` requests does for their stages. Switched off it leaves the two readings of the
/// clock that each turn makes.
fn turn(stats: &mut Stats, timing: Timing, request: &Request, count: u32, sent: &mut Vec<Sent>) {
    stats.begin_turn();
    let now = clock::now();
    stats.sent(sent);
    let arrival = Arrival {
        received_ns: now.0,
        looked_at_ns: now.0,
        decoded_ns: now.0,
    };
    let decided = if stats.measures_stages() {
        clock::now()
    } else {
        now
    };
    for number in 0..count {
        let trace = stats.begin(Some(timing), request, Some(77), &arrival, now);
        if timing == Timing::Put {
            stats.admitted(trace, Stage::Flush, decided);
            stats.enter(trace, Stage::Replication, decided);
            stats.enter(trace, Stage::Apply, decided);
        } else {
            stats.admitted(trace, Stage::Read, decided);
        }
        // The engine works for one after the other.
        stats.wait_for_right(trace, Instant(decided.0 + u64::from(number) * 1_000));
        stats.set_bytes(trace, 100);
        if let Some(receipt) = stats.answered(trace, Code::Ok, decided) {
            let at_ns = decided.0;
            sent.push(Sent { receipt, at_ns });
        }
    }
    stats.end_encoding(clock::now());
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
    let path = dir.path().join("page");
    for (timing, count) in [Timing::Get, Timing::Put]
        .into_iter()
        .flat_map(|timing| [1, 4, 16, 64].map(|count| (timing, count)))
    {
        let request = request(timing);
        let ns = [StagesConfig::On, StagesConfig::Off].map(|stages| {
            let mut stats = Stats::create(&path, NodeId(1), CoreId(0), 1, stages).expect("a page");
            let mut sent = Vec::new();
            let started = cpu_ns();
            for _ in 0..REQUESTS / count {
                turn(&mut stats, timing, &request, count, &mut sent);
            }
            (cpu_ns() - started) / i64::from(REQUESTS)
        });
        let [on, off] = ns;
        let name = timing.name();
        eprintln!("{name}, {count:2} in a turn: {on} ns a request, {off} ns switched off");
    }
    let started = cpu_ns();
    for _ in 0..REQUESTS {
        std::hint::black_box(clock::now());
    }
    let ns = (cpu_ns() - started) / i64::from(REQUESTS);
    eprintln!("one reading of the clock: {ns} ns");
}

/// What it costs that each replica counts for itself, and that hot keys are known, on top of all else.
#[test]
#[ignore = "a measurement"]
fn partitions_and_hot_keys_cost() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("page");
    let create = || Stats::create(&path, NodeId(1), CoreId(0), 1, StagesConfig::Off);
    let mut stats = create().expect("a page");
    let partition = |index| PartitionId {
        table: TableId(1),
        index,
    };
    for index in 0..64 {
        stats.keep_partition(partition(index));
    }
    let keys: Vec<[u8; 16]> = (0..100_000_u128).map(u128::to_le_bytes).collect();
    let started = cpu_ns();
    let second = REQUESTS / 10;
    for number in 0..REQUESTS {
        let partition = partition(number.wrapping_mul(2_654_435_761) >> 26);
        let slot = stats.count_request(partition, Some(Timing::Get));
        let key = number.wrapping_mul(2_654_435_761) % 100_000;
        let name = &keys[key as usize];
        stats.note_key(partition, false, u64::from(key), (name, b""));
        stats.add_of(slot, PartitionCounter::RowsRead, 1);
        stats.add_of(slot, PartitionCounter::BytesRead, 100);
        // A tenth of a second's 2,000,000.
        if number % second == 0 {
            stats.hot_keys.tell(clock::now());
        }
    }
    let ns = (cpu_ns() - started) * 10 / i64::from(REQUESTS);
    let (whole, tenth) = (ns / 10, ns % 10);
    eprintln!("partitions and hot keys: {whole}.{tenth} ns a request");
}

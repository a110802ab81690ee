//! What one cached point read costs, by where the row is found: `cargo run --release -p pegasus-engine --features rocks --example point_reads`.
//!
//! One thread, raw keys of 18 bytes, values of 100 bytes; medians of five rounds of 50,000 reads. "Uniform" reads all of half a
//! million rows alike, so that each finds its memory cold; "hot" reads a thousand.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]
#![allow(
    clippy::unwrap_used,
    reason = "a measurement ends where something fails"
)]

use bytes::Bytes;
use pegasus_engine::rocks::{EngineOptions, NoticeSink, Opened, RocksStore, RowHint};
use pegasus_engine::{Batch, Engine, Op, RocksEngine, Tier, key};
use pegasus_replication::ids::{Ballot, PartitionId, ReplicaIncarnation, RequestId, TableId};
use std::hint::black_box;
use std::time::Instant;

const ROWS: u64 = 500_000;
const READS: usize = 50_000;
const PARTITION: PartitionId = PartitionId {
    table: TableId(1),
    index: 0,
};

fn main() {
    for (name, row_cache_bytes) in [("row cache", 512 << 20), ("RocksDB alone", 0)] {
        let directory = tempfile::tempdir().unwrap();
        let options = EngineOptions {
            row_cache_bytes,
            block_cache_bytes: 1 << 30,
            memtable_bytes_max: 1 << 30,
            replica_memtable_bytes_max: 512 << 20,
            ..EngineOptions::default()
        };
        let mut opened =
            RocksStore::open(directory.path(), &options, NoticeSink::new(|_| ())).unwrap();
        assert_eq!(
            opened.store.create(&[(PARTITION, ReplicaIncarnation(1))]),
            [Ok(())]
        );
        fill(&mut opened);
        measure(&opened, &format!("{name}, rows in the memtable"));
        opened.engine.begin_flush(PARTITION).unwrap();
        opened.store.flush(PARTITION).unwrap();
        measure(&opened, &format!("{name}, rows in the block cache"));
    }
}

fn raw_key(number: u64) -> Bytes {
    key::encode(format!("key{number:013}").as_bytes(), b"").unwrap()
}

fn fill(opened: &mut Opened) {
    for first in (0..ROWS).step_by(100) {
        let ops: Vec<Op> = (first..first + 100)
            .map(|number| Op::Put {
                // Scattered, as hash keys are.
                key: raw_key(number.wrapping_mul(7_919) % ROWS),
                value: Bytes::from(vec![b'v'; 100]),
                expire_at: 0,
            })
            .collect();
        let decree = opened.engine.last_applied(PARTITION).unwrap().decree.next();
        let payload = Batch::from_ops(&ops).unwrap().encode();
        let (ballot, id) = (Ballot::new(0, 1), RequestId::default());
        opened
            .engine
            .apply(PARTITION, decree, ballot, 1, id, &payload)
            .unwrap();
    }
}

fn measure(opened: &Opened, name: &str) {
    let all: Vec<Bytes> = (0..ROWS).map(raw_key).collect();
    get_all(opened, &all);
    drop(all);
    for (pattern, among) in [("hot", 1_000), ("uniform", ROWS)] {
        let (get, batch) = (
            median(|keys| get_all(opened, keys), among),
            median(|keys| multi_get_all(opened, keys), among),
        );
        println!("{name}, {pattern}: {get:.0} ns a get, {batch:.0} ns a key in a multi get of 16");
        let quick = median(|keys| quick_all(opened, keys), among);
        println!(
            "{name}, {pattern}: {quick:.0} ns for one of 32 looked for together, without a copy"
        );
    }
    let absent = |keys: &[Bytes]| {
        for key in keys {
            let missing = key.slice(..key.len() - 1);
            black_box(
                opened
                    .engine
                    .get(PARTITION, &missing, 1, Tier::CacheOnly)
                    .unwrap(),
            );
        }
    };
    println!("{name}, missing: {:.0} ns a get", median(absent, 1_000));
}

fn get_all(opened: &Opened, keys: &[Bytes]) {
    for key in keys {
        black_box(
            opened
                .engine
                .get(PARTITION, key, 1, Tier::CacheOnly)
                .unwrap(),
        );
    }
}

fn multi_get_all(opened: &Opened, keys: &[Bytes]) {
    for keys in keys.chunks(16) {
        black_box(
            opened
                .engine
                .multi_get(PARTITION, keys, 1, Tier::CacheOnly)
                .unwrap(),
        );
    }
}

/// What the row cache knows of these keys, 32 at a time.
fn quick_all(opened: &Opened, keys: &[Bytes]) {
    let Some(rows) = opened.engine.rows_of(PARTITION) else {
        return;
    };
    for some in keys.chunks(32) {
        let hints: Vec<RowHint> = some
            .iter()
            .map(|key| RocksEngine::hint(rows, key))
            .collect();
        opened.engine.approach(&hints);
        for (key, hint) in some.iter().zip(hints) {
            black_box(
                opened
                    .engine
                    .cached()
                    .find(hint, key, 1)
                    .map(|row| row.map(<[u8]>::len)),
            );
        }
    }
}

/// Nanoseconds of a read.
fn median(mut read: impl FnMut(&[Bytes]), among: u64) -> f64 {
    let mut state = 1_u64;
    let mut times: Vec<f64> = Vec::new();
    for round in 0..6 {
        let keys: Vec<Bytes> = (0..READS)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                raw_key((state >> 33) % among)
            })
            .collect();
        let began = Instant::now();
        read(&keys);
        // The first one warms up.
        if round > 0 {
            times.push(began.elapsed().as_nanos() as f64 / READS as f64);
        }
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

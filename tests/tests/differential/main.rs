//! The same operations through every protocol, each in a table of its own: the same answers, and the same rows in the end.
//! What they should be is said by a plain model.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod apache;
mod generate;
mod native;
mod redis;

use apache::Apache;
use e2e::apache::Form;
use e2e::cluster::Cluster;
use e2e::model::{Answer, ExpireAt, Model, Operation, Seen};
use generate::{Generator, Kind};
use native::Native;
use redis::Redis;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const PARTITIONS: u32 = 4;
const OPERATIONS: usize = 600;
/// Sequences at the same time: they share flushes.
const AT_A_TIME: u64 = 4;
/// How long new sequences are begun.
const TIME: Duration = Duration::from_secs(12);

/// One way to talk to a table.
trait Speaker: Send {
    /// `None`: this protocol has no such operation.
    fn ask(&mut self, operation: &Operation) -> Option<Answer>;
}

struct Site {
    cluster: Cluster,
    _directory: tempfile::TempDir,
}

#[test]
fn all_protocols_mean_the_same() {
    let first_seed: u64 = std::env::var("DIFFERENTIAL_SEED")
        .map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&directory.path().join("cluster"), 1, 1).unwrap();
    let site = Site {
        cluster,
        _directory: directory,
    };
    let (start, next) = (Instant::now(), AtomicU64::new(0));
    std::thread::scope(|threads| {
        for _ in 0..AT_A_TIME {
            threads.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= AT_A_TIME && start.elapsed() > TIME {
                        return;
                    }
                    let kind = if number.is_multiple_of(2) {
                        Kind::Any
                    } else {
                        Kind::Redis
                    };
                    sequence(&site, kind, first_seed.wrapping_add(number));
                }
            });
        }
    });
}

/// Seconds since 2016.
fn now() -> u32 {
    let unix = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    u32::try_from(unix - pegasus_thrift::data::EPOCH_UNIX_SECONDS).unwrap()
}

/// Times of expiry in these tests are whole tens; what is left of a life is told in seconds that have passed on meanwhile.
fn rounded(expire_at: ExpireAt) -> ExpireAt {
    (expire_at + 5) / 10 * 10
}

fn sequence(site: &Site, kind: Kind, seed: u64) {
    let now = now();
    let mut generator = Generator::new(kind, seed, now);
    let mut model = Model::new(now);
    let operations: Vec<_> = (0..OPERATIONS).map(|_| generator.operation()).collect();
    let expected: Vec<_> = operations.iter().map(|it| model.apply(it)).collect();
    let script: Vec<_> = operations.iter().zip(&expected).collect();
    let visible: Vec<(Seen, ExpireAt)> = model.visible().collect();
    std::thread::scope(|threads| {
        for (name, speaker) in speakers(site, kind, seed) {
            let (script, visible) = (&script, &visible);
            threads.spawn(move || {
                let context = format!("seed {seed} ({kind:?}), {name}");
                follow(script, speaker, &context);
                let table = table(&name, seed);
                let found = Native::open(site.cluster.meta(), &table).visible();
                assert_eq!(visible, &found, "{context}: rows in the end");
                site.cluster
                    .pegasus(&["table", "drop", &table, "--yes"])
                    .unwrap();
            });
        }
    });
}

fn follow(script: &[(&Operation, &Answer)], mut speaker: Box<dyn Speaker>, context: &str) {
    for (step, (operation, expected)) in script.iter().enumerate() {
        if let Some(found) = speaker.ask(operation) {
            assert!(
                expected.agrees_with(&found),
                "{context}, step {step}: {operation:?}\nexpected {expected:?}\nfound    {found:?}"
            );
        }
    }
}

/// All that can say what sequences of this kind have, with a new table each.
fn speakers(site: &Site, kind: Kind, seed: u64) -> Vec<(String, Box<dyn Speaker>)> {
    let meta = site.cluster.meta();
    let mut speakers: Vec<(String, Box<dyn Speaker>)> = Vec::new();
    let create = |name: &str| {
        let table = table(name, seed);
        site.cluster.create_table(&table, PARTITIONS, 1).unwrap();
        table
    };
    speakers.push((
        "native".to_owned(),
        Box::new(Native::open(meta, &create("native"))),
    ));
    for form in Form::ALL {
        let name = format!("{form:?}").to_lowercase();
        let table = create(&name);
        speakers.push((name, Box::new(Apache::open(meta, form, &table))));
    }
    if kind == Kind::Redis {
        let table = create("redis");
        let status = site.cluster.status().unwrap();
        let mut processes = status["processes"].as_array().unwrap().iter();
        let node = processes
            .find(|process| process["name"] == "node-1")
            .unwrap();
        let address = node["addresses"][0].as_str().unwrap();
        speakers.push(("redis".to_owned(), Box::new(Redis::open(address, &table))));
    }
    speakers
}

fn table(name: &str, seed: u64) -> String {
    format!("{name}-{seed}")
}

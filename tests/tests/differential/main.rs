//! The same operations through every protocol, each in a table of its own: the same answers, and the same rows in the end.
//! What they should be is said by a plain model.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod apache;
mod generate;
mod limits;
mod native;
mod redis;

use apache::Apache;
use e2e::apache::Form;
use e2e::cluster::{Cluster, wait_until};
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

impl Site {
    /// Of one core.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let cluster = Cluster::start(&directory.path().join("cluster"), 1, 1).unwrap();
        Self {
            cluster,
            _directory: directory,
        }
    }

    /// Where its core listens.
    fn address(&self) -> String {
        let status = self.cluster.status().unwrap();
        let mut processes = status["processes"].as_array().unwrap().iter();
        let node = processes
            .find(|process| process["name"] == "node-1")
            .unwrap();
        node["addresses"][0].as_str().unwrap().to_owned()
    }
}

/// Operations in tables that are the same.
#[derive(Clone, Copy, Debug)]
struct Sequence {
    kind: Kind,
    seed: u64,
    /// The tables have a default time to live.
    rows_expire: bool,
}

impl Sequence {
    const fn new(number: u64, seed: u64) -> Self {
        Self {
            kind: if number.is_multiple_of(2) {
                Kind::Any
            } else {
                Kind::Redis
            },
            seed,
            rows_expire: number % 4 >= 2,
        }
    }

    fn table(&self, name: &str) -> String {
        format!("{name}-{}", self.seed)
    }
}

#[test]
fn all_protocols_mean_the_same() {
    let first_seed: u64 = std::env::var("DIFFERENTIAL_SEED")
        .map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    let site = Site::new();
    let (start, next) = (Instant::now(), AtomicU64::new(0));
    std::thread::scope(|threads| {
        for _ in 0..AT_A_TIME {
            threads.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= AT_A_TIME && start.elapsed() > TIME {
                        return;
                    }
                    Sequence::new(number, first_seed.wrapping_add(number)).run(&site);
                }
            });
        }
    });
}

/// The setting `default_ttl` of the tables that have one: far behind all times that operations name.
const DEFAULT_TTL: u32 = 10 * YEAR;
const YEAR: u32 = 365 * 24 * 3600;
/// Stands for all times of expiry that come of it: they depend on when the row was written.
const BY_DEFAULT: ExpireAt = ExpireAt::MAX;

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
    if expire_at > now() + DEFAULT_TTL / 2 {
        return BY_DEFAULT;
    }
    (expire_at + 5) / 10 * 10
}

impl Sequence {
    fn run(&self, site: &Site) {
        let now = now();
        let mut generator = Generator::new(self.kind, self.seed, now);
        let mut model = Model::new(now, if self.rows_expire { BY_DEFAULT } else { 0 });
        let operations: Vec<_> = (0..OPERATIONS).map(|_| generator.operation()).collect();
        let expected: Vec<_> = operations.iter().map(|it| model.apply(it)).collect();
        let script: Vec<_> = operations.iter().zip(&expected).collect();
        let visible: Vec<(Seen, ExpireAt)> = model.visible().collect();
        std::thread::scope(|threads| {
            for (name, speaker) in self.speakers(site) {
                let (script, visible) = (&script, &visible);
                threads.spawn(move || {
                    let context = format!("{self:?}, {name}");
                    follow(script, speaker, &context);
                    let table = self.table(&name);
                    let found = Native::open(site.cluster.meta(), &table).visible();
                    assert_eq!(visible, &found, "{context}: rows in the end");
                    let drop = ["table", "drop", &table, "--yes"];
                    site.cluster.pegasus(&drop).unwrap();
                });
            }
        });
    }

    /// All that can say what sequences of this kind have, with a new table each.
    fn speakers(&self, site: &Site) -> Vec<(String, Box<dyn Speaker>)> {
        let meta = site.cluster.meta();
        let mut speakers: Vec<(String, Box<dyn Speaker>)> = Vec::new();
        let native = Native::open(meta, &self.create(site, "native"));
        speakers.push(("native".to_owned(), Box::new(native)));
        for form in Form::ALL {
            let name = format!("{form:?}").to_lowercase();
            let table = self.create(site, &name);
            speakers.push((name, Box::new(Apache::open(meta, form, &table))));
        }
        if self.kind == Kind::Redis {
            let table = self.create(site, "redis");
            let redis = Redis::open(&site.address(), &table);
            speakers.push(("redis".to_owned(), Box::new(redis)));
        }
        speakers
    }

    fn create(&self, site: &Site, name: &str) -> String {
        let table = self.table(name);
        site.cluster.create_table(&table, PARTITIONS, 1).unwrap();
        if self.rows_expire {
            set_default_ttl(site, &table);
        }
        table
    }
}

/// Sets it and waits until it acts.
fn set_default_ttl(site: &Site, table: &str) {
    let setting = format!("default_ttl={DEFAULT_TTL}");
    let set = ["table", "env", "set", table, &setting];
    site.cluster.pegasus(&set).unwrap();
    let mut native = Native::open(site.cluster.meta(), table);
    let key = || (b"key".to_vec(), b"".to_vec());
    let (hash, sort) = key();
    let put = Operation::Put(hash, sort, b"value".to_vec(), 0);
    let (hash, sort) = key();
    let ttl = Operation::Ttl(hash, sort);
    wait_until("rows to get the default time to live", || {
        native.ask(&put);
        native.ask(&ttl) == Some(Answer::Ttl(Some(BY_DEFAULT)))
    })
    .unwrap();
    let (hash, sort) = key();
    native.ask(&Operation::Remove(hash, sort));
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

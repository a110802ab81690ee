//! Increments and checked writes while the primary they go to is killed: each that was acknowledged has happened once, and
//! nothing else has.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use e2e::cluster::Cluster;
use pegasus_client::{Bytes, Check, CheckKind, CheckedRow, Client, ClientOptions, Set, Table};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::JoinSet;

const TABLE: &str = "t";
/// Each with connections, and so an identity, of its own.
const CLIENTS: usize = 4;
/// Operations under way of each client.
const OPERATIONS: usize = 8;
/// Operations that succeed before the primary is killed, and after it was.
const BEFORE: u64 = 500;
const AFTER: u64 = 500;
/// Longer than any failover on a machine that does other things too: what is unknown is asked again until it is known.
const TIMEOUT: Duration = Duration::from_secs(60);

fn start() -> (TempDir, Cluster) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cluster");
    let cluster = Cluster::start(&path, 3, 1).unwrap();
    cluster.create_table(TABLE, 2, 3).unwrap();
    (directory, cluster)
}

async fn table(cluster: &Cluster) -> Table {
    let options = ClientOptions {
        timeout: TIMEOUT,
        ..ClientOptions::new([cluster.meta()])
    };
    let client = Client::connect(options).await.unwrap();
    client.table(TABLE).await.unwrap()
}

/// What all operations share.
#[derive(Default)]
struct Work {
    done: AtomicU64,
    is_over: AtomicBool,
}

impl Work {
    async fn wait_for(&self, done: u64) {
        let reached = async {
            while self.done.load(Ordering::Relaxed) < done {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(TIMEOUT, reached)
            .await
            .expect("operations go on");
    }
}

/// Runs `operation` again and again on all clients, kills the primary of the row in between, and gives back what all of
/// them came to.
async fn through_a_failover<T, F>(
    cluster: &Cluster,
    operation: impl Fn(Table, Arc<Work>) -> F + Clone,
) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = Vec<T>> + Send + 'static,
{
    let work = Arc::<Work>::default();
    let mut running = JoinSet::new();
    for _ in 0..CLIENTS {
        let table = table(cluster).await;
        for _ in 0..OPERATIONS {
            running.spawn(operation(table.clone(), Arc::clone(&work)));
        }
    }
    work.wait_for(BEFORE).await;
    let partition = table(cluster).await.partition_of(b"h", b"s");
    let led = cluster.led(TABLE).unwrap();
    let leader = led.iter().find(|(_, led)| led.contains(&partition));
    cluster
        .kill(&format!("node-{}", leader.unwrap().0))
        .unwrap();
    work.wait_for(work.done.load(Ordering::Relaxed) + AFTER)
        .await;
    work.is_over.store(true, Ordering::Relaxed);
    running.join_all().await.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_increment_of_a_hot_counter_has_happened_once() {
    let (_directory, cluster) = start();
    let mut sums = through_a_failover(&cluster, |table, work| async move {
        let mut sums = Vec::new();
        while !work.is_over.load(Ordering::Relaxed) {
            sums.push(table.incr(b"h", b"s", 1).await.unwrap());
            work.done.fetch_add(1, Ordering::Relaxed);
        }
        sums
    })
    .await;
    let count = i64::try_from(sums.len()).unwrap();
    sums.sort_unstable();
    assert!(
        sums.iter().copied().eq(1..=count),
        "each sum is told to one increment"
    );
    let counter = table(&cluster).await.get(b"h", b"s").await.unwrap();
    assert_eq!(counter, Some(Bytes::from(count.to_string())));
    eprintln!("{count} increments through a failover");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checked_write_that_passed_was_the_only_one_on_what_it_saw() {
    let (_directory, cluster) = start();
    let mut seen = through_a_failover(&cluster, |table, work| async move {
        let mut seen = Vec::new();
        let mut before = Bytes::new();
        while !work.is_over.load(Ordering::Relaxed) {
            let number: u64 = std::str::from_utf8(&before).unwrap().parse().unwrap_or(0);
            let check = Check {
                sort_key: Bytes::from_static(b"s"),
                kind: if before.is_empty() {
                    CheckKind::NotExist
                } else {
                    CheckKind::BytesEqual
                },
                operand: before.clone(),
            };
            let set = Set {
                value: Bytes::from((number + 1).to_string()),
                ..Set::default()
            };
            let outcome = table.check_and_set(b"h", &check, &set).await.unwrap();
            if outcome.passed {
                seen.push(number);
                before = set.value;
                work.done.fetch_add(1, Ordering::Relaxed);
            } else if let CheckedRow::Found(value) = outcome.checked {
                before = value;
            }
        }
        seen
    })
    .await;
    let count = u64::try_from(seen.len()).unwrap();
    seen.sort_unstable();
    assert!(
        seen.iter().copied().eq(0..count),
        "each value is replaced once"
    );
    let last = table(&cluster).await.get(b"h", b"s").await.unwrap();
    assert_eq!(last, Some(Bytes::from(count.to_string())));
    eprintln!("{count} checked writes through a failover");
}

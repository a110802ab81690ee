//! Writers that know what was promised to them: each row has one writer, its versions grow, and afterwards a row must
//! hold a version between the last acknowledged and the last attempted one.

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use pegasus_client::{Client, ClientOptions, Code, Execution, Table};
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;

const ROWS_PER_WRITER: u64 = 8;

/// What is known of one row.
#[derive(Clone, Copy, Debug, Default)]
struct Promise {
    acknowledged: u64,
    attempted: u64,
}

/// How writes have failed so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// Writes that may have been executed.
    pub unknown: u64,
    /// Writes that certainly were not, by the code of the last refusal; `None`: no server was reached.
    pub not_executed: BTreeMap<Option<Code>, u64>,
}

impl Failures {
    /// Writes refused with this code and not executed.
    #[must_use]
    pub fn refused(&self, code: Code) -> u64 {
        self.not_executed.get(&Some(code)).copied().unwrap_or(0)
    }

    pub fn add(&mut self, more: &Self) {
        self.unknown += more.unknown;
        for (code, count) in &more.not_executed {
            *self.not_executed.entry(*code).or_default() += count;
        }
    }
}

/// A fleet of writers on one table.
#[derive(Debug)]
pub struct Writers {
    promises: Arc<Mutex<BTreeMap<(usize, u64), Promise>>>,
    acknowledged: Arc<AtomicU64>,
    failures: Arc<Mutex<Failures>>,
    value_bytes: usize,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

/// Connects with a deadline short enough that a test notices a dead cluster.
pub async fn connect(meta: &str, table: &str) -> Result<Table> {
    let mut options = ClientOptions::new([meta]);
    options.timeout = Duration::from_secs(2);
    // A refusal is told well before the deadline, at which a last attempt under way would make the outcome unknown.
    options.refusal_timeout = Duration::from_millis(500);
    let client = Client::connect(options)
        .await
        .with_context(|| format!("connect to {meta}"))?;
    client
        .table(table)
        .await
        .with_context(|| format!("table {table}"))
}

impl Writers {
    #[must_use]
    pub fn start(table: &Table, count: usize) -> Self {
        Self::start_with_values(table, count, 0)
    }

    /// Each value is filled up to this many bytes with what no compression makes smaller.
    #[must_use]
    pub fn start_with_values(table: &Table, count: usize, value_bytes: usize) -> Self {
        let mut writers = Self {
            value_bytes,
            failures: Arc::default(),
            promises: Arc::default(),
            acknowledged: Arc::default(),
            stop: Arc::default(),
            tasks: Vec::new(),
        };
        writers.go_on(table, count);
        writers
    }

    /// Starts again on a fresh connection; rows keep their versions.
    pub fn go_on(&mut self, table: &Table, count: usize) {
        self.stop.store(false, Ordering::Relaxed);
        for writer in 0..count {
            let (table, promises) = (table.clone(), Arc::clone(&self.promises));
            let (acknowledged, stop) = (Arc::clone(&self.acknowledged), Arc::clone(&self.stop));
            let (failures, value_bytes) = (Arc::clone(&self.failures), self.value_bytes);
            self.tasks.push(tokio::spawn(async move {
                let mut turn = 0;
                while !stop.load(Ordering::Relaxed) {
                    turn += 1;
                    let row = (writer, turn % ROWS_PER_WRITER);
                    let version = note(&promises, row, |promise| {
                        promise.attempted += 1;
                        promise.attempted
                    });
                    let value = value(version, value_bytes);
                    match table.put(&hash_key(row), b"version", &value).await {
                        Ok(()) => {
                            note(&promises, row, |promise| promise.acknowledged = version);
                            acknowledged.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => {
                            note_failure(&failures, &error);
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                    }
                }
            }));
        }
    }

    /// Acknowledged writes so far.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// How writes have failed since the last call.
    #[must_use]
    pub fn take_failures(&self) -> Failures {
        std::mem::take(&mut self.failures.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until this many more writes are acknowledged.
    pub async fn make_progress(&self, writes: u64) -> Result<()> {
        let goal = self.acknowledged() + writes;
        let look = async {
            while self.acknowledged() < goal {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(crate::cluster::PATIENCE, look)
            .await
            .with_context(|| format!("{} of {goal} writes acknowledged", self.acknowledged()))
    }

    pub async fn stop(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks.drain(..) {
            task.await?;
        }
        Ok(())
    }

    /// Every row holds what it was promised; returns how many rows were looked at.
    pub async fn verify(&self, table: &Table) -> Result<usize> {
        let promises = self
            .promises
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for (row, promise) in &promises {
            let value = table
                .get(&hash_key(*row), b"version")
                .await
                .with_context(|| format!("read row {row:?}"))?;
            check(*row, *promise, value)?;
        }
        Ok(promises.len())
    }
}

fn check(row: (usize, u64), promise: Promise, value: Option<Bytes>) -> Result<()> {
    let Some(value) = value else {
        ensure!(
            promise.acknowledged == 0,
            "row {row:?} is missing; version {} was acknowledged",
            promise.acknowledged
        );
        return Ok(());
    };
    let text = value.split(|byte| *byte == b' ').next().unwrap_or_default();
    let version: u64 = std::str::from_utf8(text)?.parse()?;
    if version < promise.acknowledged {
        bail!(
            "row {row:?} holds version {version}; version {} was acknowledged",
            promise.acknowledged
        );
    }
    ensure!(
        version <= promise.attempted,
        "row {row:?} holds version {version}, which was never written"
    );
    Ok(())
}

fn note_failure(failures: &Mutex<Failures>, error: &pegasus_client::Error) {
    let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
    if error.execution() == Execution::Unknown {
        failures.unknown += 1;
    } else {
        *failures.not_executed.entry(error.code()).or_default() += 1;
    }
}

/// The version, a space, and bytes up to the wanted length.
fn value(version: u64, value_bytes: usize) -> Vec<u8> {
    let mut value = version.to_string().into_bytes();
    if value_bytes > value.len() {
        value.push(b' ');
        let at = value.len();
        value.resize(value_bytes, 0);
        SmallRng::seed_from_u64(version).fill_bytes(&mut value[at..]);
    }
    value
}

fn note<T>(
    promises: &Mutex<BTreeMap<(usize, u64), Promise>>,
    row: (usize, u64),
    change: impl FnOnce(&mut Promise) -> T,
) -> T {
    change(
        promises
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(row)
            .or_default(),
    )
}

fn hash_key((writer, row): (usize, u64)) -> Vec<u8> {
    format!("writer-{writer}-row-{row}").into_bytes()
}

//! Clients that remember all they asked and were told: several threads read and write rows that all of them share, and
//! afterwards one copy of each row, with operations one after another, must explain everything, and every acknowledged
//! write must be there.
//!
//! Reading order: this file; `ledger` (what is remembered), `gaps` (how long nobody succeeded), `report`, `straggler`
//! (readers that ask one address only, whoever is primary).

mod gaps;
mod ledger;
mod report;
mod straggler;

use crate::cluster::wait_until;
use crate::network::Namespace;
use anyhow::{Context, Result, ensure};
use ledger::{Ledger, Rows};
use pegasus_client::{Client, ClientOptions, Table};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
pub use report::Report;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
pub use straggler::Stragglers;
use tokio::task::JoinSet;

/// Who works on which table. Start from [`Load::on`] and change fields.
#[derive(Clone, Debug)]
pub struct Load {
    /// `host:port` of meta; several with commas.
    pub meta: String,
    pub table: String,
    /// Each with connections of its own.
    pub threads: usize,
    /// Operations under way of each thread. Every fourth has [`HURRY`] for a deadline, the others a second.
    pub operations: usize,
    /// Whether there are clients in a hurry; they give up during any change of configuration.
    pub hurries: bool,
    /// Rows of each partition. Few, so that operations on one row overlap.
    pub rows: usize,
    /// Pause of each before its next operation, up to this at random.
    pub pause: Duration,
    /// Where the clients run.
    pub namespace: Option<Namespace>,
}

/// The deadline of clients in a hurry: shorter than any failover, so that they give up operations under way.
pub const HURRY: Duration = Duration::from_millis(60);
const PATIENT: Duration = Duration::from_secs(1);

impl Load {
    #[must_use]
    pub fn on(meta: &str, table: &str) -> Self {
        Self {
            meta: meta.to_owned(),
            table: table.to_owned(),
            threads: 4,
            operations: 4,
            hurries: true,
            rows: 4,
            pause: Duration::from_millis(4),
            namespace: None,
        }
    }

    async fn connect(&self, timeout: Duration) -> Result<Table> {
        let mut options = ClientOptions::new(self.meta.split(','));
        options.timeout = timeout;
        let client = Client::connect(options)
            .await
            .with_context(|| format!("connect to {}", self.meta))?;
        let table = client.table(&self.table).await;
        table.with_context(|| format!("table {}", self.table))
    }
}

/// The clients at work.
#[derive(Debug)]
pub struct Verified {
    load: Load,
    ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Verified {
    /// Starts the clients and returns once each partition was read and written; what nobody could do is counted from here.
    pub fn start(load: Load) -> Result<Self> {
        let rows = inside(&load, |load| async move {
            let table = load.connect(Duration::from_secs(10)).await?;
            Ok(Rows::of(&table, load.rows))
        })?;
        let mut clients = Self {
            ledger: Arc::new(Ledger::new(rows)),
            load,
            stop: Arc::default(),
            threads: Vec::new(),
        };
        clients.go_on()?;
        clients.wait_for_all_partitions()?;
        clients.ledger.forget_gaps();
        Ok(clients)
    }

    /// Starts clients again after [`Self::pause`], on fresh connections.
    pub fn go_on(&mut self) -> Result<()> {
        self.stop.store(false, Ordering::Relaxed);
        for number in 0..self.load.threads {
            let (load, ledger) = (self.load.clone(), Arc::clone(&self.ledger));
            let stop = Arc::clone(&self.stop);
            let thread = std::thread::Builder::new()
                .name(format!("client-{number}"))
                .spawn(move || here(&load, |load| work(load, ledger, stop)))?;
            self.threads.push(thread);
        }
        Ok(())
    }

    /// Ends all clients; every operation has its outcome.
    pub fn pause(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a client does not panic")?;
        }
        Ok(())
    }

    /// Waits until each partition has been written and read by operations that ended after this call.
    pub fn wait_for_all_partitions(&self) -> Result<()> {
        let after = self.ledger.now();
        let waited = wait_until("each partition to be written and read", || {
            self.ledger.behind(after).is_empty()
        });
        waited.with_context(|| format!("not so: partitions {:?}", self.ledger.behind(after)))
    }

    /// How long it took from `since` until each of these partitions was written again, by an operation that began after this
    /// call.
    pub fn wait_for_writes(&self, since: Instant, partitions: &[u32]) -> Result<Vec<Duration>> {
        let since = self.ledger.moment(since);
        self.ledger.watch_writes(partitions);
        wait_until("the partitions to be written again", || {
            self.ledger.watched().iter().all(Option::is_some)
        })?;
        let written = self.ledger.watched().into_iter().flatten();
        Ok(written.map(|at| at.since(since)).collect())
    }

    /// Operations answered with success so far.
    #[must_use]
    pub fn successes(&self) -> u64 {
        self.ledger.successes()
    }

    /// Waits until this many more operations have succeeded.
    pub fn make_progress(&self, operations: u64) -> Result<()> {
        let goal = self.successes() + operations;
        wait_until("operations to succeed", || self.successes() >= goal)
    }

    /// Rows of these partitions, for [`Stragglers`].
    pub(crate) fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// A client's handle of the table, where the clients run; for what a test does besides.
    #[must_use]
    pub const fn load(&self) -> &Load {
        &self.load
    }

    /// Waits until everything serves, stops, reads every row once more, and judges. The report is printed.
    pub fn finish(mut self, scenario: &str) -> Result<Report> {
        self.wait_for_all_partitions()?;
        self.ledger.close_gaps();
        self.pause()?;
        let ledger = Arc::clone(&self.ledger);
        inside(&self.load, |load| read_all(load, ledger))?;
        let report = self.ledger.report(scenario);
        report.print();
        Ok(report)
    }
}

impl Drop for Verified {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Runs on a thread of its own, in the clients' namespace: the caller's thread stays where it is.
fn inside<T: Send, F: Future<Output = Result<T>>>(
    load: &Load,
    run: impl FnOnce(Load) -> F + Send,
) -> Result<T> {
    let ran = std::thread::scope(|scope| scope.spawn(|| here(load, run)).join());
    ran.expect("a client does not panic")
}

/// Runs on this thread, which moves to the clients' namespace.
fn here<T, F: Future<Output = Result<T>>>(load: &Load, run: impl FnOnce(Load) -> F) -> Result<T> {
    if let Some(namespace) = &load.namespace {
        namespace.enter()?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(load.clone()))
}

/// One thread's clients, until told to stop.
async fn work(load: Load, ledger: Arc<Ledger>, stop: Arc<AtomicBool>) -> Result<()> {
    let table = load.connect(PATIENT).await?;
    let mut clients = JoinSet::new();
    for number in 0..load.operations {
        let is_hurried = load.hurries && number % 4 == 3;
        let timeout = if is_hurried { HURRY } else { PATIENT };
        let (table, ledger) = (table.with_timeout(timeout), Arc::clone(&ledger));
        let (stop, pause) = (Arc::clone(&stop), load.pause);
        clients.spawn(async move {
            let mut random = SmallRng::from_os_rng();
            while !stop.load(Ordering::Relaxed) {
                if random.random_bool(0.5) {
                    write_one(&table, &ledger, &mut random).await;
                } else {
                    read_one(&table, &ledger, &mut random).await?;
                }
                tokio::time::sleep(pause.mul_f64(random.random_range(0.0..1.0))).await;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    Ok(())
}

async fn write_one(table: &Table, ledger: &Ledger, random: &mut SmallRng) {
    let (key, hash_key) = ledger.rows().any(random);
    let write = ledger.begin_write(key);
    let answer = table.put(hash_key, b"s", &write.bytes()).await;
    ledger.end_write(write, answer.err().as_ref());
}

async fn read_one(table: &Table, ledger: &Ledger, random: &mut SmallRng) -> Result<()> {
    let (key, hash_key) = ledger.rows().any(random);
    let begun = ledger.begin_read();
    match table.get(hash_key, b"s").await {
        Ok(found) => ledger.end_read(key, begun, found.as_deref()),
        Err(error) => {
            ledger.fail_read(&error);
            Ok(())
        }
    }
}

/// What is there at the end is part of the history: an acknowledged write that is missing has no explanation.
async fn read_all(load: Load, ledger: Arc<Ledger>) -> Result<()> {
    let table = load.connect(Duration::from_secs(10)).await?;
    ensure!(ledger.rows().count() > 0, "no rows");
    for (key, hash_key) in ledger.rows().all() {
        let begun = ledger.begin_read();
        let found = table.get(hash_key, b"s").await;
        let found = found.with_context(|| format!("read {key} at the end"))?;
        ledger.end_read(key, begun, found.as_deref())?;
    }
    Ok(())
}

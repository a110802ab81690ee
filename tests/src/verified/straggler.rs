//! Readers that ask one address whatever happens, as a client with old routes might: what a primary answers that has
//! been replaced is part of the history too.

use super::Verified;
use crate::network::Namespace;
use crate::raw;
use anyhow::{Context, Result, ensure};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// One reader for each row of some partitions. A request that is not answered stays under way, so that it is among the
/// first things that a process reads when it goes on.
#[derive(Debug)]
pub struct Stragglers {
    asked: Arc<AtomicU64>,
    answered: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

/// What became of their requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Requests sent.
    pub asked: u64,
    /// Of these, answered with a value; the others were refused or never answered.
    pub answered: u64,
}

impl Stragglers {
    /// Starts to read the rows of `partitions` of `table` at `address`.
    pub fn start(clients: &Verified, address: &str, partitions: &[u32]) -> Result<Self> {
        let mut stragglers = Self {
            asked: Arc::default(),
            answered: Arc::default(),
            stop: Arc::default(),
            threads: Vec::new(),
        };
        let ledger = clients.ledger();
        let rows: Vec<_> = ledger
            .rows()
            .all()
            .filter(|(key, _)| partitions.contains(&key.partition))
            .map(|(key, hash_key)| (key, hash_key.to_vec()))
            .collect();
        ensure!(!rows.is_empty(), "no rows in partitions {partitions:?}");
        for (key, hash_key) in rows {
            let (ledger, address) = (Arc::clone(ledger), address.to_owned());
            let namespace = clients.load().namespace.clone();
            let (asked, answered) = (
                Arc::clone(&stragglers.asked),
                Arc::clone(&stragglers.answered),
            );
            let stop = Arc::clone(&stragglers.stop);
            let read = move || {
                enter(namespace.as_ref())?;
                while !stop.load(Ordering::Relaxed) {
                    let begun = ledger.begin_read();
                    asked.fetch_add(1, Ordering::Relaxed);
                    let partition = (key.table.0, key.partition);
                    // Refused is as good as right.
                    if let Ok(found) = raw::get(&address, partition, &hash_key) {
                        answered.fetch_add(1, Ordering::Relaxed);
                        ledger.end_stray_read(key, begun, found.as_deref())?;
                    } else {
                        std::thread::sleep(RETRY);
                    }
                }
                Ok(())
            };
            let thread = std::thread::Builder::new()
                .name(format!("straggler-{}", key.row))
                .spawn(read)?;
            stragglers.threads.push(thread);
        }
        Ok(stragglers)
    }

    /// Waits until each has sent a request.
    pub fn wait_for_requests(&self) -> Result<()> {
        let all = self.threads.len() as u64;
        crate::cluster::wait_until("stragglers to ask", || {
            self.asked.load(Ordering::Relaxed) >= all
        })
    }

    /// Waits until nothing sent before is under way, then ends them.
    pub fn finish(mut self) -> Result<Asked> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join().expect("a straggler does not panic");
            ended.context("a straggler")?;
        }
        Ok(Asked {
            asked: self.asked.load(Ordering::Relaxed),
            answered: self.answered.load(Ordering::Relaxed),
        })
    }
}

const RETRY: std::time::Duration = std::time::Duration::from_millis(2);

fn enter(namespace: Option<&Namespace>) -> Result<()> {
    namespace.map_or(Ok(()), Namespace::enter)
}

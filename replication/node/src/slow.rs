//! Requests that took too long: what each was, where its time went, and who asked. Every one of them is kept, up to a bound
//! for each table, and logged, as often as one message may be.
//!
//! A core hands them over without waiting, by a queue without locks; the thread of the statistics relay keeps and logs them.
//! The slowest requests of the last minutes, however fast, are in the statistics page instead.

use crate::directory::Directory;
use crossbeam_queue::ArrayQueue;
use pegasus_fbs::stats_page::{RequestTimes, Stage};
use pegasus_replication::ids::TableId;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Handed over and not looked at yet, of all cores.
const QUEUE_MAX: usize = 1024;
/// The last ones that are kept of a table.
const KEPT_PER_TABLE: usize = 64;
/// Tables that requests are kept of; over it, those of the table that was slow longest ago are forgotten.
const TABLES_MAX: usize = 256;

/// One slow request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowEntry {
    /// When it was answered, microseconds since 1970.
    pub answered_unix_us: u64,
    /// Who asked; `None`: it came by another core, as a part of a Redis command, or was not slow until it was sent.
    pub client: Option<SocketAddr>,
    pub request: RequestTimes,
}

/// What is kept; cheap to clone.
#[derive(Clone, Debug)]
pub struct SlowLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: ArrayQueue<SlowEntry>,
    /// Not kept, because the queue was full.
    lost: AtomicU64,
    /// By table, the newest last.
    kept: Mutex<BTreeMap<u32, VecDeque<SlowEntry>>>,
}

impl Default for SlowLog {
    fn default() -> Self {
        Self(Arc::new(Shared {
            queue: ArrayQueue::new(QUEUE_MAX),
            lost: AtomicU64::new(0),
            kept: Mutex::default(),
        }))
    }
}

impl SlowLog {
    /// For one core; `threshold`: of tables that have none of their own, zero = none.
    #[must_use]
    pub fn reporter(&self, threshold: Duration) -> SlowReporter {
        let usual_ns = nanos(threshold);
        let usual_ns = if usual_ns == 0 { u64::MAX } else { usual_ns };
        SlowReporter {
            log: self.clone(),
            usual_ns,
            tables: HashMap::new(),
            least_ns: usual_ns,
            clients: HashMap::new(),
        }
    }

    /// Keeps and logs what cores have handed over. `name_of`: of a table.
    pub fn collect(&self, name_of: impl Fn(u32) -> String) {
        let lost = self.0.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(
                requests = lost,
                "slow requests were not kept, there were too many"
            );
        }
        for _ in 0..QUEUE_MAX {
            let Some(entry) = self.0.queue.pop() else {
                return;
            };
            log(&entry, &name_of(entry.request.table));
            self.keep(entry);
        }
    }

    fn keep(&self, entry: SlowEntry) {
        let mut kept = self.kept();
        let of_table = kept.entry(entry.request.table).or_default();
        if of_table.len() == KEPT_PER_TABLE {
            of_table.pop_front();
        }
        of_table.push_back(entry);
        if kept.len() > TABLES_MAX {
            let last = |entries: &VecDeque<SlowEntry>| entries.back().map(|it| it.answered_unix_us);
            let oldest = kept.iter().min_by_key(|(_, entries)| last(entries));
            if let Some(table) = oldest.map(|(table, _)| *table) {
                kept.remove(&table);
            }
        }
    }

    /// The last ones of a table, or of all, the newest first.
    #[must_use]
    pub fn last(&self, table: Option<u32>) -> Vec<SlowEntry> {
        let kept = self.kept();
        let wanted = kept
            .iter()
            .filter(|(it, _)| table.is_none_or(|table| table == **it));
        let mut all: Vec<_> = wanted.flat_map(|(_, entries)| entries).copied().collect();
        all.sort_by_key(|entry| std::cmp::Reverse(entry.answered_unix_us));
        all
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<u32, VecDeque<SlowEntry>>> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one core knows of thresholds, and of requests that are slow and not answered.
#[derive(Debug)]
pub struct SlowReporter {
    log: SlowLog,
    /// Nanoseconds; `u64::MAX` = none.
    usual_ns: u64,
    tables: HashMap<u32, u64>,
    /// The smallest of all: what most requests are compared with.
    least_ns: u64,
    /// By the receipt of an answer that has not left.
    clients: HashMap<u32, SocketAddr>,
}

impl SlowReporter {
    /// Settings of tables may have changed.
    pub fn update(&mut self, directory: &Directory) {
        let of_tables = directory.tables.iter();
        let own = of_tables
            .filter_map(|(table, it)| Some((table.0, nanos(it.settings.slow_threshold()?))));
        self.tables = own.collect();
        let least = self.tables.values().copied().min();
        self.least_ns = least.unwrap_or(u64::MAX).min(self.usual_ns);
        // One that is not slow any more would not be taken out, and be found under the receipt of another request.
        self.clients.clear();
    }

    /// Whether a request that has taken so long may be slow: one comparison.
    #[inline]
    #[must_use]
    pub const fn may_be_slow(&self, total_ns: u64) -> bool {
        total_ns >= self.least_ns
    }

    /// Who asked for the answer with this receipt, which may be slow.
    pub fn note_client(&mut self, receipt: u32, client: Option<SocketAddr>) {
        if let Some(client) = client {
            self.clients.insert(receipt, client);
        }
    }

    /// The answer with this receipt has left, or has gone to another core.
    pub fn answered(&mut self, receipt: Option<u32>, request: RequestTimes, answered_unix_us: u64) {
        let client = receipt.and_then(|receipt| self.clients.remove(&receipt));
        let threshold = self.tables.get(&request.table).copied();
        if nanos(request.total()) < threshold.unwrap_or(self.usual_ns) {
            return;
        }
        let entry = SlowEntry {
            answered_unix_us,
            client,
            request,
        };
        if self.log.0.queue.push(entry).is_err() {
            self.log.0.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn log(entry: &SlowEntry, table: &str) {
    let request = &entry.request;
    let stages: Vec<String> = stages(request)
        .map(|(stage, ns)| format!("{}={}us", stage.name(), ns / 1_000))
        .collect();
    tracing::warn!(
        table,
        partition = request.partition,
        operation = request.operation.name(),
        code = %request.code,
        client = entry.client.map(tracing::field::display),
        key_hash = format_args!("{:016x}", request.key_hash),
        bytes = request.bytes,
        total_us = nanos(request.total()) / 1_000,
        stages = stages.join(" "),
        "slow request"
    );
}

/// Those that took any time.
fn stages(request: &RequestTimes) -> impl Iterator<Item = (Stage, u64)> {
    let all = Stage::ALL.iter().copied().zip(request.stages);
    all.filter(|(_, ns)| *ns >= 1_000)
}

impl SlowEntry {
    /// For tools.
    #[must_use]
    pub fn json(&self, table: &str) -> Value {
        let request = &self.request;
        let stages: Map<String, Value> = stages(request)
            .map(|(stage, ns)| (stage.name().to_owned(), (ns / 1_000).into()))
            .collect();
        json!({
            "answered_unix_us": self.answered_unix_us,
            "client": self.client.map(|client| client.to_string()),
            "table": table,
            "table_id": request.table,
            "partition": request.partition,
            "operation": request.operation.name(),
            "code": request.code.to_string(),
            "key_hash": format!("{:016x}", request.key_hash),
            "bytes": request.bytes,
            "total_us": nanos(request.total()) / 1_000,
            "stages_us": stages,
        })
    }
}

/// Names of tables as meta has told them; numbers of others.
#[must_use]
pub fn name_in(directory: &Directory, table: u32) -> String {
    let known = directory.tables.get(&TableId(table));
    known.map_or_else(|| table.to_string(), |it| it.name.clone())
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Table;
    use crate::settings::Settings;
    use pegasus_fbs::code::Code;
    use pegasus_fbs::stats_page::Timing;

    fn request(table: u32, total_ms: u64) -> RequestTimes {
        let mut stages = [0; Stage::COUNT];
        stages[Stage::Read as usize] = total_ms * 1_000_000;
        RequestTimes {
            operation: Timing::Get,
            code: Code::Ok,
            table,
            partition: 3,
            bytes: 10,
            key_hash: 0xabc,
            stages,
        }
    }

    fn with_threshold(table: u32, ms: &str) -> Directory {
        let envs = BTreeMap::from([("replica.slow_query_threshold".to_owned(), ms.to_owned())]);
        let table_of = Table {
            name: "users".to_owned(),
            partition_count: 4,
            default_ttl_seconds: 0,
            replica_count: 1,
            min_replicas: 1,
            settings: Settings::of(envs),
        };
        Directory {
            tables: HashMap::from([(TableId(table), table_of)]),
            ..Directory::default()
        }
    }

    #[test]
    fn a_request_is_slow_by_the_threshold_of_its_table_or_else_of_the_node() {
        let log = SlowLog::default();
        let mut reporter = log.reporter(Duration::from_millis(100));
        let directory = with_threshold(1, "20");
        reporter.update(&directory);
        assert!(!reporter.may_be_slow(19_000_000) && reporter.may_be_slow(20_000_000));
        let client = "127.0.0.1:7".parse().expect("an address");
        reporter.note_client(5, Some(client));
        reporter.answered(Some(5), request(1, 20), 1);
        reporter.answered(None, request(2, 20), 2);
        reporter.answered(Some(5), request(2, 100), 3);
        log.collect(|table| name_in(&directory, table));
        let last = log.last(None);
        assert_eq!(last.len(), 2);
        assert_eq!((last[0].request.table, last[0].client), (2, None));
        assert_eq!((last[1].request.table, last[1].client), (1, Some(client)));
        assert_eq!(log.last(Some(1)), last[1..]);
        let told = last[1].json("users");
        assert_eq!(told["stages_us"], json!({"read": 20_000}));
        assert_eq!(told["client"], "127.0.0.1:7");
    }

    #[test]
    fn without_a_threshold_nothing_is_slow() {
        let mut reporter = SlowLog::default().reporter(Duration::ZERO);
        reporter.update(&Directory::default());
        assert!(!reporter.may_be_slow(u64::MAX - 1));
    }

    #[test]
    fn there_is_an_end_to_what_is_kept_and_handed_over() {
        let log = SlowLog::default();
        let mut reporter = log.reporter(Duration::from_nanos(1));
        for round in 0..3 {
            for number in 0..QUEUE_MAX as u64 {
                let table = u32::try_from(number % 300).expect("small");
                reporter.answered(None, request(table, 1), round * 10_000 + number);
            }
            reporter.answered(None, request(0, 1), 0);
            assert_eq!(log.0.lost.load(Ordering::Relaxed), 1);
            log.collect(|table| table.to_string());
        }
        assert_eq!(log.kept().len(), TABLES_MAX);
        for number in 0..100 {
            log.keep(SlowEntry {
                answered_unix_us: 1_000_000 + number,
                client: None,
                request: request(7, 1),
            });
        }
        let last = log.last(Some(7));
        assert_eq!(last.len(), KEPT_PER_TABLE);
        assert_eq!(last[0].answered_unix_us, 1_000_099);
    }
}

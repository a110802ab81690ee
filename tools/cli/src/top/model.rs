//! What is known of the cluster: rows for the lists, made of two readings of each core.
//!
//! No clock, no terminal, no network. A core that was restarted between two readings counts from its start; one that does
//! not run keeps its last numbers, without rates.

use crate::cores::name::CoreName;
use crate::cores::numbers::Numbers;
use crate::cores::source::Reading;
use crate::cores::state::State;
use crate::cores::traffic::{PartitionNumbers, Traffic};
use crate::hotkeys::rank::{self, HotKeyRow, Told, name_of};
use pegasus_fbs::stats_page::{Interval, Role, Snapshot};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Readings that the small pictures of latency and traffic go back.
pub(super) const HISTORY: usize = 60;

/// All that is shown.
#[derive(Debug, Default)]
pub(super) struct Model {
    /// Names of tables by number, as far as meta has told.
    pub(super) tables: BTreeMap<u32, String>,
    /// By node and core.
    pub(super) cores: Vec<CoreRow>,
    /// The hottest first, as last asked.
    pub(super) hot_keys: Vec<HotKeyRow>,
    /// What could not be read and belongs to no core.
    pub(super) problems: Vec<String>,
    pages: BTreeMap<(u32, u32), Pages>,
    histories: BTreeMap<(u32, u32), History>,
}

/// The two newest different publications of a core.
#[derive(Debug)]
struct Pages {
    before: Option<Snapshot>,
    now: Snapshot,
}

/// One core.
#[derive(Clone, Debug)]
pub(super) struct CoreRow {
    pub(super) name: CoreName,
    pub(super) state: State,
    /// How long ago it published what is shown, where it does not run.
    pub(super) silent_for: Option<Duration>,
    /// Why there are no numbers.
    pub(super) error: Option<String>,
    pub(super) numbers: Option<Numbers>,
    /// Of all its replicas, by table and partition.
    pub(super) partitions: Vec<PartitionNumbers>,
    pub(super) history: History,
}

/// The last readings of a core, the newest at the end.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    /// Requests per second.
    pub(super) requests: VecDeque<u64>,
    /// The 99th percentile of all operations, microseconds.
    pub(super) p99_us: VecDeque<u64>,
}

/// All replicas of a table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TableRow {
    pub(super) table_id: u32,
    pub(super) name: String,
    pub(super) primaries: u64,
    pub(super) replicas: u64,
    pub(super) traffic: Traffic,
    pub(super) failures: f64,
    pub(super) throttled: f64,
    pub(super) bytes_read: f64,
    pub(super) bytes_written: f64,
    pub(super) unflushed_bytes: u64,
    /// The partition that is asked for most, and its share of the requests.
    pub(super) hottest: Option<(u32, f64)>,
}

/// One replica.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PartitionRow {
    pub(super) core: CoreName,
    pub(super) table: String,
    pub(super) numbers: PartitionNumbers,
    /// Of the requests of its core, 0 to 1.
    pub(super) share: f64,
}

/// Sums over all cores, for the line at the top.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Totals {
    pub(super) nodes: usize,
    pub(super) cores: usize,
    /// Cores that do not run.
    pub(super) troubled: usize,
    pub(super) requests: f64,
    pub(super) failures: f64,
    pub(super) p99_us: f64,
    pub(super) primaries: u64,
    pub(super) replicas: u64,
}

impl History {
    fn push(&mut self, numbers: &Numbers) {
        let p99 = numbers.latency.as_ref().map_or(0.0, |it| it.p99_us);
        for (all, value) in [
            (&mut self.requests, numbers.requests_per_second),
            (&mut self.p99_us, p99),
        ] {
            if all.len() == HISTORY {
                all.pop_front();
            }
            all.push_back(whole(value));
        }
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a picture for people; the cast saturates"
)]
fn whole(value: f64) -> u64 {
    value.round() as u64
}

impl Model {
    /// A new reading of all cores, at `now_us` of this machine's clock, microseconds since 1970.
    pub(super) fn update(
        &mut self,
        readings: BTreeMap<(u32, u32), Reading>,
        problems: Vec<String>,
        now_us: u64,
    ) {
        self.problems = problems;
        self.pages.retain(|name, _| readings.contains_key(name));
        self.histories.retain(|name, _| readings.contains_key(name));
        let shown: BTreeMap<(u32, u32), CoreRow> = std::mem::take(&mut self.cores)
            .into_iter()
            .map(|row| ((row.name.node, row.name.core), row))
            .collect();
        self.cores = readings
            .into_values()
            .map(|reading| self.row(reading, &shown, now_us))
            .collect();
    }

    fn row(
        &mut self,
        reading: Reading,
        shown: &BTreeMap<(u32, u32), CoreRow>,
        now_us: u64,
    ) -> CoreRow {
        let key = (reading.node, reading.core);
        let mut row = CoreRow {
            name: CoreName {
                node: reading.node,
                core: reading.core,
            },
            state: reading.state,
            silent_for: None,
            error: None,
            numbers: None,
            partitions: Vec::new(),
            history: History::default(),
        };
        let page = match reading.page {
            Ok(page) => page,
            Err(error) => {
                // What was last heard of it is better than nothing.
                if let Some(before) = shown.get(&key) {
                    row.numbers.clone_from(&before.numbers);
                    row.partitions.clone_from(&before.partitions);
                    row.history = before.history.clone();
                    row.silent_for = before
                        .numbers
                        .as_ref()
                        .map(|it| since(it.published_unix_us, now_us));
                }
                row.error = Some(error);
                return row;
            }
        };
        if reading.state != State::Running {
            row.silent_for = Some(since(page.published_unix_us(), now_us));
        }
        let is_new = self.keep(key, page);
        let history = self.histories.entry(key).or_default();
        match shown.get(&key).filter(|_| !is_new) {
            // An idle core publishes twice a second: nothing new is no reason to show nothing.
            Some(before) if reading.state == State::Running => {
                row.numbers.clone_from(&before.numbers);
                row.partitions.clone_from(&before.partitions);
            }
            _ => {
                if let Some(pages) = self.pages.get(&key) {
                    let interval = match reading.state {
                        State::Running => pages.interval(),
                        _ => pages.now.since(&pages.now),
                    };
                    let numbers = Numbers::new(&interval, &pages.now);
                    if reading.state == State::Running && pages.before.is_some() {
                        history.push(&numbers);
                    }
                    row.numbers = Some(numbers);
                    row.partitions = PartitionNumbers::of(&interval);
                }
            }
        }
        row.history = history.clone();
        row
    }

    /// True: the core has published since the last reading.
    fn keep(&mut self, key: (u32, u32), page: Snapshot) -> bool {
        let Some(pages) = self.pages.get_mut(&key) else {
            let now = page;
            self.pages.insert(key, Pages { before: None, now });
            return true;
        };
        let is_new = pages.now.identity() != page.identity()
            || pages.now.published_unix_us() != page.published_unix_us();
        if is_new {
            pages.before = Some(std::mem::replace(&mut pages.now, page));
        } else {
            // Histograms grow between publications.
            pages.now = page;
        }
        is_new
    }

    /// What cores say of their hot keys.
    pub(super) fn update_hot_keys(&mut self, told: &[Told]) {
        self.hot_keys = rank::keys(told, &self.tables);
    }

    pub(super) fn core(&self, name: CoreName) -> Option<&CoreRow> {
        self.cores.iter().find(|row| row.name == name)
    }

    /// A core's page and the time that its numbers are of: of one that does not run, since its start.
    pub(super) fn page(&self, name: CoreName) -> Option<(&Snapshot, Interval)> {
        let pages = self.pages.get(&(name.node, name.core))?;
        let is_running = self.core(name)?.state == State::Running;
        let interval = match is_running && pages.before.is_some() {
            true => pages.interval(),
            false => pages.now.since_start(),
        };
        Some((&pages.now, interval))
    }

    /// Whether a table fits a filter: its name contains it, or it is everything.
    pub(super) fn fits(&self, table_id: u32, filter: &str) -> bool {
        filter.is_empty() || name_of(table_id, &self.tables).contains(filter)
    }

    pub(super) fn table_rows(&self, filter: &str) -> Vec<TableRow> {
        let mut rows: BTreeMap<u32, TableRow> = BTreeMap::new();
        for it in self.cores.iter().flat_map(|row| &row.partitions) {
            if !self.fits(it.table_id, filter) {
                continue;
            }
            let row = rows.entry(it.table_id).or_insert_with(|| TableRow {
                table_id: it.table_id,
                name: name_of(it.table_id, &self.tables),
                primaries: 0,
                replicas: 0,
                traffic: Traffic::default(),
                failures: 0.0,
                throttled: 0.0,
                bytes_read: 0.0,
                bytes_written: 0.0,
                unflushed_bytes: 0,
                hottest: None,
            });
            row.add(it);
        }
        let mut rows: Vec<TableRow> = rows.into_values().collect();
        for row in &mut rows {
            let all = row.traffic.total();
            row.hottest = row
                .hottest
                .filter(|_| all > 0.0)
                .map(|(partition, rate)| (partition, rate / all));
        }
        rows
    }

    pub(super) fn partition_rows(&self, filter: &str) -> Vec<PartitionRow> {
        let mut rows = Vec::new();
        for core in &self.cores {
            let all: f64 = core
                .partitions
                .iter()
                .map(|it| it.requests_per_second)
                .sum();
            let fitting = core.partitions.iter();
            for it in fitting.filter(|it| self.fits(it.table_id, filter)) {
                rows.push(PartitionRow {
                    core: core.name,
                    table: name_of(it.table_id, &self.tables),
                    share: if all > 0.0 {
                        it.requests_per_second / all
                    } else {
                        0.0
                    },
                    numbers: it.clone(),
                });
            }
        }
        rows
    }

    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals {
            cores: self.cores.len(),
            ..Totals::default()
        };
        let mut nodes: Vec<u32> = self.cores.iter().map(|row| row.name.node).collect();
        nodes.dedup();
        totals.nodes = nodes.len();
        for row in &self.cores {
            totals.troubled += usize::from(row.state != State::Running);
            let Some(numbers) = row.numbers.as_ref().filter(|_| row.is_running()) else {
                continue;
            };
            totals.requests += numbers.requests_per_second;
            totals.failures += numbers.failures_per_second;
            totals.primaries += numbers.primaries;
            totals.replicas += numbers.replicas;
            let p99 = numbers.latency.as_ref().map_or(0.0, |it| it.p99_us);
            totals.p99_us = totals.p99_us.max(p99);
        }
        totals
    }
}

impl Pages {
    fn interval(&self) -> Interval {
        let before = self.before.as_ref().unwrap_or(&self.now);
        self.now.since(before)
    }
}

impl CoreRow {
    pub(super) fn is_running(&self) -> bool {
        self.state == State::Running
    }

    /// Its requests, of the tables of a filter only.
    pub(super) fn traffic(&self, model: &Model, filter: &str) -> Traffic {
        if filter.is_empty() {
            return self
                .numbers
                .as_ref()
                .map_or(Traffic::default(), |it| it.traffic);
        }
        let mut sum = Traffic::default();
        for it in &self.partitions {
            if model.fits(it.table_id, filter) {
                sum.add(&it.traffic);
            }
        }
        sum
    }
}

impl TableRow {
    fn add(&mut self, it: &PartitionNumbers) {
        self.replicas += 1;
        self.primaries += u64::from(it.role == Role::Primary);
        self.traffic.add(&it.traffic);
        self.failures += it.failures_per_second;
        self.throttled += it.throttled_per_second;
        self.bytes_read += it.bytes_read_per_second;
        self.bytes_written += it.bytes_written_per_second;
        self.unflushed_bytes = self.unflushed_bytes.saturating_add(it.unflushed_bytes);
        if self
            .hottest
            .is_none_or(|(_, rate)| it.requests_per_second > rate)
        {
            self.hottest = Some((it.partition, it.requests_per_second));
        }
    }
}

fn since(published_us: u64, now_us: u64) -> Duration {
    Duration::from_micros(now_us.saturating_sub(published_us))
}

#[cfg(test)]
mod tests;

//! `pegasus core show NODE/CORE`: where the time of a core's requests goes.
//!
//! Reading order: this file gathers a `Report`; `stages` finds the stage that dominates, `meaning` says what that means,
//! `slow` has the slowest requests, `replicas` asks meta, and `print` writes it all for people.

mod meaning;
mod print;
mod replicas;
mod slow;
mod stages;

use super::name::CoreName;
use super::numbers::Numbers;
use super::source::{Places, Reading, Way, Where};
use super::state::State;
use super::traffic::PartitionNumbers;
use crate::connect::Connect;
use crate::exit::{Exit, Failed};
use crate::output::{Output, Style, note};
use clap::Args;
use pegasus_fbs::stats_page::{Class, Counter, Gauge, Interval, Snapshot};
use replicas::TableShare;
use serde::Serialize;
use slow::Slow;
use stages::Stages;
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The core: number of its node, /, its index within the node
    #[arg(value_name = "NODE/CORE")]
    core: CoreName,
    /// Seconds to watch it, 0.1 to 3600
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, allow_negative_numbers = true, value_parser = super::interval)]
    interval: f64,
    /// Show everything since the start of its process, at once
    #[arg(long, conflicts_with = "interval")]
    since_start: bool,
    #[command(flatten)]
    from: Where,
}

/// All that is said of one core.
#[derive(Clone, Debug, Serialize)]
struct Report {
    node: u32,
    core: u32,
    state: State,
    over: Way,
    /// Empty where nobody was asked for it.
    host: String,
    /// Where clients reach it; empty where nobody was asked for it.
    address: String,
    started_unix_us: u64,
    published_unix_us: u64,
    /// The process died while it published: counters and gauges may be of two different moments.
    torn: bool,
    /// Whether the numbers are those since the start of the process, instead of an interval.
    since_start: bool,
    /// Whether the node measures stages at all.
    measures_stages: bool,
    #[serde(flatten)]
    numbers: Numbers,
    /// Growth in the interval, those that are not 0.
    counters: BTreeMap<&'static str, u64>,
    gauges: BTreeMap<&'static str, u64>,
    writes: Stages,
    reads: Stages,
    /// The slowest first.
    slow_requests: Vec<Slow>,
    /// By table; none where meta could not be asked.
    replicas_by_table: Option<Vec<TableShare>>,
    /// What each replica was asked for in the interval, as the core itself counts.
    partitions: Vec<PartitionNumbers>,
}

pub(super) async fn run(show: &Show, connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    let places = Places::find(&show.from, connect, Some(show.core.node)).await?;
    let (now, interval) = read(show, &places).await?;
    let page = now
        .page
        .as_ref()
        .map_err(|error| silent(show.core, error))?;
    let (tables, replicas) = match places.client() {
        Some(client) => replicas::of_core(client, show.core.node, show.core.core).await,
        None => (BTreeMap::new(), None),
    };
    let mut report = Report::new(&now, page, &interval);
    report.slow_requests = slow::all(page, &tables);
    report.replicas_by_table = replicas;
    if let Some(node) = places.node(show.core.node) {
        report.host.clone_from(&node.host);
        let core = usize::try_from(show.core.core).ok();
        if let Some(core) = core.and_then(|index| node.cores.get(index)) {
            report.address.clone_from(&core.client_address);
        }
    }
    match out.style {
        Style::Json => out.json(&report),
        Style::People => print::report(&report, page, &interval, out),
    }
}

/// The core as it is now, and the time its numbers are of. One that does not run is not waited for.
async fn read(show: &Show, places: &Places) -> anyhow::Result<(Reading, Interval)> {
    let first = one(show.core, places).await?;
    let earlier = match &first.page {
        Ok(page) if show.since_start || first.state != State::Running => {
            let interval = page.since_start();
            return Ok((first, interval));
        }
        Ok(page) => page.clone(),
        Err(error) => return Err(silent(show.core, error)),
    };
    tokio::time::sleep(Duration::from_secs_f64(show.interval)).await;
    let now = one(show.core, places).await?;
    let interval = match &now.page {
        Ok(page) => page.since(&earlier),
        Err(error) => return Err(silent(show.core, error)),
    };
    Ok((now, interval))
}

async fn one(name: CoreName, places: &Places) -> anyhow::Result<Reading> {
    let (mut readings, problems) = places.read().await;
    if let Some(reading) = readings.remove(&(name.node, name.core)) {
        return Ok(reading);
    }
    problems
        .iter()
        .take(3)
        .for_each(|problem| note(format!("pegasus: {problem}")));
    let known: Vec<String> = readings
        .keys()
        .map(|(node, core)| format!("{node}/{core}"))
        .collect();
    Err(Failed::error(
        Exit::NotFound,
        match known.is_empty() {
            true => format!("core {name}: no statistics found"),
            false => format!("core {name}: no such core; there are: {}", known.join(", ")),
        },
    ))
}

fn silent(name: CoreName, error: &str) -> anyhow::Error {
    Failed::error(
        Exit::Unavailable,
        format!("core {name}: {}: {error}", State::Silent.meaning()),
    )
}

impl Report {
    fn new(now: &Reading, page: &Snapshot, interval: &Interval) -> Self {
        let counters = Counter::ALL
            .iter()
            .map(|counter| (counter.name(), interval.count(*counter)));
        let gauges = Gauge::ALL
            .iter()
            .map(|gauge| (gauge.name(), page.gauge(*gauge)));
        Self {
            node: now.node,
            core: now.core,
            state: now.state,
            over: now.way,
            host: String::new(),
            address: String::new(),
            started_unix_us: page.identity().started_unix_us,
            published_unix_us: page.published_unix_us(),
            torn: page.is_torn(),
            since_start: interval.elapsed() == page.since_start().elapsed(),
            measures_stages: page.measures_stages(),
            numbers: Numbers::new(interval, page),
            counters: counters.filter(|(_, count)| *count > 0).collect(),
            gauges: gauges.collect(),
            writes: Stages::new(Class::Write, interval),
            reads: Stages::new(Class::Read, interval),
            slow_requests: Vec::new(),
            replicas_by_table: None,
            partitions: PartitionNumbers::of(interval),
        }
    }
}

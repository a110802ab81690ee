//! Two looks at all cores of a cluster, over the wire: before a run and after it.

use super::{CoreTiming, CoreUse, Cores};
use crate::target::Target;
use anyhow::Context as _;
use pegasus_client::{Client, ClientOptions, CoreSnapshot};
use pegasus_fbs::stats_page::{Class, Counter, Gauge, Histogram, Interval, Timing};
use std::collections::BTreeMap;
use std::time::Duration;

/// The statistics of all cores as they were before the run.
#[derive(Debug)]
pub(crate) struct Watch {
    meta: Vec<String>,
    before: Look,
}

/// Node and index of a core.
type Place = (u32, u32);

#[derive(Debug, Default)]
struct Look {
    cores: BTreeMap<Place, CoreSnapshot>,
    missing: Vec<String>,
}

/// A core that is asked and does not answer costs so long.
const PATIENCE: Duration = Duration::from_secs(2);

impl Watch {
    /// The first look; `None` when the target has no cores that tell. Without an answer the run goes on, and the report says
    /// why nothing is known.
    pub(crate) fn start(target: &Target) -> Option<Self> {
        let meta = target.meta()?;
        Some(Self {
            meta: meta.to_vec(),
            before: look(meta),
        })
    }

    /// The second look, and what happened between the two.
    pub(crate) fn finish(self) -> Cores {
        difference(self.before, look(&self.meta))
    }
}

/// What happened between two looks.
fn difference(before: Look, after: Look) -> Cores {
    let mut missing = before.missing;
    missing.extend(after.missing);
    let mut cores = Vec::new();
    for (place, later) in &after.cores {
        match before.cores.get(place) {
            Some(earlier) => cores.push(core_use(*place, &later.since(earlier))),
            None => missing.push(format!(
                "core {}/{} could not be asked before the run",
                place.0, place.1
            )),
        }
    }
    missing.sort();
    missing.dedup();
    Cores { cores, missing }
}

/// Asks every core that meta knows of.
fn look(meta: &[String]) -> Look {
    let asked = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("runtime")
        .and_then(|runtime| runtime.block_on(ask(meta)));
    asked.unwrap_or_else(|error| Look {
        missing: vec![format!("the cores could not be asked: {error:#}")],
        ..Look::default()
    })
}

async fn ask(meta: &[String]) -> anyhow::Result<Look> {
    let mut options = ClientOptions::new(meta.to_vec());
    options.admin_timeout = PATIENCE;
    let client = Client::connect(options).await?;
    let cluster = client.list_nodes().await?;
    let mut look = Look::default();
    for node in &cluster.nodes {
        for (core, index) in node.cores.iter().zip(0..) {
            match client.core_stats(&core.client_address, None).await {
                Ok(snapshot) => {
                    look.cores.insert((node.node, index), snapshot);
                }
                Err(error) => look
                    .missing
                    .push(format!("core {}/{index}: {error}", node.node)),
            }
        }
    }
    Ok(look)
}

fn core_use((node, core): Place, interval: &Interval) -> CoreUse {
    let timings = |list: &[Timing]| -> Vec<CoreTiming> {
        let timing = |timing: &Timing| core_timing(timing.name(), interval.histogram(*timing));
        list.iter().filter_map(timing).collect()
    };
    let stages = |class: Class| -> Vec<CoreTiming> {
        interval
            .stages(class)
            .filter_map(|(stage, histogram)| core_timing(stage.name(), histogram))
            .collect()
    };
    CoreUse {
        node,
        core,
        seconds: interval.elapsed().as_secs_f64(),
        requests: interval.sum(Counter::requests()),
        failures: interval.sum(Counter::failures()),
        counts: Counter::ALL
            .iter()
            .map(|counter| (counter.name().to_owned(), interval.count(*counter)))
            .filter(|(_, count)| *count > 0)
            .collect(),
        gauges: Gauge::ALL
            .iter()
            .map(|gauge| (gauge.name().to_owned(), interval.gauge(*gauge)))
            .filter(|(_, value)| *value > 0)
            .collect(),
        operations: timings(Timing::operations()),
        reads: stages(Class::Read),
        writes: stages(Class::Write),
        work: timings(Timing::of_core()),
    }
}

/// `None` when nothing of it was recorded.
fn core_timing(name: &str, histogram: &Histogram) -> Option<CoreTiming> {
    let microseconds = |duration: Option<Duration>| {
        let microseconds = duration.unwrap_or_default().as_secs_f64() * 1e6;
        (microseconds * 10.0).round() / 10.0
    };
    let count = histogram.count();
    (count > 0).then(|| CoreTiming {
        name: name.to_owned(),
        count,
        mean_us: microseconds(histogram.mean()),
        p50_us: microseconds(histogram.quantile(0.5)),
        p99_us: microseconds(histogram.quantile(0.99)),
        p999_us: microseconds(histogram.quantile(0.999)),
        max_us: microseconds(histogram.max()),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use pegasus_fbs::stats_page::{PAGE_WORDS, Writer};
    use std::sync::atomic::AtomicU64;

    #[test]
    fn what_happened_between_two_looks_is_told_under_the_names_of_the_page() {
        let words: Vec<AtomicU64> = (0..PAGE_WORDS).map(|_| AtomicU64::new(0)).collect();
        let mut writer = Writer::new(words, 3, 1, 7, 1_000_000);
        writer.add(Counter::RequestGet, 5);
        writer.publish(2_000_000);
        let earlier = writer.snapshot();
        writer.add(Counter::RequestGet, 100);
        writer.add(Counter::AnswerBusy, 2);
        writer.set(Gauge::ApplyQueue, 4);
        for _ in 0..10 {
            writer.record(Timing::LogFlush, Duration::from_micros(100));
        }
        writer.publish(4_000_000);
        let look = |places: &[Place], snapshot: &CoreSnapshot| Look {
            cores: places.iter().map(|it| (*it, snapshot.clone())).collect(),
            missing: Vec::new(),
        };
        let before = look(&[(3, 1)], &earlier);
        let after = look(&[(3, 1), (4, 0)], &writer.snapshot());
        let Cores { cores, missing } = difference(before, after);
        assert_eq!(missing, ["core 4/0 could not be asked before the run"]);
        let [core] = &cores[..] else {
            panic!("one core has two looks: {cores:?}");
        };
        assert_eq!(
            (core.name().as_str(), core.requests, core.failures),
            ("3/1", 100, 2)
        );
        assert!((core.requests_per_second() - 50.0).abs() < 1e-6, "{core:?}");
        assert_eq!(core.gauge("apply_queue"), 4);
        let flush = core.work("log_flush").unwrap();
        assert_eq!(flush.count, 10);
        assert!((flush.p50_us - 100.0).abs() < 2.0, "{flush:?}");
        assert!(core.operations.is_empty() && core.writes.is_empty());
    }

    #[test]
    fn other_targets_have_no_cores_and_a_cluster_that_is_gone_is_a_sentence() {
        assert!(Watch::start(&Target::Null).is_none());
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let target = Target::Native {
            meta: vec![address],
            table: "t".to_owned(),
        };
        let cores = Watch::start(&target).unwrap().finish();
        assert_eq!(
            (cores.cores.len(), cores.missing.len()),
            (0, 1),
            "{cores:?}"
        );
    }
}

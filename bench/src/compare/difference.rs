//! In what the runs differ that are compared, beside their figures.

use super::report::Side;
use crate::report::{Report, list};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// One setting that is not the same everywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Difference {
    pub(crate) what: String,
    /// For each side, all values that its runs have.
    pub(crate) values: Vec<Vec<String>>,
}

/// Settings and facts of one run that make it comparable with another, or not.
fn settings(report: &Report) -> Vec<(&'static str, String)> {
    let setup = &report.outcome.setup;
    let target = &setup.target;
    let machine = &report.machine;
    let known = |value: Option<u32>| value.map_or("-".to_owned(), |value| value.to_string());
    let floor = report.floor.as_ref().map(|compared| &compared.limits);
    vec![
        ("target", target.url.clone()),
        ("server", target.server.clone()),
        ("partitions", known(target.partitions)),
        ("replicas", known(target.replicas)),
        ("durability", target.durability.clone().unwrap_or_default()),
        ("CPUs of the servers", list(&target.server_cpus)),
        ("workload", setup.what()),
        ("data", setup.records_sentence()),
        (
            "loop",
            setup.rate.map_or("closed".to_owned(), |rate| {
                format!("open, {rate:.0} operations/s")
            }),
        ),
        ("threads", setup.threads.to_string()),
        ("connections", setup.connections.to_string()),
        ("in flight", setup.inflight.to_string()),
        ("CPUs of the bench", list(&setup.pinned_to)),
        ("deadline", format!("{} ms", setup.timeout_ms)),
        ("warm-up", format!("{} s", setup.warm_up_seconds)),
        (
            "verified",
            if report.outcome.verify.is_some() {
                "yes"
            } else {
                "no"
            }
            .to_owned(),
        ),
        ("host", machine.host.clone()),
        ("CPU", machine.cpu_model.clone()),
        ("CPUs", machine.cpus.to_string()),
        ("kernel", machine.kernel.clone()),
        ("governor", machine.governor.clone()),
        ("clock source", machine.clocksource.clone()),
        ("bench version", setup.bench_version.clone()),
        (
            "floor's echo server",
            floor.map_or("-".to_owned(), |floor| floor.poll.sentence().to_owned()),
        ),
    ]
}

/// All settings that are not the same in all runs.
pub(super) fn differences(sides: &[Side]) -> Vec<Difference> {
    let all: Vec<Vec<Vec<(&str, String)>>> = sides
        .iter()
        .map(|side| side.reports.iter().map(settings).collect())
        .collect();
    let Some(count) = all.iter().flatten().map(Vec::len).min() else {
        return Vec::new();
    };
    (0..count)
        .filter_map(|index| {
            let values_of = |runs: &Vec<Vec<(&str, String)>>| -> BTreeSet<String> {
                runs.iter().map(|run| run[index].1.clone()).collect()
            };
            let values: Vec<BTreeSet<String>> = all.iter().map(values_of).collect();
            let distinct: BTreeSet<&String> = values.iter().flatten().collect();
            let what = all.iter().flatten().next()?[index].0;
            (distinct.len() > 1).then(|| Difference {
                what: what.to_owned(),
                values: values
                    .into_iter()
                    .map(|values| values.into_iter().collect())
                    .collect(),
            })
        })
        .collect()
}

impl Difference {
    /// `threads differ: 1 | 2`
    pub(crate) fn sentence(&self) -> String {
        let sides: Vec<String> = self
            .values
            .iter()
            .map(|values| {
                let values: Vec<&str> = values
                    .iter()
                    .map(|value| if value.is_empty() { "unknown" } else { value })
                    .collect();
                values.join(" and ")
            })
            .collect();
        format!("not the same: {}: {}", self.what, sides.join(" | "))
    }
}

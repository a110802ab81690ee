//! The numbers of meta for Prometheus and for what reads OpenMetrics: tables by how their partitions are, nodes, and what has
//! happened at its port. `docs/metrics.md` is made from what is written here, by a test.

use super::super::Counters;
use super::super::facts::{Place, core_nodes};
use super::cluster::{HEALTHS, counts};
use crate::state::State;
use pegasus_host::Root;
use pegasus_host::process::{ProcessUsage, TICKS_PER_SECOND, process_usage};
use pegasus_http::{Exposition, Family, FamilyKind, TextFormat};
use pegasus_replication::ids::NodeId;
use std::fmt::Display;
use std::sync::atomic::Ordering;

use FamilyKind::{Counter as Growing, Gauge as Standing};

const fn family<'a>(name: &'a str, kind: FamilyKind, help: &'a str) -> Family<'a> {
    Family { name, kind, help }
}

/// `state`: of the meta that leads.
pub(super) fn exposition(
    state: Option<&State>,
    place: &Place,
    counters: &Counters,
    started_s: u64,
    format: TextFormat,
) -> Exposition {
    let mut out = Exposition::new(format);
    let help = "1, with the version in its labels.";
    out.family(family("pegasus_build_info", Standing, help))
        .sample(
            &[("role", &"meta"), ("version", &env!("CARGO_PKG_VERSION"))],
            1,
        );
    of_process(&mut out, &process_usage(&Root::system()), started_s);
    of_group(&mut out, place);
    if let Some(state) = state {
        of_cluster(&mut out, state);
        of_tables(&mut out, state);
        of_nodes(&mut out, state);
    }
    of_port(&mut out, counters);
    out
}

fn of_process(out: &mut Exposition, process: &ProcessUsage, started_s: u64) {
    let numbers = [
        (
            "process_start_time_seconds",
            "Start of the process, Unix seconds.",
            started_s,
        ),
        (
            "process_virtual_memory_bytes",
            "Virtual memory of the process.",
            process.virtual_bytes,
        ),
        (
            "process_resident_memory_bytes",
            "Resident memory of the process.",
            process.resident_bytes,
        ),
        (
            "process_open_fds",
            "Files and sockets that the process has open.",
            process.open_files,
        ),
        (
            "process_max_fds",
            "How many it may have open; 0 = any number.",
            process.open_files_max,
        ),
        (
            "process_threads",
            "Threads of the process.",
            process.threads,
        ),
    ];
    for (name, help, value) in numbers {
        out.family(family(name, Standing, help)).sample(&[], value);
    }
    #[allow(
        clippy::cast_precision_loss,
        reason = "ticks of a million years are exact"
    )]
    let seconds = process.cpu_ticks as f64 / TICKS_PER_SECOND as f64;
    let help = "CPU time that the process has used.";
    out.family(family("process_cpu_seconds", Growing, help))
        .sample(&[], seconds);
}

/// The metas of the cluster. A single one leads, and is all there is.
fn of_group(out: &mut Exposition, place: &Place) {
    let members = place.members.len().max(1);
    let up = place.members.iter().filter(|it| it.is_up == Some(true));
    let up = if place.members.is_empty() {
        1
    } else {
        up.count()
    };
    let numbers: [(&str, &str, u64); 4] = [
        (
            "pegasus_meta_is_leader",
            "1 at the meta that decides, 0 at the others.",
            u64::from(place.leads),
        ),
        (
            "pegasus_meta_term",
            "Grows with each new leader of a group; 0 where there is none.",
            place.term,
        ),
        (
            "pegasus_meta_members",
            "Metas of the cluster.",
            members as u64,
        ),
        (
            "pegasus_meta_members_up",
            "Those of them that answer, as far as this one knows: only the leader hears of all.",
            up as u64,
        ),
    ];
    for (name, help, value) in numbers {
        out.family(family(name, Standing, help)).sample(&[], value);
    }
}

fn of_cluster(out: &mut Exposition, state: &State) {
    let tables = state.durable().tables().values();
    let (dropped, live): (Vec<_>, Vec<_>) = tables.partition(|table| table.is_dropped());
    let learners = live
        .iter()
        .flat_map(|table| table.indexed())
        .filter(|(_, partition)| partition.learner.is_some());
    let alive: Vec<u64> = core_nodes(state)
        .filter(|core| core.alive)
        .map(|core| core.primaries)
        .collect();
    let spread = alive.iter().max().unwrap_or(&0) - alive.iter().min().unwrap_or(&0);
    let numbers: [(&str, &str, &dyn Display); 5] = [
        (
            "pegasus_meta_level",
            "100 stopped, 200 blind, 300 freezed, 400 steady, 500 lively.",
            &state.durable().level().number(),
        ),
        ("pegasus_meta_tables", "Tables that are there.", &live.len()),
        (
            "pegasus_meta_tables_dropped",
            "Tables that were dropped and can be recalled.",
            &dropped.len(),
        ),
        (
            "pegasus_meta_learners",
            "New replicas that are being made.",
            &learners.count(),
        ),
        (
            "pegasus_meta_primaries_spread",
            "Primaries of the fullest core less those of the emptiest, of nodes that are alive.",
            &spread,
        ),
    ];
    for (name, help, value) in numbers {
        out.family(family(name, Standing, help)).sample(&[], value);
    }
}

fn of_tables(out: &mut Exposition, state: &State) {
    let help = "Partitions of a table by how they are: each counts once.";
    let mut samples = out.family(family("pegasus_meta_partitions", Standing, help));
    for table in state
        .durable()
        .tables()
        .values()
        .filter(|table| !table.is_dropped())
    {
        for (health, count) in HEALTHS.iter().zip(counts(state, table)) {
            let (name, _) = health;
            samples.sample(&[("table", &table.name), ("health", name)], count);
        }
    }
}

/// What is told of each node: a name, help, and the number.
type OfNode = (&'static str, &'static str, fn(&State, NodeId) -> u64);

const NODES: [OfNode; 6] = [
    (
        "pegasus_meta_node_up",
        "1 while meta hears of the node.",
        |state, node| u64::from(state.is_alive(node)),
    ),
    (
        "pegasus_meta_node_draining",
        "1 while the node is being emptied.",
        |state, node| u64::from(state.durable().drain(node).is_some()),
    ),
    (
        "pegasus_meta_node_cores",
        "Cores of the node.",
        |state, node| {
            state
                .durable()
                .nodes()
                .get(&node)
                .map_or(0, |node| node.cores.len() as u64)
        },
    ),
    (
        "pegasus_meta_node_disk_size_bytes",
        "Size of the node's disk, as it last said.",
        |state, node| state.live(node).map_or(0, |live| live.disk_total),
    ),
    (
        "pegasus_meta_node_disk_free_bytes",
        "Room on it.",
        |state, node| state.live(node).map_or(0, |live| live.disk_free),
    ),
    (
        "pegasus_meta_node_unknown_replicas",
        "Copies on the node that no table knows.",
        |state, node| state.live(node).map_or(0, |live| live.unknown_replicas),
    ),
];

fn of_nodes(out: &mut Exposition, state: &State) {
    let nodes = || state.durable().nodes().keys();
    for (name, help, value) in &NODES {
        let mut samples = out.family(family(name, Standing, help));
        for node in nodes() {
            samples.sample(&[("node", node)], value(state, *node));
        }
    }
    let loads = state.loads();
    let sum = |node: NodeId, of: fn(u64, u64) -> u64| -> u64 {
        let own = loads.iter().filter(|(core, _)| core.node == node);
        own.map(|(_, load)| of(load.primaries, load.replicas)).sum()
    };
    let help = "Partitions that the node leads.";
    let mut samples = out.family(family("pegasus_meta_node_primaries", Standing, help));
    for node in nodes() {
        samples.sample(&[("node", node)], sum(*node, |primaries, _| primaries));
    }
    let help = "Replicas that are to be on the node.";
    let mut samples = out.family(family("pegasus_meta_node_replicas", Standing, help));
    for node in nodes() {
        samples.sample(&[("node", node)], sum(*node, |_, replicas| replicas));
    }
}

fn of_port(out: &mut Exposition, counters: &Counters) {
    let numbers = [
        (
            "pegasus_meta_connections",
            "Connections accepted.",
            &counters.connections,
        ),
        (
            "pegasus_meta_connections_refused",
            "Connections closed because there were too many.",
            &counters.connections_refused,
        ),
        (
            "pegasus_meta_connections_garbage",
            "Connections closed for bytes that are no protocol.",
            &counters.garbage,
        ),
        (
            "pegasus_meta_connections_overflowed",
            "Connections closed because they did not read what they were sent.",
            &counters.overflows,
        ),
        (
            "pegasus_meta_registrations_refused",
            "Nodes refused at registration.",
            &counters.registrations_refused,
        ),
        (
            "pegasus_meta_resyncs",
            "Times that a node knew something else than meta, and was told everything.",
            &counters.resyncs,
        ),
        (
            "pegasus_meta_configuration_changes",
            "Configurations of partitions that were changed: failovers, removals, new members, moves.",
            &counters.configuration_changes,
        ),
        (
            "pegasus_meta_store_flushes",
            "Times that changes were made durable.",
            &counters.store_flushes,
        ),
    ];
    for (name, help, value) in numbers {
        out.family(family(name, Growing, help))
            .sample(&[], value.load(Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Cluster, ClusterId};
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    fn text() -> String {
        let cluster = Cluster {
            id: ClusterId(7),
            name: "test".to_owned(),
            epoch: 0,
        };
        let counters = Counters::default();
        counters.garbage.store(3, Ordering::Relaxed);
        let state = State::new(cluster);
        let place = Place::alone(([127, 0, 0, 1], 34601).into());
        exposition(Some(&state), &place, &counters, 11, TextFormat::Prometheus).finish()
    }

    #[test]
    fn what_has_happened_is_told() {
        let text = text();
        for line in [
            "pegasus_meta_connections_garbage_total 3",
            "process_start_time_seconds 11",
            "pegasus_meta_level 400",
            "pegasus_meta_tables 0",
        ] {
            assert!(
                text.lines().any(|it| it == line),
                "{line} is not in\n{text}"
            );
        }
    }

    /// Families without labels are in the text of an empty cluster; the others are named in the lists of this file.
    #[test]
    fn the_documentation_has_what_is_told() {
        let text = text();
        let helps = text.lines().filter_map(|line| line.strip_prefix("# HELP "));
        let mut told: BTreeSet<String> = BTreeSet::new();
        for line in helps {
            let (name, help) = line.split_once(' ').expect("a help");
            let kind = if name.ends_with("_total") {
                "counter"
            } else {
                "gauge"
            };
            told.insert(format!("| `{name}` | {kind} | | {help} |"));
        }
        for (name, help, _) in NODES {
            told.insert(format!("| `{name}` | gauge | node | {help} |"));
        }
        told.insert(
            "| `pegasus_meta_node_primaries` | gauge | node | Partitions that the node leads. |"
                .to_owned(),
        );
        told.insert("| `pegasus_meta_node_replicas` | gauge | node | Replicas that are to be on the node. |".to_owned());
        told.insert("| `pegasus_meta_partitions` | gauge | table, health | Partitions of a table by how they are: each counts once. |".to_owned());
        let rows: Vec<String> = told.into_iter().collect();
        let told = format!(
            "| name | kind | labels | what |\n|---|---|---|---|\n{}\n",
            rows.join("\n")
        );
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
        let page = std::fs::read_to_string(&path).expect("the page is there");
        let (begin, end) = ("<!-- meta: begin -->\n", "<!-- meta: end -->");
        let (before, rest) = page.split_once(begin).expect("a mark");
        let (table, after) = rest.split_once(end).expect("a mark");
        if std::env::var_os("PEGASUS_WRITE_DOCS").is_some() {
            let page = format!("{before}{begin}{told}{end}{after}");
            std::fs::write(&path, page).expect("the page can be written");
        } else {
            assert_eq!(
                table, told,
                "PEGASUS_WRITE_DOCS=1 writes docs/metrics.md anew"
            );
        }
    }
}

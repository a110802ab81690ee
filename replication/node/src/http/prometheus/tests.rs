use super::*;
use crate::compaction::CompactionStatus;
use crate::http::tests::subject;
use crate::view::Traffic;
use pegasus_engine::rocks::ReplicaSize;
use pegasus_fbs::stats_page::{PAGE_WORDS, Writer};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;

/// A node of which everything can be told: two cores that have timed each kind of thing, a table, a replica.
fn facts() -> NodeFacts {
    let page: Vec<AtomicU64> = (0..PAGE_WORDS).map(|_| AtomicU64::new(0)).collect();
    let mut writer = Writer::new(page, 7, 3, 1, 1_451_606_400_000_000);
    for timing in Timing::ALL {
        writer.record(*timing, Duration::from_micros(150));
        writer.record(*timing, Duration::from_secs(9));
    }
    writer.add(Counter::AdmitTime, 1_500_000_000);
    writer.publish(1_451_606_401_500_000);
    let other = subject();
    let stats = other.page.partitions().to_vec();
    let size = ReplicaSize {
        rows: 5,
        file_bytes: 1000,
        ..ReplicaSize::default()
    };
    let replica = |stats| ReplicaFacts {
        table: "users".to_owned(),
        core: 2,
        stats,
        size,
    };
    NodeFacts {
        cores: vec![writer.snapshot(), other.page],
        tables: vec![TableFacts {
            name: "users".to_owned(),
            traffic: Traffic {
                reads: 4,
                ..Traffic::default()
            },
            size,
            roles: [0, 1, 0, 0, 0],
        }],
        replicas: stats.into_iter().map(replica).collect(),
        compaction: CompactionStatus {
            running: Some((1, 4)),
            ..CompactionStatus::default()
        },
        ..NodeFacts::default()
    }
}

fn text(with_replicas: bool) -> String {
    exposition(&facts(), TextFormat::Prometheus, with_replicas).finish()
}

#[test]
fn each_number_has_its_labels_and_base_units() {
    let text = text(false);
    for line in [
        "pegasus_requests_total{node=\"7\",core=\"2\",operation=\"get\"} 3",
        "pegasus_core_time_seconds_total{node=\"7\",core=\"3\",work=\"admit\"} 1.5",
        "pegasus_core_published_time_seconds{node=\"7\",core=\"3\"} 1451606401.5",
        "pegasus_disk_free_bytes{node=\"7\"} 0",
        "pegasus_table_requests_total{node=\"7\",table=\"users\",class=\"read\"} 4",
        "pegasus_table_replicas{node=\"7\",table=\"users\",role=\"primary\"} 1",
        "pegasus_manual_compaction_replicas_done{node=\"7\"} 1",
        "pegasus_stage_duration_seconds_bucket{node=\"7\",core=\"3\",class=\"write\",stage=\"flush\",le=\"0.0002\"} 1",
        "pegasus_stage_duration_seconds_count{node=\"7\",core=\"3\",class=\"write\",stage=\"flush\"} 2",
        "pegasus_operation_duration_seconds_sum{node=\"7\",core=\"2\",operation=\"get\"} 0.00001",
    ] {
        assert!(
            text.lines().any(|it| it == line),
            "{line} is not in\n{text}"
        );
    }
    assert!(!text.contains("operation=\"put\",le=\"0.1\"} 0\n"));
}

#[test]
fn replicas_are_told_only_to_those_who_ask_for_them() {
    assert!(!text(false).contains("pegasus_replica_"));
    let wanted =
        "pegasus_replica_writes_total{node=\"7\",core=\"2\",table=\"users\",partition=\"1\"} 2";
    assert!(text(true).lines().any(|it| it == wanted));
}

#[test]
fn every_number_is_explained() {
    assert!(!text(true).contains(NO_HELP), "add it to HELP");
    let known: Vec<&str> = Counter::ALL
        .iter()
        .map(|it| it.name())
        .chain(Gauge::ALL.iter().map(|it| it.name()))
        .collect();
    for (name, _) in HELP.iter().chain(&MORE_HELP) {
        assert!(known.contains(name), "{name} is not told any more");
    }
}

/// The part of docs/metrics.md between the two marks is what this makes of a whole exposition; `PEGASUS_WRITE_DOCS=1` writes
/// it anew.
#[test]
fn the_documentation_has_what_is_told() {
    let told = described(&text(true));
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let page = std::fs::read_to_string(&path).expect("the page is there");
    let (begin, end) = ("<!-- node: begin -->\n", "<!-- node: end -->");
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

/// A table of families: name, kind, labels, help.
fn described(text: &str) -> String {
    let mut labels: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_once('{').expect("each has labels");
        let names = rest
            .split("\",")
            .filter_map(|label| label.split('=').next());
        let own = names.filter(|name| *name != "le").collect();
        labels.insert(name.strip_suffix("_bucket").unwrap_or(name), own);
    }
    let mut table = "| name | kind | labels | what |\n|---|---|---|---|\n".to_owned();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(line) = line.strip_prefix("# HELP ") else {
            continue;
        };
        let (name, help) = line.split_once(' ').expect("a help");
        let kind = lines.next().and_then(|line| line.rsplit(' ').next());
        let (kind, labels) = (kind.expect("a kind"), labels[name].join(", "));
        table += &format!("| `{name}` | {kind} | {labels} | {help} |\n");
    }
    table
}

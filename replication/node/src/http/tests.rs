use super::*;
use crate::compaction::{Compaction, CompactionParts};
use crate::config::ScrubConfig;
use crate::scrub::Scrub;
use crate::slow::SlowLog;
use crate::stats::relay::Names;
use crate::view::TableTotals;
use bytes::Bytes;
use pegasus_fbs::stats_page::{Counter, Gauge, PAGE_WORDS, PartitionCounter, Timing, Writer};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// Core 2 of node 7, with some requests behind it.
pub(crate) fn subject() -> Subject {
    let page: Vec<AtomicU64> = (0..PAGE_WORDS).map(|_| AtomicU64::new(0)).collect();
    let mut writer = Writer::new(page, 7, 2, 1, 1_451_606_400_000_000);
    writer.add(Counter::RequestGet, 3);
    writer.set(Gauge::DiskTotalBytes, 100 << 20);
    writer.set(Gauge::DiskFreeBytes, 60 << 20);
    writer.record(Timing::Get, Duration::from_micros(10));
    let slot = writer.take_partition(4, 1);
    writer.add_of(slot, PartitionCounter::Put, 2);
    writer.add_of(slot, PartitionCounter::BytesWritten, 9_000);
    writer.publish(1_451_606_401_000_000);
    Subject {
        page: writer.snapshot(),
        core: 2,
        address: "127.0.0.1:34803".parse().expect("an address"),
        cluster: "c0ffee".to_owned(),
        state: CoreState {
            is_ready: true,
            failure: None,
        },
    }
}

/// A node that has no core, for what asks it about anything else.
pub(crate) fn with_node<T>(ask: impl FnOnce(&mut NodeView) -> T) -> T {
    let dir = tempfile::tempdir().expect("a directory");
    let config = ScrubConfig {
        period_hours: 0,
        ..ScrubConfig::default()
    };
    let (scrub, scrubber) = Scrub::start(dir.path(), Vec::new(), &config, || ()).expect("a thread");
    let known = Arc::default();
    let parts = CompactionParts {
        stores: Vec::new(),
        known: Arc::clone(&known),
    };
    let (compaction, compactor) = Compaction::start(parts, dir.path(), || ()).expect("a thread");
    let mut node = NodeView {
        names: Names::default(),
        pages: std::iter::empty().collect(),
        stores: Vec::new(),
        known,
        scrub,
        compaction: compaction.clone(),
        slow: SlowLog::default(),
        configuration: "[process]\n".to_owned(),
        totals: TableTotals::default(),
    };
    let answer = ask(&mut node);
    compaction.stop();
    drop(node);
    scrubber.join().expect("it ends when nobody can ask");
    compactor.join().expect("it was stopped");
    answer
}

fn ask(path: &str, query: &str, accept: &str) -> Response {
    let request = Request {
        method: Method::Get,
        path: path.to_owned(),
        query: query.to_owned(),
        accept: accept.to_owned(),
        body: Bytes::new(),
        keep_alive: true,
    };
    with_node(|node| answer(&request, &subject(), node))
}

fn value(response: &Response) -> Value {
    serde_json::from_slice(&response.body).expect("it is JSON")
}

#[test]
fn a_core_says_what_it_is_and_that_it_is_well() {
    assert_eq!(value(&ask("version", "", ""))["Version"], VERSION);
    assert_eq!(
        value(&ask("recentStartTime", "", ""))["RecentStartTime"],
        "2016-01-01 00:00:00.000"
    );
    assert_eq!(ask("health", "", "").status, Status::Ok);
    assert_eq!(ask("ready", "", "").status, Status::Ok);
    let paths = value(&ask("", "", ""));
    for path in paths.as_object().expect("an object").keys() {
        let query = if path.starts_with("/replica") {
            "app_id=1"
        } else {
            ""
        };
        assert_eq!(ask(&path[1..], query, "").status, Status::Ok, "{path}");
    }
    let unknown = ask("meta/apps", "", "");
    assert_eq!(unknown.status, Status::NotFound);
    assert_eq!(&unknown.body[..], b"service not found for \"meta/apps\"");
}

#[test]
fn a_core_that_waits_for_meta_is_well_and_not_ready_and_a_failed_one_is_neither() {
    let request = |path: &str| Request {
        method: Method::Get,
        path: path.to_owned(),
        query: String::new(),
        accept: String::new(),
        body: Bytes::new(),
        keep_alive: true,
    };
    let mut subject = subject();
    subject.state.is_ready = false;
    with_node(|node| {
        assert_eq!(
            answer(&request("health"), &subject, node).status,
            Status::Ok
        );
        assert_eq!(
            answer(&request("ready"), &subject, node).status,
            Status::ServiceUnavailable
        );
        subject.state = CoreState {
            is_ready: true,
            failure: Some("the log has failed".to_owned()),
        };
        for path in ["health", "ready"] {
            let response = answer(&request(path), &subject, node);
            assert_eq!(response.status, Status::ServiceUnavailable);
            assert_eq!(&response.body[..], b"the log has failed\n");
        }
    });
}

#[test]
fn metrics_are_filtered_as_asked_and_told_in_apaches_shape() {
    let all = value(&ask("metrics", "", ""));
    assert_eq!(all["role"], "replica");
    assert_eq!(all["port"], 34803);
    assert_eq!(all["timestamp_ns"], 1_451_606_401_000_000_000_u64);
    let one = value(&ask(
        "metrics",
        "types=server&metrics=request_get,rows_read",
        "",
    ));
    let entities = one["entities"].as_array().expect("a list");
    assert_eq!(entities.len(), 1);
    assert_eq!(
        entities[0]["metrics"],
        serde_json::json!([{"name": "request_get", "value": 3}, {"name": "rows_read", "value": 0}])
    );
    let get = value(&ask(
        "metrics",
        "attributes=task_name,RPC_RRDB_RRDB_GET&with_metric_fields=name,p99,unit",
        "",
    ));
    let metric = &get["entities"][0]["metrics"][0];
    assert_eq!(metric["unit"], "NanoSeconds");
    assert!(metric["p99"].as_u64().expect("a number") >= 10_000);
    assert!(metric.get("p50").is_none());
    let disk = value(&ask("metrics", "ids=disk@data&detail=true", ""));
    assert_eq!(disk["entities"][0]["metrics"][0]["value"], 100);
    assert_eq!(disk["entities"][0]["metrics"][0]["type"], "Gauge");
}

#[test]
fn a_query_that_makes_no_sense_is_refused_with_a_sentence() {
    for query in [
        "attributes=a,b,c",
        "detail=maybe",
        "nonsense=1",
        "ids=a&ids=b",
        "ids=%zz",
    ] {
        let response = ask("metrics", query, "");
        assert_eq!(response.status, Status::BadRequest, "{query}");
        assert!(value(&response)["error_message"].is_string());
    }
}

#[test]
fn a_replica_is_told_with_apaches_names() {
    let told = value(&ask("metrics", "types=replica", ""));
    let entities = told["entities"].as_array().expect("a list");
    assert_eq!(entities.len(), 1);
    assert_eq!(entities[0]["id"], "replica@4.1");
    assert_eq!(entities[0]["attributes"]["partition_id"], "1");
    let metrics = entities[0]["metrics"].as_array().expect("a list");
    let number = |name: &str| {
        let found = metrics.iter().find(|metric| metric["name"] == name);
        found.map(|metric| metric["value"].clone())
    };
    assert_eq!(number("put_requests"), Some(2.into()));
    assert_eq!(number("write_capacity_units"), Some(3.into()));
    assert_eq!(number("get_requests"), Some(0.into()));
}

#[test]
fn text_is_given_to_those_who_accept_it() {
    let prometheus = TextFormat::Prometheus.content_type();
    let told = ask("metrics/prometheus", "", "application/json");
    assert_eq!(told.content_type, prometheus);
    assert_eq!(
        ask("metrics", "", "text/plain;q=0.5").content_type,
        prometheus
    );
    let open = "application/openmetrics-text;version=1.0.0,text/plain";
    let open = ask("metrics", "replicas=true", open);
    assert_eq!(open.content_type, TextFormat::OpenMetrics.content_type());
    assert_eq!(ask("metrics", "", "*/*").content_type, "application/json");
    let senseless = ask("metrics/prometheus", "replicas=some", "");
    assert_eq!(senseless.status, Status::BadRequest);
}

#[test]
fn how_a_table_is_compacted_is_told_as_apache_tells_it() {
    let told = value(&ask("replica/manual_compaction", "app_id=4", ""));
    let nothing = serde_json::json!({"idle": 0, "running": 0, "queuing": 0, "finished": 0});
    assert_eq!(told["status"], nothing);
    let senseless = ask("replica/manual_compaction", "app_id=x", "");
    assert_eq!(senseless.status, Status::BadRequest);
}

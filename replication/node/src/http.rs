//! What a core answers over HTTP on its client port: who it is, whether it serves, and its metrics.
//!
//! To tools of Apache Pegasus each core is a node, so a port speaks of its own core alone; to collectors of metrics, which
//! read text, every port speaks of the whole node. Made on the thread of the statistics relay, from the statistics pages.
//! Source: Apache Pegasus' replica server, and its paths.

pub mod metrics;
mod prometheus;

use crate::compaction::CompactionCounts;
use crate::view::{NodeView, ReplicaFacts};
use metrics::Query;
use pegasus_fbs::stats_page::Snapshot;
use pegasus_http::{Arguments, Method, Request, Response, Status, TextFormat, utc};
use pegasus_replication::ids::TableId;
use std::net::SocketAddr;

/// What an answer is made of.
#[derive(Clone, Debug)]
pub struct Subject {
    pub page: Snapshot,
    /// Its core, within the node.
    pub core: usize,
    /// The client port that is asked.
    pub address: SocketAddr,
    /// The cluster's number, in hexadecimal.
    pub cluster: String,
    pub state: CoreState,
}

/// How a core is, as it says itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoreState {
    /// It has heard from meta since its start, and is not stopping.
    pub is_ready: bool,
    /// Why it serves no more, if it does not.
    pub failure: Option<String>,
}

/// The version that tools print.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit it was built from, as far as the builder has said so.
const COMMIT: &str = match option_env!("PEGASUS_GIT_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// Paths and what they are for, as `/` lists them.
const PATHS: [(&str, &str); 8] = [
    ("/", "ip:port/"),
    ("/health", "ip:port/health"),
    (
        "/metrics",
        "ip:port/metrics?with_metric_fields=field1,field2&types=type1&ids=id1&attributes=attr1,value1&metrics=metric1&detail=true|false",
    ),
    (
        "/metrics/prometheus",
        "ip:port/metrics/prometheus?replicas=true|false",
    ),
    ("/ready", "ip:port/ready"),
    ("/recentStartTime", "ip:port/recentStartTime"),
    (
        "/replica/manual_compaction",
        "ip:port/replica/manual_compaction?app_id=id",
    ),
    ("/version", "ip:port/version"),
];

/// The answer to a request.
#[must_use]
pub fn answer(request: &Request, subject: &Subject, node: &mut NodeView) -> Response {
    match request.path.as_str() {
        "" => json(PATHS.iter().map(|(path, help)| (*path, (*help).to_owned()))),
        "version" => json([
            ("Version", VERSION.to_owned()),
            ("GitCommit", COMMIT.to_owned()),
        ]),
        "recentStartTime" => {
            let started_us = subject.page.identity().started_unix_us;
            let ms = started_us / 1_000 % 1_000;
            let text = format!("{}.{ms:03}", utc(started_us / 1_000_000));
            json([("RecentStartTime", text)])
        }
        "health" => health(&subject.state),
        "ready" => ready(&subject.state),
        "metrics" => metrics_answer(request, subject, node),
        "metrics/prometheus" => {
            let accepted = TextFormat::accepted(&request.accept);
            text(request, accepted.unwrap_or(TextFormat::Prometheus), node)
        }
        "replica/manual_compaction" => manual_compaction(request, node),
        path => Response::not_found(path),
    }
}

fn health(state: &CoreState) -> Response {
    match &state.failure {
        None => Response::text(Status::Ok, "ok\n"),
        Some(failure) => Response::text(Status::ServiceUnavailable, format!("{failure}\n")),
    }
}

fn ready(state: &CoreState) -> Response {
    match &state.failure {
        None if state.is_ready => Response::text(Status::Ok, "ready\n"),
        None => Response::text(
            Status::ServiceUnavailable,
            "not ready: this core has not heard from meta, or is stopping\n",
        ),
        Some(failure) => Response::text(Status::ServiceUnavailable, format!("{failure}\n")),
    }
}

fn metrics_answer(request: &Request, subject: &Subject, node: &mut NodeView) -> Response {
    if !matches!(request.method, Method::Get | Method::Head) {
        return refused("please use 'GET' method");
    }
    if let Some(format) = TextFormat::accepted(&request.accept) {
        return text(request, format, node);
    }
    let arguments = match request.arguments() {
        Ok(arguments) => arguments,
        Err(error) => return refused(&error.to_string()),
    };
    match Query::of(&arguments) {
        Ok(query) => {
            let replicas = replicas_of(subject, node);
            let body = metrics::json(subject, &replicas, &query);
            Response::json(Status::Ok, body.to_string())
        }
        Err(error) => refused(&error),
    }
}

/// Those of the core that is asked.
fn replicas_of(subject: &Subject, node: &NodeView) -> Vec<ReplicaFacts> {
    let directory = node.directory();
    let mut replicas = Vec::new();
    for stats in subject.page.partitions() {
        replicas.push(ReplicaFacts {
            table: crate::slow::name_in(&directory, stats.table),
            core: subject.core,
            stats: stats.clone(),
            size: node.size_of(subject.core, stats),
        });
    }
    replicas
}

/// Of the whole node.
fn text(request: &Request, format: TextFormat, node: &mut NodeView) -> Response {
    let with_replicas = match request.arguments() {
        Ok(arguments) => match flag(&arguments, "replicas") {
            Ok(flag) => flag,
            Err(error) => return refused(&error),
        },
        Err(error) => return refused(&error.to_string()),
    };
    prometheus::exposition(&node.facts(), format, with_replicas).response()
}

fn flag(arguments: &Arguments, name: &str) -> Result<bool, String> {
    if let Some((other, value)) = arguments.iter().find(|(other, _)| *other != name) {
        return Err(format!("unknown field {other}={value}"));
    }
    match arguments.get(name) {
        None | Some("false") => Ok(false),
        Some("" | "true") => Ok(true),
        Some(other) => Err(format!("{name} should be true or false, not '{other}'")),
    }
}

/// Of the node's replicas of a table, whichever core is asked.
fn manual_compaction(request: &Request, node: &NodeView) -> Response {
    let Ok(arguments) = request.arguments() else {
        return Response::text(Status::BadRequest, "arguments cannot be read");
    };
    let table = arguments.get("app_id").and_then(|it| it.parse().ok());
    let Some(table) = table else {
        return Response::text(Status::BadRequest, "app_id should be the number of a table");
    };
    let CompactionCounts {
        idle,
        queued,
        running,
        finished,
    } = node.compaction.counts(TableId(table));
    let status = serde_json::json!({
        "status": { "idle": idle, "running": running, "queuing": queued, "finished": finished }
    });
    Response::json(Status::Ok, status.to_string())
}

fn refused(message: &str) -> Response {
    let body = serde_json::json!({ "error_message": message });
    Response::json(Status::BadRequest, body.to_string())
}

/// An object of strings.
fn json<'a>(fields: impl IntoIterator<Item = (&'a str, String)>) -> Response {
    let object: serde_json::Map<String, serde_json::Value> = fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    Response::json(Status::Ok, serde_json::Value::Object(object).to_string())
}

#[cfg(test)]
pub(crate) mod tests;

//! What a core answers over HTTP on its client port: who it is, whether it serves, and its metrics.
//!
//! To tools of Apache Pegasus each core is a node, so a port speaks of its own core alone. Made on the thread of the
//! statistics relay, from the core's statistics page. Source: Apache Pegasus' replica server, and its paths.

pub mod metrics;
mod text;

use metrics::Query;
use pegasus_fbs::stats_page::Snapshot;
use pegasus_http::{Method, Request, Response, Status, utc};
use std::net::SocketAddr;

/// What an answer is made of.
#[derive(Clone, Debug)]
pub struct Subject {
    pub page: Snapshot,
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
const PATHS: [(&str, &str); 7] = [
    ("/", "ip:port/"),
    ("/health", "ip:port/health"),
    (
        "/metrics",
        "ip:port/metrics?with_metric_fields=field1,field2&types=type1&ids=id1&attributes=attr1,value1&metrics=metric1&detail=true|false",
    ),
    ("/metrics/prometheus", "ip:port/metrics/prometheus"),
    ("/ready", "ip:port/ready"),
    ("/recentStartTime", "ip:port/recentStartTime"),
    ("/version", "ip:port/version"),
];

/// The answer to a request.
#[must_use]
pub fn answer(request: &Request, subject: &Subject) -> Response {
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
        "metrics" => metrics_answer(request, subject),
        "metrics/prometheus" => {
            Response::new(Status::Ok, text::PROMETHEUS, text::prometheus(subject))
        }
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

fn metrics_answer(request: &Request, subject: &Subject) -> Response {
    if !matches!(request.method, Method::Get | Method::Head) {
        return refused("please use 'GET' method");
    }
    if request.accept.contains("application/openmetrics-text") {
        return Response::new(Status::Ok, text::OPEN_METRICS, text::open_metrics(subject));
    }
    if request.accept.contains("text/plain") && !request.accept.contains("application/json") {
        return Response::new(Status::Ok, text::PROMETHEUS, text::prometheus(subject));
    }
    let arguments = match request.arguments() {
        Ok(arguments) => arguments,
        Err(error) => return refused(&error.to_string()),
    };
    match Query::of(&arguments) {
        Ok(query) => Response::json(Status::Ok, metrics::json(subject, &query).to_string()),
        Err(error) => refused(&error),
    }
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

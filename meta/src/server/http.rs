//! HTTP at meta: what there is to see of the cluster, with the paths and the JSON of Apache Pegasus.
//!
//! Source: Apache Pegasus, `src/meta/meta_http_service.cpp`, `src/http`.

mod cluster;
mod json;
mod prometheus;
mod tables;

use super::Counters;
use super::facts::Place;
use crate::state::State;
use json::{Json, object};
use pegasus_http::{Arguments, Method, Request, Response, Status, TextFormat};

/// What has happened at this meta since its start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Past<'a> {
    pub(super) counters: &'a Counters,
    /// Unix seconds.
    pub(super) started_s: u64,
}

/// The answer of a meta that does not lead: about itself, or whom to ask.
pub(super) fn answer_following(
    place: &Place,
    leader: Option<&str>,
    past: Past<'_>,
    request: &Request,
) -> Response {
    let format = TextFormat::accepted(&request.accept);
    let exposition = |format| {
        prometheus::exposition(None, place, past.counters, past.started_s, format).response()
    };
    match (request.path.as_str(), format) {
        ("", _) => json(&help()),
        ("version", _) => json(&version()),
        ("health", _) => json(&object([("status", Json::text("ok"))])),
        ("metrics", Some(format)) => exposition(format),
        ("metrics/prometheus", _) => exposition(format.unwrap_or(TextFormat::Prometheus)),
        (path, _) => match leader {
            Some(leader) if request.query.is_empty() => {
                Response::redirect(format!("http://{leader}/{path}"))
            }
            Some(leader) => Response::redirect(format!("http://{leader}/{path}?{}", request.query)),
            None => Response::text(
                Status::ServiceUnavailable,
                "this meta does not lead, and knows nobody who does",
            ),
        },
    }
}

/// The answer to one request.
pub(super) fn answer(state: &State, place: &Place, past: Past<'_>, request: &Request) -> Response {
    if !matches!(request.method, Method::Get | Method::Head) {
        let message = "only GET is answered here";
        return Response::text(Status::MethodNotAllowed, message);
    }
    let arguments = match request.arguments() {
        Ok(arguments) => arguments,
        Err(error) => return Response::text(Status::BadRequest, error.to_string()),
    };
    match request.path.as_str() {
        "" => json(&help()),
        "version" => json(&version()),
        "health" | "ready" => json(&object([("status", Json::text("ok"))])),
        "meta/app" => tables::app(state, &arguments),
        "meta/apps" => tables::apps(state, &arguments),
        "meta/app_envs" => tables::envs(state, &arguments),
        "meta/nodes" => cluster::nodes(state, &arguments),
        "meta/cluster" => cluster::info(state, place),
        "envs/list" => json(&tables::known_envs()),
        "metrics" => match TextFormat::accepted(&request.accept) {
            Some(format) => prometheus(state, place, past, format),
            None => cluster::metrics(state, place, &arguments),
        },
        "metrics/prometheus" => {
            let accepted = TextFormat::accepted(&request.accept);
            let format = accepted.unwrap_or(TextFormat::Prometheus);
            prometheus(state, place, past, format)
        }
        other => Response::not_found(other),
    }
}

fn prometheus(state: &State, place: &Place, past: Past<'_>, format: TextFormat) -> Response {
    prometheus::exposition(Some(state), place, past.counters, past.started_s, format).response()
}

fn json(body: &Json) -> Response {
    Response::json(Status::Ok, body.to_string())
}

fn bad(message: impl Into<String>) -> Response {
    Response::text(Status::BadRequest, message.into())
}

fn version() -> Json {
    object([
        ("Version", Json::text(env!("CARGO_PKG_VERSION"))),
        ("GitCommit", Json::text("unknown")),
    ])
}

const PATHS: [(&str, &str); 11] = [
    ("/version", "version of this server"),
    ("/health", "ok as long as this server answers"),
    ("/ready", "ok once meta decides"),
    ("/meta/app", "one table: name=, detail"),
    ("/meta/apps", "all tables: detail"),
    ("/meta/app_envs", "settings of a table: name="),
    ("/meta/nodes", "all nodes, each core as one: detail"),
    ("/meta/cluster", "the cluster"),
    ("/envs/list", "settings that tables can have"),
    (
        "/metrics",
        "counts of tables and partitions: types=, ids=, metrics=, attributes=, with_metric_fields=, detail=",
    ),
    (
        "/metrics/prometheus",
        "all numbers of this server, as text for Prometheus",
    ),
];

fn help() -> Json {
    object(PATHS.map(|(path, about)| (path, Json::text(about))))
}

/// Whether an argument is given, with or without `true`.
///
/// # Errors
/// Its value is neither `true` nor `false`.
fn flag(arguments: &Arguments, name: &str) -> Result<bool, Response> {
    match arguments.get(name) {
        None | Some("false") => Ok(false),
        Some("" | "true") => Ok(true),
        Some(_) => Err(bad(format!("{name} is true or false"))),
    }
}

/// Every argument is one of these.
fn expect_only(arguments: &Arguments, known: &[&str]) -> Result<(), Response> {
    let other = arguments.iter().find(|(name, _)| !known.contains(name));
    other.map_or(Ok(()), |(name, _)| {
        let shown: String = name.chars().take(64).collect();
        Err(bad(format!("unknown argument {shown:?}")))
    })
}

//! Nodes, the cluster and counts, as `/meta/nodes`, `/meta/cluster` and `/metrics` show them.

use super::super::facts::{Place, cluster_info, core_nodes};
use super::json::{Json, object};
use super::{bad, expect_only, flag, json};
use crate::state::{PartitionHealth, State, Table};
use pegasus_http::{Arguments, Response};

/// Each core is a node.
pub(super) fn nodes(state: &State, arguments: &Arguments) -> Response {
    if let Err(response) = expect_only(arguments, &["detail"]) {
        return response;
    }
    let detail = match flag(arguments, "detail") {
        Ok(detail) => detail,
        Err(response) => return response,
    };
    let cores: Vec<_> = core_nodes(state).collect();
    let rows = cores.iter().map(|core| {
        let status = if core.alive { "ALIVE" } else { "UNALIVE" };
        let mut row = vec![
            ("address", Json::text(core.address)),
            ("status", Json::text(status)),
        ];
        if detail {
            let secondaries = core.replicas.saturating_sub(core.primaries);
            row.extend([
                ("replica_count", Json::shown(core.replicas)),
                ("primary_count", Json::shown(core.primaries)),
                ("secondary_count", Json::shown(secondaries)),
            ]);
        }
        (core.address, object(row))
    });
    let details = object(rows);
    let alive = cores.iter().filter(|core| core.alive).count();
    let summary = object([
        ("total_node_count", Json::shown(cores.len())),
        ("alive_node_count", Json::shown(alive)),
        ("unalive_node_count", Json::shown(cores.len() - alive)),
    ]);
    json(&object([("details", details), ("summary", summary)]))
}

pub(super) fn info(state: &State, place: &Place) -> Response {
    let pairs = cluster_info(state, place);
    json(&object(
        pairs
            .into_iter()
            .map(|(key, value)| (key, Json::Text(value))),
    ))
}

/// What is asked for of the metrics.
struct Filter<'a> {
    types: Vec<&'a str>,
    ids: Vec<&'a str>,
    attributes: Vec<(&'a str, &'a str)>,
    metrics: Vec<&'a str>,
    fields: Vec<&'a str>,
}

const FIELDS_SHORT: [&str; 2] = ["name", "value"];
const FIELDS_ALL: [&str; 5] = ["name", "type", "unit", "desc", "value"];

/// Tables and partitions, by how many do how.
pub(super) fn metrics(state: &State, place: &Place, arguments: &Arguments) -> Response {
    let filter = match Filter::of(arguments) {
        Ok(filter) => filter,
        Err(response) => return response,
    };
    let live = state.durable().tables().values();
    let entities: Vec<Json> = live
        .filter(|table| !table.is_dropped())
        .filter_map(|table| filter.entity(state, table))
        .collect();
    let timestamp_ns = state.now_ms().saturating_mul(1_000_000);
    json(&object([
        ("cluster", Json::text(&state.durable().cluster().name)),
        ("role", Json::text("meta")),
        ("host", Json::shown(place.address.ip())),
        ("port", Json::Number(place.address.port().into())),
        ("timestamp_ns", Json::Number(timestamp_ns)),
        ("entities", Json::List(entities)),
    ]))
}

impl<'a> Filter<'a> {
    fn of(arguments: &'a Arguments) -> Result<Self, Response> {
        let known = [
            "types",
            "ids",
            "attributes",
            "metrics",
            "with_metric_fields",
            "detail",
        ];
        expect_only(arguments, &known)?;
        let list = |name: &str| -> Vec<&'a str> {
            let text = arguments.get(name).unwrap_or_default();
            text.split(',').filter(|part| !part.is_empty()).collect()
        };
        let attributes = list("attributes");
        if attributes.len() % 2 != 0 {
            return Err(bad("attributes are names and values in turn"));
        }
        let fields = list("with_metric_fields");
        let detail = flag(arguments, "detail")?;
        Ok(Self {
            types: list("types"),
            ids: list("ids"),
            attributes: attributes
                .chunks(2)
                .map(|pair| (pair[0], pair[1]))
                .collect(),
            metrics: list("metrics"),
            fields: match (fields.is_empty(), detail) {
                (false, _) => fields,
                (true, true) => FIELDS_ALL.to_vec(),
                (true, false) => FIELDS_SHORT.to_vec(),
            },
        })
    }

    /// A table, unless it is not asked for.
    fn entity(&self, state: &State, table: &Table) -> Option<Json> {
        let id = format!("table@{}", table.id);
        let number = table.id.to_string();
        let fits = |wanted: &[&str], it: &str| wanted.is_empty() || wanted.contains(&it);
        let has_attribute =
            self.attributes.is_empty() || self.attributes.contains(&("table_id", number.as_str()));
        if !fits(&self.types, "table") || !fits(&self.ids, &id) || !has_attribute {
            return None;
        }
        let named = HEALTHS.iter().zip(counts(state, table));
        let named =
            named.map(|((health, about), count)| (format!("{health}_partitions"), about, count));
        let metrics: Vec<Json> = named
            .filter(|(name, ..)| fits(&self.metrics, name))
            .map(|(name, about, value)| self.metric(&name, about, value))
            .collect();
        if metrics.is_empty() {
            return None;
        }
        Some(object([
            ("type", Json::text("table")),
            ("id", Json::Text(id)),
            ("attributes", object([("table_id", Json::Text(number))])),
            ("metrics", Json::List(metrics)),
        ]))
    }

    fn metric(&self, name: &str, about: &str, value: u64) -> Json {
        let all = [
            ("name", Json::text(name)),
            ("type", Json::text("Gauge")),
            ("unit", Json::text("partitions")),
            ("desc", Json::text(about)),
            ("value", Json::Number(value)),
        ];
        object(
            all.into_iter()
                .filter(|(field, _)| self.fields.contains(field)),
        )
    }
}

/// How a partition can be, and what that means; the order is that of [`counts`].
pub(super) const HEALTHS: [(&str, &str); 5] = [
    ("dead", "partitions without a member"),
    ("unreadable", "partitions whose primary does not serve"),
    ("unwritable", "partitions with too few members for a write"),
    (
        "writable_ill",
        "partitions that serve with fewer members than wanted",
    ),
    ("healthy", "partitions with all their members"),
];

/// Partitions of a table, each counted once.
pub(super) fn counts(state: &State, table: &Table) -> [u64; HEALTHS.len()] {
    let wanted = usize::from(table.replica_count);
    let least = usize::from(table.min_replicas);
    let mut counts = [0; HEALTHS.len()];
    for (index, it) in table.indexed() {
        let health = state.partition_health(table, index, it);
        let serves = matches!(health, PartitionHealth::Healthy | PartitionHealth::Degraded);
        let place = match it.member_count() {
            0 => 0,
            _ if !serves => 1,
            members if members < least => 2,
            members if members < wanted => 3,
            _ => 4,
        };
        counts[place] += 1;
    }
    counts
}

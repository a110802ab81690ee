//! Tables, as `/meta/app`, `/meta/apps`, `/meta/app_envs` and `/envs/list` show them.

use super::super::apache::status;
use super::json::{Json, object};
use super::{expect_only, flag, json};
use crate::state::envs::KEYS;
use crate::state::{Partition, State, Table};
use pegasus_http::{Arguments, Response, Status, utc};
use pegasus_replication::config::{Member, Stage};
use pegasus_thrift::meta::AppStatus;
use std::collections::BTreeMap;

pub(super) fn app(state: &State, arguments: &Arguments) -> Response {
    let (table, detail) = match named(state, arguments, &["name", "detail"]) {
        Ok(table) => match flag(arguments, "detail") {
            Ok(detail) => (table, detail),
            Err(response) => return response,
        },
        Err(response) => return response,
    };
    let general = object([
        ("app_name", Json::text(&table.name)),
        ("app_id", Json::shown(table.id)),
        ("partition_count", Json::shown(table.partition_count)),
        ("max_replica_count", Json::shown(table.replica_count)),
    ]);
    let mut all = vec![("general", general)];
    if detail {
        all.push(("replicas", replicas(state, table)));
        all.push(("nodes", nodes(state, table)));
        all.push(("healthy_info", health(table).json()));
    }
    json(&object(all))
}

fn named<'a>(
    state: &'a State,
    arguments: &Arguments,
    known: &[&str],
) -> Result<&'a Table, Response> {
    expect_only(arguments, known)?;
    let Some(name) = arguments.get("name").filter(|name| !name.is_empty()) else {
        return Err(super::bad("name is to be given"));
    };
    state.durable().table_named(name).ok_or_else(|| {
        let shown: String = name.chars().take(256).collect();
        let message = format!("table not found: \"{shown}\"");
        Response::text(Status::NotFound, message)
    })
}

fn replicas(state: &State, table: &Table) -> Json {
    object(table.indexed().map(|(index, it)| {
        let secondaries: Vec<&str> = it.secondaries.iter().map(|it| address(state, it)).collect();
        let primary = it.primary.as_ref().map_or("-", |it| address(state, it));
        let count = format!("{}/{}", it.member_count(), table.replica_count);
        let row = object([
            ("pidx", Json::shown(index)),
            ("ballot", Json::shown(it.ballot.0)),
            ("replica_count", Json::Text(count)),
            ("primary", Json::text(primary)),
            (
                "secondaries",
                Json::Text(format!("[{}]", secondaries.join(","))),
            ),
        ]);
        (index.to_string(), row)
    }))
}

fn nodes(state: &State, table: &Table) -> Json {
    let mut counts: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for partition in &table.partitions {
        if let Some(member) = &partition.primary {
            counts.entry(address(state, member)).or_default().0 += 1;
        }
        for member in &partition.secondaries {
            counts.entry(address(state, member)).or_default().1 += 1;
        }
    }
    let row = |node: &str, primaries: u64, secondaries: u64| {
        object([
            ("node", Json::text(node)),
            ("primary", Json::shown(primaries)),
            ("secondary", Json::shown(secondaries)),
            ("total", Json::shown(primaries + secondaries)),
        ])
    };
    let (primaries, secondaries) = counts
        .values()
        .fold((0, 0), |(a, b), (primary, secondary)| {
            (a + primary, b + secondary)
        });
    let rows = counts
        .iter()
        .map(|(node, &(primary, secondary))| (*node, row(node, primary, secondary)));
    object(rows.chain([("total", row("total", primaries, secondaries))]))
}

fn address<'a>(state: &'a State, member: &Member) -> &'a str {
    let node = state.durable().nodes().get(&member.address.node);
    let core = node.and_then(|node| node.core(member.address.core));
    core.map_or("", |core| &core.client_address)
}

/// How many partitions have all their members, or enough of them.
struct Health {
    fully_healthy: usize,
    unhealthy: usize,
    write_unhealthy: usize,
    read_unhealthy: usize,
}

fn health(table: &Table) -> Health {
    let count =
        |holds: &dyn Fn(&Partition) -> bool| table.partitions.iter().filter(|it| holds(it)).count();
    let wanted = usize::from(table.replica_count);
    let least = usize::from(table.min_replicas);
    let is_served = |it: &Partition| it.stage == Stage::Active && it.primary.is_some();
    let is_full = |it: &Partition| is_served(it) && it.member_count() >= wanted;
    Health {
        fully_healthy: count(&is_full),
        unhealthy: count(&|it| !is_full(it)),
        write_unhealthy: count(&|it| !is_served(it) || it.member_count() < least),
        read_unhealthy: count(&|it| !is_served(it)),
    }
}

impl Health {
    fn json(&self) -> Json {
        object([
            (
                "fully_healthy_partition_count",
                Json::shown(self.fully_healthy),
            ),
            ("unhealthy_partition_count", Json::shown(self.unhealthy)),
            (
                "write_unhealthy_partition_count",
                Json::shown(self.write_unhealthy),
            ),
            (
                "read_unhealthy_partition_count",
                Json::shown(self.read_unhealthy),
            ),
        ])
    }
}

pub(super) fn apps(state: &State, arguments: &Arguments) -> Response {
    if let Err(response) = expect_only(arguments, &["detail"]) {
        return response;
    }
    let detail = match flag(arguments, "detail") {
        Ok(detail) => detail,
        Err(response) => return response,
    };
    let tables = || {
        let all = state.durable().tables().values();
        all.filter(|table| !table.is_condemned())
    };
    let general = tables().map(|table| (table.id.to_string(), general(state, table)));
    let mut all = vec![("general_info", object(general))];
    let mut summary = vec![("total_app_count", Json::shown(tables().count()))];
    if detail {
        let live = || tables().filter(|table| !table.is_dropped());
        all.push((
            "healthy_info",
            object(live().map(|table| (table.id.to_string(), healthy(table)))),
        ));
        let healths: Vec<Health> = live().map(health).collect();
        let count =
            |holds: fn(&Health) -> bool| Json::shown(healths.iter().filter(|it| holds(it)).count());
        summary.extend([
            ("fully_healthy_app_count", count(|it| it.unhealthy == 0)),
            ("unhealthy_app_count", count(|it| it.unhealthy > 0)),
            (
                "write_unhealthy_app_count",
                count(|it| it.write_unhealthy > 0),
            ),
            (
                "read_unhealthy_app_count",
                count(|it| it.read_unhealthy > 0),
            ),
        ]);
    }
    all.push(("summary", object(summary)));
    json(&object(all))
}

fn general(state: &State, table: &Table) -> Json {
    let time = |ms: Option<u64>| {
        let shown = ms.map(|ms| utc(ms / 1_000).replace(' ', "_"));
        Json::Text(shown.unwrap_or_else(|| "-".to_owned()))
    };
    object([
        ("app_id", Json::shown(table.id)),
        ("status", Json::text(status_name(status(state, table)))),
        ("app_name", Json::text(&table.name)),
        ("app_type", Json::text("pegasus")),
        ("partition_count", Json::shown(table.partition_count)),
        ("replica_count", Json::shown(table.replica_count)),
        ("is_stateful", Json::text("true")),
        ("create_time", time(Some(table.created_ms))),
        ("drop_time", time(table.dropped_ms)),
        ("drop_expire", time(table.kept_until_ms)),
        ("envs_count", Json::shown(table.envs.len())),
    ])
}

const fn status_name(status: AppStatus) -> &'static str {
    match status {
        AppStatus::Creating => "CREATING",
        AppStatus::Dropped => "DROPPED",
        _ => "AVAILABLE",
    }
}

fn healthy(table: &Table) -> Json {
    let it = health(table);
    object([
        ("app_id", Json::shown(table.id)),
        ("app_name", Json::text(&table.name)),
        ("partition_count", Json::shown(table.partition_count)),
        ("fully_healthy", Json::shown(it.fully_healthy)),
        ("unhealthy", Json::shown(it.unhealthy)),
        ("write_unhealthy", Json::shown(it.write_unhealthy)),
        ("read_unhealthy", Json::shown(it.read_unhealthy)),
    ])
}

pub(super) fn envs(state: &State, arguments: &Arguments) -> Response {
    match named(state, arguments, &["name"]) {
        Ok(table) => {
            let envs = table.envs.iter();
            json(&object(
                envs.map(|(key, value)| (key.as_str(), Json::text(value))),
            ))
        }
        Err(response) => response,
    }
}

/// Every setting that can be made, and what it may be.
pub(super) fn known_envs() -> Json {
    object(KEYS.iter().map(|key| {
        let about = object([
            ("type", Json::text(key.kind.type_name())),
            ("limitation", Json::text(key.limitation)),
            ("sample", Json::text(key.sample)),
        ]);
        (key.name, about)
    }))
}

//! The metrics of a core, as entities in the shape of Apache Pegasus' `/metrics`.
//!
//! | entity | what is in it |
//! |---|---|
//! | `server` | every counter and gauge of the core under its own name, and memory under Apache's names |
//! | `disk` | room of the disk that the node's directory is on |
//! | `replica` | what one replica of the core was asked for and takes, under Apache's names where they exist |
//! | `profiler` | latencies of an operation, under the name of its request |
//!
//! What Apache counts and this does not is left out: its tools take that for zero. Capacity units are worked out from requests
//! and bytes, each at least one unit of 4 KiB for a request: a lower bound.

use super::Subject;
use crate::allocator;
use crate::view::ReplicaFacts;
use pegasus_fbs::stats_page::{
    Counter, Gauge, Histogram, PartitionCounter, PartitionGauge, Timing,
};
use pegasus_http::Arguments;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Something that has metrics.
#[derive(Clone, Debug)]
pub struct Entity {
    pub kind: &'static str,
    pub id: String,
    pub attributes: Vec<(&'static str, String)>,
    pub metrics: Vec<Metric>,
}

/// One number, or how numbers are spread.
#[derive(Clone, Debug)]
pub struct Metric {
    pub name: &'static str,
    pub amount: Amount,
}

#[derive(Clone, Debug)]
pub enum Amount {
    Gauge(u64),
    Counter(u64),
    /// Nanoseconds at [`QUANTILES`].
    Percentile([u64; 5]),
}

/// Percentiles that are told, and their names.
pub const QUANTILES: [(f64, &str); 5] = [
    (0.5, "p50"),
    (0.9, "p90"),
    (0.95, "p95"),
    (0.99, "p99"),
    (0.999, "p999"),
];

/// What of it is asked for; nothing named = everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    types: Vec<String>,
    ids: Vec<String>,
    /// Names and values; an entity needs one of them.
    attributes: Vec<(String, String)>,
    metrics: Vec<String>,
    fields: Vec<String>,
    is_detailed: bool,
}

impl Query {
    /// # Errors
    /// A sentence about the argument that makes no sense.
    pub fn of(arguments: &Arguments) -> Result<Self, String> {
        let mut query = Self::default();
        for (name, value) in arguments.iter() {
            match name {
                "types" => query.types = list(value),
                "ids" => query.ids = list(value),
                "metrics" => query.metrics = list(value),
                "with_metric_fields" => query.fields = list(value),
                "attributes" => query.attributes = pairs(value)?,
                "detail" => {
                    query.is_detailed = value
                        .parse()
                        .map_err(|_| format!("detail should be true or false, not '{value}'"))?;
                }
                other => return Err(format!("unknown field {other}={value}")),
            }
        }
        Ok(query)
    }

    fn wants(&self, entity: &Entity) -> bool {
        let has_attribute = |(name, value): &(String, String)| {
            let mut own = entity.attributes.iter();
            own.any(|(key, text)| key == name && text == value)
        };
        is_in(&self.types, entity.kind)
            && is_in(&self.ids, &entity.id)
            && (self.attributes.is_empty() || self.attributes.iter().any(has_attribute))
    }

    fn wants_field(&self, field: &str) -> bool {
        if self.fields.is_empty() {
            self.is_detailed || !matches!(field, "type" | "unit" | "desc")
        } else {
            self.fields.iter().any(|wanted| wanted == field)
        }
    }
}

fn is_in(wanted: &[String], name: &str) -> bool {
    wanted.is_empty() || wanted.iter().any(|wanted| wanted == name)
}

fn list(value: &str) -> Vec<String> {
    let parts = value.split(',').map(str::trim);
    parts
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

fn pairs(value: &str) -> Result<Vec<(String, String)>, String> {
    let parts = list(value);
    let (pairs, rest) = parts.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("attributes should be names and values by turns".to_owned());
    }
    Ok(pairs
        .iter()
        .map(|[name, value]| (name.clone(), value.clone()))
        .collect())
}

/// The answer to a query.
#[must_use]
pub fn json(subject: &Subject, replicas: &[ReplicaFacts], query: &Query) -> Value {
    let mut entities = entities(subject);
    entities.extend(replicas.iter().map(replica));
    let wanted = entities.iter().filter(|entity| query.wants(entity));
    let wanted = wanted.filter_map(|entity| entity_json(entity, query));
    json!({
        "cluster": subject.cluster,
        "role": "replica",
        "host": subject.address.ip().to_string(),
        "port": subject.address.port(),
        "timestamp_ns": subject.page.published_unix_us().saturating_mul(1_000),
        "entities": wanted.collect::<Vec<_>>(),
    })
}

fn entity_json(entity: &Entity, query: &Query) -> Option<Value> {
    let wanted = entity.metrics.iter();
    let wanted = wanted.filter(|metric| is_in(&query.metrics, metric.name));
    let metrics: Vec<_> = wanted.map(|metric| metric_json(metric, query)).collect();
    if metrics.is_empty() {
        return None;
    }
    let attributes = entity.attributes.iter();
    let attributes: Map<_, _> = attributes
        .map(|(name, value)| ((*name).to_owned(), value.as_str().into()))
        .collect();
    Some(json!({
        "type": entity.kind,
        "id": entity.id,
        "attributes": attributes,
        "metrics": metrics,
    }))
}

fn metric_json(metric: &Metric, query: &Query) -> Value {
    let mut fields = vec![
        ("name", metric.name.into()),
        ("type", metric.amount.kind().into()),
        ("unit", metric.unit().into()),
        ("desc", metric.name.replace('_', " ").into()),
    ];
    match &metric.amount {
        Amount::Gauge(value) | Amount::Counter(value) => fields.push(("value", (*value).into())),
        Amount::Percentile(values) => {
            let named = QUANTILES.iter().zip(values);
            fields.extend(named.map(|((_, name), value)| (*name, (*value).into())));
        }
    }
    let wanted = fields
        .into_iter()
        .filter(|(field, _)| query.wants_field(field));
    Value::Object(
        wanted
            .map(|(field, value)| (field.to_owned(), value))
            .collect(),
    )
}

impl Amount {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Gauge(_) => "Gauge",
            Self::Counter(_) => "Counter",
            Self::Percentile(_) => "Percentile",
        }
    }
}

impl Metric {
    fn unit(&self) -> &'static str {
        let name = self.name;
        if name.ends_with("_ns") {
            "NanoSeconds"
        } else if name.ends_with("_mb") {
            "MegaBytes"
        } else if name.contains("bytes") {
            "Bytes"
        } else if name.starts_with("request_") || name.starts_with("answer_") {
            "Requests"
        } else {
            "Count"
        }
    }
}

/// All that is counted and timed of a core.
#[must_use]
pub fn entities(subject: &Subject) -> Vec<Entity> {
    let page = &subject.page;
    let counters = Counter::ALL.iter();
    let counters = counters.map(|it| Metric {
        name: it.name(),
        amount: Amount::Counter(page.counter(*it)),
    });
    let gauges = Gauge::ALL.iter();
    let gauges = gauges.map(|it| gauge(it.name(), page.gauge(*it)));
    let server = Entity {
        kind: "server",
        id: "server".to_owned(),
        attributes: Vec::new(),
        metrics: counters
            .chain(gauges)
            .chain(memory(subject))
            .chain(of_apache(subject))
            .collect(),
    };
    let disk = Entity {
        kind: "disk",
        id: "disk@data".to_owned(),
        attributes: vec![("tag", "data".to_owned())],
        metrics: vec![
            gauge(
                "disk_capacity_total_mb",
                page.gauge(Gauge::DiskTotalBytes) >> 20,
            ),
            gauge(
                "disk_capacity_avail_mb",
                page.gauge(Gauge::DiskFreeBytes) >> 20,
            ),
        ],
    };
    let mut entities = vec![server, disk];
    for timing in Timing::operations() {
        if let Some(task) = task_name(*timing) {
            entities.push(profiler(task, page.histogram(*timing)));
        }
    }
    entities
}

/// Bytes of a capacity unit.
const UNIT_BYTES: u64 = 4096;

fn replica(it: &ReplicaFacts) -> Entity {
    let (stats, size) = (&it.stats, &it.size);
    let counted = |name, from| Metric {
        name,
        amount: Amount::Counter(stats.counter(from)),
    };
    let units = |name, requests: u64, bytes: u64| Metric {
        name,
        amount: Amount::Counter(requests.max(bytes.div_ceil(UNIT_BYTES))),
    };
    let (read, written) = (PartitionCounter::BytesRead, PartitionCounter::BytesWritten);
    let metrics = vec![
        counted("get_requests", PartitionCounter::Get),
        counted("multi_get_requests", PartitionCounter::MultiGet),
        counted("batch_get_requests", PartitionCounter::BatchGet),
        counted("put_requests", PartitionCounter::Put),
        counted("multi_put_requests", PartitionCounter::MultiPut),
        counted("remove_requests", PartitionCounter::Remove),
        counted("multi_remove_requests", PartitionCounter::MultiRemove),
        counted("incr_requests", PartitionCounter::Incr),
        counted("check_and_set_requests", PartitionCounter::CheckAndSet),
        counted(
            "check_and_mutate_requests",
            PartitionCounter::CheckAndMutate,
        ),
        counted("scan_requests", PartitionCounter::Scan),
        counted("exist_requests", PartitionCounter::Exist),
        counted("ttl_requests", PartitionCounter::Ttl),
        counted("sort_key_count_requests", PartitionCounter::SortKeyCount),
        counted("failed_requests", PartitionCounter::Failures),
        counted("busy_requests", PartitionCounter::Busy),
        counted("throttled_requests", PartitionCounter::Throttled),
        counted("rows_read", PartitionCounter::RowsRead),
        counted("rows_written", PartitionCounter::RowsWritten),
        counted("read_bytes", read),
        counted("written_bytes", written),
        counted("committed_requests", PartitionCounter::Applied),
        counted("committed_bytes", PartitionCounter::AppliedBytes),
        units("read_capacity_units", stats.reads(), stats.counter(read)),
        units(
            "write_capacity_units",
            stats.writes(),
            stats.counter(written),
        ),
        gauge("role", stats.gauge(PartitionGauge::Role)),
        gauge("members", stats.gauge(PartitionGauge::Members)),
        gauge("ballot", stats.gauge(PartitionGauge::Ballot)),
        gauge("committed_decree", stats.gauge(PartitionGauge::Committed)),
        gauge(
            "prepares_inflight",
            stats.gauge(PartitionGauge::PreparesInflight),
        ),
        gauge(
            "unflushed_bytes",
            stats.gauge(PartitionGauge::UnflushedBytes),
        ),
        gauge("rdb_estimated_keys", size.rows),
        gauge("rdb_total_sst_size_mb", size.file_bytes >> 20),
        gauge("rdb_total_sst_size_bytes", size.file_bytes),
        gauge("rdb_total_sst_files", size.files),
        gauge("rdb_memtable_mem_usage_bytes", size.memtable_bytes),
        gauge(
            "rdb_index_and_filter_blocks_mem_usage_bytes",
            size.table_reader_bytes,
        ),
    ];
    Entity {
        kind: "replica",
        id: format!("replica@{}.{}", stats.table, stats.partition),
        attributes: vec![
            ("table_id", stats.table.to_string()),
            ("partition_id", stats.partition.to_string()),
        ],
        metrics,
    }
}

/// What Apache's servers count under other names.
fn of_apache(subject: &Subject) -> Vec<Metric> {
    let page = &subject.page;
    let named = [
        ("total_replicas", Gauge::Replicas),
        ("primary_replicas", Gauge::Primaries),
        ("secondary_replicas", Gauge::Secondaries),
        ("learning_replicas", Gauge::Learners),
        ("error_replicas", Gauge::ReplicasOutOfService),
        ("network_server_sessions", Gauge::Connections),
    ];
    let named = named.map(|(name, from)| gauge(name, page.gauge(from)));
    named.into_iter().collect()
}

/// Memory under the names that Apache's tools add up. What a process has is told by each of its cores.
fn memory(subject: &Subject) -> Vec<Metric> {
    let page = &subject.page;
    let memtables = page.gauge(Gauge::MemtableBytes);
    let (virtual_mb, resident_mb) = process_memory_mb();
    let heap = allocator::heap_use().unwrap_or_default();
    vec![
        gauge("virtual_mem_usage_mb", virtual_mb),
        gauge("resident_mem_usage_mb", resident_mb),
        gauge("heap_allocated_bytes", heap.allocated_bytes),
        gauge("heap_resident_bytes", heap.resident_bytes),
        gauge(
            "rdb_block_cache_mem_usage_bytes",
            page.gauge(Gauge::BlockCacheBytes),
        ),
        gauge("rdb_wbm_total_mem_usage_bytes", memtables),
        gauge("rdb_wbm_mutable_mem_usage_bytes", memtables),
    ]
}

const fn gauge(name: &'static str, value: u64) -> Metric {
    Metric {
        name,
        amount: Amount::Gauge(value),
    }
}

fn profiler(task: &str, histogram: &Histogram) -> Entity {
    let at = |quantile| histogram.quantile(quantile).map_or(0, nanos);
    let latency = Metric {
        name: "profiler_server_rpc_latency_ns",
        amount: Amount::Percentile(QUANTILES.map(|(quantile, _)| at(quantile))),
    };
    Entity {
        kind: "profiler",
        id: format!("profiler@{task}"),
        attributes: vec![("task_name", task.to_owned())],
        metrics: vec![latency],
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The request of Apache Pegasus that an operation is.
const fn task_name(timing: Timing) -> Option<&'static str> {
    Some(match timing {
        Timing::Get => "RPC_RRDB_RRDB_GET",
        Timing::Put => "RPC_RRDB_RRDB_PUT",
        Timing::Remove => "RPC_RRDB_RRDB_REMOVE",
        Timing::Ttl => "RPC_RRDB_RRDB_TTL",
        Timing::MultiPut => "RPC_RRDB_RRDB_MULTI_PUT",
        Timing::MultiGet => "RPC_RRDB_RRDB_MULTI_GET",
        Timing::MultiRemove => "RPC_RRDB_RRDB_MULTI_REMOVE",
        Timing::Incr => "RPC_RRDB_RRDB_INCR",
        Timing::CheckAndSet => "RPC_RRDB_RRDB_CHECK_AND_SET",
        Timing::CheckAndMutate => "RPC_RRDB_RRDB_CHECK_AND_MUTATE",
        Timing::BatchGet => "RPC_RRDB_RRDB_BATCH_GET",
        Timing::SortKeyCount => "RPC_RRDB_RRDB_SORTKEY_COUNT",
        Timing::Scan => "RPC_RRDB_RRDB_SCAN",
        _ => return None,
    })
}

/// Virtual and resident memory of the process, in MiB; zeros if `/proc` does not say.
#[must_use]
pub fn process_memory_mb() -> (u64, u64) {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let page_bytes = rustix::param::page_size() as u64;
    let mut pages = pages
        .split_ascii_whitespace()
        .map(|pages| pages.parse().unwrap_or(0));
    let mut next_mb = || pages.next().unwrap_or(0_u64).saturating_mul(page_bytes) >> 20;
    (next_mb(), next_mb())
}

//! The metrics of a whole node for Prometheus and for what reads OpenMetrics: all cores at once, whichever of them is asked.
//!
//! Labels have few values: node, core, table, and names from lists in the code. Replicas are told one by one only when that
//! is asked for. `docs/metrics.md` is made from what is written here, by a test.

use super::{COMMIT, VERSION};
use crate::view::{NodeFacts, ROLES, ReplicaFacts, TableFacts};
use pegasus_fbs::stats_page::{
    Class, Counter, Gauge, Histogram, Identity, PartitionGauge, Stage, Timing,
};
use pegasus_host::process::TICKS_PER_SECOND;
use pegasus_http::{Exposition, Family, FamilyKind, Label, TextFormat};
use std::time::Duration;

use FamilyKind::{Counter as Growing, Gauge as Standing, Histogram as Spread};

/// Bounds of the buckets of durations.
const BOUNDS: [Duration; 16] = [
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(200),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

const fn family<'a>(name: &'a str, kind: FamilyKind, help: &'a str) -> Family<'a> {
    Family { name, kind, help }
}

/// Counters that are one family: what their names begin with, and the label that has the rest.
const GROUPS: [(&str, Family<'_>, &str); 3] = [
    (
        "request_",
        family(
            "pegasus_requests",
            Growing,
            "Requests taken from clients; redis: commands, whose parts count as what they do.",
        ),
        "operation",
    ),
    (
        "answer_",
        family("pegasus_answers", Growing, "Answers given, by code."),
        "code",
    ),
    (
        "reject_",
        family(
            "pegasus_busy",
            Growing,
            "Requests answered with busy, by the bound that was reached.",
        ),
        "reason",
    ),
];

/// Throttled requests and nanoseconds of the core are families too, with names of another form.
const THROTTLED: [(Counter, &str, &str); 4] = [
    (Counter::ThrottleDelayedReads, "read", "delayed"),
    (Counter::ThrottleRejectedReads, "read", "rejected"),
    (Counter::ThrottleDelayedWrites, "write", "delayed"),
    (Counter::ThrottleRejectedWrites, "write", "rejected"),
];
const TIME_SUFFIX: &str = "_time_ns";

/// What else is counted and measured, for people. A test finds those that are missing.
const HELP: [(&str, &str); 63] = [
    ("rows_read", "Rows returned to clients."),
    ("rows_written", "Rows put or removed by answered writes."),
    ("bytes_read", "Bytes of rows returned to clients."),
    ("bytes_written", "Bytes of answered writes, as logged."),
    ("log_writes", "Writes of a batch to the log file."),
    ("log_flushes", "Flushes of the log file."),
    ("log_bytes", "Bytes written to the log."),
    (
        "log_segments_prepared",
        "Log segments made ready ahead of their use.",
    ),
    (
        "log_segments_freed",
        "Log segments whose records are all in table files.",
    ),
    (
        "mutations_applied",
        "Committed mutations put into the engine.",
    ),
    ("prepares_sent", "Prepares sent to secondaries."),
    ("prepares_received", "Prepares taken from primaries."),
    (
        "prepares_rejected",
        "Prepares refused: an old ballot, or a gap.",
    ),
    ("beacons_sent", "Beacons sent to members."),
    ("beacons_received", "Beacons taken from primaries."),
    (
        "reads_from_memory",
        "Reads answered on the core, from memtables and cache.",
    ),
    (
        "reads_from_disk",
        "Reads that left the core, because a block was not in the cache.",
    ),
    (
        "row_cache_hits",
        "Point reads answered by the cache of rows.",
    ),
    (
        "row_cache_misses",
        "Point reads that the cache of rows knew nothing of.",
    ),
    ("engine_flushes", "Memtables written to files."),
    ("engine_compactions", "Compactions done."),
    (
        "engine_refusals",
        "Write batches that the engine refused for the moment.",
    ),
    ("connections_accepted", "Connections accepted."),
    ("connections_closed", "Connections closed."),
    (
        "connections_garbage",
        "Connections closed for bytes that are no protocol.",
    ),
    (
        "net_bytes_received",
        "Bytes received on client and peer connections.",
    ),
    (
        "net_bytes_sent",
        "Bytes sent on client and peer connections.",
    ),
    (
        "peer_bytes_received",
        "Bytes received from cores of other nodes.",
    ),
    ("peer_bytes_sent", "Bytes sent to cores of other nodes."),
    (
        "peer_links_lost",
        "Links to cores of other nodes that broke.",
    ),
    (
        "mesh_forwarded",
        "Requests handed over to another core of the node.",
    ),
    (
        "stalls",
        "Times the core had not returned to its loop in time.",
    ),
    ("sleeps", "Times the core slept in the kernel."),
    (
        "learn_entries",
        "Mutations that learners here took from another log.",
    ),
    ("learn_checkpoints", "Checkpoints that learners here took."),
    ("replicas", "Replicas on the core."),
    ("primaries", "Replicas that are primary."),
    ("secondaries", "Replicas that are secondary."),
    (
        "replicas_out_of_service",
        "Replicas that cannot serve: damaged, or missing.",
    ),
    ("learners", "Replicas that are catching up."),
    ("connections", "Open connections of clients."),
    ("peer_links", "Links to cores of other nodes that are up."),
    ("requests_inflight", "Requests taken and not answered."),
    ("requests_inflight_max", "Bound of the requests in work."),
    (
        "prepares_inflight",
        "Prepared mutations that are not committed.",
    ),
    (
        "apply_queue",
        "Committed mutations that the engine has not applied.",
    ),
    ("read_queue", "Reads that wait for the disk."),
    (
        "engine_queue",
        "Slow engine calls that wait for their pool.",
    ),
    (
        "log_pending_bytes",
        "Bytes appended to the log and not durable.",
    ),
    (
        "log_pending_bytes_max",
        "Bound of the bytes that are not durable.",
    ),
    ("log_used_bytes", "Bytes of the log in use."),
    ("log_used_bytes_max", "Budget of the log."),
    ("memtable_bytes", "Bytes in memtables."),
    ("memtable_bytes_max", "Budget of memtables."),
    ("block_cache_bytes", "Bytes in the cache of blocks."),
    ("row_cache_bytes", "Bytes in the cache of rows."),
    ("row_cache_bytes_max", "Budget of the cache of rows."),
    (
        "cache_bytes_max",
        "Budget of the caches of blocks and rows together.",
    ),
    (
        "net_buffer_bytes",
        "Bytes of answers that clients have not read.",
    ),
    (
        "net_buffer_bytes_max",
        "Bound of the bytes that clients have not read.",
    ),
    ("request_bytes", "Bytes of the requests in work."),
    (
        "request_bytes_max",
        "Bound of the bytes of the requests in work.",
    ),
    (
        "writes_refused",
        "0: writes are taken; 1: refused while the engine is behind; 2: refused, the disk is full.",
    ),
];
const MORE_HELP: [(&str, &str); 4] = [
    (
        "disk_full",
        "1 while writes are refused for lack of disk space.",
    ),
    (
        "level0_files",
        "Files in level 0 of the replica that has most of them.",
    ),
    (
        "immutable_memtables",
        "Memtables that wait for their flush, of the replica that has most.",
    ),
    (
        "partitions_untold",
        "Replicas that have no counters of their own.",
    ),
];

/// Nothing better is known of a number that is new.
const NO_HELP: &str = "See the statistics page.";

/// The text. `with_replicas`: one by one.
pub(super) fn exposition(facts: &NodeFacts, format: TextFormat, with_replicas: bool) -> Exposition {
    let mut out = Exposition::new(format);
    let node = facts.cores.first().map_or(0, |page| page.identity().node);
    of_process(&mut out, facts, node);
    of_node(&mut out, facts, node);
    counters(&mut out, facts);
    gauges(&mut out, facts);
    durations(&mut out, facts);
    tables(&mut out, facts, node);
    if with_replicas {
        replicas(&mut out, facts, node);
    }
    out
}

fn of_process(out: &mut Exposition, facts: &NodeFacts, node: u32) {
    let help = "1, with the version in its labels.";
    let labels: [Label<'_>; 4] = [
        ("node", &node),
        ("role", &"replica"),
        ("version", &VERSION),
        ("commit", &COMMIT),
    ];
    out.family(family("pegasus_build_info", Standing, help))
        .sample(&labels, 1);
    let process = &facts.process;
    let started = facts
        .cores
        .first()
        .map_or(0, |page| page.identity().started_unix_us);
    let numbers: [(&str, &'static str, f64); 6] = [
        (
            "process_start_time_seconds",
            "Start of the process, Unix seconds.",
            seconds_of_us(started),
        ),
        (
            "process_virtual_memory_bytes",
            "Virtual memory of the process.",
            float(process.virtual_bytes),
        ),
        (
            "process_resident_memory_bytes",
            "Resident memory of the process.",
            float(process.resident_bytes),
        ),
        (
            "process_open_fds",
            "Files and sockets that the process has open.",
            float(process.open_files),
        ),
        (
            "process_max_fds",
            "How many it may have open; 0 = any number.",
            float(process.open_files_max),
        ),
        (
            "process_threads",
            "Threads of the process.",
            float(process.threads),
        ),
    ];
    for (name, help, value) in numbers {
        out.family(family(name, Standing, help))
            .sample(&[("node", &node)], value);
    }
    let help = "CPU time that the process has used.";
    out.family(family("process_cpu_seconds", Growing, help))
        .sample(
            &[("node", &node)],
            float(process.cpu_ticks) / float(TICKS_PER_SECOND),
        );
}

fn of_node(out: &mut Exposition, facts: &NodeFacts, node: u32) {
    let disk = |gauge| facts.cores.first().map_or(0, |page| page.gauge(gauge));
    let (done, total) = facts.compaction.running.unwrap_or_default();
    let scrubbed = facts.scrub_finished_unix_s;
    let numbers: [(&str, &'static str, u64); 8] = [
        (
            "pegasus_heap_allocated_bytes",
            "Bytes of the heap in use.",
            facts.heap.allocated_bytes,
        ),
        (
            "pegasus_heap_resident_bytes",
            "Bytes that the allocator holds.",
            facts.heap.resident_bytes,
        ),
        (
            "pegasus_disk_size_bytes",
            "Size of the disk that the data directory is on.",
            disk(Gauge::DiskTotalBytes),
        ),
        (
            "pegasus_disk_free_bytes",
            "Room on that disk.",
            disk(Gauge::DiskFreeBytes),
        ),
        (
            "pegasus_manual_compaction_replicas",
            "Replicas of the manual compaction under way.",
            total,
        ),
        (
            "pegasus_manual_compaction_replicas_done",
            "Those that are done.",
            done,
        ),
        (
            "pegasus_scrub_findings",
            "Damage that the last scrubbing has found.",
            facts.scrub_findings,
        ),
        (
            "pegasus_scrub_end_time_seconds",
            "End of the last scrubbing, Unix seconds; 0 = none yet.",
            scrubbed,
        ),
    ];
    for (name, help, value) in numbers {
        out.family(family(name, Standing, help))
            .sample(&[("node", &node)], value);
    }
    let help =
        "When the core last published its numbers, Unix seconds: it lives as long as this goes on.";
    let mut published = out.family(family(
        "pegasus_core_published_time_seconds",
        Standing,
        help,
    ));
    for page in &facts.cores {
        let id = page.identity();
        published.sample(&core_labels(&id), seconds_of_us(page.published_unix_us()));
    }
}

fn counters(out: &mut Exposition, facts: &NodeFacts) {
    for (prefix, family, label) in GROUPS {
        let mut samples = out.family(family);
        for page in &facts.cores {
            let id = page.identity();
            for counter in Counter::ALL {
                if let Some(rest) = counter.name().strip_prefix(prefix) {
                    let labels = with(&core_labels(&id), &[(label, &rest)]);
                    samples.sample(&labels, page.counter(*counter));
                }
            }
        }
    }
    let help = "Requests that a throttle of their table delayed or rejected.";
    let mut samples = out.family(family("pegasus_throttled", Growing, help));
    for page in &facts.cores {
        let id = page.identity();
        for (counter, class, action) in &THROTTLED {
            let labels = with(&core_labels(&id), &[("class", class), ("action", action)]);
            samples.sample(&labels, page.counter(*counter));
        }
    }
    let help = "What the core's time went to.";
    let mut samples = out.family(family("pegasus_core_time_seconds", Growing, help));
    for page in &facts.cores {
        let id = page.identity();
        for counter in Counter::ALL {
            if let Some(work) = counter.name().strip_suffix(TIME_SUFFIX) {
                let labels = with(&core_labels(&id), &[("work", &work)]);
                samples.sample(&labels, float(page.counter(*counter)) / 1e9);
            }
        }
    }
    for counter in Counter::ALL.iter().filter(|it| stands_alone(it.name())) {
        let name = format!("pegasus_{}", counter.name());
        let mut samples = out.family(family(&name, Growing, help_of(counter.name())));
        for page in &facts.cores {
            let id = page.identity();
            samples.sample(&core_labels(&id), page.counter(*counter));
        }
    }
}

fn stands_alone(counter: &str) -> bool {
    let is_grouped = GROUPS
        .iter()
        .any(|(prefix, ..)| counter.starts_with(prefix));
    !is_grouped && !counter.starts_with("throttle_") && !counter.ends_with(TIME_SUFFIX)
}

fn help_of(name: &str) -> &'static str {
    let mut known = HELP.iter().chain(&MORE_HELP);
    let found = known.find(|(known, _)| *known == name);
    found.map_or(NO_HELP, |(_, help)| help)
}

fn gauges(out: &mut Exposition, facts: &NodeFacts) {
    // Those are the node's.
    let is_of_core =
        |gauge: &&Gauge| !matches!(gauge, Gauge::DiskTotalBytes | Gauge::DiskFreeBytes);
    for gauge in Gauge::ALL.iter().filter(is_of_core) {
        let name = format!("pegasus_{}", gauge.name());
        let mut samples = out.family(family(&name, Standing, help_of(gauge.name())));
        for page in &facts.cores {
            let id = page.identity();
            samples.sample(&core_labels(&id), page.gauge(*gauge));
        }
    }
}

/// Only what has happened at least once: most cores never see most operations.
fn durations(out: &mut Exposition, facts: &NodeFacts) {
    let help = "From a request's last byte to its answer in the kernel's hands.";
    spread(
        out,
        facts,
        "pegasus_operation_duration_seconds",
        help,
        Timing::operations(),
        |it| vec![("operation", it.name())],
    );
    let help = "The stages of requests, which add up to their operation.";
    spread(
        out,
        facts,
        "pegasus_stage_duration_seconds",
        help,
        Timing::stages(),
        |it| {
            let (class, stage) = stage_of(it);
            vec![("class", class.name()), ("stage", stage.name())]
        },
    );
    let help = "Work of the core that belongs to no one request.";
    spread(
        out,
        facts,
        "pegasus_work_duration_seconds",
        help,
        Timing::of_core(),
        |it| vec![("work", it.name())],
    );
}

fn spread(
    out: &mut Exposition,
    facts: &NodeFacts,
    name: &str,
    help: &'static str,
    timings: &[Timing],
    labels_of: impl Fn(Timing) -> Vec<(&'static str, &'static str)>,
) {
    let mut samples = out.family(family(name, Spread, help));
    for page in &facts.cores {
        let id = page.identity();
        for timing in timings {
            let histogram = page.histogram(*timing);
            if histogram.count() == 0 {
                continue;
            }
            let own = labels_of(*timing);
            let own: Vec<Label<'_>> = own
                .iter()
                .map(|(label, value)| (*label, value as _))
                .collect();
            let labels = with(&core_labels(&id), &own);
            let (sum, count) = (histogram.sum().as_secs_f64(), histogram.count());
            samples.histogram(&labels, buckets(histogram), sum, count);
        }
    }
}

fn buckets(histogram: &Histogram) -> impl Iterator<Item = (f64, u64)> {
    let within = histogram.within(&BOUNDS);
    BOUNDS.iter().map(Duration::as_secs_f64).zip(within)
}

/// Of a histogram of [`Timing::stages`].
fn stage_of(timing: Timing) -> (Class, Stage) {
    let of_class = |class: Class| {
        let mut stages = class.stages();
        let found = stages.find(|(_, it)| *it == timing);
        found.map(|(stage, _)| (class, stage))
    };
    let found = Class::ALL.into_iter().find_map(of_class);
    found.unwrap_or((Class::Read, Stage::Decode))
}

/// What is counted of a table.
type OfTable = (&'static str, &'static str, fn(&TableFacts) -> u64);

const TABLE_COUNTERS: [OfTable; 7] = [
    (
        "pegasus_table_failures",
        "Requests of clients to the table that failed.",
        |it| it.traffic.failures,
    ),
    (
        "pegasus_table_busy",
        "Those that were told to come back.",
        |it| it.traffic.busy,
    ),
    (
        "pegasus_table_throttled",
        "Requests that its throttles delayed or rejected.",
        |it| it.traffic.throttled,
    ),
    (
        "pegasus_table_rows_read",
        "Rows of the table returned.",
        |it| it.traffic.rows_read,
    ),
    (
        "pegasus_table_rows_written",
        "Rows of the table put or removed.",
        |it| it.traffic.rows_written,
    ),
    (
        "pegasus_table_bytes_read",
        "Bytes of its rows returned.",
        |it| it.traffic.bytes_read,
    ),
    (
        "pegasus_table_bytes_written",
        "Bytes of its rows written, as logged.",
        |it| it.traffic.bytes_written,
    ),
];

const TABLE_GAUGES: [OfTable; 5] = [
    (
        "pegasus_table_rows_estimated",
        "Rows in its replicas here, about: expired ones and those written twice count.",
        |it| it.size.rows,
    ),
    (
        "pegasus_table_file_bytes",
        "Bytes of table files of its replicas here.",
        |it| it.size.file_bytes,
    ),
    (
        "pegasus_table_files",
        "Table files of its replicas here.",
        |it| it.size.files,
    ),
    (
        "pegasus_table_memtable_bytes",
        "Bytes of memtables of its replicas here.",
        |it| it.size.memtable_bytes,
    ),
    (
        "pegasus_table_reader_bytes",
        "Filters and indexes of its files that are outside of the cache.",
        |it| it.size.table_reader_bytes,
    ),
];

fn tables(out: &mut Exposition, facts: &NodeFacts, node: u32) {
    let help = "Requests of clients to the table.";
    let mut samples = out.family(family("pegasus_table_requests", Growing, help));
    for table in &facts.tables {
        for (class, count) in [
            ("read", table.traffic.reads),
            ("write", table.traffic.writes),
        ] {
            let labels: [Label<'_>; 3] =
                [("node", &node), ("table", &table.name), ("class", &class)];
            samples.sample(&labels, count);
        }
    }
    for (families, kind) in [
        (&TABLE_COUNTERS[..], Growing),
        (&TABLE_GAUGES[..], Standing),
    ] {
        for (name, help, value) in families {
            let mut samples = out.family(family(name, kind, help));
            for table in &facts.tables {
                samples.sample(&[("node", &node), ("table", &table.name)], value(table));
            }
        }
    }
    let help = "Replicas of the table on this node, by what they are.";
    let mut samples = out.family(family("pegasus_table_replicas", Standing, help));
    for table in &facts.tables {
        for (role, count) in ROLES.iter().zip(table.roles) {
            let labels: [Label<'_>; 3] = [
                ("node", &node),
                ("table", &table.name),
                ("role", &role.name()),
            ];
            samples.sample(&labels, count);
        }
    }
}

/// What is told of a replica.
type OfReplica = (
    &'static str,
    FamilyKind,
    &'static str,
    fn(&ReplicaFacts) -> u64,
);

const REPLICAS: [OfReplica; 8] = [
    (
        "pegasus_replica_reads",
        Growing,
        "Reads of clients.",
        |it| it.stats.reads(),
    ),
    (
        "pegasus_replica_writes",
        Growing,
        "Writes of clients.",
        |it| it.stats.writes(),
    ),
    (
        "pegasus_replica_role",
        Standing,
        "0 none, 1 primary, 2 secondary, 3 learner, 4 out of service.",
        |it| it.stats.gauge(PartitionGauge::Role),
    ),
    (
        "pegasus_replica_ballot",
        Standing,
        "Ballot of its configuration.",
        |it| it.stats.gauge(PartitionGauge::Ballot),
    ),
    (
        "pegasus_replica_committed_decree",
        Standing,
        "Highest decree that is committed.",
        |it| it.stats.gauge(PartitionGauge::Committed),
    ),
    (
        "pegasus_replica_prepares_inflight",
        Standing,
        "Prepared mutations that are not committed.",
        |it| it.stats.gauge(PartitionGauge::PreparesInflight),
    ),
    (
        "pegasus_replica_file_bytes",
        Standing,
        "Bytes of its table files.",
        |it| it.size.file_bytes,
    ),
    (
        "pegasus_replica_rows_estimated",
        Standing,
        "Its rows, about.",
        |it| it.size.rows,
    ),
];

fn replicas(out: &mut Exposition, facts: &NodeFacts, node: u32) {
    for (name, kind, help, value) in &REPLICAS {
        let mut samples = out.family(family(name, *kind, help));
        for replica in &facts.replicas {
            let (table, core, partition) =
                (&replica.table, &replica.core, &replica.stats.partition);
            let labels: [Label<'_>; 4] = [
                ("node", &node),
                ("core", core),
                ("table", table),
                ("partition", partition),
            ];
            samples.sample(&labels, value(replica));
        }
    }
}

fn core_labels(id: &Identity) -> [Label<'_>; 2] {
    [("node", &id.node), ("core", &id.core)]
}

fn with<'a>(labels: &[Label<'a>], more: &[Label<'a>]) -> Vec<Label<'a>> {
    [labels, more].concat()
}

/// Exact up to 2^53: bytes of petabytes, ticks of a million years.
#[allow(
    clippy::cast_precision_loss,
    reason = "readers have floating-point numbers"
)]
fn float(number: u64) -> f64 {
    number as f64
}

fn seconds_of_us(micros: u64) -> f64 {
    float(micros) / 1e6
}

#[cfg(test)]
mod tests;

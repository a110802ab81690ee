//! How it was measured: settings, machine and floor, as lists of facts.

use super::markup::{count, date, facts, time, wrap};
use crate::floor::Floor;
use crate::outcome::{BenchUse, Setup};
use crate::report::{Machine, list};

type Fact = (String, String);

fn fact(name: &str, value: impl Into<String>) -> Fact {
    (name.to_owned(), value.into())
}

/// Settings beside machine.
pub(super) fn html(setup: &Setup, machine: &Machine, bench: Option<&BenchUse>) -> String {
    let mut machine = machine_facts(machine);
    machine.extend(bench.iter().flat_map(|bench| bench_facts(bench)));
    wrap(
        "div",
        "pair",
        format!(
            "{}{}",
            facts("Settings", &setting_facts(setup)),
            facts("Machine and bench", &machine)
        ),
    )
}

fn setting_facts(setup: &Setup) -> Vec<Fact> {
    let target = &setup.target;
    let optional = |value: Option<u32>| value.map(|value| value.to_string());
    let mut rows = vec![
        fact("target", target.url.clone()),
        fact("server", target.server.clone()),
        fact(
            "partitions",
            optional(target.partitions).unwrap_or_default(),
        ),
        fact("replicas", optional(target.replicas).unwrap_or_default()),
        fact("durability", target.durability.clone().unwrap_or_default()),
        fact("workload", setup.what()),
        fact("data", setup.records_sentence()),
        fact("load", setup.loop_sentence()),
        fact("warm-up", format!("{:.1} s", setup.warm_up_seconds)),
        fact("seed", setup.seed.to_string()),
        fact("started", date(setup.started_unix_ms)),
    ];
    rows.extend(
        target
            .notes
            .iter()
            .map(|(name, note)| fact(name, note.clone())),
    );
    rows.retain(|(_, value)| !value.is_empty());
    rows
}

fn machine_facts(machine: &Machine) -> Vec<Fact> {
    let guest = if machine.guest { " (guest)" } else { "" };
    let mut rows = vec![
        fact("host", machine.host.clone()),
        fact("CPU", format!("{}{guest}", machine.cpu_model)),
        fact("CPUs", machine.cpus.to_string()),
        fact(
            "memory",
            format!(
                "{:.1} GiB",
                machine.memory_bytes as f64 / f64::from(1 << 30)
            ),
        ),
        fact("kernel", machine.kernel.clone()),
        fact("governor", machine.governor.clone()),
        fact("clock source", machine.clocksource.clone()),
        fact("load before", format!("{:.1}", machine.load_before)),
    ];
    rows.retain(|(_, value)| !value.is_empty());
    rows
}

fn bench_facts(bench: &BenchUse) -> Vec<Fact> {
    let thread = |(index, thread): (usize, &crate::outcome::ThreadUse)| {
        let cpu = thread
            .cpu
            .map_or("any CPU".to_owned(), |cpu| format!("CPU {cpu}"));
        fact(
            &format!("bench thread {index}"),
            format!(
                "{cpu}: ran {:.0} %, waited for the CPU {:.0} %",
                thread.busy_percent, thread.waiting_percent
            ),
        )
    };
    let mut rows = vec![fact(
        "bench's own cost",
        format!("{:.1} µs of CPU an operation", bench.cpu_us_per_operation),
    )];
    rows.extend(bench.threads.iter().enumerate().map(thread));
    let calibration = bench.calibration.as_ref();
    rows.extend(calibration.map(|it| fact("what the bench can drive", it.sentence())));
    rows
}

/// The floor and what it is worth.
pub(super) fn floor_facts(floor: &Floor) -> String {
    let limit = |latency: &crate::histogram::Percentiles| {
        format!(
            "p50 {}, p99 {}, p99.9 {} of {}",
            time(latency.p50_us),
            time(latency.p99_us),
            time(latency.p999_us),
            count(latency.count)
        )
    };
    let mut rows = vec![
        fact(
            &format!("echo of {} bytes", floor.echo_frame_bytes),
            limit(&floor.echo),
        ),
        fact(
            &format!("flush of {} bytes", floor.flush_bytes),
            limit(&floor.flush),
        ),
        fact("where", floor.ends_sentence()),
        fact("verdict", floor.verdict.sentence()),
    ];
    if floor
        .echo_client_cpu
        .is_some_and(|cpu| cpu == floor.echo_server_cpu)
    {
        rows.push(fact(
            "CPUs",
            format!(
                "server and client of the echo shared CPU {}",
                list(&[floor.echo_server_cpu])
            ),
        ));
    }
    facts("Floor: what this machine can do at best", &rows)
}

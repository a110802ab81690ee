//! CPUs: those of the configuration, their clocks, and who else uses them.

use crate::tune::row::{Row, Verdict};
use crate::tune::settings::NodeSettings;
use pegasus_host::cpus::{self, Cpus, spell};
use pegasus_host::units::Cores;
use pegasus_host::{Root, numa};
use std::collections::BTreeMap;

pub(super) fn rows(root: &Root, settings: &NodeSettings) -> Vec<Row> {
    vec![
        cores(root, settings),
        background(root, settings),
        siblings(root, settings),
        isolated(root, settings),
        governor(root),
        quota(root),
        clocksource(root),
    ]
}

fn cores(root: &Root, settings: &NodeSettings) -> Row {
    const NAME: &str = "cpu.cores";
    let now = settings.cores.to_string();
    let warn = |wanted: &str, why: String| {
        Row::new(NAME, now.clone(), wanted, why).unless(false, Verdict::Warn)
    };
    let data = match &settings.cores {
        Cores::List(_) => settings.data_cpus(),
        Cores::Count(count) => {
            let Ok(allowed) = cpus::allowed(root) else {
                return not_known(NAME, "CPUs that this process may use");
            };
            if *count > allowed.len() {
                let why = format!(
                    "{} CPUs are there for this process: more cores than CPUs share them, unpinned",
                    allowed.len()
                );
                return warn("at most the CPUs", why);
            }
            let why = "a count: the node takes free CPUs of one NUMA node. Naming them (cpu.cores = \"2-5\") keeps other work off and has interrupts checked here";
            return Row::new(NAME, now, "CPUs by name", why)
                .unless(settings.is_given, Verdict::Unknown);
        }
    };
    let (online, allowed) = match (cpus::online(root), cpus::allowed(root)) {
        (Ok(online), Ok(allowed)) => (online, allowed),
        (Err(error), _) | (_, Err(error)) => {
            return Row::unknown(NAME, "CPUs that are there", &error);
        }
    };
    let missing: Cpus = data.difference(&online).copied().collect();
    if !missing.is_empty() {
        return warn(
            "CPUs that are there",
            format!(
                "CPUs {} do not exist; the machine has {}",
                spell(&missing),
                spell(&online)
            ),
        );
    }
    let forbidden: Cpus = data.difference(&allowed).copied().collect();
    if !forbidden.is_empty() {
        let why = format!(
            "this process may not use CPUs {} (cpuset or CPU mask); the node, started the same way, would not start",
            spell(&forbidden)
        );
        return warn("CPUs it may use", why);
    }
    let list: Vec<u32> = data.iter().copied().collect();
    let nodes = numa::nodes(root).unwrap_or_default();
    let of: Vec<String> = numa::nodes_of(&nodes, &list)
        .iter()
        .map(|node| node.number.to_string())
        .collect();
    if of.len() > 1 {
        let why = format!(
            "they are on NUMA nodes {}: memory and helpers are shared over the link between them. Run a process for each",
            of.join(" and ")
        );
        return warn("of one NUMA node", why);
    }
    let why = match of.first().filter(|_| nodes.len() > 1) {
        Some(node) => format!("all on NUMA node {node}, memory is taken from there"),
        None => "all are there, and this process may use them".to_owned(),
    };
    Row::new(NAME, now, "of one NUMA node", why)
}

fn not_known(name: &'static str, wanted: &str) -> Row {
    Row {
        verdict: Verdict::Unknown,
        ..Row::new(
            name,
            "-",
            wanted,
            "the kernel does not tell which CPUs this process may use",
        )
    }
}

fn background(root: &Root, settings: &NodeSettings) -> Row {
    const NAME: &str = "cpu.background";
    let data = settings.data_cpus();
    let now = if settings.background.is_empty() {
        "anywhere".to_owned()
    } else {
        spell(&settings.background)
    };
    let both: Cpus = settings.background.intersection(&data).copied().collect();
    if !both.is_empty() {
        return Row::new(
            NAME,
            now,
            "other CPUs than cpu.cores",
            format!(
                "CPU {} is a data core too: the node does not start",
                spell(&both)
            ),
        )
        .unless(false, Verdict::Warn);
    }
    let why =
        "flushes, compactions and copies interrupt data cores unless they have CPUs of their own";
    let has_others =
        cpus::online(root).is_ok_and(|online| online.difference(&data).next().is_some());
    if settings.background.is_empty() && !data.is_empty() && !has_others {
        let why = "every CPU is a data core, so that background work runs on them at a low priority: expect a higher p99.9 while it does";
        return Row::new(NAME, now, "a CPU of its own", why).unless(false, Verdict::Advice);
    }
    let missing: Cpus = cpus::online(root).map_or_else(
        |_| Cpus::new(),
        |online| settings.background.difference(&online).copied().collect(),
    );
    if !missing.is_empty() {
        return Row::new(
            NAME,
            now,
            "CPUs that are there",
            format!(
                "CPUs {} do not exist: the node does not start",
                spell(&missing)
            ),
        )
        .unless(false, Verdict::Warn);
    }
    Row::new(NAME, now, "CPUs of its own", why).unless(
        !settings.background.is_empty(),
        if data.is_empty() {
            Verdict::Unknown
        } else {
            Verdict::Advice
        },
    )
}

fn siblings(root: &Root, settings: &NodeSettings) -> Row {
    let data = settings.data_cpus();
    let shared: Cpus = data
        .iter()
        .filter(|cpu| cpus::siblings(root, **cpu).intersection(&data).count() > 1)
        .copied()
        .collect();
    let why = "two threads of one execution core slow each other down by a third and more, at moments nobody chooses";
    let now = if shared.is_empty() {
        "none shared".to_owned()
    } else {
        format!("{} share", spell(&shared))
    };
    let known = if data.is_empty() {
        Verdict::Unknown
    } else {
        Verdict::Advice
    };
    let now = if data.is_empty() { "-".to_owned() } else { now };
    Row::new("cpu.siblings", now, "one data core per execution core", why)
        .unless(!data.is_empty() && shared.is_empty(), known)
}

fn isolated(root: &Root, settings: &NodeSettings) -> Row {
    const NAME: &str = "cpu.isolated";
    let why = "a CPU that polls all the time should be nobody else's: isolcpus=, nohz_full= and rcu_nocbs= on the kernel's command line";
    let isolated = match cpus::read(root, "/sys/devices/system/cpu/isolated") {
        Ok(isolated) => isolated,
        Err(error) => return Row::unknown(NAME, "the data cores", &error),
    };
    let now = if isolated.is_empty() {
        "none".to_owned()
    } else {
        spell(&isolated)
    };
    if !settings.is_busy {
        return Row::new(NAME, now, "any", "matters with poll = busy only");
    }
    Row::new(NAME, now, "the data cores", why)
        .unless(settings.data_cpus().is_subset(&isolated), Verdict::Advice)
}

fn governor(root: &Root) -> Row {
    const NAME: &str = "cpu.governor";
    let why = "a CPU that lowers its clock when idle needs some hundred microseconds to come back";
    let path = |cpu: u32| format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
    let online = cpus::online(root).unwrap_or_default();
    let governors: BTreeMap<u32, String> = online
        .iter()
        .filter_map(|cpu| Some((*cpu, root.text(path(*cpu)).ok()?)))
        .collect();
    if governors.is_empty() {
        return Row {
            verdict: Verdict::Unknown,
            ..Row::new(
                NAME,
                "-",
                "performance",
                "no frequency control is shown: in a guest the host decides",
            )
        };
    }
    let mut names: Vec<&str> = governors.values().map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    let slow: Vec<u32> = governors
        .iter()
        .filter(|(_, name)| *name != "performance")
        .map(|(cpu, _)| *cpu)
        .collect();
    let row = Row::new(NAME, names.join(", "), "performance", why)
        .unless(slow.is_empty(), Verdict::Advice);
    slow.into_iter()
        .fold(row, |row, cpu| row.fixed_by(path(cpu), "performance"))
}

/// The control group of this process (`/proc/self/cgroup`), version 2.
fn quota(root: &Root) -> Row {
    const NAME: &str = "cpu.quota";
    let why = "a group that has used up its share stands still until the next tenth of a second: leases end, every client waits";
    let group = root.text("/proc/self/cgroup").unwrap_or_default();
    let group = group
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .unwrap_or("/")
        .trim_start_matches('/')
        .to_owned();
    let mut dirs = std::path::Path::new(&group)
        .ancestors()
        .map(|path| format!("/sys/fs/cgroup/{}", path.display()));
    let limits = dirs.find_map(|dir| {
        root.text(format!("{}/cpu.max", dir.trim_end_matches('/')))
            .ok()
            .filter(|text| !text.starts_with("max"))
    });
    match limits {
        Some(text) => Row::new(
            NAME,
            text,
            "none",
            format!(
                "{why}. Give whole CPUs instead (cpuset, in Kubernetes the static CPU manager)"
            ),
        )
        .unless(false, Verdict::Warn),
        None => Row::new(NAME, "none", "none", why),
    }
}

fn clocksource(root: &Root) -> Row {
    const NAME: &str = "clock.source";
    const DIR: &str = "/sys/devices/system/clocksource/clocksource0";
    let wanted = "tsc or kvm-clock";
    let why = "the clock is read several times for each request; others than these cost a system call or a trip to the chipset";
    let path = format!("{DIR}/current_clocksource");
    match root.text(&path) {
        Ok(now) => {
            let is_fast = [
                "tsc",
                "kvm-clock",
                "arch_sys_counter",
                "hyperv_clocksource_tsc_page",
            ]
            .contains(&now.as_str());
            let row = Row::new(NAME, now, wanted, why).unless(is_fast, Verdict::Warn);
            let available = root
                .text(format!("{DIR}/available_clocksource"))
                .unwrap_or_default();
            match available
                .split_ascii_whitespace()
                .find(|name| ["tsc", "kvm-clock"].contains(name))
            {
                Some(better) => row.fixed_by(path, better),
                None => row,
            }
        }
        Err(error) => Row::unknown(NAME, wanted, &error),
    }
}

//! Network devices: which CPUs their interrupts take, and how many connections may wait to be accepted.

use super::at_least;
use crate::tune::row::{Row, Verdict};
use crate::tune::settings::NodeSettings;
use pegasus_host::cpus::{self, Cpus, spell};
use pegasus_host::{Root, interrupts};

/// As many as a node lets wait on a port.
const BACKLOG: u64 = 1024;

pub(super) fn rows(root: &Root, settings: &NodeSettings) -> Vec<Row> {
    let mut rows = irqs(root, settings);
    rows.extend(irqbalance(root));
    rows.push(at_least(
        root,
        "net.somaxconn",
        "/proc/sys/net/core/somaxconn",
        BACKLOG,
        "clients that all connect at once, as after a failover, wait in this queue; beyond it they try again after a second",
    ));
    rows
}

fn irqs(root: &Root, settings: &NodeSettings) -> Vec<Row> {
    const NAME: &str = "net.irqs";
    let data = settings.data_cpus();
    let devices = interrupts::network_devices(root);
    if devices.is_empty() {
        let why = "no network device with hardware of its own is shown, as in containers";
        return vec![Row {
            verdict: Verdict::Unknown,
            ..Row::new(NAME, "-", "off the data cores", why)
        }];
    }
    let of_device = |(name, hardware): (String, std::path::PathBuf)| {
        let all = interrupts::of(root, &hardware);
        let used: Cpus = all
            .iter()
            .flat_map(|interrupt| interrupt.cpus.iter().copied())
            .collect();
        let now = if all.is_empty() {
            "-".to_owned()
        } else {
            format!("CPUs {}", spell(&used))
        };
        if data.is_empty() || all.is_empty() {
            let why = match all.is_empty() {
                true => "its interrupts are not shown",
                false => {
                    "whether these are data cores is not known: name them (cpu.cores = \"2-5\" in --config)"
                }
            };
            let row = Row::new(NAME, now, "off the data cores", why).of(name);
            return row.unless(false, Verdict::Unknown);
        }
        one(root, settings, &data, &all, now).of(name)
    };
    devices.into_iter().map(of_device).collect()
}

fn one(
    root: &Root,
    settings: &NodeSettings,
    data: &Cpus,
    all: &[interrupts::Interrupt],
    now: String,
) -> Row {
    const NAME: &str = "net.irqs";
    let online = cpus::online(root).unwrap_or_default();
    let others: Cpus = match settings.background.is_empty() {
        true => online.difference(data).copied().collect(),
        false => settings.background.clone(),
    };
    let why = "the kernel's work for each packet takes time from the data core it is done on";
    if others.is_empty() {
        return Row::new(
            NAME,
            now,
            "off the data cores",
            "every CPU is a data core: there is nowhere else to send them",
        );
    }
    let bad = all
        .iter()
        .filter(|interrupt| !interrupt.cpus.is_disjoint(data));
    let list = spell(&others);
    let row = Row::new(NAME, now, format!("CPUs {list}"), why);
    bad.fold(row, |row, interrupt| {
        row.unless(false, Verdict::Advice)
            .fixed_by(interrupt.affinity_path(), &list)
    })
}

/// A daemon that moves interrupts back.
fn irqbalance(root: &Root) -> Option<Row> {
    let processes = root.names("/proc").into_iter();
    let mut numbers = processes.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    numbers.any(|process| root.text(format!("/proc/{process}/comm")).is_ok_and(|name| name == "irqbalance")).then(|| {
        Row::new("net.irqbalance", "running", "kept off the data cores", "it spreads interrupts over all CPUs again: name the data cores in IRQBALANCE_BANNED_CPULIST, or stop it").unless(false, Verdict::Advice)
    })
}

//! Memory: huge pages, swap, NUMA balancing, mappings.

use super::at_least;
use crate::tune::row::{Choice, Row, Verdict};
use crate::tune::settings::NodeSettings;
use pegasus_host::{Root, numa};

/// The kernel's own default; an allocator with a mapping for each extent needs no more for hundreds of GiB.
const MAPS_MIN: u64 = 65_530;

pub(super) fn rows(root: &Root, _: &NodeSettings) -> Vec<Row> {
    vec![
        huge_pages(root),
        swap(root),
        numa_balancing(root),
        at_least(
            root,
            "memory.max_map_count",
            "/proc/sys/vm/max_map_count",
            MAPS_MIN,
            "the allocator and table files take mappings; without one left an allocation fails",
        ),
    ]
}

fn huge_pages(root: &Root) -> Row {
    const NAME: &str = "memory.thp";
    const PATH: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
    let wanted = "madvise or never";
    let why = "with `always` the kernel makes huge pages of any memory: it stops threads for it, and memory that was given back stays";
    match Choice::read(root, PATH) {
        Ok(choice) => {
            let is_right = ["madvise", "never"].contains(&choice.now.as_str());
            let row =
                Row::new(NAME, choice.now.clone(), wanted, why).unless(is_right, Verdict::Advice);
            if choice.has("madvise") {
                row.fixed_by(PATH, "madvise")
            } else {
                row
            }
        }
        Err(error) => Row::unknown(NAME, wanted, &error),
    }
}

fn swap(root: &Root) -> Row {
    const NAME: &str = "memory.swap";
    const PATH: &str = "/proc/sys/vm/swappiness";
    let wanted = "no swap, or vm.swappiness at most 1";
    let why =
        "a page of a data core that is on the drive stops all of its clients when it is needed";
    let swaps = match root.text("/proc/swaps") {
        Ok(text) => text
            .lines()
            .skip(1)
            .filter(|line| !line.trim().is_empty())
            .count(),
        Err(error) => return Row::unknown(NAME, wanted, &error),
    };
    if swaps == 0 {
        return Row::new(NAME, "no swap", wanted, why);
    }
    match root.number(PATH) {
        Ok(now) => Row::new(NAME, format!("swap on, swappiness {now}"), wanted, why)
            .unless(now <= 1, Verdict::Warn)
            .fixed_by(PATH, "1"),
        Err(error) => Row::unknown(NAME, wanted, &error),
    }
}

fn numa_balancing(root: &Root) -> Row {
    const NAME: &str = "memory.numa_balancing";
    const PATH: &str = "/proc/sys/kernel/numa_balancing";
    let why = "it takes pages away from time to time to see who uses them, and each costs a fault; cores and their memory are placed already";
    match (numa::nodes(root), root.number(PATH)) {
        (Ok(nodes), now) if nodes.len() < 2 => {
            let now = now.map_or_else(|_| "-".to_owned(), |now| now.to_string());
            Row::new(NAME, now, "any", "this machine has one NUMA node")
        }
        (_, Ok(now)) => Row::new(NAME, now.to_string(), "0", why)
            .unless(now == 0, Verdict::Advice)
            .fixed_by(PATH, "0"),
        (_, Err(error)) => Row::unknown(NAME, "0", &error),
    }
}
